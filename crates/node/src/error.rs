//! Errors, by whose fault they are.

use std::path::PathBuf;

use convoke_client::ChainError;
use convoke_protocol::ids::{Address, Amount, Role, TaskId};
use convoke_protocol::task::TaskFileError;
use convoke_transport::TransportError;

/// What ends a node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The connection failed in a way that trying again cannot mend.
    #[error("cannot talk to the aggregator: {0}")]
    Transport(#[from] TransportError),
    /// The aggregator refused this node.
    #[error("the aggregator refused this node: {0}")]
    Rejected(String),
    /// The chain refused, or could not be reached.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The task on chain is not one that this version understands.
    #[error("the file of task {task} is not usable: {source}")]
    TaskFile {
        /// The task.
        task: TaskId,
        /// What is wrong with it.
        source: TaskFileError,
    },
    /// Nothing is staked, or too little.
    #[error(
        "{address} has staked {got} as {role} of task {task}, {needed} base units are needed: \
         run `convoke stake deposit --task {task} --role {role}` first"
    )]
    Stake {
        /// The task.
        task: TaskId,
        /// Who.
        address: Address,
        /// The role wanted.
        role: Role,
        /// Staked now.
        got: Amount,
        /// Least stake.
        needed: Amount,
    },
    /// The state folder cannot be used.
    #[error("{path}: {reason}")]
    State {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

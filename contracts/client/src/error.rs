//! What can go wrong with a chain, and whose fault it is.

use std::path::PathBuf;
use std::time::Duration;

use alloy::transports::{RpcError, TransportErrorKind};
use convoke_protocol::ids::{Address, Amount, RoundId, TaskId};

use crate::revert;

/// Why a call or a transaction did not go through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The endpoint did not answer, or not in time. Nothing is known about the chain.
    #[error("chain at {rpc} unreachable: {reason}")]
    Unreachable {
        /// The endpoint.
        rpc: String,
        /// What the transport said.
        reason: String,
    },
    /// The endpoint answered with an error of its own.
    #[error("chain refused {what}: {reason}")]
    Refused {
        /// The call, by its method.
        what: String,
        /// The message, as sent.
        reason: String,
    },
    /// The contract refused.
    #[error("contract refused {call}: {words}")]
    Reverted {
        /// The function called.
        call: &'static str,
        /// The custom error's name, for matching: `AlreadyClaimed`. Empty if there was none.
        name: String,
        /// The error in words, with its values.
        words: String,
    },
    /// The transaction was sent, but no receipt came in time. It may yet be mined.
    #[error("no receipt for {call} (transaction {transaction}) within {waited:?}")]
    ReceiptTimeout {
        /// The function called.
        call: &'static str,
        /// Hash of the transaction.
        transaction: String,
        /// How long was waited.
        waited: Duration,
    },
    /// The transaction would need more gas than any block should give it.
    #[error("{call} needs {needed} gas, the ceiling is {ceiling}")]
    GasAboveCeiling {
        /// The function called.
        call: &'static str,
        /// The estimate with its margin.
        needed: u64,
        /// The most that is ever offered.
        ceiling: u64,
    },
    /// The endpoint serves another chain than the address book names.
    #[error("{rpc} serves chain {got}, the address book is for chain {expected}")]
    WrongChain {
        /// The endpoint.
        rpc: String,
        /// The book's chain id.
        expected: u64,
        /// The endpoint's chain id.
        got: u64,
    },
    /// There is no contract where the address book says.
    #[error("no {contract} at {address} on chain {chain_id}")]
    NotDeployed {
        /// The contract's name.
        contract: &'static str,
        /// Where it should be.
        address: Address,
        /// The chain asked.
        chain_id: u64,
    },
    /// Two contracts of the address book belong to different deployments.
    #[error("the {contract} works with the {other} {got}, the address book names {expected}")]
    NotLinked {
        /// The contract asked.
        contract: &'static str,
        /// The contract that it names.
        other: &'static str,
        /// As the book has it.
        expected: Address,
        /// As the contract has it.
        got: Address,
    },
    /// The endpoint is no URL.
    #[error("{rpc:?} is no endpoint: {reason}")]
    Endpoint {
        /// What was given.
        rpc: String,
        /// Why it is none.
        reason: String,
    },
    /// The address book cannot be read or written.
    #[error("address book {}: {reason}", path.display())]
    Book {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A transaction needs a wallet, and this connection has none.
    #[error("{call} needs a wallet, this connection only reads")]
    NoWallet {
        /// The function called.
        call: &'static str,
    },
    /// The wallet holds fewer tokens than it was to pay.
    #[error("{account} holds {balance} base units, {needed} are needed")]
    NotEnoughTokens {
        /// Whose balance.
        account: Address,
        /// What there is.
        balance: Amount,
        /// What would have been paid.
        needed: Amount,
    },
    /// An amount that no realistic token has.
    #[error("{value} base units are more than 2^128 - 1")]
    AmountTooLarge {
        /// The amount.
        value: String,
    },
    /// Observers have no stake.
    #[error("observers stake nothing")]
    NoStakeForObservers,
    /// There is no such task.
    #[error("there is no task {task}")]
    UnknownTask {
        /// The task asked for.
        task: TaskId,
    },
    /// The chain has something else for the round than what was to be written, and does not
    /// change it.
    #[error("round {round} of task {task} has another {what} on chain")]
    Conflict {
        /// What differs: `result`, `opening`.
        what: &'static str,
        /// The task.
        task: TaskId,
        /// The round.
        round: RoundId,
    },
    /// The seed could not be drawn because no block came.
    #[error("the seed of round {round} of task {task} awaits block {block}, the newest is {head}")]
    NoBlock {
        /// The task.
        task: TaskId,
        /// The round.
        round: RoundId,
        /// The block that gives the seed.
        block: u64,
        /// The newest block.
        head: u64,
    },
    /// The address book names no timelock.
    #[error("the address book names no timelock, which decides on this")]
    NoTimelock,
    /// The address book names no contract that takes evidence of false sketches.
    #[error("the address book names no audit of sketches")]
    NoAudit,
    /// The end of a call within [`crate::Chain::preview`]: what it would send is noted.
    #[error("previewed, not sent")]
    Previewed,
    /// What the chain or its endpoint said contradicts itself.
    #[error("unexpected answer of the chain: {0}")]
    Unexpected(String),
}

impl ChainError {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::ReceiptTimeout { .. } | Self::NoBlock { .. } => true,
            // Windows that open or close by themselves.
            Self::Reverted { name, .. } => matches!(
                name.as_str(),
                "DisputeWindowOpen"
                    | "NotActiveYet"
                    | "PreviousRoundDisputable"
                    | "ResultDisputable"
                    | "SeedTooEarly"
                    | "StillUnbonding"
            ),
            _ => false,
        }
    }

    /// The name of the contract's custom error, if the contract refused with one.
    #[must_use]
    pub fn revert_name(&self) -> Option<&str> {
        match self {
            Self::Reverted { name, .. } if !name.is_empty() => Some(name),
            _ => None,
        }
    }

    /// Of an RPC error; `call` is the contract function, if the request was for one.
    pub(crate) fn of_rpc(
        rpc: &str,
        what: &'static str,
        error: &RpcError<TransportErrorKind>,
    ) -> Self {
        match error {
            RpcError::ErrorResp(payload) => match payload.as_revert_data() {
                Some(data) => Self::of_revert(what, &data),
                None => Self::Refused {
                    what: what.to_owned(),
                    reason: payload.message.to_string(),
                },
            },
            RpcError::Transport(kind) => Self::Unreachable {
                rpc: rpc.to_owned(),
                reason: with_sources(kind),
            },
            RpcError::NullResp => Self::Unexpected(format!("no answer to {what}")),
            RpcError::DeserError { err, .. } => {
                Self::Unexpected(format!("answer to {what} does not parse: {err}"))
            }
            other => Self::Unexpected(format!("{what}: {other}")),
        }
    }

    pub(crate) fn of_revert(call: &'static str, data: &[u8]) -> Self {
        let revert::Described { name, words } = revert::describe(data);
        Self::Reverted { call, name, words }
    }
}

/// The causes of an error, outermost first: transports hide "connection refused" deep down.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

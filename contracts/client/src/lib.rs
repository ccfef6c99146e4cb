//! Typed calls of the Convoke contracts. The only crate that talks to a chain.
//!
//! ```text
//! AddressBook ── where the contracts are
//! Chain ──────── one connection, with or without a wallet: reads, writes, payouts
//! ChainError ─── what went wrong, in words, and whether trying again can help
//! ```
//!
//! Nothing of alloy shows in the public interface: callers speak [`convoke_protocol`] types.

mod abi;
mod book;
mod connection;
mod deploy;
mod error;
mod payouts;
mod revert;
mod sending;
mod stakes;
mod tasks;
mod token;
mod types;

pub use book::AddressBook;
pub use connection::Chain;
pub use deploy::DeployOptions;
pub use error::ChainError;
pub use types::{
    Balances, BlockHead, Claim, NewTask, ResultSubmission, RoundResult, StakeMinimums, StakeRecord,
    TaskRecord, TaskState,
};

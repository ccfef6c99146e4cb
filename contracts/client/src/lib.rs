//! Typed calls of the Convoke contracts. The only crate that talks to a chain.
//!
//! ```text
//! AddressBook ── where the contracts are
//! Chain ──────── one connection, with or without a wallet: reads, writes, payouts
//! EventStream ── what happens on the contracts, across disconnects and reorganizations
//! Preview ────── what a call would send, and its cost
//! ChainError ─── what went wrong, in words, and whether trying again can help
//! ```
//!
//! Nothing of alloy shows in the public interface: callers speak [`convoke_protocol`] types.

mod abi;
mod administration;
mod audit;
mod audit_types;
mod book;
mod connection;
mod deploy;
mod error;
mod events;
mod logs;
mod patience;
mod payouts;
mod penalties;
mod preview;
mod revert;
mod round_types;
mod rounds;
mod scores;
mod seed;
mod sending;
mod spec;
mod stakes;
mod submissions;
mod tasks;
mod token;
mod types;
mod verifiers;

pub use administration::{Administrators, VerifierProposal};
pub use audit_types::{
    AuditDemand, AuditEntry, AuditLeaf, AuditPart, Opened, SketchFault, SketchOpening,
};
pub use book::AddressBook;
pub use connection::Chain;
pub use deploy::{DeployOptions, DeployToken};
pub use error::ChainError;
pub use events::{ChainEvent, Contract, Cursor, Event, EventStream, LoggedEvent};
pub use patience::patiently;
pub use preview::Preview;
pub use round_types::{ResultSubmission, RoundResult, RoundState, Stage};
pub use sending::{GAS_CEILING, SendOptions};
pub use submissions::Statement;
pub use types::{
    Balances, BlockHead, Claim, DelegationRecord, NextCommission, ParseSharesError, PoolRecord,
    RoundKey, Shares, StakeMinimums, StakeRecord, TaskRecord, TaskState, TaskTerms,
};
pub use verifiers::{KEY_WORDS, ProofCheck, ProofCircuit, ProofCircuits, VerifierKey};

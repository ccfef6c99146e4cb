//! Groth16 proofs over BN254 that a round's filter, scores and payouts were computed as agreed.
//!
//! | module | holds |
//! |---|---|
//! | [`plain`] | the rule, the scores and the split in integers; the aggregator runs the same code |
//! | [`settle`] | a round from end to end: judge, prove, verify |
//! | [`statement`] | what a proof is about, as the contracts state it |
//! | [`submission`] | the bytes that a round is settled with |
//! | [`public_data`] | the circuit's public values, byte by byte, and the three public inputs |
//! | `witness` | all values that the circuit is given |
//! | `circuit` | the constraints, and why each is sound |
//! | [`keys`] | circuits, their hashes, set-up for development, files |
//! | [`ceremony`] | keys from many hands |
//! | [`proof`] | proofs and their encoding for the chain |
//! | [`verifying`] | verifying keys |
//! | [`measure`] | what a size costs on this machine |
//! | [`progress`] | following long work |
//!
//! `docs/proofs.md` says what is proven and what is not, and what it costs. Nothing here touches
//! the network; only [`keys`] and [`ceremony`] read and write files, and only [`measure`] reads a
//! clock. The circuit's constraints are the same for every round.

mod builder;
pub mod ceremony;
mod circuit;
pub mod error;
pub mod keys;
pub mod measure;
pub mod plain;
mod points;
mod poseidon;
pub mod progress;
pub mod proof;
pub mod public_data;
mod rng;
pub mod settle;
pub mod size;
pub mod statement;
pub mod submission;
pub mod verifying;
mod witness;

#[cfg(test)]
mod tests;

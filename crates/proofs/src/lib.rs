//! Groth16 proofs over BN254 that a round's filter, scores and payouts were computed as agreed.
//!
//! | module | holds |
//! |---|---|
//! | [`plain`] | the rule, the scores and the split in integers; the aggregator runs the same code |
//! | [`witness`] | a round as the prover knows it, and all values that the circuit is given |
//! | [`statement`] | the public data, its layout byte by byte, and the three public inputs |
//! | `circuit` | the constraints, and why each is sound |
//! | [`keys`] | circuits, their hashes, set-up for development, files |
//! | [`proof`] | proving, verifying, the encoding for the chain |
//! | [`solidity`] | the verifier contract of a key |
//!
//! `docs/proofs.md` says what is proven and what is not, and what it costs. Nothing here reads a
//! clock or the network, and the circuit's constraints are the same for every round: only
//! [`keys::Keys::save`] and [`keys::Keys::load`] do input and output.

mod builder;
mod circuit;
pub mod error;
pub mod keys;
pub mod plain;
mod poseidon;
pub mod proof;
mod rng;
pub mod size;
pub mod solidity;
pub mod statement;
pub mod witness;

#[cfg(test)]
mod tests;

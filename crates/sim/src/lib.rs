//! Scripted adversaries for demonstrations and tests.
//!
//! Each is a file of its own, deterministic from a seed, and sees what a real adversary sees:
//! the delta that honest training would send. What misbehaves on the wire instead (garbage,
//! wrong signatures, floods) lives with the whole-system tests.

pub mod adversaries;

pub use self::adversaries::{Adversary, Persona, PersonaError};

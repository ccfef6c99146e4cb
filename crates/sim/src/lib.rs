//! Scripted adversaries, and whole tasks under a virtual clock.
//!
//! Each adversary is a file of its own, deterministic from a seed, and sees what a real adversary
//! sees: the delta that honest training would send. What misbehaves on the wire instead (garbage,
//! wrong signatures, floods) lives with the whole-system tests.
//!
//! [`Sim`] runs a task of the protocol's state machine with scripted nodes over lossy links, with
//! a small model that really learns, in milliseconds and without a socket.

pub mod adversaries;
pub mod simulation;

pub use self::adversaries::{Adversary, Persona, PersonaError};
pub use self::simulation::{Outcome, Sim};

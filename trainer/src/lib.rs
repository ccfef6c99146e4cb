//! A trainer: trains on private data, and sends one signed update a round.
//!
//! [`service`] holds the conversation with the aggregator, [`training`] makes a delta of a
//! checkpoint, packing encodes it as the task wants, and [`record`] remembers what was signed, so
//! that a restarted trainer neither trains nor signs twice for one round. The data never leaves
//! this crate's process.

mod error;
mod event;
mod fate;
mod feedback;
mod packing;
mod variate;
mod work;

pub mod record;
pub mod service;
pub mod sketching;
pub mod training;

pub use self::error::TrainerError;

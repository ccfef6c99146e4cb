//! A validator: scores candidate updates on its own held-out data, commits to the scores by
//! hash, to the aggregator and on chain, and reveals them once every validator has committed.
//!
//! [`service`] is the daemon, [`scoring`] the measurement. "The submission failed" and "my
//! machine failed" are different answers: the first counts against the trainer, the second
//! against nobody.

mod duty;
mod error;
mod event;
mod record;
mod work;

pub mod scoring;
pub mod service;

pub use self::error::ValidatorError;

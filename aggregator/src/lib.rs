//! Rounds, outlier filter, aggregation rules, server optimizers and contribution scores of Convoke.

pub mod aggregate;
pub mod broadcast;
pub mod control;
pub mod error;
pub mod filter;
pub mod kernels;
pub mod rules;
pub mod server_optimizer;
pub mod service;
pub mod speed;
pub mod store;
#[cfg(test)]
mod testing;

pub use error::AggregatorError;

//! FedAdagrad of Reddi et al. 2021, see [`super::adaptive`].
//!
//! ```text
//! v ← v + Δ²
//! ```

use super::adaptive::SecondMoment;

/// The sum of all squares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Adagrad;

impl SecondMoment for Adagrad {
    fn next(&self, v: f64, squared: f64) -> f64 {
        v + squared
    }
}

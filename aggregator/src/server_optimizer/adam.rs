//! FedAdam of Reddi et al. 2021, see [`super::adaptive`].
//!
//! ```text
//! v ← β₂ v + (1 − β₂) Δ²
//! ```

use super::adaptive::SecondMoment;

/// A decayed mean of squares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Adam {
    /// Decay, 0 to below 1.
    pub(super) beta2: f64,
}

impl SecondMoment for Adam {
    fn next(&self, v: f64, squared: f64) -> f64 {
        self.beta2 * v + (1.0 - self.beta2) * squared
    }
}

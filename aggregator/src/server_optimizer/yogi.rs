//! FedYogi of Reddi et al. 2021, see [`super::adaptive`].
//!
//! ```text
//! v ← v − (1 − β₂) Δ² sign(v − Δ²)
//! ```
//!
//! Where Adam's v falls by a share of itself, Yogi's falls by no more than (1 − β₂) Δ²: a long calm
//! does not make the next step a leap.

use super::adaptive::SecondMoment;

/// Squares that v goes to, by no more than their own size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Yogi {
    /// 1 less the speed, 0 to below 1.
    pub(super) beta2: f64,
}

impl SecondMoment for Yogi {
    fn next(&self, v: f64, squared: f64) -> f64 {
        let speed = (1.0 - self.beta2) * squared;
        if v > squared {
            v - speed
        } else if v < squared {
            v + speed
        } else {
            v
        }
    }
}

//! Stochastic gradient descent with heavy-ball momentum: FedAvgM of Hsu, Qi and Brown, "Measuring the
//! Effects of Non-Identical Data Distribution for Federated Visual Classification", 2019
//! (arXiv:1909.06335).
//!
//! ```text
//! v ← momentum · v + Δ
//! x ← x + lr · v
//! ```
//!
//! With rate 1 and momentum 0 the step is the delta itself: FedAvg.

use super::Arithmetic;

/// A step along the decayed sum of all deltas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sgd {
    /// Server learning rate.
    pub(super) lr: f64,
    /// Share of the last step's direction that is kept, 0 to below 1.
    pub(super) momentum: f64,
}

impl Arithmetic<1> for Sgd {
    fn initial(&self) -> [f32; 1] {
        [0.0]
    }

    fn remembers(&self) -> bool {
        self.momentum != 0.0
    }

    fn first(&self, before: f32, delta: f32) -> f32 {
        (self.momentum * f64::from(before) + f64::from(delta)) as f32
    }

    fn delta(&self, before: f32, after: f32) -> f64 {
        f64::from(after) - self.momentum * f64::from(before)
    }

    fn gain(&self) -> f64 {
        1.0
    }

    fn moments(&self, _before: [f32; 1], first: f32) -> [f32; 1] {
        [first]
    }

    fn apply(&self, x: f32, _before: [f32; 1], [v]: [f32; 1]) -> f32 {
        (f64::from(x) + self.lr * f64::from(v)) as f32
    }
}

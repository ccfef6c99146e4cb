//! What the adaptive optimizers of Reddi, Charles, Zaheer, Garrett, Rush, Konečný, Kumar and McMahan,
//! "Adaptive Federated Optimization", 2021 (arXiv:2003.00295, algorithm 2) have in common.
//!
//! ```text
//! m ← β₁ m + (1 − β₁) Δ           from 0
//! v ← differs                     from τ²
//! x ← x + lr · m / (√v + τ)
//! ```
//!
//! There is no correction for the moments' beginnings. Δ in v is what m before and after say it was.

use super::Arithmetic;

/// First moment and step; the second moment is `S`'s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Adaptive<S> {
    /// Server learning rate.
    pub(super) lr: f64,
    /// Decay of the first moment, 0 to below 1.
    pub(super) beta1: f64,
    /// The degree of adaptivity: where √v is small against it, the step is m / τ.
    pub(super) tau: f64,
    /// What becomes of the second moment.
    pub(super) second: S,
}

/// What becomes of v.
pub(super) trait SecondMoment: Send + Sync {
    /// v after a step; `squared` is Δ².
    fn next(&self, v: f64, squared: f64) -> f64;
}

impl<S: SecondMoment> Arithmetic<2> for Adaptive<S> {
    fn initial(&self) -> [f32; 2] {
        [0.0, (self.tau * self.tau) as f32]
    }

    fn remembers(&self) -> bool {
        true
    }

    fn first(&self, before: f32, delta: f32) -> f32 {
        (self.beta1 * f64::from(before) + (1.0 - self.beta1) * f64::from(delta)) as f32
    }

    fn delta(&self, before: f32, after: f32) -> f64 {
        (f64::from(after) - self.beta1 * f64::from(before)) * self.gain()
    }

    fn gain(&self) -> f64 {
        (1.0 - self.beta1).recip()
    }

    fn moments(&self, [m, v]: [f32; 2], first: f32) -> [f32; 2] {
        let delta = self.delta(m, first);
        [first, self.second.next(f64::from(v), delta * delta) as f32]
    }

    fn apply(&self, x: f32, _before: [f32; 2], [m, v]: [f32; 2]) -> f32 {
        let scaled = f64::from(m) / (f64::from(v).sqrt() + self.tau);
        (f64::from(x) + self.lr * scaled) as f32
    }
}

//! Nesterov momentum, the outer step of DiLoCo: Douillard et al., "DiLoCo: Distributed Low-Communication
//! Training of Language Models", 2023 (arXiv:2311.08105), which takes lr 0.7 and momentum 0.9.
//!
//! ```text
//! v ← momentum · v + Δ
//! x ← x + lr · (Δ + momentum · v)
//! ```

use super::{Arithmetic, Sgd};

/// A step along the delta and the momentum that it leads to, which is that of plain descent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Nesterov(pub(super) Sgd);

impl Arithmetic<1> for Nesterov {
    fn initial(&self) -> [f32; 1] {
        self.0.initial()
    }

    fn remembers(&self) -> bool {
        self.0.remembers()
    }

    fn first(&self, before: f32, delta: f32) -> f32 {
        self.0.first(before, delta)
    }

    fn delta(&self, before: f32, after: f32) -> f64 {
        self.0.delta(before, after)
    }

    fn gain(&self) -> f64 {
        self.0.gain()
    }

    fn moments(&self, before: [f32; 1], first: f32) -> [f32; 1] {
        self.0.moments(before, first)
    }

    fn apply(&self, x: f32, [before]: [f32; 1], [v]: [f32; 1]) -> f32 {
        let ahead = self.delta(before, v) + self.0.momentum * f64::from(v);
        (f64::from(x) + self.0.lr * ahead) as f32
    }
}

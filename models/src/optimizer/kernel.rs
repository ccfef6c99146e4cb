//! The update of one parameter in one pass.

use pulp::{Arch, NullaryFnOnce};

use super::Rule;
use crate::ops::math;
use crate::ops::matmul::by_rows;

pub(super) const BETAS: [f32; 2] = [0.9, 0.999];
pub(super) const EPSILON: f32 = 1e-5;

/// The numbers of one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Update {
    pub(super) rule: Rule,
    pub(super) lr: f32,
    /// What gradients are multiplied by.
    pub(super) factor: f32,
    /// What is left of a parameter after weight decay.
    pub(super) keep: f32,
    /// 1 - betaᵗ, by which the moments are divided.
    pub(super) first_scale: f32,
    pub(super) second_scale: f32,
}

impl Update {
    /// For step number `steps`, counted from 1.
    pub(super) fn new(rule: Rule, lr: f64, factor: f32, steps: u32) -> Self {
        let steps = i32::try_from(steps).unwrap_or(i32::MAX);
        let [first_scale, second_scale] = BETAS.map(|beta| 1.0 - beta.powi(steps));
        let keep = match rule {
            Rule::Sgd { .. } => 1.0,
            Rule::AdamW { weight_decay } => 1.0 - lr * f64::from(weight_decay),
        };
        Self {
            rule,
            lr: lr as f32,
            factor,
            keep: keep as f32,
            first_scale,
            second_scale,
        }
    }

    pub(super) fn with_first(&self) -> bool {
        match self.rule {
            Rule::Sgd { momentum, .. } => momentum > 0.0,
            Rule::AdamW { .. } => true,
        }
    }

    pub(super) fn with_second(&self) -> bool {
        matches!(self.rule, Rule::AdamW { .. })
    }

    /// Moves the parameter and its moments; moments that the rule has none of are empty.
    pub(super) fn run(self, w: &mut [f32], g: &[f32], first: &mut [f32], second: &mut [f32]) {
        let work = 16;
        by_rows(
            w.len(),
            work,
            [w, first, second],
            |at, len, [w, first, second]| {
                Arch::new().dispatch(Loops {
                    update: self,
                    w,
                    g: &g[at..at + len],
                    first,
                    second,
                });
            },
        );
    }
}

struct Loops<'a> {
    update: Update,
    w: &'a mut [f32],
    g: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl NullaryFnOnce for Loops<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Update {
            lr, factor, keep, ..
        } = self.update;
        let places = self.w.iter_mut().zip(self.g);
        match self.update.rule {
            Rule::Sgd {
                momentum,
                weight_decay,
            } if momentum > 0.0 => {
                for ((w, g), v) in places.zip(self.first) {
                    *v = momentum * *v + (g * factor + weight_decay * *w);
                    *w -= lr * *v;
                }
            }
            Rule::Sgd { weight_decay, .. } => {
                for (w, g) in places {
                    *w -= lr * (g * factor + weight_decay * *w);
                }
            }
            Rule::AdamW { .. } => {
                let [b1, b2] = BETAS;
                let (of_first, of_second) = (
                    1.0 / self.update.first_scale,
                    1.0 / self.update.second_scale,
                );
                for (((w, g), m), v) in places.zip(self.first).zip(self.second) {
                    let g = g * factor;
                    *m = b1 * *m + (1.0 - b1) * g;
                    *v = b2 * *v + (1.0 - b2) * (g * g);
                    let deviation = (*v * of_second).sqrt() + EPSILON;
                    *w = keep * *w - lr * (*m * of_first / deviation);
                }
            }
        }
    }
}

/// Σ g², in an order that depends on the length alone.
pub(super) fn squares(g: &[f32]) -> f64 {
    g.chunks(4096)
        .map(|g| f64::from(Arch::new().dispatch(Squares(g))))
        .sum()
}

struct Squares<'a>(&'a [f32]);

impl NullaryFnOnce for Squares<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        math::sum(self.0.len(), |i| self.0[i] * self.0[i])
    }
}

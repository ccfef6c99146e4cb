//! The update of one parameter in one pass.

use pulp::{Arch, NullaryFnOnce};

use super::{BETA_1, BETA_2, EPSILON};
use crate::ops::matmul::by_rows;
use crate::train::ClientOptimizer;

/// The numbers of one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Update {
    rule: ClientOptimizer,
    lr: f32,
    /// 1 / (1 - betaᵗ), by which the moments are multiplied.
    of_first: f32,
    of_second: f32,
}

impl Update {
    /// Of step number `steps`, counted from 1.
    pub(super) fn new(rule: ClientOptimizer, lr: f64, steps: u32) -> Self {
        let steps = i32::try_from(steps).unwrap_or(i32::MAX);
        let [of_first, of_second] = [BETA_1, BETA_2].map(|beta| 1.0 / (1.0 - beta.powi(steps)));
        Self {
            rule,
            lr: lr as f32,
            of_first,
            of_second,
        }
    }

    /// How many tensors the state of a parameter has.
    pub(super) fn state_tensors(&self) -> usize {
        match self.rule {
            ClientOptimizer::Sgd { momentum, .. } => usize::from(momentum > 0.0),
            ClientOptimizer::AdamW { .. } => 2,
        }
    }

    /// Moves the parameter and its state.
    ///
    /// # Panics
    /// If lengths differ, or there are not as many tensors of state as there must be.
    pub(super) fn run(self, w: &mut [f32], g: &[f32], state: &mut [Vec<f32>]) {
        assert_eq!(state.len(), self.state_tensors(), "tensors of state");
        assert!(state.iter().all(|state| state.len() == w.len()) && g.len() == w.len());
        let mut state = state.iter_mut();
        let mut next = || state.next().map_or(&mut [][..], Vec::as_mut_slice);
        let targets = [&mut w[..], next(), next()];
        by_rows(g.len(), WORK, targets, |at, len, [w, first, second]| {
            Arch::new().dispatch(Loops {
                update: self,
                w,
                g: &g[at..at + len],
                first,
                second,
            });
        });
    }
}

/// About the operations for a value.
const WORK: usize = 16;

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
            rule,
            lr,
            of_first,
            of_second,
        } = self.update;
        let places = self.w.iter_mut().zip(self.g);
        match rule {
            ClientOptimizer::Sgd {
                momentum,
                weight_decay,
            } if momentum > 0.0 => {
                let (momentum, weight_decay) = (momentum as f32, weight_decay as f32);
                for ((w, g), v) in places.zip(self.first) {
                    *v = momentum * *v + (g + weight_decay * *w);
                    *w -= lr * *v;
                }
            }
            ClientOptimizer::Sgd { weight_decay, .. } => {
                let weight_decay = weight_decay as f32;
                for (w, g) in places {
                    *w -= lr * (g + weight_decay * *w);
                }
            }
            ClientOptimizer::AdamW { weight_decay } => {
                let kept = 1.0 - lr * weight_decay as f32;
                for (((w, g), mean), square) in places.zip(self.first).zip(self.second) {
                    *mean = BETA_1 * *mean + (1.0 - BETA_1) * g;
                    *square = BETA_2 * *square + (1.0 - BETA_2) * (g * g);
                    let deviation = (*square * of_second).sqrt() + EPSILON;
                    *w = kept * *w - lr * (*mean * of_first / deviation);
                }
            }
        }
    }
}

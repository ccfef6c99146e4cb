//! Server optimizers: what the aggregated delta, in the place of a negative gradient, does to the
//! checkpoint. One optimizer a file.
//!
//! All of them work value by value, on f32 values in f64 arithmetic, from moments that are files
//! beside the checkpoint. What is stored is rounded first, and everything after that is a function of
//! what is stored: whoever has the moments before and after a step gets its checkpoint, and every
//! moment but the first, to the last bit, without the delta.

mod adagrad;
mod adam;
mod adaptive;
mod nesterov;
mod sgd;
mod yogi;

use convoke_protocol::task::{AggregationSpec, ServerOptimizerKind};

use self::adagrad::Adagrad;
use self::adam::Adam;
use self::adaptive::{Adaptive, SecondMoment};
use self::nesterov::Nesterov;
use self::sgd::Sgd;
use self::yogi::Yogi;

/// Takes steps, chunk by chunk. Slices are of one length in every call, one slice a moment.
pub trait ServerOptimizer: Send + Sync {
    /// What every value of each moment is before the first step: one number a moment, at least one.
    fn initial(&self) -> &[f32];

    /// Whether steps depend on earlier ones, so that moments must be kept.
    fn remembers(&self) -> bool;

    /// Takes a step: `x` is the checkpoint, `moments` are those before it.
    fn step(&self, delta: &[f32], x: &mut [f32], moments: &mut [Vec<f32>]);

    /// Takes the same step from the moments before and the first moment after it: `x` becomes the
    /// new checkpoint, and `rest` all moments after it, the first one included.
    fn replay(&self, before: &[&[f32]], first: &[f32], x: &mut [f32], rest: &mut [Vec<f32>]);

    /// Appends the delta of a step to `out`: from the first moment before and after it, as exactly as
    /// that was rounded.
    fn delta(&self, before: &[f32], after: &[f32], out: &mut Vec<f32>);

    /// By how much a change of the first moment changes the delta that [`Self::delta`] finds.
    fn gain(&self) -> f64;
}

/// Every optimizer's name in task files, and one line on it.
#[must_use]
pub fn all() -> [(&'static str, &'static str); 5] {
    [
        (
            "sgd",
            "adds server_lr times the delta, with server_momentum: FedAvg, FedAvgM",
        ),
        (
            "nesterov",
            "looks ahead by server_momentum: the outer step of DiLoCo",
        ),
        (
            "adam",
            "over the root of a decayed mean of squares: FedAdam",
        ),
        ("yogi", "as adam, with squares that fall slowly: FedYogi"),
        (
            "adagrad",
            "over the root of the sum of all squares: FedAdagrad",
        ),
    ]
}

/// The optimizer that a task asks for; the ranges were checked when its file was read.
#[must_use]
pub fn of(spec: &AggregationSpec) -> Box<dyn ServerOptimizer> {
    let (lr, momentum, beta2) = (spec.server_lr, spec.server_momentum, spec.server_beta2);
    match spec.server_optimizer {
        ServerOptimizerKind::Sgd => pointwise(Sgd { lr, momentum }),
        ServerOptimizerKind::Nesterov => pointwise(Nesterov(Sgd { lr, momentum })),
        ServerOptimizerKind::Adam => adaptive(spec, Adam { beta2 }),
        ServerOptimizerKind::Yogi => adaptive(spec, Yogi { beta2 }),
        ServerOptimizerKind::Adagrad => adaptive(spec, Adagrad),
    }
}

fn adaptive(
    spec: &AggregationSpec,
    second: impl SecondMoment + 'static,
) -> Box<dyn ServerOptimizer> {
    pointwise(Adaptive {
        lr: spec.server_lr,
        beta1: spec.server_momentum,
        tau: spec.server_tau,
        second,
    })
}

fn pointwise<const K: usize>(arithmetic: impl Arithmetic<K> + 'static) -> Box<dyn ServerOptimizer> {
    let initial = arithmetic.initial();
    Box::new(Pointwise {
        arithmetic,
        initial,
    })
}

/// The arithmetic of one value with K moments, of which the first one is linear in the delta.
trait Arithmetic<const K: usize>: Send + Sync {
    /// Moments before the first step.
    fn initial(&self) -> [f32; K];

    /// Whether moments must be kept.
    fn remembers(&self) -> bool;

    /// The first moment after a step with this delta.
    fn first(&self, before: f32, delta: f32) -> f32;

    /// The delta of a step, from the first moment before and after it.
    fn delta(&self, before: f32, after: f32) -> f64;

    /// See [`ServerOptimizer::gain`].
    fn gain(&self) -> f64;

    /// All moments after a step, from those before it and the first one after it.
    fn moments(&self, before: [f32; K], first: f32) -> [f32; K];

    /// The checkpoint after a step.
    fn apply(&self, x: f32, before: [f32; K], after: [f32; K]) -> f32;
}

/// An optimizer that treats all values alike.
struct Pointwise<const K: usize, A> {
    arithmetic: A,
    initial: [f32; K],
}

impl<const K: usize, A: Arithmetic<K>> ServerOptimizer for Pointwise<K, A> {
    fn initial(&self) -> &[f32] {
        &self.initial
    }

    fn remembers(&self) -> bool {
        self.arithmetic.remembers()
    }

    fn step(&self, delta: &[f32], x: &mut [f32], moments: &mut [Vec<f32>]) {
        let arithmetic = &self.arithmetic;
        for (index, (x, delta)) in x.iter_mut().zip(delta).enumerate() {
            let before = std::array::from_fn(|k| moments[k][index]);
            let first = arithmetic.first(before[0], *delta);
            let after = arithmetic.moments(before, first);
            *x = arithmetic.apply(*x, before, after);
            for (moment, after) in moments.iter_mut().zip(after) {
                moment[index] = after;
            }
        }
    }

    fn replay(&self, before: &[&[f32]], first: &[f32], x: &mut [f32], rest: &mut [Vec<f32>]) {
        let arithmetic = &self.arithmetic;
        for (index, (x, first)) in x.iter_mut().zip(first).enumerate() {
            let before = std::array::from_fn(|k| before[k][index]);
            let after = arithmetic.moments(before, *first);
            *x = arithmetic.apply(*x, before, after);
            for (moment, after) in rest.iter_mut().zip(after) {
                moment[index] = after;
            }
        }
    }

    fn delta(&self, before: &[f32], after: &[f32], out: &mut Vec<f32>) {
        let pairs = before.iter().zip(after);
        out.extend(pairs.map(|(before, after)| self.arithmetic.delta(*before, *after) as f32));
    }

    fn gain(&self) -> f64 {
        self.arithmetic.gain()
    }
}

#[cfg(test)]
mod tests;

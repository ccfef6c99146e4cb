//! SCAFFOLD's server control variate (Karimireddy et al. 2020, arXiv:1910.06378): how it follows
//! from two checkpoints.
//!
//! With x the base, yᵢ what trainer i has trained, K its steps and η its learning rate, each trainer
//! keeps cᵢ and the server c, both zero at first:
//!
//! ```text
//! step:     y  ← y − η · (g(y) − cᵢ + c)
//! after:    cᵢ⁺ = cᵢ − c + (x − yᵢ) / (K η)                           (option II)
//! server:   c⁺ = c + |S|/N · mean over S of (cᵢ⁺ − cᵢ)
//! ```
//!
//! cᵢ⁺ − cᵢ = −c − deltaᵢ / (K η), and the server's step is x⁺ = x + η_g · delta with the aggregated
//! delta in the place of the mean. So c⁺ needs nothing from trainers but their updates, and anybody
//! can compute it from public checkpoints:
//!
//! ```text
//! c⁺ = (1 − ρ) · c − ρ / (η_g · K · η) · (x⁺ − x),    ρ = |S|/N
//! ```
//!
//! |S| is the number of updates in the average and N the cohort's size. It is the paper's c where
//! every trainer is in every cohort, takes the same number of steps and weighs alike. Otherwise:
//! K is the lower median of the steps that the updates' signed numbers of examples make, weights
//! are those of the average, deltas are clipped as in the average, and the rule's robustness is c's
//! too: what the rule keeps out of the step is not in c either.

use serde::{Deserialize, Serialize};

use crate::ids::RoundId;
use crate::task::{TaskSpec, TrainingSpec};

/// What c⁺ of a round is made with. Whole numbers, so that everybody has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlStep {
    /// The round.
    pub round: RoundId,
    /// Updates in the average, |S|.
    pub kept: u32,
    /// Trainers drawn for the round, N, no less than `kept`.
    pub cohort: u32,
    /// Optimizer steps behind an update, K: the lower median.
    pub steps: u32,
}

impl ControlStep {
    /// The step of a round with these updates in its average, each with the number of examples that
    /// its trainer signed. Nothing for tasks without control variates, and without any update.
    #[must_use]
    pub fn of(
        spec: &TaskSpec,
        round: RoundId,
        cohort: u32,
        num_examples: impl Iterator<Item = u64>,
    ) -> Option<Self> {
        let training = &spec.training;
        let mut steps: Vec<u32> = num_examples.map(|n| training.steps(n)).collect();
        steps.sort_unstable();
        let median = *steps.get(steps.len().saturating_sub(1) / 2)?;
        training.control_variates.then_some(Self {
            round,
            kept: u32::try_from(steps.len()).unwrap_or(u32::MAX),
            cohort,
            steps: median,
        })
    }

    /// c⁺ as a function of c, x and x⁺, value by value. One rounding, at the end: the same bits
    /// everywhere.
    pub fn map(&self, spec: &TaskSpec) -> impl Fn(f32, f32, f32) -> f32 + use<> {
        let share = f64::from(self.kept) / f64::from(self.cohort.max(1));
        let client_lr = spec.training.client_lr_of(self.round);
        let path = spec.aggregation.server_lr * f64::from(self.steps) * client_lr;
        let (keep, gain) = (1.0 - share, share / path);
        move |control, base, checkpoint| {
            let moved = f64::from(checkpoint) - f64::from(base);
            (keep * f64::from(control) - gain * moved) as f32
        }
    }
}

impl TrainingSpec {
    /// Optimizer steps of a round on so many examples, at least 1.
    #[must_use]
    pub fn steps(&self, num_examples: u64) -> u32 {
        let of_epoch = num_examples.div_ceil(u64::from(self.batch_size.max(1)));
        let all = of_epoch.saturating_mul(u64::from(self.local_epochs)).max(1);
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        self.steps_max.map_or(all, |max| max.min(all))
    }

    /// Client learning rate of a round. By products, which are the same on every machine; powers
    /// are not.
    #[must_use]
    pub fn client_lr_of(&self, round: RoundId) -> f64 {
        (1..round.0).fold(self.client_lr, |lr, _| lr * self.client_lr_decay)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn spec(training: &str) -> TaskSpec {
        TaskSpec::parse(&format!(
            "name = \"t\"\n[model]\nkind = \"mlp\"\n[training]\nmomentum = 0.0\n{training}\n"
        ))
        .unwrap()
    }

    const SCAFFOLD: &str = "control_variates = true\nbatch_size = 10\nlocal_epochs = 2";

    fn step(examples: &[u64]) -> Option<ControlStep> {
        ControlStep::of(&spec(SCAFFOLD), RoundId(3), 8, examples.iter().copied())
    }

    #[test]
    fn steps_are_the_lower_median_of_what_was_signed() {
        let made = step(&[1_000_000, 11, 1, 30]).unwrap();
        assert_eq!((made.kept, made.cohort, made.steps), (4, 8, 4));
        assert_eq!(step(&[25]).unwrap().steps, 6);
        assert_eq!(step(&[]), None);
        let plain = spec("batch_size = 10");
        assert_eq!(
            ControlStep::of(&plain, RoundId(3), 8, [5].into_iter()),
            None
        );
        let few = spec("control_variates = true\nsteps_max = 3");
        let made = ControlStep::of(&few, RoundId(3), 8, [u64::MAX, u64::MAX].into_iter());
        assert_eq!(made.unwrap().steps, 3);
    }

    #[test]
    fn the_learning_rate_falls_round_by_round() {
        let training = spec("client_lr = 0.5\nclient_lr_decay = 0.5").training;
        let lrs = [1, 2, 4].map(|round| training.client_lr_of(RoundId(round)));
        assert_eq!(lrs, [0.5, 0.25, 0.0625]);
    }

    /// Quadratics fᵢ(y) = aᵢ/2 (y − bᵢ)², whose gradients are aᵢ (y − bᵢ).
    const PARTIES: [(f64, f64); 3] = [(1.0, -3.0), (0.5, 5.0), (2.0, 1.0)];

    /// One round of the paper's algorithm, in f64: x⁺ and the parties' new variates.
    fn naive_round(x: f64, c: f64, own: &[f64; 3], steps: u32, lr: f64) -> (f64, [f64; 3]) {
        let (mut sum, mut next) = (0.0, *own);
        for (((a, b), own), next) in PARTIES.iter().zip(own).zip(&mut next) {
            let mut y = x;
            for _ in 0..steps {
                y -= lr * (a * (y - b) - own + c);
            }
            *next = own - c + (x - y) / (f64::from(steps) * lr);
            sum += y - x;
        }
        (x + sum / 3.0, next)
    }

    #[test]
    fn c_is_that_of_the_paper() {
        let task = spec(
            "control_variates = true\nbatch_size = 10\nclient_lr = 0.1\nclient_lr_decay = 0.97",
        );
        let (mut x, mut own, mut c) = (10.0f64, [0.0; 3], 0.0f32);
        for round in 1..=80 {
            let made = ControlStep::of(&task, RoundId(round), 3, [50; 3].into_iter()).unwrap();
            let lr = task.training.client_lr_of(RoundId(round));
            let (moved, next) = naive_round(x, f64::from(c), &own, made.steps, lr);
            c = made.map(&task)(c, x as f32, moved as f32);
            (x, own) = (f64::from(moved as f32), next);
            // The paper's c stays the mean of the parties' variates.
            let mean = own.iter().sum::<f64>() / 3.0;
            assert!(
                (f64::from(c) - mean).abs() < 1e-5,
                "round {round}: {c} {mean}"
            );
        }
        let optimum = PARTIES.iter().map(|(a, b)| a * b).sum::<f64>() / 3.5;
        assert!((x - optimum).abs() < 0.02, "{x} {optimum}");
    }

    #[test]
    fn who_is_missing_leaves_its_share_of_c_as_it_was() {
        let task = spec(
            "control_variates = true\nbatch_size = 10\nclient_lr = 0.1\nclient_lr_decay = 1.0",
        );
        let of = |kept: usize| {
            let step = ControlStep::of(&task, RoundId(1), 4, vec![10; kept].into_iter());
            step.unwrap().map(&task)(8.0, 1.0, 1.5)
        };
        // −(x⁺ − x) / (K η) = −0.5 / 0.1 = −5
        assert_eq!([4, 2, 1].map(of), [-5.0, 1.5, 4.75]);
    }
}

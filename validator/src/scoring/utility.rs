//! The game that a round's updates play: what coalitions of them do to held-out loss.

use std::ops::ControlFlow;

use convoke_models::{Evaluator, ModelError, Parameters};
use convoke_protocol::message::Candidate;
use convoke_valuation::Utility;

/// No coalition counts as worse than this held-out loss, in nats: what is beyond it is no longer
/// a model, and an infinite loss could not be reckoned with.
const LOSS_MAX: f64 = 100.0;

/// An update that takes part in the game.
#[derive(Debug, Clone, Copy)]
pub struct Player<'a> {
    /// Its delta.
    pub delta: &'a Parameters,
    /// Its weight in the average.
    pub num_examples: u64,
    /// The delta is scaled by this many millionths.
    pub clip_ppm: u32,
}

impl<'a> Player<'a> {
    /// The player that a candidate with this delta is.
    #[must_use]
    pub fn new(candidate: &Candidate, delta: &'a Parameters) -> Self {
        Self {
            delta,
            num_examples: candidate.num_examples,
            clip_ppm: candidate.clip_ppm,
        }
    }

    /// Its factor in an average of updates with `total` examples.
    pub(super) fn weight(&self, total: u128) -> f32 {
        if total == 0 {
            return 0.0;
        }
        let share = self.num_examples as f64 / total as f64;
        (share * f64::from(self.clip_ppm) / 1e6) as f32
    }
}

/// v(C) = −L(base + Σ_{i∈C} nᵢ cᵢ dᵢ / Σ_{i∈C} nᵢ) with the held-out loss L in nats, examples nᵢ,
/// clipping cᵢ and deltas dᵢ; v(∅) = −L(base).
///
/// Whoever is not in the coalition is not in the average either: the weights of the others add up
/// to 1 again. The server optimizer, which knows nothing of who contributed, is left aside.
///
/// An evaluation costs one of the held-out data and |C| additions of a delta. Memory for one model
/// besides base and deltas.
pub struct HeldOutUtility<'a> {
    evaluator: &'a Evaluator,
    base: &'a Parameters,
    players: Vec<Player<'a>>,
    stepped: Parameters,
    before_each: &'a mut dyn FnMut() -> ControlFlow<()>,
}

impl<'a> HeldOutUtility<'a> {
    /// The game of these players. `before_each` is called before each evaluation and may break
    /// off.
    pub fn new(
        evaluator: &'a Evaluator,
        base: &'a Parameters,
        players: Vec<Player<'a>>,
        before_each: &'a mut dyn FnMut() -> ControlFlow<()>,
    ) -> Self {
        Self {
            evaluator,
            base,
            players,
            stepped: base.clone(),
            before_each,
        }
    }

    /// Puts the coalition's model together.
    fn step(&mut self, coalition: &[usize]) -> Result<(), ModelError> {
        self.stepped
            .values_mut()
            .copy_from_slice(self.base.values());
        let members = || coalition.iter().map(|player| &self.players[*player]);
        let total = members()
            .map(|player| u128::from(player.num_examples))
            .sum();
        for player in members() {
            self.stepped
                .add_scaled(player.delta, player.weight(total))?;
        }
        Ok(())
    }
}

/// The utility of a held-out loss in nats: the lower the better, bounded and finite.
pub(super) fn utility(loss: f64) -> f64 {
    // `min` takes the bound for what is no number, too.
    -loss.min(LOSS_MAX)
}

impl Utility for HeldOutUtility<'_> {
    type Error = ModelError;

    fn evaluate(&mut self, coalition: &[usize]) -> Result<f64, ModelError> {
        if (self.before_each)().is_break() {
            return Err(ModelError::Interrupted { step: 0 });
        }
        self.step(coalition)?;
        Ok(utility(self.evaluator.evaluate(&self.stepped)?.loss))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_models::{DeviceChoice, Images, Model, ModelConfig, ModelKind};
    use convoke_valuation::{Game, exact_shapley, leave_one_out};

    use super::*;

    fn model() -> Model {
        Model::new(ModelConfig::images(ModelKind::Mlp, 4, 4, 3).unwrap()).unwrap()
    }

    struct Scene {
        evaluator: Evaluator,
        base: Parameters,
        deltas: Vec<Parameters>,
    }

    /// Steps towards other random models.
    fn scene(players: u64) -> Scene {
        let images = (0..60 * 16).map(|i| (i * 31 % 256) as u8).collect();
        let labels = (0..60).map(|i| (i % 3) as u8).collect();
        let data = Images::new(images, 4, 4, labels, 3).unwrap().into();
        let evaluator = Evaluator::new(&model(), &DeviceChoice::Cpu.open().unwrap(), &data);
        let base = model().initial(1).unwrap();
        let delta = |seed| Parameters::delta(&base, &model().initial(seed).unwrap()).unwrap();
        Scene {
            evaluator: evaluator.unwrap(),
            deltas: (2..2 + players).map(delta).collect(),
            base,
        }
    }

    impl Scene {
        fn players(&self, weights: &[(u64, u32)]) -> Vec<Player<'_>> {
            let player = |(delta, (num_examples, clip_ppm)): (_, &(u64, u32))| Player {
                delta,
                num_examples: *num_examples,
                clip_ppm: *clip_ppm,
            };
            self.deltas.iter().zip(weights).map(player).collect()
        }

        /// Minus the loss with the sum of the scaled deltas, in f64.
        fn naive(&self, scales: &[f64]) -> f64 {
            let mut stepped = self.base.clone();
            for (index, value) in stepped.values_mut().iter_mut().enumerate() {
                let terms = self.deltas.iter().zip(scales);
                let sum: f64 = terms.map(|(d, s)| f64::from(d.values()[index]) * s).sum();
                *value = (f64::from(*value) + sum) as f32;
            }
            -self.evaluator.evaluate(&stepped).unwrap().loss
        }
    }

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-5
    }

    /// Whoever is left out is out of the average, and the others' weights add up to 1 again.
    #[test]
    fn a_coalitions_model_is_the_average_of_its_members_alone() {
        let scene = scene(3);
        let mut go_on = || ControlFlow::Continue(());
        let players = scene.players(&[(10, 1_000_000), (30, 500_000), (60, 1_000_000)]);
        let mut utility = HeldOutUtility::new(&scene.evaluator, &scene.base, players, &mut go_on);
        for (coalition, scales) in [
            (&[0usize, 1, 2][..], [0.1, 0.15, 0.6]),
            (&[0, 2], [1.0 / 7.0, 0.0, 6.0 / 7.0]),
            (&[0, 1], [0.25, 0.375, 0.0]),
            (&[1], [0.0, 0.5, 0.0]),
            (&[], [0.0; 3]),
        ] {
            let found = utility.evaluate(coalition).unwrap();
            assert!(near(found, scene.naive(&scales)), "{coalition:?}: {found}");
        }
        let whole = scene.naive(&[0.1, 0.15, 0.6]);
        let without_second = scene.naive(&[1.0 / 7.0, 0.0, 6.0 / 7.0]);
        let mut game = Game::new(utility, 3, 9).unwrap();
        let lost = leave_one_out(&mut game).unwrap()[1];
        assert!(near(lost, whole - without_second), "{lost}");
    }

    #[test]
    fn copies_are_worth_the_same_and_examples_of_nobody_change_nothing() {
        let mut scene = scene(3);
        scene.deltas[2] = scene.deltas[0].clone();
        let mut go_on = || ControlFlow::Continue(());
        let players = scene.players(&[(10, 1_000_000), (10, 1_000_000), (10, 1_000_000)]);
        let utility = HeldOutUtility::new(&scene.evaluator, &scene.base, players, &mut go_on);
        let values = exact_shapley(&mut Game::new(utility, 3, 9).unwrap()).unwrap();
        assert!(near(values[0], values[2]) && !near(values[0], values[1]));
        let players = scene.players(&[(0, 1_000_000); 3]);
        let mut utility = HeldOutUtility::new(&scene.evaluator, &scene.base, players, &mut go_on);
        let [nobodys, base] = [&[0, 2][..], &[]].map(|c| utility.evaluate(c).unwrap());
        assert_eq!(nobodys, base);
    }

    #[test]
    fn a_loss_without_bounds_is_bounded_and_who_is_told_to_stop_stops() {
        let mut scene = scene(1);
        scene.deltas[0].values_mut().fill(f32::MAX);
        let mut left = 1;
        let mut once = || {
            left -= 1;
            if left < 0 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let players = scene.players(&[(1, 1_000_000)]);
        let mut utility = HeldOutUtility::new(&scene.evaluator, &scene.base, players, &mut once);
        assert_eq!(utility.evaluate(&[0]).unwrap(), -LOSS_MAX);
        let stopped = utility.evaluate(&[0]);
        assert!(matches!(stopped, Err(ModelError::Interrupted { .. })));
    }
}

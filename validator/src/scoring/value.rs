//! What updates are worth by the task's method: what their factors are made of.

use std::ops::ControlFlow;

use convoke_models::{Evaluator, ModelError, Parameters};
use convoke_protocol::held_out::{self, Judgement};
use convoke_protocol::ids::{RoundId, TaskId};
use convoke_protocol::message::Candidate;
use convoke_protocol::scores::{Outcome, ScoreSheet};
use convoke_protocol::task::{ContributionSpec, ScoreMethod};
use convoke_valuation::{
    Game, Sampled, Sampling, ValuationError, gain, gtg_shapley, leave_one_out, tmc_shapley,
};

use super::utility::{HeldOutUtility, Player, utility};

/// A round whose step changes held-out loss by no more than this share of it is not divided by
/// measurement: the losses themselves, of 32-bit logits, are not known any better.
pub const ROUND_TOLERANCE: f64 = 1e-6;

/// What the values took to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Coalitions whose held-out loss was evaluated.
    pub evaluations: u32,
    /// Orders of the updates that were followed; 0 for methods that follow none.
    pub permutations: u32,
}

/// What the game is played with.
pub(super) struct Table<'a> {
    pub(super) evaluator: &'a Evaluator,
    pub(super) base: &'a Parameters,
    /// Held-out loss of the base, in nats.
    pub(super) base_loss: f64,
    pub(super) candidates: &'a [Candidate],
    pub(super) deltas: &'a [Option<Parameters>],
    /// Called before each evaluation with how many there will be at most.
    pub(super) before_each: &'a mut dyn FnMut(u32) -> ControlFlow<()>,
}

type Measure<'a> =
    &'a dyn Fn(&mut Game<HeldOutUtility<'_>>) -> Result<Measured, ValuationError<ModelError>>;

/// Values of the players in nats, and the orders followed for them.
type Measured = (Vec<f64>, u32);

/// Writes the values into a sheet whose values are cosines so far; what it took, if coalitions
/// were evaluated for them.
///
/// Those that the sheet itself refuses don't play: their factor is nothing whatever they are
/// worth, and most likely they will not be in the average.
///
/// # Errors
/// Those of the evaluations.
pub(super) fn write_values(
    sheet: &mut ScoreSheet,
    contribution: &ContributionSpec,
    table: Table<'_>,
) -> Result<Option<Effort>, ValuationError<ModelError>> {
    let sampling = Sampling::seeded(seed(sheet.task, sheet.round, table.candidates));
    let round_tolerance = ROUND_TOLERANCE * table.base_loss;
    let measure: Measure<'_> = match contribution.method {
        ScoreMethod::Direction => return Ok(None),
        ScoreMethod::Alignment => {
            fill(sheet, std::iter::repeat(1));
            return Ok(None);
        }
        ScoreMethod::Gain => &|game| Ok((gain(game)?, 0)),
        ScoreMethod::LeaveOneOut => &|game| Ok((leave_one_out(game)?, 0)),
        ScoreMethod::TmcShapley => &|game| Ok(measured(tmc_shapley(game, &sampling)?)),
        ScoreMethod::GtgShapley => {
            &|game| Ok(measured(gtg_shapley(game, &sampling, round_tolerance)?))
        }
    };
    let (values, effort) = play(sheet, contribution.evaluations_max, table, measure)?;
    fill(sheet, values);
    Ok(Some(effort))
}

/// The values of all candidates in billionths of a nat; nothing for those that don't play.
fn play(
    sheet: &ScoreSheet,
    evaluations_max: u32,
    table: Table<'_>,
    measure: Measure<'_>,
) -> Result<(Vec<i64>, Effort), ValuationError<ModelError>> {
    let judgements = held_out::judge_alone(sheet);
    let candidates = table.candidates.iter().zip(table.deltas).enumerate();
    let (positions, players): (Vec<usize>, Vec<Player<'_>>) = candidates
        .zip(judgements)
        .filter(|(_, judgement)| matches!(judgement, Judgement::Keep { .. }))
        .filter_map(|((position, (candidate, delta)), _)| {
            Some((position, Player::new(candidate, delta.as_ref()?)))
        })
        .unzip();
    let count = players.len();
    let evaluations_max = enough(evaluations_max, count);
    let at_most = 1u32.checked_shl(count as u32).unwrap_or(u32::MAX);
    let at_most = at_most.min(evaluations_max);
    let before_each = table.before_each;
    let mut before_each = || before_each(at_most);
    let round = HeldOutUtility::new(table.evaluator, table.base, players, &mut before_each);
    let mut game = Game::new(round, count, evaluations_max)?.with_empty(utility(table.base_loss));
    let (found, permutations) = measure(&mut game)?;
    let effort = Effort {
        evaluations: game.evaluations(),
        permutations,
    };
    let mut values = vec![0; table.candidates.len()];
    for (position, value) in positions.into_iter().zip(payable(&found)) {
        values[position] = value;
    }
    Ok((values, effort))
}

/// The evaluations allowed, or those without which some would not be measured at all.
fn enough(evaluations_max: u32, players: usize) -> u32 {
    let least = u32::try_from(players).unwrap_or(u32::MAX);
    evaluations_max.max(least.saturating_add(1))
}

/// Values in billionths of a nat. If none is above nothing, as after a step that did harm as a
/// whole, all are the same: pay then goes by alignment, and the round can be paid at all.
#[must_use]
pub fn payable(values: &[f64]) -> Vec<i64> {
    // Saturates.
    let nanos: Vec<i64> = values.iter().map(|value| (value * 1e9) as i64).collect();
    if nanos.iter().any(|value| *value > 0) {
        nanos
    } else {
        vec![1; nanos.len()]
    }
}

fn fill(sheet: &mut ScoreSheet, values: impl IntoIterator<Item = i64>) {
    for (candidate, value) in sheet.candidates.iter_mut().zip(values) {
        if let Outcome::Scored(score) = &mut candidate.outcome {
            score.value_nanos = value;
        }
    }
}

fn measured(sampled: Sampled) -> Measured {
    (sampled.values, sampled.permutations)
}

/// The seed of a round's orders: the same for all validators, so that they do not differ by it,
/// and unknown to every trainer until all updates are in.
fn seed(task: TaskId, round: RoundId, candidates: &[Candidate]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("convoke 2026 orders of a round's updates");
    hasher.update(&task.0.to_le_bytes());
    hasher.update(&round.0.to_le_bytes());
    for candidate in candidates {
        hasher.update(&candidate.delta.0);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use convoke_protocol::ids::{Address, BlobHash};

    use super::*;

    fn candidate(delta: u8) -> Candidate {
        Candidate {
            trainer: Address([delta; 20]),
            delta: BlobHash([delta; 32]),
            delta_bytes: 1,
            num_examples: 1,
            clip_ppm: 1_000_000,
            alignment: 1,
            index: 0,
        }
    }

    #[test]
    fn a_round_in_which_nobody_did_good_is_paid_all_the_same() {
        assert_eq!(payable(&[0.5, -1e-3, 2e-9]), [500_000_000, -1_000_000, 2]);
        assert_eq!(payable(&[-0.5, 0.0]), [1, 1]);
        assert_eq!(payable(&[1e300, -1e300]), [i64::MAX, i64::MIN]);
        assert!(payable(&[]).is_empty());
    }

    #[test]
    fn everybody_can_be_measured_once_whatever_the_task_allows() {
        assert_eq!(enough(1, 8), 9);
        assert_eq!(enough(1_000, 8), 1_000);
        assert_eq!(enough(1, usize::MAX), u32::MAX);
    }

    #[test]
    fn the_seed_is_of_this_task_round_and_updates() {
        let updates = [candidate(1), candidate(2)];
        let base = seed(TaskId(1), RoundId(1), &updates);
        assert_eq!(base, seed(TaskId(1), RoundId(1), &updates));
        for other in [
            seed(TaskId(2), RoundId(1), &updates),
            seed(TaskId(1), RoundId(2), &updates),
            seed(TaskId(1), RoundId(1), &[candidate(1), candidate(3)]),
        ] {
            assert_ne!(base, other);
        }
    }
}

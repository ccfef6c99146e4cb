//! Validators' scores: committed by hash, then revealed, then combined by stake-weighted median.
//!
//! A validator measures each candidate on held-out data of its own, in three ways. Let dᵢ be the
//! candidate's delta, wᵢ its weight in the average, and r the validator's own reference step, made
//! by a few passes of descent on its held-out loss from the same base.
//!
//! - `cosine`: cos(dᵢ, r), whether the update goes where held-out loss falls (FLTrust, Cao et al.
//!   2021, arXiv:2012.13995, with many roots instead of one). Flipped updates are negative.
//! - `relatedness`: D/N · (Σ_{j≠i} cos²(dᵢ, dⱼ) + cos²(dᵢ, r)) in D dimensions with N candidates,
//!   how much more the update has in common with anything than noise has, which is at 1.
//! - `gain`: L(base) − L(base + wᵢ dᵢ), whether it does harm.
//!
//! The first two work in late rounds, too, when honest deltas of skewed data point against each
//! other, because each undoes the last averaging, and none of them alone lowers the loss.
//!
//! These decide who is refused. What the others are paid by is the `value` that the task's method
//! (`[contribution]`) gives them: for `direction` the cosine again, for the others what they do to
//! the held-out loss.
//!
//! All are integers, so that all parties combine the same.

use serde::{Deserialize, Serialize};

use crate::codec;
use crate::identity::keccak;
use crate::ids::{Address, Amount, Digest, RoundId, TaskId};

/// What one validator found in one round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreSheet {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundId,
    /// Held-out loss of the round's base checkpoint, in millionths of a nat.
    pub base_loss_micros: u64,
    /// Held-out accuracy of the base checkpoint, in millionths.
    pub base_accuracy_ppm: u32,
    /// One entry for each candidate, in the order of the request.
    pub candidates: Vec<CandidateScore>,
}

/// One candidate's score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateScore {
    /// Whose update it is.
    pub trainer: Address,
    /// What came of evaluating it.
    pub outcome: Outcome,
}

/// The submission's fault and the machine's fault are different things: a validator whose own
/// machine fails sends no sheet at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was evaluated.
    Scored(Score),
    /// The submission cannot be evaluated: its loss is not finite, its tensors do not fit.
    SubmissionFailed,
}

/// What a validator measured, or what the validators measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Held-out gain in millionths of a nat; negative if the update does harm.
    pub gain_micros: i64,
    /// Cosine with the validator's reference step, in millionths.
    pub cosine_ppm: i32,
    /// What the update has in common with the others and the reference, in thousandths of what
    /// noise would have.
    pub relatedness_milli: u32,
    /// What the update is worth by the task's method, in billionths: of a nat for methods that
    /// measure loss. Only its ratio to the values of the others counts.
    pub value_nanos: i64,
}

/// Binds a sheet to its validator until the reveal; `salt` keeps it from being guessed.
///
/// # Panics
/// Never for sheets of at most 256 candidates, which encode well below the codec's limit.
#[must_use]
pub fn commitment(validator: Address, sheet: &ScoreSheet, salt: &[u8; 32]) -> Digest {
    let bytes = codec::encode(sheet).expect("a sheet of bounded length fits a message");
    keccak(&[
        b"convoke.scores.v1",
        &validator.0,
        salt,
        &keccak(&[&bytes]).0,
    ])
}

/// The lower stake-weighted median: the least value such that values up to it hold at least
/// half of the stake. Without any stake each value counts the same. `None` for no values.
#[must_use]
pub fn weighted_median<T: Ord + Copy>(values: &[(T, Amount)]) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let staked: u128 = sorted.iter().map(|(_, stake)| *stake).sum::<Amount>().0;
    let weight = |stake: Amount| if staked == 0 { 1 } else { stake.0 };
    let total = if staked == 0 {
        sorted.len() as u128
    } else {
        staked
    };
    let mut seen = 0u128;
    sorted.into_iter().find_map(|(value, stake)| {
        seen = seen.saturating_add(weight(stake));
        (seen >= total.div_ceil(2)).then_some(value)
    })
}

/// A sheet with the stake behind it.
pub type StakedSheet<'a> = (&'a ScoreSheet, Amount);

/// What the validators together say of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combined {
    /// Median held-out loss of the base checkpoint, millionths of a nat.
    pub base_loss_micros: u64,
    /// Median accuracy of the base checkpoint, millionths.
    pub base_accuracy_ppm: u32,
    /// How many validators revealed.
    pub validators: usize,
    /// For each candidate, in order, the medians; `None` where validators holding at least half
    /// of the stake say that the submission failed.
    pub scores: Vec<Option<Score>>,
}

/// Combines sheets that all list the same candidates in the same order. A failed submission
/// counts as a score below every other. `None` if there are no sheets.
#[must_use]
pub fn combine(sheets: &[StakedSheet<'_>]) -> Option<Combined> {
    let median = |of: &dyn Fn(&ScoreSheet) -> i64| {
        let values: Vec<_> = sheets
            .iter()
            .map(|(sheet, stake)| (of(sheet), *stake))
            .collect();
        weighted_median(&values)
    };
    let score = |index: usize| {
        let part = |of: fn(&Score) -> i64| {
            median(&|sheet| match &sheet.candidates[index].outcome {
                // i64::MIN stands for failure, so that no reported value may equal it.
                Outcome::Scored(score) => of(score).max(i64::MIN + 1),
                Outcome::SubmissionFailed => i64::MIN,
            })
            .filter(|value| *value > i64::MIN)
        };
        Some(Score {
            gain_micros: part(|score| score.gain_micros)?,
            cosine_ppm: i32::try_from(part(|score| i64::from(score.cosine_ppm))?).ok()?,
            relatedness_milli: u32::try_from(part(|score| i64::from(score.relatedness_milli))?)
                .ok()?,
            value_nanos: part(|score| score.value_nanos)?,
        })
    };
    let losses: Vec<_> = sheets
        .iter()
        .map(|(s, stake)| (s.base_loss_micros, *stake))
        .collect();
    let accuracies: Vec<_> = sheets
        .iter()
        .map(|(s, stake)| (s.base_accuracy_ppm, *stake))
        .collect();
    Some(Combined {
        base_loss_micros: weighted_median(&losses)?,
        base_accuracy_ppm: weighted_median(&accuracies)?,
        validators: sheets.len(),
        scores: (0..sheets[0].0.candidates.len()).map(score).collect(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_median_follows_stake_not_heads() {
        let values = [(1, Amount(1)), (2, Amount(1)), (9, Amount(3))];
        assert_eq!(weighted_median(&values), Some(9));
        assert_eq!(weighted_median(&[(4, Amount(1)), (7, Amount(1))]), Some(4));
        assert_eq!(
            weighted_median(&[(7, Amount(0)), (4, Amount(0)), (5, Amount(0))]),
            Some(5)
        );
        assert_eq!(weighted_median::<u8>(&[]), None);
    }

    fn sheet(gains: &[Option<i64>]) -> ScoreSheet {
        let score = |gain: &Option<i64>| CandidateScore {
            trainer: Address::ZERO,
            outcome: gain.map_or(Outcome::SubmissionFailed, |gain_micros| {
                Outcome::Scored(Score {
                    gain_micros,
                    cosine_ppm: 1,
                    relatedness_milli: 1,
                    value_nanos: 1,
                })
            }),
        };
        ScoreSheet {
            task: TaskId(1),
            round: RoundId(1),
            base_loss_micros: 5,
            base_accuracy_ppm: 6,
            candidates: gains.iter().map(score).collect(),
        }
    }

    #[test]
    fn a_minority_cannot_fail_a_submission_and_a_majority_can() {
        let (good, bad) = (sheet(&[Some(10)]), sheet(&[None]));
        let minority = [(&good, Amount(2)), (&bad, Amount(1))];
        assert_eq!(
            combine(&minority).map(|c| c.scores[0].map(|s| s.gain_micros)),
            Some(Some(10))
        );
        let majority = [(&good, Amount(1)), (&bad, Amount(2))];
        assert_eq!(combine(&majority).map(|c| c.scores), Some(vec![None]));
        assert_eq!(combine(&[]), None);
    }

    #[test]
    fn a_commitment_binds_validator_sheet_and_salt() {
        let base = commitment(Address([1; 20]), &sheet(&[Some(1)]), &[1; 32]);
        assert_ne!(
            base,
            commitment(Address([2; 20]), &sheet(&[Some(1)]), &[1; 32])
        );
        assert_ne!(
            base,
            commitment(Address([1; 20]), &sheet(&[Some(2)]), &[1; 32])
        );
        assert_ne!(
            base,
            commitment(Address([1; 20]), &sheet(&[Some(1)]), &[2; 32])
        );
    }

    proptest! {
        /// Validators with less than half of the stake cannot move the median out of the
        /// range of the others' values.
        #[test]
        fn a_minority_has_bounded_influence(
            honest in prop::collection::vec((-100i64..100, 1u128..50), 1..8),
            hostile in prop::collection::vec(any::<i64>(), 0..8),
        ) {
            let stake: u128 = honest.iter().map(|(_, s)| s).sum();
            let count = hostile.len() as u128;
            // Integer stakes: scale up so that the hostile share is strictly below half.
            let mut values: Vec<_> =
                honest.iter().map(|(v, s)| (*v, Amount(s * (count + 1)))).collect();
            values.extend(hostile.iter().map(|v| (*v, Amount(stake * (count + 1) / (count + 2)))).take(1));
            let median = weighted_median(&values);
            let low = honest.iter().map(|(v, _)| *v).min();
            let high = honest.iter().map(|(v, _)| *v).max();
            prop_assert!(median >= low && median <= high);
        }
    }
}

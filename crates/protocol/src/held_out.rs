//! What held-out scores mean: who is refused for them, and with what factor the others are paid.
//!
//! The constants were measured on Fashion-MNIST, Dirichlet 0.5, 6 trainers of which one flips
//! signs and one sends Gaussian noise of honest length, ten rounds, 20 splits: every update of
//! both adversaries refused, and 1% of the honest ones, with three validators of 330 images each.

use crate::factors::{FACTOR_MAX, FACTOR_ONE};
use crate::ids::Amount;
use crate::refusal::Refusal;
use crate::scores::{Combined, Score, ScoreSheet, combine};
use crate::task::BPS;

/// Harm: the update alone raises held-out loss by more than this share, in thousandths.
pub const HARM_MAX_MILLI: i128 = 100;

/// Noise: relatedness below this, in thousandths of what noise has, ...
pub const LEAST_RELATEDNESS_MILLI: u32 = 4_000;

/// ... and cosine with the reference below this, in millionths.
pub const NOISE_COSINE_PPM: i32 = 30_000;

/// Against the held-out direction: cosine at or below this, in millionths.
pub const LEAST_COSINE_PPM: i32 = -10_000;

/// With fewer validators than this one reference may be off, so a cosine of nothing is refused.
pub const PANEL_MIN: usize = 3;

/// What becomes of one candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It goes into the average.
    Keep {
        /// Its combined score.
        score: Score,
        /// Its factor in the split, in units of [`FACTOR_ONE`].
        factor: u16,
    },
    /// It does not.
    Refuse(Refusal),
}

/// Judges the combined scores. The factor of those kept is their value, nothing if negative, over
/// the median of the positive ones.
#[must_use]
pub fn judge(combined: &Combined) -> Vec<Judgement> {
    let refusals: Vec<_> = combined
        .scores
        .iter()
        .map(|score| match score {
            None => Some(Refusal::NotEvaluable),
            Some(score) => refusal(score, combined),
        })
        .collect();
    let kept = combined.scores.iter().zip(&refusals);
    let kept = kept.filter_map(|(score, refusal)| score.filter(|_| refusal.is_none()));
    let values: Vec<i64> = kept.map(|score| score.value_nanos).collect();
    let mut factors = factors_of_values(&values).into_iter();
    let judgement = |(score, refusal): (&Option<Score>, Option<Refusal>)| match (score, refusal) {
        (Some(score), None) => Judgement::Keep {
            score: *score,
            factor: factors.next().unwrap_or_default(),
        },
        (_, refusal) => Judgement::Refuse(refusal.unwrap_or(Refusal::NotEvaluable)),
    };
    combined
        .scores
        .iter()
        .zip(refusals)
        .map(judgement)
        .collect()
}

/// The factors of values, whatever their unit: nothing for those that are not positive, for the
/// others their ratio to the lower median of the positive ones, up to [`FACTOR_MAX`].
#[must_use]
pub fn factors_of_values(values: &[i64]) -> Vec<u16> {
    let mut positive: Vec<i64> = values.iter().copied().filter(|value| *value > 0).collect();
    positive.sort_unstable();
    let median = positive.get(positive.len().saturating_sub(1) / 2);
    let median = i128::from(median.copied().unwrap_or(1));
    let factor = |value: &i64| {
        let scaled = i128::from(*value) * i128::from(FACTOR_ONE) / median;
        u16::try_from(scaled.clamp(0, i128::from(FACTOR_MAX))).unwrap_or(FACTOR_MAX)
    };
    values.iter().map(factor).collect()
}

/// Judges one validator's sheet as if there were no other.
#[must_use]
pub fn judge_alone(sheet: &ScoreSheet) -> Vec<Judgement> {
    combine(&[(sheet, Amount(1))]).map_or_else(Vec::new, |own| judge(&own))
}

/// One validator's factors for all `updates` of a round, from its own sheet alone: what it commits
/// to on chain. `positions` are those of the sheet's candidates among the updates; every other
/// update was refused before, and has the factor 0, as have those that this judgement refuses.
#[must_use]
pub fn factors(sheet: &ScoreSheet, positions: &[u16], updates: u16) -> Vec<u16> {
    let mut factors = vec![0; usize::from(updates)];
    for (position, judgement) in positions.iter().zip(judge_alone(sheet)) {
        if let (Judgement::Keep { factor, .. }, Some(slot)) =
            (judgement, factors.get_mut(usize::from(*position)))
        {
            *slot = factor;
        }
    }
    factors
}

/// What part of the vesting pay one validator releases in the end, in basis points, from losses
/// that it measured on its own held-out data (millionths of a nat): all, if the final checkpoint
/// is as good as the one it saw last, within a tenth; else the part of that improvement over the
/// initial checkpoint that is still there, rounded down.
#[must_use]
pub fn release_bps_down(initial_micros: u64, last_micros: u64, final_micros: u64) -> u16 {
    let (initial, last, end) = (
        i128::from(initial_micros),
        i128::from(last_micros),
        i128::from(final_micros),
    );
    if (end - last) * 1_000 <= last * HARM_MAX_MILLI {
        return BPS;
    }
    // Here `end` is above `last`, so without any improvement over the start nothing is kept.
    let (kept, shown) = ((initial - end).max(0), (initial - last).max(1));
    u16::try_from(kept * i128::from(BPS) / shown)
        .unwrap_or(BPS)
        .min(BPS)
}

fn refusal(score: &Score, combined: &Combined) -> Option<Refusal> {
    let Score {
        gain_micros,
        cosine_ppm,
        relatedness_milli,
        ..
    } = *score;
    let base_loss_micros = combined.base_loss_micros;
    if -i128::from(gain_micros) * 1_000 > i128::from(base_loss_micros) * HARM_MAX_MILLI {
        return Some(Refusal::Harmful {
            gain_micros,
            base_loss_micros,
        });
    }
    if relatedness_milli < LEAST_RELATEDNESS_MILLI && cosine_ppm < NOISE_COSINE_PPM {
        return Some(Refusal::Noise {
            relatedness_milli,
            least_milli: LEAST_RELATEDNESS_MILLI,
        });
    }
    let least_ppm = if combined.validators < PANEL_MIN {
        0
    } else {
        LEAST_COSINE_PPM
    };
    (cosine_ppm <= least_ppm).then_some(Refusal::OffCourse {
        cosine_ppm,
        least_ppm,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Address, RoundId, TaskId};
    use crate::scores::{CandidateScore, Outcome};

    fn combined(scores: &[(i64, i32, u32)]) -> Combined {
        let score = |(gain_micros, cosine_ppm, relatedness_milli): &(i64, i32, u32)| {
            Some(Score {
                gain_micros: *gain_micros,
                cosine_ppm: *cosine_ppm,
                relatedness_milli: *relatedness_milli,
                value_nanos: 1_000 * i64::from(*cosine_ppm),
            })
        };
        Combined {
            base_loss_micros: 1_000_000,
            base_accuracy_ppm: 0,
            validators: 3,
            scores: scores.iter().map(score).collect(),
        }
    }

    fn codes(combined: &Combined) -> Vec<&'static str> {
        let code = |judgement: Judgement| match judgement {
            Judgement::Keep { .. } => "kept",
            Judgement::Refuse(refusal) => refusal.code(),
        };
        judge(combined).into_iter().map(code).collect()
    }

    #[test]
    fn harm_noise_and_the_wrong_direction_are_refused_in_this_order() {
        let mut round = combined(&[
            (10, 100_000, 90_000),
            (-100_001, 100_000, 90_000),
            (-100_000, 29_999, 3_999),
            (0, 30_000, 3_999),
            (0, -10_000, 90_000),
            (0, -9_999, 90_000),
        ]);
        assert_eq!(
            codes(&round),
            ["kept", "harmful", "noise", "kept", "off_course", "kept"]
        );
        round.validators = 2;
        assert_eq!(codes(&round)[5], "off_course");
        round.scores[0] = None;
        assert_eq!(codes(&round)[0], "not_evaluable");
    }

    #[test]
    fn pay_follows_the_value_up_to_a_cap() {
        assert_eq!(
            factors_of_values(&[100, 50, 900, -1]),
            [10_000, 5_000, 20_000, 0]
        );
        // The unit does not matter, however large, and a median of next to nothing is one, too.
        let huge = i64::MAX / 1_000;
        let scaled = [100 * huge, 50 * huge, 900 * huge, -huge];
        assert_eq!(factors_of_values(&scaled), [10_000, 5_000, 20_000, 0]);
        assert_eq!(
            factors_of_values(&[1, 3, i64::MIN + 1]),
            [10_000, 20_000, 0]
        );
        assert_eq!(factors_of_values(&[0, -5]), [0, 0]);
        // The refused are not among those of whom the median is.
        let round = combined(&[(0, 100, 9_000), (0, -20_000, 9_000), (0, 300, 9_000)]);
        let factor = |judgement| match judgement {
            Judgement::Keep { factor, .. } => Some(factor),
            Judgement::Refuse(_) => None,
        };
        let factors: Vec<_> = judge(&round).into_iter().map(factor).collect();
        assert_eq!(factors, [Some(10_000), None, Some(20_000)]);
        assert!(judge(&combined(&[])).is_empty());
        assert_eq!(judge(&combined(&[(i64::MIN + 1, i32::MIN, 0)])).len(), 1);
    }

    #[test]
    fn a_validators_factors_have_their_place_among_all_updates() {
        let candidates = [(1, 100_000), (2, -5_000), (3, 300_000)];
        let score = |(id, cosine_ppm): (u8, i32)| CandidateScore {
            trainer: Address([id; 20]),
            outcome: Outcome::Scored(Score {
                gain_micros: 0,
                cosine_ppm,
                relatedness_milli: 90_000,
                value_nanos: 1_000 * i64::from(cosine_ppm),
            }),
        };
        let sheet = ScoreSheet {
            task: TaskId(1),
            round: RoundId(1),
            base_loss_micros: 1_000_000,
            base_accuracy_ppm: 0,
            candidates: candidates.map(score).to_vec(),
        };
        let factors = factors(&sheet, &[4, 0, 2], 6);
        assert_eq!(factors, [0, 0, 20_000, 0, 10_000, 0]);
        assert_eq!(super::factors(&sheet, &[9, 9, 9], 2), [0, 0]);
    }

    #[test]
    fn vesting_pay_follows_what_is_left_of_the_improvement() {
        assert_eq!(release_bps_down(2_000, 1_000, 900), 10_000);
        assert_eq!(release_bps_down(2_000, 1_000, 1_100), 10_000);
        assert_eq!(release_bps_down(2_000, 1_000, 1_500), 5_000);
        assert_eq!(release_bps_down(2_000, 1_000, 9_000), 0);
        assert_eq!(release_bps_down(1_000, 2_000, 2_000), 10_000);
        assert_eq!(release_bps_down(1_000, 2_000, 3_000), 0);
        assert_eq!(release_bps_down(u64::MAX, 0, u64::MAX), 0);
        assert_eq!(release_bps_down(0, 0, 0), 10_000);
    }
}

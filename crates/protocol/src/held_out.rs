//! What held-out scores mean: who is refused for them, and with what factor the others are paid.
//!
//! The constants were measured on Fashion-MNIST, Dirichlet 0.5, 6 trainers of which one flips
//! signs and one sends Gaussian noise of honest length, ten rounds, 20 splits: every update of
//! both adversaries refused, and 1% of the honest ones, with three validators of 330 images each.

use crate::payout::FACTOR_ONE;
use crate::refusal::Refusal;
use crate::scores::{Combined, Score};

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

/// No factor exceeds this, so that one lucky measurement does not take the pool.
pub const FACTOR_MAX: u32 = 2 * FACTOR_ONE;

/// What becomes of one candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It goes into the average.
    Keep {
        /// Its combined score.
        score: Score,
        /// Its factor in the split, in units of [`FACTOR_ONE`].
        factor: u32,
    },
    /// It does not.
    Refuse(Refusal),
}

/// Judges the combined scores. The factor of those kept is their cosine, nothing if negative,
/// over the median of the positive ones.
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
    let kept = combined
        .scores
        .iter()
        .zip(&refusals)
        .filter(|(_, refusal)| refusal.is_none());
    let median = median_cosine(kept.filter_map(|(score, _)| *score));
    let judgements = combined
        .scores
        .iter()
        .zip(refusals)
        .map(|(score, refusal)| match (score, refusal) {
            (_, Some(refusal)) => Judgement::Refuse(refusal),
            (Some(score), None) => Judgement::Keep {
                score: *score,
                factor: factor(score.cosine_ppm, median),
            },
            (None, None) => Judgement::Refuse(Refusal::NotEvaluable),
        });
    judgements.collect()
}

fn refusal(score: &Score, combined: &Combined) -> Option<Refusal> {
    let Score {
        gain_micros,
        cosine_ppm,
        relatedness_milli,
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

fn factor(cosine_ppm: i32, median_ppm: i32) -> u32 {
    let scaled = i64::from(cosine_ppm) * i64::from(FACTOR_ONE) / i64::from(median_ppm.max(1));
    u32::try_from(scaled.clamp(0, i64::from(FACTOR_MAX))).unwrap_or(FACTOR_MAX)
}

/// The lower median of the positive cosines; 1 if there are none.
fn median_cosine(scores: impl Iterator<Item = Score>) -> i32 {
    let mut positive: Vec<i32> = scores
        .map(|score| score.cosine_ppm)
        .filter(|cosine| *cosine > 0)
        .collect();
    positive.sort_unstable();
    positive
        .get(positive.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn combined(scores: &[(i64, i32, u32)]) -> Combined {
        let score = |(gain_micros, cosine_ppm, relatedness_milli): &(i64, i32, u32)| {
            Some(Score {
                gain_micros: *gain_micros,
                cosine_ppm: *cosine_ppm,
                relatedness_milli: *relatedness_milli,
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
    fn pay_follows_the_cosine_up_to_a_cap() {
        let round = combined(&[
            (0, 100, 9_000),
            (0, 50, 9_000),
            (0, 900, 9_000),
            (0, -1, 9_000),
        ]);
        let factor = |judgement: &Judgement| match judgement {
            Judgement::Keep { factor, .. } => *factor,
            Judgement::Refuse(_) => u32::MAX,
        };
        let factors: Vec<_> = judge(&round).iter().map(factor).collect();
        assert_eq!(factors, [10_000, 5_000, 20_000, 0]);
        assert!(judge(&combined(&[])).is_empty());
        assert_eq!(judge(&combined(&[(i64::MIN + 1, i32::MIN, 0)])).len(), 1);
    }
}

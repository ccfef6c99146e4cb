//! What held-out scores mean: who is refused for them, and with what factor the others are paid.
//!
//! An update that does not go where held-out loss falls is of no use, however well it hides
//! among the others: noise of honest length, say. Noise in d dimensions has a cosine of about
//! 1/√d with anything, a flipped update a negative one.

use crate::payout::FACTOR_ONE;
use crate::refusal::Refusal;
use crate::scores::Score;

/// An update is refused if its cosine with the validators' reference steps is below this, in
/// millionths.
pub const LEAST_COSINE_PPM: i32 = 30_000;

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

/// Judges the combined scores; `None` is a submission that failed. The factor is the cosine
/// over the median cosine of those kept.
#[must_use]
pub fn judge(scores: &[Option<Score>]) -> Vec<Judgement> {
    let median = median_cosine(scores);
    scores
        .iter()
        .map(|score| match score {
            None => Judgement::Refuse(Refusal::NotEvaluable),
            Some(score) if score.cosine_ppm < LEAST_COSINE_PPM => {
                Judgement::Refuse(Refusal::OffCourse {
                    cosine_ppm: score.cosine_ppm,
                    least_ppm: LEAST_COSINE_PPM,
                    gain_micros: score.gain_micros,
                })
            }
            Some(score) => Judgement::Keep {
                score: *score,
                factor: factor(score.cosine_ppm, median),
            },
        })
        .collect()
}

fn factor(cosine_ppm: i32, median_ppm: i32) -> u32 {
    let scaled =
        i64::from(cosine_ppm) * i64::from(FACTOR_ONE) / i64::from(median_ppm.max(LEAST_COSINE_PPM));
    u32::try_from(scaled.clamp(0, i64::from(FACTOR_MAX))).unwrap_or(FACTOR_MAX)
}

/// The lower median of the cosines that pass.
fn median_cosine(scores: &[Option<Score>]) -> i32 {
    let mut passing: Vec<i32> = scores
        .iter()
        .flatten()
        .map(|score| score.cosine_ppm)
        .filter(|cosine| *cosine >= LEAST_COSINE_PPM)
        .collect();
    passing.sort_unstable();
    passing
        .get(passing.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(LEAST_COSINE_PPM)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(cosine_ppm: i32) -> Option<Score> {
        Some(Score {
            gain_micros: 5,
            cosine_ppm,
        })
    }

    #[test]
    fn noise_and_harm_are_refused_and_pay_follows_the_cosine() {
        let scores = [
            score(100_000),
            score(200_000),
            score(120_000),
            score(9_000),
            score(-70_000),
            None,
        ];
        let judgements = judge(&scores);
        let kept = |j: &Judgement| match j {
            Judgement::Keep { factor, .. } => Some(*factor),
            Judgement::Refuse(_) => None,
        };
        let factors: Vec<_> = judgements.iter().map(kept).collect();
        assert_eq!(
            factors,
            [Some(8_333), Some(16_666), Some(10_000), None, None, None]
        );
        assert_eq!(judgements[5], Judgement::Refuse(Refusal::NotEvaluable));
    }

    #[test]
    fn no_factor_exceeds_the_cap_and_nobody_left_is_no_panic() {
        let judgements = judge(&[score(40_000), score(1_000_000), score(i32::MAX)]);
        assert!(
            judgements
                .iter()
                .all(|j| matches!(j, Judgement::Keep { factor, .. } if *factor <= FACTOR_MAX))
        );
        assert!(matches!(judge(&[score(i32::MIN)])[0], Judgement::Refuse(_)));
        assert!(judge(&[]).is_empty());
    }
}

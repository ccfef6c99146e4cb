//! What held-out gains mean: who is refused for them, and with what factor the others are paid.
//!
//! An update with no gain on data that no trainer holds is of no use, however well it hides in
//! the filter: noise of honest length, say. The bar is a share of the median gain, so that it
//! falls with the gains themselves as training converges.

use crate::payout::FACTOR_ONE;
use crate::refusal::Refusal;

/// An update is refused below this share of the median gain, in thousandths.
pub const LEAST_GAIN_MILLI: i64 = 200;

/// No factor exceeds this, so that one lucky measurement does not take the pool.
pub const FACTOR_MAX: u32 = 2 * FACTOR_ONE;

/// What becomes of one candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It goes into the average.
    Keep {
        /// Its combined gain, millionths of a nat.
        gain_micros: i64,
        /// Its factor in the split, in units of [`FACTOR_ONE`].
        factor: u32,
    },
    /// It does not.
    Refuse(Refusal),
}

/// Judges the combined gains, in millionths of a nat; `None` is a submission that failed.
#[must_use]
pub fn judge(gains: &[Option<i64>]) -> Vec<Judgement> {
    let median = lower_median(gains);
    let least = i64::try_from(i128::from(median.max(0)) * i128::from(LEAST_GAIN_MILLI) / 1_000)
        .unwrap_or(i64::MAX);
    gains
        .iter()
        .map(|gain| match gain {
            None => Judgement::Refuse(Refusal::NotEvaluable),
            Some(gain) if *gain < least || (median > 0 && *gain <= 0) => {
                Judgement::Refuse(Refusal::NoGain {
                    gain_micros: *gain,
                    least_micros: least.max(1),
                })
            }
            Some(gain) => Judgement::Keep {
                gain_micros: *gain,
                factor: factor(*gain, median),
            },
        })
        .collect()
}

fn factor(gain: i64, median: i64) -> u32 {
    if median <= 0 {
        return FACTOR_ONE;
    }
    let scaled = i128::from(gain.max(0)) * i128::from(FACTOR_ONE) / i128::from(median);
    u32::try_from(scaled.min(i128::from(FACTOR_MAX))).unwrap_or(FACTOR_MAX)
}

fn lower_median(gains: &[Option<i64>]) -> i64 {
    let mut known: Vec<i64> = gains.iter().flatten().copied().collect();
    known.sort_unstable();
    known
        .get(known.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(judgement: &Judgement) -> bool {
        matches!(judgement, Judgement::Keep { .. })
    }

    #[test]
    fn noise_and_harm_are_refused_and_pay_follows_gain() {
        let judgements = judge(&[
            Some(1_000),
            Some(2_000),
            Some(1_200),
            Some(90),
            Some(-700),
            None,
        ]);
        let verdicts: Vec<bool> = judgements.iter().map(kept).collect();
        assert_eq!(verdicts, [true, true, true, false, false, false]);
        assert_eq!(
            judgements[1],
            Judgement::Keep {
                gain_micros: 2_000,
                factor: 20_000
            }
        );
        assert_eq!(
            judgements[0],
            Judgement::Keep {
                gain_micros: 1_000,
                factor: 10_000
            }
        );
    }
}

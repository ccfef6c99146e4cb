//! The split of a pool.

use crate::error::ProofError;

/// The split of a pool, by slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// ⌊pool × wᵢ / W⌋
    pub payouts: Vec<u128>,
    /// What the divisions leave, 0 ≤ remainderᵢ < W.
    pub remainders: Vec<u64>,
    /// W = Σ scoreᵢ × factorᵢ
    pub weight: u64,
}

impl Split {
    /// Splits `pool` by score × factor, rounding down.
    ///
    /// # Errors
    /// [`ProofError::NothingToPay`] if nobody has weight.
    pub fn down(pool: u128, scores: &[u64], factors: &[u16]) -> Result<Self, ProofError> {
        let pairs = scores.iter().zip(factors);
        let weights: Vec<u64> = pairs.map(|(s, f)| s * u64::from(*f)).collect();
        let weight: u64 = weights.iter().sum();
        if weight == 0 {
            return Err(ProofError::NothingToPay);
        }
        let (payouts, remainders) = weights
            .iter()
            .map(|part| mul_div_rem(pool, *part, weight))
            .unzip();
        Ok(Self {
            payouts,
            remainders,
            weight,
        })
    }

    /// What rounding leaves of the pool; less than the number of trainers.
    #[must_use]
    pub fn dust(&self, pool: u128) -> u128 {
        pool - self.payouts.iter().sum::<u128>()
    }
}

/// Quotient and remainder of a × b / c with b ≤ c, so that the quotient fits.
fn mul_div_rem(a: u128, b: u64, c: u64) -> (u128, u64) {
    let (b, c) = (u128::from(b), u128::from(c));
    // a = h c + l: a b / c = h b + l b / c, and l b < c² fits.
    let (high, low) = (a / c, a % c);
    let rest = low * b;
    (high * b + rest / c, (rest % c) as u64)
}

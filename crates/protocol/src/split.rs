//! How a round's pool becomes payouts: the trainers' share goes by score or by rank, in integers
//! that a circuit and other clients reproduce.

use ruint::aliases::U256;
use serde::{Deserialize, Serialize};

use crate::ids::{Address, Amount};
use crate::task::BPS;

/// What a trainer contributed to a round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contribution {
    /// The trainer.
    pub trainer: Address,
    /// max(0, ⟨sᵢ, S⟩) with S = Σ kept s over the sketches: the Shapley value of the game
    /// v(C) = |Σ_{i∈C} sᵢ|², so the scores add up to the energy |S|² of the step.
    pub alignment: u64,
    /// The validators' combined factor, in units of [`crate::factors::FACTOR_ONE`].
    pub factor: u16,
}

impl Contribution {
    /// Alignment × factor; below 2^80.
    #[must_use]
    pub fn score(&self) -> u128 {
        u128::from(self.alignment) * u128::from(self.factor)
    }
}

/// How the trainers' share of a round's pool is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitKind {
    /// In proportion to the scores.
    Score,
    /// `q^rank`, best score first.
    Rank,
}

/// The weight of the best of a round in a split by rank.
pub const RANK_ONE: u64 = 1_000_000_000_000_000_000;

/// The rank split's weights of the best, the second, and so on: `w₀ =` [`RANK_ONE`],
/// `wᵣ₊₁ = ⌊wᵣ q / 10⁴⌋`, with `q` in basis points, 1 to 10,000. Each step rounds down before the
/// next begins.
pub fn rank_weights(decay_bps: u16) -> impl Iterator<Item = u64> {
    let next = move |weight: &u64| {
        let product = u128::from(*weight) * u128::from(decay_bps.min(BPS));
        u64::try_from(product / u128::from(BPS)).ok()
    };
    std::iter::successors(Some(RANK_ONE), next)
}

/// Splits `share` among contributions, which are in the order of their commitments: each gets
/// `⌊share × weight / Σ weights⌋`. The weights are the scores, or those of [`rank_weights`] with
/// the best score first and ties in favour of the earlier commitment; a score of nothing has
/// no rank and no weight. What rounding leaves stays in escrow.
///
/// Payouts of nothing are left out; the order is that of the contributions.
#[must_use]
pub fn split_down(
    share: Amount,
    kind: SplitKind,
    decay_bps: u16,
    contributions: &[Contribution],
) -> Vec<(Address, Amount)> {
    let scores: Vec<u128> = contributions.iter().map(Contribution::score).collect();
    let weights = match kind {
        SplitKind::Score => scores,
        SplitKind::Rank => weights_by_rank(&scores, decay_bps),
    };
    let total = weights
        .iter()
        .fold(U256::ZERO, |sum, weight| sum + U256::from(*weight));
    let payout = |(contribution, weight): (&Contribution, u128)| {
        (contribution.trainer, share_down(share, weight, total))
    };
    contributions
        .iter()
        .zip(weights)
        .map(payout)
        .filter(|(_, amount)| *amount > Amount::ZERO)
        .collect()
}

fn weights_by_rank(scores: &[u128], decay_bps: u16) -> Vec<u128> {
    let mut ranked: Vec<usize> = (0..scores.len()).filter(|i| scores[*i] > 0).collect();
    // Stable: of equal scores the earlier commitment stays first.
    ranked.sort_by_key(|index| std::cmp::Reverse(scores[*index]));
    let mut weights = vec![0; scores.len()];
    for (index, weight) in ranked.into_iter().zip(rank_weights(decay_bps)) {
        weights[index] = u128::from(weight);
    }
    weights
}

/// ⌊share × weight / total⌋; nothing if nobody has weight. 128 + 80 bits fit in 256.
fn share_down(share: Amount, weight: u128, total: U256) -> Amount {
    if total.is_zero() {
        return Amount::ZERO;
    }
    let value = U256::from(share.0) * U256::from(weight) / total;
    Amount(u128::try_from(value).unwrap_or(u128::MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contribution(id: u8, alignment: u64, factor: u16) -> Contribution {
        Contribution {
            trainer: Address([id; 20]),
            alignment,
            factor,
        }
    }

    fn amounts(payouts: &[(Address, Amount)]) -> Vec<(u8, u128)> {
        let plain = |(account, amount): &(Address, Amount)| (account.0[0], amount.0);
        payouts.iter().map(plain).collect()
    }

    #[test]
    fn pay_follows_alignment_times_factor() {
        let round = [
            contribution(1, 10, 100),
            contribution(2, 10, 300),
            contribution(3, 10, 0),
        ];
        let payouts = split_down(Amount(700), SplitKind::Score, 1, &round);
        assert_eq!(amounts(&payouts), [(1, 175), (2, 525)]);
        assert!(split_down(Amount(700), SplitKind::Score, 1, &round[2..]).is_empty());
    }

    #[test]
    fn ranks_halve_and_ties_go_to_the_earlier() {
        let round = [
            contribution(1, 5, 1),
            contribution(2, 0, 9),
            contribution(3, 7, 1),
            contribution(4, 5, 1),
        ];
        let payouts = split_down(Amount(700), SplitKind::Rank, 5_000, &round);
        assert_eq!(amounts(&payouts), [(1, 200), (3, 400), (4, 100)]);
        let equal = split_down(Amount(700), SplitKind::Rank, BPS, &round);
        assert_eq!(amounts(&equal), [(1, 233), (3, 233), (4, 233)]);
    }

    #[test]
    fn the_fixed_point_is_this() {
        let weights: Vec<_> = rank_weights(3_333).take(4).collect();
        let expected = [
            1_000_000_000_000_000_000,
            333_300_000_000_000_000,
            111_088_890_000_000_000,
            37_025_927_037_000_000,
        ];
        assert_eq!(weights, expected);
        assert_eq!(rank_weights(1).nth(5), Some(0));
    }

    /// The same in the order of the sentences that define it, without sorting.
    fn split_slowly(
        share: u128,
        decay_bps: Option<u16>,
        round: &[Contribution],
    ) -> Vec<(u8, u128)> {
        let score = |c: &Contribution| u128::from(c.alignment) * u128::from(c.factor);
        let weight = |index: usize| {
            let mine = score(&round[index]);
            let Some(decay_bps) = decay_bps else {
                return mine;
            };
            if mine == 0 {
                return 0;
            }
            let better = |(other, c): &(usize, &Contribution)| {
                score(c) > mine || (score(c) == mine && *other < index)
            };
            let rank = round.iter().enumerate().filter(better).count();
            (0..rank).fold(u128::from(RANK_ONE), |w, _| {
                w * u128::from(decay_bps) / 10_000
            })
        };
        let total: u128 = (0..round.len()).map(weight).sum();
        (0..round.len())
            .filter(|_| total > 0)
            .map(|index| (round[index].trainer.0[0], share * weight(index) / total))
            .filter(|(_, amount)| *amount > 0)
            .collect()
    }

    proptest! {
        #[test]
        fn never_more_than_the_share(
            share in any::<u128>(),
            rank in any::<bool>(),
            decay_bps in 1..=BPS,
            round in prop::collection::vec((any::<u64>(), any::<u16>()), 0..40),
        ) {
            let round: Vec<_> = round.iter().enumerate()
                .map(|(i, (a, f))| contribution(u8::try_from(i).unwrap(), *a, *f)).collect();
            let kind = if rank { SplitKind::Rank } else { SplitKind::Score };
            let payouts = split_down(Amount(share), kind, decay_bps, &round);
            let total = payouts.iter().try_fold(0u128, |sum, (_, a)| sum.checked_add(a.0));
            prop_assert!(total.is_some_and(|total| total <= share));
        }

        #[test]
        fn the_split_is_that_of_its_definition(
            share in 0u128..1 << 60,
            rank in any::<bool>(),
            decay_bps in 1..=BPS,
            round in prop::collection::vec((0u64..6, 0u16..4), 0..12),
        ) {
            let round: Vec<_> = round.iter().enumerate()
                .map(|(i, (a, f))| contribution(u8::try_from(i).unwrap(), *a, *f)).collect();
            let kind = if rank { SplitKind::Rank } else { SplitKind::Score };
            let payouts = split_down(Amount(share), kind, decay_bps, &round);
            let slowly = split_slowly(share, rank.then_some(decay_bps), &round);
            prop_assert_eq!(amounts(&payouts), slowly);
        }
    }
}

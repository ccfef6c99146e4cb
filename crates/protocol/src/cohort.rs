//! Cohort selection: a seeded, stake-weighted draw without replacement that anyone can repeat.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::ids::{Address, Amount, Digest};

/// Draws at most `count` of the candidates, each next one with a chance proportional to its
/// stake among those left. Candidates without stake come last, in the order of their addresses.
///
/// The result depends on the seed and on the set of candidates, not on their order; it is
/// returned in the order drawn. O(n · count).
#[must_use]
pub fn draw(seed: &Digest, candidates: &[(Address, Amount)], count: usize) -> Vec<Address> {
    let mut left = candidates.to_vec();
    left.sort_unstable();
    left.dedup_by_key(|(address, _)| *address);
    let mut rng = ChaCha20Rng::from_seed(seed.0);
    let mut drawn = Vec::with_capacity(count.min(left.len()));
    while drawn.len() < count && !left.is_empty() {
        // Stakes are bounded by the token's supply; saturation only evens out absurd ones.
        let total: Amount = left.iter().map(|(_, stake)| *stake).sum();
        let index = if total == Amount::ZERO {
            0
        } else {
            pick(&left, rng.random_range(0..total.0))
        };
        drawn.push(left.remove(index).0);
    }
    drawn
}

fn pick(left: &[(Address, Amount)], mut ticket: u128) -> usize {
    for (index, (_, stake)) in left.iter().enumerate() {
        if ticket < stake.0 {
            return index;
        }
        ticket -= stake.0;
    }
    left.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(stakes: &[u128]) -> Vec<(Address, Amount)> {
        (0u8..)
            .zip(stakes)
            .map(|(id, stake)| (Address([id; 20]), Amount(*stake)))
            .collect()
    }

    fn seed(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    #[test]
    fn the_same_seed_draws_the_same_cohort_whatever_the_order() {
        let mut list = candidates(&[1, 2, 3, 4, 5]);
        let first = draw(&seed(1), &list, 3);
        list.reverse();
        assert_eq!(draw(&seed(1), &list, 3), first);
        assert_eq!(first.len(), 3);
    }

    #[test]
    fn chances_follow_stake() {
        let list = candidates(&[1, 3]);
        let wins = (0..=255)
            .filter(|s| draw(&seed(*s), &list, 1)[0] == list[1].0)
            .count();
        assert!(
            (170..=215).contains(&wins),
            "{wins} of 256, expected about 192"
        );
    }

    #[test]
    fn no_stake_and_too_few_candidates_are_fine() {
        assert_eq!(draw(&seed(1), &candidates(&[0, 0]), 5).len(), 2);
        assert_eq!(draw(&seed(1), &candidates(&[0, 7]), 1), [Address([1; 20])]);
        assert!(draw(&seed(1), &[], 3).is_empty());
        let absurd = candidates(&[u128::MAX, u128::MAX]);
        assert_eq!(draw(&seed(1), &absurd, 2).len(), 2);
    }
}

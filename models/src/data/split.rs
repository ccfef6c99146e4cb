//! Splitting a labelled set between parties.
//!
//! Label skew follows Hsu, Qi, Brown 2019 (arXiv:1909.06335) as made practical by Li et al. 2022
//! (arXiv:2102.02079): for each class, shares p ~ Dirichlet(alpha, .., alpha) over the parties; a
//! party that already holds its even part of all examples takes no more.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, Gamma};

use crate::error::ModelError;

/// Most parties of a split.
pub const PARTIES_MAX: usize = 4096;

/// How to split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SplitConfig {
    /// Number of parties, 1 to [`PARTIES_MAX`].
    pub parties: usize,
    /// Concentration of the labels, above 0: 0.1 gives each party few classes, 0.5 is the usual
    /// choice, [`f64::INFINITY`] ignores labels (independent and identically distributed).
    pub alpha: f64,
    /// Fewest examples of a party.
    pub examples_min: usize,
    /// Seed: the same seed gives the same split on every machine.
    pub seed: u64,
}

/// Splits examples between parties; returns each party's indices, ascending. Every example goes
/// to exactly one party.
///
/// # Errors
/// [`ModelError::Split`] if a setting is out of range or there are fewer than
/// `parties * examples_min` examples.
pub fn split(labels: &[u8], config: &SplitConfig) -> Result<Vec<Vec<usize>>, ModelError> {
    check(labels, config)?;
    let mut rng = ChaCha20Rng::seed_from_u64(config.seed);
    let mut shares = if config.alpha.is_infinite() {
        shuffled_even(labels.len(), config.parties, &mut rng)
    } else {
        by_label(labels, config, &mut rng)
    };
    top_up(&mut shares, config.examples_min);
    for share in &mut shares {
        share.sort_unstable();
    }
    Ok(shares)
}

/// Splits `len` examples into `parties` runs of neighbours whose lengths differ by at most one.
pub fn split_even(len: usize, parties: usize) -> Vec<Vec<usize>> {
    (0..parties)
        .map(|party| (len * party / parties..len * (party + 1) / parties).collect())
        .collect()
}

fn check(labels: &[u8], config: &SplitConfig) -> Result<(), ModelError> {
    if !(1..=PARTIES_MAX).contains(&config.parties) {
        return Err(ModelError::Split(format!(
            "{} parties, 1 to {PARTIES_MAX} are allowed",
            config.parties
        )));
    }
    if config.alpha.is_nan() || config.alpha <= 0.0 {
        return Err(ModelError::Split(format!(
            "alpha is {}, it must be above 0",
            config.alpha
        )));
    }
    if config.examples_min > labels.len() / config.parties {
        return Err(ModelError::Split(format!(
            "{} examples are too few for {} parties with at least {} each",
            labels.len(),
            config.parties,
            config.examples_min
        )));
    }
    Ok(())
}

fn shuffled_even(len: usize, parties: usize, rng: &mut impl Rng) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..len).collect();
    order.shuffle(rng);
    split_even(len, parties)
        .into_iter()
        .map(|run| run.into_iter().map(|position| order[position]).collect())
        .collect()
}

fn by_label(labels: &[u8], config: &SplitConfig, rng: &mut impl Rng) -> Vec<Vec<usize>> {
    let even = labels.len().div_ceil(config.parties);
    let mut shares = vec![Vec::new(); config.parties];
    let classes = labels.iter().max().map_or(0, |&max| usize::from(max) + 1);
    for class in 0..classes {
        let mut members: Vec<usize> = (0..labels.len())
            .filter(|&index| usize::from(labels[index]) == class)
            .collect();
        members.shuffle(rng);
        let mut weights = dirichlet(config.alpha, config.parties, rng);
        for (weight, share) in weights.iter_mut().zip(&shares) {
            if share.len() >= even {
                *weight = 0.0;
            }
        }
        for (share, range) in shares.iter_mut().zip(cuts(&weights, members.len())) {
            share.extend_from_slice(&members[range]);
        }
    }
    shares
}

/// One draw from Dirichlet(alpha, .., alpha), by normalized Gamma variables.
fn dirichlet(alpha: f64, parties: usize, rng: &mut impl Rng) -> Vec<f64> {
    // Below this, every Gamma variable underflows to zero; the result is one party either way.
    let alpha = alpha.max(1e-3);
    let gamma = Gamma::new(alpha, 1.0).expect("a shape of at least 1e-3 is valid");
    let mut draws: Vec<f64> = (0..parties).map(|_| gamma.sample(rng)).collect();
    if draws.iter().sum::<f64>() <= f64::MIN_POSITIVE {
        draws[rng.random_range(0..parties)] = 1.0;
    }
    draws
}

/// Cuts `0..len` into one range per weight, in proportion; all of it is covered.
fn cuts(weights: &[f64], len: usize) -> Vec<std::ops::Range<usize>> {
    let total: f64 = weights.iter().sum();
    let equal = total <= f64::MIN_POSITIVE;
    let mut start = 0;
    let mut sum = 0.0;
    let mut ranges = Vec::with_capacity(weights.len());
    for (index, weight) in weights.iter().enumerate() {
        sum += if equal {
            1.0 / weights.len() as f64
        } else {
            weight / total
        };
        let end = if index + 1 == weights.len() {
            len
        } else {
            ((sum * len as f64).round() as usize).clamp(start, len)
        };
        ranges.push(start..end);
        start = end;
    }
    ranges
}

/// Moves examples from the largest share to any that is too small.
fn top_up(shares: &mut [Vec<usize>], examples_min: usize) {
    for poor in 0..shares.len() {
        while shares[poor].len() < examples_min {
            let rich = (0..shares.len())
                .max_by_key(|&index| shares[index].len())
                .expect("there is at least one party");
            let example = shares[rich].pop().expect("the largest share is not empty");
            shares[poor].push(example);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(count: usize) -> Vec<u8> {
        (0..count).map(|index| (index * 7 % 10) as u8).collect()
    }

    fn config(parties: usize, alpha: f64, seed: u64) -> SplitConfig {
        SplitConfig {
            parties,
            alpha,
            examples_min: 5,
            seed,
        }
    }

    /// Mean over parties of the share of the most frequent class.
    fn skew(labels: &[u8], shares: &[Vec<usize>]) -> f64 {
        let of = |share: &Vec<usize>| {
            let mut counts = [0usize; 10];
            for &index in share {
                counts[usize::from(labels[index])] += 1;
            }
            *counts.iter().max().unwrap() as f64 / share.len() as f64
        };
        shares.iter().map(of).sum::<f64>() / shares.len() as f64
    }

    #[test]
    fn skew_grows_as_alpha_shrinks() {
        let labels = labels(4000);
        let mean = |alpha: f64| {
            let total: f64 = (0..8)
                .map(|seed| skew(&labels, &split(&labels, &config(8, alpha, seed)).unwrap()))
                .sum();
            total / 8.0
        };
        let skews: Vec<f64> = [f64::INFINITY, 10.0, 0.5, 0.05].map(mean).into();
        assert!(skews.windows(2).all(|pair| pair[0] < pair[1]), "{skews:?}");
        assert!(skews[0] < 0.14, "{skews:?}");
    }

    #[test]
    fn the_seed_decides() {
        let labels = labels(500);
        let shares = |seed| split(&labels, &config(6, 0.5, seed)).unwrap();
        assert_eq!(shares(7), shares(7));
        assert_ne!(shares(7), shares(8));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for config in [
            config(0, 0.5, 1),
            config(PARTIES_MAX + 1, 0.5, 1),
            config(3, 0.0, 1),
            config(3, -1.0, 1),
            config(3, f64::NAN, 1),
            config(21, 0.5, 1),
        ] {
            assert!(split(&labels(100), &config).is_err(), "{config:?}");
        }
    }

    #[test]
    fn even_runs_differ_by_at_most_one() {
        assert_eq!(split_even(5, 2), [vec![0, 1], vec![2, 3, 4]]);
        assert_eq!(split_even(1, 2), [vec![], vec![0]]);
    }

    proptest! {
        #[test]
        fn every_example_is_used_once_and_nobody_starves(
            parties in 1usize..12,
            alpha in prop_oneof![Just(f64::INFINITY), 1e-9..100.0],
            seed in any::<u64>(),
            count in 60usize..300,
        ) {
            let shares = split(&labels(count), &config(parties, alpha, seed)).unwrap();
            prop_assert_eq!(shares.len(), parties);
            prop_assert!(shares.iter().all(|share| share.len() >= 5));
            let mut all: Vec<usize> = shares.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }
}

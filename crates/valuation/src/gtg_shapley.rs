//! Guided truncation gradient Shapley values (Liu et al. 2022, "GTG-Shapley: efficient and
//! accurate participant contribution evaluation in federated learning", arXiv:2109.02053).
//!
//! What makes it of "gradients" is that a coalition's model is put together from the updates that
//! are there, instead of being trained: that is the utility's business, and true of every method
//! of this crate.

use rand::seq::SliceRandom as _;

use crate::error::ValuationError;
use crate::game::{Game, Utility};
use crate::sampling::{Sampled, Sampler, Sampling, SamplingEnd};

/// As [`tmc_shapley`](crate::tmc_shapley()), with two changes.
///
/// - *Between-round truncation*: with |v(N) − v(∅)| at most `round_tolerance`, in units of the
///   utility, nothing is sampled and everybody gets the same part of it. (The paper gives nobody
///   anything. In money that would leave a round unpaid in which everybody worked.) It is meant
///   for what cannot be told from rounding; 0 truncates only rounds that changed nothing at all.
/// - *Guided orders*: in every N orders each player comes first exactly once, since the first
///   places hold the largest and most varied marginal contributions; the others follow at random.
///
/// # Errors
/// As [`tmc_shapley`](crate::tmc_shapley()).
pub fn gtg_shapley<U: Utility>(
    game: &mut Game<U>,
    settings: &Sampling,
    round_tolerance: f64,
) -> Result<Sampled, ValuationError<U::Error>> {
    let players: Vec<usize> = (0..game.players()).collect();
    let mut leaders = players.clone();
    let mut order = players.clone();
    let mut rng = settings.rng();
    let mut sampler = Sampler::new(game, settings)?;
    if sampler.whole().abs() <= round_tolerance {
        return Ok(sampler.divide_evenly());
    }
    let end = 'sampling: loop {
        if let Some(end) = sampler.settled() {
            break end;
        }
        // In a random order of their own, so that nobody is favoured if there is no full turn.
        leaders.shuffle(&mut rng);
        for leader in &leaders {
            order.copy_from_slice(&players);
            order.swap(0, *leader);
            order[1..].shuffle(&mut rng);
            if !sampler.follow(&order)? {
                break 'sampling SamplingEnd::Exhausted;
            }
        }
    };
    sampler.finish(end)
}

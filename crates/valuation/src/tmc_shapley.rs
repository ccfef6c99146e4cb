//! Truncated Monte-Carlo Shapley values (Ghorbani and Zou 2019, "Data Shapley",
//! arXiv:1904.02868, algorithm 1).

use rand::seq::SliceRandom as _;

use crate::error::ValuationError;
use crate::game::{Game, Utility};
use crate::sampling::{Sampled, Sampler, Sampling, SamplingEnd};

/// Averages marginal contributions v(C ∪ {i}) − v(C) along random orders of the players, C being
/// those before i, until the values are known well enough or the allowed evaluations are used up.
/// An order is cut short once its value is near that of all players: see [`Sampling::tolerance`].
/// Of few players every coalition is soon known, and the values are then the exact ones.
///
/// Costs at most N − 1 evaluations an order besides v(∅) and v(N), in practice fewer, since
/// coalitions come again. With N + 1 evaluations allowed there is at least one order.
///
/// # Errors
/// [`ValuationError::Exhausted`] if not a single order could be followed; else as [`Game::value`].
pub fn tmc_shapley<U: Utility>(
    game: &mut Game<U>,
    settings: &Sampling,
) -> Result<Sampled, ValuationError<U::Error>> {
    let mut order: Vec<usize> = (0..game.players()).collect();
    let mut rng = settings.rng();
    let mut sampler = Sampler::new(game, settings)?;
    let end = loop {
        if let Some(end) = sampler.settled() {
            break end;
        }
        order.shuffle(&mut rng);
        if !sampler.follow(&order)? {
            break SamplingEnd::Exhausted;
        }
    };
    sampler.finish(end)
}

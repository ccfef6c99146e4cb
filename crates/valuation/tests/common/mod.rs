//! Games for tests.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::convert::Infallible;

use convoke_valuation::{
    Game, Sampled, Sampling, ValuationError, exact_shapley, gain, gtg_shapley, leave_one_out,
    tmc_shapley,
};

/// A utility of whatever kind.
pub type AnyUtility<'a> = Box<dyn FnMut(&[usize]) -> Result<f64, Infallible> + 'a>;

/// A method that samples.
pub type Sampler =
    fn(&mut Game<AnyUtility<'_>>, &Sampling) -> Result<Sampled, ValuationError<Infallible>>;

/// Any method.
pub type Method =
    fn(&mut Game<AnyUtility<'_>>, &Sampling) -> Result<Vec<f64>, ValuationError<Infallible>>;

/// Those that sample; GTG without between-round truncation.
pub const SAMPLED: [Sampler; 2] = [
    |game, settings| tmc_shapley(game, settings),
    |game, settings| gtg_shapley(game, settings, 0.0),
];

/// All methods that ask a utility.
pub const ALL: [Method; 5] = [
    |game, _| gain(game),
    |game, _| leave_one_out(game),
    |game, _| exact_shapley(game),
    |game, settings| Ok(SAMPLED[0](game, settings)?.values),
    |game, settings| Ok(SAMPLED[1](game, settings)?.values),
];

/// A game in which as many coalitions as there are may be evaluated.
pub fn game<'a>(utility: impl Fn(&[usize]) -> f64 + 'a, players: usize) -> Game<AnyUtility<'a>> {
    bounded(utility, players, u32::MAX)
}

/// A game in which `evaluations_max` coalitions may be evaluated.
pub fn bounded<'a>(
    utility: impl Fn(&[usize]) -> f64 + 'a,
    players: usize,
    evaluations_max: u32,
) -> Game<AnyUtility<'a>> {
    let utility: AnyUtility<'a> = Box::new(move |players| Ok(utility(players)));
    Game::new(utility, players, evaluations_max).unwrap()
}

pub fn exact(utility: impl Fn(&[usize]) -> f64, players: usize) -> Vec<f64> {
    exact_shapley(&mut game(utility, players)).unwrap()
}

/// Orders without truncation, just so many.
pub fn orders(permutations_max: u32, seed: u8) -> Sampling {
    Sampling {
        seed: [seed; 32],
        tolerance: 0.0,
        error_max: 0.0,
        permutations_max,
    }
}

#[track_caller]
pub fn assert_near(found: &[f64], expected: &[f64], error_max: f64) {
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= error_max;
    let all = found.len() == expected.len() && found.iter().zip(expected).all(near);
    assert!(all, "{found:?} is not near {expected:?}");
}

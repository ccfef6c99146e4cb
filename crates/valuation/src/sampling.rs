//! What the sampled Shapley values share: orders of the players, marginal contributions along
//! them, and when there are enough.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use crate::coalition::Coalition;
use crate::error::ValuationError;
use crate::exact::exact_shapley;
use crate::game::{Game, Utility};

/// Fewest orders of the players before an error is believed.
const PERMUTATIONS_MIN: u32 = 30;

/// How Shapley values are sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Seed of the orders; the same seed gives the same ones on every machine.
    pub seed: [u8; 32],
    /// An order is followed until its value differs from that of all players by less than this
    /// share of |v(N) − v(∅)|; the players after that count as adding nothing. From 0, for never,
    /// to below 1. A share and no number, so that a round of small progress is valued as any.
    pub tolerance: f64,
    /// Sampling stops when the mean standard error of the values is at most this share of their
    /// mean size. From 0, for only when there is none.
    pub error_max: f64,
    /// At most so many orders: those whose coalitions are all known cost no evaluation.
    pub permutations_max: u32,
}

impl Sampling {
    /// Tolerance 1%, error 10%, at most 10,000 orders.
    #[must_use]
    pub fn seeded(seed: [u8; 32]) -> Self {
        Self {
            seed,
            tolerance: 0.01,
            error_max: 0.1,
            permutations_max: 10_000,
        }
    }

    pub(crate) fn rng(&self) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.seed)
    }
}

/// Sampled Shapley values.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// Of each player, in the unit of the utility.
    pub values: Vec<f64>,
    /// Orders of the players that were followed.
    pub permutations: u32,
    /// Why there were no more.
    pub end: SamplingEnd,
}

/// Why sampling ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplingEnd {
    /// The values were known well enough.
    Converged,
    /// Every coalition was known, so the values are the exact ones.
    Complete,
    /// No more evaluations, or no more orders, were allowed.
    Exhausted,
    /// Everybody together achieved too little to be divided by measurement.
    NothingToDivide,
}

/// Marginal contributions along orders of the players, and what they average to.
pub(crate) struct Sampler<'a, U> {
    game: &'a mut Game<U>,
    settings: &'a Sampling,
    empty: f64,
    all: f64,
    mean: Vec<f64>,
    /// Sums of squared differences from the mean (Welford 1962).
    spread: Vec<f64>,
    permutations: u32,
}

impl<'a, U: Utility> Sampler<'a, U> {
    pub(crate) fn new(
        game: &'a mut Game<U>,
        settings: &'a Sampling,
    ) -> Result<Self, ValuationError<U::Error>> {
        let (empty, all) = game.ends()?;
        let players = game.players();
        Ok(Self {
            game,
            settings,
            empty,
            all,
            mean: vec![0.0; players],
            spread: vec![0.0; players],
            permutations: 0,
        })
    }

    /// v(N) − v(∅).
    pub(crate) fn whole(&self) -> f64 {
        self.all - self.empty
    }

    /// Follows one order of all players. Whether it could: one that the allowed evaluations do not
    /// suffice for does not count, not even in part, since that would favour those who come first.
    pub(crate) fn follow(&mut self, order: &[usize]) -> Result<bool, ValuationError<U::Error>> {
        if self.permutations == self.settings.permutations_max {
            return Ok(false);
        }
        match self.marginals(order) {
            Ok(marginals) => self.add(&marginals),
            Err(ValuationError::Exhausted { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn marginals(&mut self, order: &[usize]) -> Result<Vec<f64>, ValuationError<U::Error>> {
        let tolerance = self.settings.tolerance * self.whole().abs();
        let mut marginals = vec![0.0; order.len()];
        let (mut coalition, mut before) = (Coalition::EMPTY, self.empty);
        for player in order {
            if (self.all - before).abs() < tolerance {
                break;
            }
            coalition = coalition.with(*player);
            let after = self.game.value(coalition)?;
            marginals[*player] = after - before;
            before = after;
        }
        Ok(marginals)
    }

    fn add(&mut self, marginals: &[f64]) {
        self.permutations += 1;
        let count = f64::from(self.permutations);
        let values = self.mean.iter_mut().zip(&mut self.spread);
        for ((mean, spread), marginal) in values.zip(marginals) {
            let off = marginal - *mean;
            *mean += off / count;
            *spread += off * (marginal - *mean);
        }
    }

    /// Whether enough orders have been followed, and why.
    pub(crate) fn settled(&self) -> Option<SamplingEnd> {
        if self.game.is_known() {
            return Some(SamplingEnd::Complete);
        }
        self.converged().then_some(SamplingEnd::Converged)
    }

    /// Whether the values are known well enough.
    ///
    /// The papers compare with the estimate of some orders before, which says as much about the
    /// number of orders between as about the error; the standard error says what is meant.
    fn converged(&self) -> bool {
        if self.permutations < PERMUTATIONS_MIN {
            return false;
        }
        let count = f64::from(self.permutations);
        let error = |spread: &f64| (spread / (count - 1.0) / count).sqrt();
        let errors: f64 = self.spread.iter().map(error).sum();
        let sizes: f64 = self.mean.iter().map(|mean| mean.abs()).sum();
        errors <= self.settings.error_max * sizes
    }

    pub(crate) fn finish(self, end: SamplingEnd) -> Result<Sampled, ValuationError<U::Error>> {
        if self.permutations == 0 && !self.mean.is_empty() {
            return Err(ValuationError::Exhausted {
                max: self.game.evaluations_max(),
            });
        }
        let values = match end {
            SamplingEnd::Complete => exact_shapley(self.game)?,
            _ => self.mean,
        };
        Ok(Sampled {
            values,
            permutations: self.permutations,
            end,
        })
    }

    /// Gives everybody the same part of v(N) − v(∅).
    pub(crate) fn divide_evenly(self) -> Sampled {
        let players = self.mean.len();
        Sampled {
            values: vec![self.whole() / players as f64; players],
            permutations: 0,
            end: SamplingEnd::NothingToDivide,
        }
    }
}

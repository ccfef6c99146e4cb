//! What a rule makes of the deltas.

use convoke_protocol::record::Share;
use convoke_protocol::sketch::Norm;

use crate::kernels::Selection;

/// How the deltas become one. Deltas are clipped before, as the round's filter said.
#[derive(Debug, Clone, PartialEq)]
pub enum Combination {
    /// Σᵢ shareᵢ · xᵢ + noise.
    Sum {
        /// Of every update; zero leaves it out.
        shares: Vec<Share>,
        /// Length to be expected of the Gaussian noise that is added: its standard deviation times
        /// the root of the number of values.
        noise: Norm,
    },
    /// Value by value, a statistic of order of some of them.
    Select {
        /// The updates that take part: at least one, ascending.
        rows: Vec<usize>,
        /// Which statistic.
        selection: Selection,
    },
}

impl Combination {
    /// A weighted sum without noise. Shares are never negative.
    #[must_use]
    pub fn sum(shares: Vec<f64>) -> Self {
        Self::Sum {
            shares: shares.into_iter().map(Share::of).collect(),
            noise: Norm::ZERO,
        }
    }

    /// The mean of these updates, of `count` in all.
    #[must_use]
    pub fn mean_of(chosen: &[usize], count: usize) -> Self {
        let mut shares = vec![0.0; count];
        for index in chosen {
            shares[*index] = 1.0 / chosen.len() as f64;
        }
        Self::sum(shares)
    }

    /// A statistic of all of `count` updates.
    #[must_use]
    pub fn select(count: usize, selection: Selection) -> Self {
        let rows = (0..count).collect();
        Self::Select { rows, selection }
    }
}

/// The weights, scaled to add up to 1; zeros if they are.
pub(super) fn proportions(weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    let share = |weight: &f64| if total > 0.0 { weight / total } else { 0.0 };
    weights.iter().map(share).collect()
}

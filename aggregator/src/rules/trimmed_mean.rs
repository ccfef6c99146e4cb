//! The coordinate-wise trimmed mean: Yin, Chen, Ramchandran and Bartlett, "Byzantine-Robust
//! Distributed Learning: Towards Optimal Statistical Rates", 2018 (arXiv:1803.01498).
//!
//! ```text
//! out = mean{x₍f₊₁₎, …, x₍N₋f₎} of the values in order
//! ```
//!
//! Breakdown point f/N: with more than f attackers some of their values stay in. With so few
//! updates that f is 0 nothing is trimmed. One pass, O(N log² N) a value in a selection network.

use super::{AggregationRule, Cohort, Combination, Needs};
use crate::kernels::Selection;

/// The mean of each value's middle ones.
#[derive(Debug, Clone, Copy)]
pub struct TrimmedMean;

impl AggregationRule for TrimmedMean {
    fn name(&self) -> &'static str {
        "trimmed_mean"
    }

    fn summary(&self) -> &'static str {
        "mean of each value without the f highest and f lowest; between mean and median"
    }

    fn breakdown(&self) -> &'static str {
        "f/N"
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn is_linear(&self) -> bool {
        false
    }

    fn combine(&self, cohort: &Cohort<'_>) -> Combination {
        let trim = cohort.attackers();
        Combination::select(cohort.count(), Selection::TrimmedMean { trim })
    }
}

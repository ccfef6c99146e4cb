//! The coordinate-wise median: Yin, Chen, Ramchandran and Bartlett, "Byzantine-Robust
//! Distributed Learning: Towards Optimal Statistical Rates", 2018 (arXiv:1803.01498).
//!
//! ```text
//! out = median{x₁, …, x_N}, the mean of the two middle values if N is even
//! ```
//!
//! Breakdown point 1/2. One pass, O(N log² N) a value in a selection network.

use super::{AggregationRule, Cohort, Combination, Needs};
use crate::kernels::Selection;

/// The median of each value.
#[derive(Debug, Clone, Copy)]
pub struct CoordinateMedian;

impl AggregationRule for CoordinateMedian {
    fn name(&self) -> &'static str {
        "coordinate_median"
    }

    fn summary(&self) -> &'static str {
        "median of each value; holds against any minority, learns slower from unlike data"
    }

    fn breakdown(&self) -> &'static str {
        "1/2"
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn is_linear(&self) -> bool {
        false
    }

    fn combine(&self, cohort: &Cohort<'_>) -> Combination {
        Combination::select(cohort.count(), Selection::Median)
    }
}

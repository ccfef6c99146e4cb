//! The coordinate-wise median: Yin, Chen, Ramchandran and Bartlett, "Byzantine-Robust
//! Distributed Learning: Towards Optimal Statistical Rates", 2018.
//!
//! ```text
//! out = median{x₁, …, x_N}, the mean of the two middle values if N is even
//! ```
//!
//! Weights play no part: examples are a claim, and a weighted median would be bought with it.
//! Breakdown point 1/2. O(N log² N) a value.

use super::AggregationRule;
use super::sorting::{LANES, for_each_sorted};

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

    fn aggregate(&self, rows: &[&[f32]], _weights: &[f64], out: &mut [f32]) {
        let (low, high) = ((rows.len() - 1) / 2, rows.len() / 2);
        for_each_sorted(rows, out, |sorted| {
            let mut median = [0.0; LANES];
            for ((median, low), high) in median.iter_mut().zip(&sorted[low]).zip(&sorted[high]) {
                *median = (0.5 * (f64::from(*low) + f64::from(*high))) as f32;
            }
            median
        });
    }
}

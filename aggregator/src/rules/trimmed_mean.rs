//! The coordinate-wise trimmed mean: Yin, Chen, Ramchandran and Bartlett, "Byzantine-Robust
//! Distributed Learning: Towards Optimal Statistical Rates", 2018.
//!
//! ```text
//! t = ⌊β N⌋;  out = mean{x₍ₜ₊₁₎, …, x₍N₋ₜ₎} of the values in order
//! ```
//!
//! Weights play no part, as with the median. Breakdown point β: with more than t attackers
//! some of their values stay in. Below 1/β trainers nothing is trimmed. O(N log² N) a value.

use super::AggregationRule;
use super::sorting::{LANES, for_each_sorted};

/// The mean of each value's middle ones.
#[derive(Debug, Clone, Copy)]
pub struct TrimmedMean {
    /// β: the share trimmed at each end, in percent, below 50.
    trim_percent: usize,
}

impl TrimmedMean {
    /// β = 0.2
    pub const DEFAULT: Self = Self { trim_percent: 20 };

    /// Values trimmed at each end, of `count`.
    #[must_use]
    pub fn trimmed(&self, count: usize) -> usize {
        count * self.trim_percent / 100
    }
}

impl AggregationRule for TrimmedMean {
    fn name(&self) -> &'static str {
        "trimmed_mean"
    }

    fn summary(&self) -> &'static str {
        "mean of each value without the highest and lowest fifth; between the other two"
    }

    fn aggregate(&self, rows: &[&[f32]], _weights: &[f64], out: &mut [f32]) {
        let trimmed = self.trimmed(rows.len());
        let middle = trimmed..rows.len() - trimmed;
        for_each_sorted(rows, out, |sorted| {
            let mut sums = [0.0f64; LANES];
            for row in &sorted[middle.clone()] {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += f64::from(*value);
                }
            }
            sums.map(|sum| (sum / middle.len() as f64) as f32)
        });
    }
}

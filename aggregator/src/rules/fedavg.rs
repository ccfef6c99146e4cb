//! Federated averaging: McMahan, Moore, Ramage, Hampson and Agüera y Arcas,
//! "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017.
//!
//! ```text
//! out = Σᵢ wᵢ xᵢ / Σᵢ wᵢ
//! ```
//!
//! wᵢ is the (capped) number of examples. Breakdown point 0: one trainer can move the mean
//! anywhere, as far as clipping lets it. O(N) a value.

use super::AggregationRule;

/// The weighted mean.
#[derive(Debug, Clone, Copy)]
pub struct FedAvg;

impl AggregationRule for FedAvg {
    fn name(&self) -> &'static str {
        "fedavg"
    }

    fn summary(&self) -> &'static str {
        "mean weighted by examples; the best model when the filter caught every attacker"
    }

    fn aggregate(&self, rows: &[&[f32]], weights: &[f64], out: &mut [f32]) {
        let total: f64 = weights.iter().sum();
        for (tile, out) in out.chunks_mut(TILE).enumerate() {
            let mut sums = [0.0f64; TILE];
            for (row, weight) in rows.iter().zip(weights) {
                let share = weight / total;
                for (sum, value) in sums.iter_mut().zip(&row[tile * TILE..]) {
                    *sum += share * f64::from(*value);
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = sum as f32;
            }
        }
    }
}

/// Values whose sums stay in the first-level cache.
const TILE: usize = 256;

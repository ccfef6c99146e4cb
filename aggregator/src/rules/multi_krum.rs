//! Multi-Krum: Blanchard, El Mhamdi, Guerraoui and Stainer, "Machine Learning with Adversaries:
//! Byzantine Tolerant Gradient Descent", 2017.
//!
//! ```text
//! out = mean of the N − f updates with the lowest scores of Krum
//! ```
//!
//! Withstands f attackers if N ≥ 2 f + 3; with fewer updates scores are those of the largest f that
//! allows. Breakdown point 1/2. Two passes: N² / 2 multiplications a value, then O(N) a value.

use super::krum::ranked;
use super::{AggregationRule, Cohort, Combination, Needs};

/// The mean of the updates in dense places.
#[derive(Debug, Clone, Copy)]
pub struct MultiKrum;

impl AggregationRule for MultiKrum {
    fn name(&self) -> &'static str {
        "multi_krum"
    }

    fn summary(&self) -> &'static str {
        "mean of the N - f updates that are nearest to their neighbours"
    }

    fn breakdown(&self) -> &'static str {
        "f <= (N - 3) / 2"
    }

    fn needs(&self) -> Needs {
        Needs::Products
    }

    fn combine(&self, cohort: &Cohort<'_>) -> Combination {
        let kept = cohort.count() - cohort.attackers();
        Combination::mean_of(&ranked(cohort)[..kept], cohort.count())
    }
}

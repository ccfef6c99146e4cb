//! Federated averaging: McMahan, Moore, Ramage, Hampson and Agüera y Arcas,
//! "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017
//! (arXiv:1602.05629).
//!
//! ```text
//! out = Σᵢ wᵢ xᵢ / Σᵢ wᵢ
//! ```
//!
//! wᵢ is the (capped) number of examples. Breakdown point 0: one trainer can move the mean
//! anywhere, as far as clipping lets it. One pass, O(N) a value.

use super::combination::proportions;
use super::{AggregationRule, Cohort, Combination, Needs};

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

    fn breakdown(&self) -> &'static str {
        "0"
    }

    fn needs(&self) -> Needs {
        Needs::Nothing
    }

    fn combine(&self, cohort: &Cohort<'_>) -> Combination {
        Combination::sum(proportions(cohort.weights))
    }
}

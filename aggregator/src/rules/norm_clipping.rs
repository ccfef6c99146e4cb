//! Norm clipping: Sun, Kairouz, Suresh and McMahan, "Can You Really Backdoor Federated Learning?",
//! 2019 (arXiv:1911.07963).
//!
//! ```text
//! out = Σᵢ wᵢ xᵢ min(1, τ / |xᵢ|) / Σᵢ wᵢ
//! ```
//!
//! wᵢ is the (capped) number of examples, τ is `clip_factor` median norms. Every round's filter clips
//! at the median already: this rule is for a `clip_factor` below 1. Breakdown point 0, but one
//! update moves the result by wᵢ τ / Σ w at most. Two passes, O(N) a value in each.

use super::clipping::factors;
use super::combination::proportions;
use super::{AggregationRule, Cohort, Combination, Needs};

/// The weighted mean of shortened updates.
#[derive(Debug, Clone, Copy)]
pub struct NormClipping;

impl AggregationRule for NormClipping {
    fn name(&self) -> &'static str {
        "norm_clipping"
    }

    fn summary(&self) -> &'static str {
        "weighted mean of updates cut to clip_factor median norms"
    }

    fn breakdown(&self) -> &'static str {
        "0, bounded"
    }

    fn needs(&self) -> Needs {
        Needs::Norms
    }

    fn combine(&self, cohort: &Cohort<'_>) -> Combination {
        let factors = factors(&cohort.evidence.norms, cohort.clip_norm());
        let shares = proportions(cohort.weights).into_iter().zip(factors);
        Combination::sum(shares.map(|(share, factor)| share * factor).collect())
    }
}

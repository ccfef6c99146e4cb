//! Clipped clustering: Li, Ngai and Voigt, "An Experimental Study of Byzantine-Robust Aggregation
//! Schemes in Federated Learning", 2023 (arXiv:2302.07173).
//!
//! ```text
//! xᵢ ← xᵢ min(1, τ / |xᵢ|)
//! out = mean of the larger of two groups, by average linkage of 1 − cos(xᵢ, xⱼ)
//! ```
//!
//! The paper's τ is the median of all norms so far; here it is `clip_factor` of this round's median
//! norms, so that a step follows from its round alone. The cut is always made: without attackers the
//! smaller group is lost. Breakdown point 1/2. Two passes: N² / 2 multiplications a value, then O(N) a
//! value; O(N³) for the groups, in any model.

use super::clipping::clipped_mean;
use super::clusters::{cosine_distance, larger_of_two};
use super::{AggregationRule, Cohort, Combination, Needs};

/// The mean of the larger half.
#[derive(Debug, Clone, Copy)]
pub struct ClippedClustering;

impl AggregationRule for ClippedClustering {
    fn name(&self) -> &'static str {
        "clipped_clustering"
    }

    fn summary(&self) -> &'static str {
        "mean of the larger of two clusters of directions, after clipping"
    }

    fn breakdown(&self) -> &'static str {
        "1/2"
    }

    fn needs(&self) -> Needs {
        Needs::Products
    }

    fn combine(&self, cohort: &Cohort<'_>) -> Combination {
        let group = larger_of_two(cohort, cosine_distance(&cohort.evidence.products));
        clipped_mean(cohort, &group)
    }
}

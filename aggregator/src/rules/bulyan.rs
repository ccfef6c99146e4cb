//! Bulyan: El Mhamdi, Guerraoui and Rouault, "The Hidden Vulnerability of Distributed Learning in
//! Byzantium", 2018 (arXiv:1802.07927).
//!
//! ```text
//! S = θ = N − 2 f updates, chosen one after the other by Krum among those that are left
//! out = mean of the θ − 2 f values of S that are nearest to their median, value by value
//! ```
//!
//! The second half takes away what the first cannot: a hostile update that is near to all others
//! and far off in one value. Withstands f attackers if N ≥ 4 f + 3; with fewer updates f is lowered
//! to what that allows. Breakdown point 1/4. Two passes: N² / 2 multiplications a value, then
//! O(N log² N) a value in a selection network; O(N³ log N) for the choice, in any model.

use super::krum::{by_score, scores};
use super::{AggregationRule, Cohort, Combination, Needs};
use crate::kernels::Selection;

/// A trimmed mean of updates that Krum trusts.
#[derive(Debug, Clone, Copy)]
pub struct Bulyan;

impl AggregationRule for Bulyan {
    fn name(&self) -> &'static str {
        "bulyan"
    }

    fn summary(&self) -> &'static str {
        "Krum's choice of N - 2f updates, then the values nearest to their median"
    }

    fn breakdown(&self) -> &'static str {
        "f <= (N - 3) / 4"
    }

    fn needs(&self) -> Needs {
        Needs::Products
    }

    fn is_linear(&self) -> bool {
        false
    }

    fn combine(&self, cohort: &Cohort<'_>) -> Combination {
        let attackers = attackers(cohort);
        let chosen = cohort.count() - 2 * attackers;
        let keep = chosen - 2 * attackers;
        Combination::Select {
            rows: choose(cohort, attackers, chosen),
            selection: Selection::MeanAroundMedian { keep },
        }
    }
}

/// `count` updates by repeated Krum, ascending.
fn choose(cohort: &Cohort<'_>, attackers: usize, count: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..cohort.count()).collect();
    let mut chosen = Vec::with_capacity(count);
    while chosen.len() < count {
        let scores = scores(&cohort.evidence.products, &left, attackers);
        let best = (0..left.len())
            .min_by(|a, b| by_score(cohort, (left[*a], scores[*a]), (left[*b], scores[*b])));
        chosen.push(left.swap_remove(best.unwrap_or_default()));
    }
    chosen.sort_unstable();
    chosen
}

/// f, as far as N ≥ 4 f + 3 allows.
fn attackers(cohort: &Cohort<'_>) -> usize {
    cohort.attackers().min(cohort.count().saturating_sub(3) / 4)
}

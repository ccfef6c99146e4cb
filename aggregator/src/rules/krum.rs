//! Krum: Blanchard, El Mhamdi, Guerraoui and Stainer, "Machine Learning with Adversaries: Byzantine
//! Tolerant Gradient Descent", 2017.
//!
//! ```text
//! score(i) = Σ |xᵢ − xⱼ|² over the N − f − 2 nearest j ≠ i;  out = x of the lowest score
//! ```
//!
//! Withstands f attackers if N ≥ 2 f + 3; with fewer updates f is lowered to what that allows.
//! Breakdown point 1/2. Learns from one trainer a round, slowly. Two passes: N² / 2 multiplications
//! a value, then O(N) a value for one file.

use super::{AggregationRule, Cohort, Combination, Geometry, Needs};

/// The update in the densest place.
#[derive(Debug, Clone, Copy)]
pub struct Krum;

impl AggregationRule for Krum {
    fn name(&self) -> &'static str {
        "krum"
    }

    fn summary(&self) -> &'static str {
        "the one update that is nearest to its N - f - 2 neighbours; sure and slow"
    }

    fn breakdown(&self) -> &'static str {
        "f <= (N - 3) / 2"
    }

    fn needs(&self) -> Needs {
        Needs::Products
    }

    fn combine(&self, cohort: &Cohort<'_>) -> Combination {
        let best = ranked(cohort);
        Combination::mean_of(&best[..1], cohort.count())
    }
}

/// The updates, best score first.
pub(super) fn ranked(cohort: &Cohort<'_>) -> Vec<usize> {
    let all: Vec<usize> = (0..cohort.count()).collect();
    let scores = scores(&cohort.evidence.products, &all, attackers(cohort));
    let mut ranked = all;
    ranked.sort_by(|a, b| by_score(cohort, (*a, scores[*a]), (*b, scores[*b])));
    ranked
}

/// Lower scores first. Neighbours may have the same score, and then addresses decide: the order in
/// which updates came in does not.
pub(super) fn by_score(
    cohort: &Cohort<'_>,
    a: (usize, f64),
    b: (usize, f64),
) -> std::cmp::Ordering {
    let trainer = |index: usize| cohort.trainers[index];
    let score = a.1.total_cmp(&b.1);
    score.then_with(|| trainer(a.0).cmp(&trainer(b.0)))
}

/// Krum's scores of `members` among themselves, in their order. O(n² log n).
pub(super) fn scores(geometry: &Geometry, members: &[usize], attackers: usize) -> Vec<f64> {
    let others = members.len() - 1;
    let neighbours = members.len().saturating_sub(attackers + 2);
    let neighbours = neighbours.max(1).min(others);
    let score = |i: &usize| {
        let others = members.iter().filter(|j| *j != i);
        let mut distances: Vec<f64> = others.map(|j| geometry.distance_squared(*i, *j)).collect();
        distances.sort_by(f64::total_cmp);
        distances[..neighbours].iter().sum()
    };
    members.iter().map(score).collect()
}

/// f, as far as N ≥ 2 f + 3 allows.
fn attackers(cohort: &Cohort<'_>) -> usize {
    cohort.attackers().min(cohort.count().saturating_sub(3) / 2)
}

//! FoolsGold: Fung, Yoon and Beschastnikh, "The Limitations of Federated Learning in Sybil
//! Settings", 2020 (arXiv:1808.04866).
//!
//! ```text
//! cᵢⱼ = cos(Hᵢ, Hⱼ);  vᵢ = max over j ≠ i of cᵢⱼ;  if vⱼ > vᵢ: cᵢⱼ ← cᵢⱼ vᵢ / vⱼ
//! αᵢ = 1 − max over j of cᵢⱼ, in [0, 1], then divided by the largest
//! αᵢ ← ln(αᵢ / (1 − αᵢ)) + 1/2, in [0, 1];  out = Σᵢ αᵢ xᵢ / Σᵢ αᵢ
//! ```
//!
//! Hᵢ is the sum of all that trainer i has sent: sybils that pursue one goal grow alike, however many
//! they are, and honest trainers with unlike data do not. Of Hᵢ a random projection is kept
//! ([`crate::aggregate::history`]), whose seed only the aggregator knows. Honest trainers with like
//! data look like sybils: if every α is 0, all count alike. Breakdown point: any number of sybils,
//! but no single attacker, whose length the round's filter bounds. Two passes, O(N) a value in each.

use super::combination::proportions;
use super::{AggregationRule, Cohort, Combination, Geometry, Needs};

/// A mean that counts those who always agree with each other as one.
#[derive(Debug, Clone, Copy)]
pub struct FoolsGold;

impl AggregationRule for FoolsGold {
    fn name(&self) -> &'static str {
        "foolsgold"
    }

    fn summary(&self) -> &'static str {
        "mean in which trainers whose histories are alike lose weight; against sybils"
    }

    fn breakdown(&self) -> &'static str {
        "any sybils"
    }

    fn needs(&self) -> Needs {
        Needs::Histories
    }

    fn combine(&self, cohort: &Cohort<'_>) -> Combination {
        let weights = weights(&cohort.evidence.histories);
        Combination::sum(match weights.iter().any(|weight| *weight > 0.0) {
            true => proportions(&weights),
            false => proportions(&vec![1.0; cohort.count()]),
        })
    }
}

/// α.
fn weights(histories: &Geometry) -> Vec<f64> {
    let count = histories.count();
    let likeness = |i: usize| {
        let others = (0..count).filter(|j| *j != i);
        others.map(|j| histories.cosine(i, j)).fold(0.0, f64::max)
    };
    let likest: Vec<f64> = (0..count).map(likeness).collect();
    let pardoned = |i: usize, j: usize| match likest[j] > likest[i] {
        true => histories.cosine(i, j) * likest[i] / likest[j],
        false => histories.cosine(i, j),
    };
    let uniqueness = |i: usize| {
        let others = (0..count).filter(|j| *j != i);
        1.0 - others.map(|j| pardoned(i, j)).fold(0.0, f64::max)
    };
    let unique: Vec<f64> = (0..count).map(uniqueness).collect();
    let most = unique.iter().copied().fold(0.0, f64::max);
    let confident = |unique: &f64| match most > EQUAL {
        // The logarithm is infinite at both ends, and cut there.
        true => {
            let alpha = unique / most;
            ((alpha / (1.0 - alpha)).ln() + 0.5).clamp(0.0, 1.0)
        }
        false => 0.0,
    };
    unique.iter().map(confident).collect()
}

/// Below this, histories differ by nothing but rounding.
const EQUAL: f64 = 1e-6;

//! FLTrust: Cao, Fang, Liu and Gong, "FLTrust: Byzantine-robust Federated Learning via Trust
//! Bootstrapping", 2021 (arXiv:2012.13995).
//!
//! ```text
//! tᵢ = max(0, cos(xᵢ, x₀));  out = Σᵢ tᵢ (|x₀| / |xᵢ|) xᵢ / Σᵢ tᵢ
//! ```
//!
//! x₀ is the update of a root set that the task's creator trusts. The aggregator never sees
//! examples, so the root set is a trainer's: `root_trainer` names the one that trains on it, in the
//! same program as all others, and what it sends measures the others without counting itself. In
//! rounds that it is not part of, and in tasks without one, x₀ is the geometric median of the updates.
//! If no update points where x₀ does, x₀ is the step. Breakdown point 1 with a root trainer, 1/2
//! without. Two passes: N² / 2 multiplications a value, then O(N) a value.

use super::geometric_median;
use super::{AggregationRule, Cohort, Combination, Needs};

/// The mean of what points where the root update does, at its length.
#[derive(Debug, Clone, Copy)]
pub struct FlTrust;

impl AggregationRule for FlTrust {
    fn name(&self) -> &'static str {
        "fltrust"
    }

    fn summary(&self) -> &'static str {
        "mean weighted by agreement with a trusted trainer's update, at its length"
    }

    fn breakdown(&self) -> &'static str {
        "1 (1/2 without a root)"
    }

    fn needs(&self) -> Needs {
        Needs::Products
    }

    fn combine(&self, cohort: &Cohort<'_>) -> Combination {
        let geometry = &cohort.evidence.products;
        let root = root(cohort);
        let along = geometry.products_with(&root);
        let squared: f64 = along.iter().zip(&root).map(|(p, s)| p * s).sum();
        let length = squared.max(0.0).sqrt();
        let named = named_root(cohort);
        let trust = |index: usize| {
            let norm = cohort.evidence.norms[index];
            match length > 0.0 && norm > 0.0 && named != Some(index) {
                true => (along[index] / norm / length).clamp(0.0, 1.0),
                false => 0.0,
            }
        };
        let trust: Vec<f64> = (0..cohort.count()).map(trust).collect();
        let total: f64 = trust.iter().sum();
        if total <= 0.0 {
            return Combination::sum(root);
        }
        let share = |(trust, norm): (&f64, &f64)| match *trust > 0.0 {
            true => trust / total * (length / norm),
            false => 0.0,
        };
        Combination::sum(
            trust
                .iter()
                .zip(&cohort.evidence.norms)
                .map(share)
                .collect(),
        )
    }
}

/// The root update's coefficients.
fn root(cohort: &Cohort<'_>) -> Vec<f64> {
    let Some(index) = named_root(cohort) else {
        return geometric_median::shares(&cohort.evidence.products);
    };
    let mut root = vec![0.0; cohort.count()];
    root[index] = 1.0;
    root
}

/// The root trainer's place, if it is here.
fn named_root(cohort: &Cohort<'_>) -> Option<usize> {
    let root = cohort.settings.root_trainer?;
    cohort.trainers.iter().position(|trainer| *trainer == root)
}

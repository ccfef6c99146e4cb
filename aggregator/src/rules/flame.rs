//! FLAME: Nguyen, Rieger, Chen, Yalame, Möllering, Fereidooni, Marchal, Miettinen, Mirhoseini,
//! Zeitouni, Koushanfar, Sadeghi and Schneider, "FLAME: Taming Backdoors in Federated Learning", 2022
//! (arXiv:2101.02281).
//!
//! ```text
//! L = the first group of more than N / 2 that single linkage of 1 − cos(xᵢ, xⱼ) joins
//! out = mean over L of xᵢ min(1, τ / |xᵢ|)  +  N(0, σ²)
//! ```
//!
//! The paper's HDBSCAN, with clusters of at least ⌊N / 2⌋ + 1 and one cluster allowed, has one cluster
//! at every level; what is left of it when it falls apart is L. τ is `clip_factor` median norms, and
//! σ √D is `noise_factor` times that. The noise, which is to blunt a backdoor that slipped through,
//! follows from the base checkpoint, so that anybody can take the step again: it is no privacy.
//! Breakdown point 1/2. Two passes: N² / 2 multiplications a value, then O(N) a value and one normal
//! number if there is noise.

use convoke_protocol::sketch::Norm;

use super::clipping::clipped_shares;
use super::clusters::{cosine_distance, first_majority};
use super::{AggregationRule, Cohort, Combination, Needs};

/// The clipped mean of a majority that agrees, and noise.
#[derive(Debug, Clone, Copy)]
pub struct Flame;

impl AggregationRule for Flame {
    fn name(&self) -> &'static str {
        "flame"
    }

    fn summary(&self) -> &'static str {
        "mean of the majority that points the same way, clipped, with noise; against backdoors"
    }

    fn breakdown(&self) -> &'static str {
        "1/2"
    }

    fn needs(&self) -> Needs {
        Needs::Products
    }

    fn combine(&self, cohort: &Cohort<'_>) -> Combination {
        let distance = cosine_distance(&cohort.evidence.products);
        let group = first_majority(cohort.count(), distance);
        Combination::Sum {
            shares: clipped_shares(cohort, &group),
            noise: Norm::of(cohort.settings.noise_factor * cohort.clip_norm()),
        }
    }
}

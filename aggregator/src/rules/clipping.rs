//! Shortening vectors.

use convoke_protocol::record::Share;
use convoke_protocol::sketch::Norm;

use super::{Cohort, Combination};

/// What a vector of this norm is scaled by, so that it is no longer than `limit`: min(1, limit / norm).
pub(super) fn factor(norm: f64, limit: f64) -> f64 {
    if norm > limit { limit / norm } else { 1.0 }
}

/// The factors of several vectors.
pub(super) fn factors(norms: &[f64], limit: f64) -> Vec<f64> {
    norms.iter().map(|norm| factor(*norm, limit)).collect()
}

/// The mean of these updates, each cut to the clipping norm of all.
pub(super) fn clipped_mean(cohort: &Cohort<'_>, group: &[usize]) -> Combination {
    Combination::Sum {
        shares: clipped_shares(cohort, group),
        noise: Norm::ZERO,
    }
}

/// Its shares.
pub(super) fn clipped_shares(cohort: &Cohort<'_>, group: &[usize]) -> Vec<Share> {
    let limit = cohort.clip_norm();
    let mut shares = vec![Share::ZERO; cohort.count()];
    for index in group {
        let factor = factor(cohort.evidence.norms[*index], limit);
        shares[*index] = Share::of(factor / group.len() as f64);
    }
    shares
}

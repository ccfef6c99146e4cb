//! Shortening vectors.

/// What a vector of this norm is scaled by, so that it is no longer than `limit`: min(1, limit / norm).
pub(super) fn factor(norm: f64, limit: f64) -> f64 {
    if norm > limit { limit / norm } else { 1.0 }
}

/// The factors of several vectors.
pub(super) fn factors(norms: &[f64], limit: f64) -> Vec<f64> {
    norms.iter().map(|norm| factor(*norm, limit)).collect()
}

//! The geometric median: Pillutla, Kakade and Harchaoui, "Robust Aggregation for Federated
//! Learning" (RFA), 2022 (arXiv:1912.13445).
//!
//! ```text
//! out = argmin z: Σᵢ |z − xᵢ|, by the smoothed Weiszfeld algorithm from z = 0:
//! βᵢ = 1 / max(ν, |z − xᵢ|);  z ← Σᵢ βᵢ xᵢ / Σᵢ βᵢ
//! ```
//!
//! The paper makes a pass over the updates for each iteration; here each takes O(N²), since z lies in
//! their span, and iterations go on until nothing changes. ν is 10⁻³ of the median norm: nearer than
//! that, inner products do not tell updates apart. Breakdown point 1/2. Two passes: N² / 2
//! multiplications a value, then O(N) a value.

use super::cohort::median;
use super::combination::proportions;
use super::{AggregationRule, Cohort, Combination, Geometry, Needs};

/// The point with the least sum of distances.
#[derive(Debug, Clone, Copy)]
pub struct GeometricMedian;

impl AggregationRule for GeometricMedian {
    fn name(&self) -> &'static str {
        "geometric_median"
    }

    fn summary(&self) -> &'static str {
        "point with the least sum of distances to all updates (RFA)"
    }

    fn breakdown(&self) -> &'static str {
        "1/2"
    }

    fn needs(&self) -> Needs {
        Needs::Products
    }

    fn combine(&self, cohort: &Cohort<'_>) -> Combination {
        Combination::sum(shares(&cohort.evidence.products))
    }
}

/// The geometric median's coefficients, which add up to 1. O(N²) an iteration.
pub(super) fn shares(geometry: &Geometry) -> Vec<f64> {
    let smallest = SMOOTHING * median(&geometry.norms());
    // All of them zero: any weights do.
    let smallest = smallest.max(f64::MIN_POSITIVE);
    let mut distances = geometry.norms();
    let mut shares = vec![0.0; geometry.count()];
    for _ in 0..ITERATIONS_MAX {
        let weights = distances
            .iter()
            .map(|distance| distance.max(smallest).recip());
        let next = proportions(&weights.collect::<Vec<_>>());
        let moved = next.iter().zip(&shares).map(|(a, b)| (a - b).abs());
        let moved: f64 = moved.sum();
        shares = next;
        if moved < CONVERGED {
            break;
        }
        distances = geometry.distances_from(&shares);
    }
    shares
}

/// ν, in median norms.
const SMOOTHING: f64 = 1e-3;
/// Each iteration leaves at most N / (N − 1) of the way that the one before left, far from updates.
const ITERATIONS_MAX: usize = 1_000;
/// Sum of the changes of all shares.
const CONVERGED: f64 = 1e-10;

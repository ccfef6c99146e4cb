//! Centered clipping: Karimireddy, He and Jaggi, "Learning from History for Byzantine Robust
//! Optimization", 2021 (arXiv:2012.10333).
//!
//! ```text
//! v ← v + 1/N Σᵢ (xᵢ − v) min(1, τ / |xᵢ − v|), again and again;  out = v
//! ```
//!
//! τ is `clip_factor` median norms. The paper begins at the last round's v, and with momentum on the
//! trainers' side does one iteration. Deltas are of many local steps, and trainers keep no momentum
//! between rounds: here v begins at 0, which is the last checkpoint and no attacker's choice, and
//! iterations, O(N²) each, go on until v rests or 100 are done. Then no update holds on to v by a
//! pull longer than τ / N. Breakdown point 1/2. Two passes: N² / 2 multiplications a value, then O(N)
//! a value.

use super::clipping::factors;
use super::{AggregationRule, Cohort, Combination, Needs};

/// The mean, with what is far from it pulled in.
#[derive(Debug, Clone, Copy)]
pub struct CenteredClipping;

impl AggregationRule for CenteredClipping {
    fn name(&self) -> &'static str {
        "centered_clipping"
    }

    fn summary(&self) -> &'static str {
        "mean around a center, to which far updates are pulled in"
    }

    fn breakdown(&self) -> &'static str {
        "1/2"
    }

    fn needs(&self) -> Needs {
        Needs::Products
    }

    fn combine(&self, cohort: &Cohort<'_>) -> Combination {
        let radius = cohort.clip_norm();
        let count = cohort.count() as f64;
        let mut center = vec![0.0; cohort.count()];
        let mut distances = cohort.evidence.products.norms();
        for _ in 0..ITERATIONS_MAX {
            let pulls = factors(&distances, radius);
            let kept = 1.0 - pulls.iter().sum::<f64>() / count;
            let mut moved = 0.0;
            for (share, pull) in center.iter_mut().zip(pulls) {
                let next = *share * kept + pull / count;
                moved += (next - *share).abs();
                *share = next;
            }
            if moved < CONVERGED {
                break;
            }
            distances = cohort.evidence.products.distances_from(&center);
        }
        Combination::sum(center)
    }
}

const ITERATIONS_MAX: usize = 100;
/// Sum of the changes of all coefficients.
const CONVERGED: f64 = 1e-10;

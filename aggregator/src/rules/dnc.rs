//! Divide and conquer (DnC): Shejwalkar and Houmansadr, "Manipulating the Byzantine: Optimizing
//! Model Poisoning Attacks and Defenses for Federated Learning", 2021.
//!
//! ```text
//! for each of two samples of the values:
//!     v = first right singular vector of the centered updates;  score(i) = ⟨xᵢ − x̄, v⟩²
//!     the f updates with the highest scores are out
//! out = mean of the updates that no sample has put out
//! ```
//!
//! With u the first eigenvector of the centered inner products, of eigenvalue λ, the score is λ uᵢ²:
//! no vector as long as the model is needed. The paper's samples are of 10⁴ values, to make the
//! decomposition cheap. Here that costs O(N²), so that the two samples are halves of all values: which
//! run of values is in which half follows from the base and from all updates, and nobody can aim at
//! it. Breakdown point 1/2. Two passes: N² / 2 multiplications a value, then O(N) a value.

use super::{AggregationRule, Cohort, Combination, Geometry, Needs};

/// The mean without what sticks out along the direction in which updates differ most.
#[derive(Debug, Clone, Copy)]
pub struct DivideAndConquer;

impl AggregationRule for DivideAndConquer {
    fn name(&self) -> &'static str {
        "dnc"
    }

    fn summary(&self) -> &'static str {
        "mean without the f updates that stick out most along the first singular vector"
    }

    fn breakdown(&self) -> &'static str {
        "f/N"
    }

    fn needs(&self) -> Needs {
        Needs::HalvedProducts
    }

    fn combine(&self, cohort: &Cohort<'_>) -> Combination {
        let mut good = vec![true; cohort.count()];
        for half in &cohort.evidence.halves {
            for index in outliers(cohort, half) {
                good[index] = false;
            }
        }
        // f is below N / 2: both halves together cannot put out all.
        let kept: Vec<usize> = (0..cohort.count()).filter(|index| good[*index]).collect();
        Combination::mean_of(&kept, cohort.count())
    }
}

/// The f updates with the highest scores.
fn outliers(cohort: &Cohort<'_>, half: &Geometry) -> Vec<usize> {
    let direction = first_eigenvector(&half.centered());
    let mut ranked: Vec<usize> = (0..cohort.count()).collect();
    ranked.sort_by(|a, b| {
        let (score_a, score_b) = (direction[*a].abs(), direction[*b].abs());
        let trainer = |index: usize| cohort.trainers[index];
        score_b
            .total_cmp(&score_a)
            .then_with(|| trainer(*a).cmp(&trainer(*b)))
    });
    ranked.truncate(cohort.attackers());
    // Where all are alike nobody sticks out.
    ranked.retain(|index| direction[*index] != 0.0);
    ranked
}

/// By power iteration, from the column of the longest vector: one that is in the matrix's range.
fn first_eigenvector(matrix: &Geometry) -> Vec<f64> {
    let count = matrix.count();
    let longest = (0..count).max_by(|a, b| matrix.norm(*a).total_cmp(&matrix.norm(*b)));
    let longest = longest.unwrap_or_default();
    let mut vector: Vec<f64> = (0..count).map(|i| matrix.product(i, longest)).collect();
    normalize(&mut vector);
    for _ in 0..ITERATIONS_MAX {
        let mut next = matrix.products_with(&vector);
        normalize(&mut next);
        let moved = next.iter().zip(&vector).map(|(a, b)| (a - b).abs());
        let moved = moved.fold(0.0, f64::max);
        vector = next;
        if moved < CONVERGED {
            break;
        }
    }
    vector
}

/// To length 1, unless it is zero.
fn normalize(vector: &mut [f64]) {
    // By the largest value first: squares of what is left cannot overflow.
    for length in [largest, euclidean] {
        let length = length(vector);
        if length > 0.0 {
            vector.iter_mut().for_each(|value| *value /= length);
        }
    }
}

fn largest(vector: &[f64]) -> f64 {
    vector.iter().fold(0.0, |most, value| value.abs().max(most))
}

fn euclidean(vector: &[f64]) -> f64 {
    vector.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// What is left of another eigenvector is (λ₂ / λ₁) to this power.
const ITERATIONS_MAX: usize = 10_000;
/// Change of any coefficient.
const CONVERGED: f64 = 1e-13;

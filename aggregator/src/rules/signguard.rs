//! SignGuard: Xu, Huang, Song and Lan, "Byzantine-robust Federated Learning through Collaborative
//! Malicious Gradient Filtering", 2022 (arXiv:2109.05872).
//!
//! ```text
//! S₁ = {i: 0.1 ≤ |xᵢ| / M ≤ 3}, M the median norm
//! S₂ = the largest cluster, by mean shift, of (positive, zero, negative) values of xᵢ, in shares
//! out = mean over S₁ ∩ S₂ of xᵢ min(1, τ / |xᵢ|)
//! ```
//!
//! τ is `clip_factor` median norms. The paper counts the signs of a random tenth of the values, here
//! all are counted. The bandwidth of the mean shift is about that of the authors' program: the mean,
//! over all updates, of the distance within which a majority lies. If both sets have nothing in
//! common S₂ is enough. Breakdown point 1/2. Two passes, O(N) a value in each, and O(N²) an iteration
//! for the clusters, in any model.

use convoke_protocol::ids::Address;

use super::clipping::clipped_mean;
use super::cohort::median;
use super::{AggregationRule, Cohort, Combination, Needs, SignCounts};

/// The mean of updates of usual length and usual signs.
#[derive(Debug, Clone, Copy)]
pub struct SignGuard;

impl AggregationRule for SignGuard {
    fn name(&self) -> &'static str {
        "signguard"
    }

    fn summary(&self) -> &'static str {
        "mean of updates whose length and balance of signs are those of most"
    }

    fn breakdown(&self) -> &'static str {
        "1/2"
    }

    fn needs(&self) -> Needs {
        Needs::NormsAndSigns
    }

    fn combine(&self, cohort: &Cohort<'_>) -> Combination {
        let norms = &cohort.evidence.norms;
        let median = median(norms);
        let usual = |norm: f64| (SHORTEST * median..=LONGEST * median).contains(&norm);
        let points: Vec<Point> = cohort.evidence.signs.iter().map(point).collect();
        let alike = largest_cluster(cohort, &points);
        let both: Vec<usize> = alike.iter().copied().filter(|i| usual(norms[*i])).collect();
        clipped_mean(cohort, if both.is_empty() { &alike } else { &both })
    }
}

/// Shares of positive, zero and negative values.
type Point = [f64; 3];

fn point(counts: &SignCounts) -> Point {
    let zero = counts.values - counts.positive - counts.negative;
    [counts.positive, zero, counts.negative].map(|count| count as f64 / counts.values.max(1) as f64)
}

/// Mean shift with a flat kernel: every point climbs to where it is the mean of its neighbourhood, and
/// points that arrive together are a cluster. Of clusters of one size that with the lowest addresses.
fn largest_cluster(cohort: &Cohort<'_>, points: &[Point]) -> Vec<usize> {
    let bandwidth = bandwidth(points);
    let tops: Vec<Point> = points
        .iter()
        .map(|from| climb(*from, points, bandwidth))
        .collect();
    let cluster = |top: &Point| -> Vec<usize> {
        let same = |index: &usize| are_near(top, &tops[*index], bandwidth);
        (0..points.len()).filter(same).collect()
    };
    let addresses = |group: &[usize]| {
        let mut addresses: Vec<Address> = group.iter().map(|i| cohort.trainers[*i]).collect();
        addresses.sort_unstable();
        addresses
    };
    let largest = tops.iter().map(cluster).max_by(|a, b| {
        let size = a.len().cmp(&b.len());
        size.then_with(|| addresses(b).cmp(&addresses(a)))
    });
    largest.unwrap_or_default()
}

fn climb(from: Point, points: &[Point], bandwidth: f64) -> Point {
    let mut at = from;
    for _ in 0..ITERATIONS_MAX {
        let near = points
            .iter()
            .filter(|point| are_near(&at, point, bandwidth));
        let (mut sum, mut count) = ([0.0; 3], 0.0);
        for point in near {
            (0..3).for_each(|axis| sum[axis] += point[axis]);
            count += 1.0;
        }
        // With a bandwidth of 0 rounding may have left it alone.
        if count == 0.0 {
            return at;
        }
        let next = sum.map(|sum| sum / count);
        if distance(&at, &next) <= CONVERGED * bandwidth {
            return next;
        }
        at = next;
    }
    at
}

/// The mean distance within which a point has a majority of all, itself counted in.
fn bandwidth(points: &[Point]) -> f64 {
    let majority = points.len() / 2 + 1;
    let reach = |from: &Point| {
        let mut distances: Vec<f64> = points.iter().map(|to| distance(from, to)).collect();
        distances.sort_by(f64::total_cmp);
        distances[majority.min(points.len()) - 1]
    };
    points.iter().map(reach).sum::<f64>() / points.len() as f64
}

/// Within a bandwidth, which is often the very distance of some two points: rounding does not decide.
fn are_near(a: &Point, b: &Point, bandwidth: f64) -> bool {
    distance(a, b) <= bandwidth * (1.0 + 1e-9)
}

fn distance(a: &Point, b: &Point) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b) * (a - b))
        .sum::<f64>()
        .sqrt()
}

/// L and R of the paper, in median norms.
const SHORTEST: f64 = 0.1;
const LONGEST: f64 = 3.0;
const ITERATIONS_MAX: usize = 300;
/// In bandwidths.
const CONVERGED: f64 = 1e-3;

//! The keep rule once more, as slowly and literally as DESIGN.md states it, from the sketches
//! themselves: no Gram matrix, no shared sums.

#![allow(clippy::unwrap_used)]

use crate::sketch::{SKETCH_LEN, Sketch};

type Vector = Vec<i128>;

fn dot(a: &Vector, b: &Vector) -> i128 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sum<'a>(vectors: impl Iterator<Item = &'a Vector>) -> Vector {
    vectors.fold(vec![0; SKETCH_LEN], |sum, v| {
        sum.iter().zip(v).map(|(a, b)| a + b).collect()
    })
}

/// m (s − mean), with m the number of the kept.
fn centred(s: &[Vector], kept: &[usize]) -> Vec<Vector> {
    let total = sum(kept.iter().map(|i| &s[*i]));
    let m = kept.len() as i128;
    s.iter()
        .map(|v| v.iter().zip(&total).map(|(v, t)| m * v - t).collect())
        .collect()
}

fn lower_median(mut values: Vec<i128>) -> i128 {
    values.sort_unstable();
    values[(values.len() - 1) / 2]
}

/// Who is kept after the passes alive, copies and, from 32 vectors, three times energy.
pub(super) fn gram_kept(sketches: &[Sketch]) -> Vec<usize> {
    let s: Vec<Vector> = sketches
        .iter()
        .map(|sketch| sketch.0.iter().map(|v| i128::from(*v)).collect())
        .collect();
    if s.is_empty() {
        return Vec::new();
    }
    let n: Vec<i128> = s.iter().map(|v| dot(v, v)).collect();
    let median = lower_median(n.clone());
    let mut kept: Vec<usize> = (0..s.len()).filter(|i| 64 * n[*i] >= median).collect();
    kept = without_copies(&s, &n, &kept);
    for _ in 0..if s.len() >= 32 { 3 } else { 0 } {
        kept = without_colluders(&s, &kept);
    }
    kept
}

fn without_copies(s: &[Vector], n: &[i128], kept: &[usize]) -> Vec<usize> {
    let c = centred(s, kept);
    let d = lower_median(kept.iter().map(|i| dot(&c[*i], &c[*i])).collect());
    let m = kept.len() as i128;
    let close = |i: usize, j: usize| {
        let difference: Vector = s[i].iter().zip(&s[j]).map(|(a, b)| a - b).collect();
        let p = dot(&difference, &difference);
        3 * p * m * m < d && 2 * p < n[i] + n[j]
    };
    let is_copy = |j: usize| kept.iter().any(|i| *i < j && close(*i, j));
    kept.iter().copied().filter(|j| !is_copy(*j)).collect()
}

fn without_colluders(s: &[Vector], kept: &[usize]) -> Vec<usize> {
    let c = centred(s, kept);
    let energy = |i: usize| {
        let others = kept.iter().filter(|j| **j != i);
        let q: i128 = others.map(|j| dot(&c[i], &c[*j]).pow(2)).sum();
        (q, dot(&c[i], &c[i]))
    };
    // a ≤ b for fractions, a zero over zero counting as zero.
    let at_most = |a: (i128, i128), b: (i128, i128), factor: i128| match (a.1, b.1) {
        (0, _) => true,
        (_, 0) => a.0 == 0,
        _ => a.0 * b.1 <= factor * b.0 * a.1,
    };
    // The lower median is the least one that at least half are not above.
    let median = kept.iter().map(|i| energy(*i)).filter(|candidate| {
        let below = kept.iter().filter(|i| at_most(energy(**i), *candidate, 1));
        2 * below.count() >= kept.len()
    });
    let median = median
        .reduce(|a, b| if at_most(a, b, 1) { a } else { b })
        .unwrap();
    let within = |i: &usize| at_most(energy(*i), median, 2);
    kept.iter().copied().filter(within).collect()
}

/// max(0, ⟨sᵢ, Σ kept s⟩) from the vectors.
pub(super) fn alignment(sketches: &[Sketch], kept: &[usize], i: usize) -> u64 {
    let s: Vec<Vector> = sketches
        .iter()
        .map(|sketch| sketch.0.iter().map(|v| i128::from(*v)).collect())
        .collect();
    if !kept.contains(&i) {
        return 0;
    }
    let total = sum(kept.iter().map(|j| &s[*j]));
    u64::try_from(dot(&s[i], &total)).unwrap_or(0)
}

//! How alike two orders are: by which methods are compared with each other.

/// Spearman's ρ: the correlation of the ranks, −1 to 1; values that are equal share their mean
/// rank. 0 if all values of one side are equal.
///
/// # Panics
/// If the numbers of values differ.
#[must_use]
pub fn spearman(first: &[f64], second: &[f64]) -> f64 {
    assert_eq!(first.len(), second.len(), "pairs of values");
    let mean = (first.len() as f64 - 1.0) / 2.0;
    let (first, second) = (ranks(first), ranks(second));
    let product = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum()
    };
    let norms = product(&first, &first) * product(&second, &second);
    if norms > 0.0 {
        product(&first, &second) / norms.sqrt()
    } else {
        0.0
    }
}

/// Kendall's τ-b: pairs in the same order less pairs in opposite order, over the geometric mean of
/// the pairs that are no ties on either side, −1 to 1. 0 if all values of one side are equal.
/// Takes N² steps.
///
/// # Panics
/// If the numbers of values differ.
#[must_use]
pub fn kendall(first: &[f64], second: &[f64]) -> f64 {
    assert_eq!(first.len(), second.len(), "pairs of values");
    let sign = |values: &[f64], i: usize, j: usize| {
        let below = |i: usize, j: usize| f64::from(u8::from(values[i] < values[j]));
        below(j, i) - below(i, j)
    };
    let (mut agreement, mut untied, mut untied_second) = (0.0, 0.0f64, 0.0f64);
    for i in 0..first.len() {
        for j in 0..i {
            let (a, b) = (sign(first, i, j), sign(second, i, j));
            agreement += a * b;
            untied += f64::abs(a);
            untied_second += f64::abs(b);
        }
    }
    let pairs = (untied * untied_second).sqrt();
    if pairs > 0.0 { agreement / pairs } else { 0.0 }
}

/// Ranks from 0, ascending; equal values share their mean.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count() as f64;
        let equal = values.iter().filter(|other| *other == value).count() as f64;
        below + (equal - 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-12
    }

    #[test]
    fn both_are_those_of_the_textbook() {
        let (first, second) = ([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0]);
        // 1 − 6 Σ d² / (n (n² − 1)) with Σ d² = 4; 8 pairs agree, 2 do not.
        assert!(near(spearman(&first, &second), 0.8));
        assert!(near(kendall(&first, &second), 0.6));
        // τ-b with one tie: (5 − 0) / √(6 · 5).
        let tied = [1.0, 2.0, 2.0, 3.0];
        assert!(near(
            kendall(&[1.0, 2.0, 3.0, 4.0], &tied),
            5.0 / 30f64.sqrt()
        ));
        assert!(near(spearman(&[0.0; 3], &[1.0, 2.0, 3.0]), 0.0));
        assert!(near(kendall(&[0.0; 3], &[1.0, 2.0, 3.0]), 0.0));
    }

    proptest! {
        #[test]
        fn only_the_order_counts(values in prop::collection::btree_set(-1_000i32..1_000, 2..20)) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let grown: Vec<f64> = values.iter().map(|value| (value / 100.0).exp()).collect();
            let fallen: Vec<f64> = values.iter().map(|value| -value).collect();
            for correlation in [spearman, kendall] {
                prop_assert!(near(correlation(&values, &grown), 1.0));
                prop_assert!(near(correlation(&values, &fallen), -1.0));
            }
        }
    }
}

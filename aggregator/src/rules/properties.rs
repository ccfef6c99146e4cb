//! Every rule against a naive f64 twin, and what it must do whatever the deltas.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::{AggregationRule, CoordinateMedian, FedAvg, TrimmedMean, all, by_name};

fn aggregated(rule: &dyn AggregationRule, rows: &[Vec<f32>], weights: &[f64]) -> Vec<f32> {
    let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    let mut out = vec![f32::NAN; rows[0].len()];
    rule.aggregate(&slices, weights, &mut out);
    out
}

/// The rules once more, one value at a time, in f64.
fn naive(name: &str, column: &[f32], weights: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = column.iter().map(|v| f64::from(*v)).collect();
    sorted.sort_by(f64::total_cmp);
    let count = column.len();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    match name {
        "fedavg" => {
            let weighted = column.iter().zip(weights).map(|(v, w)| f64::from(*v) * w);
            weighted.sum::<f64>() / weights.iter().sum::<f64>()
        }
        "coordinate_median" if count % 2 == 1 => sorted[count / 2],
        "coordinate_median" => mean(&sorted[count / 2 - 1..=count / 2]),
        "trimmed_mean" => {
            let trimmed = (0.2 * count as f64).floor() as usize;
            mean(&sorted[trimmed..count - trimmed])
        }
        other => panic!("{other} has no twin"),
    }
}

#[test]
fn rules_are_found_by_name_and_others_are_not() {
    for rule in all() {
        assert_eq!(by_name(rule.name()).unwrap().name(), rule.name());
        assert!(!rule.summary().is_empty());
    }
    let error = by_name("fedavgg").err().unwrap().to_string();
    for rule in all() {
        assert!(error.contains(rule.name()), "{error}");
    }
}

#[test]
fn one_delta_is_its_own_aggregate() {
    let row = vec![1.5, -2.0, 0.0, f32::MAX, f32::MIN_POSITIVE];
    for rule in all() {
        assert_eq!(aggregated(rule, std::slice::from_ref(&row), &[3.0]), row);
    }
}

#[test]
fn weights_count_in_the_mean_alone() {
    let rows = [vec![0.0], vec![1.0], vec![4.0]];
    let weights = [1.0, 2.0, 1.0];
    assert_eq!(aggregated(&FedAvg, &rows, &weights), [1.5]);
    assert_eq!(aggregated(&CoordinateMedian, &rows, &weights), [1.0]);
    let five = [vec![9.0], vec![1.0], vec![2.0], vec![3.0], vec![-7.0]];
    assert_eq!(aggregated(&TrimmedMean::DEFAULT, &five, &[1.0; 5]), [2.0]);
}

#[test]
fn the_largest_values_do_not_overflow() {
    for rule in all() {
        let rows = vec![vec![f32::MAX; 3]; 6];
        assert_eq!(
            aggregated(rule, &rows, &[1e9; 6]),
            [f32::MAX; 3],
            "{}",
            rule.name()
        );
    }
}

/// Up to 12 deltas of up to 150 values (more than two tiles of the sorting network).
fn cohort() -> impl Strategy<Value = (Vec<Vec<f32>>, Vec<f64>)> {
    (1usize..12, 1usize..150).prop_flat_map(|(count, values)| {
        let row = prop::collection::vec(-1e3f32..1e3, values);
        let weights = prop::collection::vec((1u32..10_000).prop_map(f64::from), count);
        (prop::collection::vec(row, count), weights)
    })
}

proptest! {
    #[test]
    fn agrees_with_the_naive_twin((rows, weights) in cohort()) {
        for rule in all() {
            let got = aggregated(rule, &rows, &weights);
            for (index, got) in got.iter().enumerate() {
                let column: Vec<f32> = rows.iter().map(|row| row[index]).collect();
                let expected = naive(rule.name(), &column, &weights);
                prop_assert!((f64::from(*got) - expected).abs() <= 1e-4, "{}", rule.name());
            }
        }
    }

    #[test]
    fn the_order_of_the_trainers_is_irrelevant(
        (rows, weights) in cohort(),
        by in any::<prop::sample::Index>(),
    ) {
        let by = by.index(rows.len());
        let (mut rotated, mut rotated_weights) = (rows.clone(), weights.clone());
        rotated.rotate_left(by);
        rotated.reverse();
        rotated_weights.rotate_left(by);
        rotated_weights.reverse();
        for rule in all() {
            let (a, b) = (
                aggregated(rule, &rows, &weights),
                aggregated(rule, &rotated, &rotated_weights),
            );
            for (a, b) in a.iter().zip(&b) {
                prop_assert!((a - b).abs() <= 1e-3, "{}: {a} {b}", rule.name());
            }
        }
    }

    /// As long as the breakdown point is not passed, no value leaves the range of the honest.
    #[test]
    fn a_minority_has_bounded_influence(
        (honest, _) in cohort(),
        hostile_value in prop_oneof![Just(f32::MAX), Just(f32::MIN), -1e30f32..1e30],
        at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(honest.len() + 1);
        for rule in [&CoordinateMedian as &dyn AggregationRule, &TrimmedMean::DEFAULT] {
            let hostile_max = match rule.name() {
                "coordinate_median" => honest.len() - 1,
                // The most of which ⌊0.2 N⌋ are hostile, N with them counted in.
                _ => honest.len() / 4,
            };
            let mut rows = honest.clone();
            for _ in 0..hostile_max {
                rows.insert(at, vec![hostile_value; honest[0].len()]);
            }
            let got = aggregated(rule, &rows, &vec![1.0; rows.len()]);
            for (index, got) in got.iter().enumerate() {
                let column = honest.iter().map(|row| row[index]);
                let low = column.clone().fold(f32::INFINITY, f32::min);
                let high = column.fold(f32::NEG_INFINITY, f32::max);
                prop_assert!((low..=high).contains(got), "{}: {got}", rule.name());
            }
        }
    }
}

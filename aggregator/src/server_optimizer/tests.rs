//! Every optimizer against its formula, step by step in f64.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::testing::normal;

const VALUES: usize = 64;
const STEPS: u64 = 20;

fn spec(kind: ServerOptimizerKind) -> AggregationSpec {
    AggregationSpec {
        server_optimizer: kind,
        server_lr: 0.3,
        server_momentum: 0.8,
        server_beta2: 0.95,
        server_tau: 1e-2,
        ..AggregationSpec::default()
    }
}

/// One value's way, as the papers write it.
fn naive(kind: ServerOptimizerKind, deltas: &[f64]) -> f64 {
    let (lr, b1, b2, tau) = (0.3, 0.8, 0.95, 1e-2f64);
    let (mut x, mut m, mut v) = (1.0f64, 0.0f64, tau * tau);
    for d in deltas {
        match kind {
            ServerOptimizerKind::Sgd => {
                m = b1 * m + d;
                x += lr * m;
                continue;
            }
            ServerOptimizerKind::Nesterov => {
                m = b1 * m + d;
                x += lr * (d + b1 * m);
                continue;
            }
            ServerOptimizerKind::Adam => v = b2 * v + (1.0 - b2) * d * d,
            ServerOptimizerKind::Yogi => v -= (1.0 - b2) * d * d * (v - d * d).signum(),
            ServerOptimizerKind::Adagrad => v += d * d,
        }
        m = b1 * m + (1.0 - b1) * d;
        x += lr * m / (v.sqrt() + tau);
    }
    x
}

fn kinds() -> [ServerOptimizerKind; 5] {
    [
        ServerOptimizerKind::Sgd,
        ServerOptimizerKind::Nesterov,
        ServerOptimizerKind::Adam,
        ServerOptimizerKind::Yogi,
        ServerOptimizerKind::Adagrad,
    ]
}

fn first_moments(optimizer: &dyn ServerOptimizer) -> Vec<Vec<f32>> {
    let initial = optimizer.initial().iter();
    initial.map(|value| vec![*value; VALUES]).collect()
}

fn delta(step: u64) -> Vec<f32> {
    normal(step, VALUES)
        .iter()
        .map(|value| 0.1 * value)
        .collect()
}

#[test]
fn each_goes_the_way_of_its_formula() {
    for kind in kinds() {
        let optimizer = of(&spec(kind));
        let (mut x, mut moments) = (vec![1.0f32; VALUES], first_moments(&*optimizer));
        for step in 0..STEPS {
            optimizer.step(&delta(step), &mut x, &mut moments);
        }
        for (index, x) in x.iter().enumerate() {
            let deltas = (0..STEPS).map(|step| f64::from(delta(step)[index]));
            let due = naive(kind, &deltas.collect::<Vec<_>>());
            assert!((f64::from(*x) - due).abs() < 1e-5, "{kind:?}: {x} {due}");
        }
    }
}

#[test]
fn a_step_is_found_again_from_its_moments_bit_by_bit() {
    for kind in kinds() {
        let optimizer = of(&spec(kind));
        assert!(optimizer.remembers());
        let (mut x, mut moments) = (normal(7, VALUES), first_moments(&*optimizer));
        for step in 0..STEPS {
            let (base, before) = (x.clone(), moments.clone());
            optimizer.step(&delta(step), &mut x, &mut moments);
            let before: Vec<&[f32]> = before.iter().map(Vec::as_slice).collect();
            let (mut again, mut rest) = (base, first_moments(&*optimizer));
            optimizer.replay(&before, &moments[0], &mut again, &mut rest);
            assert_eq!((&again, &rest), (&x, &moments), "{kind:?}");
            let mut found = Vec::new();
            optimizer.delta(before[0], &moments[0], &mut found);
            for (found, due) in found.iter().zip(delta(step)) {
                assert!(f64::from((found - due).abs()) < 1e-6 * optimizer.gain());
            }
        }
    }
}

#[test]
fn a_unit_rate_without_momentum_adds_the_delta_and_remembers_nothing() {
    let optimizer = of(&AggregationSpec::default());
    let (mut x, mut moments) = (vec![1.0, 2.0], vec![vec![0.0; 2]]);
    optimizer.step(&[0.5, -0.5], &mut x, &mut moments);
    assert_eq!(x, [1.5, 1.5]);
    assert!(!optimizer.remembers());
}

#[test]
fn every_kind_is_listed_by_the_name_that_task_files_have() {
    for (kind, (name, _)) in kinds().into_iter().zip(all()) {
        assert_eq!(serde_json::to_value(kind).unwrap(), name);
    }
}

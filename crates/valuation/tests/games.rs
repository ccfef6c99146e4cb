//! Games whose Shapley values are known, and what each method makes of them.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;

use convoke_valuation::{
    EXACT_PLAYERS_MAX, Sampling, SamplingEnd, ValuationError, alignment, exact_shapley, gain,
    gtg_shapley, leave_one_out, tmc_shapley,
};

use self::common::{ALL, SAMPLED, assert_near, bounded, exact, game, orders};

type Plain = fn(&[usize]) -> f64;

/// Left gloves 0 and 1, right glove 2; a pair is worth 1.
fn glove(players: &[usize]) -> f64 {
    let left = players.iter().any(|player| *player < 2);
    f64::from(u8::from(left && players.contains(&2)))
}

/// Littlechild and Owen 1973: the runway costs as much as its largest user needs.
fn airport(players: &[usize]) -> f64 {
    -players
        .iter()
        .map(|player| [8.0, 11.0, 13.0, 18.0][*player])
        .fold(0.0, f64::max)
}

/// Weights 4, 3, 2, 1; a coalition with 6 wins.
fn voting(players: &[usize]) -> f64 {
    let votes: u32 = players.iter().map(|player| [4, 3, 2, 1][*player]).sum();
    f64::from(u8::from(votes >= 6))
}

fn additive(players: &[usize]) -> f64 {
    players
        .iter()
        .map(|player| [3.0, -1.0, 0.0, 0.25][*player])
        .sum()
}

/// Players 0 to 2 do alike, 3 and 4 nothing.
fn symmetric(players: &[usize]) -> f64 {
    let working = players.iter().filter(|player| **player < 3).count();
    (working * working) as f64
}

#[test]
fn exact_values_are_those_of_the_textbook() {
    assert_near(&exact(glove, 3), &[1.0 / 6.0, 1.0 / 6.0, 4.0 / 6.0], 1e-12);
    // 8/4, + 3/3, + 2/2, + 5/1.
    assert_near(&exact(airport, 4), &[-2.0, -3.0, -4.0, -9.0], 1e-12);
    // Player 0 is pivotal in 10 of the 24 orders, 1 and 2 in 6 each, 3 in 2.
    let shares = [10.0, 6.0, 6.0, 2.0].map(|orders| orders / 24.0);
    assert_near(&exact(voting, 4), &shares, 1e-12);
    assert_near(&exact(additive, 4), &[3.0, -1.0, 0.0, 0.25], 1e-12);
    assert_near(&exact(symmetric, 5), &[3.0, 3.0, 3.0, 0.0, 0.0], 1e-12);
    assert_eq!(exact(|_| 7.0, 0), []);
    assert_near(&exact(|players| players.len() as f64, 1), &[1.0], 0.0);
}

#[test]
fn sampled_values_come_near_the_exact_ones() {
    let games: [(Plain, usize); 5] = [
        (glove, 3),
        (airport, 4),
        (voting, 4),
        (additive, 4),
        (symmetric, 5),
    ];
    let settings = Sampling {
        tolerance: 0.0,
        error_max: 0.02,
        ..Sampling::seeded([1; 32])
    };
    for (utility, players) in games {
        let exact = exact(utility, players);
        let size: f64 = exact.iter().map(|value| value.abs()).sum();
        for method in SAMPLED {
            let found = method(&mut game(utility, players), &settings).unwrap();
            assert_near(&found.values, &exact, 0.02 * size);
        }
    }
}

/// Players of different weights who do more the more they are.
fn club(players: &[usize]) -> f64 {
    let weight: usize = players.iter().map(|player| player + 3).sum();
    weight.pow(2) as f64
}

#[test]
fn sampling_stops_when_the_error_is_small_enough() {
    let exact = exact(club, 12);
    let size: f64 = exact.iter().sum();
    for (method, error_max) in SAMPLED.iter().flat_map(|m| [(m, 0.1), (m, 0.05)]) {
        let settings = Sampling {
            tolerance: 0.0,
            error_max,
            ..Sampling::seeded([6; 32])
        };
        let mut there = game(club, 12);
        let found = method(&mut there, &settings).unwrap();
        assert_eq!(found.end, SamplingEnd::Converged);
        let errors = found.values.iter().zip(&exact).map(|(a, b)| (a - b).abs());
        // Errors are on average 0.8 standard errors.
        let errors: f64 = errors.sum();
        assert!(errors < 1.2 * error_max * size, "{errors}");
        assert!(
            errors > 0.3 * error_max * size,
            "more orders than needed: {errors}"
        );
    }
}

#[test]
fn once_every_coalition_is_known_the_values_are_exact() {
    for method in SAMPLED {
        let mut there = game(voting, 4);
        let found = method(&mut there, &orders(u32::MAX, 9)).unwrap();
        assert_eq!(found.end, SamplingEnd::Complete);
        assert_eq!(there.evaluations(), 16);
        assert_near(&found.values, &exact(voting, 4), 1e-12);
    }
}

#[test]
fn alone_and_last_are_what_gain_and_leave_one_out_measure() {
    let found = gain(&mut game(glove, 3)).unwrap();
    assert_near(&found, &[0.0, 0.0, 0.0], 0.0);
    let found = leave_one_out(&mut game(glove, 3)).unwrap();
    assert_near(&found, &[0.0, 0.0, 1.0], 0.0);
    let found = gain(&mut game(airport, 4)).unwrap();
    assert_near(&found, &[-8.0, -11.0, -13.0, -18.0], 0.0);
    let found = leave_one_out(&mut game(airport, 4)).unwrap();
    assert_near(&found, &[0.0, 0.0, 0.0, -5.0], 0.0);
}

/// The player that is left out is left out, and nobody else.
#[test]
fn leave_one_out_asks_for_everybody_but_one() {
    let asked = RefCell::new(Vec::new());
    let listen = |players: &[usize]| {
        asked.borrow_mut().push(players.to_vec());
        0.0
    };
    leave_one_out(&mut game(listen, 3)).unwrap();
    let expected = [vec![0, 1, 2], vec![1, 2], vec![0, 2], vec![0, 1]];
    assert_eq!(asked.into_inner(), expected);
}

#[test]
fn alignment_is_the_shapley_value_of_the_energy() {
    let vectors: [[f32; 3]; 4] = [
        [1.0, 0.0, 2.0],
        [0.5, -1.0, 1.0],
        [0.0, 0.0, 0.0],
        [1.5, 3.0, 0.25],
    ];
    let energy = |players: &[usize]| {
        let sum = |axis: usize| players.iter().map(|p| f64::from(vectors[*p][axis])).sum();
        (0..3).map(|axis| f64::powi(sum(axis), 2)).sum::<f64>()
    };
    let found = alignment(&vectors.each_ref().map(<[f32; 3]>::as_slice));
    assert_near(&found, &exact(energy, 4), 1e-9);
    let opposed: [&[f32]; 2] = [&[2.0], &[-1.0]];
    assert_near(&alignment(&opposed), &[2.0, 0.0], 0.0);
    assert_eq!(alignment(&[]), []);
}

/// Progress a billion times smaller is divided in the same way: nothing is cut off at some
/// number, as FedML 0.8.30 does at 0.01.
#[test]
fn a_round_of_small_progress_is_valued_as_any() {
    let small = |players: &[usize]| 2.3 + 1e-9 * voting(players);
    for method in ALL {
        let large = method(&mut game(voting, 4), &Sampling::seeded([3; 32])).unwrap();
        let small = method(&mut game(small, 4), &Sampling::seeded([3; 32])).unwrap();
        let scaled: Vec<f64> = small.iter().map(|value| 1e9 * value).collect();
        assert_near(&scaled, &large, 1e-5);
    }
}

#[test]
fn a_round_without_progress_is_divided_evenly_by_gtg() {
    let settings = Sampling::seeded([1; 32]);
    let tiny = |players: &[usize]| 1e-8 * additive(players);
    let mut there = game(tiny, 4);
    let found = gtg_shapley(&mut there, &settings, 1e-6).unwrap();
    assert_eq!(found.end, SamplingEnd::NothingToDivide);
    assert_near(&found.values, &[2.25e-8 / 4.0; 4], 1e-20);
    assert_eq!(there.evaluations(), 2);
    let found = gtg_shapley(&mut game(tiny, 4), &settings, 1e-9).unwrap();
    assert_ne!(found.end, SamplingEnd::NothingToDivide);
}

#[test]
fn truncation_saves_evaluations_and_costs_no_more_than_the_tolerance() {
    // Each further player adds half of what is missing.
    let saturating = |players: &[usize]| 1.0 - 0.5f64.powi(players.len() as i32);
    let followed = |tolerance: f64| {
        let settings = Sampling {
            tolerance,
            ..orders(40, 5)
        };
        let mut there = game(saturating, 12);
        let values = tmc_shapley(&mut there, &settings).unwrap().values;
        (there.evaluations(), values.iter().sum::<f64>())
    };
    let ((all, whole), (some, most)) = (followed(0.0), followed(0.1));
    assert!(2 * some < all, "{some} of {all}");
    assert!((whole - saturating(&[0; 12])).abs() < 1e-12);
    assert!(whole - most < 0.1 && most < whole, "{most} of {whole}");
}

#[test]
fn allowed_evaluations_are_never_exceeded_and_one_order_is_always_possible() {
    let square = |players: &[usize]| players.len().pow(2) as f64;
    for method in SAMPLED {
        for evaluations_max in [7, 20, 60] {
            let mut there = bounded(square, 6, evaluations_max);
            let found = method(&mut there, &orders(u32::MAX, 2)).unwrap();
            assert!(there.evaluations() <= evaluations_max);
            assert_eq!(found.end, SamplingEnd::Exhausted);
            assert!(found.permutations >= 1);
            assert_near(&[found.values.iter().sum()], &[36.0], 1e-9);
        }
        let found = method(&mut bounded(square, 6, 6), &orders(u32::MAX, 2));
        assert_eq!(found, Err(ValuationError::Exhausted { max: 6 }));
    }
    let found = exact_shapley(&mut game(square, EXACT_PLAYERS_MAX + 1));
    assert_eq!(found, Err(ValuationError::TooManyForExact(17)));
}

/// In each turn of N orders everybody comes first once.
#[test]
fn gtg_lets_everybody_lead_equally_often() {
    let leaders = RefCell::new(Vec::new());
    let listen = |players: &[usize]| {
        if let [leader] = players {
            leaders.borrow_mut().push(*leader);
        }
        players.len() as f64
    };
    gtg_shapley(&mut game(listen, 5), &orders(5, 4), 0.0).unwrap();
    let mut leaders = leaders.into_inner();
    leaders.sort_unstable();
    assert_eq!(leaders, [0, 1, 2, 3, 4]);
}

#[test]
fn the_seed_decides_and_nothing_else() {
    for method in SAMPLED {
        let of = |seed| method(&mut game(voting, 4), &orders(3, seed)).unwrap();
        assert_eq!(of(1), of(1));
        assert!((2..9).any(|seed| of(seed).values != of(1).values));
    }
}

//! What makes a value a Shapley value, on random games of up to six players.
#![allow(clippy::unwrap_used)]

mod common;

use convoke_valuation::tmc_shapley;
use proptest::prelude::*;

use self::common::{ALL, SAMPLED, assert_near, exact, game, orders};

const NEAR: f64 = 1e-9;

/// The value of each coalition of a game, by the players' bits.
fn tables(players: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-10.0..10.0, 1 << players)
}

fn of(table: &[f64]) -> impl Fn(&[usize]) -> f64 {
    |players| table[players.iter().map(|player| 1 << player).sum::<usize>()]
}

/// A game in which `players` are the given players' new places.
fn relabelled(table: &[f64], places: &[usize]) -> impl Fn(&[usize]) -> f64 {
    move |players| {
        let old = |player: &usize| places.iter().position(|place| place == player).unwrap();
        of(table)(&players.iter().map(old).collect::<Vec<_>>())
    }
}

proptest! {
    /// Efficiency: nothing is left over. Sampled values have it, too, if nothing is truncated.
    #[test]
    fn the_whole_is_divided(table in tables(5), seed: u8) {
        let whole = table[31] - table[0];
        let near = |values: Vec<f64>| (values.iter().sum::<f64>() - whole).abs() < NEAR;
        prop_assert!(near(exact(of(&table), 5)));
        for method in SAMPLED {
            prop_assert!(near(method(&mut game(of(&table), 5), &orders(7, seed)).unwrap().values));
        }
    }

    /// Symmetry: names are of no account. Players that are exchanged exchange their values, so
    /// two that do alike have the same.
    #[test]
    fn values_go_with_the_player_and_not_with_its_number(
        table in tables(5),
        places in Just(vec![0usize, 1, 2, 3, 4]).prop_shuffle(),
    ) {
        for method in &ALL[..3] {
            let settings = orders(1, 1);
            let before = method(&mut game(of(&table), 5), &settings).unwrap();
            let mut there = game(relabelled(&table, &places), 5);
            let after = method(&mut there, &settings).unwrap();
            let moved: Vec<f64> = places.iter().map(|place| after[*place]).collect();
            assert_near(&moved, &before, NEAR);
        }
    }

    /// Null player: who changes nothing gets nothing, from every method.
    #[test]
    fn who_changes_nothing_gets_nothing(table in tables(4), null in 0usize..5, seed: u8) {
        let without = |players: &[usize]| {
            let others = players.iter().filter(|player| **player != null);
            let others: Vec<_> = others.map(|p| p - usize::from(*p > null)).collect();
            of(&table)(&others)
        };
        for method in ALL {
            let values = method(&mut game(without, 5), &orders(9, seed)).unwrap();
            prop_assert!(values[null].abs() < NEAR);
        }
    }

    /// Linearity: the value in a sum of games is the sum of the values.
    #[test]
    fn games_add_up(first in tables(4), second in tables(4), scale in -3.0..3.0, seed: u8) {
        let sum = |players: &[usize]| of(&first)(players) + scale * of(&second)(players);
        for method in ALL {
            let settings = orders(9, seed);
            let [first, second] = [&first, &second]
                .map(|table| method(&mut game(of(table), 4), &settings).unwrap());
            let parts: Vec<f64> = first.iter().zip(&second).map(|(a, b)| a + scale * b).collect();
            assert_near(&method(&mut game(sum, 4), &settings).unwrap(), &parts, NEAR);
        }
    }

    /// The mean over seeds comes near the average over all orders, whatever the game. So few
    /// orders cannot meet all coalitions of three of six players.
    #[test]
    fn sampling_is_unbiased(table in tables(6)) {
        let exact = exact(of(&table), 6);
        for method in SAMPLED {
            let mut mean = [0.0; 6];
            for seed in 0..64 {
                let found = method(&mut game(of(&table), 6), &orders(18, seed)).unwrap();
                mean.iter_mut().zip(found.values).for_each(|(mean, value)| *mean += value / 64.0);
            }
            // Marginal contributions deviate by less than 10: four standard errors at the least.
            assert_near(&mean, &exact, 4.0 * 10.0 / (18.0 * 64.0f64).sqrt());
        }
    }

    /// Orders that come to the same coalition find the same value there.
    #[test]
    fn no_more_is_evaluated_than_there_are_coalitions(table in tables(3), seed: u8) {
        let mut there = game(of(&table), 3);
        tmc_shapley(&mut there, &orders(200, seed)).unwrap();
        prop_assert_eq!(there.evaluations(), 8);
    }
}

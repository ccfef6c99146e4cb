//! The circuit's shape: counts, and that no variable is free.

use std::collections::BTreeMap;

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};
use ark_relations::gr1cs::{ConstraintSystem, SynthesisMode};

use super::rounds::{arbitrary, witness};
use crate::builder::{Backend, Builder};
use crate::circuit::synthesize;
use crate::keys::Circuit;
use crate::proof::assign;
use crate::size::Size;
use crate::witness::RoundWitness;

#[test]
fn constraints_are_counted() {
    for (size, constraints) in [(Size::N16, 35_334), (Size::N64, 254_983)] {
        let circuit = Circuit::of(size).unwrap();
        assert_eq!(circuit.constraints(), constraints, "{:#?}", circuit.costs());
        assert_eq!(circuit.costs().values().sum::<usize>(), constraints);
    }
}

#[test]
fn exponents_of_the_challenge_are_a_sidon_set() {
    for size in Size::ALL {
        let prime = size.prime();
        let exponent = |i: usize| 2 * prime * i + i * i % prime;
        let mut sums = BTreeMap::new();
        for j in 0..size.slots() {
            for i in 0..=j {
                let other = sums.insert(exponent(i) + exponent(j), (i, j));
                assert_eq!(other, None);
            }
        }
    }
}

#[test]
fn the_library_agrees_that_rounds_satisfy_the_matrices() {
    for (size, seed) in [(Size::N16, 3), (Size::N16, 8), (Size::N64, 7)] {
        let (witness, statement) = witness(size, &paying(seed, size.slots()));
        let system = ConstraintSystem::new_ref();
        system.set_mode(SynthesisMode::Prove {
            construct_matrices: true,
            generate_lc_assignments: true,
        });
        let mut builder = Builder::new(Backend::System(system.clone()));
        let challenge = |h: Fr| {
            let public = statement.public_inputs(h).unwrap();
            (public.x, public.y)
        };
        synthesize(&mut builder, &witness, &challenge);
        assert!(system.is_satisfied().unwrap());
        // And the run on values is the same assignment.
        let (_, values) = assign(&witness, &statement).unwrap();
        assert_eq!(system.witness_assignment().unwrap(), values.witness);
        assert_eq!(system.instance_assignment().unwrap()[1..], values.instance);
    }
}

/// The first round from a seed on that pays somebody.
fn paying(seed: u64, slots: usize) -> RoundWitness {
    let rounds = (seed..).map(|seed| arbitrary(seed, slots));
    let size = Size::fitting(slots).unwrap();
    let mut paying = rounds.filter(|round| round.data(size).is_ok());
    paying.next().unwrap()
}

/// Changes every private variable by itself, which no circuit may accept unless the variable does
/// not matter: a variable that a forgotten constraint left free shows here.
fn free_variables(size: Size, round: &RoundWitness) -> Vec<usize> {
    let circuit = Circuit::of(size).unwrap();
    let (witness, statement) = witness(size, round);
    let (_, values) = assign(&witness, &statement).unwrap();
    let mut assignment = vec![Fr::ONE];
    assignment.extend(&values.instance);
    assignment.extend(&values.witness);
    let [a, b, c] = circuit.matrices() else {
        panic!("three matrices")
    };
    let value =
        |row: &Vec<(Fr, usize)>| -> Fr { row.iter().map(|(k, v)| *k * assignment[*v]).sum() };
    let mut changes: BTreeMap<usize, BTreeMap<usize, [Fr; 3]>> = BTreeMap::new();
    for (which, matrix) in [a, b, c].into_iter().enumerate() {
        for (index, row) in matrix.iter().enumerate() {
            for (coefficient, variable) in row {
                let by_row = changes.entry(*variable).or_default();
                by_row.entry(index).or_insert([Fr::ZERO; 3])[which] += coefficient;
            }
        }
    }
    let rows: Vec<[Fr; 3]> = (0..a.len())
        .map(|i| [value(&a[i]), value(&b[i]), value(&c[i])])
        .collect();
    let first = 1 + values.instance.len();
    let free = |variable: &usize| {
        let touched = changes.get(variable);
        // By 1 and by −1: one of them keeps a bit a bit.
        [Fr::ONE, -Fr::ONE].iter().any(|delta| {
            touched.into_iter().flatten().all(|(row, change)| {
                let [a, b, c]: [Fr; 3] = std::array::from_fn(|k| rows[*row][k] + change[k] * delta);
                a * b == c
            })
        })
    };
    (first..assignment.len()).filter(free).collect()
}

#[test]
fn no_variable_is_free() {
    let mut rng = <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(4);
    let full = super::rounds::honest(&mut rng, 16);
    let round = super::rounds::round(full, &[10_000; 16], 1_000_000);
    assert!(free_variables(Size::N16, &round).is_empty());
}

#[test]
fn no_variable_of_the_large_circuit_is_free() {
    let mut rng = <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(4);
    let full = super::rounds::honest(&mut rng, 64);
    let round = super::rounds::round(full, &[10_000; 64], 1_000_000);
    assert!(free_variables(Size::N64, &round).is_empty());
}

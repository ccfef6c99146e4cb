//! The verifier contract of a key.

use ark_bn254::{Fq, G1Affine, G2Affine};
use ark_ff::PrimeField;

use crate::keys::{Keys, hex};
use crate::proof::{g1, g2};

/// Source of the contract `RoundVerifier16` (or 64, 256), which reverts unless a proof holds.
#[must_use]
pub fn verifier_source(keys: &Keys) -> String {
    let key = &keys.proving().vk;
    let circuit = keys.circuit();
    let source = include_str!("../solidity/templates/Groth16Verifier.sol")
        .replace("@SLOTS@", &circuit.size().slots().to_string())
        .replace("@CIRCUIT@", &hex(circuit.hash()));
    let mut source = with_g1(source, "ALPHA", &key.alpha_g1);
    for (name, point) in [
        ("BETA", key.beta_g2),
        ("GAMMA", key.gamma_g2),
        ("DELTA", key.delta_g2),
    ] {
        source = with_g2(source, name, &-point);
    }
    let names = ["ONE", "H", "X", "Y"];
    let inputs = names.into_iter().zip(&key.gamma_abc_g1);
    inputs.fold(source, |source, (name, point)| with_g1(source, name, point))
}

fn with_g1(source: String, name: &str, point: &G1Affine) -> String {
    with(source, name, &["X", "Y"], &g1(point))
}

fn with_g2(source: String, name: &str, point: &G2Affine) -> String {
    with(source, name, &["X1", "X0", "Y1", "Y0"], &g2(point))
}

fn with(source: String, name: &str, parts: &[&str], coordinates: &[Fq]) -> String {
    let both = parts.iter().zip(coordinates);
    both.fold(source, |source, (part, coordinate)| {
        let number = coordinate.into_bigint().to_string();
        source.replace(&format!("@{name}_{part}@"), &number)
    })
}

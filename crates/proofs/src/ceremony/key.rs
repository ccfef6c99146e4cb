//! The second phase's key.

use ark_bn254::{Bn254, Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::Field;
use ark_groth16::{ProvingKey, VerifyingKey};
use ark_poly::EvaluationDomain;

use super::contribution::Secret;
use super::powers::{Bar, Powers, multiply_g1};
use crate::error::ProofError;
use crate::keys::{Circuit, Products, domain};
use crate::progress::{Progress, Stage};

/// The key of a circuit with γ = δ = 1.
///
/// The Lagrange polynomials' values at τ are the inverse Fourier transform of the powers; sums of
/// them by the columns of the matrices are the queries.
pub(super) fn derive(
    circuit: &Circuit,
    powers: &Powers,
    progress: &dyn Progress,
) -> Result<ProvingKey<Bn254>, ProofError> {
    let domain = domain(circuit)?;
    let rows = domain.size();
    let at = |step: usize| progress.at(Stage::Setup, step as f64 / 7.0);
    let lagrange = |points: &[G1Affine]| -> Vec<G1Projective> {
        let points: Vec<G1Projective> = points.iter().map(|p| p.into_group()).collect();
        domain.ifft(&points)
    };
    let products = Products::new(circuit);
    at(0);
    let tau = lagrange(&powers.tau[..rows]);
    at(1);
    let ((a, b), mut combined) = rayon::join(
        || rayon::join(|| products.columns(0, &tau), || products.columns(1, &tau)),
        || products.columns(2, &tau),
    );
    drop(tau);
    at(2);
    let alpha = lagrange(&powers.alpha);
    at(3);
    let beta = lagrange(&powers.beta);
    at(4);
    let (of_a, of_b) = rayon::join(
        || products.columns(0, &beta),
        || products.columns(1, &alpha),
    );
    for (sum, (of_a, of_b)) in combined.iter_mut().zip(of_a.iter().zip(&of_b)) {
        *sum += of_a;
        *sum += of_b;
    }
    at(5);
    let points: Vec<G2Projective> = powers.tau_g2.iter().map(|p| p.into_group()).collect();
    let tau = domain.ifft(&points);
    at(6);
    let b_g2 = products.columns(1, &tau);
    let vanishing = powers.tau[rows..].iter().zip(&powers.tau);
    let h: Vec<G1Projective> = vanishing.map(|(high, low)| *high - *low).collect();
    let (inputs, private) = combined.split_at(circuit.inputs());
    let affine = G1Projective::normalize_batch;
    let (g1, g2) = (G1Affine::generator(), G2Affine::generator());
    let key = ProvingKey {
        vk: VerifyingKey {
            alpha_g1: powers.alpha[0],
            beta_g2: powers.beta_g2,
            gamma_g2: g2,
            delta_g2: g2,
            gamma_abc_g1: affine(inputs),
        },
        beta_g1: powers.beta[0],
        delta_g1: g1,
        a_query: affine(&a),
        b_g1_query: affine(&b),
        b_g2_query: G2Projective::normalize_batch(&b_g2),
        h_query: affine(&h),
        l_query: affine(private),
    };
    at(7);
    Ok(key)
}

/// Multiplies δ, and divides what is over δ.
pub(super) fn multiply(key: &mut ProvingKey<Bn254>, secret: &Secret, progress: &dyn Progress) {
    let total = key.h_query.len() + key.l_query.len();
    let mut bar = Bar::new(progress, Stage::Contributing, total);
    let inverse = secret.inverse();
    multiply_g1(&mut key.h_query, inverse.value(), Fr::ONE, &mut bar);
    multiply_g1(&mut key.l_query, inverse.value(), Fr::ONE, &mut bar);
    key.delta_g1 = (key.delta_g1 * secret.value()).into_affine();
    key.vk.delta_g2 = (key.vk.delta_g2 * secret.value()).into_affine();
    bar.end();
}

//! The points of a key. Groth16: <https://eprint.iacr.org/2016/260>.
//!
//! With τ, α, β, δ the secrets, γ = 1, Z the polynomial that vanishes on the domain, and aⱼ, bⱼ, cⱼ
//! the polynomials of variable j, whose values on the domain are column j of the matrices:
//!
//! | query | is |
//! |---|---|
//! | a, b | aⱼ(τ), bⱼ(τ) |
//! | inputs | β aⱼ(τ) + α bⱼ(τ) + cⱼ(τ), of public variables |
//! | l | the same over δ, of private variables |
//! | h | τⁱ Z(τ) / δ |

use ark_bn254::{Bn254, Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::scalar_mul::BatchMulPreprocessing;
use ark_ec::{CurveGroup, PrimeGroup};
use ark_ff::{AdditiveGroup, Field, UniformRand};
use ark_groth16::{ProvingKey, VerifyingKey};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use ark_relations::gr1cs::SynthesisError;
use rand::{CryptoRng, RngCore};

use super::Circuit;
use crate::error::ProofError;
use crate::progress::{Progress, Stage};
use crate::rng::ArkRng;

/// The domain that a circuit's polynomials are defined on: constraints first, then one row for
/// each public variable, which keeps their polynomials independent.
pub(crate) fn domain(circuit: &Circuit) -> Result<Radix2EvaluationDomain<Fr>, ProofError> {
    let rows = circuit.constraints() + circuit.inputs();
    let domain = Radix2EvaluationDomain::new(rows);
    Ok(domain.ok_or(SynthesisError::PolynomialDegreeTooLarge)?)
}

/// Σ over the rows of a matrix, by column: what the values of the polynomials are made of. T is
/// a field element, or a point of a group.
pub(crate) struct Products<'a> {
    circuit: &'a Circuit,
}

impl<'a> Products<'a> {
    pub(crate) fn new(circuit: &'a Circuit) -> Self {
        Self { circuit }
    }

    /// Σ coefficient × row's element, for each column of matrix 0, 1 or 2; with the rows of the
    /// public variables in matrix 0.
    pub(crate) fn columns<T>(&self, matrix: usize, rows: &[T]) -> Vec<T>
    where
        T: AdditiveGroup<Scalar = Fr>,
    {
        let circuit = self.circuit;
        let mut columns = vec![T::ZERO; circuit.inputs() + circuit.witnesses()];
        for (row, element) in circuit.matrices()[matrix].iter().zip(rows) {
            for (coefficient, column) in row {
                columns[*column] += scaled(*element, coefficient);
            }
        }
        if matrix == 0 {
            let own = &rows[circuit.constraints()..];
            for (column, element) in columns.iter_mut().zip(&own[..circuit.inputs()]) {
                *column += *element;
            }
        }
        columns
    }
}

/// Most coefficients are 1 or −1, and few are large.
fn scaled<T: AdditiveGroup<Scalar = Fr>>(element: T, coefficient: &Fr) -> T {
    if *coefficient == Fr::ONE {
        element
    } else if *coefficient == -Fr::ONE {
        -element
    } else {
        element * *coefficient
    }
}

/// The key of secrets that this function draws and forgets.
pub(super) fn insecure<R: RngCore + CryptoRng>(
    circuit: &Circuit,
    rng: &mut R,
    progress: &dyn Progress,
) -> Result<ProvingKey<Bn254>, ProofError> {
    let domain = domain(circuit)?;
    let rng = &mut ArkRng(rng);
    let [tau, alpha, beta, delta] = std::array::from_fn(|_| {
        loop {
            // None is 0, and τ is not in the domain but with probability 2⁻²³⁶.
            let secret = Fr::rand(rng);
            if secret != Fr::ZERO && domain.evaluate_vanishing_polynomial(secret) != Fr::ZERO {
                break secret;
            }
        }
    });
    let lagrange = domain.evaluate_all_lagrange_coefficients(tau);
    let products = Products::new(circuit);
    let [a, b, c] = [0, 1, 2].map(|matrix| products.columns(matrix, &lagrange));
    let over_delta = delta.inverse().unwrap_or_default();
    let combined = a.iter().zip(&b).zip(&c);
    let combined = combined.map(|((a, b), c)| beta * a + alpha * b + c);
    let (inputs, l): (Vec<_>, Vec<_>) = combined
        .enumerate()
        .partition(|(column, _)| *column < circuit.inputs());
    let inputs: Vec<Fr> = inputs.into_iter().map(|(_, value)| value).collect();
    let l: Vec<Fr> = l.into_iter().map(|(_, value)| value * over_delta).collect();
    let mut h = vec![domain.evaluate_vanishing_polynomial(tau) * over_delta];
    while h.len() < domain.size() - 1 {
        h.push(h[h.len() - 1] * tau);
    }

    let (g1, g2) = (G1Projective::generator(), G2Projective::generator());
    // A point of G2 takes three times as long.
    let total = a.len() + b.len() + l.len() + h.len() + inputs.len() + 3 * b.len();
    let table = BatchMulPreprocessing::new(g1, total - 3 * b.len());
    let mut bar = Bar {
        progress,
        done: 0,
        total,
    };
    let mut multiples = |scalars: &[Fr]| -> Vec<G1Affine> {
        let chunks = scalars.chunks(CHUNK);
        let points = chunks.flat_map(|chunk| {
            bar.advance(chunk.len());
            table.batch_mul(chunk)
        });
        points.collect()
    };
    let a_query = multiples(&a);
    let b_g1_query = multiples(&b);
    let l_query = multiples(&l);
    let h_query = multiples(&h);
    let gamma_abc_g1 = multiples(&inputs);
    let table = BatchMulPreprocessing::new(g2, b.len());
    let b_g2_query: Vec<G2Affine> = b
        .chunks(CHUNK)
        .flat_map(|chunk| {
            bar.advance(3 * chunk.len());
            table.batch_mul(chunk)
        })
        .collect();
    progress.at(Stage::Setup, 1.0);
    Ok(ProvingKey {
        vk: VerifyingKey {
            alpha_g1: (g1 * alpha).into_affine(),
            beta_g2: (g2 * beta).into_affine(),
            gamma_g2: g2.into_affine(),
            delta_g2: (g2 * delta).into_affine(),
            gamma_abc_g1,
        },
        beta_g1: (g1 * beta).into_affine(),
        delta_g1: (g1 * delta).into_affine(),
        a_query,
        b_g1_query,
        b_g2_query,
        h_query,
        l_query,
    })
}

/// How far the points are.
struct Bar<'a> {
    progress: &'a dyn Progress,
    done: usize,
    total: usize,
}

impl Bar<'_> {
    fn advance(&mut self, points: usize) {
        let fraction = self.done as f64 / self.total as f64;
        self.progress.at(Stage::Setup, fraction);
        self.done += points;
    }
}

/// Points between two calls of the progress.
const CHUNK: usize = 1 << 14;

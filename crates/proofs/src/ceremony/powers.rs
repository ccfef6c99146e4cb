//! The first phase's points.

use ark_bn254::{Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::Field;
use ark_poly::EvaluationDomain;
use rayon::prelude::*;

use super::contribution::Secret;
use crate::error::ProofError;
use crate::keys::{Circuit, domain};
use crate::points::{g1_words, g2_words};
use crate::progress::{Progress, Stage};

/// Powers of τ for a domain of n rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Powers {
    /// \[τⁱ\]₁, 2 n − 1 of them.
    pub(super) tau: Vec<G1Affine>,
    /// \[τⁱ\]₂, n of them, and so are the others.
    pub(super) tau_g2: Vec<G2Affine>,
    /// \[α τⁱ\]₁
    pub(super) alpha: Vec<G1Affine>,
    /// \[β τⁱ\]₁
    pub(super) beta: Vec<G1Affine>,
    /// \[β\]₂
    pub(super) beta_g2: G2Affine,
}

impl Powers {
    /// All secrets are 1.
    pub(super) fn start(circuit: &Circuit) -> Result<Self, ProofError> {
        let rows = domain(circuit)?.size();
        let (g1, g2) = (G1Affine::generator(), G2Affine::generator());
        Ok(Self {
            tau: vec![g1; 2 * rows - 1],
            tau_g2: vec![g2; rows],
            alpha: vec![g1; rows],
            beta: vec![g1; rows],
            beta_g2: g2,
        })
    }

    /// \[τ\]₁, \[α\]₁ and \[β\]₁.
    pub(super) fn secrets(&self) -> [G1Affine; 3] {
        [self.tau[1], self.alpha[0], self.beta[0]]
    }

    /// Multiplies τ, α and β.
    pub(super) fn multiply(&mut self, secrets: &[Secret; 3], progress: &dyn Progress) {
        let [tau, alpha, beta] = secrets.each_ref().map(Secret::value);
        let total = self.tau.len() + self.alpha.len() + self.beta.len() + 3 * self.tau_g2.len();
        let mut bar = Bar::new(progress, Stage::Contributing, total);
        multiply_g1(&mut self.tau, Fr::ONE, tau, &mut bar);
        multiply_g1(&mut self.alpha, alpha, tau, &mut bar);
        multiply_g1(&mut self.beta, beta, tau, &mut bar);
        let mut factor = Fr::ONE;
        for chunk in self.tau_g2.chunks_mut(CHUNK) {
            bar.advance(3 * chunk.len());
            let factors = powers(chunk.len(), &mut factor, tau);
            let pairs = chunk.par_iter().zip(&factors);
            let points: Vec<G2Projective> = pairs.map(|(point, f)| *point * f).collect();
            chunk.copy_from_slice(&G2Projective::normalize_batch(&points));
        }
        self.beta_g2 = (self.beta_g2 * beta).into_affine();
        bar.end();
    }

    /// The transcript's hash once these powers are sealed.
    pub(super) fn state_after(&self, state: &[u8; 32]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("convoke ceremony 2026 powers");
        hasher.update(state);
        for point in self.tau.iter().chain(&self.alpha).chain(&self.beta) {
            hasher.update(g1_words(point).as_flattened());
        }
        for point in self.tau_g2.iter().chain([&self.beta_g2]) {
            hasher.update(g2_words(point).as_flattened());
        }
        *hasher.finalize().as_bytes()
    }
}

/// Point i times first × ratioⁱ.
pub(super) fn multiply_g1(points: &mut [G1Affine], first: Fr, ratio: Fr, bar: &mut Bar<'_>) {
    let mut factor = first;
    for chunk in points.chunks_mut(CHUNK) {
        bar.advance(chunk.len());
        let factors = powers(chunk.len(), &mut factor, ratio);
        let pairs = chunk.par_iter().zip(&factors);
        let points: Vec<G1Projective> = pairs.map(|(point, f)| *point * f).collect();
        chunk.copy_from_slice(&G1Projective::normalize_batch(&points));
    }
}

fn powers(count: usize, next: &mut Fr, ratio: Fr) -> Vec<Fr> {
    let power = |_| {
        let power = *next;
        *next *= ratio;
        power
    };
    (0..count).map(power).collect()
}

/// How far a contribution is.
pub(super) struct Bar<'a> {
    progress: &'a dyn Progress,
    stage: Stage,
    done: usize,
    total: usize,
}

impl<'a> Bar<'a> {
    pub(super) fn new(progress: &'a dyn Progress, stage: Stage, total: usize) -> Self {
        Self {
            progress,
            stage,
            done: 0,
            total,
        }
    }

    pub(super) fn advance(&mut self, points: usize) {
        let fraction = self.done as f64 / self.total as f64;
        self.progress.at(self.stage, fraction);
        self.done += points;
    }

    pub(super) fn end(self) {
        self.progress.at(self.stage, 1.0);
    }
}

/// Points between two calls of the progress.
const CHUNK: usize = 1 << 13;

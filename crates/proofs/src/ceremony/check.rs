//! The checks of a transcript.

use ark_bn254::{Bn254, Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::pairing::Pairing;
use ark_ec::{AffineRepr, CurveGroup, VariableBaseMSM};
use ark_ff::{AdditiveGroup, PrimeField};
use ark_groth16::ProvingKey;
use ark_poly::EvaluationDomain;
use ark_relations::gr1cs::Matrix;

use super::contribution::{Contribution, Receipt, state_before};
use super::powers::Powers;
use super::{CeremonyError, Phase, Transcript};
use crate::keys::{Circuit, domain};
use crate::progress::{Progress, Stage};

pub(super) fn transcript(
    transcript: &Transcript,
    progress: &dyn Progress,
) -> Result<Vec<Receipt>, CeremonyError> {
    let at = |step: usize| progress.at(Stage::Checking, step as f64 / 4.0);
    at(0);
    let mut state = state_before(&transcript.circuit);
    let ones = [G1Affine::generator(); 3];
    let (secrets, mut receipts) = chain(Phase::Powers, &transcript.first, ones, &mut state)?;
    at(1);
    let powers = &transcript.powers;
    if powers.secrets() != secrets {
        return Err(CeremonyError::Powers("not those of the last contribution"));
    }
    let sealed = powers.state_after(&state);
    check_powers(powers, &mut Random::new(&sealed))?;
    at(2);
    if let Some(second) = &transcript.second {
        if transcript.first.is_empty() {
            return Err(CeremonyError::NobodyContributed(Phase::Powers));
        }
        // Then h would be nothing. Before anybody contributed τ is 1, which is in the domain.
        if powers.tau[powers.tau_g2.len()] == G1Affine::generator() {
            return Err(CeremonyError::Powers("τ is in the domain"));
        }
        state = sealed;
        let one = [G1Affine::generator()];
        let (delta, later) = chain(Phase::Key, &second.contributions, one, &mut state)?;
        receipts.extend(later);
        if second.key.delta_g1 != delta[0] {
            return Err(CeremonyError::Key("its δ is not the last contribution's"));
        }
        let mut random = Random::new(&key_digest(&state, &second.key));
        check_key(&transcript.circuit, powers, &second.key, &mut random)?;
    }
    at(4);
    Ok(receipts)
}

/// Checks one phase's contributions; the last one's points, and the receipts.
fn chain<const K: usize>(
    phase: Phase,
    contributions: &[Contribution<K>],
    start: [G1Affine; K],
    state: &mut [u8; 32],
) -> Result<([G1Affine; K], Vec<Receipt>), CeremonyError> {
    let mut before = start;
    let mut receipts = Vec::new();
    for (index, contribution) in contributions.iter().enumerate() {
        let checked = contribution.check(state, &before);
        checked.map_err(|fault| CeremonyError::Contribution {
            phase,
            index,
            fault,
        })?;
        *state = contribution.state_after(state);
        receipts.push(Receipt(*state));
        before = contribution.after;
    }
    Ok((before, receipts))
}

fn check_powers(powers: &Powers, random: &mut Random) -> Result<(), CeremonyError> {
    let (g1, g2) = (G1Affine::generator(), G2Affine::generator());
    if powers.tau[0] != g1 || powers.tau_g2[0] != g2 {
        return Err(CeremonyError::Powers(
            "they do not start from the generators",
        ));
    }
    let (tau, tau_g2) = (powers.tau[1], powers.tau_g2[1]);
    let ratio = (g2, tau_g2);
    for (points, fault) in [
        (&powers.tau, "those of τ in G1"),
        (&powers.alpha, "those of α"),
        (&powers.beta, "those of β"),
    ] {
        let rho = random.scalars(points.len() - 1);
        let (low, high) = (sum(&points[..rho.len()], &rho), sum(&points[1..], &rho));
        if !same_ratio((low, high), ratio) {
            return Err(CeremonyError::Powers(fault));
        }
    }
    let rho = random.scalars(powers.tau_g2.len() - 1);
    let low = sum_g2(&powers.tau_g2[..rho.len()], &rho);
    let high = sum_g2(&powers.tau_g2[1..], &rho);
    if !same_ratio((g1, tau), (low, high)) {
        return Err(CeremonyError::Powers("those of τ in G2"));
    }
    if !same_ratio((g1, powers.beta[0]), (g2, powers.beta_g2)) {
        return Err(CeremonyError::Powers("β in G2"));
    }
    Ok(())
}

fn check_key(
    circuit: &Circuit,
    powers: &Powers,
    key: &ProvingKey<Bn254>,
    random: &mut Random,
) -> Result<(), CeremonyError> {
    let (g1, g2) = (G1Affine::generator(), G2Affine::generator());
    let fault = |fault| Err(CeremonyError::Key(fault));
    let vk = &key.vk;
    if vk.alpha_g1 != powers.alpha[0]
        || key.beta_g1 != powers.beta[0]
        || vk.beta_g2 != powers.beta_g2
    {
        return fault("α or β");
    }
    if vk.gamma_g2 != g2 {
        return fault("γ is not 1");
    }
    if !same_ratio((g1, key.delta_g1), (g2, vk.delta_g2)) {
        return fault("δ differs between the groups");
    }
    let columns = circuit.inputs() + circuit.witnesses();
    let combination = Combination {
        circuit,
        rho: random.scalars(columns),
    };
    let rho = &combination.rho;
    let [a, b, _] = combination.coefficients(0..columns)?;
    let rows = powers.alpha.len();
    if sum(&key.a_query, rho) != sum(&powers.tau[..rows], &a) {
        return fault("query A");
    }
    if sum(&key.b_g1_query, rho) != sum(&powers.tau[..rows], &b) {
        return fault("query B in G1");
    }
    if sum_g2(&key.b_g2_query, rho) != sum_g2(&powers.tau_g2, &b) {
        return fault("query B in G2");
    }
    let (inputs, private) = rho.split_at(circuit.inputs());
    let public = combination.sum(powers, 0..circuit.inputs())?;
    if sum(&vk.gamma_abc_g1, inputs) != public {
        return fault("public inputs");
    }
    let l = combination.sum(powers, circuit.inputs()..columns)?;
    if !same_ratio((sum(&key.l_query, private), l), (g2, vk.delta_g2)) {
        return fault("query L");
    }
    let rho = random.scalars(key.h_query.len());
    let high = sum(&powers.tau[rows..], &rho);
    let vanishing = (high - sum(&powers.tau[..rho.len()], &rho)).into_affine();
    if !same_ratio((sum(&key.h_query, &rho), vanishing), (g2, vk.delta_g2)) {
        return fault("query H");
    }
    Ok(())
}

/// A random combination of columns.
struct Combination<'a> {
    circuit: &'a Circuit,
    rho: Vec<Fr>,
}

impl Combination<'_> {
    /// Of Σⱼ ρⱼ (β aⱼ + α bⱼ + cⱼ)(τ) over some columns.
    fn sum(
        &self,
        powers: &Powers,
        columns: std::ops::Range<usize>,
    ) -> Result<G1Affine, CeremonyError> {
        let [a, b, c] = self.coefficients(columns)?;
        let (a, b) = (sum(&powers.beta, &a), sum(&powers.alpha, &b));
        let c = sum(&powers.tau[..powers.alpha.len()], &c);
        Ok((a.into_group() + b + c).into_affine())
    }

    /// Of the polynomials Σⱼ ρⱼ aⱼ and so on over some columns.
    fn coefficients(&self, columns: std::ops::Range<usize>) -> Result<[Vec<Fr>; 3], CeremonyError> {
        let circuit = self.circuit;
        let domain = domain(circuit)?;
        let mut polynomials = [0, 1, 2]
            .map(|matrix| self.values(&circuit.matrices()[matrix], &columns, domain.size()));
        for column in columns.start..columns.end.min(circuit.inputs()) {
            polynomials[0][circuit.constraints() + column] = self.rho[column];
        }
        for values in &mut polynomials {
            domain.ifft_in_place(values);
        }
        Ok(polynomials)
    }

    fn values(
        &self,
        matrix: &Matrix<Fr>,
        columns: &std::ops::Range<usize>,
        rows: usize,
    ) -> Vec<Fr> {
        let value = |row: &Vec<(Fr, usize)>| -> Fr {
            let counted = row.iter().filter(|(_, column)| columns.contains(column));
            counted.map(|(k, column)| *k * self.rho[*column]).sum()
        };
        let mut values: Vec<Fr> = matrix.iter().map(value).collect();
        values.resize(rows, Fr::ZERO);
        values
    }
}

/// y / x = v / u. An x of zero says nothing, and is refused.
fn same_ratio((x, y): (G1Affine, G1Affine), (u, v): (G2Affine, G2Affine)) -> bool {
    !x.is_zero() && !u.is_zero() && Bn254::pairing(x, v) == Bn254::pairing(y, u)
}

fn sum(points: &[G1Affine], scalars: &[Fr]) -> G1Affine {
    let count = points.len().min(scalars.len());
    G1Projective::msm_unchecked(&points[..count], &scalars[..count]).into_affine()
}

fn sum_g2(points: &[G2Affine], scalars: &[Fr]) -> G2Affine {
    let count = points.len().min(scalars.len());
    G2Projective::msm_unchecked(&points[..count], &scalars[..count]).into_affine()
}

fn key_digest(state: &[u8; 32], key: &ProvingKey<Bn254>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("convoke ceremony 2026 key");
    hasher.update(state);
    super::file::hash_key(&mut hasher, key);
    *hasher.finalize().as_bytes()
}

/// 128 bits each, from a hash of all that they are to catch.
struct Random(blake3::OutputReader);

impl Random {
    fn new(digest: &[u8; 32]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("convoke ceremony 2026 checks");
        Self(hasher.update(digest).finalize_xof())
    }

    fn scalars(&mut self, count: usize) -> Vec<Fr> {
        let scalar = |_| {
            let mut bytes = [0; 16];
            self.0.fill(&mut bytes);
            Fr::from_le_bytes_mod_order(&bytes)
        };
        (0..count).map(scalar).collect()
    }
}

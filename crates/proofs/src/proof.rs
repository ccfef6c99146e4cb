//! Proofs: making and encoding them.

use ark_bn254::{Bn254, Fr};
use ark_ff::UniformRand;
use ark_groth16::{Groth16, Proof as Points};
use rand::{CryptoRng, RngCore};

use crate::builder::{Backend, Builder, Values};
use crate::circuit::synthesize;
use crate::error::ProofError;
use crate::keys::Keys;
use crate::points::{base_element, g1_words, g2_words, to_g1, to_g2};
use crate::public_data::{PublicData, PublicInputs, from_word, to_word};
use crate::rng::ArkRng;
use crate::witness::{RoundWitness, Witness};

/// Bytes of an encoded proof: 8 coordinates and h.
pub const PROOF_BYTES: usize = 288;

/// A proof about [`PublicData`].
#[derive(Debug, Clone, PartialEq)]
pub struct Proof {
    pub(crate) points: Points<Bn254>,
    /// Hash of all that the circuit fixes before the challenge is known.
    pub(crate) h: Fr,
}

/// Judges a round and proves it.
///
/// # Errors
/// [`ProofError::NothingToPay`] if nobody has weight, or if the round does not fit the keys.
pub(crate) fn prove<R: RngCore + CryptoRng>(
    keys: &Keys,
    round: &RoundWitness,
    rng: &mut R,
) -> Result<(PublicData, Proof), ProofError> {
    let (witness, statement) = Witness::new(keys.circuit().size(), round)?;
    let proof = prove_witness(keys, &witness, &statement, rng)?;
    Ok((statement, proof))
}

fn prove_witness<R: RngCore + CryptoRng>(
    keys: &Keys,
    witness: &Witness,
    statement: &PublicData,
    rng: &mut R,
) -> Result<Proof, ProofError> {
    let (h, values) = assign(witness, statement)?;
    let circuit = keys.circuit();
    let mut assignment = vec![Fr::from(1u64)];
    assignment.extend(&values.instance);
    assignment.extend(&values.witness);
    let points = Groth16::<Bn254>::create_proof_with_reduction_and_matrices(
        keys.proving(),
        Fr::rand(&mut ArkRng(rng)),
        Fr::rand(&mut ArkRng(rng)),
        circuit.matrices(),
        circuit.inputs(),
        circuit.constraints(),
        &assignment,
    )?;
    Ok(Proof { points, h })
}

/// The circuit's assignments.
///
/// # Errors
/// [`ProofError::Unsatisfied`] if they do not satisfy it.
pub(crate) fn assign(
    witness: &Witness,
    statement: &PublicData,
) -> Result<(Fr, Values), ProofError> {
    // The words are checked first, so that the challenge cannot fail.
    statement.words()?;
    let challenge = |h: Fr| {
        let public = statement.public_inputs(h);
        public.map_or((h, h), |public| (public.x, public.y))
    };
    let mut builder = Builder::new(Backend::Values(Values::default()));
    let h = synthesize(&mut builder, witness, &challenge);
    let values = builder.finish()?.1.unwrap_or_default();
    match values.broken {
        Some(part) => Err(ProofError::Unsatisfied(part)),
        None => Ok((h, values)),
    }
}

impl PublicInputs {
    /// h, x and y as a contract would see them.
    #[must_use]
    pub fn words(&self) -> [[u8; 32]; 3] {
        [self.h, self.x, self.y].map(to_word)
    }

    /// From the words that a contract would see.
    ///
    /// # Errors
    /// [`ProofError::NotCanonical`] if one is not below the modulus.
    pub fn from_words(h: &[u8; 32], x: &[u8; 32], y: &[u8; 32]) -> Result<Self, ProofError> {
        let element = |word, name| from_word(word).ok_or(ProofError::NotCanonical(name));
        Ok(Self {
            h: element(h, "h")?,
            x: element(x, "x")?,
            y: element(y, "y")?,
        })
    }
}

impl Proof {
    /// Hash of all that the circuit fixes before the challenge is known.
    #[must_use]
    pub fn h(&self) -> Fr {
        self.h
    }

    /// As the contract takes it: nine 32-byte words, A.x, A.y, B.x.c1, B.x.c0, B.y.c1, B.y.c0,
    /// C.x, C.y and h.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; PROOF_BYTES] {
        let mut words = Vec::new();
        words.extend(g1_words(&self.points.a));
        words.extend(g2_words(&self.points.b));
        words.extend(g1_words(&self.points.c));
        words.push(to_word(self.h));
        let mut bytes = [0; PROOF_BYTES];
        bytes.copy_from_slice(words.as_flattened());
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote, and checks that everything is in range and every point
    /// on its curve and in its subgroup.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ProofError> {
        let (words, rest) = bytes.as_chunks::<32>();
        let words: &[[u8; 32]; 9] = match (words.try_into(), rest) {
            (Ok(words), []) => words,
            _ => {
                return Err(ProofError::Length {
                    expected: PROOF_BYTES,
                    got: bytes.len(),
                });
            }
        };
        for (index, word) in words[..8].iter().enumerate() {
            base_element(word).ok_or(ProofError::CoordinateTooLarge(index))?;
        }
        let h = from_word(&words[8]).ok_or(ProofError::NotCanonical("h"))?;
        let points = Points {
            a: to_g1([&words[0], &words[1]]).ok_or(ProofError::BadPoint("A"))?,
            b: to_g2([&words[2], &words[3], &words[4], &words[5]])
                .ok_or(ProofError::BadPoint("B"))?,
            c: to_g1([&words[6], &words[7]]).ok_or(ProofError::BadPoint("C"))?,
        };
        Ok(Self { points, h })
    }
}

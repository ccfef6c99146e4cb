//! Proofs: making, encoding and verifying them.

use ark_bn254::{Bn254, Fq, Fq2, Fr, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ff::{BigInteger, PrimeField, UniformRand};
use ark_groth16::{Groth16, PreparedVerifyingKey, Proof as Points, prepare_verifying_key};
use rand::{CryptoRng, RngCore};

use crate::builder::{Backend, Builder, Values};
use crate::circuit::synthesize;
use crate::error::ProofError;
use crate::keys::Keys;
use crate::rng::ArkRng;
use crate::size::Size;
use crate::statement::{PublicInputs, Statement, from_word, to_word};
use crate::witness::{RoundWitness, Witness};

/// Bytes of an encoded proof: 8 coordinates and h.
pub const PROOF_BYTES: usize = 288;

/// A proof about a [`Statement`].
#[derive(Debug, Clone, PartialEq)]
pub struct Proof {
    points: Points<Bn254>,
    /// Hash of all that the circuit fixes before the challenge is known.
    h: Fr,
}

/// Judges a round and proves it.
///
/// # Errors
/// [`ProofError::NothingToPay`] if nobody has weight, or if the round does not fit the keys.
pub fn prove<R: RngCore + CryptoRng>(
    keys: &Keys,
    round: &RoundWitness,
    rng: &mut R,
) -> Result<(Statement, Proof), ProofError> {
    let (witness, statement) = Witness::new(keys.circuit().size(), round)?;
    let proof = prove_witness(keys, &witness, &statement, rng)?;
    Ok((statement, proof))
}

fn prove_witness<R: RngCore + CryptoRng>(
    keys: &Keys,
    witness: &Witness,
    statement: &Statement,
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
pub(crate) fn assign(witness: &Witness, statement: &Statement) -> Result<(Fr, Values), ProofError> {
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

/// What verifies proofs of one circuit.
#[derive(Debug, Clone)]
pub struct VerifyingKey {
    size: Size,
    prepared: PreparedVerifyingKey<Bn254>,
}

impl VerifyingKey {
    pub(crate) fn new(size: Size, key: &ark_groth16::VerifyingKey<Bn254>) -> Self {
        Self {
            size,
            prepared: prepare_verifying_key(key),
        }
    }

    /// The size of its circuit.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// Checks a proof of a statement.
    ///
    /// # Errors
    /// [`ProofError::Refused`] if it does not hold, or what is wrong with the statement.
    pub fn verify(&self, statement: &Statement, proof: &Proof) -> Result<(), ProofError> {
        if statement.size != self.size {
            return Err(ProofError::TooManySlots {
                got: statement.size.slots(),
                expected: self.size.slots(),
            });
        }
        self.verify_inputs(&statement.public_inputs(proof.h)?, proof)
    }

    /// Checks the pairing equation for given public inputs.
    ///
    /// # Errors
    /// [`ProofError::Refused`] if it does not hold.
    pub fn verify_inputs(&self, public: &PublicInputs, proof: &Proof) -> Result<(), ProofError> {
        let inputs = [public.h, public.x, public.y];
        match Groth16::<Bn254>::verify_proof(&self.prepared, &proof.points, &inputs)? {
            true => Ok(()),
            false => Err(ProofError::Refused),
        }
    }
}

impl PublicInputs {
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
        let coordinates = [g1(&self.points.a), g2(&self.points.b), g1(&self.points.c)].concat();
        let mut bytes = [0; PROOF_BYTES];
        for (slot, coordinate) in bytes.chunks_mut(32).zip(coordinates) {
            slot.copy_from_slice(&coordinate.into_bigint().to_bytes_be());
        }
        bytes[PROOF_BYTES - 32..].copy_from_slice(&to_word(self.h));
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
        let mut c = [Fq::from(0u64); 8];
        for (index, (slot, word)) in c.iter_mut().zip(words).enumerate() {
            *slot = base_element(word).ok_or(ProofError::CoordinateTooLarge(index))?;
        }
        let h = from_word(&words[8]).ok_or(ProofError::NotCanonical("h"))?;
        let points = Points {
            a: to_g1(c[0], c[1], "A")?,
            b: to_g2(Fq2::new(c[3], c[2]), Fq2::new(c[5], c[4]))?,
            c: to_g1(c[6], c[7], "C")?,
        };
        Ok(Self { points, h })
    }
}

/// (0, 0) for the point at infinity, as the precompiles have it.
pub(crate) fn g1(point: &G1Affine) -> Vec<Fq> {
    let (x, y) = point.xy().unwrap_or_default();
    vec![x, y]
}

/// In the order of the precompiles: (c1, c0).
pub(crate) fn g2(point: &G2Affine) -> Vec<Fq> {
    let (x, y) = point.xy().unwrap_or_default();
    vec![x.c1, x.c0, y.c1, y.c0]
}

fn base_element(word: &[u8; 32]) -> Option<Fq> {
    let element = Fq::from_be_bytes_mod_order(word);
    (element.into_bigint().to_bytes_be() == word).then_some(element)
}

/// The point at infinity is refused: no honest proof contains it.
fn to_g1(x: Fq, y: Fq, name: &'static str) -> Result<G1Affine, ProofError> {
    let point = G1Affine::new_unchecked(x, y);
    let good =
        !point.is_zero() && point.is_on_curve() && point.is_in_correct_subgroup_assuming_on_curve();
    good.then_some(point).ok_or(ProofError::BadPoint(name))
}

fn to_g2(x: Fq2, y: Fq2) -> Result<G2Affine, ProofError> {
    let point = G2Affine::new_unchecked(x, y);
    let good =
        !point.is_zero() && point.is_on_curve() && point.is_in_correct_subgroup_assuming_on_curve();
    good.then_some(point).ok_or(ProofError::BadPoint("B"))
}

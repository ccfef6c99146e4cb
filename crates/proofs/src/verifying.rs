//! What verifies the proofs of one circuit, and how a contract gets it.

use ark_bn254::Bn254;
use ark_groth16::{Groth16, PreparedVerifyingKey, prepare_verifying_key};
use convoke_protocol::abi::Word;

use crate::error::ProofError;
use crate::points::{g1_words, g2_words, to_g1, to_g2};
use crate::proof::Proof;
use crate::public_data::{PublicData, PublicInputs};
use crate::size::Size;

/// Words of a verifying key.
pub const KEY_WORDS: usize = 22;

/// What verifies proofs of one circuit.
#[derive(Debug, Clone)]
pub struct VerifyingKey {
    size: Size,
    circuit: [u8; 32],
    prepared: PreparedVerifyingKey<Bn254>,
}

impl VerifyingKey {
    pub(crate) fn new(
        size: Size,
        circuit: [u8; 32],
        key: &ark_groth16::VerifyingKey<Bn254>,
    ) -> Self {
        Self {
            size,
            circuit,
            prepared: prepare_verifying_key(key),
        }
    }

    /// The size of its circuit.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// The hash of its circuit.
    #[must_use]
    pub fn circuit(&self) -> &[u8; 32] {
        &self.circuit
    }

    /// The key as the contract `Groth16Verifier` takes it: ALPHA (x, y), −BETA, −GAMMA and −DELTA
    /// (x.c1, x.c0, y.c1, y.c0 each), then the points of the public inputs: ONE, H, X and Y (x, y
    /// each). Negated, so that the contract has nothing of a proof to negate.
    #[must_use]
    pub fn words(&self) -> [Word; KEY_WORDS] {
        let key = &self.prepared.vk;
        let mut words = [[0; 32]; KEY_WORDS];
        let (alpha, rest) = words.split_at_mut(2);
        let (twist, inputs) = rest.split_at_mut(12);
        alpha.copy_from_slice(&g1_words(&key.alpha_g1));
        let negated = [-key.beta_g2, -key.gamma_g2, -key.delta_g2];
        for (slots, point) in twist.chunks_mut(4).zip(&negated) {
            slots.copy_from_slice(&g2_words(point));
        }
        for (slots, point) in inputs.chunks_mut(2).zip(&key.gamma_abc_g1) {
            slots.copy_from_slice(&g1_words(point));
        }
        words
    }

    /// Reads what [`Self::words`] wrote.
    ///
    /// # Errors
    /// [`ProofError::BadPoint`] if a point is not on its curve or not in its subgroup.
    pub fn from_words(
        size: Size,
        circuit: [u8; 32],
        words: &[Word; KEY_WORDS],
    ) -> Result<Self, ProofError> {
        let g1 = |at: usize| to_g1([&words[at], &words[at + 1]]);
        let g1 = |at: usize| g1(at).ok_or(ProofError::BadPoint("of the key"));
        let g2 = |at: usize| {
            let [a, b, c, d] = [at, at + 1, at + 2, at + 3].map(|i| &words[i]);
            to_g2([a, b, c, d]).ok_or(ProofError::BadPoint("of the key"))
        };
        let inputs = [14, 16, 18, 20].map(g1);
        let key = ark_groth16::VerifyingKey {
            alpha_g1: g1(0)?,
            beta_g2: -g2(2)?,
            gamma_g2: -g2(6)?,
            delta_g2: -g2(10)?,
            gamma_abc_g1: inputs.into_iter().collect::<Result<_, _>>()?,
        };
        Ok(Self::new(size, circuit, &key))
    }

    /// Checks a proof of public data.
    ///
    /// # Errors
    /// [`ProofError::Refused`] if it does not hold, or what is wrong with the data.
    pub fn verify(&self, data: &PublicData, proof: &Proof) -> Result<(), ProofError> {
        if data.size != self.size {
            return Err(ProofError::TooManySlots {
                got: data.size.slots(),
                expected: self.size.slots(),
            });
        }
        self.verify_inputs(&data.public_inputs(proof.h)?, proof)
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

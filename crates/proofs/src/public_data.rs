//! The public values of a circuit, and how they become three public inputs.
//!
//! All integers are 32-byte big-endian words, as in Solidity's `abi.encode`. The public values
//! v₀, v₁, … of a circuit of N slots are, in this order:
//!
//! | words | value |
//! |---|---|
//! | 1 | context: [`RoundContext::word`] |
//! | 1 | pool: what the trainers share, base units, below 2¹²⁸ |
//! | ⌈N / 128⌉ | flags: bit i mod 128 of word i / 128 is set if slot i is active |
//! | ⌈N / 15⌉ | factors: 15 a word, 16 bits each, the first in the highest 16 of the low 240 bits; that is 30 bytes of the contract's factors at a time, filled up with zeros |
//! | 3 N | for each slot: commitment (0 if the slot is not active), trainer's address, payout (below 2¹²⁸) |
//!
//! With h the hash that the prover sends along,
//!
//! ```text
//! x = keccak256(keccak256("convoke.round-proof.v1") ‖ h ‖ bound ‖ v₀ ‖ v₁ ‖ …) mod r
//! y = Σ vᵢ xⁱ mod r
//! ```
//!
//! and the public inputs are h, x and y. `bound` is [`crate::statement::Statement::bound`]: nothing
//! is proven about the checkpoint, the result hash or the roots of sums, but a proof for one is no
//! proof for another.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, BigInteger, PrimeField};
use convoke_protocol::factors::FACTOR_MAX;
use convoke_protocol::identity::keccak;
use convoke_protocol::ids::{Address, Amount, Digest, RoundId, TaskId};

use crate::error::ProofError;
use crate::plain::Sketch;
use crate::poseidon::Poseidon;
use crate::size::Size;

/// Where and when: what sketches are committed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundContext {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// The task manager's address.
    pub contract: Address,
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundId,
    /// 1 for the first try.
    pub attempt: u16,
    /// The seed of the sketches, drawn after the updates were committed to.
    pub seed: Digest,
}

impl RoundContext {
    /// `keccak256(abi.encode(keccak256("convoke.sketch-context.v1"), chainId, contract, task,
    /// round, attempt, seed))` with its first byte cleared, so that it is a field element.
    #[must_use]
    pub fn word(&self) -> [u8; 32] {
        let mut contract = [0; 32];
        contract[12..].copy_from_slice(&self.contract.0);
        let mut word = keccak(&[
            &keccak(&[b"convoke.sketch-context.v1"]).0,
            &number(u128::from(self.chain_id)),
            &contract,
            &number(u128::from(self.task.0)),
            &number(u128::from(self.round.0)),
            &number(u128::from(self.attempt)),
            &self.seed.0,
        ])
        .0;
        word[0] = 0;
        word
    }

    pub(crate) fn element(&self) -> Fr {
        Fr::from_be_bytes_mod_order(&self.word())
    }
}

/// A Poseidon commitment to a sketch: a field element, big endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commitment(pub [u8; 32]);

impl Commitment {
    /// What stands in the slot of nobody.
    pub const NONE: Self = Self([0; 32]);

    /// The commitment of a trainer's sketch in a round.
    #[must_use]
    pub fn of(sketch: &Sketch, trainer: Address, context: &RoundContext) -> Self {
        let elements = pack_sketch(sketch, trainer);
        Self(to_word(
            Poseidon::narrow().hash(context.element(), &elements),
        ))
    }
}

/// One slot of the public data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The update takes part. Slots that do not are paid nothing.
    pub active: bool,
    /// Who is paid.
    pub trainer: Address,
    /// [`Commitment::NONE`] unless active.
    pub commitment: Commitment,
    /// The validators' combined factor, up to [`FACTOR_MAX`].
    pub factor: u16,
    /// What the trainer gets; base units.
    pub payout: Amount,
}

impl Slot {
    /// Nobody.
    pub const EMPTY: Self = Self {
        active: false,
        trainer: Address::ZERO,
        commitment: Commitment::NONE,
        factor: 0,
        payout: Amount::ZERO,
    };
}

/// Everything public about a round that a proof settles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicData {
    /// The circuit.
    pub size: Size,
    /// Where and when.
    pub context: RoundContext,
    /// Whatever else the proof is tied to.
    pub bound: Digest,
    /// What the trainers share; base units.
    pub pool: Amount,
    /// By the order of the updates' commitments; missing ones at the end are
    /// [`Slot::EMPTY`].
    pub slots: Vec<Slot>,
}

/// What a verifier feeds into the pairing equation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicInputs {
    /// Hash of all that the circuit fixes before the challenge is known.
    pub h: Fr,
    /// The challenge.
    pub x: Fr,
    /// The public values' polynomial at x.
    pub y: Fr,
}

impl PublicData {
    /// The public values v₀, v₁, … as words.
    ///
    /// # Errors
    /// If there are too many slots, a factor is too high or a commitment is no field element.
    pub fn words(&self) -> Result<Vec<[u8; 32]>, ProofError> {
        let slots = self.size.slots();
        if self.slots.len() > slots {
            return Err(ProofError::TooManySlots {
                got: self.slots.len(),
                expected: slots,
            });
        }
        let mut padded = self.slots.clone();
        padded.resize(slots, Slot::EMPTY);
        let mut words = vec![self.context.word(), number(self.pool.0)];
        words.extend(padded.chunks(FLAGS_PER_WORD).map(flag_word));
        words.extend(padded.chunks(FACTORS_PER_WORD).map(factor_word));
        for (index, slot) in padded.iter().enumerate() {
            if slot.factor > FACTOR_MAX {
                return Err(ProofError::FactorTooHigh {
                    slot: index,
                    factor: slot.factor,
                });
            }
            from_word(&slot.commitment.0).ok_or(ProofError::NotCanonical("commitment"))?;
            let mut trainer = [0; 32];
            trainer[12..].copy_from_slice(&slot.trainer.0);
            words.extend([slot.commitment.0, trainer, number(slot.payout.0)]);
        }
        Ok(words)
    }

    /// The public inputs, given the prover's h.
    ///
    /// # Errors
    /// Those of [`Self::words`].
    pub fn public_inputs(&self, h: Fr) -> Result<PublicInputs, ProofError> {
        let words = self.words()?;
        let tag = keccak(&[b"convoke.round-proof.v1"]);
        let h_word = to_word(h);
        let mut parts: Vec<&[u8]> = vec![&tag.0, &h_word, &self.bound.0];
        parts.extend(words.iter().map(|word| &word[..]));
        let x = Fr::from_be_bytes_mod_order(&keccak(&parts).0);
        let horner = |sum: Fr, word: &[u8; 32]| sum * x + Fr::from_be_bytes_mod_order(word);
        let y = words.iter().rev().fold(Fr::ZERO, horner);
        Ok(PublicInputs { h, x, y })
    }
}

fn flag_word(slots: &[Slot]) -> [u8; 32] {
    let flags = slots.iter().enumerate();
    number(flags.map(|(i, slot)| u128::from(slot.active) << i).sum())
}

fn factor_word(slots: &[Slot]) -> [u8; 32] {
    let mut word = [0; 32];
    for (bytes, slot) in word[2..].chunks_mut(2).zip(slots) {
        bytes.copy_from_slice(&slot.factor.to_be_bytes());
    }
    word
}

/// The bytes s + 128 of a sketch, 31 an element, lowest first, and the address.
///
/// The address has an element of its own: next to it, sketch values would not be bound, because
/// nothing in the circuit says that it has 160 bits.
pub(crate) fn pack_sketch(sketch: &Sketch, trainer: Address) -> Vec<Fr> {
    let bytes: Vec<u8> = sketch.iter().map(|v| (i16::from(*v) + 128) as u8).collect();
    let chunks = bytes.chunks(BYTES_PER_ELEMENT);
    let mut elements: Vec<Fr> = chunks.map(Fr::from_le_bytes_mod_order).collect();
    elements.push(address_element(trainer));
    elements
}

pub(crate) fn address_element(address: Address) -> Fr {
    Fr::from_be_bytes_mod_order(&address.0)
}

pub(crate) fn number(value: u128) -> [u8; 32] {
    let mut word = [0; 32];
    word[16..].copy_from_slice(&value.to_be_bytes());
    word
}

pub(crate) fn to_word(element: Fr) -> [u8; 32] {
    let mut word = [0; 32];
    word.copy_from_slice(&element.into_bigint().to_bytes_be());
    word
}

/// `None` if the word is not below the modulus.
pub(crate) fn from_word(word: &[u8; 32]) -> Option<Fr> {
    let element = Fr::from_be_bytes_mod_order(word);
    (to_word(element) == *word).then_some(element)
}

pub(crate) const FLAGS_PER_WORD: usize = 128;
pub(crate) const FACTORS_PER_WORD: usize = 15;
pub(crate) const BYTES_PER_ELEMENT: usize = 31;

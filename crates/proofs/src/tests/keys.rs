//! Keys, proofs and their encodings.

use std::sync::OnceLock;

use ark_bn254::Fr;
use ark_ff::{BigInteger, PrimeField};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::rounds::{honest, round};
use crate::error::ProofError;
use crate::keys::Keys;
use crate::proof::{PROOF_BYTES, Proof, prove};
use crate::public_data::{PublicData, PublicInputs};
use crate::size::Size;
use crate::verifying::VerifyingKey;
use crate::witness::RoundWitness;
use convoke_protocol::ids::{Digest, RoundId, TaskId};

pub(super) fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        Keys::insecure_setup(Size::N16, &mut StdRng::seed_from_u64(1), &()).unwrap()
    })
}

fn proven() -> &'static (PublicData, Proof) {
    static PROVEN: OnceLock<(PublicData, Proof)> = OnceLock::new();
    PROVEN.get_or_init(|| prove(keys(), &some_round(), &mut StdRng::seed_from_u64(2)).unwrap())
}

pub(super) fn some_round() -> RoundWitness {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(3);
    round(honest(&mut rng, 12), &[10_000; 12], 1_000_000_007)
}

#[test]
fn proofs_hold_for_their_statement_and_no_other() {
    let (statement, proof) = proven();
    let key = keys().verifying();
    key.verify(statement, proof).unwrap();
    let falsify: [fn(&mut PublicData); 9] = [
        |s| s.context.round = RoundId(8),
        |s| s.context.task = TaskId(8),
        |s| s.context.chain_id = 1,
        |s| s.context.attempt = 2,
        |s| s.bound = Digest([1; 32]),
        |s| s.pool.0 += 1,
        |s| s.slots[2].payout.0 += 1,
        |s| s.slots[2].factor += 1,
        |s| s.slots.swap(2, 3),
    ];
    for falsify in falsify {
        let mut other = statement.clone();
        falsify(&mut other);
        let refused = key.verify(&other, proof);
        assert!(matches!(refused, Err(ProofError::Refused)));
    }
}

#[test]
fn proofs_are_encoded_canonically() {
    let (statement, proof) = proven();
    let bytes = proof.to_bytes();
    assert_eq!(Proof::from_bytes(&bytes).unwrap(), *proof);
    for length in [0, PROOF_BYTES - 1, PROOF_BYTES + 1, PROOF_BYTES + 32] {
        let refused = Proof::from_bytes(&vec![1; length]);
        assert!(matches!(refused, Err(ProofError::Length { .. })));
    }
    // The same coordinate plus the modulus is another encoding of it.
    for index in 0..8 {
        let mut other = bytes;
        let word = &mut other[32 * index..32 * index + 32];
        word.copy_from_slice(&add(word, &ark_bn254::Fq::MODULUS.to_bytes_be()));
        let refused = Proof::from_bytes(&other);
        assert!(matches!(refused, Err(ProofError::CoordinateTooLarge(i)) if i == index));
    }
    let mut other = bytes;
    let word = &mut other[256..];
    word.copy_from_slice(&add(word, &Fr::MODULUS.to_bytes_be()));
    let refused = Proof::from_bytes(&other);
    assert!(matches!(refused, Err(ProofError::NotCanonical("h"))));
    keys().verifying().verify(statement, proof).unwrap();
}

/// a + b of big-endian words; both are below 2^255.
fn add(a: &[u8], b: &[u8]) -> Vec<u8> {
    let mut sum = vec![0; 32];
    let mut carry = 0;
    for i in (0..32).rev() {
        let digit = u16::from(a[i]) + u16::from(b[i]) + carry;
        (sum[i], carry) = (digit as u8, digit >> 8);
    }
    sum
}

#[test]
fn points_off_their_curve_are_refused() {
    let bytes = proven().1.to_bytes();
    for (word, name) in [(0, "A"), (1, "A"), (2, "B"), (5, "B"), (6, "C"), (7, "C")] {
        let mut other = bytes;
        other[32 * word + 31] ^= 1;
        let refused = Proof::from_bytes(&other);
        assert!(matches!(refused, Err(ProofError::BadPoint(n)) if n == name));
    }
    // (0, 0) stands for infinity on chain; it is on no curve.
    let mut other = bytes;
    other[..64].fill(0);
    assert!(matches!(
        Proof::from_bytes(&other),
        Err(ProofError::BadPoint("A"))
    ));
}

#[test]
fn points_of_the_twist_outside_the_subgroup_are_refused() {
    use ark_bn254::{Fq, Fq2, G2Affine};
    let point = (1u64..)
        .filter_map(|x| {
            G2Affine::get_point_from_x_unchecked(Fq2::new(Fq::from(x), Fq::from(1u64)), true)
        })
        .find(|point| !point.is_in_correct_subgroup_assuming_on_curve())
        .unwrap();
    let mut bytes = proven().1.to_bytes();
    let coordinates = [point.x.c1, point.x.c0, point.y.c1, point.y.c0];
    for (slot, coordinate) in bytes[64..192].chunks_mut(32).zip(coordinates) {
        slot.copy_from_slice(&coordinate.into_bigint().to_bytes_be());
    }
    assert!(matches!(
        Proof::from_bytes(&bytes),
        Err(ProofError::BadPoint("B"))
    ));
}

#[test]
fn malleated_points_do_not_verify() {
    let (statement, proof) = proven();
    let key = keys().verifying();
    let bytes = proof.to_bytes();
    // −A, −B, −C, and A and C exchanged: on their curves, and refused by the pairing.
    let negate = |bytes: &mut [u8; PROOF_BYTES], word: usize| {
        let slot = &mut bytes[32 * word..32 * word + 32];
        let y = ark_bn254::Fq::from_be_bytes_mod_order(slot);
        slot.copy_from_slice(&(-y).into_bigint().to_bytes_be());
    };
    let mut variants = vec![bytes; 4];
    negate(&mut variants[0], 1);
    negate(&mut variants[1], 4);
    negate(&mut variants[1], 5);
    negate(&mut variants[2], 7);
    variants[3].copy_within(0..64, 192);
    variants[3][..64].copy_from_slice(&bytes[192..256]);
    for other in variants {
        let other = Proof::from_bytes(&other).unwrap();
        assert!(matches!(
            key.verify(statement, &other),
            Err(ProofError::Refused)
        ));
    }
    // Groth16 proofs can be made over by anyone; that is another proof of the same statement.
    let mut again = bytes;
    negate(&mut again, 1);
    negate(&mut again, 4);
    negate(&mut again, 5);
    key.verify(statement, &Proof::from_bytes(&again).unwrap())
        .unwrap();
}

#[test]
fn public_inputs_are_canonical() {
    let (statement, proof) = proven();
    let modulus: [u8; 32] = Fr::MODULUS.to_bytes_be().try_into().unwrap();
    let (good, too_large) = ([1; 32], modulus);
    for (h, x, y) in [
        (&too_large, &good, &good),
        (&good, &too_large, &good),
        (&good, &good, &too_large),
    ] {
        let refused = PublicInputs::from_words(h, x, y);
        assert!(matches!(refused, Err(ProofError::NotCanonical(_))));
    }
    let mut other = statement.clone();
    other.slots[0].commitment.0 = modulus;
    let refused = keys().verifying().verify(&other, proof);
    assert!(matches!(
        refused,
        Err(ProofError::NotCanonical("commitment"))
    ));
    other = statement.clone();
    other.slots[0].factor = 20_001;
    let refused = keys().verifying().verify(&other, proof);
    assert!(matches!(
        refused,
        Err(ProofError::FactorTooHigh { slot: 0, .. })
    ));
}

#[test]
fn proofs_of_other_keys_are_refused() {
    let other = Keys::insecure_setup(Size::N16, &mut StdRng::seed_from_u64(9), &()).unwrap();
    let (statement, proof) = proven();
    assert!(matches!(
        other.verifying().verify(statement, proof),
        Err(ProofError::Refused)
    ));
}

#[test]
fn verifying_keys_are_words() {
    let (data, proof) = proven();
    let key = keys().verifying();
    let words = key.words();
    let read = VerifyingKey::from_words(Size::N16, *key.circuit(), &words).unwrap();
    assert_eq!(read.words(), words);
    read.verify(data, proof).unwrap();
    for at in 0..words.len() {
        let mut other = words;
        other[at][31] ^= 1;
        let refused = VerifyingKey::from_words(Size::N16, *key.circuit(), &other);
        assert!(matches!(refused, Err(ProofError::BadPoint("of the key"))));
    }
}

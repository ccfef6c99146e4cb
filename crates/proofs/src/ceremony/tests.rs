//! Ceremonies of a small circuit, honest and not.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use ark_bn254::{Bn254, Fr, G1Affine};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::Field;
use ark_groth16::Groth16;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{CeremonyError, Phase, Receipt, Transcript};
use crate::keys::{Circuit, Keys, Origin};
use crate::proof::Proof;
use crate::public_data::PublicInputs;
use crate::size::Size;

/// Public h, x and y with h x = y, and a private power of x, in some rows.
fn small(power: usize) -> Arc<Circuit> {
    let one = |column: usize| vec![(Fr::ONE, column)];
    let mut rows = [vec![one(1)], vec![one(2)], vec![one(3)]];
    let mut last = 2;
    for witness in 0..power {
        // (last + 3) × 2 x = 2 next + 6 x
        rows[0].push(vec![(Fr::ONE, last), (Fr::from(3u64), 0)]);
        rows[1].push(vec![(Fr::from(2u64), 2)]);
        rows[2].push(vec![(Fr::from(2u64), 4 + witness), (Fr::from(6u64), 2)]);
        last = 4 + witness;
    }
    Arc::new(Circuit::of_matrices(Size::N16, 4, power, rows.to_vec()))
}

/// Proves h x = y with keys of [`small`] and verifies it.
fn holds(keys: &Keys, power: usize) -> bool {
    let (h, x) = (Fr::from(6u64), Fr::from(7u64));
    let mut assignment = vec![Fr::ONE, h, x, h * x];
    for _ in 0..power {
        let last = if assignment.len() == 4 {
            x
        } else {
            assignment[assignment.len() - 1]
        };
        assignment.push(last * x);
    }
    let circuit = keys.circuit();
    let points = Groth16::<Bn254>::create_proof_with_reduction_and_matrices(
        &keys.proving,
        Fr::from(11u64),
        Fr::from(12u64),
        circuit.matrices(),
        circuit.inputs(),
        circuit.constraints(),
        &assignment,
    );
    let proof = Proof {
        points: points.unwrap(),
        h,
    };
    let public = PublicInputs { h, x, y: h * x };
    let wrong = PublicInputs { y: h, ..public };
    let key = keys.verifying();
    key.verify_inputs(&public, &proof).is_ok() && key.verify_inputs(&wrong, &proof).is_err()
}

const POWER: usize = 9;

fn contribute(transcript: &mut Transcript, seed: u64) -> Receipt {
    let rng = &mut StdRng::seed_from_u64(seed);
    transcript.contribute(b"dice", rng, &()).unwrap()
}

/// Two contributions to each phase.
fn held() -> (Transcript, Vec<Receipt>) {
    let mut transcript = Transcript::start_for(small(POWER)).unwrap();
    let mut receipts = vec![
        contribute(&mut transcript, 1),
        contribute(&mut transcript, 2),
    ];
    transcript.seal(&()).unwrap();
    receipts.push(contribute(&mut transcript, 3));
    receipts.push(contribute(&mut transcript, 4));
    (transcript, receipts)
}

#[test]
fn proofs_of_ceremony_keys_verify() {
    let (transcript, receipts) = held();
    assert_eq!(transcript.verify(&()).unwrap(), receipts);
    assert_eq!(transcript.phase(), Phase::Key);
    let (keys, _) = transcript.finish(&()).unwrap();
    assert_eq!(keys.origin(), Origin::Ceremony);
    assert!(holds(&keys, POWER));
}

#[test]
fn every_stage_can_be_written_and_verified() {
    let mut transcript = Transcript::start_for(small(POWER)).unwrap();
    for step in 0..5 {
        let bytes = transcript.encode().unwrap();
        let read = Transcript::decode(small(POWER), &bytes).unwrap();
        assert_eq!(read.encode().unwrap(), bytes);
        assert_eq!(read.verify(&()).unwrap(), transcript.verify(&()).unwrap());
        match step {
            2 => transcript.seal(&()).unwrap(),
            _ => {
                let _ = contribute(&mut transcript, step);
            }
        }
    }
}

#[test]
fn both_phases_need_a_contribution() {
    let mut transcript = Transcript::start_for(small(POWER)).unwrap();
    let early = transcript.seal(&()).unwrap_err();
    assert!(matches!(
        early,
        CeremonyError::NobodyContributed(Phase::Powers)
    ));
    contribute(&mut transcript, 1);
    transcript.seal(&()).unwrap();
    assert!(matches!(
        transcript.seal(&()),
        Err(CeremonyError::AlreadySealed)
    ));
    let none = transcript.clone().finish(&()).unwrap_err();
    assert!(matches!(none, CeremonyError::NobodyContributed(Phase::Key)));
    transcript.first.clear();
    assert!(transcript.verify(&()).is_err());
    // The powers of 1 are known to everybody.
    let mut known = Transcript::start_for(small(POWER)).unwrap();
    known.second = transcript.second;
    assert!(known.verify(&()).is_err());
}

/// The transcript is refused after the change, with this text.
fn refused(change: impl Fn(&mut Transcript), text: &str) {
    let (mut transcript, _) = held();
    change(&mut transcript);
    let error = transcript.verify(&()).unwrap_err().to_string();
    assert!(error.contains(text), "{error}");
    assert!(transcript.finish(&()).is_err());
}

fn double(point: &mut G1Affine) {
    *point = (*point + *point).into_affine();
}

#[test]
fn contributions_that_are_skipped_moved_or_changed_are_refused() {
    refused(
        |t| {
            t.first.remove(0);
        },
        "contribution 0 of phase Powers",
    );
    refused(
        |t| {
            t.first.pop();
        },
        "not those of the last contribution",
    );
    refused(|t| t.first.swap(0, 1), "contribution 0 of phase Powers");
    refused(
        |t| t.first[1].known = t.first[0].known,
        "contribution 1 of phase Powers",
    );
    refused(
        |t| double(&mut t.first[0].after[1]),
        "contribution 0 of phase Powers",
    );
    refused(
        |t| t.first[0].after[2] = G1Affine::zero(),
        "a factor is zero",
    );
    let second = |t: &mut Transcript| t.second.take().unwrap();
    refused(
        |t| {
            let mut s = second(t);
            s.contributions.remove(0);
            t.second = Some(s);
        },
        "contribution 0 of phase Key",
    );
    refused(
        |t| {
            let mut s = second(t);
            s.contributions.pop();
            t.second = Some(s);
        },
        "δ is not the last contribution's",
    );
    // The same factor once more, without knowing it.
    refused(
        |t| {
            let again = t.first[1];
            t.first.push(again);
        },
        "contribution 2 of phase Powers",
    );
}

#[test]
fn wrong_powers_are_refused() {
    refused(|t| double(&mut t.powers.tau[1]), "not those of the last");
    refused(|t| double(&mut t.powers.tau[5]), "those of τ in G1");
    refused(
        |t| double(t.powers.tau.last_mut().unwrap()),
        "those of τ in G1",
    );
    refused(|t| double(&mut t.powers.alpha[3]), "those of α");
    refused(|t| double(&mut t.powers.beta[3]), "those of β");
    refused(|t| double(&mut t.powers.tau[0]), "generators");
    refused(
        |t| t.powers.tau_g2[4] = (t.powers.tau_g2[4] + t.powers.tau_g2[0]).into_affine(),
        "those of τ in G2",
    );
    refused(|t| t.powers.beta_g2 = t.powers.tau_g2[0], "β in G2");
}

#[test]
fn wrong_keys_are_refused() {
    let key = |change: fn(&mut ark_groth16::ProvingKey<Bn254>), text: &str| {
        refused(|t| change(&mut t.second.as_mut().unwrap().key), text);
    };
    key(|k| double(&mut k.vk.alpha_g1), "α or β");
    key(|k| double(&mut k.beta_g1), "α or β");
    key(|k| k.vk.beta_g2 = k.vk.gamma_g2, "α or β");
    key(|k| k.vk.gamma_g2 = k.vk.delta_g2, "γ is not 1");
    key(|k| double(&mut k.delta_g1), "δ is not the last");
    key(|k| k.vk.delta_g2 = k.vk.gamma_g2, "δ differs");
    key(|k| double(&mut k.a_query[5]), "query A");
    key(|k| double(&mut k.b_g1_query[2]), "query B in G1");
    key(|k| k.b_g2_query[2] = k.vk.gamma_g2, "query B in G2");
    key(|k| double(&mut k.vk.gamma_abc_g1[1]), "public inputs");
    key(|k| double(&mut k.l_query[1]), "query L");
    key(|k| double(&mut k.h_query[1]), "query H");
    // The queries of a key that is right but for δ, which l and h are not divided by.
    refused(
        |t| {
            let key = super::key::derive(&t.circuit, &t.powers, &()).unwrap();
            let second = t.second.as_mut().unwrap();
            second.key.l_query = key.l_query;
        },
        "query L",
    );
}

#[test]
fn the_key_of_another_circuit_is_refused() {
    let mut other = Transcript::start_for(small(POWER)).unwrap();
    let mut rows = small(POWER).matrices().to_vec();
    rows[2][3][0].0 += Fr::ONE;
    other.circuit = Arc::new(Circuit::of_matrices(Size::N16, 4, POWER, rows));
    contribute(&mut other, 1);
    other.seal(&()).unwrap();
    contribute(&mut other, 2);
    other.verify(&()).unwrap();
    let bytes = other.encode().unwrap();
    let refused = Transcript::decode(small(POWER), &bytes).unwrap_err();
    assert!(refused.contains("another circuit"), "{refused}");
    // Under the right name its contributions do not fit; made anew for it, its key does not.
    other.circuit = small(POWER);
    assert!(other.verify(&()).is_err());
    let key = other.second.take().unwrap().key;
    let mut forged = Transcript::start_for(small(POWER)).unwrap();
    contribute(&mut forged, 1);
    assert_eq!(forged.powers, other.powers);
    forged.seal(&()).unwrap();
    forged.second.as_mut().unwrap().key.l_query = key.l_query;
    contribute(&mut forged, 2);
    let error = forged.verify(&()).unwrap_err().to_string();
    assert!(error.contains("query L"), "{error}");
}

#[test]
fn damaged_files_are_refused() {
    let (transcript, _) = held();
    let bytes = transcript.encode().unwrap();
    let refused = |bytes: &[u8], text: &str| {
        let error = Transcript::decode(small(POWER), bytes).unwrap_err();
        assert!(error.contains(text), "{error}");
    };
    // Whoever changes a file can change its checksum as well.
    let sealed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut other = bytes.clone();
        change(&mut other);
        let sum = super::file::checksum(&other);
        other[super::file::SUM_AT..super::file::HEAD_BYTES].copy_from_slice(&sum);
        other
    };
    let head = super::file::HEAD_BYTES;
    for length in [0, 10, head - 1] {
        refused(&bytes[..length], "not a transcript");
    }
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    refused(&other, "checksum");
    refused(&sealed(&|b| b.truncate(head)), "cut off");
    refused(&sealed(&|b| b.truncate(bytes.len() - 1)), "cut off");
    refused(&sealed(&|b| b.push(0)), "more in it");
    refused(&sealed(&|b| b[0] ^= 1), "not a transcript");
    refused(&sealed(&|b| b[20] ^= 1), "another circuit");
    refused(&sealed(&|b| b[53] = 3), "no such phase");
    refused(&sealed(&|b| b[54] = 0xff), "too many");
    refused(&sealed(&|b| b[head] ^= 1), "not on its curve");
    refused(&sealed(&|b| b[head..head + 32].fill(0xff)), "out of range");
}

#[test]
fn secrets_come_from_both_sources() {
    let with = |entropy: &[u8], seed: u64| {
        let mut transcript = Transcript::start_for(small(2)).unwrap();
        let rng = &mut StdRng::seed_from_u64(seed);
        transcript.contribute(entropy, rng, &()).unwrap();
        transcript.powers.secrets()
    };
    assert_eq!(with(b"a", 1), with(b"a", 1));
    assert_ne!(with(b"a", 1), with(b"b", 1));
    assert_ne!(with(b"a", 1), with(b"a", 2));
    let [tau, alpha, beta] = with(b"a", 1);
    assert!(tau != alpha && alpha != beta && tau != beta);
}

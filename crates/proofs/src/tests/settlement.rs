//! Rounds from end to end, as chain and aggregator see them.

use convoke_protocol::identity::keccak;
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, RoundId, TaskId};
use convoke_protocol::payout::{MerkleTree, PayoutDomain};
use convoke_protocol::sketch::Norm;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::keys::keys;
use super::rounds::honest;
use crate::error::ProofError;
use crate::proof::PROOF_BYTES;
use crate::public_data::Commitment;
use crate::settle::{CheckedSketch, Round, Settled, Update, verify_round};
use crate::size::Size;
use crate::statement::{Statement, own_commitments};
use crate::submission::{ENTRY_BYTES, HEAD_BYTES, SUBMISSION_BYTES_MAX, Submission};

/// Nine updates: 3 was refused, 7 and 8 were committed to by their trainers, 5 copies 1.
fn round() -> Round {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    let mut sketches = honest(&mut rng, 9);
    sketches[3] = None;
    sketches[5] = sketches[1];
    let update = |(i, values): (usize, Option<_>)| Update {
        trainer: Address([i as u8 + 1; 20]),
        update: Digest([i as u8 + 101; 32]),
        sketch: values.map(|values| CheckedSketch {
            values,
            sums_root: Digest([i as u8 + 201; 32]),
        }),
        factor: 9_000 + 100 * i as u16,
    };
    let updates: Vec<Update> = sketches.into_iter().enumerate().map(update).collect();
    let domain = PayoutDomain {
        chain_id: 31_337,
        contract: Address([0xc0; 20]),
    };
    let statement = Statement {
        task: TaskId(3),
        round: RoundId(7),
        attempt: 1,
        aggregator: Address([0xa9; 20]),
        updates_root: Digest::ZERO,
        own_commitments: Digest::ZERO,
        updates: 9,
        seed: Digest([0x5e; 32]),
        trainers_pool: Amount(1_000_000_007),
        split: 0,
        rank_decay_bps: 0,
        checkpoint: BlobHash([0xcc; 32]),
        result_hash: Digest([0xee; 32]),
    };
    let mut round = Round {
        domain,
        statement,
        clip_norm: Norm::of(0.5),
        own: 2,
        updates,
    };
    commit(&mut round);
    round
}

/// As the chain would have it.
fn commit(round: &mut Round) {
    let pairs: Vec<_> = round
        .updates
        .iter()
        .map(|u| (u.trainer, u.update))
        .collect();
    let (first, own) = pairs.split_at(pairs.len() - usize::from(round.own));
    let statement = &mut round.statement;
    let tree = MerkleTree::of_updates(&round.domain, statement.task, statement.round, first);
    statement.updates_root = tree.root();
    statement.own_commitments = own_commitments(own);
}

fn settled() -> &'static (Round, Settled) {
    static SETTLED: std::sync::OnceLock<(Round, Settled)> = std::sync::OnceLock::new();
    SETTLED.get_or_init(|| {
        let round = round();
        let settled = round.prove(keys(), &mut StdRng::seed_from_u64(6)).unwrap();
        (round, settled)
    })
}

fn factors(round: &Round) -> Vec<u16> {
    round.updates.iter().map(|u| u.factor).collect()
}

/// What a challenger would get told.
fn verdict(
    round: &Round,
    factors: &[u16],
    payouts: &[(Address, Amount)],
    proof: &[u8],
) -> Result<Submission, ProofError> {
    let key = keys().verifying();
    verify_round(
        &key,
        &round.domain,
        &round.statement,
        factors,
        payouts,
        proof,
    )
}

#[test]
fn a_settled_round_verifies_and_pays_those_kept() {
    let (round, settled) = settled();
    let submission = verdict(round, &factors(round), &settled.payouts, &settled.proof).unwrap();
    assert_eq!(settled.proof.len(), HEAD_BYTES + 9 * ENTRY_BYTES);
    assert_eq!(submission.claim, round.claim());
    assert_eq!(submission.claim.clip_norm(), Some(round.clip_norm));
    assert!(!submission.claim.updates[3].is_active());
    let due: Vec<Amount> = round.payouts().unwrap();
    let due = round.updates.iter().zip(due).filter(|(_, a)| a.0 > 0);
    let due: Vec<_> = due.map(|(u, a)| (u.trainer, a)).collect();
    assert_eq!(settled.payouts, due);
    let paid = |slot: u8| settled.payouts.iter().any(|(a, _)| a.0[0] == slot + 1);
    assert!(!paid(3) && !paid(5) && paid(0) && paid(8));
}

#[test]
fn the_statement_is_bound_word_by_word() {
    let (round, settled) = settled();
    let changes: [fn(&mut Statement); 9] = [
        |s| s.attempt += 1,
        |s| s.aggregator = Address([1; 20]),
        |s| s.seed = Digest([1; 32]),
        |s| s.trainers_pool.0 += 1,
        |s| s.rank_decay_bps = 1,
        |s| s.checkpoint = BlobHash([1; 32]),
        |s| s.result_hash = Digest([1; 32]),
        |s| s.task = TaskId(4),
        |s| s.round = RoundId(8),
    ];
    for change in changes {
        let mut other = round.clone();
        change(&mut other.statement);
        // Whose updates' leaves name the other task and round.
        commit(&mut other);
        let verdict = verdict(&other, &factors(round), &settled.payouts, &settled.proof);
        assert!(matches!(verdict, Err(ProofError::Refused)));
    }
    let mut other = round.clone();
    other.domain.chain_id = 1;
    commit(&mut other);
    let refused = verdict(&other, &factors(round), &settled.payouts, &settled.proof);
    assert!(matches!(refused, Err(ProofError::Refused)));
    other.statement.split = 1;
    let refused = verdict(&other, &factors(round), &settled.payouts, &settled.proof);
    assert!(matches!(refused, Err(ProofError::SplitNotProven(1))));
}

#[test]
fn bound_is_the_hash_of_abi_encode_and_tail() {
    let statement = round().statement;
    let mut bytes = statement.words().concat();
    assert_eq!(bytes.len(), 13 * 32);
    assert_eq!(bytes[31], 3);
    assert_eq!(bytes[3 * 32..4 * 32][12..], [0xa9; 20]);
    bytes.extend(keccak(&[b"tail"]).0);
    assert_eq!(statement.bound(b"tail"), keccak(&[&bytes]));
}

#[test]
fn payouts_and_factors_are_those_proven() {
    let (round, settled) = settled();
    let refuse = |factors: &[u16], payouts: &[(Address, Amount)]| {
        verdict(round, factors, payouts, &settled.proof).unwrap_err()
    };
    let (factors, payouts) = (factors(round), settled.payouts.clone());
    let mut other = payouts.clone();
    other[1].1.0 += 1;
    assert!(matches!(refuse(&factors, &other), ProofError::Refused));
    // One payout left out, one for somebody else, two exchanged, one to a refused update.
    other = payouts.clone();
    other.remove(0);
    assert!(matches!(refuse(&factors, &other), ProofError::Refused));
    other = payouts.clone();
    other[2].0 = Address([77; 20]);
    let left = refuse(&factors, &other);
    assert!(matches!(left, ProofError::PayoutWithoutSlot { index: 2 }));
    other = payouts.clone();
    other.swap(0, 1);
    let left = refuse(&factors, &other);
    assert!(matches!(left, ProofError::PayoutWithoutSlot { index: 1 }));
    other = payouts.clone();
    other.insert(3, (round.updates[3].trainer, Amount(1)));
    let left = refuse(&factors, &other);
    assert!(matches!(left, ProofError::PayoutWithoutSlot { index: 3 }));

    let mut wrong = factors.clone();
    wrong[2] += 1;
    assert!(matches!(refuse(&wrong, &payouts), ProofError::Refused));
    wrong.push(1);
    let count = refuse(&wrong, &payouts);
    assert!(matches!(
        count,
        ProofError::UpdateCount {
            expected: 9,
            got: 10
        }
    ));
}

#[test]
fn a_submission_names_the_updates_that_were_committed_to() {
    let (round, settled) = settled();
    let submission = Submission::decode(&settled.proof).unwrap();
    let refuse = |change: &dyn Fn(&mut Submission)| {
        let mut other = submission.clone();
        change(&mut other);
        let bytes = other.encode();
        verdict(round, &factors(round), &settled.payouts, &bytes).unwrap_err()
    };
    // What is committed to.
    assert!(matches!(
        refuse(&|s| s.claim.updates[2].update.0[5] ^= 1),
        ProofError::OtherUpdates("root")
    ));
    assert!(matches!(
        refuse(&|s| s.claim.updates.swap(0, 1)),
        ProofError::OtherUpdates("root")
    ));
    assert!(matches!(
        refuse(&|s| s.claim.updates.swap(7, 8)),
        ProofError::OtherUpdates("chain of own commitments")
    ));
    assert!(matches!(
        refuse(&|s| s.claim.own = 1),
        ProofError::OtherUpdates("root")
    ));
    assert!(matches!(
        refuse(&|s| s.claim.own = 10),
        ProofError::TooManyOwn { own: 10, .. }
    ));
    assert!(matches!(
        refuse(&|s| {
            s.claim.updates.pop();
        }),
        ProofError::UpdateCount { .. }
    ));
    // What is only claimed: the proof is bound to it.
    assert!(matches!(
        refuse(&|s| s.claim.clip_norm_bits += 1),
        ProofError::Refused
    ));
    assert!(matches!(
        refuse(&|s| s.claim.updates[1].sums_root.0[0] ^= 1),
        ProofError::Refused
    ));
    assert!(matches!(
        refuse(&|s| s.claim.updates[3].sums_root.0[0] ^= 1),
        ProofError::Refused
    ));
    assert!(matches!(
        refuse(&|s| s.claim.updates[1].commitment.0[31] ^= 1),
        ProofError::Refused
    ));
    assert!(matches!(
        refuse(&|s| s.claim.updates[1].commitment.0 = [0xff; 32]),
        ProofError::NotCanonical("commitment")
    ));
    // Left out of the round, or taken in.
    assert!(matches!(
        refuse(&|s| s.claim.updates[5].commitment = Commitment::NONE),
        ProofError::Refused
    ));
    assert!(matches!(
        refuse(&|s| s.claim.updates[3].commitment.0[31] = 1),
        ProofError::Refused
    ));
}

#[test]
fn submissions_are_bounded_and_have_one_encoding() {
    let (_, settled) = settled();
    let bytes = &settled.proof;
    assert_eq!(Submission::decode(bytes).unwrap().encode(), *bytes);
    let mut long = bytes.clone();
    long.resize(SUBMISSION_BYTES_MAX, 0);
    assert_eq!(Submission::decode(&long).unwrap().encode(), long);
    for length in [0, 1, PROOF_BYTES, HEAD_BYTES - 1, HEAD_BYTES + 1] {
        let refused = Submission::decode(&long[..length]);
        assert!(matches!(refused, Err(ProofError::SubmissionLength { got }) if got == length));
    }
    long.resize(SUBMISSION_BYTES_MAX + ENTRY_BYTES, 0);
    let refused = Submission::decode(&long);
    assert!(matches!(refused, Err(ProofError::SubmissionLength { .. })));
    assert!(Submission::decode(&bytes[..HEAD_BYTES]).is_ok());
    // Whatever is read is written again as it was.
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for _ in 0..300 {
        let mut other = bytes.clone();
        let at = rng.random_range(0..other.len());
        other[at] ^= 1 << rng.random_range(0..8);
        if let Ok(read) = Submission::decode(&other) {
            assert!(at >= PROOF_BYTES - 32);
            assert_eq!(read.encode(), other);
        }
    }
}

#[test]
fn rounds_that_contradict_their_statement_are_not_proven() {
    let refuse = |change: &dyn Fn(&mut Round)| {
        let mut round = round();
        change(&mut round);
        let rng = &mut StdRng::seed_from_u64(6);
        round.prove(keys(), rng).unwrap_err()
    };
    assert!(matches!(
        refuse(&|r| r.statement.updates_root = Digest::ZERO),
        ProofError::OtherUpdates("root")
    ));
    assert!(matches!(
        refuse(&|r| r.statement.own_commitments = Digest::ZERO),
        ProofError::OtherUpdates(_)
    ));
    assert!(matches!(
        refuse(&|r| r.statement.updates = 8),
        ProofError::UpdateCount {
            expected: 8,
            got: 9
        }
    ));
    assert!(matches!(
        refuse(&|r| r.statement.split = 1),
        ProofError::SplitNotProven(1)
    ));
    let twice = |r: &mut Round| {
        r.updates[8].trainer = r.updates[0].trainer;
        commit(r);
    };
    assert!(matches!(
        refuse(&twice),
        ProofError::TrainerTwice { slot: 8 }
    ));
    assert!(matches!(
        refuse(&|r| r.updates[0].factor = 20_001),
        ProofError::FactorTooHigh { slot: 0, .. }
    ));
    let unwanted = |r: &mut Round| r.updates.iter_mut().for_each(|u| u.factor = 0);
    assert!(matches!(refuse(&unwanted), ProofError::NothingToPay));
    // Seventeen updates do not fit sixteen slots.
    let crowd = |r: &mut Round| {
        for i in 9..17 {
            let mut update = r.updates[0];
            update.trainer = Address([i + 1; 20]);
            r.updates.push(update);
        }
        r.statement.updates = 17;
        commit(r);
    };
    assert!(matches!(refuse(&crowd), ProofError::TooManySlots { .. }));
}

#[test]
fn a_trainer_may_have_a_second_slot_that_is_not_active() {
    let mut round = round();
    round.updates[3].trainer = round.updates[8].trainer;
    commit(&mut round);
    let settled = round.prove(keys(), &mut StdRng::seed_from_u64(6)).unwrap();
    verdict(&round, &factors(&round), &settled.payouts, &settled.proof).unwrap();
    assert_eq!(round.public_data(Size::N16).unwrap().slots.len(), 9);
}

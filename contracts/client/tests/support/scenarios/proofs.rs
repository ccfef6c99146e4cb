//! A round that is settled by a zero-knowledge proof, and by nothing else.

use std::sync::LazyLock;

use convoke_client::{
    DeployOptions, ProofCheck, ProofCircuits, ResultSubmission, Statement, TaskTerms, VerifierKey,
};
use convoke_proofs::keys::Keys;
use convoke_proofs::settle::{self, CheckedSketch};
use convoke_proofs::size::Size;
use convoke_proofs::statement;
use convoke_protocol::ids::{Address, BlobHash, Digest, RoundId, TaskId};
use convoke_protocol::sketch::Norm;
use convoke_protocol::task::SplitKind;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

use crate::support::Endpoint;
use crate::support::stage::*;

/// Made once: the same on every chain.
static KEYS: LazyLock<Keys> =
    LazyLock::new(|| Keys::insecure_setup(Size::N16, &mut rng(), &()).unwrap());

/// Nothing settles a round but a proof of its own payouts; and everything that proves it again
/// later is to be had from the chain.
pub(crate) async fn proven_round(endpoint: &Endpoint) -> Vec<String> {
    let strict = DeployOptions {
        proofs: ProofCheck::Keys(vec![key()]),
        ..options()
    };
    let stage = Stage::set_with(endpoint, strict).await;
    the_circuits_are_told(&stage).await;
    let by_score = TaskTerms {
        split: SplitKind::Score,
        ..stage.terms()
    };
    let task = stage.post(&by_score).await;
    let round = RoundId(1);
    stage.train(task, round).await;
    let scores = stage
        .score(task, round, &[10_000, 9_000], &[10_000, 9_000])
        .await;
    let mut result = stage.submission(&scores, 2, &[]);
    let told = stage.bob.statement(task, round).await.unwrap();
    assert_eq!(told.checkpoint, BlobHash([0; 32]), "there is no result yet");
    prove(&stage, &told, &mut result);

    refused(&stage, task, round, &result).await;
    stage.bob.check_proof(task, round, &result).await.unwrap();
    stage
        .aggregator
        .submit_result(task, round, &result)
        .await
        .unwrap();
    let told = stage.bob.submission(task, round).await.unwrap().unwrap();
    assert_eq!(told, result);
    stage.dora.check_proof(task, round, &told).await.unwrap();
    let statement = stage.bob.statement(task, round).await.unwrap();
    assert_eq!(statement.checkpoint, result.checkpoint);
    assert_eq!(statement.result_hash, result.result_hash);
    stage.record().await
}

async fn the_circuits_are_told(stage: &Stage<'_>) {
    let told = stage.bob.proof_circuits().await.unwrap();
    let ProofCircuits::Circuits { verifier, circuits } = told else {
        panic!("{told:?}");
    };
    assert_eq!(Some(verifier), stage.book.verifier);
    let [circuit] = circuits[..] else {
        panic!("{circuits:?}");
    };
    assert_eq!((circuit.slots, circuit.circuit), (16, key().circuit));
    assert!(stage.bob.has_key(circuit.address, &key()).await.unwrap());
    let mut other = key();
    other.words[21][31] ^= 1;
    assert!(!stage.bob.has_key(circuit.address, &other).await.unwrap());
    let none = stage.dora.deploy_verifier(&[]).await;
    assert_reverts(none, "NothingToVerify");
    let twice = stage.dora.deploy_verifier(&[key(), key()]).await;
    assert_reverts(twice, "SlotsNotAscending");
}

/// Every lie has its sentence, and changes nothing.
async fn refused(stage: &Stage<'_>, task: TaskId, round: RoundId, result: &ResultSubmission) {
    let lies: [(&str, Lie); 7] = [
        ("WrongProofLength", |r| r.proof = b"proof".to_vec()),
        ("ProofRefused", one_unit),
        ("ProofRefused", |r| r.checkpoint = BlobHash([0xbb; 32])),
        ("ProofRefused", |r| r.result_hash = Digest([0xbb; 32])),
        ("ProofRefused", |r| r.proof[0] ^= 1),
        ("PayoutWithoutSlot", |r| r.payouts.swap(0, 1)),
        ("OtherUpdates", |r| r.proof[294 + 20] ^= 1),
    ];
    for (name, lie) in lies {
        let mut false_result = result.clone();
        lie(&mut false_result);
        let asked = stage.bob.check_proof(task, round, &false_result).await;
        assert_reverts(asked, name);
        let sent = stage.aggregator.submit_result(task, round, &false_result);
        let error = sent.await.unwrap_err();
        assert_eq!(error.revert_name(), Some(name), "{error}");
        assert!(error.to_string().contains(&format!("{name} (")), "{error}");
    }
    assert_eq!(stage.bob.submission(task, round).await.unwrap(), None);
}

type Lie = fn(&mut ResultSubmission);

fn one_unit(result: &mut ResultSubmission) {
    result.payouts[0].1.0 -= 1;
    result.payouts[1].1.0 += 1;
}

/// Fills in payouts and proof.
fn prove(stage: &Stage<'_>, told: &Statement, result: &mut ResultSubmission) {
    let update = |number: u8, index: usize| settle::Update {
        trainer: wallet(number).address(),
        update: stage
            .update(number, told.task, told.round, 0xde)
            .header
            .struct_hash(),
        sketch: Some(sketch(index)),
        factor: result.factors[index],
    };
    let round = settle::Round {
        domain: stage.bob.domain(),
        statement: statement_of(told, result),
        clip_norm: Norm::of(0.5),
        own: 0,
        updates: vec![update(3, 0), update(4, 1)],
    };
    let settled = round.prove(&KEYS, &mut rng()).unwrap();
    assert_eq!(settled.payouts.len(), 2);
    (result.payouts, result.proof) = (settled.payouts, settled.proof);
}

fn statement_of(told: &Statement, result: &ResultSubmission) -> statement::Statement {
    statement::Statement {
        task: told.task,
        round: told.round,
        attempt: told.attempt,
        aggregator: told.aggregator,
        updates_root: told.updates_root,
        own_commitments: told.own_commitments,
        updates: told.updates,
        seed: told.seed,
        trainers_pool: told.trainers_pool,
        split: statement::SPLIT_BY_SCORE,
        rank_decay_bps: told.rank_decay_bps,
        checkpoint: result.checkpoint,
        result_hash: result.result_hash,
    }
}

/// Two that agree in most values.
fn sketch(index: usize) -> CheckedSketch {
    let value = |i: usize| {
        let common = (i * 37 % 61) as i8 - 30;
        if i % 4 == index { -common } else { common }
    };
    CheckedSketch {
        values: std::array::from_fn(value),
        sums_root: Digest([0x50 + index as u8; 32]),
    }
}

fn key() -> VerifierKey {
    let key = KEYS.verifying();
    VerifierKey {
        slots: 16,
        circuit: Digest(*key.circuit()),
        words: key.words(),
    }
}

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(4)
}

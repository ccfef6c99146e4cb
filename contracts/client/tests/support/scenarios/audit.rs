//! False sketches are shown to the chain, and what is withheld is asked for.

use convoke_client::{
    AuditEntry, AuditPart, DeployOptions, Opened, ResultSubmission, SketchOpening,
};
use convoke_proofs::public_data::{Commitment, RoundContext};
use convoke_protocol::ids::{Amount, Digest, RoundId, TaskId};
use convoke_protocol::payout::MerkleTree;
use convoke_protocol::sketch::{Norm, SketchClaim};
use convoke_protocol::update::{SignedUpdate, UpdateHeader};
use convoke_sketch::opening::{OpenedSums, Opener};
use convoke_sketch::quantize;

use crate::support::Endpoint;
use crate::support::stage::*;

const ANSWER_WINDOW: u32 = 600;
const CLIP: f64 = 2.0;

/// A trainer and then the aggregator say that a delta has another sketch than it has; later the
/// aggregator shows one thing that it is asked for and keeps back another.
pub(crate) async fn audit(endpoint: &Endpoint) -> Vec<String> {
    let watched = DeployOptions {
        answer_window_seconds: ANSWER_WINDOW,
        audit_bond: Amount(COIN),
        ..options()
    };
    let stage = Stage::set_with(endpoint, watched).await;
    let task = stage.post(&stage.terms()).await;
    let round = RoundId(1);
    let delta = values();
    let updates = [3, 4].map(|number| header(&stage, number, task, round, &delta));
    let seed = committed(&stage, &updates).await;
    let opener = Opener::new(&delta[..], &seed, clip()).unwrap();
    let (honest, lie) = sketches(&stage, &opener, &updates[0], seed);
    claims(&stage, &opener, &updates[0], seed, [honest, lie]).await;

    let scores = stage.score(task, round, &[10_000; 2], &[10_000; 2]).await;
    let mut result = stage.submission(&scores, 2, &[(stage.cohort()[0], Amount(7))]);
    let other = sketches(&stage, &opener, &updates[1], seed).0;
    result.proof = proof_bytes(&opener, &updates, [lie, other]);
    let sent = stage.aggregator.submit_result(task, round, &result).await;
    sent.unwrap();
    demands(&stage, &opener, &updates, &result).await;
    entries(&stage, &opener, &updates, &result).await;
    stage.record().await
}

fn values() -> Vec<f32> {
    (0..5_000u32)
        .map(|i| ((i * 7_919 % 2_003) as f32 - 1_001.0) * 3e-5)
        .collect()
}

fn clip() -> Norm {
    Norm::of(CLIP)
}

fn header(
    stage: &Stage<'_>,
    number: u8,
    task: TaskId,
    round: RoundId,
    delta: &[f32],
) -> SignedUpdate {
    let stats = convoke_sketch::measure(delta).unwrap().unwrap();
    let plain = stage.update(number, task, round, 0xde).header;
    UpdateHeader {
        delta_root: stats.root,
        delta_norm: stats.norm,
        ..plain
    }
    .sign(&stage.bob.domain(), &wallet(number))
}

async fn committed(stage: &Stage<'_>, updates: &[SignedUpdate; 2]) -> Digest {
    let (task, round) = (updates[0].header.task, updates[0].header.round);
    let aggregator = &stage.aggregator;
    let cohort = stage.cohort();
    aggregator
        .open_round(task, round, BASE, &cohort)
        .await
        .unwrap();
    let pairs = updates
        .each_ref()
        .map(|u| (u.trainer, u.header.struct_hash()));
    let root = MerkleTree::of_updates(&stage.bob.domain(), task, round, &pairs).root();
    aggregator
        .commit_updates(task, round, root, 2)
        .await
        .unwrap();
    aggregator.draw_seed(task, round).await.unwrap()
}

/// The true commitment, and another.
fn sketches(
    stage: &Stage<'_>,
    opener: &Opener<'_, [f32]>,
    update: &SignedUpdate,
    seed: Digest,
) -> (Commitment, Commitment) {
    let domain = stage.bob.domain();
    let context = RoundContext {
        chain_id: domain.chain_id,
        contract: domain.contract,
        task: update.header.task,
        round: update.header.round,
        attempt: 1,
        seed,
    };
    let sketch = quantize(opener.total(), update.header.delta_norm, clip());
    let mut other = sketch;
    other.0[17] ^= 1;
    (
        Commitment::of(&sketch.0, update.trainer, &context),
        Commitment::of(&other.0, update.trainer, &context),
    )
}

async fn claims(
    stage: &Stage<'_>,
    opener: &Opener<'_, [f32]>,
    update: &SignedUpdate,
    seed: Digest,
    [honest, lie]: [Commitment; 2],
) {
    let header = &update.header;
    let signed = |commitment: Commitment| {
        SketchClaim {
            task: header.task,
            round: header.round,
            attempt: 1,
            update: header.struct_hash(),
            seed,
            clip_norm: clip(),
            commitment: Digest(commitment.0),
            sums_root: opener.sums_root(),
        }
        .sign(&stage.bob.domain(), &wallet(3))
    };
    let (truth, lie) = (signed(honest), signed(lie));
    let last = opening(opener, opener.count() - 1);
    let punish = async |claim, opening| stage.viktor.punish_claim(header, claim, opening).await;
    assert_reverts(punish(&truth, &last).await, "NoFault");
    let first = opening(opener, 0);
    assert_reverts(punish(&lie, &first).await, "NoFault");
    let mut torn = last.clone();
    torn.chunk.bytes[0] ^= 1;
    let refused = punish(&lie, &torn).await.unwrap_err();
    assert!(refused.to_string().contains("leaf of chunk"), "{refused}");
    let taken = punish(&lie, &last).await.unwrap();
    assert_eq!(taken, Some(Amount(STAKE.0 / 5)));
    assert_eq!(punish(&lie, &last).await.unwrap(), None, "once");
}

async fn demands(
    stage: &Stage<'_>,
    opener: &Opener<'_, [f32]>,
    updates: &[SignedUpdate; 2],
    result: &ResultSubmission,
) {
    let (dora, aggregator) = (&stage.dora, &stage.aggregator);
    let entry = entry(updates, result, 1);
    assert_eq!(
        dora.audit_terms().await.unwrap(),
        (Amount(COIN), ANSWER_WINDOW)
    );
    let before = stage.tokens(address(dora)).await;
    let sums = dora.demand_sums(&entry, 1).await.unwrap();
    let chunk = dora
        .demand_chunk(&entry, &updates[1].header, 0)
        .await
        .unwrap();
    let head = dora.demand_header(&entry).await.unwrap();
    let asked = dora.audit_demand(sums).await.unwrap().unwrap();
    assert_eq!(
        (asked.part, asked.index, asked.task),
        (AuditPart::Sums, 1, entry.task)
    );
    assert_eq!(
        stage.tokens(address(dora)).await,
        Amount(before.0 - 3 * COIN)
    );

    let true_sums = opened(opener.sums(1).unwrap());
    let other = opened(opener.sums(0).unwrap());
    let wrong = aggregator
        .answer_leaf(sums, 0, opener.count(), &other)
        .await;
    assert_reverts(wrong, "NotAnAnswer");
    aggregator
        .answer_leaf(sums, 1, opener.count(), &true_sums)
        .await
        .unwrap();
    let update = &updates[1];
    aggregator
        .answer_header(head, &update.header, &update.signature)
        .await
        .unwrap();
    assert_eq!(dora.audit_demand(sums).await.unwrap(), None);
    assert_reverts(dora.punish_silence(chunk).await, "AnswerAwaited");
    assert_reverts(dora.punish_silence(sums).await, "NoSuchDemand");
    stage.endpoint.pass(u64::from(ANSWER_WINDOW) + 1).await;
    let taken = dora.punish_silence(chunk).await.unwrap();
    assert_eq!(taken, Amount(STAKE.0 / 5));
    let reward = STAKE.0 / 5 / 10;
    let after = stage.tokens(address(dora)).await;
    assert_eq!(
        after,
        Amount(before.0 - 2 * COIN + reward),
        "the bond comes back"
    );
}

/// The result was punished for the silence: its false entry is the same fault, and a true one none.
async fn entries(
    stage: &Stage<'_>,
    opener: &Opener<'_, [f32]>,
    updates: &[SignedUpdate; 2],
    result: &ResultSubmission,
) {
    let last = opening(opener, opener.count() - 1);
    let punish = async |slot: usize| {
        let header = &updates[slot].header;
        let entry = entry(updates, result, slot as u64);
        stage.vera.punish_entry(&entry, header, &last).await
    };
    assert_reverts(punish(1).await, "NoFault");
    assert_eq!(punish(0).await.unwrap(), None, "one result, one fault");
}

fn entry<'a>(
    updates: &[SignedUpdate; 2],
    submission: &'a ResultSubmission,
    slot: u64,
) -> AuditEntry<'a> {
    AuditEntry {
        task: updates[0].header.task,
        round: updates[0].header.round,
        slot,
        submission,
    }
}

/// Entries as a proof ends with; the points before them are of nothing.
fn proof_bytes(
    opener: &Opener<'_, [f32]>,
    updates: &[SignedUpdate; 2],
    commitments: [Commitment; 2],
) -> Vec<u8> {
    let mut bytes = vec![0; 288];
    bytes.extend(clip().bits().to_be_bytes());
    bytes.extend([0; 2]);
    for (update, commitment) in updates.iter().zip(commitments) {
        bytes.extend(update.trainer.0);
        bytes.extend(update.header.struct_hash().0);
        bytes.extend(commitment.0);
        bytes.extend(opener.sums_root().0);
    }
    bytes
}

fn opening(opener: &Opener<'_, [f32]>, index: u64) -> SketchOpening {
    let opening = opener.open(index).unwrap();
    SketchOpening {
        index: opening.index,
        count: opening.count,
        chunk: Opened {
            bytes: opening.chunk.bytes,
            proof: opening.chunk.proof,
        },
        before: opening.before.map(opened),
        after: opened(opening.after),
    }
}

fn opened(sums: OpenedSums) -> Opened {
    Opened {
        bytes: sums.bytes.to_vec(),
        proof: sums.proof,
    }
}

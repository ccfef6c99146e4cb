//! Writes a proof with everything that it is about for the Solidity tests:
//! `cargo run -p convoke-proofs --example fixture -- contracts/test/fixtures`. The keys are made
//! from a fixed seed: for tests only.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use convoke_proofs::keys::Keys;
use convoke_proofs::plain::Sketch;
use convoke_proofs::settle::{CheckedSketch, Round, Update, verify_round};
use convoke_proofs::size::Size;
use convoke_proofs::statement::{Statement, own_commitments};
use convoke_proofs::submission::Submission;
use convoke_protocol::factors;
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, RoundId, TaskId};
use convoke_protocol::payout::{MerkleTree, PayoutDomain};
use convoke_protocol::sketch::Norm;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

fn main() {
    let folder = std::env::args().nth(1).unwrap();
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder).unwrap();
    for (size, updates) in [(Size::N16, 14), (Size::N64, 61)] {
        let text = serde_json::to_string_pretty(&fixture(size, updates)).unwrap();
        let path = folder.join(format!("proof{}.json", size.slots()));
        std::fs::write(path, text + "\n").unwrap();
    }
}

/// Two slots or three stay empty; update 4 was refused and is not active, the last two were
/// committed to by their trainers, and the one before copied the first.
fn round(rng: &mut StdRng, updates: u16) -> Round {
    let base: [f64; 128] = std::array::from_fn(|_| rng.random_range(-30.0..30.0));
    let mut made: Vec<Update> = (0..updates)
        .map(|i| {
            let values: Sketch = base.map(|b| (b + rng.random_range(-50.0..50.0f64)) as i8);
            let sketch = CheckedSketch {
                values,
                sums_root: Digest(rng.random()),
            };
            Update {
                trainer: Address(rng.random()),
                update: Digest(rng.random()),
                sketch: (i != 4).then_some(sketch),
                factor: 9_000 + 100 * i,
            }
        })
        .collect();
    let copier = made.len() - 3;
    made[copier].sketch = made[0].sketch;
    let domain = PayoutDomain {
        chain_id: 31_337,
        contract: Address([0xc0; 20]),
    };
    let (task, round) = (TaskId(3), RoundId(7));
    let pairs: Vec<_> = made.iter().map(|u| (u.trainer, u.update)).collect();
    let (first, own) = pairs.split_at(pairs.len() - 2);
    let statement = Statement {
        task,
        round,
        attempt: 2,
        aggregator: Address([0xa9; 20]),
        updates_root: MerkleTree::of_updates(&domain, task, round, first).root(),
        own_commitments: own_commitments(own),
        updates,
        seed: Digest(rng.random()),
        trainers_pool: Amount(123_456_789_000_000_000_000_000),
        split: 0,
        rank_decay_bps: 0,
        checkpoint: BlobHash(rng.random()),
        result_hash: Digest(rng.random()),
    };
    Round {
        domain,
        statement,
        clip_norm: Norm::of(0.75),
        own: 2,
        updates: made,
    }
}

fn fixture(size: Size, updates: u16) -> Value {
    let mut rng = StdRng::seed_from_u64(size.slots() as u64);
    let keys = Keys::insecure_setup(size, &mut rng, &()).unwrap();
    let round = round(&mut rng, updates);
    let settled = round.prove(&keys, &mut rng).unwrap();
    let factors: Vec<u16> = round.updates.iter().map(|u| u.factor).collect();
    let key = keys.verifying();
    let (domain, s) = (&round.domain, &round.statement);
    verify_round(&key, domain, s, &factors, &settled.payouts, &settled.proof).unwrap();
    let submission = Submission::decode(&settled.proof).unwrap();
    let data = round.public_data(size).unwrap();
    let public = data.public_inputs(submission.proof.h()).unwrap().words();
    let payouts: Vec<u8> = settled
        .payouts
        .iter()
        .flat_map(|(account, amount)| [&account.0[..], &amount.0.to_be_bytes()].concat())
        .collect();
    json!({
        "slots": size.slots(),
        "circuit": hex(key.circuit()),
        "key": key.words().map(|word| hex(&word)),
        "chainId": domain.chain_id,
        "taskManager": hex(&domain.contract.0),
        "statement": {
            "task": s.task.0,
            "round": s.round.0,
            "attempt": s.attempt,
            "aggregator": hex(&s.aggregator.0),
            "updatesRoot": hex(&s.updates_root.0),
            "ownCommitments": hex(&s.own_commitments.0),
            "updates": s.updates,
            "seed": hex(&s.seed.0),
            "trainersPool": format!("0x{:032x}", s.trainers_pool.0),
            "split": s.split,
            "rankDecayBps": s.rank_decay_bps,
            "checkpoint": hex(&s.checkpoint.0),
            "resultHash": hex(&s.result_hash.0),
        },
        "encodedStatement": hex(s.words().as_flattened()),
        "factors": hex(&factors::encode(&factors)),
        "payouts": hex(&payouts),
        "proof": hex(&settled.proof),
        "own": round.own,
        "clipNorm": round.clip_norm.bits(),
        "context": hex(&data.context.word()),
        "bound": hex(&data.bound.0),
        "values": data.words().unwrap().iter().map(|word| hex(word)).collect::<Vec<_>>(),
        "h": hex(&public[0]),
        "x": hex(&public[1]),
        "y": hex(&public[2]),
    })
}

fn hex(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

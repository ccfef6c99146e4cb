//! An honest round, and every kind of lie about it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use convoke_aggregator::aggregate::{Step, Stepped, aggregate_step};
use convoke_aggregator::broadcast;
use convoke_aggregator::filter::clip_ppm;
use convoke_aggregator::rules;
use convoke_client::ResultSubmission;
use convoke_compress::{Codec, Delta};
use convoke_proofs::plain::judge;
use convoke_proofs::public_data::Commitment;
use convoke_proofs::settle::{self, CheckedSketch};
use convoke_proofs::statement::Statement;
use convoke_protocol::factors::FACTOR_ONE;
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, RoundId, TaskId};
use convoke_protocol::message::Candidate;
use convoke_protocol::payout::{MerkleTree, PayoutDomain};
use convoke_protocol::record::{
    BroadcastRecord, Dossier, RECORD_VERSION, RecordedUpdate, RoundRecord, Share, StepRecord,
};
use convoke_protocol::refusal::Refusal;
use convoke_protocol::sketch::{Norm, SketchClaim, Sketched};
use convoke_protocol::split::{Contribution, split_down};
use convoke_protocol::task::{
    AggregationMode, AggregationSpec, CodecKind, CompressionSpec, ServerOptimizerKind, SplitKind,
};
use convoke_protocol::update::UpdateHeader;
use convoke_sketch::{TensorFile, measure, quantize, sketch};
use convoke_transport::BlobStore;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha20Rng;

use super::again::check_again;
use super::broadcast::check_broadcast;
use super::deltas::{Lie, check_delta};
use super::facts::Facts;
use super::record::check_record;
use super::report::{Check, Outcome};
use super::step::{StepFiles, check_step, kept};

const VALUES: usize = 20_000;
const TRAINERS: u8 = 5;
const SEED: Digest = Digest([7; 32]);
const DOMAIN: PayoutDomain = PayoutDomain {
    chain_id: 31_337,
    contract: Address([5; 20]),
};
const POOL: Amount = Amount(1_000_000_007);

pub(super) struct World {
    pub(super) dir: tempfile::TempDir,
    facts: Facts,
    pub(super) record: RoundRecord,
}

impl World {
    pub(super) fn with_momentum(momentum: f64) -> Self {
        Self::with(AggregationSpec {
            server_momentum: momentum,
            ..settings()
        })
    }

    fn with(settings: AggregationSpec) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = put(dir.path(), &noise(99, 0.05));
        let mut updates: Vec<_> = (0..TRAINERS)
            .map(|id| RecordedUpdate::new(update(dir.path(), id, base), None))
            .collect();
        let clip = Norm::clipping(updates.iter().map(|u| u.update.header.delta_norm));
        let mut statement = statement(&updates);
        let context = statement.context(&DOMAIN);
        for (id, entry) in (0..TRAINERS).zip(&mut updates) {
            let header = &entry.update.header;
            let trainer = entry.update.trainer;
            let file = TensorFile::open(&path(dir.path(), &header.delta)).unwrap();
            let projected = sketch(&file, &SEED, clip).unwrap();
            let sketch = quantize(&projected.sums, header.delta_norm, clip);
            let sketched = Sketched {
                sketch,
                commitment: Digest(Commitment::of(&sketch.0, trainer, &context).0),
                sums_root: projected.sums_root,
            };
            let claim = SketchClaim {
                task: statement.task,
                round: statement.round,
                attempt: 1,
                update: header.struct_hash(),
                seed: SEED,
                clip_norm: clip,
                commitment: sketched.commitment,
                sums_root: sketched.sums_root,
            };
            entry.clip_ppm = clip_ppm(header.delta_norm, clip);
            entry.weight = header.num_examples;
            entry.claim = Some(claim.sign(&DOMAIN, &wallet(id)));
            entry.sketched = Some(sketched);
        }
        let sketches: Vec<_> = updates
            .iter()
            .map(|u| u.sketched.map(|s| s.sketch.0))
            .collect();
        for (entry, score) in updates.iter_mut().zip(judge(&sketches).scores) {
            entry.alignment = score;
        }
        let factors = vec![FACTOR_ONE; updates.len()];
        let contribution = |entry: &RecordedUpdate| Contribution {
            trainer: entry.update.trainer,
            alignment: entry.alignment,
            factor: FACTOR_ONE,
        };
        let contributions: Vec<_> = updates.iter().map(contribution).collect();
        let payouts = split_down(POOL, SplitKind::Score, 0, &contributions);
        let stepped = step(dir.path(), base, &updates, &settings);
        for (entry, share) in updates.iter_mut().zip(&stepped.shares) {
            entry.share = *share;
        }
        let record = RoundRecord {
            version: RECORD_VERSION,
            domain: DOMAIN,
            task: statement.task,
            round: statement.round,
            attempt: 1,
            base,
            checkpoint: stepped.checkpoint,
            step: StepRecord::of(&settings, Vec::new(), stepped.states),
            broadcast: None,
            dossier: Dossier {
                seed: SEED,
                clip_norm: clip,
                updates,
                own_updates: Vec::new(),
                noise: stepped.noise,
            },
            factors: factors.clone(),
            payouts: payouts.clone(),
        };
        statement.checkpoint = record.checkpoint;
        statement.result_hash = Digest(BlobHash::of(&record.to_json().unwrap()).0);
        let submission = ResultSubmission {
            checkpoint: record.checkpoint,
            result_hash: statement.result_hash,
            payouts,
            factors,
            reveals: Vec::new(),
            proof: Vec::new(),
        };
        let facts = Facts {
            domain: DOMAIN,
            statement,
            bases: vec![base],
            claim: Some(round_of(&record, &statement).claim()),
            submission,
            reveals: Vec::new(),
            compression: CompressionSpec::default(),
            aggregation: settings,
            control: None,
            split: (SplitKind::Score, 0),
        };
        Self { dir, facts, record }
    }

    fn files(&self, record: &RoundRecord) -> StepFiles {
        let file = |blob: &BlobHash| path(self.dir.path(), blob);
        let files = |blobs: &[BlobHash]| Some(blobs.iter().map(file).collect());
        StepFiles {
            base: Some(file(&record.base)),
            checkpoint: Some(file(&record.checkpoint)),
            before: files(&record.step.states_before),
            after: files(&record.step.states_after),
        }
    }

    fn step_checks(&self, record: &RoundRecord) -> Vec<Check> {
        check_step(record, &self.facts.aggregation, &self.files(record))
    }

    /// By somebody who has the deltas, or by somebody who has not.
    fn again(&self, record: &RoundRecord, with_deltas: bool) -> Check {
        let kept = kept(record).into_iter();
        let delta = |entry: &RecordedUpdate| path(self.dir.path(), &entry.update.header.delta);
        let deltas: Vec<PathBuf> = kept.map(delta).collect();
        let deltas = with_deltas.then_some(&deltas[..]);
        check_again(
            record,
            &self.facts.aggregation,
            &self.files(record),
            deltas,
            None,
        )
        .unwrap()
    }

    fn lie_about(&self, slot: usize, change: impl Fn(&mut RecordedUpdate)) -> Option<(Lie, bool)> {
        let mut record = self.record.clone();
        change(&mut record.dossier.updates[slot]);
        let context = self.facts.statement.context(&DOMAIN);
        let delta = record.dossier.updates[slot].update.header.delta;
        let path = path(self.dir.path(), &delta);
        let found = check_delta(&record, &context, slot, &path, None).unwrap();
        found.map(|finding| (finding.lie, finding.provable))
    }
}

fn settings() -> AggregationSpec {
    AggregationSpec {
        rule: "fedavg".into(),
        server_lr: 0.7,
        num_examples_max: 1_000,
        ..AggregationSpec::default()
    }
}

fn wallet(id: u8) -> Wallet {
    Wallet::from_bytes(&[id + 1; 32]).unwrap()
}

pub(super) fn path(dir: &Path, blob: &BlobHash) -> PathBuf {
    dir.join(blob.to_file_name())
}

fn noise(seed: u64, scale: f32) -> Vec<f32> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let value = |_| scale * rng.random_range(-1.0..1.0);
    (0..VALUES).map(value).collect()
}

/// Writes a safetensors file of one tensor under its hash.
pub(super) fn put(dir: &Path, values: &[f32]) -> BlobHash {
    let (count, end) = (values.len(), 4 * values.len());
    let mut header =
        format!(r#"{{"w":{{"dtype":"F32","shape":[{count}],"data_offsets":[0,{end}]}}}}"#);
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    let hash = BlobHash::of(&bytes);
    std::fs::write(path(dir, &hash), bytes).unwrap();
    hash
}

/// Half common, half its own; the last one four times as long as the others.
fn update(dir: &Path, id: u8, base: BlobHash) -> convoke_protocol::update::SignedUpdate {
    let scale = if id + 1 == TRAINERS { 4.0 } else { 1.0 };
    let (common, own) = (noise(1, 1e-3), noise(10 + u64::from(id), 1e-3));
    let values: Vec<f32> = common
        .iter()
        .zip(&own)
        .map(|(c, o)| scale * (c + o))
        .collect();
    let delta = put(dir, &values);
    let file = TensorFile::open(&path(dir, &delta)).unwrap();
    let stats = measure(&file).unwrap().unwrap();
    let header = UpdateHeader {
        task: TaskId(3),
        round: RoundId(1),
        base,
        delta,
        delta_root: stats.root,
        delta_bytes: file.layout().file_bytes(),
        delta_norm: stats.norm,
        num_examples: 100 + u64::from(id),
        train_loss_micros: 7,
    };
    header.sign(&DOMAIN, &wallet(id))
}

fn statement(updates: &[RecordedUpdate]) -> Statement {
    let pair = |u: &RecordedUpdate| (u.update.trainer, u.update.header.struct_hash());
    let pairs: Vec<_> = updates.iter().map(pair).collect();
    let (task, round) = (TaskId(3), RoundId(1));
    Statement {
        task,
        round,
        attempt: 1,
        aggregator: Address([9; 20]),
        updates_root: MerkleTree::of_updates(&DOMAIN, task, round, &pairs).root(),
        own_commitments: Digest::ZERO,
        updates: u16::from(TRAINERS),
        seed: SEED,
        trainers_pool: POOL,
        split: 0,
        rank_decay_bps: 0,
        checkpoint: BlobHash([0; 32]),
        result_hash: Digest::ZERO,
    }
}

fn step(
    dir: &Path,
    base: BlobHash,
    updates: &[RecordedUpdate],
    settings: &AggregationSpec,
) -> Stepped {
    let candidate = |(index, entry): (usize, &RecordedUpdate)| {
        let header = &entry.update.header;
        let candidate = Candidate {
            trainer: entry.update.trainer,
            delta: header.delta,
            delta_bytes: header.delta_bytes,
            num_examples: header.num_examples,
            clip_ppm: entry.clip_ppm,
            alignment: entry.alignment,
            index: index as u16,
        };
        (candidate, path(dir, &header.delta))
    };
    let kept: Vec<_> = updates.iter().enumerate().map(candidate).collect();
    let step = Step {
        base,
        base_path: &path(dir, &base),
        kept: &kept,
        rule: rules::by_name(&settings.rule).unwrap(),
        settings,
        dir,
    };
    aggregate_step(&step).unwrap()
}

fn round_of(record: &RoundRecord, statement: &Statement) -> settle::Round {
    let update = |entry: &RecordedUpdate| settle::Update {
        trainer: entry.update.trainer,
        update: entry.update.header.struct_hash(),
        sketch: entry.sketched.map(|s| CheckedSketch {
            values: s.sketch.0,
            sums_root: s.sums_root,
        }),
        factor: FACTOR_ONE,
    };
    settle::Round {
        domain: DOMAIN,
        statement: *statement,
        clip_norm: record.dossier.clip_norm,
        own: 0,
        updates: record.dossier.updates.iter().map(update).collect(),
    }
}

fn outcome(checks: &[Check], name: &str) -> Outcome {
    let named = checks.iter().find(|check| check.check == name);
    named
        .unwrap_or_else(|| panic!("{name}: {checks:?}"))
        .outcome
}

#[test]
fn an_honest_round_holds_in_every_check() {
    let world = World::with_momentum(0.9);
    let checks = check_record(&world.facts, &world.record);
    assert_eq!(checks.len(), 10);
    for check in checks.iter().chain(&world.step_checks(&world.record)) {
        assert_eq!(check.outcome, Outcome::Holds, "{check:?}");
    }
    for slot in 0..usize::from(TRAINERS) {
        assert_eq!(world.lie_about(slot, |_| ()), None);
    }
}

#[test]
fn updates_of_older_bases_hold_within_the_limit_and_at_their_discount() {
    let world = World::with_momentum(0.0);
    let (mut facts, mut record) = (world.facts.clone(), world.record.clone());
    facts.aggregation.mode = AggregationMode::Buffered;
    record.base = BlobHash([8; 32]);
    facts.bases = vec![record.base, BlobHash([9; 32]), world.record.base];
    let checked = |facts: &Facts, record: &RoundRecord| {
        let checks = check_record(facts, record);
        ["signatures", "weights"].map(|name| outcome(&checks, name))
    };
    let honest = [Outcome::Holds, Outcome::Holds];
    assert_eq!(checked(&facts, &record), [Outcome::Holds, Outcome::Fails]);
    for entry in &mut record.dossier.updates {
        let examples = entry.update.header.num_examples;
        entry.weight = facts.aggregation.weight(examples, 2);
    }
    assert_eq!(checked(&facts, &record), honest);
    record.dossier.updates[1].weight += 1;
    assert_eq!(checked(&facts, &record), [Outcome::Holds, Outcome::Fails]);
    record.dossier.updates[1].weight -= 1;
    facts.bases.truncate(2);
    assert_eq!(checked(&facts, &record)[0], Outcome::Fails, "it is too old");
}

#[test]
fn every_lie_in_a_record_is_named() {
    let world = World::with_momentum(0.9);
    type Change = fn(&mut RoundRecord);
    let lies: [(&str, Change); 18] = [
        ("record", |r| r.base = BlobHash([1; 32])),
        ("record", |r| r.checkpoint = BlobHash([1; 32])),
        ("record", |r| r.attempt = 2),
        ("record", |r| r.dossier.seed = Digest([1; 32])),
        ("updates", |r| drop(r.dossier.updates.pop())),
        ("updates", |r| r.dossier.updates.swap(0, 1)),
        ("updates", |r| {
            r.dossier.updates[0].update.header.num_examples += 1;
        }),
        ("signatures", |r| {
            r.dossier.updates[0].update.signature = r.dossier.updates[1].update.signature;
        }),
        ("signatures", |r| {
            r.dossier.updates[0].claim = r.dossier.updates[1].claim.clone();
        }),
        ("commitments", |r| {
            entry(r).sketched.as_mut().unwrap().sketch.0[5] ^= 1;
        }),
        ("commitments", |r| {
            entry(r).sketched.as_mut().unwrap().sums_root = Digest([1; 32]);
        }),
        ("proof's entries", |r| {
            entry(r).claim = None;
            entry(r).sketched.as_mut().unwrap().sums_root = Digest([1; 32]);
        }),
        ("clipping norm", |r| r.dossier.clip_norm = Norm::of(1e9)),
        ("clipping norm", |r| entry(r).clip_ppm -= 1),
        ("filter", |r| entry(r).alignment += 1),
        ("filter", |r| {
            entry(r).refusal = Some(Refusal::NoWork { ratio_ppm: 1 });
        }),
        ("payouts", |r| r.payouts[0].1.0 += 1),
        ("weights", |r| entry(r).weight *= 2),
    ];
    for (name, lie) in lies {
        let mut record = world.record.clone();
        lie(&mut record);
        let checks = check_record(&world.facts, &record);
        assert_eq!(outcome(&checks, name), Outcome::Fails, "{name}");
    }
}

fn entry(record: &mut RoundRecord) -> &mut RecordedUpdate {
    &mut record.dossier.updates[2]
}

#[test]
fn every_lie_in_a_result_is_named() {
    let world = World::with_momentum(0.0);
    type Change = fn(&mut Facts);
    let lies: [(&str, Change); 5] = [
        ("payouts", |f| f.submission.payouts[0].1.0 += 1),
        ("payouts", |f| f.submission.payouts.swap(0, 1)),
        ("factors", |f| f.submission.factors[0] -= 1),
        ("factors", |f| {
            f.submission.reveals.push(vec![FACTOR_ONE; 5]);
        }),
        ("proof's entries", |f| {
            f.claim.as_mut().unwrap().updates[1].sums_root = Digest([1; 32]);
        }),
    ];
    for (name, lie) in lies {
        let mut facts = world.facts.clone();
        lie(&mut facts);
        let checks = check_record(&facts, &world.record);
        assert_eq!(outcome(&checks, name), Outcome::Fails, "{name}");
    }
    let mut unproven = world.facts.clone();
    unproven.claim = None;
    let checks = check_record(&unproven, &world.record);
    assert_eq!(outcome(&checks, "proof's entries"), Outcome::NotCheckable);
}

#[test]
fn a_step_that_is_no_mean_of_what_is_kept_shows() {
    for momentum in [0.0, 0.9] {
        let world = World::with_momentum(momentum);
        let checks = world.step_checks(&world.record);
        assert_eq!(outcome(&checks, "step"), Outcome::Holds, "{checks:?}");
        // One of five is left out of the step, and the record does not say so.
        let updates = &world.record.dossier.updates;
        let settings = &world.facts.aggregation;
        let stepped = step(world.dir.path(), world.record.base, &updates[1..], settings);
        let mut record = world.record.clone();
        record.checkpoint = stepped.checkpoint;
        record.step.states_after = stepped.states;
        let checks = world.step_checks(&record);
        assert_eq!(outcome(&checks, "step"), Outcome::Fails, "{checks:?}");
        assert_eq!(world.again(&record, true).outcome, Outcome::Fails);
        // It says so: then nothing is wrong with the step itself, but with the rule.
        record.dossier.updates[0].share = Share::ZERO;
        for (entry, share) in record.dossier.updates[1..].iter_mut().zip(stepped.shares) {
            entry.share = share;
        }
        let checks = world.step_checks(&record);
        assert_eq!(outcome(&checks, "step"), Outcome::Holds, "{checks:?}");
        assert_eq!(world.again(&record, false).outcome, Outcome::Fails);
        record.dossier.updates[0].weight = 0;
        assert_eq!(world.again(&record, false).outcome, Outcome::Holds);
        assert_eq!(world.again(&record, true).outcome, Outcome::Holds);
    }
}

#[test]
fn every_optimizer_and_rule_can_be_followed() {
    let kinds = [
        ServerOptimizerKind::Sgd,
        ServerOptimizerKind::Nesterov,
        ServerOptimizerKind::Adam,
        ServerOptimizerKind::Yogi,
        ServerOptimizerKind::Adagrad,
    ];
    for (index, rule) in rules::all().into_iter().enumerate() {
        let world = World::with(AggregationSpec {
            rule: rule.name().into(),
            server_optimizer: kinds[index % kinds.len()],
            server_momentum: 0.9,
            noise_factor: 0.1,
            ..settings()
        });
        let checks = world.step_checks(&world.record);
        assert_eq!(outcome(&checks, "checkpoint"), Outcome::Holds, "{checks:?}");
        let step = outcome(&checks, "step");
        match rule.is_linear() {
            true => assert_eq!(step, Outcome::Holds, "{checks:?}"),
            false => assert_eq!(step, Outcome::NotCheckable, "{checks:?}"),
        }
        let again = world.again(&world.record, true);
        assert_eq!(again.outcome, Outcome::Holds, "{again:?}");
        // A moment that is off by a bit which no checkpoint's rounding hides.
        let mut record = world.record.clone();
        let Some(last) = record.step.states_after.last_mut() else {
            panic!("{:?} remembers", kinds[index % kinds.len()]);
        };
        let mut bytes = std::fs::read(path(world.dir.path(), last)).unwrap();
        let at = bytes.len() - 2;
        bytes[at] ^= 1;
        *last = BlobHash::of(&bytes);
        std::fs::write(path(world.dir.path(), last), bytes).unwrap();
        let checks = world.step_checks(&record);
        assert_eq!(outcome(&checks, "checkpoint"), Outcome::Fails, "{checks:?}");
    }
}

#[test]
fn shares_that_are_not_the_rule_s_show_to_those_who_have_the_deltas() {
    let world = World::with(AggregationSpec {
        rule: "multi_krum".into(),
        ..settings()
    });
    // Another choice, honestly carried out.
    let updates = &world.record.dossier.updates;
    let by_mean = AggregationSpec {
        rule: "fedavg".into(),
        ..world.facts.aggregation.clone()
    };
    let stepped = step(world.dir.path(), world.record.base, updates, &by_mean);
    let mut record = world.record.clone();
    record.checkpoint = stepped.checkpoint;
    for (entry, share) in record.dossier.updates.iter_mut().zip(stepped.shares) {
        entry.share = share;
    }
    let checks = world.step_checks(&record);
    assert_eq!(outcome(&checks, "step"), Outcome::Holds, "{checks:?}");
    assert_eq!(world.again(&record, false).outcome, Outcome::NotCheckable);
    assert_eq!(world.again(&record, true).outcome, Outcome::Fails);
}

#[test]
fn a_checkpoint_that_is_not_base_and_state_shows_in_one_bit() {
    let world = World::with_momentum(0.9);
    let honest = path(world.dir.path(), &world.record.checkpoint);
    let mut bytes = std::fs::read(honest).unwrap();
    let at = bytes.len() - 4;
    bytes[at] ^= 1;
    let mut record = world.record.clone();
    record.checkpoint = BlobHash::of(&bytes);
    std::fs::write(path(world.dir.path(), &record.checkpoint), bytes).unwrap();
    let checks = world.step_checks(&record);
    assert_eq!(outcome(&checks, "checkpoint"), Outcome::Fails, "{checks:?}");
}

#[test]
fn what_cannot_be_checked_of_a_step_is_said() {
    let world = World::with_momentum(0.9);
    let record = &world.record;
    let nothing = StepFiles::default();
    let settings = &world.facts.aggregation;
    let checks = check_step(record, settings, &nothing);
    assert!(checks.iter().all(|c| c.outcome == Outcome::NotCheckable));
    let by_median = AggregationSpec {
        rule: "coordinate_median".into(),
        ..settings.clone()
    };
    let checks = check_step(record, &by_median, &world.files(record));
    assert_eq!(outcome(&checks, "checkpoint"), Outcome::Holds);
    assert_eq!(outcome(&checks, "step"), Outcome::NotCheckable);
    let mut idle = record.clone();
    idle.dossier.updates.iter_mut().for_each(|u| u.weight = 0);
    let checks = check_step(&idle, settings, &nothing);
    assert_eq!(
        outcome(&checks, "step"),
        Outcome::Fails,
        "it moved all the same"
    );
}

#[test]
fn lies_about_a_delta_are_told_apart() {
    let world = World::with_momentum(0.0);
    let said = |entry: &mut RecordedUpdate, change: fn(&mut Sketched)| {
        change(entry.sketched.as_mut().unwrap());
    };
    let sketch = world.lie_about(1, |e| said(e, |s| s.sketch.0[0] ^= 1));
    assert_eq!(sketch, Some((Lie::Sketch, true)));
    let commitment = world.lie_about(1, |e| said(e, |s| s.commitment = Digest([1; 32])));
    assert_eq!(commitment, Some((Lie::Sketch, true)));
    let sums = world.lie_about(1, |e| said(e, |s| s.sums_root = Digest([1; 32])));
    assert_eq!(sums, Some((Lie::Sums, false)));
    let root = world.lie_about(1, |e| e.update.header.delta_root = Digest([1; 32]));
    assert_eq!(root, Some((Lie::Root, false)));
    let half = |norm: Norm| Norm::of(norm.value() / 2.0);
    let small = world.lie_about(1, |e| {
        e.update.header.delta_norm = half(e.update.header.delta_norm);
    });
    assert_eq!(small, Some((Lie::Norm, true)), "under-declared");
    let context = world.facts.statement.context(&DOMAIN);
    let other = path(world.dir.path(), &world.record.base);
    assert!(check_delta(&world.record, &context, 1, &other, None).is_err());
    assert!(check_delta(&world.record, &context, 99, &other, None).is_err());
}

#[test]
fn an_encoded_delta_is_checked_by_what_it_decodes_to() {
    let mut world = World::with_momentum(0.0);
    let context = world.facts.statement.context(&DOMAIN);
    let codec = Codec::new(CodecKind::TopK, 10_000);
    let bytes = codec.unwrap().encode(&noise(5, 1e-3));
    let delta = BlobHash::of(&bytes);
    let path = path(world.dir.path(), &delta);
    std::fs::write(&path, bytes).unwrap();
    let file = Delta::open(&path, codec).unwrap();
    let stats = measure(&file).unwrap().unwrap();
    let clip = world.record.dossier.clip_norm;
    let projected = sketch(&file, &SEED, clip).unwrap();
    let entry = &mut world.record.dossier.updates[1];
    let header = &mut entry.update.header;
    (header.delta, header.delta_root, header.delta_norm) = (delta, stats.root, stats.norm);
    let sketch = quantize(&projected.sums, stats.norm, clip);
    entry.sketched = Some(Sketched {
        commitment: Digest(Commitment::of(&sketch.0, entry.update.trainer, &context).0),
        sums_root: projected.sums_root,
        sketch,
    });
    let check = |record: &RoundRecord, codec| check_delta(record, &context, 1, &path, codec);
    assert_eq!(check(&world.record, codec).unwrap(), None);
    assert!(check(&world.record, None).is_err(), "it is no safetensors");
    let said = world.record.dossier.updates[1].sketched.as_mut().unwrap();
    said.sketch.0[3] ^= 1;
    let lie = check(&world.record, codec).unwrap().unwrap().lie;
    assert_eq!(lie, Lie::Sketch);
}

#[test]
fn an_encoded_checkpoint_is_what_the_codec_leaves_of_the_exact_one() {
    let mut world = World::with_momentum(0.0);
    let blobs = BlobStore::open(world.dir.path()).unwrap();
    let codec = Codec::new(CodecKind::Int8, 10_000);
    let (base, exact) = (world.record.base, world.record.checkpoint);
    let (checkpoint, sent) = broadcast::encode(codec.unwrap(), &blobs, base, exact).unwrap();
    let outcome = |record: &RoundRecord, codec| {
        let path = |blob: &BlobHash| path(world.dir.path(), blob);
        let known = super::broadcast::blobs_of(record).into_iter().chain([base]);
        let paths: BTreeMap<_, _> = known.map(|blob| (blob, path(&blob))).collect();
        let file = |blob: &BlobHash| paths.get(blob).map(PathBuf::as_path);
        check_broadcast(record, codec, file).map(|check| check.outcome)
    };
    let mut record = world.record.clone();
    assert_eq!(outcome(&record, None), None);
    assert_eq!(outcome(&record, codec), Some(Outcome::Fails), "not encoded");
    record.checkpoint = checkpoint;
    record.broadcast = Some(BroadcastRecord {
        exact_before: base,
        sent: sent.unwrap(),
    });
    assert_eq!(outcome(&record, codec), Some(Outcome::Holds));
    assert_eq!(outcome(&record, None), Some(Outcome::Fails), "encoded");
    let other = Codec::new(CodecKind::Bf16, 10_000);
    assert_eq!(
        outcome(&record, other),
        Some(Outcome::Fails),
        "another codec"
    );
    let mut lie = record.clone();
    lie.checkpoint = exact;
    assert_eq!(outcome(&lie, codec), Some(Outcome::Fails), "another sum");
    let mut lie = record.clone();
    lie.broadcast.as_mut().unwrap().exact_before = exact;
    assert_eq!(
        outcome(&lie, codec),
        Some(Outcome::Fails),
        "a step before the first"
    );
    // The step itself goes from exact model to exact model.
    world.record = record;
    assert_eq!(world.record.step_ends(), (base, exact));
}

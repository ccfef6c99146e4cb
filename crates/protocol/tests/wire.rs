//! The wire format, frozen: one fixture for each message, in hex. `cargo xtask bless` rewrites
//! them, which changes the protocol.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

#[path = "../fuzz/src/decode.rs"]
mod decode_body;

use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use convoke_protocol::codec::{decode, encode};
use convoke_protocol::factors::{ChainReveal, SignedReveal};
use convoke_protocol::identity::{Signature, Wallet};
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, Role, RoundId, TaskId};
use convoke_protocol::message::{
    AggregatorMessage, Broadcast, Candidate, Kept, NodeMessage, Notice, Order, PhaseName,
    RoundReport,
};
use convoke_protocol::payout::PayoutDomain;
use convoke_protocol::record::Share;
use convoke_protocol::refusal::Refusal;
use convoke_protocol::round::{Event, Verdict};
use convoke_protocol::scores::{CandidateScore, Outcome, Score, ScoreSheet};
use convoke_protocol::sketch::{Norm, SKETCH_LEN, SignedSketch, Sketch, SketchClaim, Sketched};
use convoke_protocol::update::{SignedUpdate, UpdateHeader};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

const ROUND: RoundId = RoundId(0x0102_0304);
const A: Address = Address([0xa1; 20]);
const B: Address = Address([0xb2; 20]);
const BASE: BlobHash = BlobHash([0xc3; 32]);
const DELTA: BlobHash = BlobHash([0xd4; 32]);

fn update() -> SignedUpdate {
    let domain = PayoutDomain {
        chain_id: 31_337,
        contract: B,
    };
    let header = UpdateHeader {
        task: TaskId(7),
        round: ROUND,
        base: BASE,
        delta: DELTA,
        delta_root: Digest([0xd5; 32]),
        delta_bytes: 4_096,
        delta_norm: Norm::of(0.75),
        num_examples: 600,
        train_loss_micros: 512_345,
    };
    header.sign(&domain, &Wallet::from_bytes(&[1; 32]).unwrap())
}

fn sheet() -> ScoreSheet {
    let entry = |trainer, outcome| CandidateScore { trainer, outcome };
    let score = Score {
        gain_micros: -12_345,
        cosine_ppm: -67_890,
        relatedness_milli: 4_000,
        value_nanos: -98_765,
    };
    ScoreSheet {
        task: TaskId(7),
        round: ROUND,
        base_loss_micros: 700_001,
        base_accuracy_ppm: 812_500,
        candidates: vec![
            entry(A, Outcome::Scored(score)),
            entry(B, Outcome::SubmissionFailed),
        ],
    }
}

fn candidate() -> Candidate {
    Candidate {
        trainer: A,
        delta: DELTA,
        delta_bytes: 4_096,
        num_examples: 600,
        clip_ppm: 900_000,
        alignment: 123_456,
        index: 3,
    }
}

fn sketch() -> SignedSketch {
    let domain = PayoutDomain {
        chain_id: 31_337,
        contract: B,
    };
    let claim = SketchClaim {
        task: TaskId(7),
        round: ROUND,
        attempt: 2,
        update: Digest([0x88; 32]),
        seed: Digest([0x66; 32]),
        clip_norm: Norm::of(0.75),
        commitment: Digest([0x44; 32]),
        sums_root: Digest([0x55; 32]),
    };
    claim.sign(&domain, &Wallet::from_bytes(&[1; 32]).unwrap())
}

fn reveal() -> SignedReveal {
    SignedReveal {
        attempt: 2,
        factors: vec![0, 10_000, 20_000],
        salt: [0x5a; 32],
        signature: update().signature,
    }
}

fn report() -> RoundReport {
    let kept = Kept {
        trainer: A,
        num_examples: 600,
        alignment: 123_456,
        gain_micros: -1,
        cosine_ppm: 200_000,
        factor: 10_000,
    };
    RoundReport {
        round: ROUND,
        base: BASE,
        checkpoint: DELTA,
        states: vec![BASE],
        control: Some(DELTA),
        broadcast: None,
        record: None,
        base_loss_micros: 700_001,
        base_accuracy_ppm: 812_500,
        kept: vec![kept],
        refused: vec![(B, Refusal::Equivocation)],
        absent: vec![Address([0xee; 20])],
        validators: vec![Address([0xff; 20])],
    }
}

fn node_messages() -> Vec<(&'static str, NodeMessage)> {
    vec![
        (
            "hello",
            NodeMessage::Hello {
                task: TaskId(7),
                role: Role::Observer,
            },
        ),
        (
            "progress",
            NodeMessage::Progress {
                round: ROUND,
                step: 5,
                steps: 9,
            },
        ),
        ("update", NodeMessage::Update(update())),
        ("sketch", NodeMessage::Sketch(sketch())),
        (
            "commit_scores",
            NodeMessage::CommitScores {
                round: ROUND,
                commitment: Digest([0xe5; 32]),
            },
        ),
        (
            "reveal_scores",
            NodeMessage::RevealScores {
                sheet: sheet(),
                salt: [0x5a; 32],
                reveal: reveal(),
            },
        ),
        (
            "machine_failed",
            NodeMessage::MachineFailed {
                round: ROUND,
                reason: "disk full: ü".into(),
            },
        ),
    ]
}

fn aggregator_messages() -> Vec<(String, AggregatorMessage)> {
    let reason = || "why".to_owned();
    let mut all = vec![
        (
            "welcome".to_owned(),
            AggregatorMessage::Welcome {
                round: ROUND,
                history: vec![report()],
            },
        ),
        (
            "rejected".to_owned(),
            AggregatorMessage::Rejected { reason: reason() },
        ),
        (
            "fault".to_owned(),
            AggregatorMessage::Fault { reason: reason() },
        ),
    ];
    let order = |(name, order)| (format!("order_{name}"), AggregatorMessage::Order(order));
    all.extend(orders().into_iter().map(order));
    let notice = |(name, notice)| (format!("notice_{name}"), AggregatorMessage::Notice(notice));
    all.extend(notices().into_iter().map(notice));
    all
}

fn orders() -> Vec<(&'static str, Order)> {
    let (round, base) = (ROUND, BASE);
    let refusal = Refusal::NoExamples;
    let candidates = vec![candidate()];
    vec![
        (
            "train",
            Order::Train {
                round,
                base,
                control: Some(DELTA),
            },
        ),
        (
            "send_delta",
            Order::SendDelta {
                round,
                delta: DELTA,
            },
        ),
        ("update_stored", Order::UpdateStored { round }),
        ("update_refused", Order::UpdateRefused { round, refusal }),
        (
            "sketch",
            Order::Sketch {
                round,
                attempt: 2,
                delta: DELTA,
                seed: Digest([0x66; 32]),
                clip_norm: Norm::of(0.75),
            },
        ),
        (
            "score",
            Order::Score {
                round,
                attempt: 2,
                base,
                updates: 5,
                candidates,
            },
        ),
        ("reveal", Order::Reveal { round }),
        (
            "evaluate",
            Order::Evaluate {
                round,
                initial: base,
                checkpoint: DELTA,
            },
        ),
    ]
}

fn notices() -> Vec<(&'static str, Notice)> {
    let (round, trainer, validator) = (ROUND, A, B);
    let phase = |phase| Notice::PhaseBegan {
        round,
        attempt: 2,
        phase,
        cohort: vec![A, B],
    };
    let reason = "why".to_owned();
    vec![
        (
            "membership",
            Notice::Membership {
                trainers: 6,
                validators: 3,
            },
        ),
        ("phase_open", phase(PhaseName::Open)),
        ("phase_train", phase(PhaseName::Train)),
        ("phase_filter", phase(PhaseName::Filter)),
        ("phase_validate", phase(PhaseName::Validate)),
        ("phase_commit", phase(PhaseName::Commit)),
        ("phase_settle", phase(PhaseName::Settle)),
        ("phase_finished", phase(PhaseName::Finished)),
        ("phase_failed", phase(PhaseName::Failed)),
        (
            "trainer_progressed",
            Notice::TrainerProgressed {
                round,
                trainer,
                step: 5,
                steps: 9,
            },
        ),
        (
            "update_stored",
            Notice::UpdateStored {
                round,
                trainer,
                num_examples: 600,
                train_loss_micros: 512_345,
            },
        ),
        (
            "update_refused",
            Notice::UpdateRefused {
                round,
                trainer,
                refusal: Refusal::NotEvaluable,
            },
        ),
        (
            "scores_committed",
            Notice::ScoresCommitted { round, validator },
        ),
        (
            "scores_revealed",
            Notice::ScoresRevealed { round, validator },
        ),
        (
            "validator_failed",
            Notice::ValidatorFailed { round, validator },
        ),
        (
            "round_committed",
            Notice::RoundCommitted(Box::new(report())),
        ),
        (
            "round_settled",
            Notice::RoundSettled {
                round,
                total: Amount(999),
                record: BASE,
            },
        ),
        (
            "round_retried",
            Notice::RoundRetried {
                round,
                reason: reason.clone(),
            },
        ),
        ("task_finished", Notice::TaskFinished { checkpoint: DELTA }),
        ("task_failed", Notice::TaskFailed { reason }),
    ]
}

fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::Stale {
            got: DELTA,
            expected: BASE,
        },
        Refusal::DeltaLength {
            got: 5,
            expected: 4_096,
        },
        Refusal::Layout("no tensor fc1.weight".into()),
        Refusal::NotFinite {
            index: 17,
            value: "NaN".into(),
        },
        Refusal::NoExamples,
        Refusal::Equivocation,
        Refusal::Copy { of: B },
        Refusal::NoWork { ratio_ppm: 12 },
        Refusal::Colluding {
            energy_percent: 250,
        },
        Refusal::Harmful {
            gain_micros: -200_000,
            base_loss_micros: 700_001,
        },
        Refusal::Noise {
            relatedness_milli: 1_100,
            least_milli: 4_000,
        },
        Refusal::OffCourse {
            cosine_ppm: -20_000,
            least_ppm: -10_000,
        },
        Refusal::NotEvaluable,
        Refusal::WrongNorm {
            claimed: Norm::of(1.0),
            actual: Norm::of(2.0),
        },
        Refusal::WrongRoot {
            claimed: Digest([1; 32]),
            actual: Digest([2; 32]),
        },
        Refusal::WrongSketch,
        Refusal::Encoding("a value or its scale is out of range".into()),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let (trainer, validator, delta) = (A, B, DELTA);
    let verdict = |refusal| Verdict {
        trainer,
        sketched: Some(Sketched {
            sketch: Sketch([-3; SKETCH_LEN]),
            commitment: Digest([0x44; 32]),
            sums_root: Digest([0x55; 32]),
        }),
        clip_ppm: 900_000,
        alignment: 5,
        refusal,
    };
    vec![
        ("tick", Event::Tick),
        ("restarted", Event::Restarted),
        (
            "joined",
            Event::Joined {
                address: A,
                role: Role::Trainer,
                stake: Amount(1 << 90),
            },
        ),
        ("left", Event::Left { address: A }),
        (
            "seed_drawn",
            Event::SeedDrawn {
                seed: Digest([0x11; 32]),
            },
        ),
        (
            "round_opened",
            Event::RoundOpened {
                attempt: 2,
                pool: Amount(1 << 90),
            },
        ),
        (
            "round_lost",
            Event::RoundLost {
                reason: "late".into(),
            },
        ),
        (
            "task_lost",
            Event::TaskLost {
                reason: "aborted".into(),
            },
        ),
        (
            "progressed",
            Event::Progressed {
                trainer,
                step: 5,
                steps: 9,
            },
        ),
        ("update_announced", Event::UpdateAnnounced(update())),
        ("delta_stored", Event::DeltaStored { trainer, delta }),
        (
            "delta_refused",
            Event::DeltaRefused {
                trainer,
                delta,
                refusal: Refusal::NoExamples,
            },
        ),
        (
            "sealed",
            Event::Sealed {
                seed: Digest([0x66; 32]),
                own_updates: vec![(A, Digest([0x77; 32]))],
            },
        ),
        ("sketch_claimed", Event::SketchClaimed(sketch())),
        (
            "filtered",
            Event::Filtered {
                verdicts: vec![verdict(None), verdict(Some(Refusal::NotEvaluable))],
            },
        ),
        (
            "scores_committed",
            Event::ScoresCommitted {
                validator,
                commitment: Digest([0x22; 32]),
            },
        ),
        (
            "scores_revealed",
            Event::ScoresRevealed {
                validator,
                sheet: sheet(),
                salt: [0x33; 32],
                reveal: reveal(),
            },
        ),
        ("reveal_opened", Event::RevealOpened),
        (
            "scores_read",
            Event::ScoresRead {
                scores: vec![
                    ChainReveal {
                        validator,
                        weight: Amount(5),
                        factors: Some(vec![1, 20_000]),
                    },
                    ChainReveal {
                        validator: A,
                        weight: Amount(6),
                        factors: None,
                    },
                ],
            },
        ),
        ("validator_failed", Event::ValidatorFailed { validator }),
        (
            "aggregated",
            Event::Aggregated {
                checkpoint: DELTA,
                states: vec![BASE, DELTA],
                control: Some(DELTA),
                broadcast: Some(Broadcast {
                    patch: BASE,
                    exact: DELTA,
                }),
                shares: vec![Share::ONE, Share::of(0.25)],
                noise: Norm::of(0.5),
            },
        ),
        ("result_recorded", Event::ResultRecorded { record: BASE }),
        ("closing_began", Event::ClosingBegan),
        ("task_closed", Event::TaskClosed),
    ]
}

fn check<T>(file: &str, name: &str, value: &T) -> (String, String)
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let bytes = encode(value).unwrap();
    assert_eq!(&decode::<T>(&bytes).unwrap(), value, "{file}: {name}");
    for cut in 0..bytes.len() {
        assert!(decode::<T>(&bytes[..cut]).is_err(), "{name} cut at {cut}");
    }
    (name.to_owned(), hex::encode(bytes))
}

/// Compares with `fixtures/FILE.hex`, lines of `name hex`.
fn freeze(file: &str, encodings: &[(String, String)]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(format!("{file}.hex"));
    let line = |(name, hex): &(String, String)| format!("{name} {hex}\n");
    let now: String = encodings.iter().map(line).collect();
    if std::env::var_os("CONVOKE_BLESS").is_some_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &now).unwrap();
    }
    let frozen = fs::read_to_string(&path).unwrap();
    for (frozen, now) in frozen.lines().zip(now.lines()) {
        assert_eq!(frozen, now, "the encoding of this message has changed");
    }
    assert_eq!(
        frozen.lines().count(),
        now.lines().count(),
        "{file}: messages came or went"
    );
}

#[test]
fn encodings_are_those_of_the_fixtures() {
    let nodes: Vec<_> = node_messages()
        .iter()
        .map(|(name, message)| check("node", name, message))
        .collect();
    freeze("node_message", &nodes);
    let aggregator: Vec<_> = aggregator_messages()
        .iter()
        .map(|(name, message)| check("aggregator", name, message))
        .collect();
    freeze("aggregator_message", &aggregator);
    let refused: Vec<_> = refusals()
        .iter()
        .map(|refusal| check("refusal", refusal.code(), refusal))
        .collect();
    freeze("refusal", &refused);
    let logged: Vec<_> = events()
        .iter()
        .map(|(name, event)| check("event", name, event))
        .collect();
    freeze("event", &logged);
}

#[test]
fn every_variant_has_its_fixture() {
    let last = |encodings: &[Vec<u8>]| {
        let variant = |bytes: &Vec<u8>| u32::from_le_bytes(bytes[..4].try_into().unwrap());
        let mut variants: Vec<_> = encodings.iter().map(variant).collect();
        variants.sort_unstable();
        variants.dedup();
        assert_eq!(variants, (0..variants.len() as u32).collect::<Vec<_>>());
        variants.len() as u32
    };
    fn all<N, T: Serialize>(list: &[(N, T)]) -> Vec<Vec<u8>> {
        list.iter()
            .map(|(_, value)| encode(value).unwrap())
            .collect()
    }
    // A variant after the last one known is an error, so a new variant without a fixture
    // turns up here: its tag alone is too short, not unknown.
    fn unknown<T: DeserializeOwned>(tag: u32) {
        let mut bytes = tag.to_le_bytes().to_vec();
        bytes.extend([0; 400]);
        let error = decode::<T>(&bytes).err().unwrap().to_string();
        assert!(error.contains("variant"), "{error}");
    }
    unknown::<NodeMessage>(last(&all(&node_messages())));
    unknown::<AggregatorMessage>(last(&all(&aggregator_messages())));
    unknown::<Order>(last(&all(&orders())));
    unknown::<Notice>(last(&all(&notices())));
    unknown::<Event>(last(&all(&events())));
    let refused: Vec<_> = refusals()
        .into_iter()
        .map(|refusal| ((), refusal))
        .collect();
    unknown::<Refusal>(last(&all(&refused)));
}

#[test]
fn a_signature_is_its_65_bytes() {
    assert_eq!(encode(&Signature([7; 65])).unwrap(), [7; 65]);
}

/// Every frozen message, encoded once.
static ENCODINGS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let nodes = node_messages().into_iter().map(|(_, m)| encode(&m));
    let aggregator = aggregator_messages().into_iter().map(|(_, m)| encode(&m));
    let refused = refusals().into_iter().map(|m| encode(&m));
    let logged = events().into_iter().map(|(_, m)| encode(&m));
    nodes
        .chain(aggregator)
        .chain(refused)
        .chain(logged)
        .map(Result::unwrap)
        .collect()
});

/// Bytes that decode at all are the only encoding of what they decode to.
fn decodes_to_itself_or_not(bytes: &[u8]) {
    decode_body::decode_message(bytes);
    if let Ok(refusal) = decode::<Refusal>(bytes) {
        assert_eq!(encode(&refusal).as_deref(), Ok(bytes));
        let _ = refusal.to_string();
    }
}

/// Each byte of each message, set to what tags, lengths, flags and texts trip over.
#[test]
fn no_byte_has_a_second_meaning() {
    for bytes in ENCODINGS.iter() {
        for at in 0..bytes.len() {
            for value in [0, 1, 2, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                decodes_to_itself_or_not(&changed);
            }
        }
    }
}

/// What happens to a message on its way.
#[derive(Debug, Clone)]
enum Change {
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
}

impl Change {
    fn make(&self, bytes: &mut Vec<u8>) {
        let place = |at: &prop::sample::Index| at.index(bytes.len() + 1);
        match self {
            Self::Set(at, value) => {
                let at = place(at);
                bytes.resize(bytes.len().max(at + 1), 0);
                bytes[at] = *value;
            }
            Self::Cut(at, count) => {
                let at = place(at);
                let end = (at + count).min(bytes.len());
                bytes.drain(at..end);
            }
            Self::Insert(at, new) => {
                let at = place(at);
                bytes.splice(at..at, new.iter().copied());
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    let new = || prop::collection::vec(any::<u8>(), 1..40);
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, value)| Change::Set(at, value)),
        1 => (at(), 1usize..40).prop_map(|(at, count)| Change::Cut(at, count)),
        1 => (at(), new()).prop_map(|(at, new)| Change::Insert(at, new)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_messages_are_refused_or_say_what_they_say(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let mut bytes = ENCODINGS[which.index(ENCODINGS.len())].clone();
        changes.iter().for_each(|change| change.make(&mut bytes));
        decodes_to_itself_or_not(&bytes);
    }

    /// Behind a tag that is known they get further than behind a random one.
    #[test]
    fn random_bytes_are_refused_or_say_what_they_say(
        tag in 0u32..23,
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        decodes_to_itself_or_not(&bytes);
        decodes_to_itself_or_not(&[&tag.to_le_bytes(), &bytes[..]].concat());
    }
}

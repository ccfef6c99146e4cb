//! Any bytes as events in any order: sense, nonsense, wrong senders, duplicates, restarts and
//! jumps of time.

use convoke_protocol::factors::ChainReveal;
use convoke_protocol::ids::{Amount, BlobHash, Digest, Millis, Role, RoundId, TaskId};
use convoke_protocol::message::PhaseName;
use convoke_protocol::record::Share;
use convoke_protocol::refusal::Refusal;
use convoke_protocol::round::Event;
use convoke_protocol::sketch::Norm;

use crate::world::{TRAINERS, VALIDATORS, World, spec};

/// Events of one script at most.
const EVENTS_MAX: usize = 400;

/// Plays the bytes, with all of [`World`]'s checks and a replay of the log at the end.
pub(crate) fn round_events(data: &[u8]) {
    play(data);
}

/// The same, giving back how it ended.
pub(crate) fn play(data: &[u8]) -> World {
    let validators = data.first().map_or(1, |byte| byte % 3);
    let rounds = data.get(1).map_or(1, |byte| 1 + u32::from(byte % 8));
    let mode = match data.first() {
        Some(byte) if byte & 64 != 0 => {
            "[aggregation]\nmode = \"buffered\"\nbuffer_size = 2\nstaleness_max = 2"
        }
        _ => "",
    };
    let cohort = format!(
        "trainers_min = 3\ntrainers_max = 4\nvalidators_min = {validators}\nupdates_min = 2\n{mode}"
    );
    let mut world = World::new(spec(rounds, &cohort));
    for step in data.chunks_exact(2).take(EVENTS_MAX) {
        act(&mut world, step[0], step[1]);
    }
    world.replayed();
    world
}

/// One step. Half of them are what well-behaved parties do next, so that scripts get far.
fn act(world: &mut World, what: u8, how: u8) {
    match what % 32 {
        0..16 => nudge(world, how),
        16 => drop(world.tick()),
        17 => world.pass(u64::from(how)),
        // A clock that steps back.
        18 => world.now = Millis(world.now.0.saturating_sub(u64::from(how) * 1_000)),
        19 if how < 24 => world.restart(),
        20 => drop(world.feed(Event::Left {
            address: world.trainer(how),
        })),
        21 => drop(world.feed(Event::Left {
            address: world.validator(how),
        })),
        22 => drop(world.join_validator(how)),
        23 => drop(world.join_trainer(how)),
        24 => drop(world.feed(Event::Progressed {
            trainer: world.trainer(how),
            step: u32::from(how),
            steps: 9,
        })),
        25 if how >= 64 => stale_update(world, how),
        25 => drop(world.announce(how, 1)),
        26 => corrupt_update(world, how),
        27 => drop(world.feed(Event::DeltaRefused {
            trainer: world.trainer(how),
            delta: world.delta(how, 0),
            refusal: Refusal::NoExamples,
        })),
        28 => wrong_answer(world, how),
        29 => drop(world.feed(Event::ValidatorFailed {
            validator: world.validator(how),
        })),
        30 => wrong_scores(world, how),
        _ => drop(world.join(world.trainer(how), wrong_role(how))),
    }
}

fn nudge(world: &mut World, how: u8) {
    let (trainer, validator) = (how % TRAINERS, how % VALIDATORS);
    match world.run.phase() {
        PhaseName::Open if world.answer.is_none() => {
            let _ = world.join_trainer(trainer);
            let _ = world.join_validator(validator);
        }
        PhaseName::Train => {
            let _ = world.announce(trainer, 0);
            let _ = world.store(trainer, 0);
        }
        PhaseName::Validate if world.answer.is_none() || how >= 128 => {
            let _ = world.commit(validator);
            let _ = world.reveal(validator);
        }
        PhaseName::Filter if how >= 192 => wrong_sketch(world, how),
        PhaseName::Filter if world.answer.is_none() => drop(world.claim(trainer)),
        PhaseName::Filter => drop(world.answer_once()),
        _ => drop(world.answer()),
    }
}

fn wrong_sketch(world: &mut World, how: u8) {
    let Some(mut claim) = world.sketch(how) else {
        return;
    };
    match how % 4 {
        0 => claim.attempt += 1,
        1 => claim.seed = Digest([how; 32]),
        2 => claim.clip_norm = Norm::of(f64::from(how)),
        _ => claim.update = Digest([how; 32]),
    }
    let _ = world.feed_claim(how, claim);
}

fn stale_update(world: &mut World, how: u8) {
    let Some(header) = world.stale_header(how, usize::from(how / 64)) else {
        return;
    };
    let (trainer, delta) = (world.trainer(how), header.delta);
    let update = world.sign(how, header);
    let _ = world.feed(Event::UpdateAnnounced(update));
    let _ = world.feed(Event::DeltaStored { trainer, delta });
}

fn corrupt_update(world: &mut World, how: u8) {
    let mut header = world.header(how, 2);
    match how / 16 % 6 {
        0 => header.base = BlobHash([0xee; 32]),
        1 => header.round = RoundId(u32::from(how)),
        2 => header.task = TaskId(99),
        3 => header.num_examples = 0,
        4 => header.delta_bytes = u64::MAX,
        // Another's delta.
        _ => header.delta = world.delta(how.wrapping_add(1), 0),
    }
    let mut update = world.sign(how, header);
    if how.is_multiple_of(7) {
        update.signature.0[how as usize % 65] ^= 1;
    }
    if how.is_multiple_of(11) {
        update.trainer = world.validator(how);
    }
    let _ = world.feed(Event::UpdateAnnounced(update));
    let _ = world.store(how.wrapping_add(1), 0);
    let (trainer, delta) = (world.trainer(how), world.delta(how.wrapping_add(1), 0));
    let _ = world.feed(Event::DeltaStored { trainer, delta });
}

fn wrong_answer(world: &mut World, how: u8) {
    let event = match how % 10 {
        0 if how < 128 => Event::Filtered { verdicts: vec![] },
        0 => Event::Sealed {
            seed: Digest([how; 32]),
            own_updates: vec![],
        },
        1 => Event::Aggregated {
            checkpoint: BlobHash([how; 32]),
            states: vec![],
            control: None,
            broadcast: None,
            shares: vec![Share::of(f64::from(how))],
            noise: Norm::ZERO,
        },
        2 => Event::ResultRecorded {
            record: BlobHash([how; 32]),
        },
        3 => Event::TaskClosed,
        4 => Event::RevealOpened,
        5 => Event::ScoresRead {
            scores: vec![ChainReveal {
                validator: world.validator(how),
                weight: Amount(1),
                factors: Some(vec![1; usize::from(how)]),
            }],
        },
        6 => Event::ClosingBegan,
        7 => return drop(world.lose_round()),
        // Seldom: nothing comes after it.
        8 if how > 240 => Event::TaskLost {
            reason: "aborted".into(),
        },
        _ => Event::SeedDrawn {
            seed: Digest([how; 32]),
        },
    };
    let _ = world.feed(event);
}

fn wrong_scores(world: &mut World, how: u8) {
    let (validator, mut sheet) = (world.validator(how), world.sheet());
    match how % 4 {
        0 => sheet.round = RoundId(77),
        1 => sheet.candidates.clear(),
        2 => sheet.base_loss_micros = u64::from(how),
        _ => {
            let _ = world.feed(Event::ScoresCommitted {
                validator: world.trainer(how),
                commitment: Digest([how; 32]),
            });
        }
    }
    let mut reveal = world.signed_reveal(how, &sheet);
    match how / 4 % 4 {
        0 => reveal.attempt += 1,
        1 => reveal.signature.0[how as usize % 65] ^= 1,
        2 => drop(reveal.factors.pop()),
        _ => {}
    }
    let _ = world.feed(Event::ScoresRevealed {
        validator,
        sheet,
        salt: [how % VALIDATORS; 32],
        reveal,
    });
}

fn wrong_role(how: u8) -> Role {
    [Role::Validator, Role::Aggregator, Role::Observer][usize::from(how) % 3]
}

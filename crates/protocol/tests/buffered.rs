//! Rounds that end with so many updates, whoever sent them, and take updates that began earlier.
#![allow(clippy::unwrap_used)]

#[path = "../fuzz/src/world.rs"]
#[allow(dead_code)]
mod world;

use convoke_protocol::ids::{Address, RoundId};
use convoke_protocol::message::{PhaseName, RoundReport};
use convoke_protocol::refusal::Refusal;
use convoke_protocol::round::{Effect, Event};
use convoke_protocol::task::EXAMPLE_WEIGHT;
use convoke_protocol::update::UpdateHeader;

use self::world::{World, spec};

const BUFFERED: &str = "trainers_min = 4\nvalidators_min = 0\nupdates_min = 1\n\
    [aggregation]\nmode = \"buffered\"\nbuffer_size = 2\nstaleness_max = 2\n\
    staleness_power = 0.5\n";

/// Four trainers have joined, and the first round trains.
fn training(task: &str) -> World {
    let mut world = World::new(spec(6, task));
    for index in 0..4 {
        world.join_trainer(index).unwrap();
    }
    open(&mut world);
    world
}

fn open(world: &mut World) {
    world.answer().unwrap().unwrap();
    world.answer().unwrap().unwrap();
    assert_eq!(world.run.phase(), PhaseName::Train);
}

fn send(world: &mut World, index: u8) {
    world.announce(index, 0).unwrap();
    world.store(index, 0).unwrap();
}

/// An update for the round under way that began `back` rounds ago.
fn send_stale(world: &mut World, index: u8, back: usize) {
    let header = world.stale_header(index, back).unwrap();
    send_header(world, index, header);
}

fn send_header(world: &mut World, index: u8, header: UpdateHeader) {
    let (trainer, delta) = (world.trainer(index), header.delta);
    let update = world.sign(index, header);
    world.feed(Event::UpdateAnnounced(update)).unwrap();
    let _ = world.feed(Event::DeltaStored { trainer, delta });
}

/// From Filter to the next round's training.
fn settle(world: &mut World) -> RoundReport {
    while world.run.phase() != PhaseName::Train {
        world.answer().unwrap().unwrap();
    }
    world.run.history().last().unwrap().clone()
}

fn kept(report: &RoundReport) -> Vec<Address> {
    report.kept.iter().map(|kept| kept.trainer).collect()
}

#[test]
fn a_full_buffer_ends_the_round_and_blames_nobody_at_work() {
    let mut world = training(BUFFERED);
    send(&mut world, 0);
    assert_eq!(world.run.phase(), PhaseName::Train);
    send(&mut world, 1);
    assert_eq!(world.run.phase(), PhaseName::Filter);
    let report = settle(&mut world);
    assert_eq!(kept(&report), [world.trainer(0), world.trainer(1)]);
    assert!(report.absent.is_empty(), "{:?}", report.absent);
    assert_eq!(world.run.round(), RoundId(2));
    world.replayed();
}

#[test]
fn who_was_silent_for_too_long_is_absent() {
    let mut world = training(BUFFERED);
    send(&mut world, 0);
    world.pass(15);
    let (trainer, step, steps) = (world.trainer(2), 1, 9);
    world
        .feed(Event::Progressed {
            trainer,
            step,
            steps,
        })
        .unwrap();
    world.pass(6);
    send(&mut world, 1);
    assert_eq!(settle(&mut world).absent, [world.trainer(3)]);
}

#[test]
fn an_update_that_began_earlier_counts_for_less() {
    let mut world = training(BUFFERED);
    for _ in 0..2 {
        send(&mut world, 0);
        send(&mut world, 1);
        settle(&mut world);
    }
    send_stale(&mut world, 2, 2);
    send(&mut world, 0);
    let report = settle(&mut world);
    let weights: Vec<_> = report.kept.iter().map(|k| k.num_examples).collect();
    let discounted = (EXAMPLE_WEIGHT as f64 / 3f64.sqrt()).round() as u64;
    assert_eq!(weights, [102 * discounted, 100 * EXAMPLE_WEIGHT]);
    let dossier = world.effects.iter().rev().find_map(|effect| match effect {
        Effect::SubmitResult { dossier, .. } => Some(dossier),
        _ => None,
    });
    let recorded: Vec<_> = dossier.unwrap().updates.iter().map(|u| u.weight).collect();
    assert_eq!(recorded, weights, "the record says the same");
}

#[test]
fn a_base_that_lies_too_far_back_is_stale() {
    let mut world = training(BUFFERED);
    for _ in 0..3 {
        send(&mut world, 0);
        send(&mut world, 1);
        settle(&mut world);
    }
    send_stale(&mut world, 2, 3);
    send(&mut world, 0);
    send_stale(&mut world, 3, 2);
    let report = settle(&mut world);
    assert_eq!(kept(&report), [world.trainer(0), world.trainer(3)]);
    let [(trainer, Refusal::Stale { .. })] = &report.refused[..] else {
        panic!("{:?}", report.refused);
    };
    assert_eq!(*trainer, world.trainer(2));
}

/// Else one delta could be sent round after round.
#[test]
fn each_base_serves_a_trainer_once() {
    let mut world = training(BUFFERED);
    send(&mut world, 0);
    send(&mut world, 1);
    settle(&mut world);
    send_stale(&mut world, 0, 1);
    send_stale(&mut world, 2, 1);
    send(&mut world, 1);
    let report = settle(&mut world);
    assert_eq!(kept(&report), [world.trainer(2), world.trainer(1)]);
    assert!(matches!(
        report.refused[..],
        [(trainer, Refusal::Stale { .. })] if trainer == world.trainer(0)
    ));
}

/// Its delta was under way when the buffer was full: the same delta is for the next round.
#[test]
fn an_update_that_arrived_too_late_is_taken_in_the_next_round() {
    let mut world = training(BUFFERED);
    world.announce(2, 0).unwrap();
    let late = world.delta(2, 0);
    send(&mut world, 0);
    send(&mut world, 1);
    assert!(!world.run.decided_deltas().any(|delta| delta == late));
    settle(&mut world);
    let mut header = world.stale_header(2, 1).unwrap();
    header.delta = late;
    send_header(&mut world, 2, header);
    send(&mut world, 3);
    assert_eq!(
        kept(&settle(&mut world)),
        [world.trainer(2), world.trainer(3)]
    );
}

#[test]
fn the_deadlines_hold_for_buffers_that_do_not_fill() {
    let mut world = training(BUFFERED);
    send(&mut world, 0);
    while world.run.phase() == PhaseName::Train {
        assert!(world.tick());
    }
    let report = settle(&mut world);
    assert_eq!(kept(&report), [world.trainer(0)]);
    assert_eq!(report.absent.len(), 3);
}

#[test]
fn a_kill_forgets_neither_bases_nor_who_has_used_them() {
    let mut world = training(BUFFERED);
    send(&mut world, 0);
    send(&mut world, 1);
    settle(&mut world);
    world.restart();
    for index in 0..4 {
        world.join_trainer(index).unwrap();
    }
    send_stale(&mut world, 0, 1);
    send_stale(&mut world, 2, 1);
    send(&mut world, 3);
    let report = settle(&mut world);
    assert_eq!(kept(&report), [world.trainer(2), world.trainer(3)]);
    assert_eq!(report.refused.len(), 1);
}

#[test]
fn where_rounds_wait_for_their_cohort_no_older_base_is_taken() {
    let mut world = training("trainers_min = 4\nvalidators_min = 0\nupdates_min = 1");
    (0..4).for_each(|index| send(&mut world, index));
    settle(&mut world);
    send_stale(&mut world, 0, 1);
    (1..4).for_each(|index| send(&mut world, index));
    let report = settle(&mut world);
    assert_eq!(report.kept.len(), 3);
    assert_eq!(report.kept[0].num_examples, 101);
    assert!(matches!(report.refused[..], [(_, Refusal::Stale { .. })]));
}

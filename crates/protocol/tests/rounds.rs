//! The round state machine, phase by phase, with scripted nodes. Every event fed here is also
//! checked by `World` (refused events change nothing, phases follow the diagram, no deadline
//! keeps the driver busy).
#![allow(clippy::unwrap_used)]

#[path = "../fuzz/src/world.rs"]
#[allow(dead_code)]
mod world;

use convoke_protocol::factors::{ChainReveal, FACTOR_ONE};
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, Millis, Role, RoundId, TaskId};
use convoke_protocol::message::{Notice, Order, PhaseName, RoundReport};
use convoke_protocol::refusal::Refusal;
use convoke_protocol::round::{Effect, Event, Fault};
use convoke_protocol::sketch::{Norm, SketchClaim};

use self::world::{World, spec};

const SCORED: &str = "trainers_min = 3\nvalidators_min = 1\nupdates_min = 2";
const UNSCORED: &str = "trainers_min = 3\nvalidators_min = 0\nupdates_min = 2";

fn world(rounds: u32, cohort: &str) -> World {
    World::new(spec(rounds, cohort))
}

/// Three trainers and two validators have joined, and the cohort is drawn.
fn training(cohort: &str) -> World {
    let mut world = world(2, cohort);
    for index in 0..2 {
        world.join_validator(index).unwrap();
    }
    for index in 0..3 {
        world.join_trainer(index).unwrap();
    }
    open(&mut world);
    world
}

/// The cohort is drawn, and the chain opens the round.
fn open(world: &mut World) {
    world.answer().unwrap().unwrap();
    assert_eq!(world.run.phase(), PhaseName::Open);
    world.answer().unwrap().unwrap();
    assert_eq!(world.run.phase(), PhaseName::Train);
}

/// All three updates passed the filter.
fn validating() -> World {
    let mut world = training(SCORED);
    all_send(&mut world);
    world.answer().unwrap().unwrap();
    assert_eq!(world.run.phase(), PhaseName::Validate);
    world
}

fn all_send(world: &mut World) {
    for index in 0..3 {
        world.announce(index, 0).unwrap();
        world.store(index, 0).unwrap();
    }
    assert_eq!(world.run.phase(), PhaseName::Filter);
}

fn score(world: &mut World, validators: u8) {
    (0..validators).for_each(|index| world.commit(index).unwrap());
    world.answer().unwrap().unwrap();
    (0..validators).for_each(|index| world.reveal(index).unwrap());
    world.answer().unwrap().unwrap();
    assert_eq!(world.run.phase(), PhaseName::Commit);
}

/// From Commit to the next round or the end.
fn settle(world: &mut World) -> RoundReport {
    world.answer().unwrap().unwrap();
    world.answer().unwrap().unwrap();
    world.run.history().last().unwrap().clone()
}

fn refusals(world: &World) -> Vec<(Address, Refusal)> {
    let refusal = |effect: &Effect| match effect {
        Effect::Announce(Notice::UpdateRefused {
            trainer, refusal, ..
        }) => Some((*trainer, refusal.clone())),
        _ => None,
    };
    world.effects.iter().filter_map(refusal).collect()
}

fn told(world: &World, to: Address) -> Vec<&Order> {
    fn order(effect: &Effect, told: Address) -> Option<&Order> {
        match effect {
            Effect::Tell { to, order } if *to == told => Some(order),
            _ => None,
        }
    }
    world
        .effects
        .iter()
        .filter_map(|effect| order(effect, to))
        .collect()
}

#[test]
fn two_rounds_lead_to_the_end_and_pay_no_more_than_the_pool() {
    let mut world = training(SCORED);
    for round in 1..=2 {
        if round == 2 {
            open(&mut world);
        }
        assert_eq!(world.run.round(), RoundId(round));
        all_send(&mut world);
        world.answer().unwrap().unwrap();
        score(&mut world, 2);
        let report = settle(&mut world);
        assert_eq!((report.kept.len(), report.validators.len()), (3, 2));
        assert!(report.refused.is_empty() && report.absent.is_empty());
        let pool = world.run.setup().spec.round_pool().0;
        let share = pool * 7 / 10;
        assert!(
            world.paid <= share && world.paid + 4 > share,
            "{}",
            world.paid
        );
    }
    assert_eq!(world.run.phase(), PhaseName::Finished);
    assert!(!world.run.is_over());
    world.answer().unwrap().unwrap();
    let validator = world.validator(0);
    let evaluate = |order: &&&Order| matches!(order, Order::Evaluate { round, .. } if round.0 == 3);
    assert_eq!(told(&world, validator).iter().filter(evaluate).count(), 1);
    assert!(!world.run.is_over(), "validators evaluate the outcome");
    world.join_validator(0).unwrap();
    assert_eq!(told(&world, validator).iter().filter(evaluate).count(), 2);
    world.answer().unwrap().unwrap();
    assert!(world.run.is_over());
    assert_eq!(world.run.deadline(), None);
    world.replayed();
}

#[test]
fn without_validators_the_updates_are_kept_unscored() {
    let mut world = training(UNSCORED);
    all_send(&mut world);
    world.answer().unwrap().unwrap();
    assert_eq!(world.run.phase(), PhaseName::Commit);
    let report = settle(&mut world);
    assert_eq!(report.kept.len(), 3);
    assert!(report.validators.is_empty());
}

#[test]
fn only_trainers_and_validators_become_members() {
    let mut world = world(1, UNSCORED);
    for role in [Role::Observer, Role::Aggregator] {
        let fault = world.join(Address([9; 20]), role).unwrap_err();
        assert!(matches!(fault, Fault::WrongRole { joined, .. } if joined == role));
    }
    world.join_trainer(0).unwrap();
    let trainer = world.trainer(0);
    assert!(world.join(trainer, Role::Validator).is_err());
    assert_eq!(world.run.members().addresses().count(), 1);
}

#[test]
fn too_few_nodes_for_too_long_end_the_task() {
    let mut world = world(1, SCORED);
    world.join_trainer(0).unwrap();
    while world.tick() {}
    assert_eq!(world.run.phase(), PhaseName::Failed);
    assert!(world.run.failure().unwrap().contains("too few nodes"));
}

#[test]
fn a_later_round_opens_with_a_quorum_after_the_grace_time() {
    let mut world = training(UNSCORED);
    all_send(&mut world);
    world.answer().unwrap().unwrap();
    let gone = world.trainer(2);
    world.feed(Event::Left { address: gone }).unwrap();
    settle(&mut world);
    assert_eq!(
        (world.run.phase(), world.answer.is_none()),
        (PhaseName::Open, true)
    );
    // Two of three are less than the default quorum of 67%.
    assert!(world.tick());
    assert_eq!(world.run.phase(), PhaseName::Open);
    assert!(world.answer.is_none());
    let later = "trainers_min = 3\nvalidators_min = 0\nupdates_min = 2\nquorum_bps = 6000";
    let mut world = training(later);
    all_send(&mut world);
    world.answer().unwrap().unwrap();
    world.feed(Event::Left { address: gone }).unwrap();
    settle(&mut world);
    assert!(world.tick());
    open(&mut world);
}

#[test]
fn a_seed_that_finds_nobody_left_draws_no_empty_cohort() {
    let mut world = world(1, UNSCORED);
    for index in 0..3 {
        world.join_trainer(index).unwrap();
    }
    // The driver dies while it waits for the block; the answer comes before the nodes are back.
    world.restart();
    world.answer().unwrap().unwrap();
    assert_eq!(world.run.phase(), PhaseName::Open);
    for index in 0..3 {
        world.join_trainer(index).unwrap();
    }
    open(&mut world);
}

#[test]
fn a_quorum_starts_the_grace_time_of_the_others() {
    let quorum = "trainers_min = 3\nvalidators_min = 0\nupdates_min = 1\nquorum_bps = 6000";
    let mut world = training(quorum);
    for index in 0..2 {
        world.announce(index, 0).unwrap();
        world.store(index, 0).unwrap();
    }
    assert_eq!(world.run.deadline(), Some(world.now.after(10_000)));
    world.pass(5);
    // Progress does not stretch it.
    let slow = world.trainer(2);
    world
        .feed(Event::Progressed {
            trainer: slow,
            step: 1,
            steps: 2,
        })
        .unwrap();
    assert!(world.tick());
    assert_eq!(world.run.phase(), PhaseName::Filter);
    world.answer().unwrap().unwrap();
    assert_eq!(settle(&mut world).absent, [slow]);
}

#[test]
fn progress_renews_the_deadline_up_to_the_hard_limit() {
    let mut world = training(UNSCORED);
    let started = world.now;
    let mut seconds = 0;
    while world.run.phase() == PhaseName::Train {
        world.pass(15);
        seconds += 15;
        for index in 0..3 {
            let trainer = world.trainer(index);
            let _ = world.feed(Event::Progressed {
                trainer,
                step: 1,
                steps: 2,
            });
        }
        assert!(seconds <= 300, "progress stretches the round for ever");
    }
    assert_eq!(world.now, started.after(300_000));
    assert_eq!(
        (world.run.phase(), world.run.attempt()),
        (PhaseName::Open, 2)
    );
}

#[test]
fn silence_gives_a_trainer_up_and_too_little_progress_is_not_logged() {
    let mut world = training(UNSCORED);
    let trainer = world.trainer(0);
    let progress = Event::Progressed {
        trainer,
        step: 1,
        steps: 2,
    };
    assert_eq!(world.feed(progress.clone()), Err(Fault::Unchanged));
    world.pass(1);
    assert_eq!(world.feed(progress), Ok(()));
    for index in 0..2 {
        world.announce(index, 0).unwrap();
        world.store(index, 0).unwrap();
    }
    assert!(world.tick());
    assert_eq!(world.run.phase(), PhaseName::Filter);
}

#[test]
fn a_round_is_retried_so_often_and_then_the_task_fails() {
    let mut world = training(UNSCORED);
    for attempt in 1..=3 {
        assert_eq!(world.run.attempt(), attempt);
        assert_eq!(world.run.phase(), PhaseName::Train);
        assert!(world.tick());
        if attempt < 3 {
            open(&mut world);
        }
    }
    assert_eq!(world.run.phase(), PhaseName::Failed);
    let reason = world.run.failure().unwrap();
    assert!(
        reason.contains("round 1 failed 3 times: 0 sound updates, 2 are needed"),
        "{reason}"
    );
}

#[test]
fn flawed_updates_are_refused_by_name_and_reason() {
    let mut world = training(SCORED);
    let (stale, short, idle) = (world.trainer(0), world.trainer(1), world.trainer(2));
    let mut header = world.header(0, 0);
    header.base = BlobHash([0xee; 32]);
    world
        .feed(Event::UpdateAnnounced(world.sign(0, header)))
        .unwrap();
    let mut header = world.header(1, 0);
    header.delta_bytes -= 4;
    world
        .feed(Event::UpdateAnnounced(world.sign(1, header)))
        .unwrap();
    let mut header = world.header(2, 0);
    header.num_examples = 0;
    world
        .feed(Event::UpdateAnnounced(world.sign(2, header)))
        .unwrap();
    let codes: Vec<_> = refusals(&world)
        .iter()
        .map(|(trainer, refusal)| (*trainer, refusal.code()))
        .collect();
    assert_eq!(
        codes,
        [
            (stale, "stale"),
            (short, "delta_length"),
            (idle, "no_examples")
        ]
    );
    assert_eq!(
        world.run.attempt(),
        2,
        "nobody is left, so the round is tried again"
    );
}

#[test]
fn wrong_rounds_tasks_signatures_and_senders_are_faults() {
    let mut world = training(SCORED);
    let mut feed = |index: u8, change: fn(&mut convoke_protocol::update::UpdateHeader)| {
        let mut header = world.header(index, 0);
        change(&mut header);
        let update = world.sign(index, header);
        world.feed(Event::UpdateAnnounced(update)).unwrap_err()
    };
    assert!(matches!(
        feed(0, |h| h.round = RoundId(9)),
        Fault::WrongRound { .. }
    ));
    assert_eq!(feed(0, |h| h.task.0 += 1), Fault::WrongTask);
    assert!(matches!(feed(4, |_| {}), Fault::NotAMember(_)));
    let mut forged = world.update(0, 0);
    forged.header.num_examples += 1;
    let fault = world.feed(Event::UpdateAnnounced(forged)).unwrap_err();
    assert!(matches!(fault, Fault::Signature(_)));
    let mut validators = world.update(0, 0);
    validators.trainer = world.validator(0);
    let fault = world.feed(Event::UpdateAnnounced(validators)).unwrap_err();
    assert!(matches!(fault, Fault::WrongRole { .. }));
}

#[test]
fn two_updates_of_one_trainer_are_equivocation_even_after_the_first_is_stored() {
    let mut world = training(SCORED);
    let liar = world.trainer(0);
    world.announce(0, 0).unwrap();
    world.store(0, 0).unwrap();
    world.announce(0, 1).unwrap();
    assert_eq!(refusals(&world), [(liar, Refusal::Equivocation)]);
    assert_eq!(world.announce(0, 2), Err(Fault::Decided(liar)));
    assert_eq!(world.store(0, 1), Err(Fault::NotAnnounced(liar)));
}

#[test]
fn who_equivocates_after_the_quorum_takes_no_time_from_the_others() {
    let quorum = "trainers_min = 3\nvalidators_min = 0\nupdates_min = 2\nquorum_bps = 6000";
    let mut world = training(quorum);
    for index in 0..2 {
        world.announce(index, 0).unwrap();
        world.store(index, 0).unwrap();
    }
    world.pass(9);
    world.announce(1, 1).unwrap();
    let slow = world.trainer(2);
    world
        .feed(Event::Progressed {
            trainer: slow,
            step: 1,
            steps: 2,
        })
        .unwrap();
    world.pass(9);
    world.announce(2, 0).unwrap();
    world.store(2, 0).unwrap();
    assert_eq!(world.run.phase(), PhaseName::Filter);
}

#[test]
fn the_same_update_again_is_answered_again_but_not_without_end() {
    let mut world = training(SCORED);
    let trainer = world.trainer(0);
    world.announce(0, 0).unwrap();
    assert_eq!(world.announce(0, 0), Err(Fault::Unchanged));
    world.pass(1);
    world.announce(0, 0).unwrap();
    let sends = told(&world, trainer)
        .into_iter()
        .filter(|order| matches!(order, Order::SendDelta { .. }));
    assert_eq!(sends.count(), 2);
}

#[test]
fn the_later_of_two_equal_deltas_is_a_copy_whichever_arrives_first() {
    let mut world = training(SCORED);
    let (owner, copier) = (world.trainer(0), world.trainer(1));
    world.announce(0, 0).unwrap();
    let mut header = world.header(1, 0);
    header.delta = world.delta(0, 0);
    let delta = header.delta;
    world
        .feed(Event::UpdateAnnounced(world.sign(1, header)))
        .unwrap();
    world
        .feed(Event::DeltaStored {
            trainer: copier,
            delta,
        })
        .unwrap();
    world.store(0, 0).unwrap();
    assert_eq!(refusals(&world), [(copier, Refusal::Copy { of: owner })]);
}

#[test]
fn an_unsound_delta_is_refused_and_its_text_is_cut() {
    let mut world = training(SCORED);
    let (trainer, delta) = (world.trainer(0), world.delta(0, 0));
    let refusal = Refusal::Layout("ä".repeat(5_000));
    let event = Event::DeltaRefused {
        trainer,
        delta,
        refusal,
    };
    assert_eq!(world.feed(event.clone()), Err(Fault::NotAnnounced(trainer)));
    world.announce(0, 0).unwrap();
    world.feed(event).unwrap();
    assert_eq!(
        refusals(&world),
        [(trainer, Refusal::Layout("ä".repeat(200)))]
    );
}

#[test]
fn a_trainer_that_comes_back_is_told_where_it_stands() {
    let mut world = training(SCORED);
    let trainer = world.trainer(0);
    let last = |world: &World| told(world, trainer).last().map(|order| (*order).clone());
    let round = world.run.round();
    world.join_trainer(0).unwrap();
    assert!(matches!(last(&world), Some(Order::Train { .. })));
    world.announce(0, 0).unwrap();
    world.restart();
    world.join_trainer(0).unwrap();
    let delta = world.delta(0, 0);
    assert_eq!(last(&world), Some(Order::SendDelta { round, delta }));
    world.store(0, 0).unwrap();
    world.join_trainer(0).unwrap();
    assert_eq!(last(&world), Some(Order::UpdateStored { round }));
    world.pass(2);
    world.announce(0, 1).unwrap();
    world.join_trainer(0).unwrap();
    assert!(matches!(last(&world), Some(Order::UpdateRefused { .. })));
}

#[test]
fn a_restart_blames_nobody_for_the_silence_meanwhile() {
    let mut world = training(SCORED);
    world.pass(86_400);
    world.restart();
    assert_eq!(world.run.phase(), PhaseName::Train);
    assert_eq!(world.run.deadline(), Some(world.now.after(20_000)));
    let quorum = "trainers_min = 3\nvalidators_min = 0\nupdates_min = 2\nquorum_bps = 6000";
    let mut world = training(quorum);
    for index in 0..2 {
        world.announce(index, 0).unwrap();
        world.store(index, 0).unwrap();
    }
    world.pass(86_400);
    world.restart();
    assert_eq!(
        world.run.deadline(),
        Some(world.now.after(10_000)),
        "a new grace time"
    );
}

#[test]
fn a_validator_that_never_reveals_is_left_out() {
    let mut world = validating();
    world.commit(0).unwrap();
    world.commit(1).unwrap();
    world.answer().unwrap().unwrap();
    world.reveal(0).unwrap();
    assert!(world.tick());
    world.answer().unwrap().unwrap();
    assert_eq!(world.run.phase(), PhaseName::Commit);
    assert_eq!(settle(&mut world).validators, [world.validator(0)]);
}

#[test]
fn scores_other_than_those_committed_to_are_refused_until_the_right_ones_come() {
    let mut world = validating();
    let validator = world.validator(0);
    assert!(matches!(world.reveal(0), Err(Fault::WrongPhase(_))));
    world.commit(0).unwrap();
    assert_eq!(world.commit(0), Err(Fault::Unchanged));
    let commitment = convoke_protocol::ids::Digest([5; 32]);
    let other = Event::ScoresCommitted {
        validator,
        commitment,
    };
    assert_eq!(world.feed(other), Err(Fault::CommittedOtherwise(validator)));
    assert!(world.tick());
    assert!(matches!(world.reveal(0), Err(Fault::WrongPhase(_))));
    world.answer().unwrap().unwrap();
    assert_eq!(
        world.reveal(1),
        Err(Fault::NoCommitment(world.validator(1)))
    );
    assert!(
        matches!(world.commit(1), Err(Fault::WrongPhase(_))),
        "too late"
    );
    let mut sheet = world.sheet();
    sheet.base_loss_micros += 1;
    let reveal = world.signed_reveal(0, &world.sheet());
    let salt = [0; 32];
    let wrong = Event::ScoresRevealed {
        validator,
        sheet,
        salt,
        reveal: reveal.clone(),
    };
    assert_eq!(world.feed(wrong), Err(Fault::RevealMismatch(validator)));
    let mut unsigned = reveal.clone();
    unsigned.factors[0] += 1;
    let mut short = reveal.clone();
    short.factors.pop();
    let mut stale = reveal;
    stale.attempt += 1;
    for (reveal, signature) in [(unsigned, true), (short, false), (stale, false)] {
        let sheet = world.sheet();
        let wrong = Event::ScoresRevealed {
            validator,
            sheet,
            salt,
            reveal,
        };
        let fault = world.feed(wrong).unwrap_err();
        assert_eq!(matches!(fault, Fault::Signature(_)), signature, "{fault}");
    }
    world.reveal(0).unwrap();
    world.answer().unwrap().unwrap();
    assert_eq!(world.run.phase(), PhaseName::Commit);
}

#[test]
fn a_failed_machine_is_waited_for_no_longer_and_may_recover() {
    let mut world = validating();
    for index in 0..2 {
        let validator = world.validator(index);
        if index == 1 {
            world.commit(0).unwrap();
        }
        let _ = world.feed(Event::ValidatorFailed { validator });
    }
    world.answer().unwrap().unwrap();
    world.reveal(0).unwrap();
    world.answer().unwrap().unwrap();
    assert_eq!(settle(&mut world).validators, [world.validator(0)]);
}

#[test]
fn a_round_without_scores_is_tried_again() {
    let mut world = validating();
    for index in 0..2 {
        let validator = world.validator(index);
        world.feed(Event::ValidatorFailed { validator }).unwrap();
    }
    assert_eq!(
        (world.run.phase(), world.run.attempt()),
        (PhaseName::Open, 2)
    );
    let mut world = validating();
    world.commit(0).unwrap();
    assert!(world.tick());
    world.answer().unwrap().unwrap();
    assert!(world.tick(), "and nobody reveals");
    assert_eq!(
        (world.run.phase(), world.run.attempt()),
        (PhaseName::Open, 2)
    );
}

#[test]
fn validators_that_come_back_after_a_restart_still_score_the_round() {
    let mut world = training(SCORED);
    all_send(&mut world);
    world.restart();
    world.answer().unwrap().unwrap();
    assert_eq!(
        world.run.phase(),
        PhaseName::Validate,
        "nobody is back, and the round waits"
    );
    world.join_validator(0).unwrap();
    world.join_validator(1).unwrap();
    score(&mut world, 2);
    assert_eq!(world.run.attempt(), 1);
}

#[test]
fn with_no_validator_at_all_the_round_is_tried_again() {
    let mut world = training(SCORED);
    all_send(&mut world);
    world.restart();
    world.answer().unwrap().unwrap();
    assert!(world.tick());
    assert_eq!(
        (world.run.phase(), world.run.attempt()),
        (PhaseName::Open, 2)
    );
    assert!(world.answer.is_none(), "it waits for validators first");
}

#[test]
fn a_clock_that_steps_back_is_time_that_stands_still() {
    let mut world = training(SCORED);
    let deadline = world.run.deadline();
    world.now = Millis(5);
    world.announce(0, 0).unwrap();
    assert!(world.run.deadline() >= deadline);
    world.replayed();
}

#[test]
fn a_tick_before_the_deadline_is_not_logged() {
    let mut world = training(UNSCORED);
    world.pass(19);
    assert_eq!(world.feed(Event::Tick), Err(Fault::Unchanged));
    all_send(&mut world);
    assert_eq!(
        world.run.deadline(),
        None,
        "only the driver can end this phase"
    );
    world.pass(86_400);
    assert_eq!(world.feed(Event::Tick), Err(Fault::Unchanged));
}

#[test]
fn the_medians_of_the_chain_decide_on_pay_whoever_is_absent() {
    let mut world = validating();
    (0..2).for_each(|index| world.commit(index).unwrap());
    world.answer().unwrap().unwrap();
    world.reveal(0).unwrap();
    assert!(world.tick(), "the second never reveals");
    let reveal = |id, weight, factors| ChainReveal {
        validator: Address([id; 20]),
        weight: Amount(weight),
        factors,
    };
    let scores = vec![
        reveal(1, 5, Some(vec![10_000, 0, 20_000])),
        reveal(2, 100, None),
        reveal(3, 4, Some(vec![0, 20_000, 0])),
    ];
    let short = vec![reveal(1, 5, Some(vec![1]))];
    let wrong = world.feed(Event::ScoresRead { scores: short });
    assert!(matches!(wrong, Err(Fault::Driver(_))));
    world.feed(Event::ScoresRead { scores }).unwrap();
    world.answer().unwrap().unwrap();
    let submitted = world.effects.iter().find_map(|effect| match effect {
        Effect::SubmitResult {
            payouts,
            factors,
            reveals,
            attempt: 1,
            ..
        } => Some((payouts.clone(), factors.clone(), reveals.len())),
        _ => None,
    });
    let (payouts, factors, reveals) = submitted.unwrap();
    assert_eq!((factors, reveals), (vec![10_000, 0, 20_000], 2));
    let paid: Vec<_> = payouts.iter().map(|(trainer, _)| *trainer).collect();
    assert_eq!(paid, [world.trainer(0), world.trainer(2)]);
    world.answer().unwrap().unwrap();
    assert_eq!(world.run.round(), RoundId(2));
}

#[test]
fn updates_that_trainers_committed_to_themselves_have_factors_and_no_pay() {
    let mut world = training(SCORED);
    world.own_updates = 2;
    all_send(&mut world);
    world.answer().unwrap().unwrap();
    score(&mut world, 2);
    world.answer().unwrap().unwrap();
    let lengths = world.effects.iter().find_map(|effect| match effect {
        Effect::SubmitResult {
            payouts, factors, ..
        } => Some((payouts.len(), factors.clone())),
        _ => None,
    });
    let one = FACTOR_ONE;
    assert_eq!(lengths, Some((3, vec![one, one, one, 0, 0])));
}

#[test]
fn a_round_of_refused_updates_only_still_settles() {
    let mut world = training(SCORED);
    all_send(&mut world);
    world.answer_once().unwrap().unwrap();
    (0..3).for_each(|index| world.claim(index).unwrap().unwrap());
    let Some(Event::Filtered { mut verdicts }) = world.answer.take() else {
        panic!("nothing to filter");
    };
    for verdict in &mut verdicts {
        verdict.refusal = Some(Refusal::NoWork { ratio_ppm: 1 });
    }
    world.feed(Event::Filtered { verdicts }).unwrap();
    assert_eq!(world.run.phase(), PhaseName::Validate);
    score(&mut world, 2);
    let report = settle(&mut world);
    assert_eq!((report.kept.len(), report.refused.len()), (0, 3));
    assert_eq!(world.paid, 0);
    assert_eq!(world.run.round(), RoundId(2));
}

#[test]
fn sketches_are_asked_for_once_the_seed_is_drawn_and_waited_for_so_long() {
    let mut world = training(SCORED);
    all_send(&mut world);
    assert!(world.claim(0).is_none(), "nobody was asked yet");
    world.answer_once().unwrap().unwrap();
    let order = told(&world, world.trainer(0)).pop().unwrap();
    let Order::Sketch { clip_norm, .. } = *order else {
        panic!("{order:?}");
    };
    assert_eq!(clip_norm, Norm::of(2.0), "the lower median of 1, 2 and 3");

    let sketch = world.sketch(0).unwrap();
    let changes: [fn(&mut SketchClaim); 6] = [
        |c| c.task = TaskId(9),
        |c| c.round = RoundId(9),
        |c| c.attempt = 9,
        |c| c.update = Digest([9; 32]),
        |c| c.seed = Digest([9; 32]),
        |c| c.clip_norm = Norm::of(9.0),
    ];
    for change in changes {
        let mut other = sketch.clone();
        change(&mut other);
        let refused = world.feed_claim(0, other);
        assert!(matches!(refused, Err(Fault::OtherSketch(_))), "{refused:?}");
    }
    // Another's claim.
    assert!(world.feed_claim(1, sketch).is_err());
    world.claim(0).unwrap().unwrap();
    assert_eq!(world.claim(0), Some(Err(Fault::Unchanged)));

    // Who comes back is asked again; who has claimed is not.
    world.restart();
    let before = world.effects.len();
    (0..3).for_each(|index| world.join_trainer(index).unwrap());
    let asked = world.effects[before..].iter().filter(|effect| {
        matches!(
            effect,
            Effect::Tell {
                order: Order::Sketch { .. },
                ..
            }
        )
    });
    assert_eq!(asked.count(), 2);
    world.claim(1).unwrap().unwrap();
    assert!(world.answer.is_none(), "one is still waited for");
    assert!(world.tick());
    let claims = world.effects.iter().find_map(|effect| match effect {
        Effect::Filter { updates, .. } => Some(
            updates
                .iter()
                .map(|u| u.claim.is_some())
                .collect::<Vec<_>>(),
        ),
        _ => None,
    });
    assert_eq!(claims, Some(vec![true, true, false]));
    // From here on the comparison is the driver's, also after a kill.
    world.restart();
    assert!(matches!(world.answer, Some(Event::Filtered { .. })));
    assert!(matches!(world.claim(2), Some(Err(Fault::WrongPhase(_)))));
}

/// At each place that waits for the chain: a restart demands the same again, and an attempt that
/// the chain failed is tried again with nothing of it left.
#[test]
fn every_wait_for_the_chain_survives_a_kill_and_a_lost_attempt() {
    type Demand = fn(&Effect) -> bool;
    let places: [(usize, Demand); 6] = [
        (0, |e| matches!(e, Effect::OpenRound { after: 0, .. })),
        (1, |e| matches!(e, Effect::Seal { attempt: 1, .. })),
        (2, |e| matches!(e, Effect::OpenReveal { attempt: 1, .. })),
        (3, |e| matches!(e, Effect::ReadScores { attempt: 1, .. })),
        (4, |e| matches!(e, Effect::Aggregate { .. })),
        (5, |e| matches!(e, Effect::SubmitResult { attempt: 1, .. })),
    ];
    for (steps, demanded) in places {
        let mut world = waiting_for_the_chain(steps);
        let before = world.effects.iter().filter(|e| demanded(e)).count();
        assert_eq!(before, 1, "place {steps}");
        world.restart();
        let after = world.effects.iter().filter(|e| demanded(e)).count();
        assert_eq!(after, 2, "place {steps}");

        if steps == 0 || steps == 4 {
            // What waits for no stage of the chain cannot be lost to it.
            assert!(matches!(world.lose_round(), Err(Fault::WrongPhase(_))));
            continue;
        }
        for index in 0..2 {
            world.join_validator(index).unwrap();
        }
        for index in 0..3 {
            world.join_trainer(index).unwrap();
        }
        world.lose_round().unwrap();
        assert_eq!(world.run.attempt(), 2, "place {steps}");
        assert_eq!(world.run.history().count(), 0, "place {steps}");
        open(&mut world);
        assert_eq!(world.attempt, 2, "the chain's first attempt is spent");
        all_send(&mut world);
        world.answer().unwrap().unwrap();
        score(&mut world, 2);
        settle(&mut world);
        assert_eq!(world.run.round(), RoundId(2));
        world.replayed();
    }
}

/// A world that waits for its first, second, ... answer after the cohort was drawn.
fn waiting_for_the_chain(steps: usize) -> World {
    let mut world = world(2, SCORED);
    (0..2).for_each(|index| world.join_validator(index).unwrap());
    (0..3).for_each(|index| world.join_trainer(index).unwrap());
    world.answer().unwrap().unwrap();
    for step in 0..steps {
        match step {
            0 => {
                world.answer().unwrap().unwrap();
                all_send(&mut world);
            }
            1 => {
                world.answer().unwrap().unwrap();
                (0..2).for_each(|index| world.commit(index).unwrap());
            }
            2 => {
                world.answer().unwrap().unwrap();
                (0..2).for_each(|index| world.reveal(index).unwrap());
            }
            _ => world.answer().unwrap().unwrap(),
        }
    }
    world
}

#[test]
fn a_closing_evaluation_survives_a_kill() {
    let mut world = training("trainers_min = 3\nvalidators_min = 1\nupdates_min = 2");
    for round in 1..=2 {
        if round == 2 {
            open(&mut world);
        }
        all_send(&mut world);
        world.answer().unwrap().unwrap();
        score(&mut world, 2);
        settle(&mut world);
    }
    world.restart();
    world.answer().unwrap().unwrap();
    world.restart();
    world.join_validator(0).unwrap();
    let validator = world.validator(0);
    assert!(matches!(
        told(&world, validator).last(),
        Some(Order::Evaluate { .. })
    ));
    world.answer().unwrap().unwrap();
    assert!(world.run.is_over());
}

#[test]
fn a_task_that_ended_on_chain_fails_with_the_reason() {
    let lost = || Event::TaskLost {
        reason: "aborted on chain".into(),
    };
    for mut world in [world(1, SCORED), training(SCORED), validating()] {
        world.feed(lost()).unwrap();
        assert_eq!(world.run.failure(), Some("aborted on chain"));
        assert!(matches!(world.feed(lost()), Err(Fault::WrongPhase(_))));
    }
}

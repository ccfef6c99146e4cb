//! Whole tasks under the virtual clock.

use convoke_sim::{Outcome, Persona, Sim};

fn assert_learned(run: &Outcome, share: f64) {
    let seed = run.seed();
    assert_eq!(run.failure, None, "seed {seed}");
    let (before, after) = (run.initial_loss(), run.held_out_loss());
    assert!(after < share * before, "{before} → {after}, seed {seed}");
}

#[test]
fn honest_trainers_learn() {
    let run = Sim::seeded(1).rounds(10).run();
    assert_learned(&run, 0.2);
    assert_eq!(run.reports.len(), 10);
    assert!(run.reports.iter().all(|report| report.kept.len() == 4));
}

#[test]
fn learning_goes_on_under_loss_and_crashes() {
    for seed in 0..4 {
        let sim = Sim::seeded(seed).trainers(6).validators(3).rounds(10);
        let run = sim.loss(0.1).crashes(0.01).run();
        assert_learned(&run, 0.2);
        assert!(run.lost > 0 && run.crashes > 0, "seed {seed}");
        assert_eq!(run.reports.len(), 10, "seed {seed}");
    }
}

#[test]
fn sign_flipping_minority_does_not_stop_learning() {
    let sim = Sim::seeded(7).trainers(10).validators(3).rounds(20);
    let run = sim.adversaries(2, Persona::SignFlipper).loss(0.1).run();
    assert_learned(&run, 0.2);
    refused_and_unpaid(&run, "off_course");
}

#[test]
fn what_is_not_a_number_is_refused_each_round() {
    let sim = Sim::seeded(3).trainers(4).validators(1).rounds(3);
    let run = sim.adversaries(1, Persona::NotANumber).run();
    assert_learned(&run, 0.9);
    refused_and_unpaid(&run, "not_finite");
}

#[test]
fn attempts_that_the_chain_failed_are_tried_again() {
    let mut lost = 0;
    for seed in 0..4 {
        let sim = Sim::seeded(seed).validators(2).rounds(8);
        let run = sim.lost_attempts(0.2).crashes(0.01).run();
        assert_learned(&run, 0.3);
        assert_eq!(run.reports.len(), 8, "seed {seed}");
        lost += run.lost_attempts;
    }
    // A single run of eight rounds may well lose none.
    assert!(lost > 4, "{lost}");
}

#[test]
fn a_validator_that_withholds_stops_nothing_and_earns_nothing() {
    let run = Sim::seeded(4).validators(3).rounds(5).withholding(1).run();
    assert_learned(&run, 0.4);
    assert!(
        run.reports
            .iter()
            .all(|report| report.validators.len() == 2)
    );
    let pay = |index: usize| run.paid.get(&run.validators[index]);
    assert_eq!(pay(0), None);
    assert!(pay(1).is_some() && pay(2).is_some());
}

/// The aggregator's reports do not name it, and the chain pays it all the same.
#[test]
fn a_validator_that_the_aggregator_censors_is_paid_by_the_chain() {
    let run = Sim::seeded(5).validators(3).rounds(3).censored(1).run();
    assert_learned(&run, 0.9);
    let censored = run.validators[2];
    for report in &run.reports {
        assert!(!report.validators.contains(&censored));
    }
    assert!(run.paid.contains_key(&censored));
}

fn refused_and_unpaid(run: &Outcome, code: &str) {
    let seed = run.seed();
    for (trainer, persona) in &run.personas {
        let refused = run.reports.iter().flat_map(|report| &report.refused);
        let codes: Vec<_> = refused
            .filter(|(refused, _)| refused == trainer)
            .map(|(_, refusal)| refusal.code())
            .collect();
        if *persona == Persona::Honest {
            assert!(run.paid.contains_key(trainer), "seed {seed}");
        } else {
            assert!(codes.contains(&code), "{codes:?}, seed {seed}");
            assert!(
                !run.paid.contains_key(trainer),
                "{persona} is paid, seed {seed}"
            );
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let digest = |seed| {
        let sim = Sim::seeded(seed).trainers(5).validators(2).rounds(4);
        sim.loss(0.1).crashes(0.01).run().digest
    };
    assert_eq!(digest(5), digest(5));
    assert_ne!(digest(5), digest(6));
}

#[test]
fn no_more_is_paid_than_the_pool() {
    let run = Sim::seeded(2).validators(2).rounds(7).run();
    let paid: u128 = run.paid.values().map(|amount| amount.0).sum();
    assert!(paid <= 1_000_000_000_000, "{paid}");
    let trainers = run
        .personas
        .keys()
        .filter_map(|trainer| run.paid.get(trainer));
    let trainers: u128 = trainers.map(|amount| amount.0).sum();
    assert!(
        trainers <= 700_000_000_000 && trainers > 699_999_999_000,
        "{trainers}"
    );
}

//! Whole tasks under the virtual clock with machines of different speeds: rounds that wait for
//! their cohort against rounds that end with so many updates.

use convoke_sim::{Outcome, Persona, Sim};

/// Seven trainers take ten seconds for an update, the eighth takes a hundred.
fn uneven(seed: u64) -> Sim {
    Sim::seeded(seed).trainers(8).train_ms(10_000).slow(1, 10)
}

fn assert_learned(run: &Outcome, share: f64) {
    let seed = run.seed();
    assert_eq!(run.failure, None, "seed {seed}");
    let (before, after) = (run.initial_loss(), run.held_out_loss());
    assert!(after < share * before, "{before} → {after}, seed {seed}");
}

#[test]
fn a_buffer_does_not_wait_for_the_slow_and_still_counts_them() {
    for seed in 0..2 {
        let sync = uneven(seed).rounds(20).run();
        let buffered = uneven(seed).rounds(25).buffered(4, 30).run();
        assert_learned(&sync, 0.2);
        assert_learned(&buffered, 0.2);
        let (slowly, fast) = (sync.rounds_per_hour(), buffered.rounds_per_hour());
        assert!(fast > 5.0 * slowly, "{slowly} → {fast}, seed {seed}");
        println!("rounds per hour: {slowly:.0} waiting, {fast:.0} buffered");
        let kept = |run: &Outcome| run.rounds_kept(run.slow[0]);
        assert_eq!(kept(&sync), 0, "cut off by the grace time, seed {seed}");
        assert!(kept(&buffered) >= 2, "seed {seed}");
        let paid = |run: &Outcome| run.paid.contains_key(&run.slow[0]);
        assert!(!paid(&sync) && paid(&buffered), "seed {seed}");
    }
}

#[test]
fn a_base_too_old_is_trained_anew() {
    let run = uneven(1).rounds(20).buffered(4, 2).run();
    assert_learned(&run, 0.2);
    assert_eq!(run.rounds_kept(run.slow[0]), 0);
    let refused = run.reports.iter().map(|report| report.refused.len());
    assert_eq!(refused.sum::<usize>(), 0, "it is not sent at all");
}

#[test]
fn buffers_fill_under_loss_and_crashes() {
    for seed in 0..2 {
        let sim = uneven(seed).validators(2).rounds(25).buffered(4, 10);
        let run = sim.loss(0.1).crashes(0.005).run();
        assert_learned(&run, 0.3);
        assert!(run.lost > 0 && run.crashes > 0, "seed {seed}");
        assert_eq!(run.reports.len(), 25, "seed {seed}");
        let twice = |report: &convoke_protocol::message::RoundReport| {
            let kept: std::collections::BTreeSet<_> =
                report.kept.iter().map(|kept| kept.trainer).collect();
            kept.len() < report.kept.len()
        };
        assert!(!run.reports.iter().any(twice), "seed {seed}");
    }
}

#[test]
fn a_sign_flipping_minority_fills_no_buffer_for_long() {
    let sim = uneven(7).validators(3).rounds(20).buffered(4, 20);
    let run = sim.adversaries(1, Persona::SignFlipper).run();
    assert_learned(&run, 0.3);
    let (flipper, _) = run
        .personas
        .iter()
        .find(|(_, persona)| **persona == Persona::SignFlipper)
        .expect("there is one");
    assert!(!run.paid.contains_key(flipper));
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let digest = |seed| {
        let sim = uneven(seed).rounds(8).buffered(3, 8);
        sim.loss(0.1).crashes(0.01).run().digest
    };
    assert_eq!(digest(5), digest(5));
    assert_ne!(digest(5), digest(6));
}

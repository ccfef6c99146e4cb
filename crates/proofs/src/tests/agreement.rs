//! Circuit, plain twin and reference agree.

use super::reference::{self, Outcome};
use super::rounds::{arbitrary, broken, honest, round};
use crate::error::ProofError;
use crate::plain::{Reason, Sketch, Split, Verdict, judge};
use crate::size::Size;
use crate::witness::{RoundWitness, Witness};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn parts(round: &RoundWitness) -> (Vec<Option<Sketch>>, Vec<u16>) {
    let sketches = round.entries.iter().map(|entry| entry.sketch).collect();
    (sketches, round.entries.iter().map(|e| e.factor).collect())
}

/// The reference's outcome, after the plain twin was compared with it.
fn outcome(round: &RoundWitness, size: Size, seed: u64) -> Outcome {
    let (mut sketches, mut factors) = parts(round);
    let outcome = reference::settle(&sketches, &factors, round.pool.0);
    let judgement = judge(&sketches);
    let kept = &outcome.kept;
    for (slot, verdict) in judgement.verdicts.iter().enumerate() {
        let expected = match (sketches[slot], outcome.copy_of[slot]) {
            (None, _) => *verdict == Verdict::Absent,
            (Some(_), _) if kept[slot] => *verdict == Verdict::Kept,
            (Some(_), Some(of)) => verdict.reason() == Some(Reason::Copy { of }),
            (Some(_), None) if !outcome.alive[slot] => {
                matches!(verdict.reason(), Some(Reason::NoWork { ratio_ppm }) if ratio_ppm < 15_625)
            }
            (Some(_), None) => {
                matches!(verdict.reason(), Some(Reason::Colluding { energy_percent }) if energy_percent >= 200)
            }
        };
        assert!(expected, "seed {seed}, slot {slot}: {verdict:?}");
    }
    assert_eq!(judgement.scores, outcome.scores, "seed {seed}");
    let split = Split::down(round.pool.0, &judgement.scores, &factors);
    assert_eq!(
        split.as_ref().ok().map(|s| &s.payouts),
        outcome.payouts.as_ref()
    );
    // Slots that are filled up change nothing.
    sketches.resize(size.slots(), None);
    factors.resize(size.slots(), 0);
    let padded = judge(&sketches);
    assert_eq!(padded.verdicts[..kept.len()], judgement.verdicts);
    if let Ok(split) = split {
        let dust = split.dust(round.pool.0);
        assert!(dust < round.entries.len() as u128, "seed {seed}");
    }
    outcome
}

fn circuit_accepts(round: &RoundWitness, size: Size, outcome: &Outcome, seed: u64) {
    match Witness::new(size, round) {
        Ok((witness, statement)) => {
            assert_eq!(broken(&witness, &statement), None, "seed {seed}");
            let payouts = outcome.payouts.as_ref().unwrap();
            for (slot, payout) in statement.slots.iter().zip(payouts) {
                assert_eq!(slot.payout.0, *payout);
            }
        }
        Err(ProofError::NothingToPay) => assert!(outcome.payouts.is_none(), "seed {seed}"),
        Err(error) => panic!("seed {seed}: {error}"),
    }
}

#[test]
fn plain_follows_the_reference_in_thousands_of_rounds() {
    for seed in 0..6_000 {
        let slots = [16, 16, 40, 64][seed as usize % 4];
        outcome(&arbitrary(seed, slots), Size::N64, seed);
    }
}

#[test]
fn small_circuit_accepts_a_thousand_rounds() {
    for seed in 0..1_000 {
        let round = arbitrary(seed, 16);
        let outcome = outcome(&round, Size::N16, seed);
        circuit_accepts(&round, Size::N16, &outcome, seed);
    }
}

#[test]
fn large_circuit_accepts_sixty_rounds() {
    for seed in 0..60 {
        let round = arbitrary(1_000_000 + seed, 64);
        let outcome = outcome(&round, Size::N64, seed);
        circuit_accepts(&round, Size::N64, &outcome, seed);
    }
}

#[test]
fn rounds_on_both_sides_of_the_energy_rule_are_proven() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for count in [31, 32, 33, 64] {
        let mut sketches = honest(&mut rng, count);
        for sketch in &mut sketches[..5] {
            // They agree far more with each other than honest trainers do.
            *sketch = sketch.map(|s| {
                let mut s = s;
                s[..64].fill(110);
                s
            });
        }
        let round = round(sketches, &vec![10_000; count], 1_000_000);
        let outcome = outcome(&round, Size::N64, 0);
        let colluders = outcome.kept[..5].iter().filter(|kept| **kept).count();
        assert_eq!(colluders == 0, count >= 32, "{count}: {colluders}");
        circuit_accepts(&round, Size::N64, &outcome, 0);
    }
}

#[test]
fn rounds_that_pay_nobody_are_an_error() {
    let zero = round(vec![Some([0; 128]); 3], &[10_000; 3], 1_000);
    let unwanted = round(vec![Some([3; 128]); 3], &[0; 3], 1_000);
    let nobody = round(vec![None; 3], &[10_000; 3], 1_000);
    let empty = round(vec![], &[], 1_000);
    for round in [zero, unwanted, nobody, empty] {
        let refused = Witness::new(Size::N16, &round);
        assert!(matches!(refused, Err(ProofError::NothingToPay)));
    }
}

#[test]
fn one_trainer_gets_the_pool() {
    let round = round(vec![None, Some([-128; 128])], &[1, 1], u128::MAX);
    let statement = round.data(Size::N16).unwrap();
    assert_eq!(statement.slots[1].payout.0, u128::MAX);
}

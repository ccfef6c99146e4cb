//! Rounds to test with: random ones, and those that somebody might try.

use convoke_protocol::factors::{FACTOR_MAX, FACTOR_ONE};
use convoke_protocol::ids::{Address, Amount, Digest, RoundId, TaskId};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::ProofError;
use crate::plain::Sketch;
use crate::proof::assign;
use crate::public_data::{PublicData, RoundContext};
use crate::size::Size;
use crate::witness::{Entry, RoundWitness, Witness};

pub(super) fn context() -> RoundContext {
    RoundContext {
        chain_id: 31_337,
        contract: Address([0xc0; 20]),
        task: TaskId(3),
        round: RoundId(7),
        attempt: 1,
        seed: Digest([0x5e; 32]),
    }
}

pub(super) fn round(sketches: Vec<Option<Sketch>>, factors: &[u16], pool: u128) -> RoundWitness {
    let entry = |(i, sketch): (usize, Option<Sketch>)| Entry {
        trainer: Address([i as u8 + 1; 20]),
        sketch,
        factor: factors[i],
    };
    RoundWitness {
        context: context(),
        bound: Digest([0xb0; 32]),
        pool: Amount(pool),
        entries: sketches.into_iter().enumerate().map(entry).collect(),
    }
}

/// Honest trainers that agree a little.
pub(super) fn honest(rng: &mut ChaCha8Rng, count: usize) -> Vec<Option<Sketch>> {
    let common: [f64; 128] = std::array::from_fn(|_| rng.random_range(-20.0..20.0));
    let sketch =
        |rng: &mut ChaCha8Rng| common.map(|c| (c + rng.random_range(-50.0..50.0f64)) as i8);
    (0..count).map(|_| Some(sketch(rng))).collect()
}

/// A round of up to `slots` updates of a kind drawn from the seed.
pub(super) fn arbitrary(seed: u64, slots: usize) -> RoundWitness {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rng = &mut rng;
    let count = match rng.random_range(0..4) {
        0 => rng.random_range(1..=3.min(slots)),
        1 => rng.random_range(1..=slots),
        _ => slots,
    };
    let mut sketches = match rng.random_range(0..9) {
        0 => vec![Some(uniform(rng, -128..=127)); count],
        1 => (0..count).map(|_| Some([0; 128])).collect(),
        2 => (0..count).map(|_| Some(uniform(rng, -1..=1))).collect(),
        3 => (0..count).map(|_| Some(sparse(rng))).collect(),
        4 => (0..count).map(|_| Some(extreme(rng))).collect(),
        5 => (0..count)
            .map(|_| Some([*[1, 2, -1].choose(rng).unwrap(); 128]))
            .collect(),
        6 => (0..count).map(|_| Some(uniform(rng, -128..=127))).collect(),
        _ => honest(rng, count),
    };
    for _ in 0..rng.random_range(0..=count) {
        disturb(rng, &mut sketches);
    }
    let all_the_same = rng.random_bool(0.3);
    let factors: Vec<u16> = (0..count)
        .map(|_| match rng.random_range(0..5) {
            0 if !all_the_same => 0,
            1 if !all_the_same => FACTOR_MAX,
            2 if !all_the_same => rng.random_range(0..=FACTOR_MAX),
            _ => FACTOR_ONE,
        })
        .collect();
    let pool = *[0, 1, 1_000, u128::MAX, rng.random()].choose(rng).unwrap();
    round(sketches, &factors, pool)
}

fn uniform(rng: &mut ChaCha8Rng, range: std::ops::RangeInclusive<i8>) -> Sketch {
    std::array::from_fn(|_| rng.random_range(range.clone()))
}

fn sparse(rng: &mut ChaCha8Rng) -> Sketch {
    let mut sketch = [0; 128];
    for _ in 0..rng.random_range(0..4) {
        sketch[rng.random_range(0..4)] = rng.random_range(-2..=2);
    }
    sketch
}

fn extreme(rng: &mut ChaCha8Rng) -> Sketch {
    let ends = [i8::MIN, i8::MAX];
    match rng.random_range(0..3) {
        0 => [*ends.choose(rng).unwrap(); 128],
        _ => std::array::from_fn(|_| *ends.choose(rng).unwrap()),
    }
}

/// One attack, accident or absence.
fn disturb(rng: &mut ChaCha8Rng, sketches: &mut [Option<Sketch>]) {
    let (i, j) = (
        rng.random_range(0..sketches.len()),
        rng.random_range(0..sketches.len()),
    );
    let other = sketches[j];
    match rng.random_range(0..8) {
        0 => sketches[i] = None,
        1 => sketches[i] = other,
        2 => sketches[i] = other.map(|s| s.map(i8::saturating_neg)),
        3 => sketches[i] = Some([0; 128]),
        4 => sketches[i] = sketches[i].map(|s| s.map(|v| v / 9)),
        5 => {
            let noise = rng.random_range(1..40);
            sketches[i] =
                other.map(|s| s.map(|v| v.saturating_add(rng.random_range(-noise..=noise))));
        }
        6 => sketches[i] = sketches[i].map(|s| s.map(|v| v.saturating_mul(3))),
        _ => {
            // Those after it say nearly the same.
            let noise = rng.random_range(1..20);
            let from = i..sketches.len().min(i + 6);
            for sketch in &mut sketches[from] {
                *sketch = other
                    .map(|s| s.map(|v| (v / 2).saturating_add(rng.random_range(-noise..=noise))));
            }
        }
    }
}

/// Witness and statement of a round that pays somebody.
pub(super) fn witness(size: Size, round: &RoundWitness) -> (Witness, PublicData) {
    Witness::new(size, round).unwrap()
}

/// Runs the circuit: the part that a falsified witness breaks, if any.
pub(super) fn broken(witness: &Witness, statement: &PublicData) -> Option<&'static str> {
    match assign(witness, statement) {
        Ok(_) => None,
        Err(ProofError::Unsatisfied(part)) => Some(part),
        Err(error) => panic!("{error}"),
    }
}

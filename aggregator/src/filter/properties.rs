//! The keep rule against its slow twin, and what it must do whatever the sketches.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::gram::{ENERGY_FROM, Gram, Reason, alignment, keep_rule};
use super::naive;
use crate::sketch::{SKETCH_LEN, Sketch};
use crate::testing::normal;

fn kept(sketches: &[Sketch]) -> Vec<usize> {
    let reasons = keep_rule(&Gram::of(sketches));
    (0..sketches.len())
        .filter(|i| reasons[*i].is_none())
        .collect()
}

fn rounded(values: impl Iterator<Item = f32>) -> Sketch {
    let mut sketch = [0; SKETCH_LEN];
    for (byte, value) in sketch.iter_mut().zip(values) {
        *byte = (32.0 * value).round().clamp(-127.0, 127.0) as i8;
    }
    Sketch(sketch)
}

/// Honest trainers: a common direction and a part of their own, of norms up to the clip's.
fn honest(seed: u64, count: usize, common: f32) -> Vec<Sketch> {
    let shared = normal(seed, SKETCH_LEN);
    let own = |i: usize| normal(seed * 1_000 + i as u64 + 1, SKETCH_LEN);
    let rest = (1.0 - common * common).sqrt();
    (0..count)
        .map(|i| {
            rounded(
                own(i)
                    .into_iter()
                    .zip(&shared)
                    .map(|(o, s)| common * s + rest * o),
            )
        })
        .collect()
}

fn negated(sketch: &Sketch) -> Sketch {
    Sketch(sketch.0.map(|v| -v))
}

#[test]
fn nobody_to_compare_with() {
    assert!(kept(&[]).is_empty());
    assert_eq!(kept(&honest(1, 1, 0.5)), [0]);
    assert_eq!(kept(&[Sketch::ZERO]), [0]);
    let one = Gram::of(&honest(1, 1, 0.5));
    assert_eq!(
        alignment(&one, &[None]),
        [one.norm_squared(0).unsigned_abs()]
    );
}

#[test]
fn all_equal_and_all_zero_are_kept() {
    for count in [2, 3, 6, 40] {
        let everybody: Vec<usize> = (0..count).collect();
        assert_eq!(kept(&vec![honest(2, 1, 0.5)[0]; count]), everybody);
        assert_eq!(kept(&vec![Sketch::ZERO; count]), everybody);
    }
}

#[test]
fn next_to_no_work_is_refused_with_its_share() {
    let mut sketches = honest(3, 12, 0.5);
    sketches[4] = Sketch(sketches[4].0.map(|v| v / 16));
    sketches[7] = Sketch::ZERO;
    let reasons = keep_rule(&Gram::of(&sketches));
    assert!(
        matches!(reasons[4], Some(Reason::NoWork { ratio_ppm }) if (1..15_625).contains(&ratio_ppm))
    );
    assert_eq!(reasons[7], Some(Reason::NoWork { ratio_ppm: 0 }));
    assert_eq!(reasons.iter().flatten().count(), 2);
}

#[test]
fn the_later_of_two_copies_is_refused_and_names_the_earlier() {
    let mut sketches = honest(4, 12, 0.3);
    sketches[9] = sketches[2];
    // A copy with a little noise on it is one too.
    let noise = normal(99, SKETCH_LEN);
    sketches[10] = rounded(
        sketches[5]
            .0
            .iter()
            .zip(&noise)
            .map(|(s, n)| f32::from(*s) / 32.0 + 0.1 * n),
    );
    let reasons = keep_rule(&Gram::of(&sketches));
    assert_eq!(reasons[9], Some(Reason::Copy { of: 2 }));
    assert_eq!(reasons[10], Some(Reason::Copy { of: 5 }));
    assert_eq!(reasons.iter().flatten().count(), 2);
}

#[test]
fn colluders_are_refused_and_no_honest_trainer_is() {
    for seed in 0..8 {
        let mut sketches = honest(20 + seed, 40, 0.3);
        let target = normal(500 + seed, SKETCH_LEN);
        for (i, sketch) in sketches.iter_mut().enumerate().take(8) {
            let own = normal(600 + seed * 8 + i as u64, SKETCH_LEN);
            *sketch = rounded(target.iter().zip(own).map(|(t, o)| 0.7 * t + 0.7 * o));
        }
        let reasons = keep_rule(&Gram::of(&sketches));
        for (i, reason) in reasons.iter().enumerate() {
            assert_eq!(
                reason.is_some(),
                i < 8,
                "seed {seed}, trainer {i}: {reason:?}"
            );
        }
        assert!(
            matches!(reasons[0], Some(Reason::Colluding { energy_percent }) if energy_percent > 200)
        );
    }
}

#[test]
fn small_cohorts_of_honest_trainers_are_kept_whole() {
    for count in 1..ENERGY_FROM {
        for common in [0.0, 0.4, 0.8] {
            let sketches = honest(800 + count as u64, count, common);
            assert_eq!(kept(&sketches).len(), count, "{count} {common}");
        }
    }
}

#[test]
fn extremes_do_not_overflow() {
    let full = Sketch([127; SKETCH_LEN]);
    let half = {
        let mut half = full;
        half.0[..SKETCH_LEN / 2].fill(-127);
        half
    };
    let pattern = [full, negated(&full), half, negated(&half)];
    let sketches: Vec<Sketch> = pattern.into_iter().cycle().take(256).collect();
    let gram = Gram::of(&sketches);
    let _ = alignment(&gram, &keep_rule(&gram));
    // One against 255: the largest distances from the mean.
    let mut sketches = vec![full; 256];
    sketches[0] = negated(&full);
    let _ = keep_rule(&Gram::of(&sketches));
}

/// Sketches of every kind: honest, idle, copied, opposite, extreme.
fn sketches(count_max: usize) -> impl Strategy<Value = Vec<Sketch>> {
    let kind = (0u8..8, any::<u64>(), any::<prop::sample::Index>());
    prop::collection::vec(kind, 1..count_max).prop_map(|kinds| {
        let shared = normal(7, SKETCH_LEN);
        let mut made: Vec<Sketch> = Vec::new();
        for (kind, seed, index) in kinds {
            let own = normal(seed, SKETCH_LEN);
            let earlier = (!made.is_empty()).then(|| made[index.index(made.len())]);
            let mix = own.iter().zip(&shared).map(|(o, s)| 0.8 * o + 0.6 * s);
            made.push(match (kind, earlier) {
                (0, Some(earlier)) => earlier,
                (1, Some(earlier)) => negated(&earlier),
                (2, _) => Sketch::ZERO,
                (3, _) => rounded(own.iter().map(|v| v / 20.0)),
                (4, _) => rounded(own.iter().map(|v| v.signum() * 9.0)),
                _ => rounded(mix),
            });
        }
        made
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn agrees_with_the_slow_twin(sketches in sketches(56)) {
        let kept = kept(&sketches);
        prop_assert_eq!(&kept, &naive::gram_kept(&sketches));
        let gram = Gram::of(&sketches);
        let scores = alignment(&gram, &keep_rule(&gram));
        for (i, score) in scores.into_iter().enumerate() {
            prop_assert_eq!(score, naive::alignment(&sketches, &kept, i));
        }
    }

    /// Without copies among them the order of the trainers says nothing.
    #[test]
    fn the_order_is_irrelevant(
        count in 1usize..48,
        seed in 0u64..1_000,
        opposite in 0usize..4,
        rotation in any::<prop::sample::Index>(),
    ) {
        let mut sketches = honest(seed, count, 0.5);
        for sketch in sketches.iter_mut().take(opposite) {
            *sketch = negated(sketch);
        }
        let by = rotation.index(count);
        let mut rotated = sketches.clone();
        rotated.rotate_left(by);
        rotated.reverse();
        let mut expected: Vec<usize> = kept(&sketches)
            .into_iter()
            .map(|i| count - 1 - (i + count - by) % count)
            .collect();
        expected.sort_unstable();
        prop_assert_eq!(kept(&rotated), expected);
    }
}

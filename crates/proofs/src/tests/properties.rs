//! What the keep rule must do whatever the sketches.

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::reference;
use crate::plain::{ENERGY_FROM, Reason, SKETCH_LEN, Sketch, Verdict, judge};

fn kept(sketches: &[Sketch]) -> Vec<usize> {
    judge(&some(sketches)).kept().collect()
}

fn reasons(sketches: &[Sketch]) -> Vec<Option<Reason>> {
    let verdicts = judge(&some(sketches)).verdicts;
    verdicts.iter().map(Verdict::reason).collect()
}

fn some(sketches: &[Sketch]) -> Vec<Option<Sketch>> {
    sketches.iter().copied().map(Some).collect()
}

/// Independent numbers of mean 0 and variance 1: twelve uniform ones each.
fn normal(seed: u64) -> [f32; SKETCH_LEN] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    std::array::from_fn(|_| (0..12).map(|_| rng.random_range(-0.5f32..0.5)).sum())
}

fn rounded(values: impl Fn(usize) -> f32) -> Sketch {
    std::array::from_fn(|l| (32.0 * values(l)).round().clamp(-127.0, 127.0) as i8)
}

/// Honest trainers: a common direction and a part of their own, of norms up to the clip's.
fn honest(seed: u64, count: usize, common: f32) -> Vec<Sketch> {
    let shared = normal(seed);
    let rest = (1.0 - common * common).sqrt();
    let sketch = |i: usize| {
        let own = normal(seed * 1_000 + i as u64 + 1);
        rounded(|l| common * shared[l] + rest * own[l])
    };
    (0..count).map(sketch).collect()
}

fn negated(sketch: &Sketch) -> Sketch {
    sketch.map(|v| -v)
}

#[test]
fn nobody_to_compare_with() {
    assert!(kept(&[]).is_empty());
    assert_eq!(kept(&[[0; SKETCH_LEN]]), [0]);
    let one = honest(1, 1, 0.5);
    assert_eq!(kept(&one), [0]);
    let norm: u64 = one[0]
        .iter()
        .map(|v| u64::from(v.unsigned_abs()).pow(2))
        .sum();
    assert_eq!(judge(&some(&one)).scores, [norm]);
}

#[test]
fn all_zero_are_kept_and_of_all_equal_too() {
    for count in [2, 3, 6, 40] {
        let everybody: Vec<usize> = (0..count).collect();
        assert_eq!(kept(&vec![honest(2, 1, 0.5)[0]; count]), everybody);
        assert_eq!(kept(&vec![[0; SKETCH_LEN]; count]), everybody);
    }
}

#[test]
fn next_to_no_work_is_refused_with_its_share() {
    let mut sketches = honest(3, 12, 0.5);
    sketches[4] = sketches[4].map(|v| v / 16);
    sketches[7] = [0; SKETCH_LEN];
    let reasons = reasons(&sketches);
    let Some(Reason::NoWork { ratio_ppm }) = reasons[4] else {
        panic!("{reasons:?}");
    };
    assert!((1..15_625).contains(&ratio_ppm));
    assert_eq!(reasons[7], Some(Reason::NoWork { ratio_ppm: 0 }));
    assert_eq!(reasons.iter().flatten().count(), 2);
}

#[test]
fn the_later_of_two_copies_is_refused_and_names_the_earlier() {
    let mut sketches = honest(4, 12, 0.3);
    sketches[9] = sketches[2];
    // A copy with a little noise on it is one too, and so is a copy of a copy.
    let (noise, original) = (normal(99), sketches[5]);
    sketches[10] = rounded(|l| f32::from(original[l]) / 32.0 + 0.1 * noise[l]);
    sketches[11] = sketches[9];
    let reasons = reasons(&sketches);
    assert_eq!(reasons[9], Some(Reason::Copy { of: 2 }));
    assert_eq!(reasons[10], Some(Reason::Copy { of: 5 }));
    assert_eq!(reasons[11], Some(Reason::Copy { of: 2 }));
    assert_eq!(reasons.iter().flatten().count(), 3);
}

#[test]
fn colluders_are_refused_and_next_to_no_honest_trainer_is() {
    let mut honest_refused = 0;
    for seed in 0..8 {
        let mut sketches = honest(20 + seed, 40, 0.3);
        let target = normal(500 + seed);
        for (i, sketch) in sketches.iter_mut().enumerate().take(8) {
            let own = normal(600 + seed * 8 + i as u64);
            *sketch = rounded(|l| 0.7 * target[l] + 0.7 * own[l]);
        }
        let reasons = reasons(&sketches);
        assert!(reasons[..8].iter().all(Option::is_some), "seed {seed}");
        honest_refused += reasons[8..].iter().flatten().count();
        let Some(Reason::Colluding { energy_percent }) = reasons[0] else {
            panic!("{reasons:?}");
        };
        assert!((201..10_000).contains(&energy_percent), "{energy_percent}");
    }
    // Three of 256 with these seeds: the energy rule is one of averages.
    assert!(honest_refused <= 3, "{honest_refused}");
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
fn extremes_of_the_largest_cohort_do_not_overflow() {
    for end in [i8::MIN, i8::MAX] {
        let full = [end; SKETCH_LEN];
        let mut half = full;
        half[..SKETCH_LEN / 2].fill(if end > 0 { i8::MIN } else { i8::MAX });
        let opposite = full.map(i8::saturating_neg);
        let pattern = [full, opposite, half, half.map(i8::saturating_neg)];
        let crowd: Vec<Sketch> = pattern.into_iter().cycle().take(256).collect();
        // One against 255: the largest distance from the mean.
        let mut alone = vec![full; 256];
        alone[0] = opposite;
        for sketches in [crowd, alone] {
            let expected = reference::settle(&some(&sketches), &[1; 256], 1);
            let judgement = judge(&some(&sketches));
            assert_eq!(judgement.scores, expected.scores);
        }
    }
}

/// Sketches of every kind: honest, idle, copied, opposite, extreme.
fn sketches(count_max: usize) -> impl Strategy<Value = Vec<Sketch>> {
    let kind = (0u8..8, any::<u64>(), any::<prop::sample::Index>());
    prop::collection::vec(kind, 1..count_max).prop_map(|kinds| {
        let shared = normal(7);
        let mut made: Vec<Sketch> = Vec::new();
        for (kind, seed, index) in kinds {
            let own = normal(seed);
            let earlier = (!made.is_empty()).then(|| made[index.index(made.len())]);
            made.push(match (kind, earlier) {
                (0, Some(earlier)) => earlier,
                (1, Some(earlier)) => negated(&earlier),
                (2, _) => [0; SKETCH_LEN],
                (3, _) => rounded(|l| own[l] / 20.0),
                (4, _) => rounded(|l| own[l].signum() * 9.0),
                _ => rounded(|l| 0.8 * own[l] + 0.6 * shared[l]),
            });
        }
        made
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_definition(sketches in sketches(56)) {
        let factors = vec![10_000; sketches.len()];
        let expected = reference::settle(&some(&sketches), &factors, 1_000_000);
        let judgement = judge(&some(&sketches));
        let kept: Vec<bool> = judgement.verdicts.iter().map(|v| *v == Verdict::Kept).collect();
        prop_assert_eq!(kept, expected.kept);
        prop_assert_eq!(judgement.scores, expected.scores);
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

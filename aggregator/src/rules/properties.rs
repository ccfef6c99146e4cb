//! Every rule against its naive f64 twin, and what it must do whatever the deltas.
#![allow(clippy::unwrap_used)]

use convoke_protocol::ids::BlobHash;
use convoke_protocol::message::Candidate;
use convoke_protocol::task::AggregationSpec;
use convoke_sketch::Source;
use proptest::prelude::*;

use super::twins::{Round, distance, norm, twin, weighted_mean};
use super::*;
use crate::aggregate::history::Histories;
use crate::aggregate::survey::halves;
use crate::aggregate::{Mixer, MixerBuffers, Updates, decide};
use crate::testing::{candidate, normal, to_bytes, trainer};

/// Deltas with what is said of them.
#[derive(Debug, Clone)]
struct Deltas {
    rows: Vec<Vec<f32>>,
    candidates: Vec<Candidate>,
    settings: AggregationSpec,
}

impl Deltas {
    fn of(rows: Vec<Vec<f32>>) -> Self {
        let of_row = |(id, row): (usize, &Vec<f32>)| {
            let bytes = to_bytes(row);
            candidate(id as u8, BlobHash::of(&bytes), bytes.len())
        };
        Self {
            candidates: rows.iter().enumerate().map(of_row).collect(),
            rows,
            settings: AggregationSpec::default(),
        }
    }

    /// Calls `run` with the deltas as a step has them.
    fn with<T>(&self, run: impl FnOnce(&Updates<'_>) -> T) -> T {
        let slices: Vec<&[f32]> = self.rows.iter().map(Vec::as_slice).collect();
        let sources = slices.iter().map(|slice| slice as &dyn Source);
        run(&Updates::new(self.candidates.iter().zip(sources)))
    }

    fn combination(&self, rule: &dyn AggregationRule) -> Combination {
        let dir = tempfile::tempdir().unwrap();
        let mut histories = Histories::open(dir.path(), &BlobHash([0; 32])).unwrap();
        let histories = (rule.needs() == Needs::Histories).then_some(&mut histories);
        self.with(|updates| decide(updates, rule, &self.settings, histories).unwrap())
    }

    fn aggregated(&self, rule: &dyn AggregationRule) -> Vec<f32> {
        let combination = self.combination(rule);
        let mut out = vec![f32::NAN; self.rows[0].len()];
        self.with(|updates| {
            let mixer = Mixer::new(updates, &combination, [0; 32]);
            let range = 0..updates.values();
            mixer
                .mix(range, &mut MixerBuffers::default(), &mut out)
                .unwrap();
        });
        out
    }

    /// The deltas as they are after clipping, in f64.
    fn exact(&self) -> Vec<Vec<f64>> {
        let clipped = |(row, candidate): (&Vec<f32>, &Candidate)| {
            let clip = f64::from(candidate.clip_ppm) / 1e6;
            row.iter().map(|value| clip * f64::from(*value)).collect()
        };
        self.rows
            .iter()
            .zip(&self.candidates)
            .map(clipped)
            .collect()
    }

    fn twin(&self, name: &str) -> Vec<f64> {
        let count = self.rows.len();
        let places = self.with(halves);
        let half = |which: usize| places.iter().map(|place| *place == which).collect();
        let root = self.settings.root_trainer;
        let round = Round {
            rows: self.exact(),
            weights: self
                .candidates
                .iter()
                .map(|c| c.num_examples as f64)
                .collect(),
            attackers: count * usize::from(self.settings.attackers_bps) / 10_000,
            clip_factor: self.settings.clip_factor,
            root: root.and_then(|root| self.candidates.iter().position(|c| c.trainer == root)),
            halves: [half(0), half(1)],
        };
        twin(name, &round)
    }
}

fn length(values: &[f32]) -> f64 {
    norm(&values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>())
}

/// Distance of a result from what it should be.
fn error(got: &[f32], expected: &[f64]) -> f64 {
    distance(
        &got.iter().map(|v| f64::from(*v)).collect::<Vec<_>>(),
        expected,
    )
}

/// `count` deltas around a common direction, some longer than others.
fn honest(seed: u64, count: usize, values: usize) -> Vec<Vec<f32>> {
    let common = normal(seed, values);
    let delta = |id: usize| {
        let own = normal(1_000 * (seed + 1) + id as u64, values);
        let scale = 0.7 + 0.1 * (id % 7) as f32;
        own.iter()
            .zip(&common)
            .map(|(o, c)| scale * (o + c))
            .collect()
    };
    (0..count).map(delta).collect()
}

/// Up to 14 deltas of up to 150 values, with weights, clips and settings.
fn cohort() -> impl Strategy<Value = Deltas> {
    let settings = (
        0u16..4_999,
        prop_oneof![Just(1.0), 0.3f64..3.0],
        any::<bool>(),
    );
    let claims = prop::collection::vec((1u64..10_000, 300_000u32..=1_000_000), 14);
    let of = (any::<u32>(), 1usize..14, 20usize..150);
    (of, claims, settings).prop_map(|((seed, count, values), claims, settings)| {
        let mut deltas = Deltas::of(honest(u64::from(seed), count, values));
        for (candidate, (examples, clip)) in deltas.candidates.iter_mut().zip(claims) {
            candidate.num_examples = examples;
            candidate.clip_ppm = if clip % 2 == 0 { clip } else { 1_000_000 };
        }
        let (attackers_bps, clip_factor, has_root) = settings;
        deltas.settings.attackers_bps = attackers_bps;
        deltas.settings.clip_factor = clip_factor;
        deltas.settings.root_trainer = has_root.then(|| trainer(0));
        deltas
    })
}

#[test]
fn rules_are_found_by_name_and_others_are_not() {
    for rule in all() {
        assert_eq!(by_name(rule.name()).unwrap().name(), rule.name());
        assert!(!rule.summary().is_empty() && !rule.breakdown().is_empty());
    }
    let error = by_name("fedavgg").err().unwrap().to_string();
    for rule in all() {
        assert!(error.contains(rule.name()), "{error}");
    }
}

#[test]
fn one_delta_is_its_own_aggregate() {
    let row = vec![1.5, -2.0, 0.0, 1e30, f32::MIN_POSITIVE];
    for rule in all() {
        let got = Deltas::of(vec![row.clone()]).aggregated(rule);
        for (got, value) in got.iter().zip(&row) {
            let tolerance = 1e-6 * value.abs();
            assert!((got - value).abs() <= tolerance, "{}: {got:?}", rule.name());
        }
    }
}

#[test]
fn the_largest_values_do_not_overflow() {
    for rule in all() {
        for count in [2, 6] {
            let got = Deltas::of(vec![vec![f32::MAX; 3]; count]).aggregated(rule);
            let finite = got.iter().all(|v| v.is_finite() && *v >= 0.999 * f32::MAX);
            assert!(finite, "{}: {got:?}", rule.name());
        }
    }
}

#[test]
fn deltas_of_zeros_stay_zeros() {
    for rule in all() {
        for count in [1, 2, 7] {
            let got = Deltas::of(vec![vec![0.0; 5]; count]).aggregated(rule);
            assert_eq!(got, [0.0; 5], "{}", rule.name());
        }
    }
}

#[test]
fn a_root_trainer_outvotes_a_majority() {
    let mut deltas = Deltas::of(honest(1, 5, 100));
    let away: Vec<f32> = deltas.rows[0].iter().map(|value| -3.0 * value).collect();
    for row in &mut deltas.rows[2..] {
        row.clone_from(&away);
    }
    deltas.settings.root_trainer = Some(trainer(0));
    let Combination::Sum { shares, .. } = deltas.combination(&FlTrust) else {
        panic!("a sum");
    };
    assert!(shares[1].value() > 0.0);
    for index in [0, 2, 3, 4] {
        assert_eq!(shares[index].value(), 0.0, "{index}");
    }
    let root = length(&deltas.rows[0]);
    assert!((length(&deltas.aggregated(&FlTrust)) / root - 1.0).abs() < 1e-3);
}

#[test]
fn sybils_lose_their_weight_and_the_honest_do_not() {
    let mut rows: Vec<Vec<f32>> = (0..4).map(|seed| normal(seed, 2_000)).collect();
    rows.extend(vec![normal(9, 2_000); 6]);
    let Combination::Sum { shares, .. } = Deltas::of(rows).combination(&FoolsGold) else {
        panic!("a sum");
    };
    let sybils: f64 = shares[4..].iter().map(|share| share.value()).sum();
    assert!(sybils < 1e-6, "{sybils}");
    assert!(shares[..4].iter().all(|share| share.value() > 0.1));
}

#[test]
fn long_histories_keep_their_angles_in_projection() {
    let common = normal(1, 50_000);
    let rows = (0..6).map(|id| {
        let own = normal(10 + id, 50_000);
        own.iter()
            .zip(&common)
            .map(|(o, c)| 0.5 * o + 0.2 * id as f32 * c)
            .collect()
    });
    let deltas = Deltas::of(rows.collect());
    let expected = deltas.twin("foolsgold");
    let off = error(&deltas.aggregated(&FoolsGold), &expected);
    assert!(off < 0.1 * norm(&expected), "{off}");
}

proptest! {
    // Twins are slow.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn agrees_with_the_naive_twin(deltas in cohort()) {
        for rule in all() {
            let expected = deltas.twin(rule.name());
            let off = error(&deltas.aggregated(rule), &expected);
            // The smoothing of the geometric median, and what comes of it.
            let tolerance = match rule.name() {
                "geometric_median" | "fltrust" => 5e-3,
                _ => 1e-5,
            };
            let longest = deltas.exact().iter().map(|row| norm(row)).fold(0.0, f64::max);
            prop_assert!(off <= tolerance * longest, "{}: {off} of {longest}", rule.name());
        }
    }

    #[test]
    fn the_order_of_the_trainers_is_irrelevant(
        deltas in cohort(),
        by in any::<prop::sample::Index>(),
    ) {
        let by = by.index(deltas.rows.len());
        let mut turned = deltas.clone();
        turned.rows.rotate_left(by);
        turned.rows.reverse();
        turned.candidates.rotate_left(by);
        turned.candidates.reverse();
        for rule in all() {
            let (a, b) = (deltas.aggregated(rule), turned.aggregated(rule));
            for (a, b) in a.iter().zip(&b) {
                prop_assert!((a - b).abs() <= 1e-3, "{}: {a} {b}", rule.name());
            }
        }
    }

    /// A quarter of the updates may be anything: the result stays where the honest are.
    #[test]
    fn a_minority_has_bounded_influence(
        seed in any::<u32>(),
        count in 8usize..14,
        hostile_value in prop_oneof![Just(f32::MAX), Just(f32::MIN), -1e3f32..1e3],
        at in any::<prop::sample::Index>(),
    ) {
        let rows = honest(u64::from(seed), count, 60);
        let longest = rows.iter().map(|row| length(row)).fold(0.0, f64::max);
        let exact = Deltas::of(rows.clone()).exact();
        let mean = weighted_mean(&exact, &vec![1.0; count]);
        let mut deltas = Deltas::of(rows);
        // ⌊(count + hostile) / 5⌋ of them is what every rule here withstands, at 20 % and N ≥ 4 f + 3.
        let at = at.index(count + 1);
        for _ in 0..count / 5 {
            deltas.rows.insert(at, vec![hostile_value; 60]);
        }
        let deltas = Deltas::of(deltas.rows);
        for rule in all() {
            if ["fedavg", "foolsgold"].contains(&rule.name()) {
                continue;
            }
            let off = error(&deltas.aggregated(rule), &mean);
            prop_assert!(off <= 2.0 * longest, "{}: {off} of {longest}", rule.name());
        }
    }
}

#[test]
fn one_attacker_moves_a_mean_anywhere() {
    let mut rows = honest(1, 9, 60);
    rows.push(vec![1e6; 60]);
    let deltas = Deltas::of(rows);
    for rule in [&FedAvg as &dyn AggregationRule, &FoolsGold] {
        assert!(length(&deltas.aggregated(rule)) > 1e4, "{}", rule.name());
    }
}

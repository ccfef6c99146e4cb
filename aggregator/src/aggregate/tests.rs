//! Steps on disk, from the first byte to the last.
#![allow(clippy::unwrap_used)]

use convoke_protocol::task::ServerOptimizerKind;
use convoke_sketch::Layout;

use super::*;
use crate::rules::{CoordinateMedian, FedAvg, Flame, FoolsGold, Krum, all};
use crate::testing::{model, normal, put, update};

/// More than one batch of chunks for a few threads, more than one group of the first pass, and a
/// short last chunk.
const VALUES: usize = (1 << 18) + 11;

fn values(path: &Path) -> Vec<f32> {
    let file = TensorFile::open(path).unwrap();
    file.map_parts(|_, chunk| chunk.to_vec()).unwrap().concat()
}

fn plain() -> AggregationSpec {
    AggregationSpec::default()
}

fn heavy() -> AggregationSpec {
    AggregationSpec {
        server_lr: 0.5,
        server_momentum: 0.9,
        ..AggregationSpec::default()
    }
}

struct Bench {
    dir: tempfile::TempDir,
    base: (BlobHash, PathBuf),
    kept: Vec<(Candidate, PathBuf)>,
}

impl Bench {
    fn of(values: usize, trainers: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = put(dir.path(), &model(&normal(1, values)));
        let delta = |id: u8| normal(10 + u64::from(id), values);
        let kept = (0..trainers).map(|id| update(dir.path(), id, &delta(id)));
        let kept = kept.collect();
        Self { dir, base, kept }
    }

    fn step(&self, rule: &dyn AggregationRule, settings: &AggregationSpec) -> Stepped {
        self.try_step(rule, settings).unwrap()
    }

    fn try_step(
        &self,
        rule: &dyn AggregationRule,
        settings: &AggregationSpec,
    ) -> Result<Stepped, AggregatorError> {
        aggregate_step(&Step {
            base: self.base.0,
            base_path: &self.base.1,
            kept: &self.kept,
            rule,
            settings,
            dir: self.dir.path(),
        })
    }

    fn file_names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.unwrap().file_name().into_string().unwrap()
        };
        entries.map(name).collect()
    }

    /// Makes what a step has led to the base of the next.
    fn go_on(&mut self, from: &Stepped) {
        self.base = (from.checkpoint, from.path.clone());
    }
}

#[test]
fn the_step_is_the_weighted_mean_of_the_clipped_deltas() {
    let mut bench = Bench::of(VALUES, 3);
    for (index, (candidate, _)) in bench.kept.iter_mut().enumerate() {
        candidate.num_examples = 100 * (index as u64 + 1);
        candidate.clip_ppm = 1_000_000 - 250_000 * index as u32;
    }
    let stepped = bench.step(&FedAvg, &plain());
    assert!(stepped.states.is_empty());
    let shares: Vec<f64> = stepped.shares.iter().map(|share| share.value()).collect();
    let (new, base) = (values(&stepped.path), values(&bench.base.1));
    let deltas: Vec<_> = bench.kept.iter().map(|(_, path)| values(path)).collect();
    for (share, due) in shares.iter().zip([1.0, 2.0, 3.0]) {
        assert!((share - due / 6.0).abs() < 1e-15);
    }
    for (index, new) in new.iter().enumerate() {
        let terms = [(1.0, 1.0), (2.0, 0.75), (3.0, 0.5)].iter().zip(&deltas);
        let step: f64 = terms
            .map(|((w, clip), d)| w * clip * f64::from(d[index]) / 6.0)
            .sum();
        let expected = f64::from(base[index]) + step;
        assert!((f64::from(*new) - expected).abs() < 1e-6, "{index}");
    }
    let bytes = std::fs::read(&stepped.path).unwrap();
    assert_eq!(stepped.checkpoint, BlobHash::of(&bytes));
    let name = stepped.checkpoint.to_file_name();
    assert_eq!(stepped.path, bench.dir.path().join(name));
    // Header and length of the base; nothing half-written is left behind.
    assert_eq!(bytes.len(), std::fs::read(&bench.base.1).unwrap().len());
    assert_eq!(
        Layout::of(&stepped.path).unwrap(),
        Layout::of(&bench.base.1).unwrap()
    );
    assert_eq!(bench.file_names().len(), 5);
}

#[test]
fn deltas_are_clipped_before_a_median_is_taken() {
    let mut bench = Bench::of(100, 3);
    bench.kept[1].0.clip_ppm = 500_000;
    let stepped = bench.step(&CoordinateMedian, &plain());
    assert!(stepped.shares.is_empty());
    let (new, base) = (values(&stepped.path), values(&bench.base.1));
    let deltas: Vec<_> = bench.kept.iter().map(|(_, path)| values(path)).collect();
    for index in 0..100 {
        let mut column = [deltas[0][index], 0.5 * deltas[1][index], deltas[2][index]];
        column.sort_by(f32::total_cmp);
        assert_eq!(new[index], base[index] + column[1]);
    }
}

#[test]
fn same_bytes_whatever_the_number_of_threads() {
    let bench = Bench::of(VALUES, 7);
    let settings = AggregationSpec {
        noise_factor: 0.1,
        server_optimizer: ServerOptimizerKind::Yogi,
        ..heavy()
    };
    for rule in all() {
        let stepped = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| bench.step(rule, &settings))
        };
        let one = stepped(1);
        assert_eq!(one, stepped(2), "{}", rule.name());
        assert_eq!(one, stepped(3), "{}", rule.name());
    }
}

#[test]
fn without_updates_the_base_stays() {
    let bench = Bench::of(100, 0);
    let result = bench.step(&FedAvg, &heavy());
    assert_eq!((result.checkpoint, result.path), bench.base);
    assert_eq!(bench.file_names().len(), 1);
}

#[test]
fn a_step_taken_again_is_the_same_and_momentum_goes_on_from_it() {
    let mut bench = Bench::of(300, 2);
    let first = bench.step(&FedAvg, &heavy());
    assert_eq!(first, bench.step(&FedAvg, &heavy()));
    let state = bench.dir.path().join(first.states[0].to_file_name());
    let (before, after) = (values(&bench.base.1), values(&first.path));
    for ((x, v), y) in before.iter().zip(values(&state)).zip(&after) {
        assert_eq!((f64::from(*x) + 0.5 * f64::from(v)) as f32, *y);
    }
    let base = values(&bench.base.1);
    bench.go_on(&first);
    let second = bench.step(&FedAvg, &heavy());
    assert_eq!(second, bench.step(&FedAvg, &heavy()));
    // Equal deltas twice: v = d, then 1.9 d.
    let (first, second) = (values(&first.path), values(&second.path));
    for ((base, first), second) in base.iter().zip(&first).zip(&second) {
        assert!((1.9 * (first - base) - (second - first)).abs() < 1e-5);
    }
}

#[test]
fn every_moment_is_a_file_that_the_next_step_goes_on_from() {
    let mut bench = Bench::of(300, 2);
    let adam = AggregationSpec {
        server_optimizer: ServerOptimizerKind::Adam,
        ..heavy()
    };
    let first = bench.step(&FedAvg, &adam);
    assert_eq!(
        states_of(bench.dir.path(), &first.checkpoint).unwrap(),
        first.states
    );
    bench.go_on(&first);
    let second = bench.step(&FedAvg, &adam);
    let file = |name: &BlobHash| bench.dir.path().join(name.to_file_name());
    let moments = |stepped: &Stepped| stepped.states.iter().map(|s| values(&file(s))).collect();
    let (one, two): (Vec<_>, Vec<_>) = (moments(&first), moments(&second));
    assert_eq!((one.len(), two.len()), (2, 2));
    for index in 0..300 {
        // The same delta twice: m = 0.1 d, then 0.19 d.
        let ratio = f64::from(two[0][index]) / f64::from(one[0][index]);
        assert!((ratio - 1.9).abs() < 1e-5, "{ratio}");
        assert!(two[1][index] >= 0.0 && one[1][index] > 0.0);
    }
    let (x, y) = (values(&first.path), values(&second.path));
    for index in 0..300 {
        let (m, v) = (f64::from(two[0][index]), f64::from(two[1][index]));
        let due = f64::from(x[index]) + 0.5 * m / (v.sqrt() + 1e-3);
        assert_eq!(due as f32, y[index]);
    }
}

#[test]
fn histories_go_on_from_their_checkpoint_and_are_no_others() {
    let mut bench = Bench::of(300, 4);
    let first = bench.step(&FoolsGold, &plain());
    assert_eq!(first, bench.step(&FoolsGold, &plain()), "taken again");
    bench.go_on(&first);
    let files = |ending: &str| {
        let names = bench.file_names().into_iter();
        names.filter(|name| name.ends_with(ending)).count()
    };
    assert_eq!(files(".histories"), 1);
    // Two who sent unlike deltas before send the same one now: it is their histories that count.
    let copy = normal(99, 300);
    let fresh = |id: u8| update(bench.dir.path(), id, &copy);
    let kept = vec![
        fresh(0),
        fresh(1),
        bench.kept[2].clone(),
        bench.kept[3].clone(),
    ];
    bench.kept = kept;
    let with_history = bench.step(&FoolsGold, &plain());
    assert_eq!(
        with_history,
        bench.step(&FoolsGold, &plain()),
        "taken again"
    );
    let without = Bench::of(300, 0);
    let stranger = Bench {
        kept: bench.kept.clone(),
        ..without
    };
    let without_history = stranger.step(&FoolsGold, &plain());
    assert_eq!(
        without_history.shares[0],
        Share::ZERO,
        "they look like sybils"
    );
    assert!(
        with_history.shares[0] > Share::ZERO,
        "they are known not to be"
    );
    let names = bench.file_names().into_iter();
    assert_eq!(names.filter(|name| name.ends_with(".histories")).count(), 2);
}

#[test]
fn a_torn_file_of_histories_is_an_error() {
    let mut bench = Bench::of(300, 2);
    let first = bench.step(&FoolsGold, &plain());
    let path = format!("{}.histories", first.checkpoint.to_file_name());
    std::fs::write(bench.dir.path().join(path), b"torn").unwrap();
    bench.go_on(&first);
    let error = bench.try_step(&FoolsGold, &plain()).unwrap_err();
    assert!(error.to_string().contains("histories"), "{error}");
}

#[test]
fn noise_follows_from_the_base() {
    let mut bench = Bench::of(300, 3);
    let noisy = AggregationSpec {
        noise_factor: 0.5,
        ..plain()
    };
    let (still, moved) = (bench.step(&Flame, &plain()), bench.step(&Flame, &noisy));
    assert_ne!(still.checkpoint, moved.checkpoint);
    assert_eq!((still.noise, still.shares), (Norm::ZERO, moved.shares));
    let added = values(&moved.path).into_iter().zip(values(&still.path));
    let length = added
        .map(|(a, b)| f64::from(a - b).powi(2))
        .sum::<f64>()
        .sqrt();
    assert!((length / moved.noise.value() - 1.0).abs() < 0.2, "{length}");
    let other = put(bench.dir.path(), &model(&normal(2, 300)));
    bench.base = other;
    let elsewhere = bench.step(&Flame, &noisy);
    assert_eq!(elsewhere.noise, moved.noise);
    let step = |new: &Path, base: &Path| values(new)[7] - values(base)[7];
    let first = step(&moved.path, &bench.kept[0].1);
    assert_ne!(first, step(&elsewhere.path, &bench.base.1));
}

#[test]
fn updates_that_are_left_out_are_not_read_again() {
    let bench = Bench::of(100, 3);
    let stepped = bench.step(&Krum, &plain());
    let ones = stepped.shares.iter().filter(|share| **share == Share::ONE);
    assert_eq!(ones.count(), 1);
    let chosen = stepped
        .shares
        .iter()
        .position(|share| *share == Share::ONE)
        .unwrap();
    let (new, base) = (values(&stepped.path), values(&bench.base.1));
    let delta = values(&bench.kept[chosen].1);
    for ((x, d), y) in base.iter().zip(&delta).zip(&new) {
        assert_eq!(x + d, *y);
    }
}

#[test]
fn what_a_killed_step_left_is_removed() {
    let bench = Bench::of(100, 1);
    std::fs::write(bench.dir.path().join(".step-torn"), b"half").unwrap();
    bench.step(&FedAvg, &plain());
    assert!(!bench.file_names().contains(&".step-torn".to_owned()));
}

#[test]
fn a_delta_of_another_model_is_an_error() {
    let mut bench = Bench::of(100, 2);
    bench.kept[1] = update(bench.dir.path(), 9, &normal(3, 101));
    let error = bench.try_step(&CoordinateMedian, &plain()).unwrap_err();
    assert!(matches!(error, AggregatorError::Sketch(_)), "{error}");
    assert_eq!(bench.file_names().len(), 4);
}

#[test]
fn a_step_beyond_f32_is_an_error_and_leaves_nothing() {
    let mut bench = Bench::of(100, 0);
    let mut delta = normal(3, 100);
    delta[42] = f32::MAX;
    bench.kept = vec![update(bench.dir.path(), 1, &delta)];
    for optimizer in [ServerOptimizerKind::Sgd, ServerOptimizerKind::Adagrad] {
        let settings = AggregationSpec {
            server_lr: 2.0,
            server_optimizer: optimizer,
            ..plain()
        };
        let error = bench.try_step(&FedAvg, &settings).unwrap_err();
        assert!(
            matches!(error, AggregatorError::Diverged { index: 42, .. }),
            "{error}"
        );
        assert_eq!(bench.file_names().len(), 2);
    }
}

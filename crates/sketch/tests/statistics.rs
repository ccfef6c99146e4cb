//! What makes sums a sketch: norms and inner products are kept, up to noise of known size.
#![allow(clippy::unwrap_used)]

use convoke_protocol::ids::Digest;
use convoke_protocol::sketch::{CHUNK_VALUES, Norm};
use convoke_sketch::{Computed, SKETCH_LEN, Sketch, project, quantize, sketch};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

const LONG: usize = 40 * CHUNK_VALUES + 77;

fn normal(seed: u64, count: usize) -> Vec<f32> {
    let rng = ChaCha8Rng::seed_from_u64(seed);
    StandardNormal.sample_iter(rng).take(count).collect()
}

fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn widened(values: &[f32]) -> impl Iterator<Item = f64> {
    values.iter().map(|v| f64::from(*v))
}

fn lanes(values: &[f32], seed: u8, clip: f64) -> [i64; SKETCH_LEN] {
    project(values, &Digest([seed; 32]), Norm::of(clip))
        .unwrap()
        .lanes
}

fn sketched(values: &[f32], seed: u8, clip: f64) -> Sketch {
    let (own, clip) = (Norm::of(norm(widened(values))), Norm::of(clip));
    quantize(
        &project(values, &Digest([seed; 32]), clip).unwrap(),
        own,
        clip,
    )
}

#[test]
fn every_entry_of_the_matrix_is_plus_or_minus_one_and_blocks_are_orthogonal() {
    // Of the clipping norm, so q is 2²¹.
    let column = |i: usize| {
        let mut unit = [0.0; 2 * SKETCH_LEN];
        unit[i] = 1.0;
        lanes(&unit, 3, 1.0).map(|lane| {
            assert_eq!(lane.abs(), 1 << 21);
            lane.signum()
        })
    };
    let columns: Vec<_> = (0..2 * SKETCH_LEN).map(column).collect();
    for (i, a) in columns.iter().enumerate() {
        for (j, b) in columns.iter().enumerate().skip(i + 1) {
            let dot: i64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
            let same_block = i / SKETCH_LEN == j / SKETCH_LEN;
            assert!(dot.abs() < if same_block { 1 } else { 64 }, "{i} {j} {dot}");
        }
    }
    let plus = columns.iter().flatten().filter(|v| **v > 0).count();
    assert!(plus.abs_diff(SKETCH_LEN * SKETCH_LEN) < 600, "{plus}");
}

/// Exactly, but for what each value loses when it is made whole.
#[test]
fn linear_within_rounding() {
    let (a, b) = (normal(1, LONG), normal(2, LONG));
    let (clip, seed) = (100.0, Digest([7; 32]));
    let sum = Computed::new(LONG as u64, |range, values| {
        let range = range.start as usize..range.end as usize;
        values.extend(a[range.clone()].iter().zip(&b[range]).map(|(a, b)| a + b));
        Ok(())
    });
    let sum = project(&sum, &seed, Norm::of(clip)).unwrap().lanes;
    let (pa, pb) = (lanes(&a, 7, clip), lanes(&b, 7, clip));
    for i in 0..SKETCH_LEN {
        let off = pa[i] + pb[i] - sum[i];
        // Each of three numbers a value is off by at most one; with random signs, four times
        // the square root is ample.
        assert!(off.abs() < 4 * (3.0 * LONG as f64).sqrt() as i64, "{off}");
    }
}

/// The mean over 64 seeds of |P|² / (k |q|²) is 1 within 4 standard errors of √(2/k)/8,
/// whatever the shape of the delta.
#[test]
fn norms_are_kept_in_expectation() {
    let mut constant = vec![0.01; 3_000];
    constant[0] = 0.5;
    let mut one = vec![0.0; 3_000];
    one[1_234] = -2.0;
    let every_128th = (0..3_000).map(|i| f32::from(u8::from(i % 128 == 5)));
    for (name, values) in [
        ("normal", normal(3, 3_000)),
        ("constant", constant),
        ("one value", one),
        ("one of each block", every_128th.collect()),
    ] {
        let ratios: Vec<f64> = (0..64)
            .map(|seed| {
                let clip = Norm::of(norm(widened(&values)));
                let sums = project(&values[..], &Digest([seed; 32]), clip).unwrap();
                let energy = sums.energy as f64 * SKETCH_LEN as f64;
                norm(sums.lanes.map(|lane| lane as f64)).powi(2) / energy
            })
            .collect();
        let mean = ratios.iter().sum::<f64>() / 64.0;
        assert!((mean - 1.0).abs() < 0.0625, "{name}: {mean}");
        let spread = ratios.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / 63.0;
        // Of a dense matrix: 2/128 = 0.0156.
        assert!(spread < 0.032, "{name}: {spread}");
    }
}

#[test]
fn cosines_are_kept() {
    let (a, noise) = (normal(4, 20_000), normal(5, 20_000));
    // Cosine 0.6 by construction.
    let b: Vec<f32> = a
        .iter()
        .zip(&noise)
        .map(|(a, n)| 0.6 * a + 0.8 * n)
        .collect();
    let cosines = (0..32).map(|seed| {
        let [x, y] = [&a, &b].map(|v| sketched(v, seed, 100.0));
        x.dot(&y) as f64 / ((x.dot(&x) * y.dot(&y)) as f64).sqrt()
    });
    let mean = cosines.sum::<f64>() / 32.0;
    assert!((mean - 0.6).abs() < 0.06, "{mean}");
}

/// As large as the clipping norm, or clipped to it, whether it is above by a little or by much;
/// and in proportion below.
#[test]
fn a_delta_of_the_clipping_norm_fills_a_quarter_of_a_byte() {
    let values = normal(6, 5_000);
    let own = norm(widened(&values));
    for (clip, expected) in [
        (own, 32.0),
        (own / 1.7, 32.0),
        (own / 3.0, 32.0),
        (own * 2.0, 16.0),
        (own * 3.0, 32.0 / 3.0),
    ] {
        let sketch = sketched(&values, 1, clip);
        let deviation = (sketch.dot(&sketch) as f64 / SKETCH_LEN as f64).sqrt();
        let ratio = deviation / expected;
        assert!((0.75..1.25).contains(&ratio), "{clip}: {deviation}");
    }
}

/// Beyond eight times the clipping norm single values are cut, and no more is left than that.
#[test]
fn one_huge_value_does_not_fill_a_sketch() {
    let mut values = normal(7, 5_000);
    values[17] = 1e20;
    let sketch = sketched(&values, 1, 70.0);
    assert_eq!(sketch, Sketch::ZERO);
}

#[test]
fn the_same_whatever_the_number_of_threads_and_another_for_another_seed() {
    let values = normal(7, LONG);
    let (seed, clip) = (Digest([1; 32]), Norm::of(300.0));
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap()
            .install(|| sketch(&values[..], &seed, clip).unwrap())
    };
    let one = with_threads(1);
    assert_eq!(one, with_threads(3));
    assert_ne!(one, sketch(&values[..], &Digest([2; 32]), clip).unwrap());
    assert_eq!(one.sums, project(&values[..], &seed, clip).unwrap());
}

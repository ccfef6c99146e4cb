//! Sketches: a delta of any length becomes 128 small integers whose inner products are, up to
//! noise, those of the deltas themselves.
//!
//! A seeded ±1 projection in the manner of Ailon and Chazelle's fast Johnson-Lindenstrauss
//! transform (2009). The delta is cut into blocks x₁, x₂, … of k = 128 values, the last one
//! filled up with zeros, and
//!
//! ```text
//! y = Σ_b D'_b H D_b x_b
//! ```
//!
//! H is the Hadamard matrix of order k (entries ±1), D_b and D'_b are diagonal matrices of ±1
//! drawn from the seed for each block. Every entry of D'_b H D_b is ±1, so E yᵢ² = |x|² and
//! E ⟨y, z⟩ = k ⟨x, w⟩. Within a block nothing is lost (H is orthogonal up to √k); between
//! blocks D' makes the signs independent at every output; D keeps a delta whose blocks look
//! like a row of H from falling onto one output. The relative error of |y|² is about √(2/k),
//! as of a dense ±1 matrix, at a cost of log₂ k additions a value, in one pass.
//!
//! The seed must be unknown until the deltas are committed to: who knows it can make two
//! deltas with one sketch.

use convoke_protocol::ids::Digest;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::delta_file::TensorFile;
use crate::error::AggregatorError;

/// Length of a sketch, k.
pub const SKETCH_LEN: usize = 128;

/// A delta of the clipping norm has sketch values of this standard deviation; four of them fit
/// in an i8.
pub const SKETCH_UNIT: f64 = 32.0;

/// The sums before they are rounded.
pub type Projection = [f64; SKETCH_LEN];

/// A quantized sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sketch(pub [i8; SKETCH_LEN]);

impl Sketch {
    /// No delta at all.
    pub const ZERO: Self = Self([0; SKETCH_LEN]);

    /// Rounds the projection of a delta that was scaled so that the clipping norm is 1. One
    /// public scale for all: sketches of different trainers can be compared.
    #[must_use]
    pub fn quantize(projection: &Projection) -> Self {
        let limit = f64::from(i8::MAX);
        let quantize = |sum: f64| (sum * SKETCH_UNIT).round_ties_even().clamp(-limit, limit) as i8;
        Self(projection.map(quantize))
    }

    /// The inner product; its magnitude is at most 128 · 128² = 2²¹.
    #[must_use]
    pub fn dot(&self, other: &Self) -> i64 {
        let products = self.0.iter().zip(&other.0);
        let sum: i32 = products.map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
        i64::from(sum)
    }
}

/// Projects `scale` times the file's values. The result is the same whatever the number of
/// threads: chunks are fixed, and summed in their order.
///
/// # Errors
/// If the file cannot be read.
pub fn project(
    file: &TensorFile,
    seed: &Digest,
    scale: f64,
) -> Result<Projection, AggregatorError> {
    let chunks = file.map_chunks(|first, values| project_chunk(values, seed, first, scale))?;
    let mut total = [0.0; SKETCH_LEN];
    for chunk in chunks {
        for (total, part) in total.iter_mut().zip(chunk) {
            *total += f64::from(part);
        }
    }
    Ok(total)
}

/// The part of the sum that comes from the chunk whose first value has index `first`.
fn project_chunk(values: &[f32], seed: &Digest, first: u64, scale: f64) -> [f32; SKETCH_LEN] {
    let mut signs = Signs::of_chunk(seed, first);
    let mut sums = [0.0; SKETCH_LEN];
    let mut block = [0.0; SKETCH_LEN];
    for values in values.chunks(SKETCH_LEN) {
        for (x, value) in block.iter_mut().zip(values) {
            *x = (f64::from(*value) * scale) as f32;
        }
        block[values.len()..].fill(0.0);
        signs.flip(&mut block);
        hadamard(&mut block);
        signs.flip(&mut block);
        for (sum, y) in sums.iter_mut().zip(&block) {
            *sum += y;
        }
    }
    sums
}

/// Multiplies by the Hadamard matrix of order 128. Every stage has the same access pattern,
/// which compiles to full-width additions; the order of the outputs is a fixed permutation of
/// the usual one.
fn hadamard(block: &mut [f32; SKETCH_LEN]) {
    for _ in 0..SKETCH_LEN.ilog2() {
        let mut next = [0.0; SKETCH_LEN];
        let (low, high) = block.split_at(SKETCH_LEN / 2);
        for ((pair, a), b) in next.as_chunks_mut::<2>().0.iter_mut().zip(low).zip(high) {
            *pair = [a + b, a - b];
        }
        *block = next;
    }
}

/// The diagonals of one chunk, one after the other: 128 bits each, a 1 is a minus.
struct Signs(ChaCha8Rng);

impl Signs {
    /// Every chunk has a stream of its own, so that chunks can be read in parallel.
    fn of_chunk(seed: &Digest, first: u64) -> Self {
        let mut rng = ChaCha8Rng::from_seed(seed.0);
        rng.set_stream(first);
        Self(rng)
    }

    fn flip(&mut self, block: &mut [f32; SKETCH_LEN]) {
        let mut bits = [0; SKETCH_LEN / 8];
        self.0.fill_bytes(&mut bits);
        for (byte, eight) in bits.iter().zip(block.as_chunks_mut::<8>().0) {
            for (value, mask) in eight.iter_mut().zip(&SIGN_BITS[usize::from(*byte)]) {
                *value = f32::from_bits(value.to_bits() ^ mask);
            }
        }
    }
}

/// For each byte, what its eight bits do to the sign bits of eight values.
static SIGN_BITS: [[u32; 8]; 256] = sign_bits();

const fn sign_bits() -> [[u32; 8]; 256] {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bit = 0;
        while bit < 8 {
            table[byte][bit] = (((byte >> bit) & 1) as u32) << 31;
            bit += 1;
        }
        byte += 1;
    }
    table
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::delta_file::CHUNK_VALUES;
    use crate::testing::{model, normal, put};

    const LONG: usize = 2 * CHUNK_VALUES + 77;

    fn projected(values: &[f32], seed: u8, scale: f64) -> Projection {
        let dir = tempfile::tempdir().unwrap();
        let file = TensorFile::open(&put(dir.path(), &model(values)).1).unwrap();
        project(&file, &Digest([seed; 32]), scale).unwrap()
    }

    fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
        values.into_iter().map(|v| v * v).sum::<f64>().sqrt()
    }

    fn widened(values: &[f32]) -> impl Iterator<Item = f64> {
        values.iter().map(|v| f64::from(*v))
    }

    #[test]
    fn every_entry_of_the_matrix_is_plus_or_minus_one_and_blocks_are_orthogonal() {
        let seed = Digest([3; 32]);
        let column = |i: usize| {
            let mut unit = [0.0; 2 * SKETCH_LEN];
            unit[i] = 1.0;
            project_chunk(&unit, &seed, 0, 1.0)
        };
        let columns: Vec<_> = (0..2 * SKETCH_LEN).map(column).collect();
        for (i, a) in columns.iter().enumerate() {
            assert!(a.iter().all(|v| v.abs() == 1.0));
            for (j, b) in columns.iter().enumerate().skip(i + 1) {
                let dot: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
                let same_block = i / SKETCH_LEN == j / SKETCH_LEN;
                assert!(
                    dot.abs() < if same_block { 0.5 } else { 64.0 },
                    "{i} {j} {dot}"
                );
            }
        }
        let plus = columns.iter().flatten().filter(|v| **v > 0.0).count();
        assert!(plus.abs_diff(SKETCH_LEN * SKETCH_LEN) < 600, "{plus}");
    }

    #[test]
    fn linear() {
        let (a, b) = (normal(1, LONG), normal(2, LONG));
        let sum: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let (pa, pb, ps) = (
            projected(&a, 7, 1.0),
            projected(&b, 7, 1.0),
            projected(&sum, 7, 1.0),
        );
        let tenth = projected(&a, 7, 0.1);
        for i in 0..SKETCH_LEN {
            let bound = 1e-5 * norm(widened(&sum));
            assert!((pa[i] + pb[i] - ps[i]).abs() < bound);
            assert!((0.1 * pa[i] - tenth[i]).abs() < bound);
        }
    }

    /// The mean over 64 seeds of |y|² / (k |x|²) is 1 within 4 standard errors of √(2/k)/8,
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
            let energy = norm(widened(&values)).powi(2) * SKETCH_LEN as f64;
            let ratios: Vec<f64> = (0..64)
                .map(|seed| norm(projected(&values, seed, 1.0)).powi(2) / energy)
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
            let [x, y] =
                [&a, &b].map(|v| Sketch::quantize(&projected(v, seed, 1.0 / norm(widened(v)))));
            x.dot(&y) as f64 / ((x.dot(&x) * y.dot(&y)) as f64).sqrt()
        });
        let mean = cosines.sum::<f64>() / 32.0;
        assert!((mean - 0.6).abs() < 0.06, "{mean}");
    }

    #[test]
    fn a_delta_of_the_clipping_norm_fills_a_quarter_of_a_byte() {
        let values = normal(6, 5_000);
        let sketch = Sketch::quantize(&projected(&values, 1, 1.0 / norm(widened(&values))));
        let deviation = (sketch.dot(&sketch) as f64 / SKETCH_LEN as f64).sqrt();
        assert!((25.0..40.0).contains(&deviation), "{deviation}");
    }

    #[test]
    fn quantizing_clamps_on_both_sides_alike() {
        let mut projection = [0.0; SKETCH_LEN];
        projection[..6].copy_from_slice(&[1e300, -1e300, 1.0, -1.0, 0.4 / 32.0, 2.5 / 32.0]);
        let sketch = Sketch::quantize(&projection);
        assert_eq!(sketch.0[..6], [127, -127, 32, -32, 0, 2]);
        assert_eq!(
            Sketch([i8::MIN; SKETCH_LEN]).dot(&Sketch([i8::MIN; SKETCH_LEN])),
            1 << 21
        );
    }

    #[test]
    fn the_same_whatever_the_number_of_threads_and_another_for_another_seed() {
        let values = normal(7, LONG);
        let with_threads = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(|| projected(&values, 1, 1.0))
        };
        let one = with_threads(1);
        assert_eq!(one, with_threads(3));
        assert_ne!(one, projected(&values, 2, 1.0));
    }

    #[test]
    fn extreme_values_are_scaled_before_they_are_summed() {
        let sketch = projected(
            &[f32::MAX; 1_000],
            1,
            1.0 / (f64::from(f32::MAX) * 1_000f64.sqrt()),
        );
        assert!(sketch.iter().all(|v| v.is_finite()) && norm(sketch) > 1.0);
    }
}

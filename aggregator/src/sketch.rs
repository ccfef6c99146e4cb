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

//! The projection of one chunk: the loops that every value goes through.

use crate::fixed_point::Scale;
use crate::signs::{ChunkSigns, SignBits};

pub use convoke_protocol::sketch::SKETCH_LEN;

/// One chunk's part of the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkSums {
    /// Σ D′ H D q over its blocks; below 16 · 2³¹ in magnitude.
    pub(crate) lanes: [i64; SKETCH_LEN],
    /// Σ q²; below 2,048 · 2⁴⁸ = 2⁵⁹.
    pub(crate) energy: u64,
}

/// Projects a chunk of at most [`CHUNK_VALUES`](convoke_protocol::sketch::CHUNK_VALUES) values.
#[inline(always)]
pub(crate) fn project_chunk(values: &[f32], signs: &ChunkSigns, scale: Scale) -> ChunkSums {
    let mut sums = ChunkSums {
        lanes: [0; SKETCH_LEN],
        energy: 0,
    };
    let (blocks, rest) = values.as_chunks::<SKETCH_LEN>();
    for (number, block) in (0..).zip(blocks) {
        sums.add_block(block, signs.of_block(number), scale);
    }
    if !rest.is_empty() {
        let mut block = [0.0; SKETCH_LEN];
        block[..rest.len()].copy_from_slice(rest);
        sums.add_block(&block, signs.of_block(blocks.len() as u64), scale);
    }
    sums
}

impl ChunkSums {
    #[inline(always)]
    fn add_block(&mut self, values: &[f32; SKETCH_LEN], signs: (SignBits, SignBits), scale: Scale) {
        let (before, after) = signs;
        let mut block = [0; SKETCH_LEN];
        let minus = masks(before);
        for ((q, value), minus) in block.iter_mut().zip(values).zip(&minus) {
            let magnitude = scale.magnitude(value.to_bits());
            self.energy += u64::from(magnitude) * u64::from(magnitude);
            let minus = minus ^ ((value.to_bits() as i32) >> 31);
            *q = negate_if(magnitude as i32, minus);
        }
        // |q| < 2²⁴, so the sums of 128 of them stay below 2³¹.
        hadamard(&mut block);
        for ((sum, y), minus) in self.lanes.iter_mut().zip(&block).zip(&masks(after)) {
            *sum += i64::from(negate_if(*y, *minus));
        }
    }
}

/// −1 (all bits set) where the bit is set, 0 elsewhere.
#[inline(always)]
fn masks(bits: SignBits) -> [i32; SKETCH_LEN] {
    let mut masks = [0; SKETCH_LEN];
    for (word, masks) in bits.iter().zip(masks.as_chunks_mut::<64>().0) {
        for (byte, masks) in word.to_le_bytes().iter().zip(masks.as_chunks_mut::<8>().0) {
            for (bit, mask) in masks.iter_mut().enumerate() {
                *mask = if byte & (1 << bit) == 0 { 0 } else { -1 };
            }
        }
    }
    masks
}

/// `x` if `minus` is 0, −`x` if it is −1.
#[inline(always)]
fn negate_if(x: i32, minus: i32) -> i32 {
    (x ^ minus) - minus
}

/// Multiplies by the Hadamard matrix of order 128, H_ij = (−1)^popcount(i & j). Every stage has
/// the same access pattern, which compiles to full-width additions: it transforms the highest bit
/// of the index and puts it lowest, so that after seven stages each bit is back in its place.
#[inline(always)]
fn hadamard(block: &mut [i32; SKETCH_LEN]) {
    for _ in 0..SKETCH_LEN.ilog2() {
        let mut next = [0; SKETCH_LEN];
        let (low, high) = block.split_at(SKETCH_LEN / 2);
        for ((pair, a), b) in next.as_chunks_mut::<2>().0.iter_mut().zip(low).zip(high) {
            *pair = [a + b, a - b];
        }
        *block = next;
    }
}

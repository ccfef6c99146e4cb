//! The projection of one chunk: the loops that every value goes through.

use pulp::{Arch, NullaryFnOnce};

use crate::fixed_point::Scale;
use crate::signs::{ChunkSigns, SignBits};

/// Length of a sketch, and of a block: k.
pub const SKETCH_LEN: usize = 128;

/// One chunk's part of the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkSums {
    /// Σ D′ H D q over its blocks; below 16 · 2³¹ in magnitude.
    pub(crate) lanes: [i64; SKETCH_LEN],
    /// Σ q²; below 2,048 · 2⁴⁸ = 2⁵⁹.
    pub(crate) energy: u64,
}

/// A chunk of at most [`CHUNK_VALUES`](convoke_protocol::sketch::CHUNK_VALUES) values, to be
/// projected.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkTask<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) signs: ChunkSigns,
    pub(crate) scale: Scale,
}

impl ChunkTask<'_> {
    /// Projects it with the widest instructions that this processor has.
    pub(crate) fn run(self) -> ChunkSums {
        Arch::new().dispatch(self)
    }
}

/// Not a closure: the compiler does not inline those into code for other instructions.
impl NullaryFnOnce for ChunkTask<'_> {
    type Output = ChunkSums;

    #[inline(always)]
    fn call(self) -> ChunkSums {
        let mut sums = ChunkSums {
            lanes: [0; SKETCH_LEN],
            energy: 0,
        };
        let (blocks, rest) = self.values.as_chunks::<SKETCH_LEN>();
        for (number, block) in (0..).zip(blocks) {
            sums.add_block(block, self.signs.of_block(number), self.scale);
        }
        if !rest.is_empty() {
            let mut block = [0.0; SKETCH_LEN];
            block[..rest.len()].copy_from_slice(rest);
            let signs = self.signs.of_block(blocks.len() as u64);
            sums.add_block(&block, signs, self.scale);
        }
        sums
    }
}

impl ChunkSums {
    #[inline(always)]
    fn add_block(&mut self, values: &[f32; SKETCH_LEN], signs: (SignBits, SignBits), scale: Scale) {
        let (before, after) = signs;
        let bits = values.map(f32::to_bits);
        let magnitudes = bits.map(
            #[inline(always)]
            |bits| scale.magnitude(bits),
        );
        for magnitude in magnitudes {
            let magnitude = u64::from(magnitude);
            self.energy = self.energy.wrapping_add(magnitude.wrapping_mul(magnitude));
        }
        let mut block = [0; SKETCH_LEN];
        let minus = masks(before);
        for i in 0..SKETCH_LEN {
            let minus = minus[i] ^ ((bits[i] as i32) >> 31);
            block[i] = negate_if(magnitudes[i] as i32, minus);
        }
        // |q| < 2²⁴, so the sums of 128 of them stay below 2³¹.
        hadamard(&mut block);
        for ((sum, y), minus) in self.lanes.iter_mut().zip(&block).zip(&masks(after)) {
            *sum = sum.wrapping_add(i64::from(negate_if(*y, *minus)));
        }
    }
}

/// −1 (all bits set) where the bit is set, 0 elsewhere.
#[inline(always)]
fn masks(bits: SignBits) -> [i32; SKETCH_LEN] {
    let mut masks = [0; SKETCH_LEN];
    for (i, masks) in masks.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let word = (bits[i / 2] >> (32 * (i % 2))) as u32;
        for (bit, mask) in (0..).zip(masks) {
            *mask = (word << (31 - bit)) as i32 >> 31;
        }
    }
    masks
}

/// `x` if `minus` is 0, −`x` if it is −1.
#[inline(always)]
fn negate_if(x: i32, minus: i32) -> i32 {
    (x ^ minus).wrapping_sub(minus)
}

/// Multiplies by the Hadamard matrix of order 128, H_ij = (−1)^popcount(i & j).
#[inline(always)]
fn hadamard(block: &mut [i32; SKETCH_LEN]) {
    let (rows, _) = block.as_chunks_mut::<8>();
    within_rows::<1>(rows);
    within_rows::<2>(rows);
    within_rows::<4>(rows);
    across_rows::<1>(rows);
    across_rows::<2>(rows);
    across_rows::<4>(rows);
    across_rows::<8>(rows);
}

#[inline(always)]
fn within_rows<const STRIDE: usize>(rows: &mut [[i32; 8]]) {
    for row in rows {
        let mut other = [0; 8];
        for i in 0..8 {
            other[i] = row[i ^ STRIDE];
        }
        for i in 0..8 {
            let minus = if i & STRIDE == 0 { 0 } else { -1 };
            row[i] = other[i].wrapping_add(negate_if(row[i], minus));
        }
    }
}

#[inline(always)]
fn across_rows<const STRIDE: usize>(rows: &mut [[i32; 8]]) {
    for rows in rows.chunks_exact_mut(2 * STRIDE) {
        let (low, high) = rows.split_at_mut(STRIDE);
        for (low, high) in low.iter_mut().zip(high) {
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (a.wrapping_add(*b), a.wrapping_sub(*b));
            }
        }
    }
}

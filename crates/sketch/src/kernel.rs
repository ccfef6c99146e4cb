//! The projection of one chunk: the loops that every value goes through.

use pulp::{Arch, NullaryFnOnce};

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
        let mut memory = Memory {
            block: [0; SKETCH_LEN],
            next: [0; SKETCH_LEN],
            sums: [[0; 8]; 16],
            energy: 0,
        };
        let memory = &mut memory;
        Arch::new().dispatch(Loops { task: self, memory });
        let mut lanes = [0; SKETCH_LEN];
        for (row, sums) in memory.sums.iter().enumerate() {
            for (column, sum) in sums.iter().enumerate() {
                lanes[16 * column + row] = *sum;
            }
        }
        let energy = memory.energy;
        ChunkSums { lanes, energy }
    }
}

type Block = [i32; SKETCH_LEN];

/// What the loops work in. It is lent to them, so that the compiler leaves it in memory: it does
/// not fit in registers, and code that tries is slower.
struct Memory {
    block: Block,
    next: Block,
    /// That of lane 16 c + r in row r and column c.
    sums: [[i64; 8]; 16],
    energy: u64,
}

/// Not a closure: the compiler does not inline those into code for other instructions.
struct Loops<'a> {
    task: ChunkTask<'a>,
    memory: &'a mut Memory,
}

impl NullaryFnOnce for Loops<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let ChunkTask {
            values,
            signs,
            scale,
        } = self.task;
        let (blocks, rest) = values.as_chunks::<SKETCH_LEN>();
        let mut last = [0.0; SKETCH_LEN];
        last[..rest.len()].copy_from_slice(rest);
        for number in 0..values.len().div_ceil(SKETCH_LEN) {
            let values = blocks.get(number).unwrap_or(&last);
            let (before, after) = signs.of_block(number as u64);
            self.memory.load(values, before, scale);
            self.memory.hadamard();
            self.memory.add(after);
        }
    }
}

impl Memory {
    /// Takes a block as D q, and adds up its squares.
    #[inline(always)]
    fn load(&mut self, values: &[f32; SKETCH_LEN], signs: SignBits, scale: Scale) {
        let values = values.as_chunks::<32>().0.iter();
        let outputs = self.block.as_chunks_mut::<32>().0;
        let magnitudes = self.next.as_chunks_mut::<32>().0;
        for (i, ((values, block), magnitudes)) in values.zip(outputs).zip(magnitudes).enumerate() {
            let signs = (signs[i / 2] >> (32 * (i % 2))) as u32;
            for (bit, ((value, q), m)) in values.iter().zip(block).zip(magnitudes).enumerate() {
                let bits = value.to_bits();
                let magnitude = scale.magnitude(bits) as i32;
                let minus = ((signs << (31 - bit)) ^ bits) as i32 >> 31;
                *m = magnitude;
                *q = negate_if(magnitude, minus);
            }
        }
        for pair in self.next.as_chunks::<2>().0 {
            let pair: u64 = bytemuck::cast(*pair);
            let (low, high) = (pair & 0xffff_ffff, pair >> 32);
            self.energy = self.energy.wrapping_add(low.wrapping_mul(low));
            self.energy = self.energy.wrapping_add(high.wrapping_mul(high));
        }
    }

    /// Multiplies by the Hadamard matrix of order 128, H_ij = (−1)^popcount(i & j): seven stages,
    /// one for each bit of the index. As |q| < 2²⁴, nothing reaches 2³¹.
    ///
    /// The first three transform the highest bit and put it lowest, which takes but additions and
    /// shuffles of whole registers; so then the other four bits are the row of eight values, and
    /// need no shuffles. The result for index 16 c + r ends in row r and column c of `next`.
    #[inline(always)]
    fn hadamard(&mut self) {
        let Self { block, next, .. } = self;
        stage_and_rotate(block, next);
        stage_and_rotate(next, block);
        stage_and_rotate(block, next);
        for part in next.as_chunks_mut::<32>().0 {
            two_stages::<8>(part);
        }
        two_stages::<32>(next);
    }

    /// Adds D' of the result.
    #[inline(always)]
    fn add(&mut self, signs: SignBits) {
        // The sign of row 15 on top of each column's bits, that of row 14 below it and so on.
        let mut columns = [0; 8];
        for (i, column) in columns.iter_mut().enumerate() {
            *column = ((signs[i / 4] >> (16 * (i % 4))) as i32) << 16;
        }
        let rows = self.next.as_chunks::<8>().0;
        for (sums, values) in self.sums.iter_mut().zip(rows).rev() {
            for ((sum, value), signs) in sums.iter_mut().zip(values).zip(&mut columns) {
                *sum = sum.wrapping_add(i64::from(negate_if(*value, *signs >> 31)));
                *signs <<= 1;
            }
        }
    }
}

#[inline(always)]
fn stage_and_rotate(block: &Block, next: &mut Block) {
    let (low, high) = block.split_at(SKETCH_LEN / 2);
    for ((pair, a), b) in next.as_chunks_mut::<2>().0.iter_mut().zip(low).zip(high) {
        *pair = [a.wrapping_add(*b), a.wrapping_sub(*b)];
    }
}

/// Of neighbours `STRIDE` and 2 `STRIDE` apart, in a part of four times that.
#[inline(always)]
fn two_stages<const STRIDE: usize>(part: &mut [i32]) {
    let (low, high) = part.split_at_mut(2 * STRIDE);
    let ((a, b), (c, d)) = (low.split_at_mut(STRIDE), high.split_at_mut(STRIDE));
    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
        let (ab, a_b) = (a.wrapping_add(*b), a.wrapping_sub(*b));
        let (cd, c_d) = (c.wrapping_add(*d), c.wrapping_sub(*d));
        (*a, *b) = (ab.wrapping_add(cd), a_b.wrapping_add(c_d));
        (*c, *d) = (ab.wrapping_sub(cd), a_b.wrapping_sub(c_d));
    }
}

/// `x` if `minus` is 0, −`x` if it is −1.
#[inline(always)]
fn negate_if(x: i32, minus: i32) -> i32 {
    (x ^ minus).wrapping_sub(minus)
}

//! Seeded sums over a delta: 128 whole numbers whose inner products are, up to noise, those of
//! the deltas themselves.
//!
//! A ±1 projection in the manner of Ailon and Chazelle's fast Johnson-Lindenstrauss transform
//! (SIAM J. Comput. 39, 2009). The delta, as whole numbers q ([`crate::fixed_point`]), is cut into
//! blocks of k = 128, the last one filled up with zeros, and
//!
//! ```text
//! P = Σ_b D'_b H D_b q_b
//! ```
//!
//! H is the Hadamard matrix of order k (entries ±1), D_b and D'_b are diagonal matrices of ±1
//! drawn from the seed for each block. Every entry of D'_b H D_b is ±1, so E Pᵢ² = |q|² and
//! E ⟨P, R⟩ = k ⟨q, r⟩. Within a block nothing is lost (H is orthogonal up to √k); between
//! blocks D' makes the signs independent at every output; D keeps a delta whose blocks look
//! like a row of H from falling onto one output. The relative error of |P|² is about √(2/k),
//! as of a dense ±1 matrix, at a cost of log₂ k additions a value, in one pass.
//!
//! All is whole numbers, so that any machine, any number of threads and a contract get the same.
//!
//! The seed must be unknown until the deltas are committed to: who knows it can make two
//! deltas with one sketch.

use convoke_protocol::ids::Digest;
use convoke_protocol::sketch::{CHUNK_VALUES, Norm, sums_leaf};
use pulp::Arch;
use rayon::prelude::*;

use crate::error::SketchError;
use crate::fixed_point::Scale;
use crate::kernel::{ChunkSums, SKETCH_LEN, project_chunk};
use crate::signs::ChunkSigns;
use crate::source::Source;
use crate::sums::Sums;
use crate::tensor_file::{ChunkBuffer, chunk_range};
use crate::tree::{RootStream, root};

/// The longest delta, in values. Each q is below 2²⁴, so the sums stay below 2⁶⁰ and 2⁸⁴.
pub const VALUES_MAX: u64 = 1 << 36;

/// What one pass over a delta gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sketched {
    /// The sums over all chunks.
    pub sums: Sums,
    /// Root of the tree over the sums of chunks 0 to c, for every c; all zeros if there are none.
    pub sums_root: Digest,
}

/// Number of chunks of a delta of `values`.
#[must_use]
pub fn chunk_count(values: u64) -> u64 {
    values.div_ceil(CHUNK_VALUES as u64)
}

/// The sums over all chunks, and the root of the tree over those of every prefix. One pass over
/// the delta, in parallel, in memory that does not grow with it.
///
/// # Errors
/// If it cannot be read or has more than [`VALUES_MAX`] values.
pub fn sketch(
    source: &(impl Source + ?Sized),
    seed: &Digest,
    clip: Norm,
) -> Result<Sketched, SketchError> {
    let count = chunk_count(source.count());
    let mut tree = RootStream::default();
    let sums = for_each_batch(source, seed, clip, |first, batch| {
        tree.push(root(sums_leaves(first, count, batch)));
    })?;
    let sums_root = tree.root();
    Ok(Sketched { sums, sums_root })
}

/// The sums over all chunks only.
///
/// # Errors
/// As [`sketch`].
pub fn project(
    source: &(impl Source + ?Sized),
    seed: &Digest,
    clip: Norm,
) -> Result<Sums, SketchError> {
    for_each_batch(source, seed, clip, |_, _| ())
}

/// Calls `visit` with the sums after each chunk, [`BATCH_CHUNKS`] at a time and in order, and the
/// index of the first of them. Returns the last sums.
pub(crate) fn for_each_batch(
    source: &(impl Source + ?Sized),
    seed: &Digest,
    clip: Norm,
    mut visit: impl FnMut(u64, &[Sums]),
) -> Result<Sums, SketchError> {
    let values = source.count();
    if values > VALUES_MAX {
        return Err(SketchError::TooLong { values });
    }
    let count = chunk_count(values);
    let mut sums = Sums::ZERO;
    for first in (0..count).step_by(BATCH_CHUNKS as usize) {
        let chunks = first..count.min(first + BATCH_CHUNKS);
        let parts = project_chunks(source, seed, clip, chunks)?;
        let batch: Vec<Sums> = parts
            .iter()
            .map(|part| {
                sums.add(part);
                sums
            })
            .collect();
        visit(first, &batch);
    }
    Ok(sums)
}

/// The leaves of sums of which the first are those after chunk `first`.
pub(crate) fn sums_leaves(first: u64, count: u64, batch: &[Sums]) -> Vec<Digest> {
    let leaf =
        |(offset, sums): (usize, &Sums)| sums_leaf(first + offset as u64, count, &sums.to_bytes());
    batch.par_iter().enumerate().map(leaf).collect()
}

/// Each of these chunks by itself, in parallel.
pub(crate) fn project_chunks(
    source: &(impl Source + ?Sized),
    seed: &Digest,
    clip: Norm,
    chunks: std::ops::Range<u64>,
) -> Result<Vec<ChunkSums>, SketchError> {
    let scale = Scale::of(clip);
    let values = source.count();
    let number = (chunks.end - chunks.start) as usize;
    (0..number)
        .into_par_iter()
        .map_init(ChunkBuffer::default, |buffer, offset| {
            let chunk = chunks.start + offset as u64;
            let values = source.get(chunk_range(chunk, CHUNK_VALUES, values), buffer)?;
            Ok(projected_chunk(values, seed, chunk, scale))
        })
        .collect()
}

/// Chunk number `chunk`, which has these values.
pub(crate) fn projected_chunk(
    values: &[f32],
    seed: &Digest,
    chunk: u64,
    scale: Scale,
) -> ChunkSums {
    let signs = ChunkSigns::new(seed, chunk);
    Arch::new().dispatch(
        #[inline(always)]
        || project_chunk(values, &signs, scale),
    )
}

/// Chunks done at once: a power of two, so that each batch is a subtree.
pub(crate) const BATCH_CHUNKS: u64 = 1_024;

const _: () = assert!(BATCH_CHUNKS.is_power_of_two());
const _: () = assert!(CHUNK_VALUES.is_multiple_of(SKETCH_LEN));

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

use std::ops::Range;

use convoke_protocol::ids::Digest;
use convoke_protocol::sketch::{CHUNK_VALUES, Norm};
use rayon::prelude::*;

use crate::error::SketchError;
use crate::fixed_point::Scale;
use crate::kernel::{ChunkTask, SKETCH_LEN};
use crate::signs::ChunkSigns;
use crate::source::Source;
use crate::sums::Sums;
use crate::tensor_file::ChunkBuffer;
use crate::tree::{RootStream, SUMS_TAG, leaves, root};

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
    let mut tree = RootStream::default();
    let sums = for_each_group(
        source,
        seed,
        clip,
        |leaves, _| root(leaves),
        |root| tree.push(root),
    )?;
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
    project_range(source, seed, clip, 0..checked_count(source)?)
}

/// The sums over these chunks.
pub(crate) fn project_range(
    source: &(impl Source + ?Sized),
    seed: &Digest,
    clip: Norm,
    chunks: Range<u64>,
) -> Result<Sums, SketchError> {
    groups(&chunks)
        .into_par_iter()
        .map_init(ChunkBuffer::default, |buffer, group| {
            let sums = project_group(source, seed, clip, group, buffer)?;
            Ok(sums.last().copied().unwrap_or(Sums::ZERO))
        })
        .try_reduce(|| Sums::ZERO, |a, b| Ok(a.plus(&b)))
}

/// Calls `map` with the leaves of the sums of each [`GROUP_CHUNKS`] chunks, and with the sums
/// after the last of them, in parallel, and then `take` with what it returns, in order. Returns
/// the sums over all.
pub(crate) fn for_each_group<T: Send>(
    source: &(impl Source + ?Sized),
    seed: &Digest,
    clip: Norm,
    map: impl Fn(Vec<Digest>, Sums) -> T + Sync,
    mut take: impl FnMut(T),
) -> Result<Sums, SketchError> {
    let count = checked_count(source)?;
    let mut total = Sums::ZERO;
    for first in (0..count).step_by((GROUP_CHUNKS * BATCH_GROUPS) as usize) {
        let batch = groups(&(first..count.min(first + GROUP_CHUNKS * BATCH_GROUPS)));
        let sums: Vec<Vec<Sums>> = batch
            .par_iter()
            .map_init(ChunkBuffer::default, |buffer, group| {
                project_group(source, seed, clip, group.clone(), buffer)
            })
            .collect::<Result<_, SketchError>>()?;
        let with_base = batch.iter().zip(&sums).map(|(group, sums)| {
            let base = total;
            total = sums.last().map_or(total, |last| total.plus(last));
            (group.start, base, sums)
        });
        let with_base: Vec<_> = with_base.collect();
        let mapped: Vec<T> = with_base
            .into_par_iter()
            .map(|(first, base, sums)| {
                let bytes: Vec<_> = sums.iter().map(|sums| base.plus(sums).to_bytes()).collect();
                let last = sums.last().map_or(base, |last| base.plus(last));
                map(leaves(SUMS_TAG, first, count, &bytes), last)
            })
            .collect();
        mapped.into_iter().for_each(&mut take);
    }
    Ok(total)
}

fn checked_count(source: &(impl Source + ?Sized)) -> Result<u64, SketchError> {
    let values = source.count();
    if values > VALUES_MAX {
        return Err(SketchError::TooLong { values });
    }
    Ok(chunk_count(values))
}

/// Cuts a range of chunks.
fn groups(chunks: &Range<u64>) -> Vec<Range<u64>> {
    let starts = chunks.clone().step_by(GROUP_CHUNKS as usize);
    starts
        .map(|start| start..chunks.end.min(start + GROUP_CHUNKS))
        .collect()
}

/// The sums after each of these chunks, counted from the first of them.
fn project_group(
    source: &(impl Source + ?Sized),
    seed: &Digest,
    clip: Norm,
    chunks: Range<u64>,
    buffer: &mut ChunkBuffer,
) -> Result<Vec<Sums>, SketchError> {
    let chunk_values = CHUNK_VALUES as u64;
    let range = chunks.start * chunk_values..source.count().min(chunks.end * chunk_values);
    let values = source.get(range, buffer)?.chunks(CHUNK_VALUES);
    let signs = ChunkSigns::of_chunks(seed, chunks);
    let scale = Scale::of(clip);
    let mut sums = Sums::ZERO;
    let tasks = values.zip(signs).map(|(values, signs)| {
        sums.add(
            &ChunkTask {
                values,
                signs,
                scale,
            }
            .run(),
        );
        sums
    });
    Ok(tasks.collect())
}

/// Chunks that one thread takes at once: a power of two, so that each group is a subtree.
pub(crate) const GROUP_CHUNKS: u64 = 16;

/// Groups in memory at once, each of 17 kB.
const BATCH_GROUPS: u64 = 64;

const _: () = assert!(GROUP_CHUNKS.is_power_of_two());
const _: () = assert!(CHUNK_VALUES.is_multiple_of(SKETCH_LEN));

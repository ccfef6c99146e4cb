//! The updates of a step: whose they are, and where their values come from.

use std::ops::Range;

use convoke_protocol::ids::{Address, BlobHash};
use convoke_protocol::message::Candidate;
use convoke_sketch::{ChunkBuffer, SketchError, Source};

use crate::filter::CLIP_ONE_PPM;

/// Updates with their deltas, all of one length.
pub struct Updates<'a> {
    deltas: Vec<&'a dyn Source>,
    trainers: Vec<Address>,
    names: Vec<BlobHash>,
    weights: Vec<f64>,
    clips: Vec<f64>,
}

impl<'a> Updates<'a> {
    /// At least one; deltas are of one length, and their values finite.
    #[must_use]
    pub fn new(updates: impl IntoIterator<Item = (&'a Candidate, &'a dyn Source)>) -> Self {
        let (candidates, deltas): (Vec<&Candidate>, _) = updates.into_iter().unzip();
        let clip = |c: &&Candidate| f64::from(c.clip_ppm) / f64::from(CLIP_ONE_PPM);
        Self {
            deltas,
            trainers: candidates.iter().map(|c| c.trainer).collect(),
            names: candidates.iter().map(|c| c.delta).collect(),
            weights: candidates.iter().map(|c| c.num_examples as f64).collect(),
            clips: candidates.iter().map(clip).collect(),
        }
    }

    /// N.
    #[must_use]
    pub fn count(&self) -> usize {
        self.deltas.len()
    }

    /// D: values of each delta.
    #[must_use]
    pub fn values(&self) -> u64 {
        self.deltas.first().map_or(0, Source::count)
    }

    /// Who sent each.
    #[must_use]
    pub fn trainers(&self) -> &[Address] {
        &self.trainers
    }

    /// Examples that each was trained on.
    #[must_use]
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// What each delta is scaled by before anything else, at most 1.
    #[must_use]
    pub fn clips(&self) -> &[f64] {
        &self.clips
    }

    /// A seed that nobody knew before all of the deltas were in: whatever their order.
    pub(super) fn seed(&self, purpose: &str) -> [u8; 32] {
        let mut names = self.names.clone();
        names.sort_unstable();
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        names.iter().for_each(|name| {
            hasher.update(&name.0);
        });
        *hasher.finalize().as_bytes()
    }

    pub(super) fn delta(&self, index: usize) -> &'a dyn Source {
        self.deltas[index]
    }

    /// Values of each of `rows` deltas that are in memory at once, for each thread: together they
    /// fit in a core's own cache.
    pub(super) fn chunk_values(rows: usize) -> usize {
        let fitting = CACHE_VALUES / rows.max(1);
        // The power of two below, so that chunks begin where pages and blocks of noise do.
        let power = (fitting + 1).next_power_of_two() / 2;
        power.clamp(CHUNK_VALUES_MIN, CHUNK_VALUES_MAX)
    }
}

/// One range of several deltas, in memory that is used again.
#[derive(Default)]
pub(super) struct Rows(Vec<ChunkBuffer>);

impl Rows {
    /// Reads the range of each source.
    pub(super) fn read<'a>(
        &'a mut self,
        sources: impl ExactSizeIterator<Item = &'a dyn Source>,
        range: &Range<u64>,
    ) -> Result<Vec<&'a [f32]>, SketchError> {
        self.read_scaled(sources.map(|source| (source, 1.0)), range)
    }

    /// Reads the range of each source, and scales the values by the number beside it.
    pub(super) fn read_scaled<'a>(
        &'a mut self,
        sources: impl ExactSizeIterator<Item = (&'a dyn Source, f32)>,
        range: &Range<u64>,
    ) -> Result<Vec<&'a [f32]>, SketchError> {
        if self.0.len() < sources.len() {
            self.0.resize_with(sources.len(), ChunkBuffer::default);
        }
        let scaled = sources.zip(&mut self.0).map(|((source, scale), buffer)| {
            if scale == 1.0 {
                return source.get(range.clone(), buffer);
            }
            let values = source.copy(range.clone(), buffer)?;
            values.iter_mut().for_each(|value| *value *= scale);
            Ok(&*values)
        });
        scaled.collect()
    }
}

/// Half a MiB of f32.
const CACHE_VALUES: usize = 1 << 17;
pub(super) const CHUNK_VALUES_MIN: usize = 1 << 10;
pub(super) const CHUNK_VALUES_MAX: usize = 1 << 16;

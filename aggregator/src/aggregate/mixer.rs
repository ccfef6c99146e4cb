//! The second pass: the aggregated delta, one range at a time.

use std::ops::Range;

use convoke_sketch::{SketchError, Source};

use super::noise::Noise;
use super::updates::{Rows, Updates};
use crate::kernels::{Selection, select, weighted_sum};
use crate::rules::Combination;

/// A [`Combination`] of certain updates, ready to be carried out.
pub struct Mixer<'a> {
    /// Updates that have a part in it.
    deltas: Vec<&'a dyn Source>,
    how: How,
}

enum How {
    /// With these coefficients, clipping included, and this noise.
    Sum(Vec<f64>, Noise),
    /// Of values that are scaled by these factors.
    Select(Vec<f32>, Selection),
}

/// A thread's memory for [`Mixer::mix`]: one chunk of each update.
#[derive(Default)]
pub struct MixerBuffers(Rows);

impl<'a> Mixer<'a> {
    /// Updates that have no part in the combination are never read. `seed` is that of the noise, if
    /// there is any.
    #[must_use]
    pub fn new(updates: &Updates<'a>, combination: &Combination, seed: [u8; 32]) -> Self {
        let clips = updates.clips();
        match combination {
            Combination::Sum { shares, noise } => {
                let shares = shares.iter().zip(clips).map(|(s, clip)| s.value() * clip);
                let with_part = || shares.clone().enumerate().filter(|(_, share)| *share > 0.0);
                Self {
                    deltas: with_part().map(|(index, _)| updates.delta(index)).collect(),
                    how: How::Sum(
                        with_part().map(|(_, share)| share).collect(),
                        Noise::of(*noise, updates.values(), seed),
                    ),
                }
            }
            Combination::Select { rows, selection } => Self {
                deltas: rows.iter().map(|index| updates.delta(*index)).collect(),
                how: How::Select(
                    rows.iter().map(|index| clips[*index] as f32).collect(),
                    *selection,
                ),
            },
        }
    }

    /// Values of a range that suits the caches.
    #[must_use]
    pub fn chunk_values(&self) -> usize {
        Updates::chunk_values(self.deltas.len())
    }

    /// The aggregated delta's values of `range`.
    ///
    /// # Shapes
    /// `out` is as long as `range`.
    ///
    /// # Errors
    /// If a delta cannot be read.
    pub fn mix(
        &self,
        range: Range<u64>,
        buffers: &mut MixerBuffers,
        out: &mut [f32],
    ) -> Result<(), SketchError> {
        match &self.how {
            How::Sum(shares, noise) => {
                let rows = buffers.0.read(self.deltas.iter().copied(), &range)?;
                weighted_sum(&rows, shares, out);
                noise.add(range.start, out);
            }
            How::Select(clips, selection) => {
                let clipped = self.deltas.iter().copied().zip(clips.iter().copied());
                let rows = buffers.0.read_scaled(clipped, &range)?;
                select(&rows, *selection, out);
            }
        }
        Ok(())
    }
}

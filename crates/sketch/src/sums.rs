//! The sums that chunks add up to, as they are hashed and opened.

use convoke_protocol::abi;

use crate::kernel::{ChunkSums, SKETCH_LEN};

/// Length of [`Sums::to_bytes`]: 33 words of 32 bytes.
pub const SUMS_BYTES: usize = 33 * 32;

/// Sums over the chunks of a delta, from the first to some last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    /// P: the projection of the values' whole numbers.
    pub lanes: [i64; SKETCH_LEN],
    /// E: the sum of their squares.
    pub energy: u128,
}

impl Sums {
    /// Over no chunk at all.
    pub const ZERO: Self = Self {
        lanes: [0; SKETCH_LEN],
        energy: 0,
    };

    /// Adds a chunk. Nothing overflows in a delta of at most
    /// [`VALUES_MAX`](crate::projection::VALUES_MAX) values.
    pub(crate) fn add(&mut self, chunk: &ChunkSums) {
        for (sum, lane) in self.lanes.iter_mut().zip(&chunk.lanes) {
            *sum += lane;
        }
        self.energy += u128::from(chunk.energy);
    }

    /// Of two parts of one delta.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        let mut sums = *self;
        for (sum, lane) in sums.lanes.iter_mut().zip(&other.lanes) {
            *sum += lane;
        }
        sums.energy += other.energy;
        sums
    }

    /// 33 words: four lanes a word, big-endian in two's complement, lane 0 first; then the energy
    /// as a uint256.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SUMS_BYTES] {
        let mut bytes = [0; SUMS_BYTES];
        let (lanes, energy) = bytes.split_at_mut(8 * SKETCH_LEN);
        for (bytes, lane) in lanes.as_chunks_mut::<8>().0.iter_mut().zip(&self.lanes) {
            *bytes = lane.to_be_bytes();
        }
        energy.copy_from_slice(&abi::number(self.energy));
        bytes
    }

    /// The sums of these bytes; `None` if the energy is 2¹²⁸ or more, which that of no delta is.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; SUMS_BYTES]) -> Option<Self> {
        let (lanes, energy) = bytes.split_at(8 * SKETCH_LEN);
        let mut sums = Self::ZERO;
        for (lane, bytes) in sums.lanes.iter_mut().zip(lanes.as_chunks::<8>().0) {
            *lane = i64::from_be_bytes(*bytes);
        }
        let (high, low) = energy.split_first_chunk::<16>()?;
        sums.energy = u128::from_be_bytes(*low.first_chunk()?);
        (*high == [0; 16]).then_some(sums)
    }
}

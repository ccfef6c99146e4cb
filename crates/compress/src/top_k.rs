//! The largest values of each block of 4,096 with their places, and zeros for the others (Aji &
//! Heafield 2017, arXiv:1704.05021; with error feedback: Stich et al. 2018, arXiv:1809.07599).
//!
//! A share of each block, not of the whole: the length is then fixed, blocks are encoded and
//! decoded apart, and no layer with small values is starved by one with large values. A block is
//! its k places as u16, rising, and then its k values as bf16: four bytes for each value kept.

use crate::bf16;
use crate::error::Flaw;
use crate::scheme::Scheme;
use crate::selection::{self, BLOCK, kept_of, largest, magnitude};

/// The codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopK {
    /// Millionths of the values that are kept, rounded up in each block.
    pub keep_ppm: u32,
}

/// Magnitudes and places of one block.
pub(crate) struct Memory {
    magnitudes: [i32; BLOCK],
    places: [u16; BLOCK],
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            magnitudes: [0; BLOCK],
            places: [0; BLOCK],
        }
    }
}

impl Scheme for TopK {
    const NUMBER: u16 = 3;
    const BLOCK: usize = selection::BLOCK;

    type Memory = Memory;

    #[inline(always)]
    fn block_bytes(&self, values: usize) -> usize {
        4 * kept_of(values, self.keep_ppm)
    }

    fn kept(&self) -> usize {
        kept_of(Self::BLOCK, self.keep_ppm)
    }

    #[inline(always)]
    fn encode_block(&self, values: &[f32], bytes: &mut [u8], memory: &mut Memory) {
        let magnitudes = &mut memory.magnitudes[..values.len()];
        for (to, value) in magnitudes.iter_mut().zip(values) {
            *to = magnitude(*value);
        }
        let places = &mut memory.places[..bytes.len() / 4];
        largest(magnitudes, places);
        let (first, second) = bytes.split_at_mut(2 * places.len());
        let pairs = first.as_chunks_mut::<2>().0.iter_mut();
        let pairs = pairs.zip(second.as_chunks_mut::<2>().0);
        for ((place_bytes, value_bytes), place) in pairs.zip(places) {
            *place_bytes = place.to_le_bytes();
            *value_bytes = bf16::round(values[usize::from(*place)]).to_le_bytes();
        }
    }

    #[inline(always)]
    fn decode_block(&self, bytes: &[u8], values: &mut [f32], _: &mut Memory) -> Result<(), Flaw> {
        values.fill(0.0);
        let (places, kept) = bytes.split_at(bytes.len() / 2);
        let mut least = 0;
        for (place, value) in places
            .as_chunks::<2>()
            .0
            .iter()
            .zip(kept.as_chunks::<2>().0)
        {
            let place = usize::from(u16::from_le_bytes(*place));
            let bits = u16::from_le_bytes(*value);
            if place < least {
                return Err(Flaw::Places);
            }
            if !bf16::is_finite(bits) {
                return Err(Flaw::Range);
            }
            *values.get_mut(place).ok_or(Flaw::Places)? = bf16::widen(bits);
            least = place + 1;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{block, normal};

    const TENTH: TopK = TopK { keep_ppm: 100_000 };

    #[test]
    fn the_largest_are_kept_and_the_others_zero() {
        let values = normal(1, 1_000);
        let decoded = block(&TENTH, &values).1.unwrap();
        let kept: Vec<usize> = (0..1_000).filter(|i| decoded[*i] != 0.0).collect();
        assert_eq!(kept.len(), 100);
        let least = kept
            .iter()
            .map(|i| values[*i].abs())
            .fold(f32::MAX, f32::min);
        for (index, (value, decoded)) in values.iter().zip(&decoded).enumerate() {
            match kept.contains(&index) {
                true => assert!((value - decoded).abs() <= value.abs() / 256.0),
                false => assert!(value.abs() <= least),
            }
        }
    }

    #[test]
    fn places_that_do_not_rise_or_lie_outside_are_refused() {
        let (bytes, _) = block(&TENTH, &normal(2, 30));
        for places in [[5u16, 5, 6], [6, 5, 7], [1, 2, 30], [1, 2, u16::MAX]] {
            let mut bytes = bytes.clone();
            for (to, place) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(places) {
                *to = place.to_le_bytes();
            }
            let decoded = TENTH.decode_block(&bytes, &mut [0.0; 30], &mut Memory::default());
            assert_eq!(decoded, Err(Flaw::Places), "{places:?}");
        }
    }

    #[test]
    fn what_is_not_finite_is_sent_and_refused() {
        for value in [f32::NAN, f32::INFINITY] {
            let mut values = normal(3, 500);
            values[77] = value;
            assert_eq!(block(&TENTH, &values).1, Err(Flaw::Range));
        }
    }
}

//! The signs of the largest coefficients of a cosine transform: what DeMo and DisTrO send (Peng,
//! Quesnelle & Kingma 2024, arXiv:2411.19870).
//!
//! A block of 4,096 values is 64 segments of 64, each transformed by an orthonormal DCT-II. Of the
//! block's coefficients the k of largest magnitude are kept, as signs, with one amplitude for all
//! of them: their mean magnitude, which is what signs approximate them best by in the sense of
//! least squares. (DeMo takes the sign of the sum of all workers' coefficients instead; here each
//! update must have a norm of its own, to be clipped and compared.) What the signs lose, error
//! feedback brings back in later rounds (Karimireddy et al. 2019, arXiv:1901.09847).
//!
//! A block is the amplitude as f32 and k numbers of 16 bits, rising but for their highest bit:
//! that is the sign, the others are the place. The last block is filled up with zeros.

use crate::dct::{LANES, SEGMENT, Segments};
use crate::error::Flaw;
use crate::scheme::Scheme;
use crate::selection::{self, BLOCK, kept_of, largest, magnitude};

/// The codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DctSign {
    /// Millionths of the coefficients that are kept, rounded up in each block.
    pub keep_ppm: u32,
}

const AMPLITUDE_BYTES: usize = 4;

/// 64 coefficients of this size, and what the inverse makes of them on its way, are finite.
const AMPLITUDE_MAX: f32 = f32::MAX / (1 << 20) as f32;

const SIGN: u16 = 0x8000;

/// Coefficients, magnitudes and places of one block.
pub(crate) struct Memory {
    coefficients: [f32; BLOCK],
    magnitudes: [i32; BLOCK],
    places: [u16; BLOCK],
    segments: Segments,
    spare: Segments,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            coefficients: [0.0; BLOCK],
            magnitudes: [0; BLOCK],
            places: [0; BLOCK],
            segments: Segments::default(),
            spare: Segments::default(),
        }
    }
}

impl Scheme for DctSign {
    const NUMBER: u16 = 4;
    const BLOCK: usize = selection::BLOCK;

    type Memory = Memory;

    #[inline(always)]
    fn block_bytes(&self, values: usize) -> usize {
        AMPLITUDE_BYTES + 2 * kept_of(values, self.keep_ppm)
    }

    fn kept(&self) -> usize {
        kept_of(Self::BLOCK, self.keep_ppm)
    }

    #[inline(always)]
    fn encode_block(&self, values: &[f32], bytes: &mut [u8], memory: &mut Memory) {
        let length = values.len().next_multiple_of(SEGMENT);
        memory.transform(values);
        let coefficients = &memory.coefficients[..length];
        let magnitudes = &mut memory.magnitudes[..length];
        for (to, coefficient) in magnitudes.iter_mut().zip(coefficients) {
            *to = magnitude(*coefficient);
        }
        let (head, bytes) = bytes.split_at_mut(AMPLITUDE_BYTES);
        let places = &mut memory.places[..bytes.len() / 2];
        largest(magnitudes, places);
        let sum: f64 = places
            .iter()
            .map(|place| f64::from(coefficients[usize::from(*place)].abs()))
            .sum();
        // NaN and infinity stay, and are refused.
        let amplitude = (sum / places.len() as f64) as f32;
        head.copy_from_slice(&amplitude.to_le_bytes());
        for (bytes, place) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(places) {
            let is_negative = coefficients[usize::from(*place)].is_sign_negative();
            *bytes = (*place | if is_negative { SIGN } else { 0 }).to_le_bytes();
        }
    }

    #[inline(always)]
    fn decode_block(
        &self,
        bytes: &[u8],
        values: &mut [f32],
        memory: &mut Memory,
    ) -> Result<(), Flaw> {
        let length = values.len().next_multiple_of(SEGMENT);
        let (head, bytes) = bytes.split_at(AMPLITUDE_BYTES);
        let amplitude = f32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        // Written so that NaN fails.
        if !(0.0..=AMPLITUDE_MAX).contains(&amplitude) {
            return Err(Flaw::Range);
        }
        memory.coefficients.fill(0.0);
        let mut least = 0;
        for number in bytes.as_chunks::<2>().0 {
            let number = u16::from_le_bytes(*number);
            let place = usize::from(number & !SIGN);
            if place < least || place >= length {
                return Err(Flaw::Places);
            }
            let sign = u32::from(number & SIGN) << 16;
            memory.coefficients[place] = f32::from_bits(amplitude.to_bits() | sign);
            least = place + 1;
        }
        memory.untransform(values);
        Ok(())
    }
}

impl Memory {
    /// Transforms a block's segments; what it lacks is zero.
    #[inline(always)]
    fn transform(&mut self, values: &[f32]) {
        self.coefficients[values.len()..].fill(0.0);
        self.coefficients[..values.len()].copy_from_slice(values);
        for eight in self.coefficients.as_chunks_mut::<{ LANES * SEGMENT }>().0 {
            load(eight, &mut self.segments);
            self.segments.forward(&mut self.spare);
            store(&self.segments, eight);
        }
    }

    /// Makes a block of its coefficients, which are lost.
    #[inline(always)]
    fn untransform(&mut self, values: &mut [f32]) {
        for eight in self.coefficients.as_chunks_mut::<{ LANES * SEGMENT }>().0 {
            load(eight, &mut self.segments);
            self.segments.inverse(&mut self.spare);
            store(&self.segments, eight);
        }
        values.copy_from_slice(&self.coefficients[..values.len()]);
    }
}

#[inline(always)]
fn load(values: &[f32; LANES * SEGMENT], segments: &mut Segments) {
    for (j, lanes) in segments.0.iter_mut().enumerate() {
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane = values[SEGMENT * i + j];
        }
    }
}

#[inline(always)]
fn store(segments: &Segments, values: &mut [f32; LANES * SEGMENT]) {
    for (i, segment) in values.as_chunks_mut::<SEGMENT>().0.iter_mut().enumerate() {
        for (value, lanes) in segment.iter_mut().zip(&segments.0) {
            *value = lanes[i];
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{block, normal};

    const TENTH: DctSign = DctSign { keep_ppm: 100_000 };

    #[test]
    fn a_wave_is_its_own_transform() {
        // Three segments of one cosine each, of equal amplitude: three coefficients say it all.
        let wave = |n: usize| {
            let (segment, n) = (n / SEGMENT, n % SEGMENT);
            let k = [3.0, 17.0, 60.0][segment];
            (std::f64::consts::PI * k * (n as f64 + 0.5) / 64.0).cos() as f32
        };
        let values: Vec<f32> = (0..3 * SEGMENT).map(wave).collect();
        let codec = DctSign { keep_ppm: 15_000 };
        let (bytes, decoded) = block(&codec, &values);
        assert_eq!(bytes.len(), 4 + 2 * 3);
        for (value, decoded) in values.iter().zip(decoded.unwrap()) {
            assert!((value - decoded).abs() < 1e-5, "{value} {decoded}");
        }
    }

    #[test]
    fn signs_point_where_the_values_do() {
        let values = normal(1, BLOCK - 100);
        let decoded = block(&TENTH, &values).1.unwrap();
        let dot =
            |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum() };
        let cosine =
            dot(&values, &decoded) / (dot(&values, &values) * dot(&decoded, &decoded)).sqrt();
        // The largest tenth of normal values has 0.44 of their energy, nearly all of it in signs.
        assert!((0.6..0.7).contains(&cosine), "{cosine}");
    }

    #[test]
    fn amplitudes_and_places_out_of_range_are_refused() {
        let (bytes, _) = block(&TENTH, &normal(2, 30));
        let decode =
            |bytes: &[u8]| TENTH.decode_block(bytes, &mut [0.0; 30], &mut Memory::default());
        for amplitude in [f32::NAN, f32::INFINITY, -1.0, f32::MAX] {
            let mut bytes = bytes.clone();
            bytes[..4].copy_from_slice(&amplitude.to_le_bytes());
            assert_eq!(decode(&bytes), Err(Flaw::Range), "{amplitude}");
        }
        for places in [[5u16, 5, 6], [5, 5 | SIGN, 6], [6, 5, 7], [1, 2, 64]] {
            let mut bytes = bytes.clone();
            for (to, place) in bytes[4..].as_chunks_mut::<2>().0.iter_mut().zip(places) {
                *to = place.to_le_bytes();
            }
            assert_eq!(decode(&bytes), Err(Flaw::Places), "{places:?}");
        }
    }

    #[test]
    fn the_largest_amplitude_stays_finite() {
        let mut bytes = block(&DctSign { keep_ppm: 500_000 }, &normal(3, BLOCK)).0;
        bytes[..4].copy_from_slice(&AMPLITUDE_MAX.to_le_bytes());
        let mut values = vec![0.0; BLOCK];
        let codec = DctSign { keep_ppm: 500_000 };
        codec
            .decode_block(&bytes, &mut values, &mut Memory::default())
            .unwrap();
        assert!(values.iter().all(|v| v.is_finite()));
        assert_eq!(block(&codec, &[f32::MAX; 99]).1, Err(Flaw::Range));
    }
}

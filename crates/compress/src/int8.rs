//! Whole numbers from −127 to 127 and a scale for each block of 256 values:
//!
//! ```text
//! s = max |x| / 127        q = round(x / s)        x' = q s
//! ```
//!
//! The error of a value is half a 127th of the largest in its block. A block is an f32 and a byte
//! for each value.

use crate::error::Flaw;
use crate::scheme::Scheme;

/// The codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Int8;

const SCALE_BYTES: usize = 4;

/// So that 127 scales are finite.
const SCALE_MAX: f32 = f32::MAX / 128.0;

/// Adding this leaves a number below 2²² as a whole one in the lowest bits, rounded to nearest.
const WHOLE: f32 = 12_582_912.0;

impl Scheme for Int8 {
    const NUMBER: u16 = 2;
    const BLOCK: usize = 256;

    type Memory = ();

    #[inline(always)]
    fn block_bytes(&self, values: usize) -> usize {
        SCALE_BYTES + values
    }

    fn kept(&self) -> usize {
        Self::BLOCK
    }

    #[inline(always)]
    fn encode_block(&self, values: &[f32], bytes: &mut [u8], (): &mut ()) {
        // As whole numbers, so that NaN is the largest and is not overlooked.
        let largest = values
            .iter()
            .fold(0, |most, v| most.max(v.to_bits() & 0x7fff_ffff));
        let scale = scale_of(f32::from_bits(largest));
        let inverse = match scale > 0.0 {
            true => 1.0 / scale,
            false => 0.0,
        };
        let (head, bytes) = bytes.split_at_mut(SCALE_BYTES);
        head.copy_from_slice(&scale.to_le_bytes());
        for (byte, value) in bytes.iter_mut().zip(values) {
            let level = (value * inverse).clamp(-127.0, 127.0);
            *byte = (level + WHOLE).to_bits() as u8;
        }
    }

    #[inline(always)]
    fn decode_block(&self, bytes: &[u8], values: &mut [f32], (): &mut ()) -> Result<(), Flaw> {
        let (head, bytes) = bytes.split_at(SCALE_BYTES);
        let scale = f32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        // Written so that NaN fails.
        if !(0.0..=SCALE_MAX).contains(&scale) {
            return Err(Flaw::Range);
        }
        let mut least = 0;
        for (byte, value) in bytes.iter().zip(values) {
            let level = *byte as i8;
            least = least.min(level);
            *value = f32::from(level) * scale;
        }
        if least < -127 {
            return Err(Flaw::Range);
        }
        Ok(())
    }
}

/// Zero for a block of next to nothing, whose scale would not be exact; what is not finite stays
/// so.
#[inline(always)]
fn scale_of(largest: f32) -> f32 {
    if !largest.is_finite() {
        return f32::NAN;
    }
    let scale = largest / 127.0;
    match scale >= f32::MIN_POSITIVE {
        true => scale.min(SCALE_MAX),
        false => 0.0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{block, normal};

    #[test]
    fn the_error_is_half_a_level_at_most() {
        let values = normal(1, Int8::BLOCK);
        let largest = values.iter().fold(0f32, |most, v| most.max(v.abs()));
        let (_, decoded) = block(&Int8, &values);
        for (value, decoded) in values.iter().zip(decoded.unwrap()) {
            assert!((value - decoded).abs() <= 0.501 * largest / 127.0);
        }
    }

    #[test]
    fn extremes_stay_finite() {
        let tiny = f32::from_bits(1);
        for largest in [f32::MAX, f32::MIN_POSITIVE, tiny, 0.0] {
            let (_, decoded) = block(&Int8, &[largest, -largest, 0.0]);
            let decoded = decoded.unwrap();
            assert!(decoded.iter().all(|v| v.is_finite()), "{decoded:?}");
            assert!(decoded[0].abs() <= largest, "{largest}");
        }
    }

    #[test]
    fn scales_and_levels_out_of_range_are_refused() {
        let (bytes, _) = block(&Int8, &normal(2, 5));
        for scale in [f32::NAN, f32::INFINITY, -1.0, f32::MAX] {
            let mut bytes = bytes.clone();
            bytes[..4].copy_from_slice(&scale.to_le_bytes());
            let decoded = Int8.decode_block(&bytes, &mut [0.0; 5], &mut ());
            assert_eq!(decoded, Err(Flaw::Range), "{scale}");
        }
        let mut bytes = bytes;
        bytes[8] = 0x80;
        let decoded = Int8.decode_block(&bytes, &mut [0.0; 5], &mut ());
        assert_eq!(decoded, Err(Flaw::Range));
    }
}

//! The upper half of each value: sign, exponent and seven bits of fraction (bfloat16), rounded to
//! nearest, ties to even. The relative error is 2⁻⁹ at most. Values that would round to infinity
//! become the largest that do not.

use crate::error::Flaw;
use crate::scheme::Scheme;

/// The codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bf16;

impl Scheme for Bf16 {
    const NUMBER: u16 = 1;
    const BLOCK: usize = 4_096;

    type Memory = ();

    #[inline(always)]
    fn block_bytes(&self, values: usize) -> usize {
        2 * values
    }

    fn kept(&self) -> usize {
        Self::BLOCK
    }

    #[inline(always)]
    fn encode_block(&self, values: &[f32], bytes: &mut [u8], (): &mut ()) {
        for (bytes, value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(values) {
            *bytes = round(*value).to_le_bytes();
        }
    }

    #[inline(always)]
    fn decode_block(&self, bytes: &[u8], values: &mut [f32], (): &mut ()) -> Result<(), Flaw> {
        let mut largest = 0;
        for (bytes, value) in bytes.as_chunks::<2>().0.iter().zip(values) {
            let bits = u16::from_le_bytes(*bytes);
            largest = largest.max(bits & MAGNITUDE);
            *value = widen(bits);
        }
        if largest < INFINITY {
            Ok(())
        } else {
            Err(Flaw::Range)
        }
    }
}

/// The nearest bf16; NaN and infinity stay out of range.
#[inline(always)]
pub(crate) fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let even = (magnitude >> 16) & 1;
    // No carry can reach the sign: 2³¹ − 1 + 2¹⁵ fits.
    let rounded = (magnitude + 0x7fff + even) >> 16;
    let finite = rounded.min(u32::from(LARGEST));
    let magnitude = match magnitude < u32::from(INFINITY) << 16 {
        true => finite,
        false => u32::from(INFINITY),
    };
    ((bits >> 16) & 0x8000 | magnitude) as u16
}

/// The f32 with these upper bits.
#[inline(always)]
pub(crate) fn widen(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Whether these are the bits of a finite value.
#[inline(always)]
pub(crate) fn is_finite(bits: u16) -> bool {
    bits & MAGNITUDE < INFINITY
}

const MAGNITUDE: u16 = 0x7fff;
const INFINITY: u16 = 0x7f80;
const LARGEST: u16 = 0x7f7f;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_to_the_nearest_even() {
        for (value, expected) in [
            (1.0, 1.0),
            (1.0 + 2f32.powi(-8), 1.0),
            (1.0 + 3.0 * 2f32.powi(-8), 1.0 + 2f32.powi(-6)),
            (1.0 + 1.1 * 2f32.powi(-8), 1.0 + 2f32.powi(-7)),
            (-0.0, -0.0),
            (f32::MAX, widen(LARGEST)),
            (f32::MIN, -widen(LARGEST)),
        ] {
            assert_eq!(
                widen(round(value)).to_bits(),
                f32::to_bits(expected),
                "{value}"
            );
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        let nan = f32::from_bits(0x7fff_ffff);
        for value in [f32::NAN, nan, -nan, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!is_finite(round(value)));
        }
    }
}

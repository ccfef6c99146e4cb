//! Values as whole numbers, relative to the clipping norm.
//!
//! q = trunc(v · 2^S), at most [`Q_MAX`] in magnitude, where S is such that the clipping norm
//! becomes a number in [2²¹, 2²²). It is defined by the bits of binary32 alone, so that a
//! contract gets the same: with biased exponent E and mantissa m (with its leading one, unless
//! E = 0), |q| is m shifted right by E_T + 2 − max(E, 1), or `Q_MAX` if that is negative.

use convoke_protocol::sketch::Norm;

/// The largest magnitude, 2²⁴ − 1.
pub const Q_MAX: u32 = (1 << 24) - 1;

/// One scale for all deltas of a round: that of its clipping norm's exponent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// The clipping norm's biased exponent plus 2.
    shift: i32,
}

impl Scale {
    /// The scale that goes with a clipping norm. That of zero is the one of the smallest norms,
    /// and of no consequence: its sketches are zero.
    #[must_use]
    pub fn of(clip: Norm) -> Self {
        // Eight bits.
        let shift = clip.exponent() as i32 + 2;
        Self { shift }
    }

    /// |q| of the f32 with these bits. Bits of NaN and infinity are taken as if the exponent 255
    /// were one like others.
    #[inline(always)]
    pub(crate) fn magnitude(self, bits: u32) -> u32 {
        let unsigned = bits & 0x7fff_ffff;
        let exponent = (unsigned >> 23).max(1);
        // With its leading one, unless the exponent was 0.
        let mantissa = unsigned - ((exponent - 1) << 23);
        let right = self.shift - exponent as i32;
        let small = mantissa.checked_shr(right as u32).unwrap_or(0);
        if right < 0 { Q_MAX } else { small }
    }

    /// The whole number of a value, −`Q_MAX` to `Q_MAX`.
    #[must_use]
    pub fn whole(self, value: f32) -> i32 {
        let magnitude = self.magnitude(value.to_bits()) as i32;
        if value.is_sign_negative() {
            -magnitude
        } else {
            magnitude
        }
    }
}

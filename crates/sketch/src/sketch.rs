//! Sketches: the sums, rounded to a byte each, and what is said of the norm.

use convoke_protocol::sketch::Norm;
pub use convoke_protocol::sketch::Sketch;
use ruint::Uint;
use ruint::aliases::U256;

use crate::sums::Sums;

/// Rounds the sums of a delta of norm `norm` to its sketch, 32 P / (L 2^S) with L the greater of
/// both norms: sketches of different trainers can be compared, and a delta above the clipping
/// norm counts as if it were clipped to it. Halves are rounded away from zero, and what does not
/// fit is ±127. All zeros if the clipping norm is zero.
///
/// With L = m · 2^(d + E_T − 150) and Q = m · 2^d, that is round(128 P / Q).
#[must_use]
pub fn quantize(sums: &Sums, norm: Norm, clip: Norm) -> Sketch {
    if clip == Norm::ZERO {
        return Sketch::ZERO;
    }
    let larger = norm.max(clip);
    let doublings = larger.exponent() - clip.exponent();
    // Q is 2⁸⁷ then, and 128 |P| at most 2⁷⁰.
    if doublings > 64 {
        return Sketch::ZERO;
    }
    let unit = u128::from(larger.mantissa()) << doublings;
    Sketch(sums.lanes.map(|lane| {
        let rounded = (256 * u128::from(lane.unsigned_abs()) + unit) / (2 * unit);
        // Clamped first, so it fits.
        let magnitude = rounded.min(127) as i8;
        if lane < 0 { -magnitude } else { magnitude }
    }))
}

/// Whether the values' energy E is more than a norm `norm` allows:
/// E > (128/127) (norm · 2^S)², exactly. Whole numbers are never larger than the values that they
/// stand for, so this blames nobody whose norm was rounded to single precision.
#[must_use]
pub fn is_under_declared(energy: u128, norm: Norm, clip: Norm) -> bool {
    energy_exceeds(U256::from(energy), norm, clip)
}

/// As [`is_under_declared`], of any uint256: 16 · 127 · E > 128 · m² · 2^(2 (E_N − E_T)).
pub(crate) fn energy_exceeds(energy: U256, norm: Norm, clip: Norm) -> bool {
    let mantissa = Wide::from(norm.mantissa());
    let mut energy = Wide::from(energy) * Wide::from(16 * 127);
    let mut allowed = Wide::from(128) * mantissa * mantissa;
    let (above, below) = (norm.exponent(), clip.exponent());
    allowed <<= 2 * above.saturating_sub(below) as usize;
    energy <<= 2 * below.saturating_sub(above) as usize;
    energy > allowed
}

/// Exponents are at most 254 apart: 256 + 11 + 508 bits are the most that is needed.
type Wide = Uint<1024, 16>;

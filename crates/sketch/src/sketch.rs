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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use convoke_protocol::sketch::SKETCH_LEN;

    fn sums(first: &[i64]) -> Sums {
        let mut sums = Sums::ZERO;
        sums.lanes[..first.len()].copy_from_slice(first);
        sums
    }

    fn bits(norm: f64) -> Norm {
        Norm::of(norm)
    }

    /// At T = 1, Q is 2²³: 1 is 2¹⁶ and a half 2¹⁵.
    #[test]
    fn halves_are_rounded_away_from_zero_and_the_ends_are_alike() {
        let (half, one) = (1 << 15, 1 << 16);
        let lanes = [
            0,
            half - 1,
            half,
            one,
            3 * half - 1,
            3 * half,
            126 * one + half,
            127 * one,
            i64::MAX,
        ];
        let expected = [0, 0, 1, 1, 1, 2, 127, 127, 127];
        let sketch = quantize(&sums(&lanes), bits(0.5), bits(1.0));
        assert_eq!(sketch.0[..9], expected);
        let negative = quantize(&sums(&lanes.map(|lane| -lane)), bits(1.0), bits(1.0));
        assert_eq!(negative.0[..9], expected.map(|value: i8| -value));
        assert_eq!(
            quantize(&sums(&[i64::MIN]), bits(1.0), bits(1.0)).0[0],
            -127
        );
    }

    #[test]
    fn above_the_clipping_norm_it_is_clipped_and_below_it_is_not() {
        let sums = sums(&[40 << 16]);
        let of = |norm, clip| quantize(&sums, bits(norm), bits(clip)).0[0];
        assert_eq!(of(1.0, 1.0), 40);
        assert_eq!(of(0.0, 1.0), 40);
        assert_eq!(of(2.0, 1.0), 20);
        assert_eq!(of(3.0, 1.0), 13);
        assert_eq!(of(8.0, 1.0), 5);
        assert_eq!(of(1.0, 0.0), 0);
        assert_eq!(of(f64::from(f32::MAX), 1e-37), 0);
        // Sums are relative to the power of two below the clipping norm.
        assert_eq!(of(1.0, 1.25), 32);
    }

    #[test]
    fn the_norm_may_be_declared_a_little_too_low() {
        // N = T = 1 allows 128/127 · 2⁴².
        let limit = (128u128 << 42) / 127;
        assert!(!is_under_declared(limit, bits(1.0), bits(1.0)));
        assert!(is_under_declared(limit + 1, bits(1.0), bits(1.0)));
        let limit = (128u128 << 46) / 127;
        assert!(!is_under_declared(limit, bits(4.0), bits(1.0)));
        assert!(is_under_declared(limit + 1, bits(4.0), bits(1.0)));
        let limit = (128u128 << 38) / 127;
        assert!(!is_under_declared(limit, bits(0.25), bits(1.0)));
        assert!(is_under_declared(limit + 1, bits(0.25), bits(1.0)));
        let largest = f64::from(f32::MAX);
        assert!(!is_under_declared(u128::MAX, bits(largest), bits(2e-38)));
        assert!(is_under_declared(1, bits(2e-38), bits(largest)));
        assert!(!is_under_declared(0, bits(2e-38), bits(largest)));
        assert!(!is_under_declared(0, Norm::ZERO, bits(largest)));
        assert!(is_under_declared(1, Norm::ZERO, bits(largest)));
    }

    fn a_norm() -> impl Strategy<Value = Norm> {
        (1u32 << 23..0x7f80_0000).prop_map(|bits| Norm::from_bits(bits).unwrap())
    }

    proptest! {
        /// round(32 P / (L 2^S)) in floating point, but for ties.
        #[test]
        fn quantized_is_scaled_and_rounded(
            lane in -(1i64 << 60)..1 << 60,
            shift in 0u32..60,
            norm in a_norm(),
            clip in a_norm(),
        ) {
            let lane = lane >> shift;
            let sketch = quantize(&sums(&[lane]), norm, clip);
            let power = 148 - i32::try_from(clip.exponent()).unwrap();
            let scaled = 32.0 * lane as f64 / norm.max(clip).value() / 2f64.powi(power);
            let error = f64::from(sketch.0[0]) - scaled.clamp(-127.0, 127.0);
            prop_assert!(error.abs() <= 0.500_001, "{scaled} {sketch:?}");
        }

        /// What was measured never counts as under-declared, however it was rounded.
        #[test]
        fn a_measured_norm_is_not_under_declared(
            // The norm of so many must be a number.
            values in prop::collection::vec(any::<f32>().prop_map(|v| v / 64.0), 1..300),
            clip in a_norm(),
        ) {
            let norm = crate::inspect::measure(&values[..]).unwrap().unwrap().norm;
            let seed = convoke_protocol::ids::Digest([1; 32]);
            let sums = crate::projection::project(&values[..], &seed, clip).unwrap();
            prop_assert!(!is_under_declared(sums.energy, norm, clip));
        }

        #[test]
        fn inner_products_are_symmetric_and_bounded(
            a in prop::collection::vec(any::<i8>(), SKETCH_LEN),
            b in prop::collection::vec(any::<i8>(), SKETCH_LEN),
        ) {
            let [a, b] = [a, b].map(|v| Sketch(v.try_into().unwrap()));
            prop_assert_eq!(a.dot(&b), b.dot(&a));
            prop_assert!(a.dot(&a) >= 0 && a.dot(&b).abs() <= 1 << 21);
        }

        #[test]
        fn sums_come_back_from_their_bytes(
            lanes in prop::collection::vec(any::<i64>(), SKETCH_LEN),
            energy in any::<u128>(),
        ) {
            let sums = Sums { lanes: lanes.try_into().unwrap(), energy };
            prop_assert_eq!(Sums::from_bytes(&sums.to_bytes()), Some(sums));
        }
    }
}

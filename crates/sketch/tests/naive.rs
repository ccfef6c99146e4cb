//! The projection against its definition, written down once more with a dense matrix and wide
//! integers.
#![allow(clippy::unwrap_used)]

use convoke_protocol::identity::keccak;
use convoke_protocol::ids::Digest;
use convoke_protocol::sketch::Norm;
use convoke_sketch::{Sums, project, sketch};
use proptest::prelude::*;

/// By cases, as the contract has it.
fn whole(value: f32, clip: Norm) -> i128 {
    let bits = value.to_bits();
    let (exponent, fraction) = ((bits >> 23) & 255, bits & 0x7f_ffff);
    let mantissa = if exponent == 0 {
        fraction
    } else {
        fraction + (1 << 23)
    };
    let shift = i64::from(exponent.max(1)) - i64::from(clip.exponent()) - 2;
    let magnitude = match shift {
        1.. if mantissa > 0 => (1 << 24) - 1,
        -23..=0 => i128::from(mantissa >> -shift),
        _ => 0,
    };
    if value.is_sign_negative() {
        -magnitude
    } else {
        magnitude
    }
}

/// The bits of D and D′ for the block that value number `index` of the delta is in.
fn signs(seed: &Digest, index: usize) -> [[u64; 2]; 2] {
    let (chunk, block) = (index / 2_048, index % 2_048 / 128);
    let mut number = [0; 32];
    number[24..].copy_from_slice(&(chunk as u64).to_be_bytes());
    let hash = keccak(&[&seed.0, &number]).0;
    let word = |j: usize| {
        let key = u64::from_be_bytes(hash[8 * j..8 * j + 8].try_into().unwrap());
        let gamma = 0x9E37_79B9_7F4A_7C15u64;
        let mut z = key.wrapping_add(gamma.wrapping_mul(block as u64));
        z ^= z >> 30;
        z = z.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z ^= z >> 27;
        z = z.wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    [[word(0), word(1)], [word(2), word(3)]]
}

/// Row `row` of D′ H D at value number `index` of the delta.
fn entry([d, d_after]: &[[u64; 2]; 2], row: usize, index: usize) -> i128 {
    let column = index % 128;
    let minus = |bits: &[u64; 2], bit: usize| (bits[bit / 64] >> (bit % 64)) as u32 & 1;
    let hadamard = (row & column).count_ones();
    match (minus(d, column) + minus(d_after, row) + hadamard) % 2 {
        0 => 1,
        _ => -1,
    }
}

fn naive(values: &[f32], seed: &Digest, clip: Norm) -> Sums {
    let whole: Vec<i128> = values.iter().map(|v| whole(*v, clip)).collect();
    let mut sums = Sums::ZERO;
    let mut lanes = [0i128; 128];
    for (index, q) in whole.iter().enumerate() {
        let signs = signs(seed, index);
        for (row, lane) in lanes.iter_mut().enumerate() {
            *lane += q * entry(&signs, row, index);
        }
    }
    sums.lanes = lanes.map(|lane| lane.try_into().unwrap());
    sums.energy = whole.iter().map(|q| q.unsigned_abs().pow(2)).sum();
    sums
}

fn same(values: &[f32], seed: &Digest, clip: Norm) -> Result<(), TestCaseError> {
    let expected = naive(values, seed, clip);
    prop_assert_eq!(project(values, seed, clip).unwrap(), expected);
    prop_assert_eq!(sketch(values, seed, clip).unwrap().sums, expected);
    Ok(())
}

#[test]
fn short_and_long_and_extreme_deltas() {
    let clip = Norm::of(3.0);
    let special = [
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        -f32::from_bits(0x7f_ffff),
        0.0,
        -0.0,
        2.0,
        15.999_999,
        16.0,
        -16.0,
        17.0,
        2f32.powi(-20),
        1.5 * 2f32.powi(-20),
        0.999_999_94 * 2f32.powi(-20),
    ];
    for length in [0, 1, 127, 128, 129, 2_047, 2_048, 2_049, 4_096, 4_500] {
        let values: Vec<f32> = special.iter().cycle().copied().take(length).collect();
        same(&values, &Digest([7; 32]), clip).unwrap();
        for value in [f32::MAX, f32::MIN] {
            same(&vec![value; length], &Digest([8; 32]), clip).unwrap();
        }
    }
}

/// Around the clamp and around one: values whose whole numbers are known.
#[test]
fn whole_numbers_at_the_boundaries() {
    let scale = convoke_sketch::fixed_point::Scale::of(Norm::of(1.0));
    let one = 2f32.powi(-21);
    for (value, expected) in [
        (one, 1),
        (one.next_down(), 0),
        (one.next_up(), 1),
        (2.0 * one, 2),
        ((2.0 * one).next_down(), 1),
        (1.0, 1 << 21),
        (1f32.next_down(), (1 << 21) - 1),
        (8f32.next_down(), (1 << 24) - 1),
        (8.0, (1 << 24) - 1),
        (8f32.next_up(), (1 << 24) - 1),
        (4.0, 1 << 23),
        (f32::MAX, (1 << 24) - 1),
        (f32::from_bits(1), 0),
        (0.0, 0),
    ] {
        assert_eq!(scale.whole(value), expected, "{value}");
        assert_eq!(scale.whole(-value), -expected, "-{value}");
    }
    // Relative to the smallest norm even subnormal values count.
    let smallest = convoke_sketch::fixed_point::Scale::of(Norm::of(f64::from(f32::MIN_POSITIVE)));
    assert_eq!(smallest.whole(f32::from_bits(4)), 1);
    assert_eq!(smallest.whole(f32::from_bits(3)), 0);
    assert_eq!(smallest.whole(f32::MIN_POSITIVE), 1 << 21);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_bits_under_any_norm(
        bits in prop::collection::vec(any::<u32>(), 0..700),
        clip in (1u32 << 23)..0x7f80_0000,
        seed in any::<[u8; 32]>(),
    ) {
        let values: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
        same(&values, &Digest(seed), Norm::from_bits(clip).unwrap())?;
    }

    #[test]
    fn values_of_the_size_of_the_norm(
        values in prop::collection::vec(-9f32..9.0, 2_000..4_400),
        seed in any::<[u8; 32]>(),
    ) {
        same(&values, &Digest(seed), Norm::of(1.0))?;
    }

    /// The whole number is the value times 2^S, cut and clamped, where f64 has room for that.
    #[test]
    fn whole_numbers_are_the_scaled_values(value in any::<f32>(), clip in 1e-20f64..1e20) {
        prop_assume!(value.is_finite());
        let clip = Norm::of(clip);
        let power = 2f64.powi(148 - i32::try_from(clip.exponent()).unwrap());
        let expected = (f64::from(value) * power).clamp(-16_777_215.0, 16_777_215.0).trunc();
        let whole = convoke_sketch::fixed_point::Scale::of(clip).whole(value);
        prop_assert_eq!(f64::from(whole), expected);
        prop_assert!((1 << 21..1 << 22).contains(&((clip.value() * power) as u32)));
    }
}

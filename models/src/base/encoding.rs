//! How files of weights write their values: floating point, and GGUF's blocks of quantized ones.
//!
//! A block holds 32 or 256 neighbouring weights of a row as small whole numbers with a common
//! scale, and for some kinds a common minimum: `w = d q` or `w = d q + m`; kinds named `K` give each
//! 16 or 32 weights a scale of their own, itself quantized.

use half::{bf16, f16};

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Encoding {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

impl Encoding {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// The name that GGUF gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// The number that GGUF gives it, or none.
    pub(crate) fn from_gguf(kind: u32) -> Option<Self> {
        Some(match kind {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            10 => Self::Q2K,
            11 => Self::Q3K,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// Weights and bytes of a block; floating point has blocks of one.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
        }
    }

    /// Whether it is one of the kinds of quantized blocks.
    pub fn is_quantized(self) -> bool {
        self.block().0 > 1
    }

    /// Bytes that so many values take, or none if they fill no whole number of blocks or the
    /// count overflows.
    pub fn bytes(self, values: usize) -> Option<usize> {
        let (weights, bytes) = self.block();
        values
            .is_multiple_of(weights)
            .then(|| (values / weights).checked_mul(bytes))?
    }

    /// Decodes whole blocks.
    ///
    /// # Panics
    /// If `bytes` are not exactly those of `values`.
    pub fn decode(self, bytes: &[u8], values: &mut [f32]) {
        assert_eq!(
            self.bytes(values.len()),
            Some(bytes.len()),
            "whole blocks of {}",
            self.name()
        );
        match self {
            Self::F32 => each(bytes, values, |b: &[u8; 4], y: &mut [f32; 1]| {
                y[0] = f32::from_le_bytes(*b);
            }),
            Self::F16 => each(bytes, values, |b: &[u8; 2], y: &mut [f32; 1]| {
                y[0] = f16::from_le_bytes(*b).to_f32();
            }),
            Self::Bf16 => each(bytes, values, |b: &[u8; 2], y: &mut [f32; 1]| {
                y[0] = bf16::from_le_bytes(*b).to_f32();
            }),
            Self::Q4_0 => each(bytes, values, q4_0),
            Self::Q4_1 => each(bytes, values, q4_1),
            Self::Q5_0 => each(bytes, values, q5_0),
            Self::Q5_1 => each(bytes, values, q5_1),
            Self::Q8_0 => each(bytes, values, q8_0),
            Self::Q2K => each(bytes, values, q2_k),
            Self::Q3K => each(bytes, values, q3_k),
            Self::Q4K => each(bytes, values, q4_k),
            Self::Q5K => each(bytes, values, q5_k),
            Self::Q6K => each(bytes, values, q6_k),
        }
    }
}

/// Decodes block after block.
#[inline(always)]
fn each<const B: usize, const N: usize>(
    bytes: &[u8],
    values: &mut [f32],
    decode: impl Fn(&[u8; B], &mut [f32; N]),
) {
    let (blocks, _) = bytes.as_chunks::<B>();
    let (values, _) = values.as_chunks_mut::<N>();
    for (block, values) in blocks.iter().zip(values) {
        decode(block, values);
    }
}

#[inline(always)]
fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

#[inline(always)]
fn q4_0(block: &[u8; 18], y: &mut [f32; 32]) {
    let d = half(block, 0);
    for j in 0..16 {
        let q = block[2 + j];
        y[j] = d * (f32::from(q & 15) - 8.0);
        y[j + 16] = d * (f32::from(q >> 4) - 8.0);
    }
}

#[inline(always)]
fn q4_1(block: &[u8; 20], y: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    for j in 0..16 {
        let q = block[4 + j];
        y[j] = d * f32::from(q & 15) + m;
        y[j + 16] = d * f32::from(q >> 4) + m;
    }
}

/// The fifth bits of two weights, in place.
#[inline(always)]
fn fifth(high: u32, j: usize) -> (u8, u8) {
    let bit = |at: usize| ((high >> at) & 1) as u8 * 16;
    (bit(j), bit(j + 16))
}

#[inline(always)]
fn q5_0(block: &[u8; 22], y: &mut [f32; 32]) {
    let d = half(block, 0);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for j in 0..16 {
        let (q, (low, up)) = (block[6 + j], fifth(high, j));
        y[j] = d * (f32::from((q & 15) | low) - 16.0);
        y[j + 16] = d * (f32::from((q >> 4) | up) - 16.0);
    }
}

#[inline(always)]
fn q5_1(block: &[u8; 24], y: &mut [f32; 32]) {
    let (d, m) = (half(block, 0), half(block, 2));
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for j in 0..16 {
        let (q, (low, up)) = (block[8 + j], fifth(high, j));
        y[j] = d * f32::from((q & 15) | low) + m;
        y[j + 16] = d * f32::from((q >> 4) | up) + m;
    }
}

#[inline(always)]
fn q8_0(block: &[u8; 34], y: &mut [f32; 32]) {
    let d = half(block, 0);
    for j in 0..32 {
        y[j] = d * f32::from(block[2 + j] as i8);
    }
}

/// Scales (16 bytes: four bits of scale, four of minimum), two bits a weight, d, minimum.
fn q2_k(block: &[u8; 84], y: &mut [f32; 256]) {
    let (d, minimum) = (half(block, 80), half(block, 82));
    for (part, y) in y.chunks_exact_mut(16).enumerate() {
        let scale = block[part];
        let (d, m) = (d * f32::from(scale & 15), minimum * f32::from(scale >> 4));
        // 128 weights lie in 32 bytes: the first 32 in the lowest two bits of each, and so on.
        let (from, shift) = (16 + part / 8 * 32 + part % 2 * 16, part % 8 / 2 * 2);
        for (y, q) in y.iter_mut().zip(&block[from..from + 16]) {
            *y = d * f32::from((q >> shift) & 3) - m;
        }
    }
}

/// High bits (32 bytes), two low bits a weight (64 bytes), 16 scales of six bits, d.
fn q3_k(block: &[u8; 110], y: &mut [f32; 256]) {
    let d = half(block, 108);
    let scales = &block[96..108];
    for (part, y) in y.chunks_exact_mut(16).enumerate() {
        let low = if part < 8 {
            scales[part] & 15
        } else {
            scales[part - 8] >> 4
        };
        let high = (scales[8 + part % 4] >> (part / 4 * 2)) & 3;
        let d = d * (f32::from(low | (high << 4)) - 32.0);
        let column = part % 2 * 16;
        let (from, shift) = (32 + part / 8 * 32 + column, part % 8 / 2 * 2);
        let highs = &block[column..column + 16];
        for ((y, q), high) in y.iter_mut().zip(&block[from..from + 16]).zip(highs) {
            let missing = if (high >> (part / 2)) & 1 == 1 {
                0.0
            } else {
                4.0
            };
            *y = d * (f32::from((q >> shift) & 3) - missing);
        }
    }
}

/// The eight scales and minima of six bits that [`q4_k`] and [`q5_k`] pack into twelve bytes.
#[inline(always)]
fn scale_and_minimum(packed: &[u8], at: usize) -> (f32, f32) {
    let (scale, minimum) = if at < 4 {
        (packed[at] & 63, packed[at + 4] & 63)
    } else {
        (
            (packed[at + 4] & 15) | ((packed[at - 4] >> 6) << 4),
            (packed[at + 4] >> 4) | ((packed[at] >> 6) << 4),
        )
    };
    (f32::from(scale), f32::from(minimum))
}

/// d, minimum, packed scales (12 bytes), four bits a weight (128 bytes).
fn q4_k(block: &[u8; 144], y: &mut [f32; 256]) {
    let (d, minimum) = (half(block, 0), half(block, 2));
    for (part, y) in y.chunks_exact_mut(32).enumerate() {
        let (scale, m) = scale_and_minimum(&block[4..16], part);
        let (d, m) = (d * scale, minimum * m);
        let (from, shift) = (16 + part / 2 * 32, part % 2 * 4);
        for (y, q) in y.iter_mut().zip(&block[from..from + 32]) {
            *y = d * f32::from((q >> shift) & 15) - m;
        }
    }
}

/// As [`q4_k`], with 32 bytes of fifth bits before the four bits of each weight.
fn q5_k(block: &[u8; 176], y: &mut [f32; 256]) {
    let (d, minimum) = (half(block, 0), half(block, 2));
    for (part, y) in y.chunks_exact_mut(32).enumerate() {
        let (scale, m) = scale_and_minimum(&block[4..16], part);
        let (d, m) = (d * scale, minimum * m);
        let (from, shift) = (48 + part / 2 * 32, part % 2 * 4);
        let highs = &block[16..48];
        for ((y, q), high) in y.iter_mut().zip(&block[from..from + 32]).zip(highs) {
            let fifth = ((high >> part) & 1) << 4;
            *y = d * f32::from(((q >> shift) & 15) | fifth) - m;
        }
    }
}

/// Four low bits a weight (128 bytes), two high bits (64 bytes), 16 signed scales, d.
fn q6_k(block: &[u8; 210], y: &mut [f32; 256]) {
    let d = half(block, 208);
    for (part, y) in y.chunks_exact_mut(16).enumerate() {
        let d = d * f32::from(block[192 + part] as i8);
        // 128 weights in four stripes of 32, each in two parts of 16.
        let (stripe, column) = (part % 8 / 2, part % 2 * 16);
        let low = part / 8 * 64 + stripe % 2 * 32 + column;
        let high = 128 + part / 8 * 32 + column;
        for (j, y) in y.iter_mut().enumerate() {
            let q = (block[low + j] >> (stripe / 2 * 4)) & 15;
            let q = q | (((block[high + j] >> (stripe * 2)) & 3) << 4);
            *y = d * (f32::from(q) - 32.0);
        }
    }
}

/// Quantizes rows to [`Encoding::Q8_0`]: d = max |w| / 127, rounded to the nearest.
///
/// # Panics
/// If the values fill no whole number of blocks.
pub(crate) fn to_q8_0(values: &[f32]) -> Vec<u8> {
    blocks_of(values, 34, |values, bytes| {
        let largest = values.iter().fold(0.0_f32, |most, w| most.max(w.abs()));
        let d = f16::from_f32(largest / 127.0);
        bytes.extend(d.to_le_bytes());
        let inverse = inverse(d);
        bytes.extend(values.iter().map(|w| (w * inverse).round() as i8 as u8));
    })
}

/// Quantizes rows to [`Encoding::Q4_1`]: m the least weight, d = (greatest − least) / 15.
///
/// # Panics
/// If the values fill no whole number of blocks.
pub(crate) fn to_q4_1(values: &[f32]) -> Vec<u8> {
    blocks_of(values, 20, |values, bytes| {
        let least = values.iter().copied().fold(f32::INFINITY, f32::min);
        let greatest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let (d, m) = (
            f16::from_f32((greatest - least) / 15.0),
            f16::from_f32(least),
        );
        bytes.extend(d.to_le_bytes());
        bytes.extend(m.to_le_bytes());
        let (inverse, m) = (inverse(d), m.to_f32());
        let q = |w: f32| ((w - m) * inverse).round().clamp(0.0, 15.0) as u8;
        bytes.extend((0..16).map(|j| q(values[j]) | (q(values[j + 16]) << 4)));
    })
}

fn blocks_of(values: &[f32], bytes: usize, block: impl Fn(&[f32; 32], &mut Vec<u8>)) -> Vec<u8> {
    let (blocks, rest) = values.as_chunks::<32>();
    assert!(rest.is_empty(), "whole blocks of 32");
    let mut written = Vec::with_capacity(blocks.len() * bytes);
    for values in blocks {
        block(values, &mut written);
    }
    written
}

fn inverse(d: f16) -> f32 {
    match d.to_f32() {
        0.0 => 0.0,
        d => 1.0 / d,
    }
}

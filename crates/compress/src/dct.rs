//! The orthonormal cosine transform of 64 values (DCT-II) and its inverse (DCT-III), of eight
//! segments at a time.
//!
//! Lee 1984, "A new algorithm to compute the discrete cosine transform": log₂ 64 passes of sums
//! and differences on the way down, and as many of sums on the way back; 192 products in all
//! instead of 4,096. Constants come from a series of basic operations, so that they have the same
//! bits everywhere.

/// Values of a segment.
pub(crate) const SEGMENT: usize = 64;

/// Segments that are transformed together.
pub(crate) const LANES: usize = 8;

/// One value, or coefficient, of each segment.
type Lane = [f32; LANES];

/// Eight segments: `0[j]` has their values number j.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segments(pub(crate) [Lane; SEGMENT]);

impl Default for Segments {
    fn default() -> Self {
        Self([[0.0; LANES]; SEGMENT])
    }
}

impl Segments {
    /// c₀ = √¹⁄₆₄ Σ xₙ, c_k = √²⁄₆₄ Σ xₙ cos(π k (n + ½) / 64).
    #[inline(always)]
    pub(crate) fn forward(&mut self, spare: &mut Self) {
        down::<64>(&self.0, &mut spare.0);
        down::<32>(&spare.0, &mut self.0);
        down::<16>(&self.0, &mut spare.0);
        down::<8>(&spare.0, &mut self.0);
        down::<4>(&self.0, &mut spare.0);
        down::<2>(&spare.0, &mut self.0);
        merge::<4>(&self.0, &mut spare.0);
        merge::<8>(&spare.0, &mut self.0);
        merge::<16>(&self.0, &mut spare.0);
        merge::<32>(&spare.0, &mut self.0);
        merge::<64>(&self.0, &mut spare.0);
        scale(&spare.0, &mut self.0, FIRST, OTHERS);
    }

    /// What [`Self::forward`] made these coefficients of.
    #[inline(always)]
    pub(crate) fn inverse(&mut self, spare: &mut Self) {
        scale(&self.0, &mut spare.0, FIRST, OTHERS);
        part::<64>(&spare.0, &mut self.0);
        part::<32>(&self.0, &mut spare.0);
        part::<16>(&spare.0, &mut self.0);
        part::<8>(&self.0, &mut spare.0);
        part::<4>(&spare.0, &mut self.0);
        up::<2>(&self.0, &mut spare.0);
        up::<4>(&spare.0, &mut self.0);
        up::<8>(&self.0, &mut spare.0);
        up::<16>(&spare.0, &mut self.0);
        up::<32>(&self.0, &mut spare.0);
        up::<64>(&spare.0, &mut self.0);
    }
}

/// √¹⁄₆₄ and √²⁄₆₄.
const FIRST: f32 = 0.125;
const OTHERS: f32 = 0.125 * std::f32::consts::SQRT_2;

/// Of each group of N values the sums of opposite ones, and then their differences, scaled.
#[inline(always)]
fn down<const N: usize>(from: &[Lane; SEGMENT], to: &mut [Lane; SEGMENT]) {
    for (from, to) in from
        .as_chunks::<N>()
        .0
        .iter()
        .zip(to.as_chunks_mut::<N>().0)
    {
        for i in 0..N / 2 {
            let factor = HALF_SECANTS[N / 2 + i];
            for lane in 0..LANES {
                let (x, y) = (from[i][lane], from[N - 1 - i][lane]);
                to[i][lane] = x + y;
                to[N / 2 + i][lane] = (x - y) * factor;
            }
        }
    }
}

/// Of each group of N, whose halves are transformed, the whole's transform.
#[inline(always)]
fn merge<const N: usize>(from: &[Lane; SEGMENT], to: &mut [Lane; SEGMENT]) {
    for (from, to) in from
        .as_chunks::<N>()
        .0
        .iter()
        .zip(to.as_chunks_mut::<N>().0)
    {
        for i in 0..N / 2 - 1 {
            for lane in 0..LANES {
                to[2 * i][lane] = from[i][lane];
                to[2 * i + 1][lane] = from[N / 2 + i][lane] + from[N / 2 + i + 1][lane];
            }
        }
        to[N - 2] = from[N / 2 - 1];
        to[N - 1] = from[N - 1];
    }
}

/// The transpose of [`merge`].
#[inline(always)]
fn part<const N: usize>(from: &[Lane; SEGMENT], to: &mut [Lane; SEGMENT]) {
    for (from, to) in from
        .as_chunks::<N>()
        .0
        .iter()
        .zip(to.as_chunks_mut::<N>().0)
    {
        to[0] = from[0];
        to[N / 2] = from[1];
        for i in 1..N / 2 {
            for lane in 0..LANES {
                to[i][lane] = from[2 * i][lane];
                to[N / 2 + i][lane] = from[2 * i - 1][lane] + from[2 * i + 1][lane];
            }
        }
    }
}

/// The transpose of [`down`].
#[inline(always)]
fn up<const N: usize>(from: &[Lane; SEGMENT], to: &mut [Lane; SEGMENT]) {
    for (from, to) in from
        .as_chunks::<N>()
        .0
        .iter()
        .zip(to.as_chunks_mut::<N>().0)
    {
        for i in 0..N / 2 {
            let factor = HALF_SECANTS[N / 2 + i];
            for lane in 0..LANES {
                let (x, y) = (from[i][lane], from[N / 2 + i][lane] * factor);
                to[i][lane] = x + y;
                to[N - 1 - i][lane] = x - y;
            }
        }
    }
}

#[inline(always)]
fn scale(from: &[Lane; SEGMENT], to: &mut [Lane; SEGMENT], first: f32, others: f32) {
    for (j, (from, to)) in from.iter().zip(to).enumerate() {
        let factor = if j == 0 { first } else { others };
        for (from, to) in from.iter().zip(to) {
            *to = from * factor;
        }
    }
}

/// 1 / (2 cos(π (i + ½) / N)) at N/2 + i, for N of 2, 4, … 64.
const HALF_SECANTS: [f32; SEGMENT] = half_secants();

const fn half_secants() -> [f32; SEGMENT] {
    let mut table = [0.0; SEGMENT];
    let mut half = 1;
    while half < SEGMENT {
        let mut i = 0;
        while i < half {
            let angle = std::f64::consts::PI * (i as f64 + 0.5) / (2 * half) as f64;
            table[half + i] = (0.5 / cosine(angle)) as f32;
            i += 1;
        }
        half *= 2;
    }
    table
}

/// By its series, to the last bits of an f64 for angles below π/2.
const fn cosine(angle: f64) -> f64 {
    let (mut sum, mut term, mut n) = (1.0, 1.0, 1.0);
    while n < 30.0 {
        term *= -angle * angle / (n * (n + 1.0));
        sum += term;
        n += 2.0;
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;
    use crate::testing::normal;

    fn segments(seed: u64) -> Segments {
        let values = normal(seed, LANES * SEGMENT);
        Segments(std::array::from_fn(|j| {
            std::array::from_fn(|lane| values[LANES * j + lane])
        }))
    }

    /// By its formula, in f64.
    fn naive(values: &[f64; SEGMENT]) -> [f64; SEGMENT] {
        std::array::from_fn(|k| {
            let term = |n: usize| values[n] * (PI * k as f64 * (n as f64 + 0.5) / 64.0).cos();
            let norm = if k == 0 { 1.0 / 64.0 } else { 2.0 / 64.0 };
            f64::sqrt(norm) * (0..SEGMENT).map(term).sum::<f64>()
        })
    }

    #[test]
    fn coefficients_are_those_of_the_formula() {
        let before = segments(1);
        let mut after = before;
        after.forward(&mut Segments::default());
        for lane in 0..LANES {
            let values = std::array::from_fn(|j| f64::from(before.0[j][lane]));
            for (j, expected) in naive(&values).into_iter().enumerate() {
                let got = f64::from(after.0[j][lane]);
                assert!((got - expected).abs() < 2e-5, "{j}: {got} {expected}");
            }
        }
    }

    #[test]
    fn the_inverse_gives_the_values_back() {
        let before = segments(2);
        let (mut after, mut spare) = (before, Segments::default());
        after.forward(&mut spare);
        after.inverse(&mut spare);
        for (before, after) in before.0.iter().flatten().zip(after.0.iter().flatten()) {
            assert!((before - after).abs() < 2e-5, "{before} {after}");
        }
    }

    #[test]
    fn the_series_is_the_cosine() {
        for i in 0..100 {
            let angle = PI / 2.0 * f64::from(i) / 100.0;
            assert!((cosine(angle) - angle.cos()).abs() < 1e-15);
        }
    }
}

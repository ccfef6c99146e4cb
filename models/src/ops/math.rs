//! Elementary functions that the compiler can vectorize: no branches, no calls, no tables.

/// e^x, within 2 units in the last place from -87 to 88; beyond, what it is there. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Not `clamp` or `max`, which would turn NaN into a bound on some machines.
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    // The integer nearest to x / ln 2 comes to stand in the lowest bits.
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let n = shifted - SHIFT;
    let r = (x - n * LN_2_HIGH) - n * LN_2_LOW;
    // The minimax polynomial of the Cephes library.
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * (r * r) + r + 1.0;
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// 1.5 · 2²³: added to a small number, it leaves the nearest integer in the lowest bits.
const SHIFT: f32 = 12_582_912.0;
/// ln 2 in two parts, the first with few bits, so that its multiples are exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// The cumulative distribution and the density of the standard normal distribution, within 2e-7.
/// The former by formula 7.1.26 of Abramowitz and Stegun, Handbook of Mathematical Functions.
#[inline(always)]
pub(crate) fn normal(x: f32) -> (f32, f32) {
    let e = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2 * x.abs());
    let p = 1.061_405_4 * t - 1.453_152;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    // Half of the complement of erf(|x| / √2).
    let tail = 0.5 * p * t * e;
    let below = if x < 0.0 { tail } else { 1.0 - tail };
    (below, 0.398_942_3 * e)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent, within 3e-7.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

/// The largest value, or negative infinity. NaN is passed over.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *value);
        }
    }
    let rest = rest.iter().fold(f32::NEG_INFINITY, |a, b| larger(a, *b));
    lanes.iter().fold(rest, |a, b| larger(a, *b))
}

/// Σ f(i) for i below `len`, in an order of its own that depends on the length alone.
#[inline(always)]
pub(crate) fn sum(len: usize, mut f: impl FnMut(usize) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let whole = len - len % LANES;
    for i in (0..whole).step_by(LANES) {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += f(i + lane);
        }
    }
    let mut total = 0.0;
    for i in whole..len {
        total += f(i);
    }
    for lane in lanes {
        total += lane;
    }
    total
}

/// Sums that grow side by side, so that the compiler may use wide registers.
const LANES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> impl Iterator<Item = f32> {
        (-9000..9000).map(|i| i as f32 * 0.01)
    }

    #[test]
    fn exp_is_accurate() {
        for x in points().filter(|x| (-87.0..88.0).contains(x)) {
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.5e-7, "{x}: {error}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(f32::INFINITY) > 1e38);
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn tanh_and_sigmoid_are_accurate() {
        for x in points() {
            let exact = f64::from(x);
            assert!((f64::from(tanh(x)) - exact.tanh()).abs() < 4e-7, "{x}");
            let exact = 1.0 / (1.0 + (-exact).exp());
            assert!((f64::from(sigmoid(x)) - exact).abs() < 2e-7, "{x}");
        }
    }

    #[test]
    fn the_normal_distribution_is_accurate() {
        // From tables, and by Simpson's rule from there.
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let (mut below, step) = (0.5, 0.01);
        for i in 0..600 {
            let x = f64::from(i) * step;
            let (got, got_density) = normal(x as f32);
            assert!((f64::from(got) - below).abs() < 4e-7, "{x}");
            assert!((f64::from(got_density) - density(x)).abs() < 4e-7, "{x}");
            let (mirrored, _) = normal(-x as f32);
            assert!((f64::from(mirrored) - (1.0 - below)).abs() < 4e-7, "-{x}");
            below += step / 6.0 * (density(x) + 4.0 * density(x + step / 2.0) + density(x + step));
        }
        assert!((normal(1.0).0 - 0.841_344_7).abs() < 4e-7);
    }
}

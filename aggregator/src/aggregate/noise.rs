//! Gaussian noise that anybody can make again.

use convoke_protocol::ids::BlobHash;
use convoke_protocol::sketch::Norm;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use rand_distr::{Distribution as _, StandardNormal};

/// Independent normal numbers, one for each value of a model. Any range of them can be made alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// Standard deviation.
    deviation: f64,
    seed: [u8; 32],
}

impl Noise {
    /// Noise for `values` values, whose expected length is about `norm`.
    #[must_use]
    pub fn of(norm: Norm, values: u64, seed: [u8; 32]) -> Self {
        Self {
            deviation: norm.value() / (values.max(1) as f64).sqrt(),
            seed,
        }
    }

    /// The seed of the step from this checkpoint.
    #[must_use]
    pub fn seed(base: &BlobHash) -> [u8; 32] {
        blake3::derive_key("convoke 2026-11 noise of a step", &base.0)
    }

    /// Adds those of the values from `first` on.
    pub fn add(&self, first: u64, values: &mut [f32]) {
        if self.deviation == 0.0 {
            return;
        }
        let mut rest = values;
        let mut block = first / BLOCK;
        let mut skip = (first % BLOCK) as usize;
        while !rest.is_empty() {
            let mut rng = ChaCha8Rng::from_seed(self.seed);
            rng.set_stream(block);
            let numbers = StandardNormal.sample_iter(rng).skip(skip);
            let (now, later) = rest.split_at_mut(rest.len().min(BLOCK as usize - skip));
            for (value, number) in now.iter_mut().zip(numbers) {
                let number: f64 = number;
                *value = (f64::from(*value) + self.deviation * number) as f32;
            }
            (rest, block, skip) = (later, block + 1, 0);
        }
    }
}

/// Values whose noise is of one stream of the generator.
const BLOCK: u64 = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: usize = 5_000;

    fn noise(seed: u8) -> Noise {
        Noise::of(Norm::of(3.0), VALUES as u64, [seed; 32])
    }

    fn made(noise: Noise) -> Vec<f32> {
        let mut values = vec![0.0; VALUES];
        noise.add(0, &mut values);
        values
    }

    #[test]
    fn any_range_is_that_of_the_whole() {
        let whole = made(noise(1));
        for range in [0..1, 1_000..1_030, 1_023..3_100, 4_999..5_000] {
            let mut part = vec![0.0; range.len()];
            noise(1).add(range.start as u64, &mut part);
            assert_eq!(part, whole[range]);
        }
        assert_ne!(whole, made(noise(2)));
    }

    #[test]
    fn it_is_as_long_as_it_says_and_points_nowhere() {
        let values = made(noise(1));
        let length = values.iter().map(|v| f64::from(v * v)).sum::<f64>().sqrt();
        assert!((length - 3.0).abs() < 0.1, "{length}");
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / VALUES as f64;
        // Four standard deviations of a mean of numbers of deviation 3 / √D.
        assert!(mean.abs() < 4.0 * 3.0 / VALUES as f64, "{mean}");
    }

    #[test]
    fn no_noise_changes_no_bit() {
        let mut values = [-0.0f32];
        Noise::of(Norm::ZERO, 1, [0; 32]).add(0, &mut values);
        assert_eq!(values[0].to_bits(), (-0.0f32).to_bits());
    }
}

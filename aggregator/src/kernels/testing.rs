//! Updates for the tests of the kernels.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// `count` rows of `length` values in [−1, 1).
pub(super) fn rows(seed: u64, count: usize, length: usize) -> Vec<Vec<f32>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut value = || random.next_u32() as i32 as f32 / (1u32 << 31) as f32;
    (0..count)
        .map(|_| (0..length).map(|_| value()).collect())
        .collect()
}

pub(super) fn slices(rows: &[Vec<f32>]) -> Vec<&[f32]> {
    rows.iter().map(Vec::as_slice).collect()
}

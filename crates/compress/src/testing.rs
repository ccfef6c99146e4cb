//! What the tests of several modules need.

#![allow(clippy::unwrap_used)]

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

use crate::error::Flaw;
use crate::scheme::Scheme;

/// Values of a normal distribution, the same for the same seed.
pub(crate) fn normal(seed: u64, count: usize) -> Vec<f32> {
    let rng = ChaCha8Rng::seed_from_u64(seed);
    StandardNormal.sample_iter(rng).take(count).collect()
}

/// One block there and back.
pub(crate) fn block<S: Scheme>(scheme: &S, values: &[f32]) -> (Vec<u8>, Result<Vec<f32>, Flaw>) {
    let mut bytes = vec![0; scheme.block_bytes(values.len())];
    let mut memory = S::Memory::default();
    scheme.encode_block(values, &mut bytes, &mut memory);
    let mut decoded = vec![f32::NAN; values.len()];
    let outcome = scheme.decode_block(&bytes, &mut decoded, &mut memory);
    (bytes, outcome.map(|()| decoded))
}

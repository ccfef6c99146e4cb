//! Sends Gaussian noise exactly as long as its honest delta, so that no norm gives it away.

use convoke_protocol::ids::RoundId;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};

use super::{Adversary, norm};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Noise {
    seed: u64,
}

impl Noise {
    /// Other seeds give other noise; so do other rounds.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self { seed }
    }
}

impl Adversary for Noise {
    fn corrupt(&mut self, round: RoundId, delta: &mut [f32]) {
        let wanted = norm(delta);
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(u64::from(round.0));
        delta
            .iter_mut()
            .for_each(|value| *value = StandardNormal.sample(&mut rng));
        let scale = wanted / norm(delta).max(f64::MIN_POSITIVE);
        delta
            .iter_mut()
            .for_each(|value| *value = (f64::from(*value) * scale) as f32);
    }
}

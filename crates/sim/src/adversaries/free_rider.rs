//! Sends next to nothing, and hopes to be paid for it.

use convoke_protocol::ids::RoundId;

use super::Adversary;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct FreeRider;

impl Adversary for FreeRider {
    fn corrupt(&mut self, _round: RoundId, delta: &mut [f32]) {
        delta.iter_mut().for_each(|value| *value *= 1e-6);
    }
}

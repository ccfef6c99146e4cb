//! Sends the opposite of what it trained: the model would unlearn.

use convoke_protocol::ids::RoundId;

use super::Adversary;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct SignFlipper;

impl Adversary for SignFlipper {
    fn corrupt(&mut self, _round: RoundId, delta: &mut [f32]) {
        delta.iter_mut().for_each(|value| *value = -*value);
    }
}

//! Sends values that are no numbers: averaged without a check they would ruin the model.

use convoke_protocol::ids::RoundId;

use super::Adversary;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct NotANumber;

impl Adversary for NotANumber {
    fn corrupt(&mut self, _round: RoundId, delta: &mut [f32]) {
        if let Some(last) = delta.last_mut() {
            *last = f32::NAN;
        }
    }
}

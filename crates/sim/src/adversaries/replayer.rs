//! Trains once, and sends the same delta in every later round.

use convoke_protocol::ids::RoundId;

use super::Adversary;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Replayer {
    first: Option<Vec<f32>>,
}

impl Adversary for Replayer {
    fn corrupt(&mut self, _round: RoundId, delta: &mut [f32]) {
        let first = self.first.get_or_insert_with(|| delta.to_vec());
        if first.len() == delta.len() {
            delta.copy_from_slice(first);
        }
    }
}

//! Forger: honest work under a false account of it.

use convoke_protocol::ids::RoundId;

use super::Adversary;

/// Sends what it trained, and signs a sketch that is not its delta's, as a trainer would that
/// wants to be scored by another delta than the one it sent.
#[derive(Debug, Clone, Copy)]
pub struct Forger;

impl Adversary for Forger {
    fn corrupt(&mut self, _round: RoundId, _delta: &mut [f32]) {}

    fn forges_sketch(&self, _round: RoundId) -> bool {
        true
    }
}

//! The checkpoints that updates may begin with: the round's own base, and, where updates are
//! buffered, those of so many rounds before it.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::ids::{Address, BlobHash, RoundId};

/// Bases of the latest rounds, and who has used which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Bases {
    /// Newest first, that of the round under way; one more than the task's staleness limit.
    recent: VecDeque<BlobHash>,
    /// The round whose base each trainer's latest update began with, as far as that base is still
    /// recent: each base serves a trainer once, or it could send one delta round after round.
    used: BTreeMap<Address, RoundId>,
}

impl Bases {
    pub(super) fn new(initial: BlobHash) -> Self {
        Self {
            recent: VecDeque::from([initial]),
            used: BTreeMap::new(),
        }
    }

    /// The base of the round under way.
    pub(super) fn newest(&self) -> BlobHash {
        self.recent[0]
    }

    /// Rounds that `base` lies back; nothing if it is not recent. A checkpoint that a round left
    /// as it was counts as the newer.
    pub(super) fn staleness(&self, base: &BlobHash) -> Option<u32> {
        let back = self.recent.iter().position(|recent| recent == base)?;
        u32::try_from(back).ok()
    }

    /// Whether an update of `trainer` for `round`, the one under way, may begin with `base`.
    pub(super) fn admits(&self, round: RoundId, trainer: Address, base: &BlobHash) -> bool {
        let unused = |began| self.used.get(&trainer).is_none_or(|used| *used < began);
        self.began(round, base).is_some_and(unused)
    }

    /// `round` is settled and led to `checkpoint`; `updates` were decided on in it.
    pub(super) fn settle(
        &mut self,
        round: RoundId,
        checkpoint: BlobHash,
        staleness_limit: u32,
        updates: impl Iterator<Item = (Address, BlobHash)>,
    ) {
        for (trainer, base) in updates {
            if let Some(began) = self.began(round, &base) {
                self.used.insert(trainer, began);
            }
        }
        self.recent.push_front(checkpoint);
        self.recent.truncate(staleness_limit as usize + 1);
        let oldest = round.next().0.saturating_sub(staleness_limit);
        self.used.retain(|_, began| began.0 >= oldest);
    }

    /// The round whose base this is, the newest of them.
    fn began(&self, round: RoundId, base: &BlobHash) -> Option<RoundId> {
        let staleness = self.staleness(base)?;
        Some(RoundId(round.0.saturating_sub(staleness)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Address = Address([1; 20]);
    const OTHER: Address = Address([2; 20]);

    fn blob(byte: u8) -> BlobHash {
        BlobHash([byte; 32])
    }

    /// Rounds 1 to `rounds` are settled with `updates`, round i from blob i to blob i + 1.
    fn settled(rounds: u8, limit: u32, updates: &[(Address, BlobHash)]) -> Bases {
        let mut bases = Bases::new(blob(1));
        for round in 1..=rounds {
            let of_round = updates.iter().copied();
            bases.settle(RoundId(round.into()), blob(round + 1), limit, of_round);
        }
        bases
    }

    #[test]
    fn bases_age_until_they_are_forgotten() {
        let bases = settled(5, 2, &[]);
        assert_eq!(bases.newest(), blob(6));
        let ages = [6, 5, 4, 3].map(|byte| bases.staleness(&blob(byte)));
        assert_eq!(ages, [Some(0), Some(1), Some(2), None]);
        assert_eq!(settled(5, 0, &[]).staleness(&blob(5)), None);
    }

    #[test]
    fn each_base_serves_a_trainer_once() {
        let bases = settled(2, 2, &[(ONE, blob(2))]);
        let admits = |trainer| [1, 2, 3].map(|byte| bases.admits(RoundId(3), trainer, &blob(byte)));
        assert_eq!(admits(ONE), [false, false, true]);
        assert_eq!(admits(OTHER), [true; 3]);
    }

    #[test]
    fn a_checkpoint_that_a_round_left_as_it_was_serves_again() {
        let mut bases = settled(1, 2, &[]);
        let update = [(ONE, blob(2))].into_iter();
        bases.settle(RoundId(2), blob(2), 2, update);
        assert_eq!(bases.staleness(&blob(2)), Some(0));
        assert!(bases.admits(RoundId(3), ONE, &blob(2)));
    }

    #[test]
    fn who_has_used_what_is_forgotten_with_the_base() {
        let bases = settled(2, 2, &[(ONE, blob(1))]);
        assert_eq!(bases.used.len(), 1);
        assert!(settled(3, 2, &[(ONE, blob(1))]).used.is_empty());
        assert!(settled(1, 0, &[(ONE, blob(1))]).used.is_empty());
    }
}

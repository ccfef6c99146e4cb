//! The trainer's own control variate (SCAFFOLD): kept between rounds, and moved on only by updates
//! that a round's step has really used, so that the federation's variates and the trainers' stay
//! those of the same steps.

use convoke_models::Parameters;
use convoke_node::{NodeError, StateDir};
use convoke_protocol::ids::{BlobHash, RoundId};
use convoke_transport::BlobStore;
use serde::{Deserialize, Serialize};

use crate::error::TrainerError;
use crate::fate::{Fate, Outcome};

/// Which blobs the variates are. Written whole, so that a kill leaves the old one or the new one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Variate {
    /// cᵢ; zeros if there is none.
    current: Option<BlobHash>,
    /// What it becomes if the round's step uses our update.
    next: Option<Next>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Next {
    round: RoundId,
    blob: BlobHash,
}

const NAME: &str = "control.json";

impl Variate {
    /// What is there when `round` begins: earlier rounds have ended, and `fate` tells how.
    ///
    /// # Errors
    /// [`TrainerError::Node`], [`TrainerError::Transport`] if the disk refuses.
    pub(crate) fn of_round(
        state: &StateDir,
        blobs: &BlobStore,
        round: RoundId,
        fate: &Fate,
    ) -> Result<Self, TrainerError> {
        let mut variate: Self = state.load(NAME)?.unwrap_or_default();
        let Some(next) = variate.next.take_if(|next| next.round < round) else {
            return Ok(variate);
        };
        let spent = match fate.of(next.round) {
            Some(Outcome::Kept) => variate.current.replace(next.blob),
            _ => Some(next.blob),
        };
        variate.save(state)?;
        // One and the same only if the variate did not move.
        if let Some(spent) = spent.filter(|spent| variate.current != Some(*spent)) {
            blobs.remove(&spent)?;
        }
        Ok(variate)
    }

    /// cᵢ, if there is one.
    pub(crate) fn current(&self) -> Option<BlobHash> {
        self.current
    }

    /// Remembers what the variate becomes, durably, before the update that it belongs to is signed.
    ///
    /// # Errors
    /// As [`of_round`](Self::of_round).
    pub(crate) fn propose(
        state: &StateDir,
        blobs: &BlobStore,
        round: RoundId,
        parameters: &Parameters,
    ) -> Result<(), TrainerError> {
        let mut variate: Self = state.load(NAME)?.unwrap_or_default();
        let blob = blobs.insert_bytes(&parameters.to_safetensors())?;
        variate.next = Some(Next { round, blob });
        Ok(variate.save(state)?)
    }

    fn save(&self, state: &StateDir) -> Result<(), NodeError> {
        state.save(NAME, self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_models::TensorSpec;

    use super::*;

    struct Desk {
        _dir: tempfile::TempDir,
        state: StateDir,
        blobs: BlobStore,
        fate: Fate,
    }

    impl Desk {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self {
                state: StateDir::open(&dir.path().join("state")).unwrap(),
                blobs: BlobStore::open(&dir.path().join("blobs")).unwrap(),
                fate: Fate::default(),
                _dir: dir,
            }
        }

        fn propose(&self, round: u32, value: f32) {
            let layout = vec![TensorSpec {
                name: "w".into(),
                shape: vec![1],
            }];
            let parameters = Parameters::new(layout, vec![value]).unwrap();
            Variate::propose(&self.state, &self.blobs, RoundId(round), &parameters).unwrap();
        }

        /// The value of the variate as a round finds it.
        fn at(&self, round: u32) -> Option<f32> {
            let of_round =
                Variate::of_round(&self.state, &self.blobs, RoundId(round), &self.fate).unwrap();
            let bytes = self.blobs.read(&of_round.current()?).unwrap();
            let parameters = Parameters::from_safetensors(&bytes, None).unwrap();
            Some(parameters.values()[0])
        }

        fn blobs(&self) -> usize {
            let entries = std::fs::read_dir(self.blobs.dir()).unwrap().flatten();
            entries.filter(|entry| entry.path().is_file()).count()
        }
    }

    #[test]
    fn a_variate_moves_with_updates_that_were_kept_and_no_others() {
        let mut desk = Desk::new();
        assert_eq!(desk.at(1), None);
        desk.propose(1, 1.0);
        assert_eq!(desk.at(1), None, "the round is not over");
        desk.fate.tell(RoundId(1), Outcome::Kept);
        assert_eq!(desk.at(2), Some(1.0));
        desk.propose(2, 2.0);
        desk.fate.tell(RoundId(2), Outcome::Refused);
        assert_eq!(desk.at(3), Some(1.0));
        desk.propose(3, 3.0);
        desk.fate.tell(RoundId(3), Outcome::Stored);
        assert_eq!(desk.at(4), Some(1.0), "the round ended without it");
        assert_eq!(desk.blobs(), 1, "what is spent is removed");
    }

    #[test]
    fn a_round_tried_again_replaces_what_was_proposed_in_it() {
        let mut desk = Desk::new();
        desk.propose(1, 1.0);
        desk.propose(1, 2.0);
        desk.fate.tell(RoundId(1), Outcome::Kept);
        assert_eq!(desk.at(2), Some(2.0));
        assert_eq!(desk.at(2), Some(2.0), "a restart finds the same");
    }
}

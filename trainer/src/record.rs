//! What a trainer has signed, on disk before it is sent.

use convoke_node::{NodeError, StateDir};
use convoke_protocol::assignment::{Signed, Start};
use convoke_protocol::ids::RoundId;
use convoke_protocol::update::SignedUpdate;
use serde::{Deserialize, Serialize};

/// The latest update. Signing a second one for the same round would be equivocation, which can
/// cost the stake: so this is written before anything is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The update as it was signed.
    pub update: SignedUpdate,
    /// The round whose base the work on it began with.
    pub began: RoundId,
}

const NAME: &str = "update.json";

impl Record {
    /// The update signed last.
    ///
    /// # Errors
    /// [`NodeError::State`].
    pub fn latest(state: &StateDir) -> Result<Option<Self>, NodeError> {
        state.load(NAME)
    }

    /// Remembers an update, durably.
    ///
    /// # Errors
    /// [`NodeError::State`].
    pub fn save(&self, state: &StateDir) -> Result<(), NodeError> {
        state.save(NAME, self)
    }

    /// What an assignment goes by; `spent` as in [`Signed::spent`].
    #[must_use]
    pub fn signed(&self, spent: bool) -> Signed {
        Signed {
            round: self.update.header.round,
            began: self.start(),
            spent,
        }
    }

    /// Where the work on it began.
    #[must_use]
    pub fn start(&self) -> Start {
        Start {
            round: self.began,
            base: self.update.header.base,
        }
    }
}

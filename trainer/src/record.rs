//! What a trainer has signed, on disk before it is sent.

use convoke_node::{NodeError, StateDir};
use convoke_protocol::ids::{BlobHash, RoundId};
use convoke_protocol::update::SignedUpdate;
use serde::{Deserialize, Serialize};

/// The latest update. Signing a second one for the same round would be equivocation, which can
/// cost the stake: so this is written before anything is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The update as it was signed.
    pub update: SignedUpdate,
}

const NAME: &str = "update.json";

impl Record {
    /// The update signed for this round and checkpoint, if there is one.
    ///
    /// # Errors
    /// [`NodeError::State`].
    pub fn find(
        state: &StateDir,
        round: RoundId,
        base: BlobHash,
    ) -> Result<Option<SignedUpdate>, NodeError> {
        let latest = Self::latest(state)?;
        Ok(latest.filter(|update| update.header.round == round && update.header.base == base))
    }

    /// The update signed last.
    ///
    /// # Errors
    /// [`NodeError::State`].
    pub fn latest(state: &StateDir) -> Result<Option<SignedUpdate>, NodeError> {
        let record: Option<Self> = state.load(NAME)?;
        Ok(record.map(|record| record.update))
    }

    /// Remembers an update, durably.
    ///
    /// # Errors
    /// [`NodeError::State`].
    pub fn save(state: &StateDir, update: &SignedUpdate) -> Result<(), NodeError> {
        state.save(
            NAME,
            &Self {
                update: update.clone(),
            },
        )
    }
}

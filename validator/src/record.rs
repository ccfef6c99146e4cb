//! What a validator has committed to, on disk before it is sent: a restarted one commits and
//! reveals the same.

use convoke_node::{NodeError, StateDir};
use convoke_protocol::ids::{BlobHash, RoundId};
use convoke_protocol::message::Candidate;
use convoke_protocol::scores::ScoreSheet;
use serde::{Deserialize, Serialize};

/// What a round's scores are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) round: RoundId,
    pub(crate) attempt: u16,
    pub(crate) base: BlobHash,
    pub(crate) updates: u16,
    pub(crate) candidates: Vec<Candidate>,
}

/// The scores of the latest round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) request: Request,
    pub(crate) sheet: ScoreSheet,
    pub(crate) factors: Vec<u16>,
    pub(crate) salt: [u8; 32],
}

/// What part of the vesting pay is released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) round: RoundId,
    pub(crate) checkpoint: BlobHash,
    pub(crate) release_bps: u16,
    pub(crate) salt: [u8; 32],
}

const RECORD: &str = "scores.json";
const VERDICT: &str = "verdict.json";

impl Record {
    /// The latest one.
    pub(crate) fn latest(state: &StateDir) -> Result<Option<Self>, NodeError> {
        state.load(RECORD)
    }

    /// That of a round.
    pub(crate) fn find(state: &StateDir, round: RoundId) -> Result<Option<Self>, NodeError> {
        Ok(Self::latest(state)?.filter(|record| record.request.round == round))
    }

    pub(crate) fn save(&self, state: &StateDir) -> Result<(), NodeError> {
        state.save(RECORD, self)
    }
}

impl Verdict {
    pub(crate) fn find(
        state: &StateDir,
        round: RoundId,
        checkpoint: BlobHash,
    ) -> Result<Option<Self>, NodeError> {
        let verdict: Option<Self> = state.load(VERDICT)?;
        Ok(verdict.filter(|v| (v.round, v.checkpoint) == (round, checkpoint)))
    }

    pub(crate) fn save(&self, state: &StateDir) -> Result<(), NodeError> {
        state.save(VERDICT, self)
    }
}

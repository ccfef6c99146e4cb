//! A round's record: what the aggregator publishes of it, bound by the result hash on chain, so
//! that anybody can do the round's arithmetic again.

use serde::{Deserialize, Serialize};

use crate::ids::{Address, Amount, BlobHash, Digest, RoundId, TaskId};
use crate::message::Broadcast;
use crate::payout::PayoutDomain;
use crate::refusal::Refusal;
use crate::sketch::{Norm, SignedSketch, Sketched};
use crate::update::SignedUpdate;

/// Version of the record's form.
pub const RECORD_VERSION: u16 = 1;

/// Longest record that is read, in bytes: more than the largest cohort's.
pub const RECORD_BYTES_MAX: u64 = 16 << 20;

/// Everything about a round's updates that is known apart from the deltas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dossier {
    /// The seed of the sketches, as the chain drew it.
    pub seed: Digest,
    /// See [`Norm::clipping`].
    pub clip_norm: Norm,
    /// The updates that the aggregator committed to, in order.
    pub updates: Vec<RecordedUpdate>,
    /// Updates that trainers committed to on chain themselves, in the chain's order: trainer, and
    /// what it committed to. Their places are after the others.
    pub own_updates: Vec<(Address, Digest)>,
}

/// One update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedUpdate {
    /// What its trainer signed before the seed was known.
    pub update: SignedUpdate,
    /// What its trainer signed after that, if it did so in time.
    pub claim: Option<SignedSketch>,
    /// What the aggregator found; nothing if the update was refused before it was compared.
    pub sketched: Option<Sketched>,
    /// Millionths that the delta is scaled by.
    pub clip_ppm: u32,
    /// Its score; 0 unless the filter kept it.
    pub alignment: u64,
    /// Its weight in the average, in examples; 0 if it is not part of it.
    pub weight: u64,
    /// Why the filter or the check before it refused the update.
    pub refusal: Option<Refusal>,
}

impl RecordedUpdate {
    /// An update of which nothing but the header is known.
    #[must_use]
    pub fn new(update: SignedUpdate, refusal: Option<Refusal>) -> Self {
        Self {
            update,
            claim: None,
            sketched: None,
            clip_ppm: 0,
            alignment: 0,
            weight: 0,
            refusal,
        }
    }
}

impl Dossier {
    /// Trainer and struct hash of every update that the aggregator commits to.
    pub fn committed(&self) -> impl Iterator<Item = (Address, Digest)> + '_ {
        let pair = |entry: &RecordedUpdate| {
            let update = &entry.update;
            (update.trainer, update.header.struct_hash())
        };
        self.updates.iter().map(pair)
    }

    /// Updates in all, those included that trainers committed to themselves.
    #[must_use]
    pub fn count(&self) -> usize {
        self.updates.len() + self.own_updates.len()
    }
}

/// A round as its aggregator publishes it: JSON, whose BLAKE3 hash is the result hash on chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// [`RECORD_VERSION`].
    pub version: u16,
    /// Chain and task manager.
    pub domain: PayoutDomain,
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundId,
    /// How often the chain has opened the round, from 1.
    pub attempt: u16,
    /// The checkpoint that the round started from.
    pub base: BlobHash,
    /// The one that it led to.
    pub checkpoint: BlobHash,
    /// How the step was taken.
    pub step: StepRecord,
    /// How the checkpoint was encoded, if it was.
    pub broadcast: Option<BroadcastRecord>,
    /// The updates.
    pub dossier: Dossier,
    /// The combined factor of each update.
    pub factors: Vec<u16>,
    /// What trainers are paid.
    pub payouts: Vec<(Address, Amount)>,
}

/// A round whose checkpoint was encoded: the step was taken from one exact model to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BroadcastRecord {
    /// The exact model behind the base; the base itself in the first round.
    pub exact_before: BlobHash,
    /// What the nodes were sent, and what the step led to.
    pub sent: Broadcast,
}

impl RoundRecord {
    /// Where the step began and ended: base and checkpoint, or the exact models behind them.
    #[must_use]
    pub fn step_ends(&self) -> (BlobHash, BlobHash) {
        match self.broadcast {
            None => (self.base, self.checkpoint),
            Some(broadcast) => (broadcast.exact_before, broadcast.sent.exact),
        }
    }

    /// As it is published: the same record always gives the same bytes.
    ///
    /// # Errors
    /// None that a record of a finished round could cause.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads what [`Self::to_json`] wrote.
    ///
    /// # Errors
    /// If it is no record of this version.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let record: Self = serde_json::from_slice(bytes)?;
        match record.version {
            RECORD_VERSION => Ok(record),
            other => Err(serde::de::Error::custom(format!(
                "a record of version {other}, this program reads {RECORD_VERSION}"
            ))),
        }
    }
}

/// Rule and server optimizer, and the hashes of the latter's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Name of the aggregation rule.
    pub rule: String,
    /// Server learning rate.
    pub server_lr: f64,
    /// Server momentum.
    pub server_momentum: f64,
    /// The momentum that belongs to the base; nothing before the first step, and without momentum.
    pub state_before: Option<BlobHash>,
    /// The momentum that belongs to the checkpoint.
    pub state_after: Option<BlobHash>,
}

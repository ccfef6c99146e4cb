//! A round's record: what the aggregator publishes of it, bound by the result hash on chain, so
//! that anybody can do the round's arithmetic again.

use serde::{Deserialize, Serialize};

use crate::ids::{Address, Amount, BlobHash, Digest, RoundId, TaskId};
use crate::message::Broadcast;
use crate::payout::PayoutDomain;
use crate::refusal::Refusal;
use crate::sketch::{Norm, SignedSketch, Sketched};
use crate::task::{AggregationSpec, ServerOptimizerKind};
use crate::update::SignedUpdate;

/// Version of the record's form.
pub const RECORD_VERSION: u16 = 2;

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
    /// Length to be expected of the noise that the rule added to the aggregated delta: its standard
    /// deviation times the root of the number of values. Zero for rules that add none.
    pub noise: Norm,
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
    /// Its weight in the average, [`crate::task::AggregationSpec::weight`]; 0 if it is not part
    /// of it.
    pub weight: u64,
    /// What the aggregated delta has of its clipped delta; zero if it is not part of it, and if the
    /// rule takes values apart.
    pub share: Share,
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
            share: Share::ZERO,
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

/// A coefficient of a linear combination of deltas, in whole multiples of 2⁻⁵² from 0 to 2¹²: step,
/// event log and record have the same number, whatever they are written in.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Share(u64);

impl Share {
    /// Nothing of it.
    pub const ZERO: Self = Self(0);

    /// All of it, once.
    pub const ONE: Self = Self(1 << 52);

    /// Rounds to the nearest one; what is negative or no number is nothing.
    #[must_use]
    pub fn of(share: f64) -> Self {
        let most = 4_096.0 * Self::ONE.0 as f64;
        // The cast makes zero of what is no number.
        Self((share * Self::ONE.0 as f64).round().clamp(0.0, most) as u64)
    }

    /// The coefficient.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0 as f64 / Self::ONE.0 as f64
    }
}

/// Rule and server optimizer, and the hashes of the latter's moments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Name of the aggregation rule.
    pub rule: String,
    /// Which server optimizer.
    pub server_optimizer: ServerOptimizerKind,
    /// Server learning rate.
    pub server_lr: f64,
    /// Server momentum, β₁.
    pub server_momentum: f64,
    /// β₂ of the adaptive optimizers.
    pub server_beta2: f64,
    /// τ of the adaptive optimizers.
    pub server_tau: f64,
    /// The moments that belong to the base, in the optimizer's order; nothing before the first
    /// step, and of an optimizer that has none.
    pub states_before: Vec<BlobHash>,
    /// The moments that belong to the checkpoint.
    pub states_after: Vec<BlobHash>,
    /// The server's control variate that belongs to the base; nothing before the first step, and
    /// without [`crate::control`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_before: Option<BlobHash>,
    /// The one that belongs to the checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_after: Option<BlobHash>,
}

impl StepRecord {
    /// As a task's settings have it, without control variates.
    #[must_use]
    pub fn of(
        settings: &AggregationSpec,
        states_before: Vec<BlobHash>,
        states_after: Vec<BlobHash>,
    ) -> Self {
        Self {
            rule: settings.rule.clone(),
            server_optimizer: settings.server_optimizer,
            server_lr: settings.server_lr,
            server_momentum: settings.server_momentum,
            server_beta2: settings.server_beta2,
            server_tau: settings.server_tau,
            states_before,
            states_after,
            control_before: None,
            control_after: None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_and_bounded() {
        assert_eq!(Share::of(1.0), Share::ONE);
        assert_eq!(Share::of(0.75).value(), 0.75);
        for nothing in [0.0, -0.0, -1.0, f64::NAN, f64::NEG_INFINITY, 1e-30] {
            assert_eq!(Share::of(nothing), Share::ZERO, "{nothing}");
        }
        assert_eq!(Share::of(f64::INFINITY).value(), 4_096.0);
        let third = Share::of(1.0 / 3.0);
        assert!((third.value() - 1.0 / 3.0).abs() <= f64::EPSILON);
        assert_eq!(Share::of(third.value()), third);
        let json = serde_json::to_string(&third).unwrap();
        assert_eq!(serde_json::from_str::<Share>(&json).unwrap(), third);
    }
}

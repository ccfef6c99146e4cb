//! What is known of a simulation when it has ended.

use std::collections::BTreeMap;

use convoke_protocol::ids::{Address, Amount, Digest, Millis};
use convoke_protocol::message::RoundReport;

use crate::adversaries::Persona;

/// How it went.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub(super) seed: u64,
    pub(super) initial_loss: f64,
    pub(super) held_out_loss: f64,
    /// One report for each settled round.
    pub reports: Vec<RoundReport>,
    /// What each trainer was.
    pub personas: BTreeMap<Address, Persona>,
    /// The slow trainers.
    pub slow: Vec<Address>,
    /// When the task ended, from 0.
    pub ended: Millis,
    /// Paid in all rounds together.
    pub paid: BTreeMap<Address, Amount>,
    /// The validators, withholding ones first and censored ones last.
    pub validators: Vec<Address>,
    /// Attempts that the chain failed.
    pub lost_attempts: u32,
    /// Messages lost.
    pub lost: u64,
    /// How often the aggregator was killed.
    pub crashes: u32,
    /// Digest of the last state, for comparing two runs.
    pub digest: Digest,
    /// Why the task failed, if it did.
    pub failure: Option<String>,
}

impl Outcome {
    /// The seed that gives this again.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Held-out loss before the first round.
    #[must_use]
    pub fn initial_loss(&self) -> f64 {
        self.initial_loss
    }

    /// Settled rounds in an hour of the virtual clock.
    #[must_use]
    pub fn rounds_per_hour(&self) -> f64 {
        self.reports.len() as f64 * 3_600_000.0 / self.ended.0.max(1) as f64
    }

    /// Rounds in which an update of `trainer` was kept.
    #[must_use]
    pub fn rounds_kept(&self, trainer: Address) -> usize {
        let of_trainer =
            |report: &&RoundReport| report.kept.iter().any(|kept| kept.trainer == trainer);
        self.reports.iter().filter(of_trainer).count()
    }

    /// Held-out loss of the last checkpoint.
    #[must_use]
    pub fn held_out_loss(&self) -> f64 {
        self.held_out_loss
    }
}

//! `[aggregation]`: rule, server optimizer and mode.

use serde::{Deserialize, Serialize};

use super::TaskFileError;
use super::check::within;
use crate::ids::Address;

/// `[aggregation]`: how updates become a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AggregationSpec {
    /// A rule's name, such as `"fedavg"`; the aggregator knows them, `convoke rules` lists them.
    pub rule: String,
    /// Share of hostile updates that a robust rule is to withstand, 0 to 4,999 bps: f = ⌊share · N⌋
    /// of N.
    pub attackers_bps: u16,
    /// Rules that clip do so at this multiple of the median norm, 0.01 to 100.
    pub clip_factor: f64,
    /// Standard deviation of Gaussian noise on the step, in multiples of the clipping norm over √D,
    /// for rules that add it, 0 to 1.
    pub noise_factor: f64,
    /// The trainer whose update `"fltrust"` measures the others by: one that trains on data which the
    /// task's creator trusts. None by default.
    pub root_trainer: Option<Address>,
    /// `"sgd"`, `"nesterov"`, `"adam"`, `"yogi"` or `"adagrad"`.
    pub server_optimizer: ServerOptimizerKind,
    /// Server learning rate, above 0, at most 10.
    pub server_lr: f64,
    /// Server momentum (β₁ of the adaptive optimizers), 0 to 0.999.
    pub server_momentum: f64,
    /// β₂ of the adaptive optimizers, 0 to 0.9999.
    pub server_beta2: f64,
    /// τ, what the adaptive optimizers add to the root of the second moment, 1e-9 to 1.
    pub server_tau: f64,
    /// A claim of more examples than this counts as this many, 1 to 10^9.
    pub num_examples_max: u64,
    /// `"sync"`: a round waits for its cohort. `"buffered"`: a round ends with `buffer_size`
    /// updates, and takes those that began with an earlier round's checkpoint, too (FedBuff).
    pub mode: AggregationMode,
    /// K of `"buffered"`: updates that end a round, 1 to 256.
    pub buffer_size: u32,
    /// Rounds that the base of a buffered update may lie back, 0 to 100.
    pub staleness_max: u32,
    /// A buffered update that lies s rounds back weighs (1 + s)^-power, 0 to 4.
    pub staleness_power: f64,
}

/// When a round has enough updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AggregationMode {
    /// When its cohort has delivered, or a quorum of it and the grace time is over.
    Sync,
    /// When its buffer is full, whoever filled it.
    Buffered,
}

/// What the aggregated delta does to the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerOptimizerKind {
    /// A step with (heavy-ball) momentum: FedAvgM.
    Sgd,
    /// A step with Nesterov momentum: the outer step of DiLoCo.
    Nesterov,
    /// FedAdam.
    Adam,
    /// FedYogi.
    Yogi,
    /// FedAdagrad.
    Adagrad,
}

impl Default for AggregationSpec {
    fn default() -> Self {
        Self {
            rule: "fedavg".into(),
            attackers_bps: 2_000,
            clip_factor: 1.0,
            noise_factor: 0.0,
            root_trainer: None,
            server_optimizer: ServerOptimizerKind::Sgd,
            server_lr: 1.0,
            server_momentum: 0.0,
            server_beta2: 0.99,
            server_tau: 1e-3,
            num_examples_max: 10_000,
            mode: AggregationMode::Sync,
            buffer_size: 10,
            staleness_max: 4,
            staleness_power: 0.5,
        }
    }
}

impl AggregationSpec {
    pub(super) fn check(&self) -> Result<(), TaskFileError> {
        within(
            "aggregation.rule (its length)",
            self.rule.len(),
            1..=32,
            "a rule's name",
        )?;
        within(
            "aggregation.attackers_bps",
            self.attackers_bps,
            0..=4_999,
            "0 to 4999",
        )?;
        within(
            "aggregation.clip_factor",
            self.clip_factor,
            0.01..=100.0,
            "0.01 to 100",
        )?;
        within(
            "aggregation.noise_factor",
            self.noise_factor,
            0.0..=1.0,
            "0 to 1",
        )?;
        within(
            "aggregation.server_lr",
            self.server_lr,
            1e-9..=10.0,
            "above 0, at most 10",
        )?;
        within(
            "aggregation.server_momentum",
            self.server_momentum,
            0.0..=0.999,
            "0 to 0.999",
        )?;
        within(
            "aggregation.server_beta2",
            self.server_beta2,
            0.0..=0.9999,
            "0 to 0.9999",
        )?;
        within(
            "aggregation.server_tau",
            self.server_tau,
            1e-9..=1.0,
            "1e-9 to 1",
        )?;
        within(
            "aggregation.num_examples_max",
            self.num_examples_max,
            1..=1_000_000_000,
            "1 to 1000000000",
        )?;
        within(
            "aggregation.buffer_size",
            self.buffer_size,
            1..=256,
            "1 to 256",
        )?;
        within(
            "aggregation.staleness_max",
            self.staleness_max,
            0..=100,
            "0 to 100",
        )?;
        within(
            "aggregation.staleness_power",
            self.staleness_power,
            0.0..=4.0,
            "0 to 4",
        )
    }
}

//! The task file: what a creator asks for, checked on load.
//!
//! A task is a TOML text. Its bytes go on chain when the task is created, so a node needs only
//! the task's number to learn model, hyper-parameters, windows and pay. Every field has a
//! default except name and model; `convoke task create` fills in the initial checkpoint.

mod aggregation;
mod check;
mod compression;
mod contribution;
mod defaults;
mod model;
mod modes;

use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

pub use self::aggregation::{AggregationMode, AggregationSpec, ServerOptimizerKind};
pub use self::compression::{CodecKind, CompressionSpec};
pub use self::contribution::{ContributionSpec, ScoreMethod};
pub use self::model::{AdapterSpec, BaseSpec, ModelSpec};
pub use self::modes::EXAMPLE_WEIGHT;
use crate::ids::{Amount, BlobHash};
pub use crate::split::SplitKind;

/// Basis points in a whole.
pub const BPS: u16 = 10_000;

/// Largest task file, in bytes; it is stored in an event of the contract.
pub const TASK_FILE_BYTES_MAX: usize = 16 * 1024;

/// Why a task file is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TaskFileError {
    /// Longer than [`TASK_FILE_BYTES_MAX`].
    #[error("the task file has {got} bytes, at most {TASK_FILE_BYTES_MAX} are allowed")]
    TooLong {
        /// Length offered.
        got: usize,
    },
    /// No TOML, or a field that is unknown or of the wrong type; the text names the line.
    #[error("{0}")]
    Syntax(String),
    /// A value outside its range.
    #[error("`{field}` is {got}, allowed: {allowed}")]
    Range {
        /// The field as it is written in the file, with its table.
        field: &'static str,
        /// The value found.
        got: String,
        /// The values that are accepted.
        allowed: &'static str,
    },
}

/// A whole task file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// A short name for people: `name = "fashion-mnist"`, 1 to 64 characters.
    pub name: String,
    /// One line on what is trained, at most 500 characters.
    #[serde(default)]
    pub description: String,
    /// Rounds to train, 1 to 10,000.
    #[serde(default = "defaults::rounds")]
    pub rounds: u32,
    /// Seed of the trainers' shuffles.
    #[serde(default)]
    pub seed: u64,
    /// The checkpoint that the first round starts from; set by `convoke task create`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<BlobHash>,
    /// `[model]`: what is trained.
    pub model: ModelSpec,
    /// `[base]`: pretrained weights to start from, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseSpec>,
    /// `[adapter]`: to train small additions to the base instead of all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<AdapterSpec>,
    /// `[training]`: what each trainer does in a round.
    #[serde(default)]
    pub training: TrainingSpec,
    /// `[aggregation]`: how updates become a step.
    #[serde(default)]
    pub aggregation: AggregationSpec,
    /// `[compression]`: how deltas and checkpoints travel.
    #[serde(default)]
    pub compression: CompressionSpec,
    /// `[contribution]`: what validators measure of each update.
    #[serde(default)]
    pub contribution: ContributionSpec,
    /// `[cohort]`: who takes part.
    #[serde(default)]
    pub cohort: CohortSpec,
    /// `[timing]`: how long is waited for whom.
    #[serde(default)]
    pub timing: TimingSpec,
    /// `[reward]`: the pool and its split.
    #[serde(default)]
    pub reward: RewardSpec,
    /// `[stake]`: what a node must have staked to take part.
    #[serde(default)]
    pub stake: StakeSpec,
}

/// `[training]`: client-side hyper-parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingSpec {
    /// Passes over the local data in a round, 1 to 100.
    pub local_epochs: u32,
    /// At most so many optimizer steps in a round, if set; 1 to 1,000,000.
    pub steps_max: Option<u32>,
    /// Examples in a step, 1 to 4,096.
    pub batch_size: u32,
    /// So many of them are computed at a time and their gradients added up, if set; 1 to
    /// `batch_size`. The step is the same, but for rounding; it takes less memory.
    pub micro_batch_size: Option<u32>,
    /// Gradients are scaled down to this norm, over all tensors together, if set; above 0.
    pub gradient_norm_max: Option<f64>,
    /// How the client learning rate runs within a round.
    pub schedule: Schedule,
    /// Steps at the beginning of a round over which the client learning rate rises linearly, 0 to
    /// 1,000,000.
    pub warmup_steps: u32,
    /// mu of the proximal term mu/2 |w - w0|^2, which keeps a trainer near the checkpoint w0 that
    /// it began from (FedProx, Li et al. 2020, arXiv:1812.06127), 0 to 100; 0 for none.
    pub proximal: f64,
    /// `"sgd"` or `"adamw"`.
    pub client_optimizer: String,
    /// Client learning rate in round 1, above 0, at most 10.
    pub client_lr: f64,
    /// The client learning rate is multiplied by this each round, 0.1 to 1.
    pub client_lr_decay: f64,
    /// Adds the logarithms of the trainer's own class frequencies to the logits while training, so
    /// that a skewed share of the classes does not pull the shared model towards itself (logits
    /// calibration, Zhang et al. 2022, arXiv:2209.00189).
    pub logit_calibration: bool,
    /// Momentum of `sgd`, 0 to 0.999.
    pub momentum: f64,
    /// Weight decay, 0 to 1.
    pub weight_decay: f64,
    /// Control variates against the drift of skewed data (SCAFFOLD, Karimireddy et al. 2020,
    /// arXiv:1910.06378); with `sgd` without momentum only.
    pub control_variates: bool,
}

/// How the client learning rate runs within a round, behind the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It falls in a line to 0 at the last step.
    Linear,
    /// It falls along half a cosine to 0 at the last step.
    Cosine,
}

/// `[cohort]`: numbers of participants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CohortSpec {
    /// A round opens with at least so many trainers, 1 to 256.
    pub trainers_min: u32,
    /// and draws at most so many, `trainers_min` to 256.
    pub trainers_max: u32,
    /// A round opens with at least so many validators, 0 to 64. With 0 held-out loss plays no part.
    pub validators_min: u32,
    /// Share of the cohort whose updates let the round go on after the grace time, 1 to 10,000 bps.
    pub quorum_bps: u16,
    /// With fewer updates than this the round is tried again, 1 to `trainers_min`.
    pub updates_min: u32,
}

/// `[timing]`, all in seconds, 1 to 604,800.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TimingSpec {
    /// A trainer is given up after so long without a sign of progress.
    pub progress_timeout_s: u32,
    /// A round trains no longer than this, whatever the progress.
    pub train_max_s: u32,
    /// With a quorum of updates in, the others have so long; and so long the chain waits for
    /// validators that were missing the last time.
    pub grace_s: u32,
    /// Validators have so long to commit, and again to reveal. On chain this begins with the
    /// seed, before the aggregator compares the updates.
    pub score_timeout_s: u32,
    /// The aggregator has so long to commit to the updates after training, to draw the seed, and
    /// to submit the result; after that the chain fails the attempt.
    pub settle_timeout_s: u32,
    /// So long is waited for enough nodes before the task is given up.
    pub open_timeout_s: u32,
    /// A round is tried so often before the task fails, 1 to 100 (a number, not seconds).
    pub attempts_max: u32,
}

/// `[reward]`: pool, split and windows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RewardSpec {
    /// The whole pool in token base units, as a string: `pool = "1000000000000000000000"`.
    pub pool: Amount,
    /// How a round's part of the pool is divided; the three add up to 10,000 bps.
    pub trainers_bps: u16,
    /// See `trainers_bps`.
    pub validators_bps: u16,
    /// See `trainers_bps`.
    pub aggregator_bps: u16,
    /// Part of every payout that is held back until validators have evaluated the outcome in the
    /// end, 0 to 9,000 bps.
    pub vesting_bps: u16,
    /// How the trainers' part is split: in proportion to the scores, `"score"`, or by their
    /// ranks, `"rank"`.
    pub split: SplitKind,
    /// With `split = "rank"`, each rank gets this share of what the rank before it gets, 1 to
    /// 10,000 bps.
    pub rank_decay_bps: u16,
    /// When the proof of a result is checked: with the result, `"on_submission"`; or only if
    /// somebody challenges it, `"on_challenge"`, which costs less gas, but each round then waits
    /// until the dispute window of the last has closed.
    pub proof: ProofMode,
    /// Seconds between a result and the first claim against it, 0 to 2,592,000.
    pub dispute_window_s: u32,
    /// Without a result for so long anybody may end the task and have the rest refunded, 60 to 31,536,000.
    pub round_timeout_s: u32,
}

/// When a result's proof is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofMode {
    /// With the result.
    OnSubmission,
    /// If somebody challenges the result within the dispute window.
    OnChallenge,
}

/// The split of a round's pool in basis points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewardShares {
    /// All trainers together.
    pub trainers_bps: u16,
    /// All validators together.
    pub validators_bps: u16,
    /// The aggregator.
    pub aggregator_bps: u16,
}

/// `[stake]`: minimum stakes in token base units, and the hard penalties on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StakeSpec {
    /// Of a trainer.
    pub trainer: Amount,
    /// Of a validator; at least 1 if validators are wanted, since its stake is its weight.
    pub validator: Amount,
    /// Of the aggregator.
    pub aggregator: Amount,
    /// Part of its stake that a node loses for a fault proven on chain, 0 to 5,000 bps.
    pub slash_bps: u16,
    /// Part of that which goes to whoever proves it, 0 to 5,000 bps; the rest goes into escrow.
    pub reporter_bps: u16,
}

impl TaskSpec {
    /// Reads and checks a task file.
    ///
    /// # Errors
    /// [`TaskFileError`]; syntax errors name the line.
    pub fn parse(text: &str) -> Result<Self, TaskFileError> {
        if text.len() > TASK_FILE_BYTES_MAX {
            return Err(TaskFileError::TooLong { got: text.len() });
        }
        let spec: Self =
            toml::from_str(text).map_err(|error| TaskFileError::Syntax(error.to_string()))?;
        spec.check()?;
        Ok(spec)
    }

    /// The task as TOML, every default written out.
    ///
    /// # Errors
    /// [`TaskFileError::TooLong`] if it does not fit on chain.
    pub fn to_toml(&self) -> Result<String, TaskFileError> {
        let text = toml::to_string_pretty(self)
            .map_err(|error| TaskFileError::Syntax(error.to_string()))?;
        if text.len() > TASK_FILE_BYTES_MAX {
            return Err(TaskFileError::TooLong { got: text.len() });
        }
        Ok(text)
    }

    /// The split of each round's pool.
    #[must_use]
    pub fn shares(&self) -> RewardShares {
        RewardShares {
            trainers_bps: self.reward.trainers_bps,
            validators_bps: self.reward.validators_bps,
            aggregator_bps: self.reward.aggregator_bps,
        }
    }

    /// The smallest cohort that a round may open with: later rounds go on with a quorum of
    /// `trainers_min`, but never with fewer than `updates_min`.
    #[must_use]
    pub fn cohort_min(&self) -> u32 {
        let cohort = &self.cohort;
        quorum(cohort.trainers_min, cohort.quorum_bps).max(cohort.updates_min)
    }

    /// What one round can pay: the pool over the rounds, rounded down.
    #[must_use]
    pub fn round_pool(&self) -> Amount {
        self.reward.pool.share_down(1, u128::from(self.rounds))
    }
}

/// Writes a task as its TOML text: its fields may be left out, and its `[model]` holds what the
/// models crate alone knows, which a format without names cannot hold.
///
/// # Errors
/// If the text is too long.
pub(crate) fn as_toml<S: Serializer>(spec: &TaskSpec, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&spec.to_toml().map_err(S::Error::custom)?)
}

/// The least number that is at least `bps` of `whole`.
#[must_use]
pub fn quorum(whole: u32, bps: u16) -> u32 {
    let quorum = (u64::from(whole) * u64::from(bps)).div_ceil(u64::from(BPS));
    u32::try_from(quorum).unwrap_or(whole)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SMALL: &str = "name = \"t\"\n[model]\nkind = \"cnn\"\n";

    #[test]
    fn defaults_fill_a_small_file_and_survive_a_round_trip() {
        let spec = TaskSpec::parse(SMALL).unwrap();
        assert_eq!(spec.rounds, 10);
        assert_eq!(TaskSpec::parse(&spec.to_toml().unwrap()).unwrap(), spec);
    }

    #[test]
    fn a_misspelt_field_is_named_with_its_line() {
        let error = TaskSpec::parse(&format!("{SMALL}[training]\nlocal_epoch = 3\n")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("local_epoch") && text.contains("line 5"),
            "{text}"
        );
    }

    #[test]
    fn values_outside_their_range_say_what_is_allowed() {
        for (extra, field) in [
            ("[training]\nclient_lr = nan\n", "training.client_lr"),
            ("[training]\nclient_lr = -1.0\n", "training.client_lr"),
            (
                "[training]\nclient_optimizer = \"lion\"\n",
                "training.client_optimizer",
            ),
            ("[reward]\ntrainers_bps = 1\n", "reward.trainers_bps"),
            (
                "[cohort]\ntrainers_min = 5\ntrainers_max = 4\n",
                "cohort.trainers_max",
            ),
            (
                "[training]\nmomentum = 0.5\ncontrol_variates = true\n",
                "training.control_variates",
            ),
            (
                "[aggregation]\nattackers_bps = 5000\n",
                "aggregation.attackers_bps",
            ),
            (
                "[aggregation]\nserver_tau = 0.0\n",
                "aggregation.server_tau",
            ),
            (
                "[aggregation]\nbuffer_size = 0\n",
                "aggregation.buffer_size",
            ),
            ("[compression]\nkeep_ppm = 99\n", "compression.keep_ppm"),
            (
                "[contribution]\nevaluations_max = 0\n",
                "contribution.evaluations_max",
            ),
            ("[timing]\ngrace_s = 0\n", "timing.grace_s"),
            (
                "[timing]\nsettle_timeout_s = 0\n",
                "timing.settle_timeout_s",
            ),
            ("[reward]\nrank_decay_bps = 0\n", "reward.rank_decay_bps"),
            ("[stake]\nvalidator = \"0\"\n", "stake.validator"),
            ("[stake]\nslash_bps = 5001\n", "stake.slash_bps"),
            ("[stake]\nreporter_bps = 5001\n", "stake.reporter_bps"),
        ] {
            let error = TaskSpec::parse(&format!("{SMALL}{extra}"))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(field) && error.contains("allowed"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_record_tells_tasks_apart_by_their_models_own_settings() {
        #[derive(Serialize)]
        struct Record {
            #[serde(serialize_with = "as_toml")]
            spec: TaskSpec,
        }
        let encoded = |model: &str| {
            let spec = TaskSpec::parse(&format!("{SMALL}{model}")).unwrap();
            crate::codec::encode(&Record { spec }).unwrap()
        };
        assert_eq!(encoded("heads = 4\n"), encoded("heads = 4\n"));
        assert_ne!(encoded("heads = 4\n"), encoded("heads = 5\n"));
        assert_ne!(encoded(""), encoded("[adapter]\nrank = 4\n"));
    }

    #[test]
    fn the_split_and_the_proof_go_by_name() {
        let text = format!("{SMALL}[reward]\nsplit = \"rank\"\nproof = \"on_challenge\"\n");
        let reward = TaskSpec::parse(&text).unwrap().reward;
        assert_eq!(
            (reward.split, reward.proof),
            (SplitKind::Rank, ProofMode::OnChallenge)
        );
        let error = TaskSpec::parse(&text.replace("rank", "luck")).unwrap_err();
        assert!(error.to_string().contains("luck"), "{error}");
    }

    #[test]
    fn a_cohort_is_a_quorum_and_no_less_than_the_updates_needed() {
        let cohort = |text: &str| {
            let text = format!("{SMALL}[cohort]\ntrainers_min = 10\n{text}");
            TaskSpec::parse(&text).unwrap().cohort_min()
        };
        assert_eq!(cohort("quorum_bps = 6700"), 7);
        assert_eq!(cohort("quorum_bps = 1\nupdates_min = 4"), 4);
        assert_eq!(cohort("quorum_bps = 10000"), 10);
    }

    #[test]
    fn a_file_that_does_not_fit_on_chain_is_refused() {
        let long = format!("{SMALL}# {}", "x".repeat(TASK_FILE_BYTES_MAX));
        assert!(matches!(
            TaskSpec::parse(&long),
            Err(TaskFileError::TooLong { .. })
        ));
    }
}

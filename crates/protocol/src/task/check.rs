//! The ranges of a task file's values.

use super::{
    BPS, CohortSpec, RewardSpec, Schedule, StakeSpec, TaskFileError, TaskSpec, TimingSpec,
    TrainingSpec,
};

impl TaskSpec {
    /// Checks every range.
    ///
    /// # Errors
    /// [`TaskFileError::Range`] for the first value outside its range.
    pub fn check(&self) -> Result<(), TaskFileError> {
        within(
            "name (its length)",
            self.name.chars().count(),
            1..=64,
            "1 to 64 characters",
        )?;
        within(
            "description (its length)",
            self.description.chars().count(),
            0..=500,
            "at most 500 characters",
        )?;
        within("rounds", self.rounds, 1..=10_000, "1 to 10000")?;
        self.model.check()?;
        self.base.as_ref().map_or(Ok(()), super::BaseSpec::check)?;
        self.adapter
            .as_ref()
            .map_or(Ok(()), super::AdapterSpec::check)?;
        self.training.check()?;
        self.aggregation.check()?;
        self.compression.check()?;
        self.contribution.check()?;
        self.cohort.check()?;
        self.timing.check()?;
        self.reward.check()?;
        self.stake.check(self.cohort.validators_min)?;
        self.check_modes()
    }
}

impl TrainingSpec {
    fn check(&self) -> Result<(), TaskFileError> {
        within(
            "training.local_epochs",
            self.local_epochs,
            1..=100,
            "1 to 100",
        )?;
        within(
            "training.steps_max",
            self.steps_max.unwrap_or(1),
            1..=1_000_000,
            "1 to 1000000",
        )?;
        within(
            "training.batch_size",
            self.batch_size,
            1..=4_096,
            "1 to 4096",
        )?;
        within(
            "training.client_lr",
            self.client_lr,
            1e-9..=10.0,
            "above 0, at most 10",
        )?;
        within(
            "training.client_lr_decay",
            self.client_lr_decay,
            0.1..=1.0,
            "0.1 to 1",
        )?;
        within(
            "training.momentum",
            self.momentum,
            0.0..=0.999,
            "0 to 0.999",
        )?;
        within(
            "training.weight_decay",
            self.weight_decay,
            0.0..=1.0,
            "0 to 1",
        )?;
        within(
            "training.micro_batch_size",
            self.micro_batch_size.unwrap_or(1),
            1..=self.batch_size,
            "1 to batch_size",
        )?;
        within(
            "training.gradient_norm_max",
            self.gradient_norm_max.unwrap_or(1.0),
            1e-6..=1e6,
            "0.000001 to 1000000",
        )?;
        within(
            "training.warmup_steps",
            self.warmup_steps,
            0..=1_000_000,
            "0 to 1000000",
        )?;
        within("training.proximal", self.proximal, 0.0..=100.0, "0 to 100")?;
        one_of(
            "training.client_optimizer",
            &self.client_optimizer,
            &["sgd", "adamw"],
            "\"sgd\", \"adamw\"",
        )?;
        let plain = self.client_optimizer == "sgd" && self.momentum == 0.0;
        let even = self.schedule == Schedule::Constant && self.warmup_steps == 0;
        if self.control_variates && !(plain && even) {
            return Err(TaskFileError::Range {
                field: "training.control_variates",
                got: "true".into(),
                allowed: "false, or client_optimizer = \"sgd\" with momentum = 0 and a constant client learning rate",
            });
        }
        Ok(())
    }
}

impl CohortSpec {
    fn check(&self) -> Result<(), TaskFileError> {
        within(
            "cohort.trainers_min",
            self.trainers_min,
            1..=256,
            "1 to 256",
        )?;
        within(
            "cohort.trainers_max",
            self.trainers_max,
            self.trainers_min..=256,
            "trainers_min to 256",
        )?;
        within(
            "cohort.validators_min",
            self.validators_min,
            0..=64,
            "0 to 64",
        )?;
        within("cohort.quorum_bps", self.quorum_bps, 1..=BPS, "1 to 10000")?;
        within(
            "cohort.updates_min",
            self.updates_min,
            1..=self.trainers_min,
            "1 to trainers_min",
        )
    }
}

impl TimingSpec {
    fn check(&self) -> Result<(), TaskFileError> {
        for (field, seconds) in [
            ("timing.progress_timeout_s", self.progress_timeout_s),
            ("timing.train_max_s", self.train_max_s),
            ("timing.grace_s", self.grace_s),
            ("timing.score_timeout_s", self.score_timeout_s),
            ("timing.settle_timeout_s", self.settle_timeout_s),
            ("timing.open_timeout_s", self.open_timeout_s),
        ] {
            within(field, seconds, 1..=604_800, "1 to 604800")?;
        }
        within(
            "timing.attempts_max",
            self.attempts_max,
            1..=100,
            "1 to 100",
        )
    }
}

impl RewardSpec {
    fn check(&self) -> Result<(), TaskFileError> {
        let sum = u32::from(self.trainers_bps)
            + u32::from(self.validators_bps)
            + u32::from(self.aggregator_bps);
        let whole = u32::from(BPS);
        within(
            "reward.trainers_bps + validators_bps + aggregator_bps",
            sum,
            whole..=whole,
            "10000",
        )?;
        within(
            "reward.vesting_bps",
            self.vesting_bps,
            0..=9_000,
            "0 to 9000",
        )?;
        within(
            "reward.dispute_window_s",
            self.dispute_window_s,
            0..=2_592_000,
            "0 to 2592000",
        )?;
        within(
            "reward.round_timeout_s",
            self.round_timeout_s,
            60..=31_536_000,
            "60 to 31536000",
        )?;
        within(
            "reward.rank_decay_bps",
            self.rank_decay_bps,
            1..=BPS,
            "1 to 10000",
        )?;
        within(
            "reward.pool",
            self.pool.0,
            0..=u128::MAX >> 32,
            "at most 2^96 base units",
        )
    }
}

impl StakeSpec {
    fn check(&self, validators_min: u32) -> Result<(), TaskFileError> {
        within(
            "stake.validator",
            self.validator.0,
            u128::from(validators_min.min(1))..=u128::MAX,
            "at least 1, or cohort.validators_min = 0",
        )?;
        within("stake.slash_bps", self.slash_bps, 0..=5_000, "0 to 5000")?;
        within(
            "stake.reporter_bps",
            self.reporter_bps,
            0..=5_000,
            "0 to 5000",
        )
    }
}

pub(super) fn within<T: Copy + PartialOrd + std::fmt::Display>(
    field: &'static str,
    got: T,
    range: std::ops::RangeInclusive<T>,
    allowed: &'static str,
) -> Result<(), TaskFileError> {
    // Written so that a NaN is outside every range.
    if range.contains(&got) {
        Ok(())
    } else {
        Err(TaskFileError::Range {
            field,
            got: got.to_string(),
            allowed,
        })
    }
}

pub(super) fn one_of(
    field: &'static str,
    got: &str,
    names: &[&str],
    allowed: &'static str,
) -> Result<(), TaskFileError> {
    if names.contains(&got) {
        Ok(())
    } else {
        Err(TaskFileError::Range {
            field,
            got: format!("{got:?}"),
            allowed,
        })
    }
}

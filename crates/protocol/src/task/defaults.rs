//! What a task file need not say.

use super::{CohortSpec, RewardSpec, StakeSpec, TimingSpec, TrainingSpec};
use crate::ids::Amount;
use crate::split::SplitKind;
use crate::task::{ProofMode, Schedule};

impl Default for TrainingSpec {
    fn default() -> Self {
        Self {
            local_epochs: 1,
            steps_max: None,
            batch_size: 32,
            micro_batch_size: None,
            gradient_norm_max: None,
            schedule: Schedule::Constant,
            warmup_steps: 0,
            proximal: 0.0,
            client_optimizer: "sgd".into(),
            client_lr: 0.02,
            client_lr_decay: 0.85,
            logit_calibration: true,
            momentum: 0.9,
            weight_decay: 0.0,
            control_variates: false,
        }
    }
}

impl Default for CohortSpec {
    fn default() -> Self {
        Self {
            trainers_min: 2,
            trainers_max: 64,
            validators_min: 1,
            quorum_bps: 6_700,
            updates_min: 1,
        }
    }
}

impl Default for TimingSpec {
    fn default() -> Self {
        Self {
            progress_timeout_s: 120,
            train_max_s: 86_400,
            grace_s: 60,
            score_timeout_s: 600,
            settle_timeout_s: 600,
            open_timeout_s: 86_400,
            attempts_max: 3,
        }
    }
}

impl Default for RewardSpec {
    fn default() -> Self {
        Self {
            pool: Amount::ZERO,
            trainers_bps: 7_000,
            validators_bps: 2_000,
            aggregator_bps: 1_000,
            vesting_bps: 2_000,
            split: SplitKind::Score,
            rank_decay_bps: 5_000,
            proof: ProofMode::OnSubmission,
            dispute_window_s: 3_600,
            round_timeout_s: 172_800,
        }
    }
}

impl Default for StakeSpec {
    fn default() -> Self {
        Self {
            trainer: Amount::ZERO,
            validator: Amount(1),
            aggregator: Amount::ZERO,
            slash_bps: 1_000,
            reporter_bps: 1_000,
        }
    }
}

pub(super) fn rounds() -> u32 {
    10
}

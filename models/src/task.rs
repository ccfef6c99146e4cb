//! What a task's file means for training.

use convoke_protocol::ids::RoundId;
use convoke_protocol::task::TaskSpec;

use crate::error::ModelError;
use crate::registry::ModelConfig;
use crate::train::{ClientOptimizer, TrainConfig};

impl TrainConfig {
    /// What a trainer of the task does in a round.
    ///
    /// # Errors
    /// [`ModelError`] for a model or an optimizer that is unknown.
    pub fn of_task(spec: &TaskSpec, round: RoundId) -> Result<Self, ModelError> {
        let training = &spec.training;
        Ok(Self {
            model: ModelConfig::from_spec(&spec.model)?,
            optimizer: ClientOptimizer::named(
                &training.client_optimizer,
                training.momentum,
                training.weight_decay,
            )?,
            client_lr: training.client_lr,
            client_lr_decay: training.client_lr_decay,
            calibrated: training.logit_calibration,
            local_epochs: training.local_epochs,
            steps_max: training.steps_max,
            batch_size: training.batch_size as usize,
            gradient_norm_max: None,
            seed: spec.seed,
            // The learning rate of the first round is the task's.
            round: round.0.saturating_sub(1),
        })
    }
}

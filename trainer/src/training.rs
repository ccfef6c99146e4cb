//! From a checkpoint to a delta, on a thread of its own.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use convoke_models::{
    ClientOptimizer, ComputeDevice, Dataset, ModelConfig, ModelError, Parameters, StepReport,
    TrainConfig, Trained, train,
};
use convoke_protocol::ids::RoundId;
use convoke_protocol::task::TaskSpec;

/// Data, device and settings of one task.
#[derive(Debug)]
pub struct Workbench {
    model: ModelConfig,
    data: Dataset,
    device: ComputeDevice,
    spec: TaskSpec,
}

impl Workbench {
    /// Checks that the data fits the task's model.
    ///
    /// # Errors
    /// [`ModelError`] for an unknown model, and for images or labels that it cannot take.
    pub fn new(spec: &TaskSpec, data: Dataset, device: ComputeDevice) -> Result<Self, ModelError> {
        let model = ModelConfig::from_spec(&spec.model)?;
        model.check_data(&data)?;
        let bench = Self {
            model,
            data,
            device,
            spec: spec.clone(),
        };
        bench.config(RoundId::FIRST)?.check()?;
        Ok(bench)
    }

    /// Trains from `checkpoint`, a safetensors file, until done or stopped.
    ///
    /// # Errors
    /// [`ModelError::Interrupted`] if `stop` was set; [`ModelError`] for a checkpoint of another
    /// model and for training that diverges.
    pub fn train(
        &self,
        round: RoundId,
        checkpoint: &[u8],
        stop: &AtomicBool,
        report: &mut dyn FnMut(&StepReport),
    ) -> Result<Trained, ModelError> {
        let layout = convoke_models::layout(&self.model)?;
        let base = Parameters::from_safetensors(checkpoint, Some(&layout))?;
        let mut progress = |step: StepReport| {
            report(&step);
            if stop.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        train(
            &self.config(round)?,
            &base,
            &self.data,
            &self.device,
            &mut progress,
        )
    }

    fn config(&self, round: RoundId) -> Result<TrainConfig, ModelError> {
        let training = &self.spec.training;
        Ok(TrainConfig {
            model: self.model,
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
            seed: self.spec.seed,
            // The learning rate of the first round is the task's.
            round: round.0.saturating_sub(1),
        })
    }
}

//! From a checkpoint to a delta, on a thread of its own.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use convoke_models::{
    ComputeDevice, Correction, Dataset, Model, ModelError, Parameters, StepReport, TrainConfig,
    Trained, train, train_corrected,
};
use convoke_protocol::ids::RoundId;
use convoke_protocol::task::TaskSpec;

/// What a round's training begins with: safetensors files.
#[derive(Debug)]
pub struct Files {
    /// The checkpoint.
    pub checkpoint: Vec<u8>,
    /// The server's control variate, if the task has one yet.
    pub server_control: Option<Vec<u8>>,
    /// Our own, if there is one yet.
    pub own_control: Option<Vec<u8>>,
}

/// What training gives.
#[derive(Debug)]
pub struct Made {
    /// The delta and how it came about.
    pub trained: Trained,
    /// Our control variate after it, in tasks that have such.
    pub own_control: Option<Parameters>,
}

/// Data, device and settings of one task.
#[derive(Debug)]
pub struct Workbench {
    model: Model,
    data: Dataset,
    device: ComputeDevice,
    spec: TaskSpec,
}

impl Workbench {
    /// Checks that the data fits the task's model.
    ///
    /// # Errors
    /// [`ModelError`] for an unknown model, and for images or labels that it cannot take.
    pub fn new(
        spec: &TaskSpec,
        model: Model,
        data: Dataset,
        device: ComputeDevice,
    ) -> Result<Self, ModelError> {
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

    /// Trains from the checkpoint until done or stopped.
    ///
    /// # Errors
    /// [`ModelError::Interrupted`] if `stop` was set; [`ModelError`] for files of another model and
    /// for training that diverges.
    pub fn train(
        &self,
        round: RoundId,
        files: &Files,
        stop: &AtomicBool,
        report: &mut dyn FnMut(&StepReport),
    ) -> Result<Made, ModelError> {
        let (model, layout) = (&self.model, self.model.layout());
        let read = |bytes: &Vec<u8>| Parameters::from_safetensors(bytes, Some(layout));
        let base = read(&files.checkpoint)?;
        let mut progress = |step: StepReport| {
            report(&step);
            if stop.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let config = self.config(round)?;
        let (data, device) = (&self.data, &self.device);
        if !self.spec.training.control_variates {
            let trained = train(model, &config, &base, data, device, &mut progress)?;
            return Ok(Made {
                trained,
                own_control: None,
            });
        }
        let server = files.server_control.as_ref().map(read).transpose()?;
        let own = files.own_control.as_ref().map(read).transpose()?;
        let correction = Correction::new(layout.to_vec(), server.as_ref(), own.as_ref())?;
        let trained = train_corrected(
            model,
            &config,
            &base,
            &correction,
            data,
            device,
            &mut progress,
        )?;
        let own = correction.own_after(&trained.delta, trained.steps, config.client_lr)?;
        Ok(Made {
            trained,
            own_control: Some(own),
        })
    }

    fn config(&self, round: RoundId) -> Result<TrainConfig, ModelError> {
        TrainConfig::of_task(&self.spec, round)
    }
}

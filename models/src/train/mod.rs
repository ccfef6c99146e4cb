//! Local training: from a checkpoint to a delta, on one party's own examples.

mod config;
mod gradients;
mod scaling;
mod session;
mod snapshot;

use std::ops::ControlFlow;

pub use self::config::{ClientOptimizer, EarlyStop, TrainConfig};
use self::session::Session;
pub use self::snapshot::Snapshot;
use crate::control::Correction;
use crate::data::Dataset;
use crate::device::ComputeDevice;
use crate::error::ModelError;
use crate::evaluate::Evaluation;
use crate::model::Model;
use crate::parameters::{Parameters, check_layout};

/// Told after each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Steps done.
    pub step: u32,
    /// Steps in all.
    pub steps: u32,
    /// Epoch of this step, from 0.
    pub epoch: u32,
    /// Mean loss of this step's batch, before the step.
    pub loss: f32,
    /// Client learning rate of this step.
    pub client_lr: f64,
    /// Norm of the gradient before it was bounded, where it is.
    pub gradient_norm: Option<f64>,
    /// Examples of this step.
    pub num_examples: usize,
}

/// Who looks on while a model is trained.
pub trait Observer {
    /// A step is done. A break stops the training, and loses it but for a snapshot.
    fn step(&mut self, report: &StepReport) -> ControlFlow<()>;

    /// Whether to be given a snapshot of where this step leads to; asked after
    /// [`step`](Self::step), even if that was a break.
    fn wants_snapshot(&mut self, _report: &StepReport) -> bool {
        false
    }

    /// A snapshot that was wanted.
    fn snapshot(&mut self, _snapshot: Snapshot) {}

    /// The held-out loss was measured after so many steps.
    fn evaluated(&mut self, _step: u32, _result: &Evaluation) {}
}

/// Calls a function after each step.
struct EachStep<'a>(&'a mut dyn FnMut(StepReport) -> ControlFlow<()>);

impl Observer for EachStep<'_> {
    fn step(&mut self, report: &StepReport) -> ControlFlow<()> {
        (self.0)(*report)
    }
}

/// What training gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// Trained minus base parameters; finite.
    pub delta: Parameters,
    /// Mean training loss (cross-entropy, natural logarithm; the calibrated one if so configured)
    /// over the examples of the last epoch, each taken before its step.
    pub loss: f32,
    /// Local examples.
    pub num_examples: usize,
    /// Optimizer steps done.
    pub steps: u32,
}

/// Trains from `base` on `data` and returns the difference. `progress` is called after each step
/// and may stop the training.
///
/// The loss is the mean cross-entropy of softmax(z). With `calibrated` it is that of
/// softmax(z + log p), where p_c = (n_c + 1) / (n + classes) are the frequencies of the party's
/// own classes: so the model need not learn, and the delta does not carry, which classes happen
/// to be frequent here (Menon et al. 2021, arXiv:2007.07314; in federations Zhang et al. 2022,
/// arXiv:2209.00189). Evaluation uses z alone.
///
/// Same arguments, number of threads and machine: the same bytes.
///
/// # Errors
/// [`ModelError::Config`], [`ModelError::Dataset`] and [`ModelError::Parameters`] for arguments
/// that do not fit, [`ModelError::Diverged`] at the first loss that is not finite,
/// [`ModelError::Interrupted`], [`ModelError::Compute`].
pub fn train(
    model: &Model,
    config: &TrainConfig,
    base: &Parameters,
    data: &Dataset,
    device: &ComputeDevice,
    progress: &mut dyn FnMut(StepReport) -> ControlFlow<()>,
) -> Result<Trained, ModelError> {
    Training::new(model, config, base, data, device).run(&mut EachStep(progress))
}

/// The same with SCAFFOLD's correction: each step is w -= lr (g + weight_decay w + correction). Of
/// use with `sgd` without momentum, whose steps the correction is made for.
///
/// # Errors
/// Those of [`train`]; [`ModelError::Parameters`], too, for a correction of another model.
pub fn train_corrected(
    model: &Model,
    config: &TrainConfig,
    base: &Parameters,
    correction: &Correction,
    data: &Dataset,
    device: &ComputeDevice,
    progress: &mut dyn FnMut(StepReport) -> ControlFlow<()>,
) -> Result<Trained, ModelError> {
    let training = Training {
        correction: Some(correction),
        ..Training::new(model, config, base, data, device)
    };
    training.run(&mut EachStep(progress))
}

/// A training to be done, with all that it may take.
#[derive(Debug, Clone)]
pub struct Training<'a> {
    /// The model.
    pub model: &'a Model,
    /// How to train.
    pub config: &'a TrainConfig,
    /// Where to begin.
    pub base: &'a Parameters,
    /// The party's examples.
    pub data: &'a Dataset,
    /// Where to compute.
    pub device: &'a ComputeDevice,
    /// SCAFFOLD's correction, see [`train_corrected`].
    pub correction: Option<&'a Correction>,
    /// What the held-out loss is measured on, if training may stop early.
    pub held_out: Option<&'a Dataset>,
    /// Where to go on.
    pub resume: Option<Snapshot>,
}

impl<'a> Training<'a> {
    /// A plain training from the beginning.
    pub fn new(
        model: &'a Model,
        config: &'a TrainConfig,
        base: &'a Parameters,
        data: &'a Dataset,
        device: &'a ComputeDevice,
    ) -> Self {
        Self {
            model,
            config,
            base,
            data,
            device,
            correction: None,
            held_out: None,
            resume: None,
        }
    }

    /// Trains until done, or stopped by the observer. With a snapshot it goes on from there, to the
    /// same bytes as without the interruption.
    ///
    /// # Errors
    /// Those of [`train`]; [`ModelError::Snapshot`] for a snapshot of another training.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<Trained, ModelError> {
        self.config.check()?;
        self.model.check_data(self.data)?;
        if let Some(correction) = self.correction {
            check_layout(correction.parameters().layout(), self.base.layout())?;
            if !self.config.is_even() {
                return Err(ModelError::Config {
                    field: "schedule",
                    got: "a changing client learning rate".into(),
                    allowed: "a constant one, where steps are corrected",
                });
            }
        }
        Session::new(self)?.run(observer)
    }
}

#[cfg(test)]
mod feature_tests;
#[cfg(test)]
mod precision_tests;
#[cfg(test)]
mod tests;

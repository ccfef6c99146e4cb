//! Local training: from a checkpoint to a delta, on one party's own examples.

mod config;

use std::ops::ControlFlow;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;

pub use self::config::{ClientOptimizer, TrainConfig};
use crate::batch::floats;
use crate::control::Correction;
use crate::data::Dataset;
use crate::device::ComputeDevice;
use crate::error::ModelError;
use crate::flatten::{Shift, flatten};
use crate::model::Model;
use crate::network::Network;
use crate::optimizer::Optimizer;
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
    train_with(model, config, base, None, data, device, progress)
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
    check_layout(correction.parameters().layout(), base.layout())?;
    train_with(
        model,
        config,
        base,
        Some(correction),
        data,
        device,
        progress,
    )
}

fn train_with(
    model: &Model,
    config: &TrainConfig,
    base: &Parameters,
    correction: Option<&Correction>,
    data: &Dataset,
    device: &ComputeDevice,
    progress: &mut dyn FnMut(StepReport) -> ControlFlow<()>,
) -> Result<Trained, ModelError> {
    config.check()?;
    model.check_data(data)?;
    let device = device.0.clone().autodiff();
    let mut session = Session {
        network: Some(model.load(&model.frame(&device), base, &device)?),
        optimizer: config.optimizer.build(config.gradient_norm_max),
        client_lr: config.client_lr,
        shift: correction
            .map(|correction| Shift::new(correction.parameters(), config.client_lr, &device)),
        log_prior: config
            .calibrated
            .then(|| log_prior(model, data, &device))
            .flatten(),
        data,
        device,
    };
    let (loss, steps) = session.run(config, progress)?;
    let trained = flatten(session.network(), model.layout())?;
    let delta = Parameters::delta(base, &trained)?;
    if !delta.is_finite() {
        return Err(ModelError::Diverged { step: steps, loss });
    }
    Ok(Trained {
        delta,
        loss,
        num_examples: data.len(),
        steps,
    })
}

struct Session<'a> {
    /// Taken out for the time of an optimizer step only.
    network: Option<Network>,
    optimizer: Optimizer,
    client_lr: f64,
    /// What each step goes further, if the steps are corrected.
    shift: Option<Shift>,
    /// Added to the logits: `[1, classes]`.
    log_prior: Option<Tensor<2>>,
    data: &'a Dataset,
    device: Device,
}

impl Session<'_> {
    fn network(&self) -> &Network {
        self.network.as_ref().expect("it is there between steps")
    }

    /// All epochs; returns the mean loss of the last one and the number of steps.
    fn run(
        &mut self,
        config: &TrainConfig,
        progress: &mut dyn FnMut(StepReport) -> ControlFlow<()>,
    ) -> Result<(f32, u32), ModelError> {
        let steps = config.steps(self.data.len());
        let mut order: Vec<usize> = (0..self.data.len()).collect();
        let mut rng = shuffle_rng(config.seed, config.round);
        let mut step = 0;
        let mut mean = Mean::default();
        for epoch in 0..config.local_epochs {
            if step == steps {
                break;
            }
            mean = Mean::default();
            order.shuffle(&mut rng);
            for batch in order
                .chunks(config.batch_size)
                .take((steps - step) as usize)
            {
                step += 1;
                let loss = self.step(batch)?;
                if !loss.is_finite() {
                    return Err(ModelError::Diverged { step, loss });
                }
                mean.add(loss, batch.len());
                let report = StepReport {
                    step,
                    steps,
                    epoch,
                    loss,
                };
                if progress(report).is_break() {
                    return Err(ModelError::Interrupted { step });
                }
            }
        }
        Ok((mean.value(), step))
    }

    /// One optimizer step; returns the batch's mean loss before it.
    fn step(&mut self, batch: &[usize]) -> Result<f32, ModelError> {
        let network = self.network.take().expect("it is there between steps");
        let batch = self.data.batch(batch, &self.device);
        let loss = network.loss(&batch, self.log_prior.as_ref()) / batch.units();
        let grads = GradientsParams::from_grads(loss.backward(), &network);
        let network = self.optimizer.step(network, grads, self.client_lr);
        self.network = Some(match &self.shift {
            Some(shift) => shift.subtract_from(network),
            None => network,
        });
        loss.try_into_scalar::<f32>()
            .map_err(|error| ModelError::Compute(error.to_string()))
    }
}

/// The logarithms of the smoothed class frequencies, `[1, classes]`, where examples have classes.
fn log_prior(model: &Model, data: &Dataset, device: &Device) -> Option<Tensor<2>> {
    let mut counts = data.class_counts()?;
    counts.resize(model.classes()?, 0);
    let total = (data.len() + counts.len()) as f32;
    let values: Vec<f32> = counts
        .iter()
        .map(|&count| ((count + 1) as f32 / total).ln())
        .collect();
    Some(floats(values, device).unsqueeze())
}

fn shuffle_rng(seed: u64, round: u32) -> ChaCha20Rng {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(round));
    rng
}

/// Mean over examples of values that are means over batches.
#[derive(Default)]
struct Mean {
    sum: f64,
    examples: usize,
}

impl Mean {
    fn add(&mut self, value: f32, examples: usize) {
        self.sum += f64::from(value) * examples as f64;
        self.examples += examples;
    }

    fn value(&self) -> f32 {
        (self.sum / self.examples.max(1) as f64) as f32
    }
}

#[cfg(test)]
mod tests;

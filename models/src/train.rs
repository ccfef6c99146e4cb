//! Local training: from a checkpoint to a delta, on one party's own examples.

use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;

use burn::grad_clipping::GradientClippingConfig;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;

use crate::data::Dataset;
use crate::device::ComputeDevice;
use crate::error::ModelError;
use crate::flatten::flatten;
use crate::parameters::Parameters;
use crate::registry::{ModelConfig, Network};

/// How a trainer turns gradients into steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClientOptimizer {
    /// `sgd`: stochastic gradient descent; v = momentum * v + g + weight_decay * w, w -= lr * v.
    Sgd {
        /// Momentum, 0 to below 1; 0 for none.
        momentum: f64,
        /// Weight decay, 0 to 1; 0 for none.
        weight_decay: f64,
    },
    /// `adamw`: Adam with decoupled weight decay, betas 0.9 and 0.999.
    AdamW {
        /// Weight decay, 0 to 1; 0 for none.
        weight_decay: f64,
    },
}

impl ClientOptimizer {
    /// The optimizer of that name; `momentum` is of use to `sgd` alone.
    ///
    /// # Errors
    /// [`ModelError::UnknownOptimizer`].
    pub fn named(name: &str, momentum: f64, weight_decay: f64) -> Result<Self, ModelError> {
        match name {
            "sgd" => Ok(Self::Sgd {
                momentum,
                weight_decay,
            }),
            "adamw" => Ok(Self::AdamW { weight_decay }),
            _ => Err(ModelError::UnknownOptimizer { name: name.into() }),
        }
    }

    /// The name in a task file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sgd { .. } => "sgd",
            Self::AdamW { .. } => "adamw",
        }
    }

    fn check(&self) -> Result<(), ModelError> {
        let (momentum, weight_decay) = match *self {
            Self::Sgd {
                momentum,
                weight_decay,
            } => (momentum, weight_decay),
            Self::AdamW { weight_decay } => (0.0, weight_decay),
        };
        in_range(
            "momentum",
            momentum,
            (0.0..1.0).contains(&momentum),
            "0 to below 1",
        )?;
        let decay = (0.0..=1.0).contains(&weight_decay);
        in_range("weight_decay", weight_decay, decay, "0 to 1")
    }

    fn build(&self, gradient_norm_max: Option<f32>) -> ModuleOptimizer {
        let clipping = gradient_norm_max.map(GradientClippingConfig::Norm);
        match *self {
            Self::Sgd {
                momentum,
                weight_decay,
            } => {
                let momentum = (momentum > 0.0).then(|| {
                    MomentumConfig::new()
                        .with_momentum(momentum)
                        .with_dampening(0.0)
                });
                let decay =
                    (weight_decay > 0.0).then(|| WeightDecayConfig::new(weight_decay as f32));
                SgdConfig::new()
                    .with_momentum(momentum)
                    .with_weight_decay(decay)
                    .with_gradient_clipping(clipping)
                    .init()
            }
            Self::AdamW { weight_decay } => AdamWConfig::new()
                .with_weight_decay(weight_decay as f32)
                .with_grad_clipping(clipping)
                .init(),
        }
    }
}

impl fmt::Display for ClientOptimizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ClientOptimizer {
    type Err = ModelError;

    /// The optimizer of that name with momentum 0.9 (`sgd`) and no weight decay.
    fn from_str(name: &str) -> Result<Self, ModelError> {
        Self::named(name, 0.9, 0.0)
    }
}

/// What a trainer does in a round.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// The model.
    pub model: ModelConfig,
    /// The client optimizer; its state starts anew each round.
    pub optimizer: ClientOptimizer,
    /// Client learning rate, above 0, at most 10.
    pub client_lr: f64,
    /// Passes over the local examples, 1 to 1,000.
    pub local_epochs: u32,
    /// At most so many steps, if set; at least 1.
    pub steps_max: Option<u32>,
    /// Examples in a step, 1 to 65,536; the last step of an epoch may have fewer.
    pub batch_size: usize,
    /// Largest norm of the gradient of each single tensor, if set; above 0.
    pub gradient_norm_max: Option<f32>,
    /// Seed of the shuffles, together with `round`.
    pub seed: u64,
    /// The round, so that each has its own shuffles.
    pub round: u32,
}

impl TrainConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn check(&self) -> Result<(), ModelError> {
        self.model.check()?;
        self.optimizer.check()?;
        let lr = self.client_lr > 0.0 && self.client_lr <= 10.0;
        in_range("client_lr", self.client_lr, lr, "above 0, at most 10")?;
        let epochs = (1..=1000).contains(&self.local_epochs);
        in_range("local_epochs", self.local_epochs, epochs, "1 to 1,000")?;
        let batch = (1..=65_536).contains(&self.batch_size);
        in_range("batch_size", self.batch_size, batch, "1 to 65,536")?;
        let steps = self.steps_max.unwrap_or(1);
        in_range("steps_max", steps, steps > 0, "at least 1")?;
        let norm = self.gradient_norm_max.unwrap_or(1.0);
        in_range("gradient_norm_max", norm, norm > 0.0, "above 0")
    }

    /// Steps on a data set of `num_examples`.
    pub fn steps(&self, num_examples: usize) -> u32 {
        let each = num_examples.div_ceil(self.batch_size.max(1));
        let all = u32::try_from(each)
            .unwrap_or(u32::MAX)
            .saturating_mul(self.local_epochs);
        self.steps_max.map_or(all, |max| max.min(all))
    }
}

fn in_range(
    field: &'static str,
    got: impl fmt::Display,
    good: bool,
    allowed: &'static str,
) -> Result<(), ModelError> {
    if good {
        return Ok(());
    }
    Err(ModelError::Config {
        field,
        got: got.to_string(),
        allowed,
    })
}

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
    /// Mean training loss (cross-entropy, natural logarithm) over the examples of the last epoch,
    /// each taken before its step.
    pub loss: f32,
    /// Local examples.
    pub num_examples: usize,
    /// Optimizer steps done.
    pub steps: u32,
}

/// Trains from `base` on `data` and returns the difference. `progress` is called after each step
/// and may stop the training.
///
/// Same arguments, number of threads and machine: the same bytes.
///
/// # Errors
/// [`ModelError::Config`], [`ModelError::Dataset`] and [`ModelError::Parameters`] for arguments
/// that do not fit, [`ModelError::Diverged`] at the first loss that is not finite,
/// [`ModelError::Interrupted`], [`ModelError::Compute`].
pub fn train(
    config: &TrainConfig,
    base: &Parameters,
    data: &Dataset,
    device: &ComputeDevice,
    progress: &mut dyn FnMut(StepReport) -> ControlFlow<()>,
) -> Result<Trained, ModelError> {
    config.check()?;
    config.model.check_data(data)?;
    let device = device.0.clone().autodiff();
    let mut session = Session {
        network: Some(Network::load(&config.model, base, &device)?),
        optimizer: config.optimizer.build(config.gradient_norm_max),
        client_lr: config.client_lr,
        data,
        device,
    };
    let (loss, steps) = session.run(config, progress)?;
    let trained = flatten(session.network())?;
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
    optimizer: ModuleOptimizer,
    client_lr: f64,
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
        let logits = network.forward(images(self.data, batch, &self.device));
        let labels = labels(self.data, batch, &self.device);
        let loss = CrossEntropyLossConfig::new()
            .init(&self.device)
            .forward(logits, labels);
        let grads = GradientsParams::from_grads(loss.backward(), &network);
        self.network = Some(self.optimizer.step(self.client_lr, network, grads));
        loss.try_into_scalar::<f32>()
            .map_err(|error| ModelError::Compute(error.to_string()))
    }
}

/// The normalized images at `indices`, `[batch, height, width]`.
pub(crate) fn images(data: &Dataset, indices: &[usize], device: &Device) -> Tensor<3> {
    let mut pixels = Vec::new();
    data.normalized(indices, &mut pixels);
    let shape = [indices.len(), data.height(), data.width()];
    Tensor::from_data(TensorData::new(pixels, shape), device)
}

/// The labels at `indices`, `[batch]`.
fn labels(data: &Dataset, indices: &[usize], device: &Device) -> Tensor<1, Int> {
    let labels: Vec<i32> = indices
        .iter()
        .map(|&index| i32::from(data.labels()[index]))
        .collect();
    Tensor::from_data(TensorData::new(labels, [indices.len()]), device)
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

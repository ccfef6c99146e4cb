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

use crate::control::Correction;
use crate::data::Dataset;
use crate::device::ComputeDevice;
use crate::error::ModelError;
use crate::flatten::{Shift, flatten};
use crate::parameters::{Parameters, check_layout};
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
    /// Client learning rate of round 0, above 0, at most 10.
    pub client_lr: f64,
    /// What the client learning rate is multiplied by from round to round, above 0, at most 1.
    pub client_lr_decay: f64,
    /// Passes over the local examples, 1 to 1,000.
    pub local_epochs: u32,
    /// At most so many steps, if set; at least 1.
    pub steps_max: Option<u32>,
    /// Examples in a step, 1 to 65,536; the last step of an epoch may have fewer.
    pub batch_size: usize,
    /// Whether the loss allows for the party's own class frequencies, see [`train`]. It helps
    /// wherever parties hold different classes, and does nothing where all hold the same.
    pub calibrated: bool,
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
        let decay = self.client_lr_decay > 0.0 && self.client_lr_decay <= 1.0;
        in_range(
            "client_lr_decay",
            self.client_lr_decay,
            decay,
            "above 0, at most 1",
        )?;
        let epochs = (1..=1000).contains(&self.local_epochs);
        in_range("local_epochs", self.local_epochs, epochs, "1 to 1,000")?;
        let batch = (1..=65_536).contains(&self.batch_size);
        in_range("batch_size", self.batch_size, batch, "1 to 65,536")?;
        let steps = self.steps_max.unwrap_or(1);
        in_range("steps_max", steps, steps > 0, "at least 1")?;
        let norm = self.gradient_norm_max.unwrap_or(1.0);
        in_range("gradient_norm_max", norm, norm > 0.0, "above 0")
    }

    /// Client learning rate of this round.
    pub fn client_lr_of_round(&self) -> f64 {
        self.client_lr * self.client_lr_decay.powf(f64::from(self.round))
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
    config: &TrainConfig,
    base: &Parameters,
    data: &Dataset,
    device: &ComputeDevice,
    progress: &mut dyn FnMut(StepReport) -> ControlFlow<()>,
) -> Result<Trained, ModelError> {
    train_with(config, base, None, data, device, progress)
}

/// The same with SCAFFOLD's correction: each step is w -= lr (g + weight_decay w + correction). Of
/// use with `sgd` without momentum, whose steps the correction is made for.
///
/// # Errors
/// Those of [`train`]; [`ModelError::Parameters`], too, for a correction of another model.
pub fn train_corrected(
    config: &TrainConfig,
    base: &Parameters,
    correction: &Correction,
    data: &Dataset,
    device: &ComputeDevice,
    progress: &mut dyn FnMut(StepReport) -> ControlFlow<()>,
) -> Result<Trained, ModelError> {
    check_layout(correction.parameters().layout(), base.layout())?;
    train_with(config, base, Some(correction), data, device, progress)
}

fn train_with(
    config: &TrainConfig,
    base: &Parameters,
    correction: Option<&Correction>,
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
        client_lr: config.client_lr_of_round(),
        shift: correction.map(|correction| {
            Shift::new(
                correction.parameters(),
                config.client_lr_of_round(),
                &device,
            )
        }),
        log_prior: config
            .calibrated
            .then(|| log_prior(data, config.model.classes, &device)),
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
        let logits = network.forward(images(self.data, batch, &self.device));
        let logits = match &self.log_prior {
            Some(log_prior) => logits + log_prior.clone(),
            None => logits,
        };
        let labels = labels(self.data, batch, &self.device);
        let loss = CrossEntropyLossConfig::new()
            .init(&self.device)
            .forward(logits, labels);
        let grads = GradientsParams::from_grads(loss.backward(), &network);
        let network = self.optimizer.step(self.client_lr, network, grads);
        self.network = Some(match &self.shift {
            Some(shift) => shift.subtract_from(network),
            None => network,
        });
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

/// The logarithms of the smoothed class frequencies, `[1, classes]`.
fn log_prior(data: &Dataset, classes: usize, device: &Device) -> Tensor<2> {
    let mut counts = data.class_counts();
    counts.resize(classes, 0);
    let total = (data.len() + classes) as f32;
    let values: Vec<f32> = counts
        .iter()
        .map(|&count| ((count + 1) as f32 / total).ln())
        .collect();
    Tensor::from_data(TensorData::new(values, [1, classes]), device)
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::device::DeviceChoice;
    use crate::evaluate::Evaluator;
    use crate::registry::{ModelKind, initial, layout};

    const SIDE: usize = 6;

    fn config(kind: ModelKind) -> TrainConfig {
        TrainConfig {
            model: ModelConfig {
                kind,
                height: SIDE,
                width: SIDE,
                classes: 3,
            },
            optimizer: "sgd".parse().unwrap(),
            client_lr: 0.05,
            client_lr_decay: 1.0,
            local_epochs: 4,
            steps_max: None,
            batch_size: 16,
            calibrated: false,
            gradient_norm_max: None,
            seed: 7,
            round: 0,
        }
    }

    /// Class c is bright in the columns 2c and 2c + 1, with some noise.
    fn stripes(count: usize) -> Dataset {
        let mut images = Vec::new();
        for example in 0..count {
            for pixel in 0..SIDE * SIDE {
                let bright = pixel % SIDE / 2 == example % 3;
                let noise = (example * 37 + pixel * 101) % 60;
                images.push(if bright { 180 + noise } else { noise } as u8);
            }
        }
        let labels = (0..count).map(|example| (example % 3) as u8).collect();
        Dataset::new(images, SIDE, SIDE, labels, 3).unwrap()
    }

    fn run(config: &TrainConfig, data: &Dataset) -> Result<Trained, ModelError> {
        let base = initial(&config.model, 1).unwrap();
        let device = DeviceChoice::Cpu.open().unwrap();
        train(config, &base, data, &device, &mut |_| {
            ControlFlow::Continue(())
        })
    }

    #[test]
    fn training_learns_with_every_model_and_optimizer() {
        let data = stripes(120);
        let device = DeviceChoice::Cpu.open().unwrap();
        for kind in ModelKind::ALL {
            for (optimizer, client_lr, calibrated) in [
                ("sgd", 0.05, false),
                ("sgd", 0.05, true),
                ("adamw", 0.005, false),
            ] {
                let config = TrainConfig {
                    optimizer: optimizer.parse().unwrap(),
                    client_lr,
                    calibrated,
                    ..config(kind)
                };
                let mut parameters = initial(&config.model, 1).unwrap();
                let evaluator = Evaluator::new(&config.model, &device, &data).unwrap();
                let before = evaluator.evaluate(&parameters).unwrap();
                let trained = run(&config, &data).unwrap();
                parameters.add_scaled(&trained.delta, 1.0).unwrap();
                let after = evaluator.evaluate(&parameters).unwrap();
                assert!(
                    after.loss < 0.3 * before.loss,
                    "{kind} {optimizer}: {after:?}"
                );
                assert!(after.accuracy > 0.95, "{kind} {optimizer}: {after:?}");
                assert_eq!((trained.num_examples, trained.steps), (120, 32));
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let data = stripes(50);
        let base = config(ModelKind::Cnn);
        let bytes = |config: &TrainConfig| run(config, &data).unwrap().delta.to_safetensors();
        assert_eq!(bytes(&base), bytes(&base));
        let other_round = TrainConfig {
            round: 1,
            ..base.clone()
        };
        let other_seed = TrainConfig {
            seed: 8,
            ..base.clone()
        };
        assert_ne!(bytes(&base), bytes(&other_round));
        assert_ne!(bytes(&base), bytes(&other_seed));
    }

    #[test]
    fn one_step_of_plain_sgd_goes_down_the_gradient() {
        let data = stripes(6);
        let config = TrainConfig {
            optimizer: ClientOptimizer::named("sgd", 0.0, 0.0).unwrap(),
            client_lr: 1e-3,
            local_epochs: 1,
            ..config(ModelKind::Mlp)
        };
        let trained = run(&config, &data).unwrap();
        let base = initial(&config.model, 1).unwrap();
        let device = DeviceChoice::Cpu.open().unwrap();
        let evaluator = Evaluator::new(&config.model, &device, &data).unwrap();
        let loss = |step: f32| {
            let mut moved = base.clone();
            moved.add_scaled(&trained.delta, step).unwrap();
            evaluator.evaluate(&moved).unwrap().loss
        };
        assert!((f64::from(trained.loss) - loss(0.0)).abs() < 1e-5);
        // delta = -lr * g, so the slope along delta is -|delta|^2 / lr.
        let slope = (loss(0.5) - loss(-0.5)) / 1.0;
        let expected = -trained.delta.norm().powi(2) / config.client_lr;
        assert!((slope / expected - 1.0).abs() < 0.05, "{slope} {expected}");
    }

    /// Against steps made one by one, each from where the last led, in f64.
    #[test]
    fn corrected_steps_are_those_of_scaffold() {
        let data = stripes(30);
        let config = TrainConfig {
            optimizer: ClientOptimizer::named("sgd", 0.0, 0.0).unwrap(),
            client_lr: 0.1,
            local_epochs: 4,
            // All examples in each step, so that the order of the shuffles is no matter.
            batch_size: 30,
            ..config(ModelKind::Mlp)
        };
        let base = initial(&config.model, 1).unwrap();
        let noise = initial(&config.model, 2).unwrap();
        let correction = Correction::new(layout(&config.model).unwrap(), Some(&noise), None);
        let correction = correction.unwrap();
        let device = DeviceChoice::Cpu.open().unwrap();
        let mut keep_on = |_| ControlFlow::Continue(());
        let trained = train_corrected(&config, &base, &correction, &data, &device, &mut keep_on);
        let trained = trained.unwrap();
        let one = TrainConfig {
            client_lr: 1.0,
            local_epochs: 1,
            ..config.clone()
        };
        let mut expected: Vec<f64> = base.values().iter().map(|v| f64::from(*v)).collect();
        for _ in 0..config.local_epochs {
            let mut here = base.clone();
            let places = here.values_mut().iter_mut().zip(&expected);
            places.for_each(|(here, value)| *here = *value as f32);
            // With a learning rate of 1 the delta is minus the gradient.
            let step = train(&one, &here, &data, &device, &mut keep_on)
                .unwrap()
                .delta;
            for ((value, step), c) in expected.iter_mut().zip(step.values()).zip(noise.values()) {
                *value += config.client_lr * (f64::from(*step) - f64::from(*c));
            }
        }
        let moved = base.values().iter().zip(trained.delta.values());
        for ((base, delta), expected) in moved.zip(&expected) {
            let got = f64::from(*base) + f64::from(*delta);
            assert!((got - expected).abs() < 2e-6, "{got} {expected}");
        }
        let own = correction.own_after(&trained.delta, trained.steps, config.client_lr);
        let (own, path) = (own.unwrap(), 4.0 * config.client_lr);
        let rows = own
            .values()
            .iter()
            .zip(trained.delta.values())
            .zip(noise.values());
        for ((own, delta), c) in rows {
            let expected = -f64::from(*delta) / path - f64::from(*c);
            assert!(
                (f64::from(*own) - expected).abs() < 1e-6,
                "{own} {expected}"
            );
        }
    }

    #[test]
    fn a_correction_of_nothing_changes_nothing() {
        let data = stripes(40);
        let config = TrainConfig {
            optimizer: ClientOptimizer::named("sgd", 0.0, 0.0).unwrap(),
            ..config(ModelKind::Cnn)
        };
        let base = initial(&config.model, 1).unwrap();
        let none = Correction::new(layout(&config.model).unwrap(), None, None).unwrap();
        let device = DeviceChoice::Cpu.open().unwrap();
        let mut keep_on = |_| ControlFlow::Continue(());
        let corrected = train_corrected(&config, &base, &none, &data, &device, &mut keep_on);
        assert_eq!(corrected.unwrap().delta, run(&config, &data).unwrap().delta);
    }

    #[test]
    fn the_prior_is_that_of_the_partys_own_labels() {
        let data = Dataset::new(vec![0; 4], 1, 1, vec![0, 0, 0, 1], 2).unwrap();
        let prior = log_prior(&data, 3, &Device::flex());
        let prior = prior.try_into_vec_as::<f32>().unwrap();
        let expected = [4.0f32, 2.0, 1.0].map(|count| (count / 7.0).ln());
        assert_eq!(prior, expected);
    }

    #[test]
    fn reports_count_the_steps_and_a_limit_holds() {
        let data = stripes(40);
        let config = TrainConfig {
            steps_max: Some(5),
            ..config(ModelKind::Mlp)
        };
        let base = initial(&config.model, 1).unwrap();
        let device = DeviceChoice::Cpu.open().unwrap();
        let mut seen = Vec::new();
        let trained = train(&config, &base, &data, &device, &mut |report| {
            seen.push((report.step, report.steps, report.epoch));
            ControlFlow::Continue(())
        });
        assert_eq!(trained.unwrap().steps, 5);
        assert_eq!(
            seen,
            [(1, 5, 0), (2, 5, 0), (3, 5, 0), (4, 5, 1), (5, 5, 1)]
        );
    }

    #[test]
    fn training_stops_when_asked() {
        let config = config(ModelKind::Mlp);
        let base = initial(&config.model, 1).unwrap();
        let device = DeviceChoice::Cpu.open().unwrap();
        let result = train(&config, &base, &stripes(40), &device, &mut |_| {
            ControlFlow::Break(())
        });
        assert!(matches!(result, Err(ModelError::Interrupted { step: 1 })));
    }

    #[test]
    fn divergence_is_an_error() {
        let config = TrainConfig {
            client_lr: 10.0,
            local_epochs: 100,
            ..config(ModelKind::Cnn)
        };
        let mut base = initial(&config.model, 1).unwrap();
        for value in base.values_mut() {
            *value *= 1e12;
        }
        let device = DeviceChoice::Cpu.open().unwrap();
        let result = train(&config, &base, &stripes(40), &device, &mut |_| {
            ControlFlow::Continue(())
        });
        assert!(
            matches!(result, Err(ModelError::Diverged { .. })),
            "{result:?}"
        );
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let good = config(ModelKind::Mlp);
        let bad = [
            TrainConfig {
                client_lr: 0.0,
                ..good.clone()
            },
            TrainConfig {
                client_lr: f64::NAN,
                ..good.clone()
            },
            TrainConfig {
                client_lr_decay: 1.1,
                ..good.clone()
            },
            TrainConfig {
                local_epochs: 0,
                ..good.clone()
            },
            TrainConfig {
                batch_size: 0,
                ..good.clone()
            },
            TrainConfig {
                steps_max: Some(0),
                ..good.clone()
            },
            TrainConfig {
                gradient_norm_max: Some(0.0),
                ..good.clone()
            },
            TrainConfig {
                optimizer: ClientOptimizer::named("sgd", 1.0, 0.0).unwrap(),
                ..good.clone()
            },
        ];
        for config in bad {
            let result = run(&config, &stripes(6));
            assert!(
                matches!(result, Err(ModelError::Config { .. })),
                "{config:?}"
            );
        }
        assert!(ClientOptimizer::named("lion", 0.0, 0.0).is_err());
    }

    #[test]
    fn the_learning_rate_decays_from_round_to_round() {
        let config = TrainConfig {
            client_lr_decay: 0.5,
            round: 3,
            ..config(ModelKind::Mlp)
        };
        assert!((config.client_lr_of_round() - 0.05 / 8.0).abs() < 1e-12);
    }
}

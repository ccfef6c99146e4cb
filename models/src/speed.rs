//! How fast a model trains, and how fast the machine multiplies matrices.

use std::time::Instant;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::adapter::AdapterConfig;
use crate::arch::cnn::{CnnConfig, Downsample};
use crate::arch::mlp::MlpConfig;
use crate::batch::Batch;
use crate::device::ComputeDevice;
use crate::error::ModelError;
use crate::layers::Builder;
use crate::model::Model;
use crate::network::Network;
use crate::ops::matmul::{Matrix, multiply_to};
use crate::ops::{autocast, on_pool};
use crate::optimizer::Optimizer;
use crate::registry::ModelConfig;
use crate::train::ClientOptimizer;

/// What [`measure_training`] measures.
#[derive(Debug, Clone)]
pub struct SpeedConfig {
    /// Examples in a step, at least 1.
    pub batch_size: usize,
    /// Tokens in an example of text, at least 1.
    pub sequence_len: usize,
    /// Steps in a pass, at least 1.
    pub steps: usize,
    /// Passes, of which the fastest counts; at least 1.
    pub passes: usize,
    /// The client optimizer.
    pub optimizer: ClientOptimizer,
    /// Client learning rate.
    pub client_lr: f64,
}

/// How fast a model trains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrainingSpeed {
    /// Seconds of the fastest pass.
    pub seconds: f64,
    /// Examples, or tokens, in a pass.
    pub units: u64,
    /// What they are.
    pub unit: &'static str,
    /// Loss of the last step.
    pub loss: f32,
    /// Multiplications and additions of matrix products for a unit, by formula.
    pub flops_per_unit: f64,
}

impl TrainingSpeed {
    /// Units a second.
    pub fn rate(&self) -> f64 {
        self.units as f64 / self.seconds
    }

    /// Multiplications and additions a second.
    pub fn flops(&self) -> f64 {
        self.rate() * self.flops_per_unit
    }
}

/// Trains a model of weights and on examples that are made up, with an adapter if one is given.
///
/// # Errors
/// [`ModelError::Config`] for settings out of range, or a model that there is no measurement of;
/// [`ModelError::Compute`].
pub fn measure_training(
    model: &ModelConfig,
    adapter: Option<&AdapterConfig>,
    config: &SpeedConfig,
    device: &ComputeDevice,
) -> Result<TrainingSpeed, ModelError> {
    let _precision = autocast::enter(device.precision());
    let device = device.device.clone().autodiff();
    let (flops_per_unit, unit) = flops_per_unit(model, adapter, config.sequence_len)?;
    let mut run = Run {
        network: Some(network(model, adapter, &device)?),
        optimizer: Optimizer::new(config.optimizer),
        client_lr: config.client_lr,
        batches: batches(model, config, &device),
        device,
        steps: 0,
    };
    run.steps(config.steps.div_ceil(10).max(2))?;
    let (mut seconds, mut loss) = (f64::INFINITY, 0.0);
    for _ in 0..config.passes.max(1) {
        let start = Instant::now();
        loss = run.steps(config.steps)?;
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    let units = config.steps as f64 * run.batches[0].units();
    Ok(TrainingSpeed {
        seconds,
        units: units as u64,
        unit,
        loss,
        flops_per_unit,
    })
}

fn network(
    config: &ModelConfig,
    adapter: Option<&AdapterConfig>,
    device: &Device,
) -> Result<Network, ModelError> {
    if config.vocabulary().is_some() {
        let builder = Builder::new(device).with_adapter(adapter);
        return Network::new(config, &builder.seeded(SEED).frozen_drawn());
    }
    let model = Model::new(config.clone())?;
    model.load(&model.frame(device)?, &model.initial(SEED)?, device)
}

const SEED: u64 = 7;

/// Multiplications and additions a second of products of large matrices, on all threads: the
/// fastest of `passes`.
pub fn measure_peak(passes: usize) -> f64 {
    const SIDE: usize = 1024;
    let values = vec![0.5; SIDE * SIDE];
    let mut target = vec![0.0; SIDE * SIDE];
    let matrix = Matrix::new(&values, SIDE, SIDE);
    let mut seconds = f64::INFINITY;
    for _ in 0..passes.max(1) {
        let start = Instant::now();
        multiply_to(&mut target, matrix, matrix);
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    2.0 * (SIDE as f64).powi(3) / seconds
}

struct Run {
    /// Taken out for the time of an optimizer step only.
    network: Option<Network>,
    optimizer: Optimizer,
    client_lr: f64,
    batches: Vec<Batch>,
    device: Device,
    steps: usize,
}

impl Run {
    /// So many steps; the loss of the last.
    fn steps(&mut self, steps: usize) -> Result<f32, ModelError> {
        let mut loss = 0.0;
        for _ in 0..steps {
            loss = on_pool(&self.device.clone(), || self.step())?;
        }
        Ok(loss)
    }

    fn step(&mut self) -> Result<f32, ModelError> {
        let network = self.network.take().expect("it is there between steps");
        let batch = &self.batches[self.steps % self.batches.len()];
        self.steps += 1;
        let loss = network.loss(batch, None) / batch.units();
        let value = loss.clone().inner();
        let gradients = GradientsParams::from_grads(loss.backward(), &network);
        self.network = Some(self.optimizer.step(network, gradients, self.client_lr));
        value.try_into_scalar::<f32>().map_err(ModelError::compute)
    }
}

/// A few batches from one seed.
fn batches(model: &ModelConfig, config: &SpeedConfig, device: &Device) -> Vec<Batch> {
    let mut rng = ChaCha20Rng::seed_from_u64(SEED);
    let size = config.batch_size.max(1);
    let mut batch = || match *model {
        ModelConfig::Cnn(CnnConfig {
            height,
            width,
            classes,
            ..
        })
        | ModelConfig::Mlp(MlpConfig {
            height,
            width,
            classes,
            ..
        }) => {
            let pixels = (0..size * height * width).map(|_| rng.random_range(-1.0..1.0f32));
            let data = TensorData::new(pixels.collect(), [size, height, width]);
            let labels = (0..size).map(|_| rng.random_range(0..classes as u32));
            Batch::Images {
                pixels: Tensor::from_data(data, device),
                labels: labels.collect(),
            }
        }
        _ => {
            let vocabulary = model.vocabulary().unwrap_or(1) as u32;
            let tokens = size * config.sequence_len.max(1);
            let mut draw = || -> Vec<u32> {
                let token = |_| rng.random_range(0..vocabulary);
                (0..tokens).map(token).collect()
            };
            let ids: Vec<i32> = draw().into_iter().map(|id| id as i32).collect();
            let ids = TensorData::new(ids, [size, config.sequence_len.max(1)]);
            Batch::Tokens {
                ids: Tensor::from_data(ids, device),
                targets: draw(),
                weights: vec![1.0; tokens],
                bytes: 0,
            }
        }
    };
    (0..4).map(|_| batch()).collect()
}

/// Forward, and back to weights and inputs; back to one of the two alone where the input is data
/// or the weights are frozen.
const ALL: usize = 6;
const BACK_TO_ONE: usize = 4;

/// And what the units are.
fn flops_per_unit(
    config: &ModelConfig,
    adapter: Option<&AdapterConfig>,
    time: usize,
) -> Result<(f64, &'static str), ModelError> {
    let (flops, unit) = match config {
        ModelConfig::Cnn(config) => (of_cnn(config), "samples/s"),
        ModelConfig::Mlp(config) => {
            let pixels = config.height * config.width;
            let flops = BACK_TO_ONE * pixels * config.hidden + ALL * config.hidden * config.classes;
            (flops, "samples/s")
        }
        ModelConfig::Transformer(config) => {
            let width = config.width;
            // Queries, keys, values, output; up and down. Half of the scores are hidden.
            let block = 12 * width * width + width * time;
            (
                ALL * (config.layers * block + width * config.vocabulary),
                "tokens/s",
            )
        }
        ModelConfig::Llama(config) => {
            let width = config.hidden_size;
            let d = match config.head_dim {
                0 => width / config.num_attention_heads,
                d => d,
            };
            let (heads, heads_kv) = (config.num_attention_heads, config.num_key_value_heads);
            let dense = 2 * width * d * (heads + heads_kv) + 3 * width * config.intermediate_size;
            let layers = config.num_hidden_layers;
            let of_dense = if adapter.is_some() { BACK_TO_ONE } else { ALL };
            let dense = of_dense * (layers * dense + width * config.vocab_size);
            (dense + ALL * layers * heads * d * time, "tokens/s")
        }
        other => {
            return Err(ModelError::Config {
                field: "model",
                got: other.kind().name().into(),
                allowed: "cnn, mlp, transformer or llama",
            });
        }
    };
    Ok((flops as f64, unit))
}

fn of_cnn(config: &CnnConfig) -> usize {
    let halved = |side: usize| match config.downsample {
        Downsample::Stride => side.div_ceil(2),
        Downsample::Pool => side / 2,
    };
    let pixels = |by: usize| match config.downsample {
        Downsample::Stride => halved(config.height / by) * halved(config.width / by),
        Downsample::Pool => (config.height / by) * (config.width / by),
    };
    let [first, second] = config.channels;
    let features = second * halved(halved(config.height)) * halved(halved(config.width));
    let dense = match config.hidden {
        0 => features * config.classes,
        hidden => hidden * (features + config.classes),
    };
    let convolutions = BACK_TO_ONE * pixels(1) * 9 * first + ALL * pixels(2) * 9 * first * second;
    convolutions + ALL * dense
}

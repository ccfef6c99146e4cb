//! How fast a model trains, and how fast the machine multiplies matrices.

use std::time::Instant;

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::arch::cnn::{CnnConfig, Downsample};
use crate::batch::Batch;
use crate::device::ComputeDevice;
use crate::error::ModelError;
use crate::model::Model;
use crate::network::Network;
use crate::ops::matmul::{Matrix, multiply_to};
use crate::optimizer::Optimizer;
use crate::registry::ModelConfig;
use crate::train::ClientOptimizer;

/// What [`measure_training`] measures.
#[derive(Debug, Clone)]
pub struct SpeedConfig {
    /// Examples in a step, at least 1.
    pub batch_size: usize,
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

/// Trains on made-up examples that are on the device already.
///
/// # Errors
/// [`ModelError::Config`] for a model that there is no measurement of; [`ModelError::Compute`].
pub fn measure_training(
    model: &Model,
    config: &SpeedConfig,
    device: &ComputeDevice,
) -> Result<TrainingSpeed, ModelError> {
    let device = device.device.clone().autodiff();
    let batches = batches(model, config.batch_size, &device)?;
    let network = model.load(&model.frame(&device)?, &model.initial(7)?, &device)?;
    let mut run = Run {
        network: Some(network),
        optimizer: Optimizer::new(config.optimizer),
        client_lr: config.client_lr,
        batches,
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
        unit: "samples/s",
        loss,
        flops_per_unit: flops_per_unit(model.config()),
    })
}

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
    steps: usize,
}

impl Run {
    /// So many steps; the loss of the last.
    fn steps(&mut self, steps: usize) -> Result<f32, ModelError> {
        let mut loss = 0.0;
        for _ in 0..steps {
            // On a thread of the pool, so that work is shared without waking it each time.
            loss = rayon::scope(|_| self.step())?;
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
        value
            .try_into_scalar::<f32>()
            .map_err(|error| ModelError::Compute(error.to_string()))
    }
}

/// A few batches from one seed.
fn batches(model: &Model, size: usize, device: &Device) -> Result<Vec<Batch>, ModelError> {
    let mut rng = ChaCha20Rng::seed_from_u64(7);
    let [height, width, classes] = match model.config() {
        ModelConfig::Cnn(config) => [config.height, config.width, config.classes],
        ModelConfig::Mlp(config) => [config.height, config.width, config.classes],
        other => {
            return Err(ModelError::Config {
                field: "model",
                got: other.kind().name().into(),
                allowed: "one that is measured: cnn, mlp",
            });
        }
    };
    let mut batch = || {
        let pixels = (0..size * height * width).map(|_| rng.random_range(-1.0..1.0f32));
        let data = TensorData::new(pixels.collect(), [size, height, width]);
        Batch::Images {
            pixels: Tensor::from_data(data, device),
            labels: (0..size)
                .map(|_| rng.random_range(0..classes as u32))
                .collect(),
        }
    };
    Ok((0..4).map(|_| batch()).collect())
}

/// Forward, and back to weights and inputs; back to the weights alone where the input is data.
const ALL: usize = 6;
const WITHOUT_INPUT: usize = 4;

fn flops_per_unit(config: &ModelConfig) -> f64 {
    let flops = match config {
        ModelConfig::Cnn(config) => of_cnn(config),
        ModelConfig::Mlp(config) => {
            WITHOUT_INPUT * config.height * config.width * config.hidden
                + ALL * config.hidden * config.classes
        }
        _ => 0,
    };
    flops as f64
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
    let convolutions = WITHOUT_INPUT * pixels(1) * 9 * first + ALL * pixels(2) * 9 * first * second;
    convolutions + ALL * dense
}

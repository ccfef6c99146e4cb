//! What a trainer does in a round, as numbers.

use std::fmt;
use std::str::FromStr;

use convoke_protocol::ids::RoundId;
use convoke_protocol::task::TaskSpec;

use crate::error::{ModelError, in_range};
use crate::optimizer::{Optimizer, Rule};

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

    pub(crate) fn build(&self, gradient_norm_max: Option<f32>) -> Optimizer {
        let rule = match *self {
            Self::Sgd {
                momentum,
                weight_decay,
            } => Rule::Sgd {
                momentum: momentum as f32,
                weight_decay: weight_decay as f32,
            },
            Self::AdamW { weight_decay } => Rule::AdamW {
                weight_decay: weight_decay as f32,
            },
        };
        Optimizer::new(rule, gradient_norm_max)
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
    /// The client optimizer; its state starts anew each round.
    pub optimizer: ClientOptimizer,
    /// Client learning rate of this round, above 0, at most 10.
    pub client_lr: f64,
    /// Passes over the local examples, 1 to 1,000.
    pub local_epochs: u32,
    /// At most so many steps, if set; at least 1.
    pub steps_max: Option<u32>,
    /// Examples in a step, 1 to 65,536; the last step of an epoch may have fewer.
    pub batch_size: usize,
    /// Whether the loss allows for the party's own class frequencies, see [`train`]. It helps
    /// wherever parties hold different classes, and does nothing where all hold the same.
    pub calibrated: bool,
    /// Largest norm of the gradient of all parameters together, if set; above 0.
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

impl TrainConfig {
    /// What a trainer of the task does in a round.
    ///
    /// # Errors
    /// [`ModelError`] for an optimizer that is unknown.
    pub fn of_task(spec: &TaskSpec, round: RoundId) -> Result<Self, ModelError> {
        let training = &spec.training;
        Ok(Self {
            optimizer: ClientOptimizer::named(
                &training.client_optimizer,
                training.momentum,
                training.weight_decay,
            )?,
            client_lr: training.client_lr_of(round),
            calibrated: training.logit_calibration,
            local_epochs: training.local_epochs,
            steps_max: training.steps_max,
            batch_size: training.batch_size as usize,
            gradient_norm_max: None,
            seed: spec.seed,
            round: round.0.saturating_sub(1),
        })
    }
}

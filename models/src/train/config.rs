//! What a trainer does in a round, as numbers.

use std::fmt;
use std::str::FromStr;

use convoke_protocol::ids::RoundId;
use convoke_protocol::task::{Schedule, TaskSpec};

use crate::error::{ModelError, in_range};

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

/// When training stops because the held-out loss does not fall any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlyStop {
    /// Steps from one measurement to the next, at least 1.
    pub every_steps: u32,
    /// So many measurements in a row that are no better than the best before end the training; at
    /// least 1.
    pub patience: u32,
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
    /// So many of them are computed at a time and their gradients added up, if set; 1 to
    /// `batch_size`. The step is the same but for rounding, and for which items a recommender's
    /// are told from. Less where the device has not memory enough.
    pub micro_batch_size: Option<usize>,
    /// How the client learning rate runs, behind the warm-up.
    pub schedule: Schedule,
    /// Steps at the beginning over which the client learning rate rises linearly.
    pub warmup_steps: u32,
    /// μ of the proximal term μ/2 |w − w₀|², which keeps a trainer near the base w₀ (FedProx, Li
    /// et al. 2020, arXiv:1812.06127), 0 to 100; 0 for none.
    pub proximal: f64,
    /// When to stop before all steps are done, and to take the best parameters so far.
    pub early_stop: Option<EarlyStop>,
    /// Whether the loss allows for the party's own class frequencies, see
    /// [`train`](fn@crate::train). It helps
    /// wherever parties hold different classes, and does nothing where all hold the same.
    pub calibrated: bool,
    /// Gradients are scaled down to this norm, over all tensors together, if set; above 0.
    pub gradient_norm_max: Option<f64>,
    /// Seed of the shuffles, together with `round`.
    pub seed: u64,
    /// The round, so that each has its own shuffles.
    pub round: u32,
}

impl Default for TrainConfig {
    /// One epoch of plain `sgd` with a client learning rate of 0.02, 32 examples a step.
    fn default() -> Self {
        Self {
            optimizer: ClientOptimizer::Sgd {
                momentum: 0.0,
                weight_decay: 0.0,
            },
            client_lr: 0.02,
            local_epochs: 1,
            steps_max: None,
            batch_size: 32,
            micro_batch_size: None,
            schedule: Schedule::Constant,
            warmup_steps: 0,
            proximal: 0.0,
            early_stop: None,
            calibrated: false,
            gradient_norm_max: None,
            seed: 0,
            round: 0,
        }
    }
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
        in_range("gradient_norm_max", norm, norm > 0.0, "above 0")?;
        let micro = self.micro_batch_size.unwrap_or(1);
        let good = (1..=self.batch_size).contains(&micro);
        in_range("micro_batch_size", micro, good, "1 to batch_size")?;
        let proximal = (0.0..=100.0).contains(&self.proximal);
        in_range("proximal", self.proximal, proximal, "0 to 100")?;
        let Some(EarlyStop {
            every_steps,
            patience,
        }) = self.early_stop
        else {
            return Ok(());
        };
        let every = every_steps > 0;
        in_range("early_stop.every_steps", every_steps, every, "at least 1")?;
        in_range("early_stop.patience", patience, patience > 0, "at least 1")
    }

    /// Whether the client learning rate is the same in all steps.
    pub(super) fn is_even(&self) -> bool {
        self.schedule == Schedule::Constant && self.warmup_steps == 0
    }

    /// Client learning rate of step `step`, counted from 0, of `steps`. It rises linearly over the
    /// warm-up, to reach `client_lr` with its last step; behind it, with p the share of the other
    /// steps that is done, it is multiplied by 1, by 1 − p or by (1 + cos πp) / 2.
    pub fn client_lr_at(&self, step: u32, steps: u32) -> f64 {
        if step < self.warmup_steps {
            return self.client_lr * f64::from(step + 1) / f64::from(self.warmup_steps);
        }
        let others = steps.saturating_sub(self.warmup_steps).max(1);
        let done = f64::from(step - self.warmup_steps) / f64::from(others);
        self.client_lr
            * match self.schedule {
                Schedule::Constant => 1.0,
                Schedule::Linear => 1.0 - done,
                Schedule::Cosine => f64::midpoint(1.0, (std::f64::consts::PI * done).cos()),
            }
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
            micro_batch_size: training.micro_batch_size.map(|size| size as usize),
            schedule: training.schedule,
            warmup_steps: training.warmup_steps,
            proximal: training.proximal,
            early_stop: None,
            gradient_norm_max: training.gradient_norm_max,
            seed: spec.seed,
            round: round.0.saturating_sub(1),
        })
    }
}

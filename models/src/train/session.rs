//! The steps of a training.

use burn::tensor::{Device, Tensor};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;

use super::gradients::{Accumulator, clip, pull};
use super::scaling::LossScale;
use super::snapshot::{Header, Snapshot, subject};
use super::{Observer, StepReport, TrainConfig, Trained, Training};
use crate::batch::floats;
use crate::control::Correction;
use crate::data::Dataset;
use crate::error::ModelError;
use crate::evaluate::Evaluator;
use crate::flatten::{Shift, flatten};
use crate::model::Model;
use crate::network::Network;
use crate::optimizer::Optimizer;
use crate::parameters::Parameters;

/// A training under way.
pub(super) struct Session<'a> {
    training: &'a Training<'a>,
    config: &'a TrainConfig,
    /// Taken out for the time of an optimizer step only.
    network: Option<Network>,
    optimizer: Optimizer,
    accumulator: Accumulator<'a>,
    /// What each step goes further, if the steps are corrected.
    shift: Option<Shift>,
    /// The base, if the steps are pulled towards it.
    proximal: Option<Shift>,
    stopping: Option<Stopping>,
    subject: String,
    step: u32,
    mean: Mean,
}

/// How the held-out loss fares, if training may stop early.
struct Stopping {
    evaluator: Evaluator,
    best: Option<(f64, Parameters)>,
    /// Evaluations since the best.
    stale: u32,
}

impl<'a> Session<'a> {
    pub(super) fn new(training: &'a Training<'a>) -> Result<Self, ModelError> {
        let Training {
            model,
            config,
            base,
            data,
            ..
        } = *training;
        let device = training.device.device.clone().autodiff();
        let plain = training.device.device.clone();
        let stopping = match (config.early_stop, training.held_out) {
            (None, _) => None,
            (Some(_), None) => {
                return Err(ModelError::Config {
                    field: "early_stop",
                    got: "no held-out data".into(),
                    allowed: "with held-out data only",
                });
            }
            (Some(_), Some(held_out)) => Some(Stopping {
                evaluator: Evaluator::new(model, training.device, held_out)?,
                best: None,
                stale: 0,
            }),
        };
        let correction = training.correction.map(Correction::parameters);
        let log_prior = config.calibrated.then(|| log_prior(model, data, &device));
        let mut session = Self {
            training,
            config,
            network: Some(model.load(&model.frame(&device)?, base, &device)?),
            optimizer: Optimizer::new(config.optimizer),
            shift: correction.map(|shift| Shift::new(shift, config.client_lr, &device)),
            proximal: (config.proximal > 0.0).then(|| Shift::new(base, 1.0, &plain)),
            stopping,
            subject: subject(training),
            step: 0,
            mean: Mean::default(),
            accumulator: Accumulator {
                data,
                device,
                log_prior: log_prior.flatten(),
                micro_batch: config.micro_batch_size.unwrap_or(config.batch_size),
                precision: training.device.precision(),
                scale: LossScale::new(training.device.precision()),
            },
        };
        if let Some(snapshot) = &training.resume {
            session.restore(snapshot)?;
        }
        Ok(session)
    }

    /// All epochs that are left.
    pub(super) fn run(mut self, observer: &mut dyn Observer) -> Result<Trained, ModelError> {
        let (config, data) = (self.config, self.training.data);
        let steps = config.steps(data.len());
        let each = data.len().div_ceil(config.batch_size);
        let mut order: Vec<usize> = (0..data.len()).collect();
        let mut rng = shuffle_rng(config.seed, config.round);
        let mut stopped = self.has_stopped();
        for epoch in 0..config.local_epochs {
            order.shuffle(&mut rng);
            let before = epoch as usize * each;
            let done = (self.step as usize).saturating_sub(before);
            if self.step >= steps || done >= each || stopped {
                continue;
            }
            if done == 0 {
                self.mean = Mean::default();
                self.reconstruct();
            }
            let left = (steps - self.step) as usize;
            for batch in order.chunks(config.batch_size).skip(done).take(left) {
                let report = self.advance(batch, epoch, steps)?;
                stopped = self.stop_early(observer)?;
                let asked = observer.step(&report);
                // Behind the report: whoever goes on from it need not report this step again.
                if observer.wants_snapshot(&report) {
                    observer.snapshot(self.snapshot()?);
                }
                if asked.is_break() {
                    return Err(ModelError::Interrupted { step: self.step });
                }
                if stopped {
                    break;
                }
            }
        }
        self.finish(data.len())
    }

    fn finish(self, num_examples: usize) -> Result<Trained, ModelError> {
        let loss = self.mean.value();
        let last = flatten(self.network(), self.training.model.layout())?;
        let best = self.stopping.and_then(|stopping| stopping.best);
        let trained = best.map_or(last, |(_, parameters)| parameters);
        let delta = Parameters::delta(self.training.base, &trained)?;
        if !delta.is_finite() {
            let step = self.step;
            return Err(ModelError::Diverged { step, loss });
        }
        Ok(Trained {
            delta,
            loss,
            num_examples,
            steps: self.step,
        })
    }

    fn network(&self) -> &Network {
        self.network.as_ref().expect("it is there between steps")
    }

    /// What the network has of the party's own is made anew from what it has learnt so far.
    fn reconstruct(&mut self) {
        let network = self.network.take().expect("it is there between steps");
        self.network = Some(network.reconstruct(self.training.data));
    }

    /// One optimizer step.
    fn advance(
        &mut self,
        batch: &[usize],
        epoch: u32,
        steps: u32,
    ) -> Result<StepReport, ModelError> {
        let client_lr = self.config.client_lr_at(self.step, steps);
        let (loss, grads) = self
            .accumulator
            .compute(self.network.as_ref().expect("between steps"), batch)?;
        self.step += 1;
        if !loss.is_finite() {
            let step = self.step;
            return Err(ModelError::Diverged { step, loss });
        }
        let grads = match &self.proximal {
            Some(base) => pull(self.network(), grads, self.config.proximal, base),
            None => grads,
        };
        let (norm, grads) = match self.config.gradient_norm_max {
            Some(norm_max) => {
                let (norm, grads) = clip(self.network(), grads, norm_max)?;
                (Some(norm), grads)
            }
            None => (None, grads),
        };
        let network = self.network.take().expect("it is there between steps");
        let network = self.optimizer.step(network, grads, client_lr);
        self.network = Some(match &self.shift {
            Some(shift) => shift.subtract_from(network),
            None => network,
        });
        self.mean.add(loss, batch.len());
        Ok(StepReport {
            step: self.step,
            steps,
            epoch,
            loss,
            client_lr,
            gradient_norm: norm,
            num_examples: batch.len(),
        })
    }

    /// Measures the held-out loss if it is time to; returns whether it has not become better for
    /// too long.
    fn stop_early(&mut self, observer: &mut dyn Observer) -> Result<bool, ModelError> {
        let (Some(rule), Some(stopping)) = (self.config.early_stop, &mut self.stopping) else {
            return Ok(false);
        };
        if !self.step.is_multiple_of(rule.every_steps) {
            return Ok(false);
        }
        let network = self.network.as_ref().expect("it is there between steps");
        let parameters = flatten(network, self.training.model.layout())?;
        let result = stopping.evaluator.evaluate(&parameters)?;
        observer.evaluated(self.step, &result);
        let better = stopping
            .best
            .as_ref()
            .is_none_or(|(best, _)| result.loss < *best);
        if better && result.loss.is_finite() {
            stopping.best = Some((result.loss, parameters));
            stopping.stale = 0;
        } else {
            stopping.stale += 1;
        }
        Ok(self.has_stopped())
    }

    fn has_stopped(&self) -> bool {
        let rule = self.config.early_stop.zip(self.stopping.as_ref());
        rule.is_some_and(|(rule, stopping)| stopping.stale >= rule.patience)
    }

    /// All that is needed to go on from here.
    fn snapshot(&self) -> Result<Snapshot, ModelError> {
        let mut header = Header::new(self.subject.clone(), self.step);
        header.optimizer_steps = self.optimizer.steps();
        header.loss_sum = self.mean.sum;
        header.loss_examples = self.mean.examples;
        let best = self.stopping.as_ref().and_then(|stopping| {
            header.stale = stopping.stale;
            stopping.best.as_ref()
        });
        header.best_loss = best.map(|best| best.0);
        Ok(Snapshot {
            header,
            parameters: flatten(self.network(), self.training.model.layout())?,
            optimizer: self.optimizer.state()?,
            best: best.map(|best| best.1.clone()),
            users: self.network().users()?,
        })
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<(), ModelError> {
        let header = &snapshot.header;
        if header.subject != self.subject {
            let reason = "of another model, checkpoint, data set, or with other settings";
            return Err(ModelError::Snapshot(reason.into()));
        }
        let (model, device) = (self.training.model, &self.accumulator.device);
        let network = self.network.take().expect("it is there between steps");
        let mut network = model.load(&network, &snapshot.parameters, device)?;
        if let Some(users) = &snapshot.users {
            network = network.with_users(users, device)?;
        }
        self.network = Some(network);
        self.optimizer.restore(
            header.optimizer_steps,
            snapshot.optimizer.clone(),
            &self.training.device.device,
        )?;
        self.step = header.step;
        self.mean = Mean {
            sum: header.loss_sum,
            examples: header.loss_examples,
        };
        if let Some(stopping) = &mut self.stopping {
            stopping.stale = header.stale;
            let best = header.best_loss.zip(snapshot.best.clone());
            stopping.best = best;
        }
        Ok(())
    }
}

/// The logarithms of the smoothed class frequencies, `[1, classes]`, where examples have classes.
pub(super) fn log_prior(model: &Model, data: &Dataset, device: &Device) -> Option<Tensor<2>> {
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

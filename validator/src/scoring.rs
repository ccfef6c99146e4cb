//! Measures candidates on held-out data: direction against a reference step of the
//! validator's own, loss, and what they are worth by the task's method. See
//! `convoke_protocol::scores` for what the numbers mean.

mod directions;
mod utility;
mod value;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use convoke_models::{
    ComputeDevice, Dataset, Evaluator, Model, ModelError, Parameters, TrainConfig, train,
};
use convoke_protocol::ids::{RoundId, TaskId};
use convoke_protocol::message::Candidate;
use convoke_protocol::scores::{CandidateScore, Outcome, ScoreSheet};
use convoke_protocol::task::TaskSpec;

use self::directions::Directions;
pub use self::utility::{HeldOutUtility, Player};
pub use self::value::{Effort, ROUND_TOLERANCE, payable};
use self::value::{Table, write_values};
use crate::error::ValidatorError;

/// Passes over the held-out data that the reference step takes. Measured with 330 held-out
/// images: six to eight tell every flipped update from the honest ones; at ten the reference
/// begins to fit its own images, and a flipped update may pass.
pub const REFERENCE_EPOCHS: u32 = 8;

/// Held-out data, device and settings of one task.
#[derive(Debug)]
pub struct Bench {
    task: TaskId,
    spec: TaskSpec,
    model: Model,
    data: Dataset,
    device: ComputeDevice,
    evaluator: Evaluator,
}

/// Called before each measurement: how many are done, of how many at most.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize);

/// What came of scoring a round.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The scores.
    pub sheet: ScoreSheet,
    /// What the values in it took, if coalitions were evaluated for them.
    pub effort: Option<Effort>,
}

impl Bench {
    /// Checks that the data fits the task's model.
    ///
    /// # Errors
    /// [`ModelError`] for an unknown model, and for data that it cannot take.
    pub fn new(
        task: TaskId,
        spec: &TaskSpec,
        model: Model,
        data: Dataset,
        device: ComputeDevice,
    ) -> Result<Self, ModelError> {
        let evaluator = Evaluator::new(&model, &device, &data)?;
        Ok(Self {
            task,
            spec: spec.clone(),
            model,
            data,
            device,
            evaluator,
        })
    }

    /// Scores the candidates of a round. `read` gives a candidate's file.
    ///
    /// Takes [`REFERENCE_EPOCHS`] of training and N + 1 evaluations of the held-out data, N²/2
    /// products of deltas, and memory for N + 3 models; and as many evaluations more as the task
    /// allows, if its method values coalitions.
    ///
    /// # Errors
    /// What is this machine's fault, or that of the checkpoint: [`ValidatorError::Model`],
    /// [`ValidatorError::Valuation`]. A candidate at fault is marked in the sheet instead.
    pub fn score(
        &self,
        round: RoundId,
        checkpoint: &[u8],
        candidates: &[Candidate],
        read: &mut dyn FnMut(&Candidate) -> Result<Vec<u8>, ModelError>,
        stop: &AtomicBool,
        progress: Progress<'_>,
    ) -> Result<Scored, ValidatorError> {
        let measured = candidates.len() + 1;
        progress(0, measured);
        let base = Parameters::from_safetensors(checkpoint, Some(self.model.layout()))?;
        let before = self.evaluator.evaluate(&base)?;
        if !before.loss.is_finite() {
            let reason = "the checkpoint's held-out loss is not finite";
            return Err(ModelError::Parameters(reason.into()).into());
        }
        let reference = self.reference(round, &base, stop)?;
        let deltas = self.read_deltas(candidates, read)?;
        let directions = Directions::compare(&deltas, &reference);
        drop(reference);
        let total = candidates.iter().map(|c| u128::from(c.num_examples)).sum();
        let mut scores = Vec::with_capacity(candidates.len());
        for (index, (candidate, delta)) in candidates.iter().zip(&deltas).enumerate() {
            progress(index + 1, measured);
            if keep_on(stop).is_break() {
                return Err(ModelError::Interrupted { step: 0 }.into());
            }
            let player = delta.as_ref().map(|delta| Player::new(candidate, delta));
            let loss = self.loss_with(&base, player, total)?;
            let outcome = if loss.is_finite() {
                Outcome::Scored(directions.score(index, before.loss - loss))
            } else {
                Outcome::SubmissionFailed
            };
            scores.push(CandidateScore {
                trainer: candidate.trainer,
                outcome,
            });
        }
        let mut sheet = ScoreSheet {
            task: self.task,
            round,
            base_loss_micros: (before.loss * 1e6) as u64,
            base_accuracy_ppm: (before.accuracy * 1e6) as u32,
            candidates: scores,
        };
        let mut done = measured;
        let table = Table {
            evaluator: &self.evaluator,
            base: &base,
            base_loss: before.loss,
            candidates,
            deltas: &deltas,
            before_each: &mut |at_most| {
                progress(done, measured + at_most as usize);
                done += 1;
                keep_on(stop)
            },
        };
        let effort = write_values(&mut sheet, &self.spec.contribution, table)?;
        Ok(Scored { sheet, effort })
    }

    /// Held-out losses of two checkpoints, in millionths of a nat; what is not finite is as bad as
    /// can be.
    ///
    /// # Errors
    /// [`ModelError`] for a file that is no checkpoint of this model.
    pub fn losses(&self, first: &[u8], second: &[u8]) -> Result<(u64, u64), ModelError> {
        Ok((self.loss_of(first)?, self.loss_of(second)?))
    }

    fn loss_of(&self, checkpoint: &[u8]) -> Result<u64, ModelError> {
        let parameters = Parameters::from_safetensors(checkpoint, Some(self.model.layout()))?;
        // Saturates.
        Ok((self.evaluator.evaluate(&parameters)?.loss * 1e6) as u64)
    }

    /// The step that descent on the held-out data itself would take.
    fn reference(
        &self,
        round: RoundId,
        base: &Parameters,
        stop: &AtomicBool,
    ) -> Result<Parameters, ModelError> {
        let config = TrainConfig {
            // The held-out data is taken as it is: its classes are those that count.
            calibrated: false,
            local_epochs: REFERENCE_EPOCHS,
            steps_max: None,
            ..TrainConfig::of_task(&self.spec, round)?
        };
        let mut after_each = |_| keep_on(stop);
        Ok(train(
            &self.model,
            &config,
            base,
            &self.data,
            &self.device,
            &mut after_each,
        )?
        .delta)
    }

    /// The deltas; none of a candidate at fault.
    fn read_deltas(
        &self,
        candidates: &[Candidate],
        read: &mut dyn FnMut(&Candidate) -> Result<Vec<u8>, ModelError>,
    ) -> Result<Vec<Option<Parameters>>, ModelError> {
        let delta = |candidate: &Candidate| {
            // Not a delta of this model, or not finite: the submission's fault.
            Ok(Parameters::from_safetensors(&read(candidate)?, Some(self.model.layout())).ok())
        };
        candidates.iter().map(delta).collect()
    }

    /// Held-out loss with one update alone, at its weight in the average; infinite without one.
    fn loss_with(
        &self,
        base: &Parameters,
        player: Option<Player<'_>>,
        total: u128,
    ) -> Result<f64, ModelError> {
        let Some(player) = player else {
            return Ok(f64::INFINITY);
        };
        let mut stepped = base.clone();
        stepped.add_scaled(player.delta, player.weight(total))?;
        if !stepped.is_finite() {
            return Ok(f64::INFINITY);
        }
        Ok(self.evaluator.evaluate(&stepped)?.loss)
    }
}

fn keep_on(stop: &AtomicBool) -> ControlFlow<()> {
    if stop.load(Ordering::Relaxed) {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}

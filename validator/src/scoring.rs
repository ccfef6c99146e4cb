//! Measures candidates on held-out data: direction against a reference step of the
//! validator's own, and loss. See `convoke_protocol::scores` for what the numbers mean.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use convoke_models::{
    ClientOptimizer, ComputeDevice, Dataset, Evaluator, ModelConfig, ModelError, Parameters,
    TensorSpec, TrainConfig, train,
};
use convoke_protocol::ids::{RoundId, TaskId};
use convoke_protocol::message::Candidate;
use convoke_protocol::scores::{CandidateScore, Outcome, Score, ScoreSheet};
use convoke_protocol::task::TaskSpec;

/// Passes over the held-out data that the reference step takes. Held-out sets are small: ten
/// passes over 330 images told noise from honest updates in every round that was measured.
pub const REFERENCE_EPOCHS: u32 = 10;

/// Held-out data, device and settings of one task.
#[derive(Debug)]
pub struct Bench {
    task: TaskId,
    spec: TaskSpec,
    model: ModelConfig,
    layout: Vec<TensorSpec>,
    data: Dataset,
    device: ComputeDevice,
    evaluator: Evaluator,
}

/// Called before each measurement: how many are done, of how many.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize);

impl Bench {
    /// Checks that the data fits the task's model.
    ///
    /// # Errors
    /// [`ModelError`] for an unknown model, and for data that it cannot take.
    pub fn new(
        task: TaskId,
        spec: &TaskSpec,
        data: Dataset,
        device: ComputeDevice,
    ) -> Result<Self, ModelError> {
        let model = ModelConfig::from_spec(&spec.model)?;
        let evaluator = Evaluator::new(&model, &device, &data)?;
        let layout = convoke_models::layout(&model)?;
        Ok(Self {
            task,
            spec: spec.clone(),
            model,
            layout,
            data,
            device,
            evaluator,
        })
    }

    /// Scores the candidates of a round. `read` gives a candidate's file.
    ///
    /// Takes [`REFERENCE_EPOCHS`] of training and N + 1 evaluations of the held-out data; memory
    /// for three models, whatever N.
    ///
    /// # Errors
    /// What is this machine's fault, or that of the checkpoint: [`ModelError`]. A candidate at
    /// fault is marked in the sheet instead.
    pub fn score(
        &self,
        round: RoundId,
        checkpoint: &[u8],
        candidates: &[Candidate],
        read: &mut dyn FnMut(&Candidate) -> Result<Vec<u8>, ModelError>,
        stop: &AtomicBool,
        progress: Progress<'_>,
    ) -> Result<ScoreSheet, ModelError> {
        let of = candidates.len() + 1;
        progress(0, of);
        let base = Parameters::from_safetensors(checkpoint, Some(&self.layout))?;
        let before = self.evaluator.evaluate(&base)?;
        if !before.loss.is_finite() {
            return Err(ModelError::Parameters(
                "the checkpoint's held-out loss is not finite".into(),
            ));
        }
        let reference = self.reference(round, &base, stop)?;
        let total: u128 = candidates.iter().map(|c| u128::from(c.num_examples)).sum();
        let mut scores = Vec::with_capacity(candidates.len());
        for (done, candidate) in candidates.iter().enumerate() {
            progress(done + 1, of);
            if stop.load(Ordering::Relaxed) {
                return Err(ModelError::Interrupted { step: 0 });
            }
            let bytes = read(candidate)?;
            let weight = weight(candidate, total);
            let outcome = self.outcome(&base, before.loss, &reference, &bytes, weight)?;
            scores.push(CandidateScore {
                trainer: candidate.trainer,
                outcome,
            });
        }
        Ok(ScoreSheet {
            task: self.task,
            round,
            base_loss_micros: (before.loss * 1e6) as u64,
            base_accuracy_ppm: (before.accuracy * 1e6) as u32,
            candidates: scores,
        })
    }

    /// The step that descent on the held-out data itself would take.
    fn reference(
        &self,
        round: RoundId,
        base: &Parameters,
        stop: &AtomicBool,
    ) -> Result<Parameters, ModelError> {
        let training = &self.spec.training;
        let config = TrainConfig {
            model: self.model,
            optimizer: ClientOptimizer::named(
                &training.client_optimizer,
                training.momentum,
                training.weight_decay,
            )?,
            client_lr: training.client_lr,
            client_lr_decay: training.client_lr_decay,
            calibrated: training.logit_calibration,
            local_epochs: REFERENCE_EPOCHS,
            steps_max: None,
            batch_size: training.batch_size as usize,
            gradient_norm_max: None,
            seed: self.spec.seed,
            // The learning rate of the first round is the task's.
            round: round.0.saturating_sub(1),
        };
        let mut keep_on = |_| {
            if stop.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        Ok(train(&config, base, &self.data, &self.device, &mut keep_on)?.delta)
    }

    fn outcome(
        &self,
        base: &Parameters,
        base_loss: f64,
        reference: &Parameters,
        bytes: &[u8],
        weight: f32,
    ) -> Result<Outcome, ModelError> {
        // Not a delta of this model, or not finite: the submission's fault.
        let Ok(delta) = Parameters::from_safetensors(bytes, Some(&self.layout)) else {
            return Ok(Outcome::SubmissionFailed);
        };
        let mut stepped = base.clone();
        stepped.add_scaled(&delta, weight)?;
        let loss = if stepped.is_finite() {
            self.evaluator.evaluate(&stepped)?.loss
        } else {
            f64::INFINITY
        };
        if !loss.is_finite() {
            return Ok(Outcome::SubmissionFailed);
        }
        Ok(Outcome::Scored(Score {
            gain_micros: ((base_loss - loss) * 1e6) as i64,
            cosine_ppm: (cosine(delta.values(), reference.values()) * 1e6) as i32,
        }))
    }
}

/// The weight that the candidate has in the average, its clipping included.
fn weight(candidate: &Candidate, total: u128) -> f32 {
    if total == 0 {
        return 0.0;
    }
    let share = candidate.num_examples as f64 / total as f64;
    (share * f64::from(candidate.clip_ppm) / 1e6) as f32
}

/// Cosine of two vectors, in -1..=1; 0 if either is zero.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    let norms = (aa * bb).sqrt();
    if norms > 0.0 {
        (ab / norms).clamp(-1.0, 1.0)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_is_that_of_the_textbook_and_zero_for_nothing() {
        assert!((cosine(&[1.0, 0.0], &[2.0, 0.0]) - 1.0).abs() < 1e-12);
        assert!((cosine(&[1.0, 0.0], &[-3.0, 0.0]) + 1.0).abs() < 1e-12);
        assert!(cosine(&[1.0, 0.0], &[0.0, 5.0]).abs() < 1e-12);
        assert!((cosine(&[0.0; 3], &[1.0; 3])).abs() < 1e-12);
    }
}

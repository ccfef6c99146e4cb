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

/// Passes over the held-out data that the reference step takes. Measured with 330 held-out
/// images: six to eight tell every flipped update from the honest ones; at ten the reference
/// begins to fit its own images, and a flipped update may pass.
pub const REFERENCE_EPOCHS: u32 = 8;

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
    /// Takes [`REFERENCE_EPOCHS`] of training and N + 1 evaluations of the held-out data, N²/2
    /// products of deltas, and memory for N + 3 models.
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
        let mut deltas = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            // Not a delta of this model, or not finite: the submission's fault.
            let delta = Parameters::from_safetensors(&read(candidate)?, Some(&self.layout));
            deltas.push(delta.ok());
        }
        let directions = Directions::compare(&deltas, &reference);
        let total: u128 = candidates.iter().map(|c| u128::from(c.num_examples)).sum();
        let mut scores = Vec::with_capacity(candidates.len());
        for (index, (candidate, delta)) in candidates.iter().zip(&deltas).enumerate() {
            progress(index + 1, of);
            if stop.load(Ordering::Relaxed) {
                return Err(ModelError::Interrupted { step: 0 });
            }
            let loss = match delta {
                Some(delta) => self.loss_with(&base, delta, weight(candidate, total))?,
                None => f64::INFINITY,
            };
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
        Ok(ScoreSheet {
            task: self.task,
            round,
            base_loss_micros: (before.loss * 1e6) as u64,
            base_accuracy_ppm: (before.accuracy * 1e6) as u32,
            candidates: scores,
        })
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
        let parameters = Parameters::from_safetensors(checkpoint, Some(&self.layout))?;
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
            // The held-out data is taken as it is: its classes are those that count.
            calibrated: false,
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

    /// Held-out loss with one update alone, at its weight in the average.
    fn loss_with(
        &self,
        base: &Parameters,
        delta: &Parameters,
        weight: f32,
    ) -> Result<f64, ModelError> {
        let mut stepped = base.clone();
        stepped.add_scaled(delta, weight)?;
        if !stepped.is_finite() {
            return Ok(f64::INFINITY);
        }
        Ok(self.evaluator.evaluate(&stepped)?.loss)
    }
}

/// Cosines of the candidates with each other and with the reference.
struct Directions {
    /// With the reference.
    reference: Vec<f64>,
    /// Sums of squared cosines with the other candidates.
    others: Vec<f64>,
    /// Number of parameters.
    dimension: f64,
}

impl Directions {
    fn compare(deltas: &[Option<Parameters>], reference: &Parameters) -> Self {
        let values = |delta: &Option<Parameters>| delta.as_ref().map(|d| d.values().to_vec());
        let deltas: Vec<Vec<f32>> = deltas
            .iter()
            .map(|delta| values(delta).unwrap_or_default())
            .collect();
        let squared = |i: usize, j: usize| cosine(&deltas[i], &deltas[j]).powi(2);
        let mut others = vec![0.0; deltas.len()];
        for i in 0..deltas.len() {
            for j in i + 1..deltas.len() {
                let squared = squared(i, j);
                others[i] += squared;
                others[j] += squared;
            }
        }
        let reference_cosines = deltas
            .iter()
            .map(|delta| cosine(delta, reference.values()))
            .collect();
        Self {
            reference: reference_cosines,
            others,
            dimension: reference.len() as f64,
        }
    }

    /// The score of candidate `index` with a held-out gain in nats. Casts saturate.
    fn score(&self, index: usize, gain: f64) -> Score {
        let cosine = self.reference[index];
        let related = self.others[index] + cosine.powi(2);
        let relatedness = self.dimension * related / self.others.len() as f64;
        Score {
            gain_micros: (gain * 1e6) as i64,
            cosine_ppm: (cosine * 1e6) as i32,
            relatedness_milli: (relatedness * 1e3) as u32,
        }
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
#[allow(clippy::unwrap_used)]
mod tests {
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    fn parameters(values: &[f32]) -> Parameters {
        let layout = vec![TensorSpec {
            name: "w".into(),
            shape: vec![values.len()],
        }];
        Parameters::new(layout, values.to_vec()).unwrap()
    }

    #[test]
    fn relatedness_is_one_for_noise_and_more_for_what_agrees() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        let mut noise = || {
            (0..4_000)
                .map(|_| rng.random_range(-1.0f32..1.0))
                .collect::<Vec<_>>()
        };
        let common = noise();
        let near = |noise: Vec<f32>| {
            let mixed: Vec<_> = noise
                .iter()
                .zip(&common)
                .map(|(n, c)| n + 0.5 * c)
                .collect();
            Some(parameters(&mixed))
        };
        let deltas = [
            near(noise()),
            near(noise()),
            near(noise()),
            Some(parameters(&noise())),
        ];
        let directions = Directions::compare(&deltas, &parameters(&common));
        let scores: Vec<_> = (0..4).map(|index| directions.score(index, 0.0)).collect();
        assert!(
            scores[..3]
                .iter()
                .all(|s| s.relatedness_milli > 100_000 && s.cosine_ppm > 300_000)
        );
        assert!(
            scores[3].relatedness_milli < 4_000,
            "{}",
            scores[3].relatedness_milli
        );
    }

    #[test]
    fn the_cosine_is_that_of_the_textbook_and_zero_for_nothing() {
        assert!((cosine(&[1.0, 0.0], &[2.0, 0.0]) - 1.0).abs() < 1e-12);
        assert!((cosine(&[1.0, 0.0], &[-3.0, 0.0]) + 1.0).abs() < 1e-12);
        assert!(cosine(&[1.0, 0.0], &[0.0, 5.0]).abs() < 1e-12);
        assert!((cosine(&[0.0; 3], &[1.0; 3])).abs() < 1e-12);
    }
}

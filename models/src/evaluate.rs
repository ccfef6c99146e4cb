//! Held-out loss and accuracy of parameters.

pub(crate) mod metrics;

use burn::tensor::Tensor;

use crate::data::Dataset;
use crate::device::ComputeDevice;
use crate::error::ModelError;
use crate::parameters::Parameters;
use crate::registry::{ModelConfig, Network};
use crate::train::images;

/// How well parameters do on a data set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Mean cross-entropy with natural logarithm, 0 or more; lower is better. Infinite if the
    /// model's output is not finite.
    pub loss: f64,
    /// Share of the examples classified correctly, 0 to 1. Output that is not finite is wrong.
    pub accuracy: f64,
    /// Examples in the data set.
    pub num_examples: usize,
}

/// Evaluates parameters of one model on one data set, again and again: the data is normalized and
/// moved to the device once, at 4 bytes a pixel.
#[derive(Debug, Clone)]
pub struct Evaluator {
    model: ModelConfig,
    device: ComputeDevice,
    batches: Vec<(Tensor<3>, Vec<u8>)>,
    num_examples: usize,
}

impl Evaluator {
    /// Prepares `data` for `model` on `device`.
    ///
    /// # Errors
    /// As [`ModelConfig::check_data`].
    pub fn new(
        model: &ModelConfig,
        device: &ComputeDevice,
        data: &Dataset,
    ) -> Result<Self, ModelError> {
        model.check_data(data)?;
        let order: Vec<usize> = (0..data.len()).collect();
        let batch = |indices: &[usize]| {
            let labels = indices.iter().map(|&index| data.labels()[index]);
            (images(data, indices, &device.0), labels.collect())
        };
        Ok(Self {
            model: *model,
            device: device.clone(),
            batches: order.chunks(BATCH_SIZE).map(batch).collect(),
            num_examples: data.len(),
        })
    }

    /// Evaluates `parameters`. Equal calls give equal results, bit by bit, for the same number of
    /// threads.
    ///
    /// # Errors
    /// [`ModelError::Parameters`] if they are not those of the model; [`ModelError::Compute`] if
    /// the device fails, which says nothing about the parameters.
    pub fn evaluate(&self, parameters: &Parameters) -> Result<Evaluation, ModelError> {
        let network = Network::load(&self.model, parameters, &self.device.0)?;
        let mut loss = 0.0;
        let mut correct = 0usize;
        for (images, labels) in &self.batches {
            let logits = network
                .forward(images.clone())
                .try_into_vec_as::<f32>()
                .map_err(|error| ModelError::Compute(error.to_string()))?;
            for (row, &label) in logits.chunks_exact(self.model.classes).zip(labels) {
                loss += cross_entropy(row, usize::from(label));
                correct += usize::from(is_largest(row, usize::from(label)));
            }
        }
        Ok(Evaluation {
            loss: loss / self.num_examples as f64,
            accuracy: correct as f64 / self.num_examples as f64,
            num_examples: self.num_examples,
        })
    }

    /// Examples in the data set.
    pub fn num_examples(&self) -> usize {
        self.num_examples
    }
}

/// Examples evaluated at a time.
const BATCH_SIZE: usize = 256;

/// log Σ exp(z) - z[label], shifted by the maximum so that nothing overflows.
fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    if logits.iter().any(|logit| !logit.is_finite()) {
        return f64::INFINITY;
    }
    let max = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|&logit| (f64::from(logit) - max).exp())
        .sum();
    max + sum.ln() - f64::from(logits[label])
}

/// Whether `logits[label]` is above all others. A tie is no answer: a model that says the same
/// for every class must not be right about one of them.
fn is_largest(logits: &[f32], label: usize) -> bool {
    logits[label].is_finite()
        && logits
            .iter()
            .enumerate()
            .all(|(class, &logit)| class == label || logit < logits[label])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::device::DeviceChoice;
    use crate::registry::{ModelKind, initial};

    const MODEL: ModelConfig = ModelConfig {
        kind: ModelKind::Mlp,
        height: 4,
        width: 4,
        classes: 3,
    };

    fn evaluator(count: usize) -> Evaluator {
        let images = (0..count * 16).map(|i| (i * 31 % 256) as u8).collect();
        let labels = (0..count).map(|i| (i % 3) as u8).collect();
        let data = Dataset::new(images, 4, 4, labels, 3).unwrap();
        Evaluator::new(&MODEL, &DeviceChoice::Cpu.open().unwrap(), &data).unwrap()
    }

    #[test]
    fn a_model_that_knows_nothing_has_the_loss_of_guessing() {
        let zeros = Parameters::zeros(initial(&MODEL, 1).unwrap().layout().to_vec()).unwrap();
        let result = evaluator(300).evaluate(&zeros).unwrap();
        assert!((result.loss - 3f64.ln()).abs() < 1e-6);
        assert_eq!(result.accuracy, 0.0);
        assert_eq!(result.num_examples, 300);
    }

    #[test]
    fn a_model_that_says_one_class_is_right_for_a_third() {
        let mut parameters = initial(&MODEL, 1).unwrap();
        parameters.values_mut().fill(0.0);
        let fc1_values = 64 + 16 * 64;
        parameters.values_mut()[fc1_values + 1] = 1.0;
        let result = evaluator(300).evaluate(&parameters).unwrap();
        assert!((result.accuracy - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn equal_calls_give_equal_results() {
        let evaluator = evaluator(600);
        let parameters = initial(&MODEL, 5).unwrap();
        let first = evaluator.evaluate(&parameters).unwrap();
        assert_eq!(first, evaluator.evaluate(&parameters).unwrap());
    }

    #[test]
    fn infinite_output_is_an_infinite_loss() {
        let mut parameters = initial(&MODEL, 5).unwrap();
        parameters.values_mut().fill(f32::MAX);
        let result = evaluator(10).evaluate(&parameters).unwrap();
        assert_eq!(result.loss, f64::INFINITY);
        assert_eq!(result.accuracy, 0.0);
        parameters.values_mut().fill(f32::NAN);
        let result = evaluator(10).evaluate(&parameters).unwrap();
        assert_eq!(result.loss, f64::INFINITY);
    }

    #[test]
    fn cross_entropy_is_the_textbook_formula() {
        let logits = [0.5f32, -1.0, 2.0];
        let sum: f64 = logits.iter().map(|&z| f64::from(z).exp()).sum();
        let naive = -(f64::from(logits[1]).exp() / sum).ln();
        assert!((cross_entropy(&logits, 1) - naive).abs() < 1e-12);
        assert!(cross_entropy(&[1e30, -1e30], 0) < 1e-12);
        assert!(cross_entropy(&[1e30, -1e30], 1).is_finite());
    }
}

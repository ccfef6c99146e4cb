//! Held-out loss and accuracy of parameters.

mod tally;

use serde::Serialize;

pub(crate) use self::tally::Tally;
use crate::batch::Batch;
use crate::data::Dataset;
use crate::device::ComputeDevice;
use crate::error::ModelError;
use crate::model::Model;
use crate::network::Network;
use crate::ops::autocast;
use crate::parameters::Parameters;

/// Ranks up to this one count in [`Evaluation::ndcg_at_10`] and [`Evaluation::hit_rate_at_10`].
pub const RANKS_COUNTED: usize = 10;

/// How well parameters do on a data set; what the kind of data has no use for is absent.
///
/// Text is measured in bits per byte: the model's surprise over a text, divided by the bytes of the
/// text. Unlike the loss and the perplexity it does not depend on how the text was cut into
/// tokens, so that no tokenizer can game it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Evaluation {
    /// Mean cross-entropy with natural logarithm, 0 or more; lower is better: per image or text for
    /// classifiers, per token that counts for language models, per user's left-out item for
    /// recommenders. Infinite if the model's output is not finite.
    pub loss: f64,
    /// Share of the classes, tokens or left-out items predicted correctly, 0 to 1. Output that is
    /// not finite, and a tie, is wrong.
    pub accuracy: f64,
    /// Images, texts, sequences or users.
    pub num_examples: usize,
    /// Mean of F1 = 2 TP / (2 TP + FP + FN) over the classes that occur or were predicted, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macro_f1: Option<f64>,
    /// Σ nll / (ln 2 · bytes of the text that the counted tokens cover); lower is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
    /// exp(loss) of a language model; comparable for one tokenizer only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// Mean over users of 1 / log₂(1 + rank) of the left-out item if its rank is at most 10, else
    /// 0 (He et al. 2017, arXiv:1708.05031). Ranked are all items that the user has not had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ndcg_at_10: Option<f64>,
    /// Share of the users whose left-out item has a rank of at most 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hit_rate_at_10: Option<f64>,
}

/// Evaluates parameters of one model on one data set, again and again: base weights and data are
/// moved to the device once; images take 4 bytes a pixel.
#[derive(Debug, Clone)]
pub struct Evaluator {
    model: Model,
    device: ComputeDevice,
    frame: Network,
    batches: Vec<Batch>,
    num_examples: usize,
}

impl Evaluator {
    /// Prepares `data` for `model` on `device`.
    ///
    /// # Errors
    /// As [`Model::check_data`].
    pub fn new(model: &Model, device: &ComputeDevice, data: &Dataset) -> Result<Self, ModelError> {
        model.check_data(data)?;
        Ok(Self {
            model: model.clone(),
            device: device.clone(),
            frame: model.frame(&device.device)?,
            batches: data.batches(&device.device),
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
        let network = self
            .model
            .load(&self.frame, parameters, &self.device.device)?;
        let mut tally = Tally::default();
        let _products = autocast::enter(self.device.precision());
        for batch in &self.batches {
            network.tally(batch, &mut tally)?;
        }
        Ok(tally.evaluation())
    }

    /// Examples in the data set.
    pub fn num_examples(&self) -> usize {
        self.num_examples
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::data::Images;
    use crate::device::DeviceChoice;
    use crate::registry::{ModelConfig, ModelKind};

    fn model() -> Model {
        Model::new(ModelConfig::images(ModelKind::Mlp, 4, 4, 3).unwrap()).unwrap()
    }

    fn evaluator(count: usize) -> Evaluator {
        let images = (0..count * 16).map(|i| (i * 31 % 256) as u8).collect();
        let labels = (0..count).map(|i| (i % 3) as u8).collect();
        let data = Images::new(images, 4, 4, labels, 3).unwrap().into();
        Evaluator::new(&model(), &DeviceChoice::Cpu.open().unwrap(), &data).unwrap()
    }

    #[test]
    fn a_model_that_knows_nothing_has_the_loss_of_guessing() {
        let zeros = Parameters::zeros(model().layout().to_vec()).unwrap();
        let result = evaluator(300).evaluate(&zeros).unwrap();
        assert!((result.loss - 3f64.ln()).abs() < 1e-6);
        assert_eq!(result.accuracy, 0.0);
        assert_eq!(result.num_examples, 300);
    }

    #[test]
    fn a_model_that_says_one_class_is_right_for_a_third() {
        let mut parameters = model().initial(1).unwrap();
        parameters.values_mut().fill(0.0);
        let fc1_values = 64 + 16 * 64;
        parameters.values_mut()[fc1_values + 1] = 1.0;
        let result = evaluator(300).evaluate(&parameters).unwrap();
        assert!((result.accuracy - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn equal_calls_give_equal_results() {
        let evaluator = evaluator(600);
        let parameters = model().initial(5).unwrap();
        let first = evaluator.evaluate(&parameters).unwrap();
        assert_eq!(first, evaluator.evaluate(&parameters).unwrap());
    }

    #[test]
    fn infinite_output_is_an_infinite_loss() {
        let mut parameters = model().initial(5).unwrap();
        parameters.values_mut().fill(f32::MAX);
        let result = evaluator(10).evaluate(&parameters).unwrap();
        assert_eq!(result.loss, f64::INFINITY);
        assert_eq!(result.accuracy, 0.0);
        parameters.values_mut().fill(f32::NAN);
        let result = evaluator(10).evaluate(&parameters).unwrap();
        assert_eq!(result.loss, f64::INFINITY);
    }
}

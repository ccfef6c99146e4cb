//! Any of the models, as one burn module.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::arch::cnn::Cnn;
use crate::arch::mlp::Mlp;
use crate::batch::{Batch, floats, integers};
use crate::error::ModelError;
use crate::evaluate::Tally;
use crate::ops::cross_entropy;
use crate::registry::ModelConfig;

// Only one exists at a time, so the difference in size costs nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Debug)]
pub(crate) enum Network {
    Cnn(Cnn),
    Mlp(Mlp),
}

impl Network {
    /// The model with lazy initial values, to be replaced by those of parameters or of a base.
    pub(crate) fn new(config: &ModelConfig, device: &Device) -> Self {
        match config {
            ModelConfig::Cnn(config) => Self::Cnn(Cnn::new(config, device)),
            ModelConfig::Mlp(config) => Self::Mlp(Mlp::new(config, device)),
        }
    }

    /// The sum of the losses of all predictions of the batch that count, one value, in nats.
    ///
    /// `log_prior`, `[1, classes]`, is added to the logits of a classifier.
    pub(crate) fn loss(&self, batch: &Batch, log_prior: Option<&Tensor<2>>) -> Tensor<1> {
        let (logits, labels) = self.classify(batch);
        let logits = match log_prior {
            Some(log_prior) => logits + log_prior.clone(),
            None => logits,
        };
        let device = logits.device();
        let weights = floats(vec![1.0; labels.len()], &device);
        cross_entropy(logits, integers(labels, &device), weights)
    }

    /// Measures the batch.
    ///
    /// # Errors
    /// [`ModelError::Compute`] if the device fails.
    pub(crate) fn tally(&self, batch: &Batch, tally: &mut Tally) -> Result<(), ModelError> {
        let (logits, labels) = self.classify(batch);
        let [_, classes] = logits.dims();
        let logits = logits
            .try_into_vec_as::<f32>()
            .map_err(|error| ModelError::Compute(error.to_string()))?;
        tally.classes(&logits, classes, labels);
        Ok(())
    }

    /// Logits of a classifier, `[batch, classes]`, and the classes.
    ///
    /// # Panics
    /// If the batch is not of the kind that the model takes: data sets are checked before.
    fn classify<'a>(&self, batch: &'a Batch) -> (Tensor<2>, &'a [u32]) {
        match (self, batch) {
            (Self::Cnn(cnn), Batch::Images { pixels, labels }) => {
                (cnn.forward(pixels.clone()), labels)
            }
            (Self::Mlp(mlp), Batch::Images { pixels, labels }) => {
                (mlp.forward(pixels.clone()), labels)
            }
            _ => unreachable!("the data set was checked against the model"),
        }
    }
}

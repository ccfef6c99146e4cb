//! The models by name, and their initial parameters.

use std::fmt;
use std::str::FromStr;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde::{Deserialize, Serialize};

use crate::cnn::Cnn;
use crate::data::{Dataset, SIDE_MAX};
use crate::error::ModelError;
use crate::flatten::{layout_of, unflatten};
use crate::mlp::Mlp;
use crate::parameters::{Parameters, TensorSpec, check_layout};

/// A kind of model, as a task file names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// `"cnn"`: [`Cnn`].
    Cnn,
    /// `"mlp"`: [`Mlp`].
    Mlp,
}

impl ModelKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Cnn, Self::Mlp];

    /// The name in a task file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cnn => "cnn",
            Self::Mlp => "mlp",
        }
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ModelKind {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| ModelError::UnknownModel {
                name: name.to_owned(),
                known: Self::ALL.map(Self::name).join(", "),
            })
    }
}

/// A model: its kind and the images it classifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The kind of model.
    pub kind: ModelKind,
    /// Height of an image in pixels, 4 to [`SIDE_MAX`].
    pub height: usize,
    /// Width of an image in pixels, 4 to [`SIDE_MAX`].
    pub width: usize,
    /// Number of classes, 2 to 256.
    pub classes: usize,
}

impl ModelConfig {
    /// The model that a task file asks for.
    ///
    /// # Errors
    /// [`ModelError::UnknownModel`], [`ModelError::Config`].
    pub fn from_spec(spec: &convoke_protocol::task::ModelSpec) -> Result<Self, ModelError> {
        let config = Self {
            kind: spec.kind.parse()?,
            height: spec.height as usize,
            width: spec.width as usize,
            classes: spec.classes as usize,
        };
        config.check()?;
        Ok(config)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn check(&self) -> Result<(), ModelError> {
        for (field, side) in [("height", self.height), ("width", self.width)] {
            if !(SIDE_MIN..=SIDE_MAX).contains(&side) {
                return Err(ModelError::Config {
                    field,
                    got: side.to_string(),
                    allowed: "4 to 512 pixels",
                });
            }
        }
        if !(2..=256).contains(&self.classes) {
            return Err(ModelError::Config {
                field: "classes",
                got: self.classes.to_string(),
                allowed: "2 to 256",
            });
        }
        Ok(())
    }

    /// Checks that the model can learn from or be tested on `data`, which may have fewer classes.
    ///
    /// # Errors
    /// [`ModelError::Config`]; [`ModelError::Dataset`] if there are no examples, the images have
    /// another size, or a label is no class of the model.
    pub fn check_data(&self, data: &Dataset) -> Result<(), ModelError> {
        self.check()?;
        if data.is_empty() {
            return Err(ModelError::Dataset("no examples".into()));
        }
        if (data.height(), data.width()) != (self.height, self.width) {
            return Err(ModelError::Dataset(format!(
                "images of {}x{} pixels, the model takes {}x{}",
                data.height(),
                data.width(),
                self.height,
                self.width
            )));
        }
        match data
            .labels()
            .iter()
            .find(|&&label| usize::from(label) >= self.classes)
        {
            Some(label) => Err(ModelError::Dataset(format!(
                "label {label}, the model has {} classes",
                self.classes
            ))),
            None => Ok(()),
        }
    }
}

/// Shortest side of an image that a model takes, in pixels.
const SIDE_MIN: usize = 4;

/// Names and shapes of a model's parameters, ordered by name: what a checkpoint or a delta of a
/// task must have.
///
/// # Errors
/// [`ModelError::Config`].
pub fn layout(config: &ModelConfig) -> Result<Vec<TensorSpec>, ModelError> {
    config.check()?;
    Ok(layout_of(&Network::new(config, &Device::flex())))
}

/// Initial parameters: biases zero, weights uniform in ±sqrt(6 / fan_in), which keeps the
/// variance of activations through relu (He et al. 2015, arXiv:1502.01852). The same seed gives
/// the same bytes.
///
/// # Errors
/// [`ModelError::Config`].
pub fn initial(config: &ModelConfig, seed: u64) -> Result<Parameters, ModelError> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let layout = layout(config)?;
    let mut values = Vec::new();
    for spec in &layout {
        let bound = fan_in(spec).map_or(0.0, |fan_in| (6.0 / fan_in as f32).sqrt());
        values.extend((0..spec.len()).map(|_| bound * (2.0 * rng.random::<f32>() - 1.0)));
    }
    Parameters::new(layout, values)
}

/// Inputs of each output; a bias has none. Dense weights are `[inputs, outputs]`, convolution
/// weights `[channels_out, channels_in, height, width]`.
fn fan_in(spec: &TensorSpec) -> Option<usize> {
    match spec.shape.as_slice() {
        [inputs, _] => Some(*inputs),
        [_, channels, height, width] => Some(channels * height * width),
        _ => None,
    }
}

/// Any of the models, as one burn module.
// Only one exists at a time, so the difference in size costs nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Module, Debug)]
pub(crate) enum Network {
    Cnn(Cnn),
    Mlp(Mlp),
}

impl Network {
    /// The model with lazy initial values, to be replaced by [`load`](Self::load).
    fn new(config: &ModelConfig, device: &Device) -> Self {
        match config.kind {
            ModelKind::Cnn => Self::Cnn(Cnn::new(config, device)),
            ModelKind::Mlp => Self::Mlp(Mlp::new(config, device)),
        }
    }

    /// The model with the given parameters.
    ///
    /// # Errors
    /// [`ModelError::Parameters`] if they are not those of the model.
    pub(crate) fn load(
        config: &ModelConfig,
        parameters: &Parameters,
        device: &Device,
    ) -> Result<Self, ModelError> {
        config.check()?;
        let network = Self::new(config, device);
        check_layout(parameters.layout(), &layout_of(&network))?;
        Ok(unflatten(network, parameters, device))
    }

    /// Logits of a batch.
    ///
    /// # Shapes
    /// - images: `[batch, height, width]`
    /// - output: `[batch, classes]`
    pub(crate) fn forward(&self, images: Tensor<3>) -> Tensor<2> {
        match self {
            Self::Cnn(cnn) => cnn.forward(images),
            Self::Mlp(mlp) => mlp.forward(images),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::flatten::flatten;

    fn config(kind: ModelKind) -> ModelConfig {
        ModelConfig {
            kind,
            height: 8,
            width: 6,
            classes: 3,
        }
    }

    #[test]
    fn names_lead_to_kinds_and_unknown_ones_list_the_known() {
        for kind in ModelKind::ALL {
            assert_eq!(kind.to_string().parse::<ModelKind>().unwrap(), kind);
        }
        let error = "vit".parse::<ModelKind>().unwrap_err().to_string();
        assert_eq!(error, r#"unknown model "vit", known: cnn, mlp"#);
    }

    #[test]
    fn flat_parameters_survive_the_module_tree() {
        for kind in ModelKind::ALL {
            let parameters = initial(&config(kind), 3).unwrap();
            for device in [Device::flex(), Device::flex().autodiff()] {
                let network = Network::load(&config(kind), &parameters, &device).unwrap();
                assert_eq!(flatten(&network).unwrap(), parameters);
            }
        }
    }

    #[test]
    fn every_parameter_gets_a_gradient() {
        let device = Device::flex().autodiff();
        for kind in ModelKind::ALL {
            let parameters = initial(&config(kind), 3).unwrap();
            let network = Network::load(&config(kind), &parameters, &device).unwrap();
            let images = Tensor::<3>::ones([2, 8, 6], &device);
            let grads = network.forward(images).sum().backward();
            let grads = burn::optim::GradientsParams::from_grads(grads, &network);
            assert_eq!(grads.len(), parameters.layout().len());
        }
    }

    #[test]
    fn initial_parameters_depend_on_the_seed_alone() {
        let config = config(ModelKind::Cnn);
        let first = initial(&config, 7).unwrap();
        assert_eq!(first, initial(&config, 7).unwrap());
        assert_ne!(first, initial(&config, 8).unwrap());
        assert!(first.is_finite());
        for (spec, values) in first.tensors() {
            assert_eq!(
                spec.name.ends_with("bias"),
                values.iter().all(|&v| v == 0.0)
            );
        }
    }

    #[test]
    fn parameters_of_another_model_are_refused() {
        let cnn = initial(&config(ModelKind::Cnn), 1).unwrap();
        assert!(Network::load(&config(ModelKind::Mlp), &cnn, &Device::flex()).is_err());
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        let good = config(ModelKind::Cnn);
        assert!(layout(&ModelConfig { height: 3, ..good }).is_err());
        assert!(layout(&ModelConfig { width: 513, ..good }).is_err());
        assert!(layout(&ModelConfig { classes: 1, ..good }).is_err());
        assert!(
            layout(&ModelConfig {
                classes: 257,
                ..good
            })
            .is_err()
        );
    }

    #[test]
    fn data_of_another_size_is_refused() {
        let data = |height: usize, label| {
            Dataset::new(vec![0; height * 6], height, 6, vec![label], 10).unwrap()
        };
        let config = config(ModelKind::Mlp);
        config.check_data(&data(8, 2)).unwrap();
        assert!(config.check_data(&data(9, 2)).is_err());
        assert!(config.check_data(&data(8, 3)).is_err());
        assert!(config.check_data(&data(8, 0).subset(&[])).is_err());
    }
}

//! A model that is ready to train or to be measured: its settings, what it starts from, and which
//! of its parameters travel.

use burn::tensor::Device;
use convoke_protocol::task::TaskSpec;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::data::Dataset;
use crate::error::ModelError;
use crate::flatten::{layout_of, unflatten};
use crate::network::Network;
use crate::parameters::{Parameters, TensorSpec, check_layout};
use crate::registry::{ModelConfig, Takes};
use crate::tokenizer::Tokenizer;

/// A model, opened. Clones share what is large.
#[derive(Debug, Clone)]
pub struct Model {
    config: ModelConfig,
    layout: Vec<TensorSpec>,
    tokenizer: Option<Tokenizer>,
}

impl Model {
    /// A model from scratch.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn new(config: ModelConfig) -> Result<Self, ModelError> {
        config.check()?;
        let layout = layout_of(&Network::new(&config, &Device::flex()));
        Ok(Self {
            config,
            layout,
            tokenizer: None,
        })
    }

    /// What a task trains.
    ///
    /// # Errors
    /// [`ModelError`] for a model or settings that are unknown or out of range.
    pub fn of_task(spec: &TaskSpec) -> Result<Self, ModelError> {
        Self::new(ModelConfig::from_spec(&spec.model)?)
    }

    /// Its settings.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What it learns from.
    pub fn takes(&self) -> Takes {
        self.config.kind().takes()
    }

    /// How it reads text, if it does.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// Number of classes, of a classifier.
    pub fn classes(&self) -> Option<usize> {
        match &self.config {
            ModelConfig::Cnn(config) => Some(config.classes),
            ModelConfig::Mlp(config) => Some(config.classes),
            ModelConfig::Recommender(_) => None,
            ModelConfig::Resnet18(config) => Some(config.classes),
        }
    }

    /// Names and shapes of the parameters that travel, ordered by name: what a checkpoint or a
    /// delta of a task must have.
    pub fn layout(&self) -> &[TensorSpec] {
        &self.layout
    }

    /// Initial parameters: biases zero, scales of normalizations one, weights uniform in
    /// ±sqrt(6 / fan_in), which keeps the variance of activations through relu (He et al. 2015,
    /// arXiv:1502.01852). The same seed gives the same bytes.
    pub fn initial(&self, seed: u64) -> Parameters {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut values = Vec::new();
        for spec in &self.layout {
            let bound = fan_in(spec).map_or(0.0, |fan_in| (6.0 / fan_in as f32).sqrt());
            let centre = f32::from(u8::from(spec.name.ends_with(".gamma")));
            let value = |_| centre + bound * (2.0 * rng.random::<f32>() - 1.0);
            values.extend((0..spec.len()).map(value));
        }
        Parameters::new(self.layout.clone(), values).expect("one value for each place")
    }

    /// Checks that the model can learn from or be tested on `data`, which may have fewer classes.
    ///
    /// # Errors
    /// [`ModelError::Dataset`] if there are no examples, or they are not of the kind and size that
    /// the model takes.
    pub fn check_data(&self, data: &Dataset) -> Result<(), ModelError> {
        if data.is_empty() {
            return Err(ModelError::Dataset("no examples".into()));
        }
        match (&self.config, data) {
            (ModelConfig::Cnn(config), Dataset::Images(images)) => {
                images.check_for(config.height, config.width, config.classes)
            }
            (ModelConfig::Mlp(config), Dataset::Images(images)) => {
                images.check_for(config.height, config.width, config.classes)
            }
            (ModelConfig::Resnet18(config), Dataset::Images(images)) => {
                images.check_for(config.height, config.width, config.classes)
            }
            (ModelConfig::Recommender(config), Dataset::Interactions(interactions))
                if interactions.catalogue() == config.items =>
            {
                Ok(())
            }
            (ModelConfig::Recommender(config), Dataset::Interactions(interactions)) => {
                Err(ModelError::Dataset(format!(
                    "{} items, the model has {}",
                    interactions.catalogue(),
                    config.items
                )))
            }
            _ => Err(ModelError::Dataset(format!(
                "{}, which no {} learns from",
                data.noun(),
                self.config.kind()
            ))),
        }
    }

    /// The model on a device with all that does not travel in its place: to be completed by
    /// [`load`](Self::load), again and again.
    pub(crate) fn frame(&self, device: &Device) -> Network {
        Network::new(&self.config, device)
    }

    /// The frame with the given parameters in it.
    ///
    /// # Errors
    /// [`ModelError::Parameters`] if they are not those of the model.
    pub(crate) fn load(
        &self,
        frame: &Network,
        parameters: &Parameters,
        device: &Device,
    ) -> Result<Network, ModelError> {
        check_layout(parameters.layout(), &self.layout)?;
        Ok(unflatten(frame.clone(), parameters, device))
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use burn::optim::GradientsParams;

    use super::*;
    use crate::data::Images;
    use crate::flatten::flatten;
    use crate::registry::ModelKind;

    const KINDS: [ModelKind; 3] = [ModelKind::Cnn, ModelKind::Mlp, ModelKind::Resnet18];

    fn model(kind: ModelKind) -> Model {
        Model::new(ModelConfig::images(kind, 8, 6, 3).unwrap()).unwrap()
    }

    fn data(height: usize, label: u8) -> Dataset {
        let pixels = (0..height * 6).map(|pixel| (pixel * 37 % 256) as u8);
        Images::new(pixels.collect(), height, 6, vec![label], 10)
            .unwrap()
            .into()
    }

    #[test]
    fn flat_parameters_survive_the_module_tree() {
        for kind in KINDS {
            let model = model(kind);
            let parameters = model.initial(3);
            for device in [Device::flex(), Device::flex().autodiff()] {
                let frame = model.frame(&device);
                let network = model.load(&frame, &parameters, &device).unwrap();
                assert_eq!(flatten(&network, model.layout()).unwrap(), parameters);
            }
        }
    }

    #[test]
    fn every_parameter_gets_a_gradient() {
        let device = Device::flex().autodiff();
        for kind in KINDS {
            let model = model(kind);
            let frame = model.frame(&device);
            let network = model.load(&frame, &model.initial(3), &device).unwrap();
            let batch = data(8, 2).batch(&[0], &device);
            let grads = network.loss(&batch, None).backward();
            let grads = GradientsParams::from_grads(grads, &network);
            assert_eq!(grads.len(), model.layout().len());
        }
    }

    #[test]
    fn initial_parameters_depend_on_the_seed_alone() {
        let model = model(ModelKind::Cnn);
        let first = model.initial(7);
        assert_eq!(first, model.initial(7));
        assert_ne!(first, model.initial(8));
        assert!(first.is_finite());
        for (spec, values) in first.tensors() {
            let zero = values.iter().all(|&value| value == 0.0);
            assert_eq!(spec.name.ends_with("bias"), zero);
        }
    }

    #[test]
    fn parameters_of_another_model_are_refused() {
        let (cnn, mlp) = (model(ModelKind::Cnn), model(ModelKind::Mlp));
        let device = Device::flex();
        let loaded = mlp.load(&mlp.frame(&device), &cnn.initial(1), &device);
        assert!(loaded.is_err());
    }

    #[test]
    fn data_of_another_size_is_refused() {
        let model = model(ModelKind::Mlp);
        model.check_data(&data(8, 2)).unwrap();
        assert!(model.check_data(&data(9, 2)).is_err());
        assert!(model.check_data(&data(8, 3)).is_err());
        assert!(model.check_data(&data(8, 0).subset(&[])).is_err());
    }
}

//! A model that is ready to train or to be measured: its settings, what it starts from, and which
//! of its parameters travel.

use std::sync::{Arc, Mutex};

use burn::tensor::Device;
use convoke_protocol::task::TaskSpec;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::adapter::AdapterConfig;
use crate::base::{Base, BaseFile, Cache};
use crate::data::Dataset;
use crate::error::{ModelError, in_range};
use crate::flatten::{flatten, layout_of, unflatten};
use crate::layers::Builder;
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
    base: Option<Arc<Base>>,
    adapter: Option<AdapterConfig>,
    /// Whether the values that it starts from are known: not if it was opened without its base.
    complete: bool,
    /// Frozen weights by device: all who use the model on it share them.
    frames: Arc<Mutex<Vec<(Device, Network)>>>,
}

impl Model {
    /// A model from scratch. One of text reads bytes.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn new(config: ModelConfig) -> Result<Self, ModelError> {
        let tokenizer = match config.kind().takes() {
            Takes::Text | Takes::LabelledText => Some(Tokenizer::bytes()),
            Takes::Images | Takes::Interactions => None,
        };
        Self::assemble(config, tokenizer, None, None, true)
    }

    /// A model that starts from a base, of which all is trained, or adapters alone. It reads text
    /// by the base's own tokenizer.
    ///
    /// # Errors
    /// [`ModelError::Config`]; [`ModelError::Base`] and [`ModelError::Tokenizer`] for a base that
    /// is not the model's.
    pub fn with_base(
        config: ModelConfig,
        base: Arc<Base>,
        adapter: Option<AdapterConfig>,
    ) -> Result<Self, ModelError> {
        let tokenizer = Tokenizer::from_parts(base.tokenizer()?)?;
        let model = Self::assemble(config, Some(tokenizer), Some(base), adapter, true)?;
        // Shapes are checked while weights are taken; what is frozen is kept for use.
        model.frame(&Device::flex())?;
        Ok(model)
    }

    /// What a task trains, as far as it can be known without the base: the layout, but neither
    /// initial values nor, of a model with a base, anything that computes.
    ///
    /// # Errors
    /// [`ModelError`] for a model or settings that are unknown or out of range.
    pub fn of_task(spec: &TaskSpec) -> Result<Self, ModelError> {
        let config = ModelConfig::from_spec(&spec.model)?;
        match (&spec.base, &spec.adapter) {
            (None, None) => Self::new(config),
            (None, Some(_)) => Err(ModelError::Config {
                field: "adapter",
                got: "no [base]".into(),
                allowed: "with a [base] that it adapts",
            }),
            (Some(_), adapter) => {
                let adapter = adapter.as_ref().map(AdapterConfig::from_spec).transpose()?;
                Self::assemble(config, None, None, adapter, false)
            }
        }
    }

    /// What a task trains, with its base, which is fetched into `cache` if need be.
    ///
    /// # Errors
    /// As [`of_task`](Self::of_task), [`with_base`](Self::with_base) and [`Cache::obtain`].
    pub fn open(
        spec: &TaskSpec,
        cache: &Cache,
        progress: &mut dyn FnMut(&BaseFile, u64),
    ) -> Result<Self, ModelError> {
        let Some(base) = &spec.base else {
            return Self::of_task(spec);
        };
        let config = ModelConfig::from_spec(&spec.model)?;
        let adapter = spec.adapter.as_ref();
        let adapter = adapter.map(AdapterConfig::from_spec).transpose()?;
        let hash = base.hash.ok_or_else(|| ModelError::Config {
            field: "base.hash",
            got: "nothing".into(),
            allowed: "the hash that `convoke model fetch` shows",
        })?;
        let folder = cache.obtain(&base.sources, hash, progress)?;
        Self::with_base(config, Arc::new(Base::open(&folder)?), adapter)
    }

    fn assemble(
        config: ModelConfig,
        tokenizer: Option<Tokenizer>,
        base: Option<Arc<Base>>,
        adapter: Option<AdapterConfig>,
        complete: bool,
    ) -> Result<Self, ModelError> {
        config.check()?;
        if let Some(adapter) = &adapter {
            adapter.check()?;
        }
        if let (Some(vocabulary), Some(tokenizer)) = (config.vocabulary(), &tokenizer) {
            let good = tokenizer.vocabulary() <= vocabulary;
            let allowed = "at least the tokenizer's number of tokens, 257 for bytes";
            in_range("vocab_size", vocabulary, good, allowed)?;
        } else if config.vocabulary().is_none() && (base.is_some() || !complete) {
            return Err(ModelError::Config {
                field: "base",
                got: config.kind().to_string(),
                allowed: "for bert, llama and transformer",
            });
        }
        let builder = Builder::new(&Device::flex()).with_adapter(adapter.as_ref());
        let layout = layout_of(&Network::new(&config, &builder)?);
        if layout.is_empty() {
            return Err(ModelError::Config {
                field: "adapter.targets",
                got: format!("{:?}", adapter.map(|adapter| adapter.targets)),
                allowed: "names of at least one dense layer of the model",
            });
        }
        Ok(Self {
            config,
            layout,
            tokenizer,
            base,
            adapter,
            complete,
            frames: Arc::default(),
        })
    }

    /// The base that it starts from, if it has one and was opened with it.
    pub fn base(&self) -> Option<&Base> {
        self.base.as_deref()
    }

    /// The adapter that alone is trained, if so.
    pub fn adapter(&self) -> Option<&AdapterConfig> {
        self.adapter.as_ref()
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
            ModelConfig::Bert(config) => Some(config.classes),
            config => config.takes_images().map(|(_, _, classes)| classes),
        }
    }

    /// Names and shapes of the parameters that travel, ordered by name: what a checkpoint or a
    /// delta of a task must have.
    pub fn layout(&self) -> &[TensorSpec] {
        &self.layout
    }

    /// Initial parameters. With a base they are the base's, and of adapters and heads, and of
    /// language models from scratch, drawn as those are usually; of all else biases are zero,
    /// scales of normalizations one, weights uniform in ±sqrt(6 / fan_in), which keeps the variance
    /// of activations through relu (He et al. 2015, arXiv:1502.01852). The same seed gives the
    /// same bytes.
    ///
    /// # Errors
    /// [`ModelError::Config`] if the model was opened without its base; [`ModelError::Base`],
    /// [`ModelError::File`] and [`ModelError::Compute`] if the base cannot be read.
    pub fn initial(&self, seed: u64) -> Result<Parameters, ModelError> {
        if !self.complete {
            return Err(ModelError::Config {
                field: "base",
                got: "a model that was opened without it".into(),
                allowed: "one that was opened with its base",
            });
        }
        if self.config.vocabulary().is_some() {
            let builder = self.builder(&Device::flex());
            let builder = builder.with_base(self.base.as_deref()).seeded(seed);
            return flatten(&Network::new(&self.config, &builder)?, &self.layout);
        }
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut values = Vec::new();
        for spec in &self.layout {
            let bound = fan_in(spec).map_or(0.0, |fan_in| (6.0 / fan_in as f32).sqrt());
            let centre = f32::from(u8::from(spec.name.ends_with(".gamma")));
            let value = |_| centre + bound * (2.0 * rng.random::<f32>() - 1.0);
            values.extend((0..spec.len()).map(value));
        }
        Parameters::new(self.layout.clone(), values)
    }

    fn builder(&self, device: &Device) -> Builder<'_> {
        Builder::new(device).with_adapter(self.adapter.as_ref())
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
        if let (Some((height, width, classes)), Dataset::Images(images)) =
            (self.config.takes_images(), data)
        {
            return images.check_for(height, width, classes);
        }
        match (&self.config, data) {
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
            (ModelConfig::Llama(_) | ModelConfig::Transformer(_), Dataset::Text(_))
            | (ModelConfig::Bert(_), Dataset::LabelledText(_)) => Ok(()),
            _ => Err(ModelError::Dataset(format!(
                "{}, which no {} learns from",
                data.noun(),
                self.config.kind()
            ))),
        }
    }

    /// The model on a device with all that does not travel in its place: to be completed by
    /// [`load`](Self::load), again and again. Costs little but for the first on a device.
    ///
    /// # Errors
    /// [`ModelError::Base`] or [`ModelError::File`] if the base cannot be read.
    ///
    /// # Panics
    /// If the model has a base and was opened without it.
    pub(crate) fn frame(&self, device: &Device) -> Result<Network, ModelError> {
        assert!(self.complete, "a model without its base computes nothing");
        let builder = self.builder(device);
        if self.adapter.is_none() {
            return Network::new(&self.config, &builder);
        }
        // The frozen weights are the same with autodiff and without.
        let inner = device.clone().inner();
        let mut frames = self
            .frames
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, frame)) = frames.iter().find(|(known, _)| *known == inner) {
            return Ok(frame.clone());
        }
        let frame = Network::new(&self.config, &builder.with_base(self.base.as_deref()))?;
        frames.push((inner, frame.clone()));
        Ok(frame)
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
            let parameters = model.initial(3).unwrap();
            for device in [Device::flex(), Device::flex().autodiff()] {
                let frame = model.frame(&device).unwrap();
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
            let frame = model.frame(&device).unwrap();
            let network = model
                .load(&frame, &model.initial(3).unwrap(), &device)
                .unwrap();
            let batch = data(8, 2).batch(&[0], &device);
            let grads = network.loss(&batch, None).backward();
            let grads = GradientsParams::from_grads(grads, &network);
            assert_eq!(grads.len(), model.layout().len());
        }
    }

    #[test]
    fn initial_parameters_depend_on_the_seed_alone() {
        let model = model(ModelKind::Cnn);
        let first = model.initial(7).unwrap();
        assert_eq!(first, model.initial(7).unwrap());
        assert_ne!(first, model.initial(8).unwrap());
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
        let loaded = mlp.load(
            &mlp.frame(&device).unwrap(),
            &cnn.initial(1).unwrap(),
            &device,
        );
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

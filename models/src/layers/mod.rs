//! Layers of the language models, and the builder that fills them.
//!
//! A weight is either trained or frozen. What is trained is a burn parameter, which travels in
//! checkpoints and deltas; what is frozen is a plain tensor or quantized blocks beside the
//! parameters, so that nobody who walks over a module's parameters ever meets it. With an adapter,
//! dense layers, norms and embeddings are frozen, and the adapters and the head are trained.

use burn::module::{Param, ParamId};
use burn::tensor::{Device, Shape, Tensor, TensorData};
use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use rand_distr::{Distribution, Normal};

use crate::adapter::{AdapterConfig, FrozenPrecision};
use crate::base::Base;
use crate::error::ModelError;

mod blocks;
mod embedding;
mod linear;
mod norm;

pub(crate) use blocks::Blocks;
use blocks::on_cpu;
pub use embedding::Embedding;
pub use linear::Linear;
pub use norm::{LayerNorm, RmsNorm};

/// What a model is built from: its device, and where its values come from.
///
/// Without a base, trained weights begin as [`seeded`](Self::seeded) draws, or as zeros that are
/// to be replaced. With a base, they begin as the base's.
#[derive(Debug, Clone)]
pub struct Builder<'a> {
    device: Device,
    base: Option<&'a Base>,
    adapter: Option<&'a AdapterConfig>,
    seed: Option<u64>,
    /// Whether what is frozen is drawn, too, for want of a base.
    frozen_drawn: bool,
    naming: Naming,
}

/// How an architecture's tensors are named and laid out in a base.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Naming {
    /// From the path in our module tree to Hugging Face's name.
    pub(crate) to_hugging_face: fn(&str) -> String,
    /// What all names begin with in some bases and not in others.
    pub(crate) prefix: &'static str,
    /// What all names begin with in the class that exports are loaded by.
    pub(crate) class_prefix: &'static str,
    /// Whether dense weights are `[outputs, inputs]` in the base, as PyTorch's `Linear` has them.
    pub(crate) outputs_first: bool,
    /// Layers that get an adapter unless a task says otherwise.
    pub(crate) targets: &'static [&'static str],
}

/// How a weight begins that no base gives.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Init {
    Zeros,
    Ones,
    /// Uniform in ± bound.
    Uniform(f64),
    /// With that standard deviation.
    Normal(f64),
}

/// A weight: trained, or frozen.
// It lives until its layer is built, so the difference in size costs nothing.
#[allow(clippy::large_enum_variant)]
pub(crate) enum Weight<const D: usize> {
    Trained(Param<Tensor<D>>),
    /// None if there is no base to take it from: the layout alone is wanted.
    Frozen(Option<Tensor<D>>),
}

impl<'a> Builder<'a> {
    /// A builder of models from scratch, on a device with or without autodiff.
    pub fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            base: None,
            adapter: None,
            seed: None,
            frozen_drawn: false,
            naming: Naming {
                to_hugging_face: str::to_owned,
                prefix: "",
                class_prefix: "",
                outputs_first: true,
                targets: &[],
            },
        }
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// With the weights of a base.
    #[must_use]
    pub fn with_base(self, base: Option<&'a Base>) -> Self {
        Self { base, ..self }
    }

    /// With an adapter: all but adapters and heads is frozen. Without a base such a model has a
    /// layout and cannot compute.
    #[must_use]
    pub fn with_adapter(self, adapter: Option<&'a AdapterConfig>) -> Self {
        Self { adapter, ..self }
    }

    /// With weights drawn by a seed where no base gives them. The same seed gives the same bytes.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        Self {
            seed: Some(seed),
            ..self
        }
    }

    /// With frozen weights drawn by the seed, too: a model that computes as fast as with a base.
    pub(crate) fn frozen_drawn(self) -> Self {
        Self {
            frozen_drawn: true,
            ..self
        }
    }

    pub(crate) fn named(&self, naming: Naming) -> Self {
        Self {
            naming,
            ..self.clone()
        }
    }

    /// A dense layer. Weights begin with the standard deviation `std`.
    ///
    /// # Errors
    /// [`ModelError::Base`], [`ModelError::File`].
    pub(crate) fn linear(
        &self,
        path: &str,
        [inputs, outputs]: [usize; 2],
        bias: bool,
        std: f64,
    ) -> Result<Linear, ModelError> {
        let name = (self.naming.to_hugging_face)(path);
        let adapter = self
            .adapter
            .filter(|adapter| adapter.targets(&name, self.naming.targets));
        let bias = if bias {
            Some(self.vector(&format!("{path}.bias"), outputs, Init::Zeros)?)
        } else {
            None
        };
        let weight = format!("{path}.weight");
        let (outputs_first, precision) = (self.naming.outputs_first, self.precision());
        let blocks = self.blocks(&weight, [inputs, outputs], outputs_first, precision)?;
        let mut linear = match blocks {
            Some(blocks) if on_cpu(&self.device) => Linear::quantized(blocks, bias),
            // The same numbers, so that every node computes the same model.
            Some(blocks) => {
                let values = transposed(&blocks.values(), outputs, inputs);
                let shape = [inputs, outputs];
                Linear::new(self.weight(&weight, shape, Init::Zeros, Some(values)), bias)
            }
            None => Linear::new(self.matrix(&weight, [inputs, outputs], std)?, bias),
        };
        if let Some(adapter) = adapter {
            let bound = 1.0 / (inputs as f64).sqrt();
            let a = format!("{path}.lora_a");
            let b = format!("{path}.lora_b");
            linear = linear.with_adapter(
                self.param(&a, [inputs, adapter.rank], Init::Uniform(bound)),
                self.param(&b, [adapter.rank, outputs], Init::Zeros),
                adapter.scale(),
            );
        }
        Ok(linear)
    }

    /// A dense layer that is always trained, and need not be in the base.
    ///
    /// # Errors
    /// [`ModelError::Base`], [`ModelError::File`].
    pub(crate) fn head(
        &self,
        path: &str,
        shape: [usize; 2],
        std: f64,
    ) -> Result<Linear, ModelError> {
        let known = self
            .base
            .filter(|base| base.has(&self.name_in(base, &format!("{path}.weight"))));
        let trained = Self {
            adapter: None,
            base: known,
            ..self.clone()
        };
        trained.linear(path, shape, true, std)
    }

    /// A table of vectors.
    ///
    /// # Errors
    /// [`ModelError::Base`], [`ModelError::File`].
    pub(crate) fn embedding(
        &self,
        path: &str,
        [rows, width]: [usize; 2],
        std: f64,
    ) -> Result<Embedding, ModelError> {
        let name = format!("{path}.weight");
        let rows_first = self.named(Naming {
            outputs_first: false,
            ..self.naming
        });
        // Coarser blocks would cost an embedding far more than they do other layers.
        let precision = match self.precision() {
            FrozenPrecision::Q4_1 => FrozenPrecision::Q8_0,
            other => other,
        };
        // Written row by row, as a dense layer that maps back to the vocabulary.
        match self.blocks(&name, [width, rows], true, precision)? {
            Some(blocks) if on_cpu(&self.device) => return Ok(Embedding::quantized(blocks)),
            Some(blocks) => {
                let (shape, values) = ([rows, width], Some(blocks.values()));
                return Ok(Embedding::new(self.weight(
                    &name,
                    shape,
                    Init::Zeros,
                    values,
                )));
            }
            None => {}
        }
        Ok(Embedding::new(rows_first.matrix(
            &name,
            [rows, width],
            std,
        )?))
    }

    pub(crate) fn layer_norm(
        &self,
        path: &str,
        width: usize,
        eps: f64,
    ) -> Result<LayerNorm, ModelError> {
        Ok(LayerNorm::new(
            self.vector(&format!("{path}.weight"), width, Init::Ones)?,
            self.vector(&format!("{path}.bias"), width, Init::Zeros)?,
            eps,
        ))
    }

    pub(crate) fn rms_norm(
        &self,
        path: &str,
        width: usize,
        eps: f64,
    ) -> Result<RmsNorm, ModelError> {
        let weight = self.vector(&format!("{path}.weight"), width, Init::Ones)?;
        Ok(RmsNorm::new(weight, eps))
    }

    fn vector(&self, path: &str, width: usize, init: Init) -> Result<Weight<1>, ModelError> {
        let values = self
            .base
            .map(|base| base.values(&self.name_in(base, path), &[width]))
            .transpose()?;
        Ok(self.weight(path, [width], init, values))
    }

    fn matrix(&self, path: &str, shape: [usize; 2], std: f64) -> Result<Weight<2>, ModelError> {
        let [inputs, outputs] = shape;
        let values = match self.base {
            None => None,
            Some(base) => {
                let name = self.name_in(base, path);
                Some(if self.naming.outputs_first {
                    let values = base.values(&name, &[outputs, inputs])?;
                    transposed(&values, outputs, inputs)
                } else {
                    base.values(&name, &[inputs, outputs])?
                })
            }
        };
        Ok(self.weight(path, shape, Init::Normal(std), values))
    }

    /// A frozen matrix in quantized blocks, if the adapter asks for them.
    fn blocks(
        &self,
        path: &str,
        [inputs, outputs]: [usize; 2],
        outputs_first: bool,
        precision: FrozenPrecision,
    ) -> Result<Option<Blocks>, ModelError> {
        let Some(base) = self.base.filter(|_| precision != FrozenPrecision::F32) else {
            return Ok(None);
        };
        let name = self.name_in(base, path);
        let raw = if outputs_first {
            base.read(&name, &[outputs, inputs])?
        } else {
            base.read(&name, &[inputs, outputs])?
        };
        Blocks::new(raw, !outputs_first, precision)
    }

    /// How frozen matrices are kept.
    fn precision(&self) -> FrozenPrecision {
        let adapter = self.adapter.map(|adapter| adapter.precision);
        adapter.unwrap_or(FrozenPrecision::F32)
    }

    fn weight<const D: usize>(
        &self,
        path: &str,
        shape: [usize; D],
        init: Init,
        values: Option<Vec<f32>>,
    ) -> Weight<D> {
        let frozen = self.adapter.is_some();
        match values {
            Some(values) if frozen => {
                let device = self.device.clone().inner();
                let data = TensorData::new(values, shape);
                Weight::Frozen(Some(Tensor::from_data(data, &device)))
            }
            Some(values) => Weight::Trained(self.given(shape, values)),
            None if frozen && self.frozen_drawn => {
                let drawn = self.param(path, shape, init);
                Weight::Frozen(Some(drawn.val().inner()))
            }
            None if frozen => Weight::Frozen(None),
            None => Weight::Trained(self.param(path, shape, init)),
        }
    }

    /// A trained parameter that begins with these values.
    fn given<const D: usize>(&self, shape: [usize; D], values: Vec<f32>) -> Param<Tensor<D>> {
        lazily(&self.device, shape, move |device| {
            Tensor::from_data(TensorData::new(values, shape), device)
        })
    }

    /// A trained parameter that begins as `init` says, drawn from the seed and its path.
    fn param<const D: usize>(&self, path: &str, shape: [usize; D], init: Init) -> Param<Tensor<D>> {
        let stream = blake3::hash(path.as_bytes());
        let seed = self.seed;
        lazily(&self.device, shape, move |device| {
            let Some(seed) = seed else {
                return Tensor::zeros(shape, device);
            };
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let [a, b, c, d, e, f, g, h, ..] = *stream.as_bytes();
            rng.set_stream(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
            let values = init.draw(shape.iter().product(), &mut rng);
            Tensor::from_data(TensorData::new(values, shape), device)
        })
    }

    /// The name in the base, with the prefix or without.
    fn name_in(&self, base: &Base, path: &str) -> String {
        let name = (self.naming.to_hugging_face)(path);
        let with_prefix = format!("{}{name}", self.naming.prefix);
        if base.has(&with_prefix) {
            with_prefix
        } else {
            name
        }
    }
}

impl Init {
    fn draw(self, count: usize, rng: &mut ChaCha20Rng) -> Vec<f32> {
        match self {
            Self::Zeros => vec![0.0; count],
            Self::Ones => vec![1.0; count],
            Self::Uniform(bound) => {
                let bound = bound as f32;
                let draw = |_| bound * (2.0 * rng.random::<f32>() - 1.0);
                (0..count).map(draw).collect()
            }
            Self::Normal(std) => {
                let normal =
                    Normal::new(0.0, std as f32).expect("deviations are constants above 0");
                (0..count).map(|_| normal.sample(rng)).collect()
            }
        }
    }
}

impl<const D: usize> Weight<D> {
    /// The two places of a layer where it is kept.
    fn split(self) -> (Option<Param<Tensor<D>>>, Option<Tensor<D>>) {
        match self {
            Self::Trained(param) => (Some(param), None),
            Self::Frozen(tensor) => (None, tensor),
        }
    }
}

fn lazily<const D: usize>(
    device: &Device,
    shape: [usize; D],
    value: impl FnOnce(&Device) -> Tensor<D> + Send + Sync + 'static,
) -> Param<Tensor<D>> {
    Param::uninitialized(
        ParamId::new(),
        move |device: &Device, require_grad: bool| value(device).set_require_grad(require_grad),
        device.clone(),
        true,
        Shape::from(shape),
    )
}

/// The value of a weight that is kept in one of two places, ready to meet `x`: with autodiff if
/// `x` has it.
///
/// # Panics
/// If it is in neither: the model was built for its layout alone.
fn value<const D: usize>(
    trained: Option<&Param<Tensor<D>>>,
    frozen: Option<&Tensor<D>>,
    autodiff: bool,
) -> Tensor<D> {
    match (trained, frozen) {
        (Some(param), _) => param.val(),
        (None, Some(tensor)) if autodiff => tensor.clone().autodiff(),
        (None, Some(tensor)) => tensor.clone(),
        (None, None) => panic!("a model without its base computes nothing"),
    }
}

/// The transpose of a row-major matrix, by tiles that fit a cache.
pub(crate) fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut out = vec![0.0; values.len()];
    for row in (0..rows).step_by(TILE) {
        for column in (0..columns).step_by(TILE) {
            for i in row..rows.min(row + TILE) {
                for j in column..columns.min(column + TILE) {
                    out[j * rows + i] = values[i * columns + j];
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;

//! The dense layer.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::{Blocks, Weight, value};
use crate::export::Collector;
use crate::ops::plain::activate;
use crate::ops::{self, Activation};

/// `y = x W + b`, and with an adapter `y = x W + b + (α/r) (x A) B` (Hu et al. 2021,
/// arXiv:2106.09685). W and b may be frozen, W also quantized (Dettmers et al. 2023,
/// arXiv:2305.14314).
#[derive(Module, Debug)]
pub struct Linear {
    /// `[inputs, outputs]`.
    weight: Option<Param<Tensor<2>>>,
    /// `[outputs]`.
    bias: Option<Param<Tensor<1>>>,
    /// `[inputs, rank]`.
    lora_a: Option<Param<Tensor<2>>>,
    /// `[rank, outputs]`.
    lora_b: Option<Param<Tensor<2>>>,
    #[module(skip)]
    frozen: Option<Tensor<2>>,
    #[module(skip)]
    frozen_bias: Option<Tensor<1>>,
    #[module(skip)]
    blocks: Option<Blocks>,
    #[module(skip)]
    has_bias: bool,
    #[module(skip)]
    scale: f64,
}

impl Linear {
    pub(super) fn new(weight: Weight<2>, bias: Option<Weight<1>>) -> Self {
        let has_bias = bias.is_some();
        let (weight, frozen) = weight.split();
        let (bias, frozen_bias) = bias.map_or((None, None), Weight::split);
        Self {
            weight,
            bias,
            lora_a: None,
            lora_b: None,
            frozen,
            frozen_bias,
            blocks: None,
            has_bias,
            scale: 0.0,
        }
    }

    pub(super) fn quantized(blocks: Blocks, bias: Option<Weight<1>>) -> Self {
        Self {
            blocks: Some(blocks),
            ..Self::new(Weight::Frozen(None), bias)
        }
    }

    pub(super) fn with_adapter(self, a: Param<Tensor<2>>, b: Param<Tensor<2>>, scale: f64) -> Self {
        Self {
            lora_a: Some(a),
            lora_b: Some(b),
            scale,
            ..self
        }
    }

    /// `activation(y)`.
    ///
    /// # Shapes
    /// - x: `[rows, inputs]`
    /// - output: `[rows, outputs]`
    pub(crate) fn forward(&self, x: Tensor<2>, activation: Activation) -> Tensor<2> {
        let (Some(a), Some(b)) = (&self.lora_a, &self.lora_b) else {
            return self.base(x, activation);
        };
        let low = ops::linear(x.clone(), a.val(), None, Activation::Identity) * self.scale;
        let adapted = ops::linear(low, b.val(), None, Activation::Identity);
        let y = self.base(x, Activation::Identity) + adapted;
        activate(y, activation)
    }

    /// The weights, `[inputs, outputs]`, if they are all that the layer has: no bias, no adapter,
    /// and not quantized.
    pub(crate) fn head(&self, autodiff: bool) -> Option<Tensor<2>> {
        let alone = !self.has_bias && self.lora_a.is_none() && self.blocks.is_none();
        alone.then(|| value(self.weight.as_ref(), self.frozen.as_ref(), autodiff))
    }

    /// Gives the weight, with the adapter merged into it, and the bias.
    pub(crate) fn collect(&self, path: &str, to: &mut Collector) {
        let weight = match &self.blocks {
            None => value(self.weight.as_ref(), self.frozen.as_ref(), false),
            Some(blocks) => blocks.dense().transpose(),
        };
        let weight = match (&self.lora_a, &self.lora_b) {
            (Some(a), Some(b)) => weight + a.val().matmul(b.val()) * self.scale,
            _ => weight,
        };
        to.dense(&format!("{path}.weight"), weight);
        if self.has_bias {
            let bias = value(self.bias.as_ref(), self.frozen_bias.as_ref(), false);
            to.plain(&format!("{path}.bias"), bias);
        }
    }

    fn base(&self, x: Tensor<2>, activation: Activation) -> Tensor<2> {
        let autodiff = x.is_autodiff();
        let bias = self
            .has_bias
            .then(|| value(self.bias.as_ref(), self.frozen_bias.as_ref(), autodiff));
        match &self.blocks {
            None => {
                let weight = value(self.weight.as_ref(), self.frozen.as_ref(), autodiff);
                ops::linear(x, weight, bias, activation)
            }
            Some(blocks) => {
                let y = blocks.times(x);
                let y = match bias {
                    Some(bias) => y + bias.unsqueeze::<2>(),
                    None => y,
                };
                activate(y, activation)
            }
        }
    }
}

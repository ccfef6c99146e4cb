//! Normalization of rows.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::{Weight, value};
use crate::export::Collector;
use crate::ops;

/// Normalization of each row by its mean and variance (Ba et al. 2016, arXiv:1607.06450).
#[derive(Module, Debug)]
pub struct LayerNorm {
    weight: Option<Param<Tensor<1>>>,
    bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    frozen: Option<Tensor<1>>,
    #[module(skip)]
    frozen_bias: Option<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl LayerNorm {
    pub(super) fn new(weight: Weight<1>, bias: Weight<1>, eps: f64) -> Self {
        let (weight, frozen) = weight.split();
        let (bias, frozen_bias) = bias.split();
        Self {
            weight,
            bias,
            frozen,
            frozen_bias,
            eps,
        }
    }

    pub(crate) fn collect(&self, path: &str, to: &mut Collector) {
        let weight = value(self.weight.as_ref(), self.frozen.as_ref(), false);
        to.plain(&format!("{path}.weight"), weight);
        let bias = value(self.bias.as_ref(), self.frozen_bias.as_ref(), false);
        to.plain(&format!("{path}.bias"), bias);
    }

    /// # Shapes
    /// - x, output: `[rows, width]`
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let autodiff = x.is_autodiff();
        let weight = value(self.weight.as_ref(), self.frozen.as_ref(), autodiff);
        let bias = value(self.bias.as_ref(), self.frozen_bias.as_ref(), autodiff);
        ops::layer_norm(x, weight, bias, self.eps)
    }
}

/// Normalization of each row by its root mean square (Zhang and Sennrich 2019,
/// arXiv:1910.07467).
#[derive(Module, Debug)]
pub struct RmsNorm {
    weight: Option<Param<Tensor<1>>>,
    #[module(skip)]
    frozen: Option<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl RmsNorm {
    pub(super) fn new(weight: Weight<1>, eps: f64) -> Self {
        let (weight, frozen) = weight.split();
        Self {
            weight,
            frozen,
            eps,
        }
    }

    pub(crate) fn collect(&self, path: &str, to: &mut Collector) {
        let weight = value(self.weight.as_ref(), self.frozen.as_ref(), false);
        to.plain(&format!("{path}.weight"), weight);
    }

    /// # Shapes
    /// - x, output: `[rows, width]`
    pub(crate) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let weight = value(self.weight.as_ref(), self.frozen.as_ref(), x.is_autodiff());
        ops::rms_norm(x, weight, self.eps)
    }
}

//! The models, one module each: what each is made of and its settings in a task file.

pub mod cnn;
pub mod mlp;
pub mod recommender;
pub mod resnet18;

use burn::nn::Linear;
use burn::tensor::Tensor;

use crate::ops::{Activation, linear};

/// A dense layer with what follows it.
fn dense(layer: &Linear, x: Tensor<2>, activation: Activation) -> Tensor<2> {
    let bias = layer.bias.as_ref().map(burn::module::Param::val);
    linear(x, layer.weight.val(), bias, activation)
}

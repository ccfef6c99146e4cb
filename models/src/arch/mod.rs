//! The models, one module each: what each is made of and its settings in a task file.

pub mod bert;
pub mod cnn;
pub mod llama;
pub mod mlp;
pub mod recommender;
pub mod resnet18;
pub mod transformer;

mod settings;

use burn::nn::Linear;
use burn::tensor::{Int, Tensor};

use self::settings::Settings;
use crate::data::{ChatTemplate, TextConfig};
use crate::error::{ModelError, in_range};
use crate::ops::{Activation, linear};

/// A dense layer with what follows it.
fn dense(layer: &Linear, x: Tensor<2>, activation: Activation) -> Tensor<2> {
    let bias = layer.bias.as_ref().map(burn::module::Param::val);
    linear(x, layer.weight.val(), bias, activation)
}

/// Standard deviation of the language models' initial weights (Radford et al. 2019).
const INIT_STD: f64 = 0.02;

/// Tokens of a sequence unless a task says otherwise.
const SEQUENCE_LEN: usize = 256;

/// Checks how text becomes sequences, of at most so many positions.
fn check_text(sequence_len: usize, stride: usize, positions: usize) -> Result<(), ModelError> {
    let length = (1..=positions).contains(&sequence_len);
    let allowed = "1 to the model's positions";
    in_range("sequence_len", sequence_len, length, allowed)?;
    let allowed = "at most sequence_len";
    in_range("stride", stride, stride <= sequence_len, allowed)
}

fn text_config(sequence_len: usize, stride: usize, template: Option<ChatTemplate>) -> TextConfig {
    let stride = if stride == 0 { sequence_len } else { stride };
    TextConfig {
        sequence_len,
        stride,
        template,
    }
}

/// `[batch, time, width]` as `[batch * time, width]`.
fn merged(x: Tensor<3>) -> Tensor<2> {
    x.flatten(0, 1)
}

/// The inverse of [`merged`].
fn split(x: Tensor<2>, dims: [usize; 3]) -> Tensor<3> {
    x.reshape(dims)
}

/// 0, 1, 2, ... for one sequence as long as these, to be added to all: `[1, time]`.
fn positions(ids: &Tensor<2, Int>) -> Tensor<2, Int> {
    let [_, time] = ids.dims();
    Tensor::<1, Int>::arange(0..time as i64, &ids.device()).unsqueeze()
}

#[cfg(test)]
mod small_tests;
#[cfg(test)]
mod tests;

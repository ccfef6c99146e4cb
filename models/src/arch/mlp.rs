//! A network of dense layers only: small, fast, and no worse where pixels have no neighbours.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::arch::dense;
use crate::data::check_images;
use crate::error::{ModelError, in_range};
use crate::ops::Activation;

/// Settings of an [`Mlp`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MlpConfig {
    /// Height of an image in pixels, 4 to 512.
    pub height: usize,
    /// Width of an image in pixels, 4 to 512.
    pub width: usize,
    /// Number of classes, 2 to 256.
    pub classes: usize,
    /// Width of the hidden layer, 1 to 65,536.
    pub hidden: usize,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self {
            height: 28,
            width: 28,
            classes: 10,
            hidden: 64,
        }
    }
}

impl MlpConfig {
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        check_images(self.height, self.width, self.classes)?;
        let hidden = (1..=65_536).contains(&self.hidden);
        in_range("hidden", self.hidden, hidden, "1 to 65,536")
    }
}

/// `relu(fc1) -> fc2`.
#[derive(Module, Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// The network for images of `config`'s size and classes.
    pub fn new(config: &MlpConfig, device: &Device) -> Self {
        Self {
            fc1: LinearConfig::new(config.height * config.width, config.hidden).init(device),
            fc2: LinearConfig::new(config.hidden, config.classes).init(device),
        }
    }

    /// Logits of a batch.
    ///
    /// # Shapes
    /// - images: `[batch, height, width]`
    /// - output: `[batch, classes]`
    pub fn forward(&self, images: Tensor<3>) -> Tensor<2> {
        let x = dense(&self.fc1, images.flatten::<2>(1, 2), Activation::Relu);
        dense(&self.fc2, x, Activation::Identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flatten::layout_of;

    #[test]
    fn shapes_are_as_documented() {
        let device = Device::flex();
        let config = MlpConfig {
            height: 6,
            width: 5,
            classes: 3,
            hidden: 7,
        };
        let mlp = Mlp::new(&config, &device);
        let logits = mlp.forward(Tensor::zeros([4, 6, 5], &device));
        assert_eq!(logits.dims(), [4, 3]);
        let layout = layout_of(&mlp);
        assert_eq!(layout[1].name, "fc1.weight");
        assert_eq!(layout[1].shape, [30, 7]);
    }
}

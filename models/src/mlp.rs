//! A network of dense layers only: small, fast, and no worse where pixels have no neighbours.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use crate::registry::ModelConfig;

/// `relu(fc1) -> fc2`.
#[derive(Module, Debug)]
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    /// The network for images of `config`'s size and classes.
    pub fn new(config: &ModelConfig, device: &Device) -> Self {
        Self {
            fc1: LinearConfig::new(config.height * config.width, HIDDEN).init(device),
            fc2: LinearConfig::new(HIDDEN, config.classes).init(device),
        }
    }

    /// Logits of a batch.
    ///
    /// # Shapes
    /// - images: `[batch, height, width]`
    /// - output: `[batch, classes]`
    pub fn forward(&self, images: Tensor<3>) -> Tensor<2> {
        let x = relu(self.fc1.forward(images.flatten::<2>(1, 2)));
        self.fc2.forward(x)
    }
}

/// Width of the hidden layer.
const HIDDEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flatten::layout_of;
    use crate::registry::ModelKind;

    #[test]
    fn shapes_are_as_documented() {
        let device = Device::flex();
        let config = ModelConfig {
            kind: ModelKind::Mlp,
            height: 6,
            width: 5,
            classes: 3,
        };
        let mlp = Mlp::new(&config, &device);
        let logits = mlp.forward(Tensor::zeros([4, 6, 5], &device));
        assert_eq!(logits.dims(), [4, 3]);
        let layout = layout_of(&mlp);
        assert_eq!(layout[1].name, "fc1.weight");
        assert_eq!(layout[1].shape, [30, HIDDEN]);
    }
}

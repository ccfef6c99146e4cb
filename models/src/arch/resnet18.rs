//! A residual network of 18 layers (He et al. 2016, arXiv:1512.03385) with group normalization (Wu
//! and He 2018, arXiv:1803.08494): statistics of batches differ from party to party and do not
//! average (Hsieh et al. 2020, arXiv:1910.00189), those of groups need no averaging.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::arch::dense;
use crate::data::check_images;
use crate::error::{ModelError, in_range};
use crate::ops::Activation;

/// Settings of a [`Resnet18`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resnet18Config {
    /// Height of an image in pixels, 4 to 512.
    pub height: usize,
    /// Width of an image in pixels, 4 to 512.
    pub width: usize,
    /// Number of classes, 2 to 256.
    pub classes: usize,
    /// Channels of the first of the four stages, 1 to 512; each stage doubles them. 64 as
    /// published: 11 million parameters; 16: 0.7 million.
    pub channels: usize,
    /// Channels that are normalized together, at most, 1 to 512; a stage takes the largest number
    /// up to this that divides its channels.
    pub group_channels: usize,
}

impl Default for Resnet18Config {
    fn default() -> Self {
        Self {
            height: 28,
            width: 28,
            classes: 10,
            channels: 64,
            group_channels: 16,
        }
    }
}

impl Resnet18Config {
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        check_images(self.height, self.width, self.classes)?;
        let channels = (1..=512).contains(&self.channels);
        in_range("channels", self.channels, channels, "1 to 512")?;
        let group = (1..=512).contains(&self.group_channels);
        in_range("group_channels", self.group_channels, group, "1 to 512")
    }
}

/// Stem, four stages of two blocks, mean over the image, classes. Images of at most 64 pixels a
/// side have a stem of 3x3; larger ones one of 7x7 with stride 2, and pooling behind it.
#[derive(Module, Debug)]
pub struct Resnet18 {
    stem: Conv2d,
    norm: GroupNorm,
    pool: Option<MaxPool2d>,
    blocks: Vec<Block>,
    fc: Linear,
}

/// `relu(norm2(conv2(relu(norm1(conv1(x))))) + shortcut(x))`.
#[derive(Module, Debug)]
struct Block {
    conv1: Conv2d,
    norm1: GroupNorm,
    conv2: Conv2d,
    norm2: GroupNorm,
    shortcut: Option<Conv2d>,
    shortcut_norm: Option<GroupNorm>,
}

/// Longest side of an image that has the small stem, in pixels.
const SMALL_SIDE_MAX: usize = 64;

impl Resnet18 {
    /// The network for images of `config`'s size and classes.
    pub fn new(config: &Resnet18Config, device: &Device) -> Self {
        let small = config.height.max(config.width) <= SMALL_SIDE_MAX;
        let stem = if small { (3, 1) } else { (7, 2) };
        let pool = MaxPool2dConfig::new([3, 3])
            .with_strides([2, 2])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
        let mut channels = config.channels;
        let mut blocks = Vec::with_capacity(8);
        for stage in 0..4 {
            let wider = if stage == 0 { channels } else { 2 * channels };
            let stride = if stage == 0 { 1 } else { 2 };
            blocks.push(Block::new(config, channels, wider, stride, device));
            blocks.push(Block::new(config, wider, wider, 1, device));
            channels = wider;
        }
        Self {
            stem: conv(1, config.channels, stem.0, stem.1, device),
            norm: norm(config, config.channels, device),
            pool: (!small).then(|| pool.init()),
            blocks,
            fc: LinearConfig::new(channels, config.classes).init(device),
        }
    }

    /// Logits of a batch.
    ///
    /// # Shapes
    /// - images: `[batch, height, width]`
    /// - output: `[batch, classes]`
    pub fn forward(&self, images: Tensor<3>) -> Tensor<2> {
        let x = self.stem.forward(images.unsqueeze_dim::<4>(1));
        let x = relu(self.norm.forward(x));
        let x = match &self.pool {
            Some(pool) => pool.forward(x),
            None => x,
        };
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let x = x.flatten::<3>(2, 3).mean_dim(2).squeeze_dim::<2>(2);
        dense(&self.fc, x, Activation::Identity)
    }
}

impl Block {
    fn new(
        config: &Resnet18Config,
        channels_in: usize,
        channels: usize,
        stride: usize,
        device: &Device,
    ) -> Self {
        let changes = stride != 1 || channels_in != channels;
        Self {
            conv1: conv(channels_in, channels, 3, stride, device),
            norm1: norm(config, channels, device),
            conv2: conv(channels, channels, 3, 1, device),
            norm2: norm(config, channels, device),
            shortcut: changes.then(|| conv(channels_in, channels, 1, stride, device)),
            shortcut_norm: changes.then(|| norm(config, channels, device)),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = relu(self.norm1.forward(self.conv1.forward(x.clone())));
        let y = self.norm2.forward(self.conv2.forward(y));
        let x = match (&self.shortcut, &self.shortcut_norm) {
            (Some(conv), Some(norm)) => norm.forward(conv.forward(x)),
            _ => x,
        };
        relu(x + y)
    }
}

/// A convolution without bias, which the normalization behind it would undo, with a border that
/// keeps the sides but for the stride.
fn conv(
    channels_in: usize,
    channels: usize,
    side: usize,
    stride: usize,
    device: &Device,
) -> Conv2d {
    let border = side / 2;
    Conv2dConfig::new([channels_in, channels], [side, side])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(border, border, border, border))
        .with_bias(false)
        .init(device)
}

fn norm(config: &Resnet18Config, channels: usize, device: &Device) -> GroupNorm {
    let each = (1..=config.group_channels.min(channels))
        .rev()
        .find(|&each| channels.is_multiple_of(each))
        .expect("one divides everything");
    GroupNormConfig::new(channels / each, channels).init(device)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::flatten::layout_of;
    use crate::parameters::TensorSpec;

    #[test]
    fn shapes_are_as_documented() {
        let device = Device::flex();
        for (height, width, classes) in [(28, 28, 10), (9, 4, 3), (65, 20, 2)] {
            let config = Resnet18Config {
                height,
                width,
                classes,
                channels: 6,
                group_channels: 4,
            };
            let images = Tensor::<3>::zeros([2, height, width], &device);
            let network = Resnet18::new(&config, &device);
            assert_eq!(network.pool.is_some(), height > SMALL_SIDE_MAX);
            assert_eq!(network.norm.num_groups, 2);
            assert_eq!(network.forward(images).dims(), [2, classes]);
        }
    }

    #[test]
    fn it_has_as_many_parameters_as_published() {
        // 11,173,962 with a stem of 3x3 for three colours; here there is one.
        let layout = layout_of(&Resnet18::new(&Resnet18Config::default(), &Device::flex()));
        let values: usize = layout.iter().map(TensorSpec::len).sum();
        assert_eq!(values, 11_173_962 - 2 * 64 * 9);
        let convolutions = layout.iter().filter(|spec| spec.shape.len() == 4).count();
        assert_eq!(convolutions, 1 + 16 + 3);
    }
}

//! Examples on a device, and what is measured of them.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::data::Images;

/// A batch of one kind of examples.
// Few exist at a time, so the difference in size costs nothing.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub(crate) enum Batch {
    /// Images and their classes.
    Images {
        /// Normalized, `[batch, height, width]`.
        pixels: Tensor<3>,
        /// One class for each image.
        labels: Vec<u32>,
    },
    /// Runs of tokens whose next tokens are to be predicted.
    #[allow(dead_code)]
    Tokens {
        /// `[batch, length]`, padded behind each row's end.
        ids: Tensor<2, Int>,
        /// The token that follows each, `batch * length` numbers, row by row.
        targets: Vec<u32>,
        /// 1 where the prediction counts, 0 where it does not, likewise.
        weights: Vec<f32>,
        /// Bytes of text that the tokens which count stand for.
        bytes: u64,
    },
    /// Whole texts and their classes.
    #[allow(dead_code)]
    Sequences {
        /// `[batch, length]`, padded behind each row's end.
        ids: Tensor<2, Int>,
        /// Tokens of each row that are no padding.
        lengths: Vec<usize>,
        /// One class for each text.
        labels: Vec<u32>,
    },
    /// Users and items that they did or did not take.
    #[allow(dead_code)]
    Pairs {
        /// `[batch]`.
        users: Tensor<1, Int>,
        /// `[batch]`.
        items: Tensor<1, Int>,
        /// 1 if the user took the item, 0 if not; `batch` numbers.
        labels: Vec<f32>,
    },
}

impl Batch {
    pub(crate) fn images(images: &Images, indices: &[usize], device: &Device) -> Self {
        let mut pixels = Vec::new();
        images.normalized(indices, &mut pixels);
        let shape = [indices.len(), images.height(), images.width()];
        let labels = indices
            .iter()
            .map(|&index| u32::from(images.labels()[index]));
        Self::Images {
            pixels: Tensor::from_data(TensorData::new(pixels, shape), device),
            labels: labels.collect(),
        }
    }

    /// How many predictions of the batch count: its mean loss is the sum of the losses over this.
    pub(crate) fn units(&self) -> f64 {
        match self {
            Self::Images { labels, .. } | Self::Sequences { labels, .. } => labels.len() as f64,
            Self::Tokens { weights, .. } => weights.iter().map(|&weight| f64::from(weight)).sum(),
            Self::Pairs { labels, .. } => labels.len() as f64,
        }
    }
}

/// Numbers of whole values, on a device: `[values]`.
pub(crate) fn integers(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.iter().map(|&value| value as i32).collect();
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Numbers on a device: `[values]`.
pub(crate) fn floats(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
}

//! Tables of vectors.

use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor};

use super::{Blocks, Weight, value};
use crate::export::Collector;
use crate::ops::{self, Activation};

/// A vector for each token, which may also serve as the head that maps back to tokens.
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[vocabulary, width]`.
    weight: Option<Param<Tensor<2>>>,
    #[module(skip)]
    frozen: Option<Tensor<2>>,
    #[module(skip)]
    blocks: Option<Blocks>,
}

impl Embedding {
    pub(super) fn new(weight: Weight<2>) -> Self {
        let (weight, frozen) = weight.split();
        Self {
            weight,
            frozen,
            blocks: None,
        }
    }

    pub(super) fn quantized(blocks: Blocks) -> Self {
        Self {
            weight: None,
            frozen: None,
            blocks: Some(blocks),
        }
    }

    /// # Shapes
    /// - ids: `[batch, time]`, each below the vocabulary
    /// - output: `[batch, time, width]`
    pub(crate) fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        match &self.blocks {
            Some(blocks) => blocks.rows(ids),
            None => {
                let table = value(
                    self.weight.as_ref(),
                    self.frozen.as_ref(),
                    ids.device().is_autodiff(),
                );
                ops::embedding(table, ids)
            }
        }
    }

    pub(crate) fn collect(&self, path: &str, to: &mut Collector) {
        let table = match &self.blocks {
            None => value(self.weight.as_ref(), self.frozen.as_ref(), false),
            Some(blocks) => blocks.dense(),
        };
        to.plain(&format!("{path}.weight"), table);
    }

    /// The table as the weights of a head, `[vocabulary, width]`, unless it is quantized.
    pub(crate) fn head(&self, autodiff: bool) -> Option<Tensor<2>> {
        let dense = self.blocks.is_none();
        dense.then(|| value(self.weight.as_ref(), self.frozen.as_ref(), autodiff))
    }

    /// Each vector's product with each of the table's.
    ///
    /// # Shapes
    /// - x: `[rows, width]`
    /// - output: `[rows, vocabulary]`
    pub(crate) fn logits(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.blocks {
            Some(blocks) => blocks.times(x),
            None => {
                let table = value(self.weight.as_ref(), self.frozen.as_ref(), x.is_autodiff());
                ops::linear(x, table.transpose(), None, Activation::Identity)
            }
        }
    }
}

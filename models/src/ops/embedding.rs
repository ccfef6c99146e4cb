//! The rows of a table, and their gradient.

use std::sync::Arc;

use burn_flex::FlexTensor;

use super::fused::{Fused, contiguous, dims, tensor, values};

/// [`embedding`](super::embedding) of a table.
#[derive(Debug, Clone)]
pub(super) struct Embedding {
    /// Each below the number of rows.
    pub(super) ids: Arc<[usize]>,
    pub(super) batch: usize,
}

impl Fused<1> for Embedding {
    /// Rows of the table.
    type Saved = usize;

    fn forward(&self, [table]: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, usize) {
        let [vocabulary, width] = dims::<2>(&table);
        let out_of_range = self.ids.iter().find(|&&id| id >= vocabulary);
        assert_eq!(out_of_range, None, "ids are below {vocabulary}");
        let table = contiguous(table);
        let table = values(&table);
        let mut rows = Vec::with_capacity(self.ids.len() * width);
        for &id in self.ids.iter() {
            rows.extend_from_slice(&table[id * width..][..width]);
        }
        let time = self.ids.len() / self.batch.max(1);
        (tensor(rows, [self.batch, time, width]), vocabulary)
    }

    fn backward(
        &self,
        vocabulary: usize,
        gradient: FlexTensor,
        _: [bool; 1],
    ) -> [Option<FlexTensor>; 1] {
        let [_, _, width] = dims::<3>(&gradient);
        let mut table = vec![0.0; vocabulary * width];
        for (&id, row) in self
            .ids
            .iter()
            .zip(values(&gradient).chunks_exact(width.max(1)))
        {
            for (sum, value) in table[id * width..][..width].iter_mut().zip(row) {
                *sum += value;
            }
        }
        [Some(tensor(table, [vocabulary, width]))]
    }
}

//! Frozen matrices in quantized blocks, decoded by pieces when they are used.

use std::fmt;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::transposed;
use crate::adapter::FrozenPrecision;
use crate::base::{Encoding, RawTensor, to_q4_1, to_q8_0};
use crate::error::ModelError;

/// A matrix of `[outputs, inputs]` in blocks along its rows. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Blocks(Arc<Matrix>);

struct Matrix {
    encoding: Encoding,
    outputs: usize,
    inputs: usize,
    bytes: Vec<u8>,
}

impl Blocks {
    /// The matrix as `precision` wants it, or none where that is floating point: for bases that
    /// are not quantized, and for rows that fill no whole number of blocks.
    ///
    /// `inputs_first` says that `raw` is `[inputs, outputs]`.
    ///
    /// # Errors
    /// [`ModelError::Base`] if a value is infinite or not a number.
    pub(super) fn new(
        raw: RawTensor,
        inputs_first: bool,
        precision: FrozenPrecision,
    ) -> Result<Option<Self>, ModelError> {
        let ((&[inputs, outputs], true) | (&[outputs, inputs], false)) =
            (raw.shape.as_slice(), inputs_first)
        else {
            return Ok(None);
        };
        let encoding = match precision {
            FrozenPrecision::F32 => return Ok(None),
            FrozenPrecision::Stored if raw.encoding.is_quantized() && !inputs_first => raw.encoding,
            FrozenPrecision::Stored => return Ok(None),
            FrozenPrecision::Q8_0 => Encoding::Q8_0,
            FrozenPrecision::Q4_1 => Encoding::Q4_1,
        };
        if encoding.bytes(inputs).is_none() {
            return Ok(None);
        }
        let values = raw.values();
        if !values.iter().all(|value| value.is_finite()) {
            return Err(ModelError::Base {
                file: "base".into(),
                reason: "a weight is infinite or not a number".into(),
            });
        }
        let bytes = if encoding == raw.encoding && !inputs_first {
            raw.bytes
        } else {
            let values = if inputs_first {
                transposed(&values, inputs, outputs)
            } else {
                values
            };
            match encoding {
                Encoding::Q4_1 => to_q4_1(&values),
                _ => to_q8_0(&values),
            }
        };
        Ok(Some(Self(Arc::new(Matrix {
            encoding,
            outputs,
            inputs,
            bytes,
        }))))
    }

    /// x Wᵀ.
    ///
    /// # Shapes
    /// - x: `[rows, inputs]`
    /// - output: `[rows, outputs]`
    pub(super) fn times(&self, x: Tensor<2>) -> Tensor<2> {
        if !x.is_autodiff() {
            let x = x
                .try_into_primitive::<Flex>()
                .expect("blocks are made for the CPU alone");
            return Tensor::from_primitive::<Flex>(self.forward(&x));
        }
        let x = x
            .try_into_primitive::<Autodiff<Flex>>()
            .expect("blocks are made for the CPU alone");
        let prepared = Times
            .prepare::<NoCheckpointing>([x.node()])
            .compute_bound()
            .stateful();
        let y = match prepared {
            OpsKind::Tracked(preparation) => {
                let y = self.forward(x.primitive());
                preparation.finish(self.clone(), y)
            }
            OpsKind::UnTracked(preparation) => preparation.finish(self.forward(x.primitive())),
        };
        Tensor::from_primitive::<Autodiff<Flex>>(y)
    }

    /// Rows of the matrix.
    ///
    /// # Shapes
    /// - ids: `[batch, time]`, each below the number of rows
    /// - output: `[batch, time, inputs]`
    pub(super) fn rows(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let [batch, time] = ids.dims();
        let device = ids.device();
        let ids = ids
            .try_into_vec_as::<i64>()
            .expect("whole numbers on the CPU are read");
        let width = self.0.inputs;
        let mut values = vec![0.0; ids.len() * width];
        for (id, values) in ids.iter().zip(values.chunks_exact_mut(width)) {
            self.0.decode(*id as usize, values);
        }
        let data = TensorData::new(values, [batch, time, width]);
        Tensor::from_data(data, &device)
    }

    /// All of it as numbers, `[outputs, inputs]`.
    pub(super) fn dense(&self) -> Tensor<2> {
        Tensor::from_primitive::<Flex>(self.0.decoded(0, self.0.outputs))
    }

    /// All of it as numbers, row by row.
    pub(super) fn values(&self) -> Vec<f32> {
        self.0.values(0, self.0.outputs)
    }

    fn forward(&self, x: &FlexTensor) -> FlexTensor {
        let pieces = self.0.pieces().map(|(from, rows)| {
            let piece = self.0.decoded(from, rows);
            Flex::float_matmul(x.clone(), Flex::float_transpose(piece))
        });
        let mut pieces: Vec<_> = pieces.collect();
        match pieces.len() {
            1 => pieces.remove(0),
            _ => Flex::float_cat(pieces, 1),
        }
    }

    /// dy W.
    fn backward(&self, dy: &FlexTensor) -> FlexTensor {
        let pieces = self.0.pieces().map(|(from, rows)| {
            let piece = self.0.decoded(from, rows);
            let dy = match rows == self.0.outputs {
                true => dy.clone(),
                false => {
                    let columns = (from as i64..(from + rows) as i64).into();
                    Flex::float_slice(dy.clone(), &[burn::tensor::Slice::full(), columns])
                }
            };
            Flex::float_matmul(dy, piece)
        });
        pieces
            .reduce(Flex::float_add)
            .expect("a matrix has at least one row")
    }
}

impl fmt::Debug for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Matrix {
            encoding,
            outputs,
            inputs,
            ..
        } = *self.0;
        write!(f, "{}[{outputs}, {inputs}]", encoding.name())
    }
}

impl Matrix {
    /// First row and number of rows of each piece that is decoded at a time.
    fn pieces(&self) -> impl Iterator<Item = (usize, usize)> {
        let rows = (PIECE_VALUES / self.inputs).max(1);
        let outputs = self.outputs;
        (0..outputs)
            .step_by(rows)
            .map(move |from| (from, rows.min(outputs - from)))
    }

    fn row_bytes(&self) -> usize {
        self.bytes.len() / self.outputs
    }

    fn decode(&self, row: usize, values: &mut [f32]) {
        let bytes = self.row_bytes();
        self.encoding
            .decode(&self.bytes[row * bytes..(row + 1) * bytes], values);
    }

    /// `rows` rows as numbers, `[rows, inputs]`.
    fn decoded(&self, from: usize, rows: usize) -> FlexTensor {
        FlexTensor::from_data(TensorData::new(
            self.values(from, rows),
            [rows, self.inputs],
        ))
    }

    /// `rows` rows as numbers, one after the other.
    fn values(&self, from: usize, rows: usize) -> Vec<f32> {
        let mut values = vec![0.0_f32; rows * self.inputs];
        values
            .par_chunks_exact_mut(self.inputs)
            .with_min_len(16)
            .enumerate()
            .for_each(|(row, values)| self.decode(from + row, values));
        values
    }
}

/// Most values that are decoded at a time: 16 MiB.
const PIECE_VALUES: usize = 1 << 22;

#[derive(Debug)]
struct Times;

impl Backward<Flex, 1> for Times {
    type State = Blocks;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [parent] = ops.parents;
        let dy = grads.consume::<Flex>(&ops.node);
        if let Some(node) = parent {
            grads.register::<Flex>(node.id, ops.state.backward(&dy));
        }
    }
}

/// Whether a device is burn's CPU backend, with autodiff or without: it alone computes with blocks.
pub(super) fn on_cpu(device: &Device) -> bool {
    let one = Tensor::<1>::zeros([1], &device.clone().inner());
    one.try_into_primitive::<Flex>().is_ok()
}

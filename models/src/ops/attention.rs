//! Attention in blocks of queries, so that of the matrix of scores only a few rows of one head
//! exist at a time; on the way back they are computed again from the logarithms of their sums
//! (Dao et al. 2022, arXiv:2205.14135). Keys that no query of a block attends to cost nothing.

use std::sync::Arc;

use burn_flex::FlexTensor;
use pulp::NullaryFnOnce;

use super::Mask;
use super::fused::{Fused, dims, tensor};
use super::math;
use super::matmul::{Matrix, by_rows, multiply_into};

/// [`attention`](super::attention) of q, k and v; or of one tensor that has all three side by side.
#[derive(Debug, Clone)]
pub(super) struct Attention {
    pub(super) heads: usize,
    pub(super) heads_kv: usize,
    pub(super) visible: Visible,
}

/// A [`Mask`] that owns its lengths.
#[derive(Debug, Clone)]
pub(super) enum Visible {
    All,
    Causal,
    Lengths(Arc<[usize]>),
}

impl Visible {
    pub(super) fn of(mask: Mask<'_>) -> Self {
        match mask {
            Mask::None => Self::All,
            Mask::Causal => Self::Causal,
            Mask::Lengths(lengths) => Self::Lengths(lengths.into()),
        }
    }

    /// How many keys the query at `position` of a sequence sees, from the first on.
    fn keys(&self, sequence: usize, position: usize, time: usize) -> usize {
        match self {
            Self::All => time,
            Self::Causal => position + 1,
            Self::Lengths(lengths) => lengths[sequence].clamp(1, time),
        }
    }
}

/// What the way back needs.
#[derive(Debug, Clone)]
pub(super) struct Saved<const N: usize> {
    inputs: [FlexTensor; N],
    output: FlexTensor,
    /// Of e to the scores of each query: batch, head, time.
    log_sums: Vec<f32>,
}

impl<const N: usize> Fused<N> for Attention {
    type Saved = Saved<N>;

    fn forward(&self, inputs: [FlexTensor; N], _: [bool; N]) -> (FlexTensor, Saved<N>) {
        let inputs = inputs.map(readable);
        let shape = Shape::of(self, &inputs);
        let Shape { batch, time, d, .. } = shape;
        let [q, k, v] = shape.sides(&inputs);
        let mut outputs = vec![0.0; batch * self.heads * time * d];
        let mut log_sums = vec![0.0; batch * self.heads * time];
        let targets = [&mut outputs[..], &mut log_sums];
        by_rows(
            batch * self.heads,
            4 * time * time * d,
            targets,
            |first, _, [outputs, log_sums]| {
                let mut scores = vec![0.0; BLOCK.min(time) * time];
                let units = outputs.chunks_exact_mut(time * d);
                for (i, (output, log_sums)) in
                    units.zip(log_sums.chunks_exact_mut(time)).enumerate()
                {
                    let (sequence, head) = ((first + i) / self.heads, (first + i) % self.heads);
                    let head_kv = head / (self.heads / self.heads_kv);
                    let (k, v) = (k.head(sequence, head_kv), v.head(sequence, head_kv));
                    for block in shape.blocks(&self.visible, sequence) {
                        let Block { first, rows, keys } = block;
                        let scores = &mut scores[..rows * keys];
                        let q = q.head(sequence, head).some_rows(first, rows);
                        let k = k.some_rows(0, keys).transposed();
                        multiply_into(scores, keys, q, k, shape.scale(), false);
                        pulp::Arch::new().dispatch(Softmax {
                            scores,
                            keys,
                            visible: |row| self.visible.keys(sequence, first + row, time),
                            log_sums: &mut log_sums[first..first + rows],
                        });
                        let scores = Matrix::new(scores, rows, keys);
                        let output = &mut output[first * d..][..rows * d];
                        multiply_into(output, d, scores, v.some_rows(0, keys), 1.0, false);
                    }
                }
            },
        );
        let y = interleaved(&[(outputs, self.heads)], [batch, time, d]);
        let output = tensor(y, [batch, time, self.heads * d]);
        let saved = Saved {
            inputs,
            output: output.clone(),
            log_sums,
        };
        (output, saved)
    }

    fn backward(
        &self,
        saved: Saved<N>,
        gradient: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N] {
        let shape = Shape::of(self, &saved.inputs);
        let Shape { batch, time, d, .. } = shape;
        let sides = shape.sides(&saved.inputs);
        let group = self.heads / self.heads_kv;
        let len = batch * self.heads_kv * time * d;
        let (mut dq, mut dk, mut dv) = (vec![0.0; group * len], vec![0.0; len], vec![0.0; len]);
        let outputs = Side::of(&saved.output, 0, d);
        let gradients = Side::of(&gradient, 0, d);
        let targets = [&mut dq[..], &mut dk, &mut dv];
        let work = 10 * group * time * time * d;
        by_rows(
            batch * self.heads_kv,
            work,
            targets,
            |first, units, [dq, dk, dv]| {
                let mut buffers = Buffers::new(time);
                for i in 0..units {
                    let (sequence, head_kv) =
                        ((first + i) / self.heads_kv, (first + i) % self.heads_kv);
                    for j in 0..group {
                        let head = head_kv * group + j;
                        let [q, k, v] = sides;
                        let log_sums =
                            &saved.log_sums[(sequence * self.heads + head) * time..][..time];
                        let one = Head {
                            q: q.head(sequence, head),
                            k: k.head(sequence, head_kv),
                            v: v.head(sequence, head_kv),
                            output: outputs.head(sequence, head),
                            gradient: gradients.head(sequence, head),
                            log_sums,
                            scale: shape.scale(),
                        };
                        let targets = [
                            &mut dq[(i * group + j) * time * d..][..time * d],
                            &mut dk[i * time * d..][..time * d],
                            &mut dv[i * time * d..][..time * d],
                        ];
                        one.backward(&shape, &self.visible, sequence, &mut buffers, targets);
                    }
                }
            },
        );
        let parts = [(dq, self.heads), (dk, self.heads_kv), (dv, self.heads_kv)];
        let together = |parts: &[(Vec<f32>, usize)]| {
            let heads: usize = parts.iter().map(|(_, heads)| heads).sum();
            tensor(
                interleaved(parts, [batch, time, d]),
                [batch, time, heads * d],
            )
        };
        if N == 1 {
            return std::array::from_fn(|_| Some(together(&parts)));
        }
        std::array::from_fn(|i| wanted[i].then(|| together(&parts[i..=i])))
    }
}

/// Queries in a block.
const BLOCK: usize = 64;

/// Some queries that lie together, and the keys that any of them sees.
struct Block {
    first: usize,
    rows: usize,
    keys: usize,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    batch: usize,
    time: usize,
    /// Values of a head.
    d: usize,
    heads: usize,
    heads_kv: usize,
}

impl Shape {
    fn of<const N: usize>(operation: &Attention, inputs: &[FlexTensor; N]) -> Self {
        let Attention {
            heads, heads_kv, ..
        } = *operation;
        assert!(
            heads.is_multiple_of(heads_kv),
            "heads in groups of equal size"
        );
        let [batch, time, width] = dims::<3>(&inputs[0]);
        let all = if N == 1 { heads + 2 * heads_kv } else { heads };
        assert!(width.is_multiple_of(all), "heads of equal size");
        let d = width / all;
        if let Visible::Lengths(lengths) = &operation.visible {
            assert_eq!(lengths.len(), batch, "one length for each sequence");
        }
        for input in &inputs[1..] {
            assert_eq!(
                dims::<3>(input),
                [batch, time, heads_kv * d],
                "keys, values"
            );
        }
        Self {
            batch,
            time,
            d,
            heads,
            heads_kv,
        }
    }

    /// Queries, keys and values.
    fn sides<'a>(&self, inputs: &'a [FlexTensor]) -> [Side<'a>; 3] {
        match inputs {
            [q, k, v] => [q, k, v].map(|side| Side::of(side, 0, self.d)),
            all => {
                let of_v = self.heads + self.heads_kv;
                [0, self.heads, of_v].map(|head| Side::of(&all[0], head * self.d, self.d))
            }
        }
    }

    fn blocks(&self, visible: &Visible, sequence: usize) -> impl Iterator<Item = Block> {
        let time = self.time;
        (0..time).step_by(BLOCK).map(move |first| {
            let rows = BLOCK.min(time - first);
            let keys = visible.keys(sequence, first + rows - 1, time);
            Block { first, rows, keys }
        })
    }

    /// 1 / √d.
    fn scale(&self) -> f32 {
        1.0 / (self.d as f32).sqrt()
    }
}

/// One input: its values, and where they lie.
#[derive(Debug, Clone, Copy)]
struct Side<'a> {
    values: &'a [f32],
    of_sequence: usize,
    of_position: usize,
    time: usize,
    d: usize,
}

impl<'a> Side<'a> {
    /// Of a [`readable`] tensor, from its column `column` on.
    fn of(tensor: &'a FlexTensor, column: usize, d: usize) -> Self {
        let [_, time, _] = dims::<3>(tensor);
        let layout = tensor.layout();
        let strides = layout.strides();
        Self {
            values: &tensor.storage::<f32>()[layout.start_offset() + column..],
            of_sequence: strides[0] as usize,
            of_position: strides[1] as usize,
            time,
            d,
        }
    }

    fn head(&self, sequence: usize, head: usize) -> Matrix<'a> {
        let values = &self.values[sequence * self.of_sequence + head * self.d..];
        Matrix::strided(values, self.time, self.d, self.of_position)
    }
}

/// The tensor if the values of a position lie together, or a copy of which that is true.
fn readable(tensor: FlexTensor) -> FlexTensor {
    let strides = tensor.layout().strides();
    if strides[2] == 1 && strides.iter().all(|&stride| stride > 0) {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// From batch, heads, time, d to batch, time, heads, d; of several with their numbers of heads,
/// side by side.
fn interleaved(parts: &[(Vec<f32>, usize)], [batch, time, d]: [usize; 3]) -> Vec<f32> {
    let width = d * parts.iter().map(|(_, heads)| heads).sum::<usize>();
    let mut all = vec![0.0; batch * time * width];
    by_rows(batch * time, width, [&mut all], |first, _, [rows]| {
        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
            let (sequence, position) = ((first + i) / time, (first + i) % time);
            let mut targets = row.chunks_exact_mut(d);
            for (values, heads) in parts {
                for (head, target) in targets.by_ref().take(*heads).enumerate() {
                    let from = ((sequence * heads + head) * time + position) * d;
                    target.copy_from_slice(&values[from..from + d]);
                }
            }
        }
    });
    all
}

/// Scores to probabilities, row by row.
struct Softmax<'a, F> {
    scores: &'a mut [f32],
    keys: usize,
    /// Keys that a row sees.
    visible: F,
    log_sums: &'a mut [f32],
}

impl<F: Fn(usize) -> usize> NullaryFnOnce for Softmax<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let rows = self.scores.chunks_exact_mut(self.keys);
        for (row, (scores, log_sum)) in rows.zip(self.log_sums).enumerate() {
            let (scores, hidden) = scores.split_at_mut((self.visible)(row));
            let max = math::max(scores);
            for score in scores.iter_mut() {
                *score = math::exp(*score - max);
            }
            let sum = math::sum(scores.len(), |i| scores[i]);
            let factor = 1.0 / sum;
            for score in scores.iter_mut() {
                *score *= factor;
            }
            hidden.fill(0.0);
            *log_sum = max + sum.ln();
        }
    }
}

/// The matrices of one block on the way back.
struct Buffers {
    scores: Vec<f32>,
    gradients: Vec<f32>,
}

impl Buffers {
    fn new(time: usize) -> Self {
        let len = BLOCK.min(time) * time;
        Self {
            scores: vec![0.0; len],
            gradients: vec![0.0; len],
        }
    }
}

/// One head of one sequence on the way back.
struct Head<'a> {
    q: Matrix<'a>,
    k: Matrix<'a>,
    v: Matrix<'a>,
    output: Matrix<'a>,
    gradient: Matrix<'a>,
    log_sums: &'a [f32],
    scale: f32,
}

impl Head<'_> {
    /// Writes the gradient of q, and adds those of k and v.
    fn backward(
        &self,
        shape: &Shape,
        visible: &Visible,
        sequence: usize,
        buffers: &mut Buffers,
        [dq, dk, dv]: [&mut [f32]; 3],
    ) {
        let d = shape.d;
        for Block { first, rows, keys } in shape.blocks(visible, sequence) {
            let p = &mut buffers.scores[..rows * keys];
            let ds = &mut buffers.gradients[..rows * keys];
            let q = self.q.some_rows(first, rows);
            let dy = self.gradient.some_rows(first, rows);
            let (k, v) = (self.k.some_rows(0, keys), self.v.some_rows(0, keys));
            multiply_into(p, keys, q, k.transposed(), self.scale, false);
            multiply_into(ds, keys, dy, v.transposed(), 1.0, false);
            let output = self.output.some_rows(first, rows);
            pulp::Arch::new().dispatch(Slopes {
                p,
                ds,
                keys,
                visible: |row| visible.keys(sequence, first + row, shape.time),
                log_sums: &self.log_sums[first..first + rows],
                dot: |row| {
                    let (a, b) = (output.row(row), dy.row(row));
                    math::sum(d, |i| a[i] * b[i])
                },
                scale: self.scale,
            });
            let (p, ds) = (Matrix::new(p, rows, keys), Matrix::new(ds, rows, keys));
            multiply_into(&mut dq[first * d..], d, ds, k, 1.0, false);
            multiply_into(dk, d, ds.transposed(), q, 1.0, true);
            multiply_into(dv, d, p.transposed(), dy, 1.0, true);
        }
    }
}

/// Scores to probabilities, and their gradients to those of the scores.
struct Slopes<'a, F, G> {
    p: &'a mut [f32],
    ds: &'a mut [f32],
    keys: usize,
    visible: F,
    log_sums: &'a [f32],
    /// Σ of output times its gradient.
    dot: G,
    scale: f32,
}

impl<F: Fn(usize) -> usize, G: Fn(usize) -> f32> NullaryFnOnce for Slopes<'_, F, G> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let rows = self
            .p
            .chunks_exact_mut(self.keys)
            .zip(self.ds.chunks_exact_mut(self.keys));
        for (row, ((p, ds), log_sum)) in rows.zip(self.log_sums).enumerate() {
            let visible = (self.visible)(row);
            let dot = (self.dot)(row);
            let (p, hidden) = p.split_at_mut(visible);
            let (ds, hidden_ds) = ds.split_at_mut(visible);
            for (p, ds) in p.iter_mut().zip(ds) {
                *p = math::exp(*p - log_sum);
                *ds = *p * (*ds - dot) * self.scale;
            }
            hidden.fill(0.0);
            hidden_ds.fill(0.0);
        }
    }
}

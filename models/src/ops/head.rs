//! The head of a language model and the cross-entropy of what it says as one operation: the
//! logits of some rows at a time, turned into their gradients where they are and multiplied on at
//! once, so that those of a whole batch never exist. Each thread has a share of the vocabulary,
//! with the weights, the logits and the gradients of it.

use std::sync::Arc;

use burn_flex::FlexTensor;
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

use super::fused::{Fused, contiguous, dims, into_values, tensor, values};
use super::math;
use super::matmul::{Matrix, by_rows, multiply_into};

/// [`head_cross_entropy`](super::head_cross_entropy) of the rows and the weights.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// Whether weights are `[vocabulary, width]`, not `[width, vocabulary]`.
    pub(super) outputs_first: bool,
    /// Each below the vocabulary.
    pub(super) targets: Arc<[usize]>,
    pub(super) weights: Arc<[f32]>,
    /// Shares of the vocabulary.
    pub(super) shards: usize,
}

/// The number of shares if each thread gets one that is worth it.
pub(super) fn shards(vocabulary: usize) -> Option<usize> {
    let threads = rayon::current_num_threads();
    (vocabulary / SHARD_MIN >= threads).then_some(threads)
}

/// Fewer tokens are no share.
const SHARD_MIN: usize = 256;
/// Rows at a time, of which there are fewer if the vocabulary is large: each time the weights pass
/// through the caches.
const ROWS: std::ops::RangeInclusive<usize> = 128..=256;
/// Most logits at a time, unless they are of the fewest rows: 32 MiB.
const LOGITS_MAX: usize = 1 << 23;

impl Fused<2> for Head {
    /// The gradients of the rows and of the weights for a gradient of one.
    type Saved = [Option<FlexTensor>; 2];

    fn forward(
        &self,
        inputs: [FlexTensor; 2],
        [with_x, with_w]: [bool; 2],
    ) -> (FlexTensor, Self::Saved) {
        let [x, w] = inputs.map(contiguous);
        let [rows, width] = dims::<2>(&x);
        let shape = dims::<2>(&w);
        let w = Matrix::new(values(&w), shape[0], shape[1]);
        let w = match self.outputs_first {
            true => w,
            false => w.transposed(),
        };
        assert_eq!(w.cols, width, "width of rows and weights");
        assert_eq!(self.targets.len(), rows, "one target for each row");
        assert_eq!(self.weights.len(), rows, "one weight for each row");
        let vocabulary = w.rows;
        let out_of_range = self.targets.iter().find(|&&target| target >= vocabulary);
        assert_eq!(out_of_range, None, "targets are below {vocabulary}");
        let x = Matrix::new(values(&x), rows, width);
        let block = rows_at_once(rows, vocabulary);
        let mut dx = vec![0.0; if with_x { rows * width } else { 0 }];
        let mut dw = vec![0.0; if with_w { vocabulary * width } else { 0 }];
        let mut shards = self.shards(w, &mut dw, block, with_x);
        let mut loss = 0.0;
        for first in (0..rows).step_by(block) {
            let rows = block.min(rows - first);
            let x = x.some_rows(first, rows);
            let (targets, weights) = (&self.targets[first..][..rows], &self.weights[first..]);
            shards
                .par_iter_mut()
                .for_each(|shard| shard.exponentials(x, targets));
            loss += combine(&mut shards, &weights[..rows]);
            if with_x || with_w {
                let add = first > 0;
                shards
                    .par_iter_mut()
                    .for_each(|shard| shard.gradients(x, targets, weights, add));
            }
            if with_x {
                let dx = &mut dx[first * width..][..rows * width];
                for shard in &shards {
                    for (sum, part) in dx.iter_mut().zip(&shard.dx) {
                        *sum += part;
                    }
                }
            }
        }
        drop(shards);
        let dw = with_w.then(|| tensor(dw, [vocabulary, width]));
        let saved = [with_x.then(|| tensor(dx, [rows, width])), dw];
        (tensor(vec![loss as f32], [1]), saved)
    }

    fn backward(
        &self,
        [dx, dw]: Self::Saved,
        gradient: FlexTensor,
        _: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let factor = values(&gradient)[0];
        let dw = dw.map(|dw| scaled(dw, factor));
        let dw = match self.outputs_first {
            true => dw,
            false => dw.map(|dw| dw.transpose(0, 1).to_contiguous()),
        };
        [dx.map(|dx| scaled(dx, factor)), dw]
    }
}

impl Head {
    /// Shares of weights and of their gradient, which is empty if it is not wanted.
    fn shards<'a>(
        &self,
        w: Matrix<'a>,
        mut dw: &'a mut [f32],
        rows: usize,
        with_x: bool,
    ) -> Vec<Shard<'a>> {
        let share = w.rows.div_ceil(self.shards.max(1)).next_multiple_of(16);
        let width_of_dw = dw.len() / w.rows.max(1);
        let mut shards = Vec::with_capacity(self.shards);
        for first in (0..w.rows).step_by(share) {
            let tokens = share.min(w.rows - first);
            let part;
            (part, dw) = dw.split_at_mut(tokens * width_of_dw);
            shards.push(Shard {
                first,
                w: w.some_rows(first, tokens),
                dw: part,
                dx: vec![0.0; if with_x { rows * w.cols } else { 0 }],
                logits: vec![0.0; rows * tokens],
                rows: vec![Row::default(); rows],
            });
        }
        shards
    }
}

/// Rows of a block: blocks are of about one size.
fn rows_at_once(rows: usize, vocabulary: usize) -> usize {
    let most = (LOGITS_MAX / vocabulary.max(1)).clamp(*ROWS.start(), *ROWS.end());
    let blocks = rows.div_ceil(most).max(1);
    rows.div_ceil(blocks).next_multiple_of(8)
}

/// A tensor that nobody else holds, times a number.
fn scaled(values: FlexTensor, factor: f32) -> FlexTensor {
    if factor == 1.0 {
        return values;
    }
    let shape @ [rows, width] = dims::<2>(&values);
    let mut values = into_values(values);
    by_rows(rows, width, [&mut values], |_, _, [values]| {
        for value in values {
            *value *= factor;
        }
    });
    tensor(values, shape)
}

/// What a shard knows of one row.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    /// Largest logit of the shard.
    max: f32,
    /// Of e to the logits less the largest; then what those are multiplied by.
    sum: f32,
    /// The target's logit, if it is in the shard.
    chosen: Option<f32>,
}

/// A share of the vocabulary.
struct Shard<'a> {
    /// Its first token.
    first: usize,
    /// `[tokens, width]`.
    w: Matrix<'a>,
    /// Its gradient, or empty.
    dw: &'a mut [f32],
    /// The shard's part of the gradient of a block, or empty.
    dx: Vec<f32>,
    /// Of a block.
    logits: Vec<f32>,
    /// Of a block.
    rows: Vec<Row>,
}

impl Shard<'_> {
    /// e to the logits of a block, less the largest of each row.
    fn exponentials(&mut self, x: Matrix<'_>, targets: &[usize]) {
        let tokens = self.w.rows;
        let logits = &mut self.logits[..x.rows * tokens];
        multiply_into(logits, tokens, x, self.w.transposed(), 1.0, false);
        for ((row, &target), logits) in self
            .rows
            .iter_mut()
            .zip(targets)
            .zip(logits.chunks_exact(tokens))
        {
            let own = target.checked_sub(self.first);
            row.chosen = own.and_then(|target| logits.get(target)).copied();
        }
        let rows = &mut self.rows[..x.rows];
        Arch::new().dispatch(Exponentials { logits, rows });
    }

    /// The gradients, of what [`exponentials`](Self::exponentials) made and [`combine`] measured.
    fn gradients(&mut self, x: Matrix<'_>, targets: &[usize], weights: &[f32], add: bool) {
        let (tokens, width) = (self.w.rows, self.w.cols);
        let logits = &mut self.logits[..x.rows * tokens];
        let rows = &self.rows[..x.rows];
        Arch::new().dispatch(Scale { logits, rows });
        for ((logits, &target), weight) in logits.chunks_exact_mut(tokens).zip(targets).zip(weights)
        {
            let own = target.checked_sub(self.first);
            if let Some(logit) = own.and_then(|target| logits.get_mut(target)) {
                *logit -= weight;
            }
        }
        let logits = Matrix::new(logits, x.rows, tokens);
        if !self.dx.is_empty() {
            let dx = &mut self.dx[..x.rows * width];
            multiply_into(dx, width, logits, self.w, 1.0, false);
        }
        if !self.dw.is_empty() {
            multiply_into(self.dw, width, logits.transposed(), x, 1.0, add);
        }
    }
}

/// The loss of a block; and leaves to each shard what its numbers are to be multiplied by.
fn combine(shards: &mut [Shard<'_>], weights: &[f32]) -> f64 {
    let mut loss = 0.0;
    for (i, &weight) in weights.iter().enumerate() {
        let maxima = shards.iter().map(|shard| shard.rows[i].max);
        let max = maxima.fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
        let (mut sum, mut chosen) = (0.0, max);
        for shard in &*shards {
            let row = shard.rows[i];
            sum += row.sum * math::exp(row.max - max);
            chosen = row.chosen.unwrap_or(chosen);
        }
        if weight != 0.0 {
            loss += f64::from(weight * (sum.ln() - (chosen - max)));
        }
        for shard in &mut *shards {
            let row = &mut shard.rows[i];
            row.sum = weight / sum * math::exp(row.max - max);
            if weight == 0.0 {
                row.sum = 0.0;
            }
        }
    }
    loss
}

struct Exponentials<'a> {
    logits: &'a mut [f32],
    rows: &'a mut [Row],
}

impl NullaryFnOnce for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let tokens = self.logits.len() / self.rows.len().max(1);
        for (logits, row) in self.logits.chunks_exact_mut(tokens).zip(self.rows) {
            let max = math::max(logits);
            for logit in logits.iter_mut() {
                *logit = math::exp(*logit - max);
            }
            row.max = max;
            row.sum = math::sum(tokens, |i| logits[i]);
        }
    }
}

struct Scale<'a> {
    logits: &'a mut [f32],
    rows: &'a [Row],
}

impl NullaryFnOnce for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let tokens = self.logits.len() / self.rows.len().max(1);
        for (logits, row) in self.logits.chunks_exact_mut(tokens).zip(self.rows) {
            if row.sum == 0.0 {
                // What does not count may be anything, even not a number.
                logits.fill(0.0);
                continue;
            }
            for logit in logits {
                *logit *= row.sum;
            }
        }
    }
}

//! The operations that the layers are made of.
//!
//! Each has a plain version, composed of burn's own tensor operations, in [`plain`]: it serves
//! every device and every number format, and the tests hold the fused versions against it.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};

use crate::device::Precision;
use fused::{Input, apply, supported};

mod attention;
pub(crate) mod autocast;
mod conv;
mod conv_kernels;
mod embedding;
pub(crate) mod fused;
mod gated;
mod head;
mod linear;
mod loss;
pub(crate) mod math;
pub(crate) mod matmul;
mod norm;
pub(crate) mod plain;

/// What follows a dense layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// Nothing.
    Identity,
    /// max(x, 0).
    Relu,
    /// x Φ(x), with the exact error function (Hendrycks and Gimpel 2016, arXiv:1606.08415).
    Gelu,
    /// Its approximation by a hyperbolic tangent (same paper).
    GeluTanh,
}

/// Which keys a query attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mask<'a> {
    /// All.
    None,
    /// Those at its own position and before.
    Causal,
    /// The first so many of its sequence, one number for each sequence, each at least 1.
    Lengths(&'a [usize]),
}

/// `activation(x w + b)`.
///
/// # Shapes
/// - x: `[rows, inputs]`
/// - w: `[inputs, outputs]`
/// - b: `[outputs]`
/// - output: `[rows, outputs]`
pub(crate) fn linear(
    x: Tensor<2>,
    w: Tensor<2>,
    b: Option<Tensor<1>>,
    activation: Activation,
) -> Tensor<2> {
    if !supported(&x) || !supported(&w) || !b.as_ref().is_none_or(supported) {
        return plain::linear(x, w, b, activation);
    }
    let (x, w) = (Input::of(x), Input::of(w));
    match b {
        Some(b) => apply(linear::Linear(activation), [x, w, Input::of(b)]),
        None => apply(linear::Linear(activation), [x, w]),
    }
}

/// `maxpool2x2(relu(conv3x3(x, w) + b))`, with stride 1 and a border of one zero for the
/// convolution; an odd last row or column is left out by the pooling.
///
/// # Shapes
/// - x: `[batch, channels_in, height, width]`, sides at least 2
/// - w: `[channels_out, channels_in, 3, 3]`
/// - b: `[channels_out]`
/// - output: `[batch, channels_out, height / 2, width / 2]`
pub(crate) fn conv3x3_relu_pool(x: Tensor<4>, w: Tensor<4>, b: Tensor<1>) -> Tensor<4> {
    if !supported(&x) || !supported(&w) || !supported(&b) {
        return plain::conv3x3_relu_pool(x, w, b);
    }
    apply(conv::Conv, [Input::of(x), Input::of(w), Input::of(b)])
}

/// Scaled dot-product attention of many heads, softmax(q kᵀ / √d) v for each; each head of keys
/// and values serves `heads / heads_kv` heads of queries (Ainslie et al. 2023, arXiv:2305.13245).
///
/// # Shapes
/// - q: `[batch, time, heads * d]`
/// - k, v: `[batch, time, heads_kv * d]`
/// - output: `[batch, time, heads * d]`
///
/// # Panics
/// If `heads` is not a multiple of `heads_kv`, or [`Mask::Lengths`] has not one length for each
/// sequence.
pub(crate) fn attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    heads: usize,
    heads_kv: usize,
    mask: Mask<'_>,
) -> Tensor<3> {
    if !supported(&q) || !supported(&k) || !supported(&v) {
        return plain::attention(q, k, v, heads, heads_kv, mask);
    }
    let operation = attention::Attention {
        heads,
        heads_kv,
        visible: attention::Visible::of(mask),
    };
    apply(operation, [Input::of(q), Input::of(k), Input::of(v)])
}

/// The same of queries, keys and values side by side: what one dense layer makes need not be taken
/// apart, nor its gradient put together.
///
/// # Shapes
/// - qkv: `[batch, time, (heads + 2 * heads_kv) * d]`
/// - output: `[batch, time, heads * d]`
///
/// # Panics
/// As [`attention`].
pub(crate) fn attention_of(
    qkv: Tensor<3>,
    heads: usize,
    heads_kv: usize,
    mask: Mask<'_>,
) -> Tensor<3> {
    if !supported(&qkv) {
        let d = qkv.dims()[2] / (heads + 2 * heads_kv);
        let part = |first: usize, heads: usize| qkv.clone().narrow(2, first * d, heads * d);
        let (q, k) = (part(0, heads), part(heads, heads_kv));
        let v = part(heads + heads_kv, heads_kv);
        return plain::attention(q, k, v, heads, heads_kv, mask);
    }
    let operation = attention::Attention {
        heads,
        heads_kv,
        visible: attention::Visible::of(mask),
    };
    apply(operation, [Input::of(qkv)])
}

/// `(x - mean) / sqrt(variance + eps) * gamma + beta`, of each row (Ba et al. 2016,
/// arXiv:1607.06450).
///
/// # Shapes
/// - x: `[rows, width]`
/// - gamma, beta: `[width]`
/// - output: `[rows, width]`
pub(crate) fn layer_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, eps: f64) -> Tensor<2> {
    if !supported(&x) || !supported(&gamma) || !supported(&beta) {
        return plain::layer_norm(x, gamma, beta, eps);
    }
    let inputs = [Input::of(x), Input::of(gamma), Input::of(beta)];
    apply(norm::Norm { eps: eps as f32 }, inputs)
}

/// `x / sqrt(mean of squares + eps) * gamma`, of each row (Zhang and Sennrich 2019,
/// arXiv:1910.07467).
///
/// # Shapes
/// - x: `[rows, width]`
/// - gamma: `[width]`
/// - output: `[rows, width]`
pub(crate) fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, eps: f64) -> Tensor<2> {
    if !supported(&x) || !supported(&gamma) {
        return plain::rms_norm(x, gamma, eps);
    }
    apply(
        norm::Norm { eps: eps as f32 },
        [Input::of(x), Input::of(gamma)],
    )
}

/// Rotary position embedding (Su et al. 2021, arXiv:2104.09864): pair i of a head of d values at
/// position p is turned by the angle p · frequencies[i]. Positions count from 0. Pair i is that of
/// values i and i + d/2, as Hugging Face lays out weights.
///
/// # Shapes
/// - x: `[batch, time, heads * d]`, d even
/// - frequencies: `[d / 2]`
/// - output: the same
pub(crate) fn rope(x: Tensor<3>, heads: usize, frequencies: Arc<[f64]>) -> Tensor<3> {
    if !supported(&x) {
        return plain::rope(x, heads, &frequencies);
    }
    apply(gated::Rope { heads, frequencies }, [Input::of(x)])
}

/// `silu(gate) * up` (Shazeer 2020, arXiv:2002.05202).
///
/// # Shapes
/// - gate, up, output: `[rows, width]`
pub(crate) fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    if !supported(&gate) || !supported(&up) {
        return plain::swiglu(gate, up);
    }
    apply(gated::Swiglu, [Input::of(gate), Input::of(up)])
}

/// The rows of a table.
///
/// # Shapes
/// - table: `[vocabulary, width]`
/// - ids: `[batch, time]`, each below the vocabulary
/// - output: `[batch, time, width]`
pub(crate) fn embedding(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    if !supported(&table) {
        return plain::embedding(table, ids);
    }
    let [batch, _] = ids.dims();
    let ids = indices(ids);
    apply(embedding::Embedding { ids, batch }, [Input::of(table)])
}

/// Σ wᵢ · −log softmax(logitsᵢ)[targetᵢ].
///
/// # Shapes
/// - logits: `[rows, classes]`
/// - targets: `[rows]`, each below the number of classes
/// - weights: `[rows]`; no gradient flows to them
/// - output: `[1]`
pub(crate) fn cross_entropy(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
) -> Tensor<1> {
    if !supported(&logits) || !supported(&weights) {
        return plain::cross_entropy(logits, targets, weights);
    }
    let weights: Vec<f32> = weights.into_data().iter().collect();
    let (targets, weights) = (indices(targets), weights.into());
    apply(loss::CrossEntropy { targets, weights }, [Input::of(logits)])
}

/// `cross_entropy(x w)`, or with `w` transposed if its outputs come first. On the CPU the logits of
/// large vocabularies never exist as a whole.
///
/// # Shapes
/// - x: `[rows, width]`
/// - w: `[width, vocabulary]`, or `[vocabulary, width]` if `outputs_first`
/// - targets: `[rows]`, each below the vocabulary
/// - weights: `[rows]`; no gradient flows to them
/// - output: `[1]`
pub(crate) fn head_cross_entropy(
    x: Tensor<2>,
    w: Tensor<2>,
    outputs_first: bool,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
) -> Tensor<1> {
    let [inputs, outputs] = w.dims();
    let vocabulary = if outputs_first { inputs } else { outputs };
    let shards = head::shards(vocabulary);
    let fits = supported(&x) && supported(&w) && supported(&weights);
    let Some(shards) = shards.filter(|_| fits) else {
        let w = if outputs_first { w.transpose() } else { w };
        let logits = linear(x, w, None, Activation::Identity);
        return cross_entropy(logits, targets, weights);
    };
    let weights: Vec<f32> = weights.into_data().iter().collect();
    let operation = head::Head {
        outputs_first,
        targets: indices(targets),
        weights: weights.into(),
        shards,
    };
    apply(operation, [Input::of(x), Input::of(w)])
}

/// Runs on a thread of the pool, so that work is shared without waking it each time; or here, if
/// another device computes, or products are in another format than the pool's threads have.
pub(crate) fn on_pool<R: Send>(device: &Device, run: impl FnOnce() -> R + Send) -> R {
    if autocast::current() == Precision::F32 && device.clone().inner() == Device::flex() {
        rayon::scope(|_| run())
    } else {
        run()
    }
}

/// Integers of the CPU as indices; a negative one becomes one that is out of range.
fn indices<const D: usize>(integers: Tensor<D, Int>) -> Arc<[usize]> {
    let integers = integers.into_data();
    let index = |i: i64| usize::try_from(i).unwrap_or(usize::MAX);
    integers.iter::<i64>().map(index).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

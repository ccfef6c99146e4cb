//! Each operation composed of burn's own: for every device and number format, and what the tests
//! hold the fused versions against. Contracts and shapes are in [`super`].

use std::f64::consts::FRAC_1_SQRT_2;

use burn::tensor::activation::{gelu_approximate, log_softmax, relu, silu, softmax};
use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Bool, Int, Tensor, TensorData};

use super::autocast::{narrow, widen};
use super::{Activation, Mask};

pub(crate) fn linear(
    x: Tensor<2>,
    w: Tensor<2>,
    b: Option<Tensor<1>>,
    activation: Activation,
) -> Tensor<2> {
    let y = widen(narrow(x).matmul(narrow(w)));
    let y = match b {
        Some(b) => y + b.unsqueeze::<2>(),
        None => y,
    };
    activate(y, activation)
}

pub(crate) fn activate(y: Tensor<2>, activation: Activation) -> Tensor<2> {
    match activation {
        Activation::Identity => y,
        Activation::Relu => relu(y),
        // Not burn's own, whose gradient is that of another approximation (by up to 5e-4).
        Activation::Gelu => y.clone() * ((y * FRAC_1_SQRT_2).erf() + 1.0) * 0.5,
        Activation::GeluTanh => gelu_approximate(y),
    }
}

pub(crate) fn conv3x3_relu_pool(x: Tensor<4>, w: Tensor<4>, b: Tensor<1>) -> Tensor<4> {
    let convolution = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let y = relu(widen(conv2d(
        narrow(x),
        narrow(w),
        Some(narrow(b)),
        convolution,
    )));
    max_pool2d(y, MaxPoolOptions::new([2, 2]))
}

pub(crate) fn attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    heads: usize,
    heads_kv: usize,
    mask: Mask<'_>,
) -> Tensor<3> {
    let [batch, time, width] = q.dims();
    let device = q.device();
    let d = width / heads;
    assert_eq!(heads % heads_kv, 0, "heads in groups of equal size");
    // Heads that share keys are rows of one product, so that nothing is repeated. (wgpu's gradient of
    // `repeat_dim` is wrong where what comes back is transposed, burn 0.22.1.)
    let group = heads / heads_kv;
    let per_head = |x: Tensor<3>, heads: usize| {
        let x = x.reshape([batch, time, heads, d]).swap_dims(1, 2);
        x.reshape([batch * heads_kv, heads / heads_kv * time, d])
    };
    let (q, k, v) = (
        per_head(q, heads),
        per_head(k, heads_kv),
        per_head(v, heads_kv),
    );
    let scores = widen(narrow(q).matmul(narrow(k).swap_dims(1, 2))) / (d as f64).sqrt();
    let hide = |scores: Tensor<3>, hidden: Tensor<4, Bool>| {
        let hidden = hidden.expand([batch, heads, time, time]);
        scores.mask_fill(
            hidden.reshape([batch * heads_kv, group * time, time]),
            HIDDEN,
        )
    };
    let scores = match mask {
        Mask::None => scores,
        Mask::Causal => {
            let hidden = Tensor::<2, Bool>::tril_mask([time, time], 0, &device);
            hide(scores, hidden.unsqueeze())
        }
        Mask::Lengths(lengths) => {
            assert_eq!(lengths.len(), batch, "one length for each sequence");
            let hidden: Vec<bool> = lengths
                .iter()
                .flat_map(|&length| (0..time).map(move |key| key >= length))
                .collect();
            let hidden = TensorData::new(hidden, [batch, 1, 1, time]);
            hide(scores, Tensor::from_data(hidden, &device))
        }
    };
    let y = widen(narrow(softmax(scores, 2)).matmul(narrow(v)));
    let y = y.reshape([batch, heads, time, d]).swap_dims(1, 2);
    y.reshape([batch, time, width])
}

/// The score of a key that is not attended: finite, so that no difference of two is NaN.
const HIDDEN: f32 = -1e30;

pub(crate) fn layer_norm(x: Tensor<2>, gamma: Tensor<1>, beta: Tensor<1>, eps: f64) -> Tensor<2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    centred / (variance + eps).sqrt() * gamma.unsqueeze::<2>() + beta.unsqueeze::<2>()
}

pub(crate) fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, eps: f64) -> Tensor<2> {
    let square = x.clone().square().mean_dim(1);
    x / (square + eps).sqrt() * gamma.unsqueeze::<2>()
}

pub(crate) fn rope(x: Tensor<3>, heads: usize, frequencies: &[f64]) -> Tensor<3> {
    let [batch, time, width] = x.dims();
    let device = x.device();
    let half = width / heads / 2;
    let (cosines, sines) = rotations(time, frequencies);
    let (shape, of_pairs) = ([batch, time, heads, 2, half], [1, time, 1, 1, half]);
    let constant =
        |values: Vec<f32>| Tensor::<5>::from_data(TensorData::new(values, of_pairs), &device);
    let (cosines, sines) = (constant(cosines), constant(sines));
    let x = x.reshape(shape);
    let (a, b) = (x.clone().narrow(3, 0, 1), x.narrow(3, 1, 1));
    let first = a.clone() * cosines.clone() - b.clone() * sines.clone();
    let second = a * sines + b * cosines;
    Tensor::cat(vec![first, second], 3).reshape([batch, time, width])
}

/// Cosine and sine of each position and pair, `[time, half]` each.
pub(super) fn rotations(time: usize, frequencies: &[f64]) -> (Vec<f32>, Vec<f32>) {
    let angles = (0..time).flat_map(|position| {
        frequencies
            .iter()
            .map(move |frequency| position as f64 * frequency)
    });
    angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip()
}

pub(crate) fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    silu(gate) * up
}

pub(crate) fn embedding(table: Tensor<2>, ids: Tensor<2, Int>) -> Tensor<3> {
    burn::tensor::module::embedding(table, ids)
}

pub(crate) fn cross_entropy(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    weights: Tensor<1>,
) -> Tensor<1> {
    let chosen = log_softmax(logits, 1).gather(1, targets.unsqueeze_dim::<2>(1));
    (chosen.squeeze_dim::<1>(1) * weights).sum().neg()
}

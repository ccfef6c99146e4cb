//! The fused operations against the plain ones, forward and backward.

use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::*;

/// Tensors from one seed, on the CPU with gradients.
struct Draw(ChaCha20Rng);

impl Draw {
    fn seeded(seed: u64) -> Self {
        Self(ChaCha20Rng::seed_from_u64(seed))
    }

    fn tensor<const D: usize>(&mut self, shape: [usize; D]) -> Tensor<D> {
        let len = shape.iter().product();
        let values: Vec<f32> = (0..len).map(|_| self.0.random_range(-2.0..2.0)).collect();
        let device = Device::flex().autodiff();
        Tensor::from_data(TensorData::new(values, shape), &device).require_grad()
    }

    fn integers<const D: usize>(&mut self, below: i64, shape: [usize; D]) -> Tensor<D, Int> {
        let len = shape.iter().product();
        let values: Vec<i64> = (0..len).map(|_| self.0.random_range(0..below)).collect();
        Tensor::from_data(TensorData::new(values, shape), &Device::flex().autodiff())
    }

    /// The gradients of a sum with random weights.
    fn backward<const D: usize>(&mut self, output: Tensor<D>) -> Gradients {
        let weights = self.tensor(output.dims()).detach();
        (output * weights).sum().backward()
    }
}

fn assert_near<const D: usize>(what: &str, fused: Tensor<D>, plain: Tensor<D>) {
    assert_eq!(fused.dims(), plain.dims(), "{what}");
    let (fused, plain) = (fused.into_data(), plain.into_data());
    let scale = plain.iter::<f32>().fold(1.0, |a: f32, b| a.max(b.abs()));
    for (i, (fused, plain)) in fused.iter::<f32>().zip(plain.iter::<f32>()).enumerate() {
        let error = (fused - plain).abs();
        assert!(
            error <= 3e-6 * scale,
            "{what} {i}: {fused} instead of {plain}"
        );
    }
}

/// Compares outputs, and gradients of the inputs, with autodiff and without.
macro_rules! compare {
    ($seed:expr, |$($input:ident),+| $fused:expr, $plain:expr) => {{
        let fused = {
            $(let $input = $input.clone();)+
            $fused
        };
        let plain = {
            $(let $input = $input.clone();)+
            $plain
        };
        assert_near("output", fused.clone().inner(), plain.clone().inner());
        let bare = {
            $(let $input = $input.clone().inner();)+
            $fused
        };
        assert_near("output without autodiff", bare, plain.clone().inner());
        let fused = Draw::seeded($seed).backward(fused);
        let plain = Draw::seeded($seed).backward(plain);
        $({
            let name = concat!("gradient of ", stringify!($input));
            let (fused, plain) = ($input.grad(&fused), $input.grad(&plain));
            assert_near(name, fused.unwrap(), plain.unwrap());
        })+
    }};
}

const ACTIVATIONS: [Activation; 4] = [
    Activation::Identity,
    Activation::Relu,
    Activation::Gelu,
    Activation::GeluTanh,
];

#[test]
fn linear_is_as_composed() {
    for activation in ACTIVATIONS {
        for [rows, inputs, outputs] in [[1, 1, 1], [5, 7, 3], [64, 50, 33], [257, 64, 96]] {
            let mut draw = Draw::seeded(rows as u64);
            let (x, w) = (draw.tensor([rows, inputs]), draw.tensor([inputs, outputs]));
            let b = draw.tensor([outputs]);
            compare!(
                1,
                |x, w, b| linear(x, w, Some(b), activation),
                plain::linear(x, w, Some(b), activation)
            );
            compare!(
                2,
                |x, w| linear(x, w, None, activation),
                plain::linear(x, w, None, activation)
            );
            let table: Tensor<2> = draw.tensor([outputs, inputs]);
            compare!(
                3,
                |x, table| linear(x, table.transpose(), None, activation),
                plain::linear(x, table.transpose(), None, activation)
            );
        }
    }
}

#[test]
fn frozen_weights_get_no_gradient() {
    let mut draw = Draw::seeded(4);
    let (x, w, b) = (draw.tensor([6, 5]), draw.tensor([5, 4]), draw.tensor([4]));
    let frozen = Tensor::from_inner(w.clone().inner());
    let run = |w: Tensor<2>| linear(x.clone(), w, Some(b.clone()), Activation::Gelu);
    let with = Draw::seeded(5).backward(run(w.clone()));
    let without = Draw::seeded(5).backward(run(frozen.clone()));
    assert_near("x", x.grad(&without).unwrap(), x.grad(&with).unwrap());
    assert_near("b", b.grad(&without).unwrap(), b.grad(&with).unwrap());
    assert!(frozen.grad(&without).is_none() && w.grad(&with).is_some());
}

#[test]
fn convolution_is_as_composed() {
    for [batch, inputs, outputs, height, width] in [
        [1, 1, 1, 2, 2],
        [2, 1, 16, 28, 28],
        [3, 16, 32, 14, 14],
        [2, 5, 19, 7, 9],
        [2, 20, 8, 5, 6],
    ] {
        let mut draw = Draw::seeded(width as u64);
        let x = draw.tensor([batch, inputs, height, width]);
        let w = draw.tensor([outputs, inputs, 3, 3]);
        let b = draw.tensor([outputs]);
        compare!(
            11,
            |x, w, b| conv3x3_relu_pool(x, w, b),
            plain::conv3x3_relu_pool(x, w, b)
        );
    }
}

#[test]
fn convolutions_follow_one_another() {
    let mut draw = Draw::seeded(12);
    let x = draw.tensor([2, 3, 12, 9]);
    let (w, b) = (draw.tensor([4, 3, 3, 3]), draw.tensor([4]));
    let (v, c) = (draw.tensor([5, 4, 3, 3]), draw.tensor([5]));
    compare!(
        13,
        |x, w, b, v, c| conv3x3_relu_pool(conv3x3_relu_pool(x, w, b), v, c).flatten::<2>(1, 3),
        plain::conv3x3_relu_pool(plain::conv3x3_relu_pool(x, w, b), v, c).flatten::<2>(1, 3)
    );
}

#[test]
fn norms_are_as_composed() {
    for [rows, width] in [[1, 2], [3, 7], [300, 96], [65, 257]] {
        let mut draw = Draw::seeded(width as u64);
        let x = draw.tensor([rows, width]);
        let (gamma, beta) = (draw.tensor([width]), draw.tensor([width]));
        compare!(
            6,
            |x, gamma, beta| layer_norm(x, gamma, beta, 1e-3),
            plain::layer_norm(x, gamma, beta, 1e-3)
        );
        compare!(
            7,
            |x, gamma| rms_norm(x, gamma, 1e-5),
            plain::rms_norm(x, gamma, 1e-5)
        );
    }
}

#[test]
fn attention_is_as_composed() {
    for [batch, time, heads, heads_kv, d] in [
        [1, 1, 1, 1, 2],
        [2, 7, 4, 2, 6],
        [2, 64, 2, 2, 8],
        [3, 131, 6, 3, 4],
    ] {
        let mut draw = Draw::seeded(time as u64);
        let q = draw.tensor([batch, time, heads * d]);
        let [k, v] = [(); 2].map(|()| draw.tensor([batch, time, heads_kv * d]));
        let lengths: Vec<usize> = (0..batch).map(|i| 1 + i * (time - 1) / 2).collect();
        for mask in [Mask::None, Mask::Causal, Mask::Lengths(&lengths)] {
            compare!(
                14,
                |q, k, v| attention(q, k, v, heads, heads_kv, mask),
                plain::attention(q, k, v, heads, heads_kv, mask)
            );
            let all: Tensor<3> = draw.tensor([batch, time, (heads + 2 * heads_kv) * d]);
            let part = |all: &Tensor<3>, first: usize, heads: usize| {
                all.clone().narrow(2, first * d, heads * d)
            };
            compare!(
                15,
                |all| attention_of(all, heads, heads_kv, mask),
                plain::attention(
                    part(&all, 0, heads),
                    part(&all, heads, heads_kv),
                    part(&all, heads + heads_kv, heads_kv),
                    heads,
                    heads_kv,
                    mask
                )
            );
            compare!(
                16,
                |all, k| attention(part(&all, 0, heads), k.clone(), k, heads, heads_kv, mask),
                plain::attention(part(&all, 0, heads), k.clone(), k, heads, heads_kv, mask)
            );
        }
    }
}

#[test]
fn rotary_positions_are_as_composed() {
    let mut draw = Draw::seeded(17);
    let x = draw.tensor([2, 37, 3 * 10]);
    let frequencies: Arc<[f64]> = Arc::new([1.0, 0.3, 0.1, 0.03, 0.01]);
    compare!(
        18,
        |x| rope(x, 3, frequencies.clone()),
        plain::rope(x, 3, &frequencies)
    );
}

#[test]
fn gates_are_as_composed() {
    let mut draw = Draw::seeded(19);
    let [gate, up] = [(); 2].map(|()| draw.tensor([33, 21]));
    compare!(20, |gate, up| swiglu(gate, up), plain::swiglu(gate, up));
}

#[test]
fn embedding_is_as_composed() {
    let mut draw = Draw::seeded(8);
    let table = draw.tensor([11, 5]);
    let ids = draw.integers(11, [3, 17]);
    compare!(
        9,
        |table| embedding(table, ids.clone()),
        plain::embedding(table, ids.clone())
    );
}

#[test]
fn cross_entropy_is_as_composed() {
    for [rows, classes] in [[1, 2], [9, 10], [70, 513]] {
        let mut draw = Draw::seeded(classes as u64);
        let logits: Tensor<2> = draw.tensor([rows, classes]);
        let targets = draw.integers(classes as i64, [rows]);
        let weights = draw.tensor([rows]).detach().abs();
        compare!(
            10,
            |logits| cross_entropy(logits * 9.0, targets.clone(), weights.clone()),
            plain::cross_entropy(logits * 9.0, targets.clone(), weights.clone())
        );
    }
}

#[test]
fn a_head_with_its_loss_is_as_composed() {
    for ([rows, width, vocabulary], shards) in [
        ([1, 3, 5], 1),
        ([9, 7, 50], 3),
        ([300, 12, 70], 2),
        ([513, 16, 1100], 2),
    ] {
        let mut draw = Draw::seeded(rows as u64);
        let x: Tensor<2> = draw.tensor([rows, width]);
        let targets = draw.integers(vocabulary as i64, [rows]);
        let counted = draw.integers(3, [rows]).float() * 0.7;
        let weights: Vec<f32> = counted.clone().into_data().iter().collect();
        for outputs_first in [true, false] {
            let shape = match outputs_first {
                true => [vocabulary, width],
                false => [width, vocabulary],
            };
            let w: Tensor<2> = draw.tensor(shape);
            let operation = head::Head {
                outputs_first,
                targets: indices(targets.clone()),
                weights: weights.clone().into(),
                shards,
            };
            let fused = |x: Tensor<2>, w: Tensor<2>| -> Tensor<1> {
                apply(operation.clone(), [Input::of(x), Input::of(w)])
            };
            let plain = |x: Tensor<2>, w: Tensor<2>| {
                let w = if outputs_first { w.transpose() } else { w };
                let logits = plain::linear(x, w, None, Activation::Identity);
                plain::cross_entropy(logits, targets.clone(), counted.clone())
            };
            compare!(21, |x, w| fused(x, w), plain(x, w));
            let frozen: Tensor<2> = Tensor::from_inner(w.clone().inner());
            compare!(22, |x| fused(x, frozen.clone()), plain(x, frozen.clone()));
            let bare: Tensor<2> = Tensor::from_inner(x.clone().inner());
            compare!(23, |w| fused(bare.clone(), w), plain(bare.clone(), w));
        }
    }
}

#[test]
fn a_head_of_any_vocabulary_has_a_loss() {
    for vocabulary in [30, 4096] {
        let mut draw = Draw::seeded(24);
        let (x, w) = (draw.tensor([20, 6]), draw.tensor([vocabulary, 6]));
        let targets = draw.integers(vocabulary as i64, [20]);
        let ones = Tensor::ones([20], &Device::flex().autodiff());
        compare!(
            25,
            |x, w| head_cross_entropy(x, w, true, targets.clone(), ones.clone()),
            plain::cross_entropy(x.matmul(w.transpose()), targets.clone(), ones.clone())
        );
    }
}

#[test]
fn rows_that_do_not_count_may_be_anything() {
    let device = Device::flex().autodiff();
    let x = Tensor::<2>::from_data([[f32::NAN, 1.0], [1.0, 2.0]], &device).require_grad();
    let w = Draw::seeded(26).tensor([4, 2]);
    let run = |weights: [f32; 2]| -> Tensor<1> {
        let operation = head::Head {
            outputs_first: true,
            targets: [1, 3].into(),
            weights: weights.into(),
            shards: 2,
        };
        apply(operation, [Input::of(x.clone()), Input::of(w.clone())])
    };
    let loss = run([0.0, 1.0]);
    let grads = loss.backward();
    let of_x = x.grad(&grads).unwrap().into_data();
    assert!(loss.into_scalar::<f32>().is_finite());
    assert!(of_x.iter::<f32>().all(f32::is_finite));
    assert!(run([1.0, 1.0]).into_scalar::<f32>().is_nan());
}

#[test]
fn a_loss_that_is_not_a_number_says_so() {
    let device = Device::flex();
    let logits = Tensor::<2>::from_data([[0.0, f32::NAN], [1.0, 2.0]], &device);
    let targets = Tensor::<1, Int>::from_data([0, 1], &device);
    let loss = cross_entropy(logits, targets, Tensor::ones([2], &device));
    assert!(loss.into_scalar::<f32>().is_nan());
}

#[test]
#[should_panic(expected = "targets are below 2")]
fn targets_out_of_range_are_our_bug() {
    let device = Device::flex();
    let targets = Tensor::<1, Int>::from_data([2], &device);
    cross_entropy(
        Tensor::zeros([1, 2], &device),
        targets,
        Tensor::ones([1], &device),
    );
}

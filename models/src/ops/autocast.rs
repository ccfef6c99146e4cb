//! The number format of matrix products, for all operations of a thread.
//!
//! Inputs of a product are cast to the format and its output back to f32, all within the graph, so
//! that gradients arrive in f32. All else is computed in f32, as are parameters and optimizer
//! states (Micikevicius et al. 2018, arXiv:1710.03740).

use std::cell::Cell;

use burn::tensor::{FloatDType, Tensor};

use crate::device::Precision;

thread_local! {
    static CURRENT: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// Products of this thread are computed in a format until this is dropped.
#[derive(Debug)]
#[must_use = "the format is left again when this is dropped"]
pub(crate) struct Autocast {
    before: Precision,
}

/// Computes products of this thread in that format from now on.
pub(crate) fn enter(precision: Precision) -> Autocast {
    Autocast {
        before: CURRENT.replace(precision),
    }
}

/// The format that products are computed in now.
pub(crate) fn current() -> Precision {
    CURRENT.get()
}

impl Drop for Autocast {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// An input of a product.
pub(super) fn narrow<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match current() {
        Precision::F32 => x,
        narrow => x.cast(narrow.dtype()),
    }
}

/// The output of a product.
pub(super) fn widen<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match current() {
        Precision::F32 => x,
        Precision::Bf16 | Precision::F16 => x.cast(FloatDType::F32),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, TensorData};

    use super::*;
    use crate::ops::{Activation, linear};

    #[test]
    fn products_are_narrow_and_all_else_is_f32() {
        let device = Device::flex().autodiff();
        let numbers = |len: usize, shape: [usize; 2]| {
            let values: Vec<f32> = (0..len).map(|i| (i as f32 * 0.37).sin()).collect();
            Tensor::<2>::from_data(TensorData::new(values, shape), &device).require_grad()
        };
        let (x, w) = (numbers(12, [3, 4]), numbers(20, [4, 5]));
        let run = |precision| {
            let _inside = enter(precision);
            let y = linear(x.clone(), w.clone(), None, Activation::Identity);
            assert_eq!(y.dtype(), DType::F32);
            let grads = y.clone().square().sum().backward();
            let grad = w.grad(&grads);
            (y, grad)
        };
        let (exact, exact_grad) = run(Precision::F32);
        for (precision, tolerance) in [(Precision::Bf16, 2e-2), (Precision::F16, 3e-3)] {
            let (y, grad) = run(precision);
            let error = (y - exact.clone()).abs().max().try_into_scalar::<f32>();
            let error = error.unwrap_or(f32::NAN);
            assert!(error > 0.0 && error < tolerance, "{precision}: {error}");
            let (Some(grad), Some(exact)) = (grad, exact_grad.clone()) else {
                panic!("w has a gradient");
            };
            assert_eq!(grad.dtype(), DType::F32);
            let error = (grad - exact).abs().max().try_into_scalar::<f32>();
            let error = error.unwrap_or(f32::NAN);
            assert!(error < 5.0 * tolerance, "{precision}: {error}");
        }
        assert_eq!(current(), Precision::F32);
    }
}

//! Normalization of rows, with the gradients in one pass.

use burn_flex::FlexTensor;
use pulp::{Arch, NullaryFnOnce};

use super::fused::{Fused, contiguous, dims, into_values, tensor, values};
use super::linear::total;
use super::math;
use super::matmul::by_rows;

/// [`layer_norm`](super::layer_norm) of x, gamma and beta; [`rms_norm`](super::rms_norm) of x and
/// gamma.
#[derive(Debug, Clone)]
pub(super) struct Norm {
    pub(super) eps: f32,
}

/// What the way back needs.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    x: FlexTensor,
    gamma: FlexTensor,
    /// Mean and inverse deviation of each row.
    moments: Vec<f32>,
}

impl<const N: usize> Fused<N> for Norm {
    type Saved = Saved;

    fn forward(&self, inputs: [FlexTensor; N], _: [bool; N]) -> (FlexTensor, Saved) {
        let mut inputs = inputs.into_iter().map(contiguous);
        let (Some(x), Some(gamma)) = (inputs.next(), inputs.next()) else {
            unreachable!("a norm has input and scale");
        };
        let beta = inputs.next();
        let shape @ [rows, width] = dims::<2>(&x);
        let mut y = vec![0.0; rows * width];
        let mut moments = vec![0.0; rows * 2];
        let all = values(&x);
        by_rows(
            rows,
            4 * width,
            [&mut y, &mut moments],
            |first, rows, [y, moments]| {
                Arch::new().dispatch(Forward {
                    x: &all[first * width..][..rows * width],
                    gamma: values(&gamma),
                    beta: beta.as_ref().map(values),
                    eps: self.eps,
                    y,
                    moments,
                });
            },
        );
        (tensor(y, shape), Saved { x, gamma, moments })
    }

    fn backward(
        &self,
        saved: Saved,
        gradient: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N] {
        let shape @ [rows, width] = dims::<2>(&gradient);
        let (x, gamma) = (values(&saved.x), values(&saved.gamma));
        let mut dy = into_values(gradient);
        let sums = by_rows(rows, 8 * width, [&mut dy], |first, rows, [dy]| {
            let mut sums = vec![0.0; 2 * width];
            Arch::new().dispatch(Backward {
                x: &x[first * width..][..rows * width],
                gamma,
                centred: N == 3,
                moments: &saved.moments[2 * first..][..2 * rows],
                dy,
                sums: &mut sums,
            });
            sums
        });
        let mut gamma = total(sums);
        gamma.resize(2 * width, 0.0);
        let beta = gamma.split_off(width);
        let mut results = [
            tensor(dy, shape),
            tensor(gamma, [width]),
            tensor(beta, [width]),
        ]
        .into_iter();
        wanted.map(|wanted| results.next().filter(|_| wanted))
    }
}

struct Forward<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    /// None for norms that do not centre.
    beta: Option<&'a [f32]>,
    eps: f32,
    y: &'a mut [f32],
    moments: &'a mut [f32],
}

impl NullaryFnOnce for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = self.gamma.len();
        let rows = self
            .x
            .chunks_exact(width)
            .zip(self.y.chunks_exact_mut(width));
        for ((x, y), moments) in rows.zip(self.moments.as_chunks_mut::<2>().0) {
            let mean = match self.beta {
                Some(_) => math::sum(width, |i| x[i]) / width as f32,
                None => 0.0,
            };
            let square = math::sum(width, |i| (x[i] - mean) * (x[i] - mean));
            let inverse = 1.0 / (square / width as f32 + self.eps).sqrt();
            *moments = [mean, inverse];
            for ((y, x), gamma) in y.iter_mut().zip(x).zip(self.gamma) {
                *y = (x - mean) * inverse * gamma;
            }
            if let Some(beta) = self.beta {
                for (y, beta) in y.iter_mut().zip(beta) {
                    *y += beta;
                }
            }
        }
    }
}

struct Backward<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    centred: bool,
    moments: &'a [f32],
    /// Becomes that of x.
    dy: &'a mut [f32],
    /// The gradients of gamma, then of beta.
    sums: &'a mut [f32],
}

impl NullaryFnOnce for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = self.gamma.len();
        let (of_gamma, of_beta) = self.sums.split_at_mut(width);
        let rows = self
            .x
            .chunks_exact(width)
            .zip(self.dy.chunks_exact_mut(width));
        for ((x, dy), [mean, inverse]) in rows.zip(self.moments.as_chunks::<2>().0) {
            let (mean, inverse) = (*mean, *inverse);
            for i in 0..width {
                of_gamma[i] += dy[i] * (x[i] - mean) * inverse;
                of_beta[i] += dy[i];
                dy[i] *= self.gamma[i];
            }
            let along = math::sum(width, |i| dy[i] * (x[i] - mean) * inverse) / width as f32;
            let shift = match self.centred {
                true => math::sum(width, |i| dy[i]) / width as f32,
                false => 0.0,
            };
            for (dy, x) in dy.iter_mut().zip(x) {
                *dy = inverse * (*dy - shift - (x - mean) * inverse * along);
            }
        }
    }
}

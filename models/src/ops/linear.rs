//! Dense layers: product, bias and activation in one pass over each thread's rows, and as little
//! as can be on the way back.

use burn_flex::FlexTensor;
use pulp::{Arch, NullaryFnOnce};

use super::Activation;
use super::fused::{Fused, contiguous, dims, into_values, tensor, values};
use super::math;
use super::matmul::{Matrix, by_rows, multiply, multiply_into};

/// [`linear`](super::linear) of x and w; and of b, if N is 3.
#[derive(Debug, Clone)]
pub(super) struct Linear(pub(super) Activation);

/// What the way back needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Saved {
    /// If w wants a gradient.
    x: Option<FlexTensor>,
    /// If x wants a gradient.
    w: Option<FlexTensor>,
    /// The derivative of the activation; of a relu the output, which has the same signs.
    slope: Option<FlexTensor>,
}

impl<const N: usize> Fused<N> for Linear {
    type Saved = Saved;

    fn forward(&self, inputs: [FlexTensor; N], tracked: [bool; N]) -> (FlexTensor, Saved) {
        let mut inputs = inputs.into_iter();
        let (Some(x), Some(w)) = (inputs.next(), inputs.next()) else {
            unreachable!("a dense layer has input and weights");
        };
        let b = inputs.next().map(contiguous);
        let x = contiguous(x);
        let [rows, outputs] = [dims::<2>(&x)[0], dims::<2>(&w)[1]];
        let any = tracked.contains(&true);
        let with_slope = any && !matches!(self.0, Activation::Identity | Activation::Relu);
        let (y, slope) = forward(&x, &w, b.as_ref(), self.0, with_slope);
        let y = tensor(y, [rows, outputs]);
        let slope = match self.0 {
            Activation::Relu if any => Some(y.clone()),
            _ => slope.map(|slope| tensor(slope, [rows, outputs])),
        };
        let saved = Saved {
            x: tracked[1].then_some(x),
            w: tracked[0].then_some(w),
            slope,
        };
        (y, saved)
    }

    fn backward(
        &self,
        saved: Saved,
        gradient: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N] {
        let [rows, outputs] = dims::<2>(&gradient);
        let with_b = wanted.get(2) == Some(&true);
        let w = saved.w.as_ref().filter(|_| wanted[0]);
        let inputs = w.map_or(0, |w| dims::<2>(w)[0]);
        // A gradient that stays as it is need not be copied if others hold it, too.
        let (kept, mut changed) = match saved.slope {
            Some(_) => (None, into_values(gradient)),
            None => (Some(gradient), Vec::new()),
        };
        let kept = kept.as_ref().map(values);
        let rule = saved.slope.as_ref().map(|slope| Slope {
            values: values(slope),
            relu: self.0 == Activation::Relu,
        });
        let dy = Gradient {
            kept,
            changed: &mut changed,
            outputs,
        };
        let (dx, db) = row_pass(dy, rows, rule, w, with_b);
        let dy = kept.unwrap_or(&changed);
        let dw = saved.x.filter(|_| wanted[1]).map(|x| {
            let inputs = dims::<2>(&x)[1];
            let x = Matrix::new(values(&x), rows, inputs).transposed();
            let dw = multiply(x, Matrix::new(dy, rows, outputs));
            tensor(dw, [inputs, outputs])
        });
        let mut results = [
            dx.map(|dx| tensor(dx, [rows, inputs])),
            dw,
            with_b.then(|| tensor(db, [outputs])),
        ]
        .into_iter();
        std::array::from_fn(|_| results.next().flatten())
    }
}

/// Weights may lie transposed, as those of an output layer that is tied to the embedding do.
fn weights(w: &FlexTensor) -> Matrix<'_> {
    let [inputs, outputs] = dims::<2>(w);
    match w.as_slice::<f32>() {
        Some(values) => Matrix::new(values, inputs, outputs),
        None => {
            let layout = w.layout();
            let start = layout.start_offset();
            let storage = &w.storage::<f32>()[start..start + inputs * outputs];
            Matrix::new(storage, outputs, inputs).transposed()
        }
    }
}

/// The weights as [`weights`] reads them.
fn readable(w: FlexTensor) -> FlexTensor {
    let [inputs, _] = dims::<2>(&w);
    let layout = w.layout();
    if layout.is_contiguous() || layout.strides() == [1, inputs as isize] {
        w
    } else {
        w.to_contiguous()
    }
}

/// The output, and the derivative of the activation if it is wanted.
fn forward(
    x: &FlexTensor,
    w: &FlexTensor,
    b: Option<&FlexTensor>,
    activation: Activation,
    with_slope: bool,
) -> (Vec<f32>, Option<Vec<f32>>) {
    let w = readable(w.clone());
    let ([rows, inputs], w) = (dims::<2>(x), weights(&w));
    let (x, b) = (Matrix::new(values(x), rows, inputs), b.map(values));
    let outputs = w.cols;
    let mut y = vec![0.0; rows * outputs];
    let mut slope = vec![0.0; if with_slope { y.len() } else { 0 }];
    let work = 2 * inputs * outputs;
    by_rows(
        rows,
        work,
        [&mut y, &mut slope],
        |first, rows, [y, slope]| {
            multiply_into(y, outputs, x.some_rows(first, rows), w, 1.0, false);
            Arch::new().dispatch(Epilogue {
                y,
                slope,
                b,
                outputs,
                activation,
            });
        },
    );
    (y, with_slope.then_some(slope))
}

/// Bias, activation and its derivative, over rows that were just computed.
struct Epilogue<'a> {
    y: &'a mut [f32],
    /// Empty, or as long as y.
    slope: &'a mut [f32],
    b: Option<&'a [f32]>,
    outputs: usize,
    activation: Activation,
}

impl NullaryFnOnce for Epilogue<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        if let Some(b) = self.b {
            for y in self.y.chunks_exact_mut(self.outputs) {
                for (y, b) in y.iter_mut().zip(b) {
                    *y += b;
                }
            }
        }
        let (y, slope) = (self.y, self.slope);
        match self.activation {
            Activation::Identity => {}
            Activation::Relu => {
                for y in y {
                    // Not `max`, which would hide NaN.
                    *y = if *y < 0.0 { 0.0 } else { *y };
                }
            }
            Activation::Gelu => both(y, slope, gelu),
            Activation::GeluTanh => both(y, slope, gelu_tanh),
        }
    }
}

/// Replaces values by those of a function, and notes its derivatives if there is room for them.
#[inline(always)]
fn both(y: &mut [f32], slope: &mut [f32], function: impl Fn(f32) -> (f32, f32)) {
    if slope.is_empty() {
        for y in y {
            *y = function(*y).0;
        }
    } else {
        for (y, slope) in y.iter_mut().zip(slope) {
            (*y, *slope) = function(*y);
        }
    }
}

/// x Φ(x) and its derivative.
#[inline(always)]
pub(super) fn gelu(x: f32) -> (f32, f32) {
    let (below, density) = math::normal(x);
    (x * below, below + x * density)
}

/// x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2 and its derivative.
#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    const SCALE: f32 = 0.797_884_6;
    const CUBIC: f32 = 0.044_715;
    let square = x * x;
    let tanh = math::tanh(SCALE * x * (1.0 + CUBIC * square));
    let half = 0.5 + 0.5 * tanh;
    let inner = SCALE * (1.0 + 3.0 * CUBIC * square);
    (x * half, half + 0.5 * x * (1.0 - tanh * tanh) * inner)
}

/// The gradient of the output: as it came, or to be changed to that before the activation.
struct Gradient<'a> {
    kept: Option<&'a [f32]>,
    /// Empty if it is kept.
    changed: &'a mut [f32],
    outputs: usize,
}

/// The derivative of the activation.
#[derive(Clone, Copy)]
struct Slope<'a> {
    values: &'a [f32],
    /// Whether it is 1 where `values` is above zero, and 0 elsewhere.
    relu: bool,
}

/// Turns the gradient of the output into that before the activation, computes the gradient of the
/// input, if w is given, and adds up the columns, if that is wanted; each thread for its rows.
fn row_pass(
    gradient: Gradient<'_>,
    rows: usize,
    slope: Option<Slope<'_>>,
    w: Option<&FlexTensor>,
    with_b: bool,
) -> (Option<Vec<f32>>, Vec<f32>) {
    let Gradient {
        kept,
        changed,
        outputs,
    } = gradient;
    let w = w.map(|w| readable(w.clone()));
    let w = w.as_ref().map(|w| weights(w).transposed());
    let inputs = w.map_or(0, |w| w.cols);
    let mut dx = vec![0.0; rows * inputs];
    let work = outputs * (2 * inputs + 4);
    let sums = by_rows(rows, work, [changed, &mut dx], |first, rows, [dy, dx]| {
        let (begin, len) = (first * outputs, rows * outputs);
        if let Some(Slope { values, relu }) = slope {
            let slope = &values[begin..][..len];
            Arch::new().dispatch(Prologue { dy, slope, relu });
        }
        let dy = kept.map_or(&*dy, |kept| &kept[begin..][..len]);
        let mut sums = vec![0.0; if with_b { outputs } else { 0 }];
        Arch::new().dispatch(Columns {
            values: dy,
            sums: &mut sums,
        });
        if let Some(w) = w {
            multiply_into(dx, inputs, Matrix::new(dy, rows, outputs), w, 1.0, false);
        }
        sums
    });
    (w.map(|_| dx), total(sums))
}

/// The sum of vectors of one length, in their order.
pub(super) fn total(vectors: Vec<Vec<f32>>) -> Vec<f32> {
    let mut vectors = vectors.into_iter();
    let mut total = vectors.next().unwrap_or_default();
    for vector in vectors {
        for (total, value) in total.iter_mut().zip(vector) {
            *total += value;
        }
    }
    total
}

/// What comes before the products on the way back.
struct Prologue<'a> {
    dy: &'a mut [f32],
    slope: &'a [f32],
    relu: bool,
}

impl NullaryFnOnce for Prologue<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        if self.relu {
            for (dy, slope) in self.dy.iter_mut().zip(self.slope) {
                *dy = if *slope > 0.0 { *dy } else { 0.0 };
            }
        } else {
            for (dy, slope) in self.dy.iter_mut().zip(self.slope) {
                *dy *= slope;
            }
        }
    }
}

/// Adds rows up.
struct Columns<'a> {
    values: &'a [f32],
    /// Empty if they are not wanted.
    sums: &'a mut [f32],
}

impl NullaryFnOnce for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        if self.sums.is_empty() {
            return;
        }
        for row in self.values.chunks_exact(self.sums.len()) {
            for (sum, value) in self.sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}

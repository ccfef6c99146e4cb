//! Convolution of 3x3, relu and 2x2 max pooling as one operation.
//!
//! Inside, an image is stored pixel after pixel, each with all its channels, with a border of zeros:
//! then what a row of the kernel sees of three pixels lies in one piece, and sums of many channels
//! are made side by side in wide registers, without copying the image into columns. Each tile of
//! 2x2 pixels is pooled in the registers in which it was computed. The output keeps that order of
//! values; as a tensor it has the usual order of dimensions, by its strides.

use burn_flex::FlexTensor;
use pulp::Arch;

use super::conv_kernels::{Pool, Scatter, Spread, Weigh, lanes};
use super::fused::{Fused, contiguous, dims, tensor, values};
use super::linear::total;
use super::matmul::by_rows;

/// [`conv3x3_relu_pool`](super::conv3x3_relu_pool) of x, w and b.
#[derive(Debug, Clone)]
pub(super) struct Conv;

/// What the way back needs.
#[derive(Debug, Clone)]
pub(super) struct Saved {
    x: FlexTensor,
    w: FlexTensor,
    /// For each output which pixel of the tile it came from, 0 to 3 row by row; below zero if the
    /// relu held it back.
    chosen: Vec<f32>,
}

impl Fused<3> for Conv {
    type Saved = Saved;

    /// Gradients come in the order of the output's values, or in another.
    const CONTIGUOUS: bool = false;

    fn forward(&self, [x, w, b]: [FlexTensor; 3], _: [bool; 3]) -> (FlexTensor, Saved) {
        let (x, w, b) = (readable(x), contiguous(w), contiguous(b));
        let shape = Shape::of(&x, &w);
        let [height, width] = [shape.height / 2, shape.width / 2];
        let len = height * width * shape.outputs;
        let packed = shape.packed(values(&w));
        let mut bias = values(&b).to_vec();
        bias.resize(shape.outputs.next_multiple_of(2 * lanes()), 0.0);
        let mut y = vec![0.0; shape.batch * len];
        let mut chosen = vec![0.0; shape.batch * len];
        let targets = [&mut y[..], &mut chosen];
        by_rows(
            shape.batch,
            shape.work(),
            targets,
            |first, images, [y, chosen]| {
                let mut padded = vec![0.0; shape.padded_len(shape.inputs)];
                for i in 0..images {
                    shape.pad(&x, first + i, &mut padded);
                    Arch::new().dispatch(Pool {
                        padded: &padded,
                        inputs: shape.inputs,
                        pitch: shape.pitch(),
                        tiles: [height, width],
                        weights: &packed,
                        bias: &bias,
                        outputs: shape.outputs,
                        y: &mut y[i * len..][..len],
                        chosen: &mut chosen[i * len..][..len],
                    });
                }
            },
        );
        let y = channels_first(y, [shape.batch, height, width, shape.outputs]);
        (y, Saved { x, w, chosen })
    }

    fn backward(
        &self,
        saved: Saved,
        gradient: FlexTensor,
        wanted: [bool; 3],
    ) -> [Option<FlexTensor>; 3] {
        let gradient = readable(gradient);
        let shape = Shape::of(&saved.x, &saved.w);
        // Channels of the output, filled up with zeros to whole registers.
        let outputs = shape.outputs.next_multiple_of(2 * lanes());
        let turned = if wanted[0] {
            shape.turned(values(&saved.w), outputs)
        } else {
            Vec::new()
        };
        let image = shape.height * shape.width * shape.inputs;
        let mut dx = vec![0.0; if wanted[0] { shape.batch * image } else { 0 }];
        let sums = by_rows(
            shape.batch,
            2 * shape.work(),
            [&mut dx],
            |first, images, [dx]| {
                let mut back = Back::new(&shape, outputs);
                for i in 0..images {
                    back.scatter(&shape, &gradient, &saved.chosen, first + i);
                    back.weigh(&shape, &saved.x, first + i);
                    if wanted[0] {
                        back.spread(&shape, &turned, &mut dx[i * image..][..image]);
                    }
                }
                back.sums
            },
        );
        let mut dw = total(sums);
        dw.resize((9 * shape.inputs + 1) * outputs, 0.0);
        let db = dw[9 * shape.inputs * outputs..][..shape.outputs].to_vec();
        let dw = shape.unpacked(&dw, outputs);
        let dims = [shape.batch, shape.height, shape.width, shape.inputs];
        [
            wanted[0].then(|| channels_first(dx, dims)),
            wanted[1].then(|| tensor(dw, [shape.outputs, shape.inputs, 3, 3])),
            wanted[2].then(|| tensor(db, [shape.outputs])),
        ]
    }
}

/// The buffers of one thread on the way back.
struct Back {
    padded: Vec<f32>,
    /// The gradient before the relu, with a border of zeros.
    dz: Vec<f32>,
    /// The gradient of one image's outputs, pixel after pixel.
    gradient: Vec<f32>,
    /// Of the weights, then of the bias: rows of all outputs.
    sums: Vec<f32>,
    outputs: usize,
}

impl Back {
    fn new(shape: &Shape, outputs: usize) -> Self {
        let pixels = (shape.height / 2) * (shape.width / 2);
        Self {
            padded: vec![0.0; shape.padded_len(shape.inputs)],
            dz: vec![0.0; shape.padded_len(outputs)],
            gradient: vec![0.0; pixels * shape.outputs],
            sums: vec![0.0; (9 * shape.inputs + 1) * outputs],
            outputs,
        }
    }

    fn scatter(&mut self, shape: &Shape, gradient: &FlexTensor, chosen: &[f32], image: usize) {
        copy_image(gradient, image, |pixel, channel, value| {
            self.gradient[pixel * shape.outputs + channel] = value;
        });
        let len = self.gradient.len();
        Arch::new().dispatch(Scatter {
            gradient: &self.gradient,
            chosen: &chosen[image * len..][..len],
            channels: shape.outputs,
            tiles: [shape.height / 2, shape.width / 2],
            pitch: shape.pitch(),
            dz: &mut self.dz,
            channels_padded: self.outputs,
            sums: &mut self.sums[9 * shape.inputs * self.outputs..],
        });
    }

    fn weigh(&mut self, shape: &Shape, x: &FlexTensor, image: usize) {
        shape.pad(x, image, &mut self.padded);
        Arch::new().dispatch(Weigh {
            padded: &self.padded,
            inputs: shape.inputs,
            pitch: shape.pitch(),
            // The rest of the gradient is zero.
            pixels: [shape.height & !1, shape.width & !1],
            dz: &self.dz,
            outputs: self.outputs,
            sums: &mut self.sums,
        });
    }

    fn spread(&self, shape: &Shape, turned: &[f32], dx: &mut [f32]) {
        Arch::new().dispatch(Spread {
            dz: &self.dz,
            outputs: self.outputs,
            pitch: shape.pitch(),
            weights: turned,
            size: [shape.height, shape.width],
            inputs: shape.inputs,
            dx,
        });
    }
}

/// The sizes of one convolution.
#[derive(Debug, Clone, Copy)]
struct Shape {
    batch: usize,
    inputs: usize,
    outputs: usize,
    height: usize,
    width: usize,
}

impl Shape {
    fn of(x: &FlexTensor, w: &FlexTensor) -> Self {
        let [batch, inputs, height, width] = dims::<4>(x);
        let [outputs, of_w, 3, 3] = dims::<4>(w) else {
            unreachable!("the kernel is 3x3");
        };
        assert_eq!(of_w, inputs, "channels of image and kernel");
        Self {
            batch,
            inputs,
            outputs,
            height,
            width,
        }
    }

    /// Pixels of a padded row: an even number for whole tiles, and the border.
    fn pitch(&self) -> usize {
        self.width.next_multiple_of(2) + 2
    }

    fn padded_len(&self, channels: usize) -> usize {
        (self.height.next_multiple_of(2) + 2) * self.pitch() * channels
    }

    /// Operations for an image.
    fn work(&self) -> usize {
        18 * self.inputs * self.outputs * self.height * self.width
    }

    /// Copies an image into the middle; the border stays as it is.
    fn pad(&self, x: &FlexTensor, image: usize, padded: &mut [f32]) {
        let (width, pitch, channels) = (self.width, self.pitch(), self.inputs);
        copy_image(x, image, |pixel, channel, value| {
            let at = (pixel / width + 1) * pitch + pixel % width + 1;
            padded[at * channels + channel] = value;
        });
    }

    /// The weights in blocks of as many outputs as two registers hold, in a block row after row
    /// of the kernel, in it pixel after pixel, and in that input after input.
    fn packed(&self, w: &[f32]) -> Vec<f32> {
        let block = 2 * lanes();
        let rows = 9 * self.inputs;
        let mut packed = vec![0.0; self.outputs.div_ceil(block) * rows * block];
        for (i, w) in w.iter().enumerate() {
            let (output, input, place) = (i / rows, i / 9 % self.inputs, i % 9);
            let row = place * self.inputs + input;
            packed[(output / block * rows + row) * block + output % block] = *w;
        }
        packed
    }

    /// The weights for the way back, inputs and outputs exchanged, the kernel turned by half a
    /// turn; for `outputs` outputs, of which the last have weights of zero.
    fn turned(&self, w: &[f32], outputs: usize) -> Vec<f32> {
        let block = 2 * lanes();
        let rows = 9 * outputs;
        let mut packed = vec![0.0; self.inputs.div_ceil(block) * rows * block];
        for (i, w) in w.iter().enumerate() {
            let (output, input, place) = (i / 9 / self.inputs, i / 9 % self.inputs, i % 9);
            let row = (8 - place) * outputs + output;
            packed[(input / block * rows + row) * block + input % block] = *w;
        }
        packed
    }

    /// From rows of all outputs to the order of w.
    fn unpacked(&self, rows: &[f32], outputs: usize) -> Vec<f32> {
        let len = 9 * self.inputs * self.outputs;
        let weight = |i: usize| {
            let (output, input, place) = (i / 9 / self.inputs, i / 9 % self.inputs, i % 9);
            rows[(place * self.inputs + input) * outputs + output]
        };
        (0..len).map(weight).collect()
    }
}

/// Whether [`copy_image`] can read it, or its copy.
fn readable(tensor: FlexTensor) -> FlexTensor {
    if tensor.layout().strides().iter().all(|&stride| stride > 0) {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// Calls `put(pixel, channel, value)` for all values of one image of a tensor of batch, channels,
/// height and width.
#[inline(always)]
fn copy_image(tensor: &FlexTensor, image: usize, mut put: impl FnMut(usize, usize, f32)) {
    let [_, channels, height, width] = dims::<4>(tensor);
    let layout = tensor.layout();
    let [of_image, of_channel, of_row, of_column] =
        std::array::from_fn(|i| layout.strides()[i] as usize);
    let all: &[f32] = tensor.storage();
    let start = layout.start_offset() + image * of_image;
    if of_channel == 1 {
        for pixel in 0..height * width {
            let from = start + pixel / width * of_row + pixel % width * of_column;
            for (channel, value) in all[from..][..channels].iter().enumerate() {
                put(pixel, channel, *value);
            }
        }
        return;
    }
    for channel in 0..channels {
        for pixel in 0..height * width {
            let from = pixel / width * of_row + pixel % width * of_column;
            put(pixel, channel, all[start + channel * of_channel + from]);
        }
    }
}

/// A tensor of batch, channels, height and width whose values are in another order.
fn channels_first(values: Vec<f32>, shape: [usize; 4]) -> FlexTensor {
    tensor(values, shape).permute(&[0, 3, 1, 2])
}

//! The loops of [`conv`](super::conv), on registers of the machine's width.

use pulp::{Arch, Simd, WithSimd};

/// Values in a register.
pub(super) fn lanes() -> usize {
    Arch::new().dispatch(Lanes)
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// Two registers: as many channels as a tile has at a time.
type Pair<S> = [<S as Simd>::f32s; 2];

/// What a 3x3 kernel makes of the four pixels of a tile whose windows begin at `corners`, for the
/// outputs of one block of weights.
#[inline(always)]
fn tile<S: Simd>(
    simd: S,
    padded: &[f32],
    corners: [usize; 4],
    row: usize,
    weights: &[Pair<S>],
) -> [Pair<S>; 4] {
    let run = weights.len() / 3;
    let mut sums = [[simd.splat_f32s(0.0); 2]; 4];
    for (ky, weights) in weights.chunks_exact(run).enumerate() {
        let [a, b, c, d] = corners.map(|corner| &padded[corner + ky * row..][..run]);
        let values = a.iter().zip(b).zip(c).zip(d);
        for ((((a, b), c), d), w) in values.zip(weights) {
            for (sum, value) in sums.iter_mut().zip([a, b, c, d]) {
                let value = simd.splat_f32s(*value);
                sum[0] = simd.mul_add_e_f32s(value, w[0], sum[0]);
                sum[1] = simd.mul_add_e_f32s(value, w[1], sum[1]);
            }
        }
    }
    sums
}

/// Where the windows of a tile's four pixels begin.
#[inline(always)]
fn corners(y: usize, x: usize, pitch: usize, channels: usize) -> [usize; 4] {
    [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(dy, dx)| ((2 * y + dy) * pitch + 2 * x + dx) * channels)
}

/// Writes as many of the values as there is room for.
#[inline(always)]
fn store<S: Simd>(pair: Pair<S>, target: &mut [f32]) {
    let pair = [pair];
    let values: &[f32] = bytemuck::cast_slice(&pair);
    let len = target.len().min(values.len());
    target[..len].copy_from_slice(&values[..len]);
}

/// Forward: convolution, bias, relu, pooling.
pub(super) struct Pool<'a> {
    pub(super) padded: &'a [f32],
    pub(super) inputs: usize,
    pub(super) pitch: usize,
    pub(super) tiles: [usize; 2],
    pub(super) weights: &'a [f32],
    /// Filled up to whole blocks.
    pub(super) bias: &'a [f32],
    pub(super) outputs: usize,
    pub(super) y: &'a mut [f32],
    pub(super) chosen: &'a mut [f32],
}

impl WithSimd for Pool<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (weights, bias) = (pairs::<S>(self.weights), pairs::<S>(self.bias));
        let row = self.pitch * self.inputs;
        let [height, width] = self.tiles;
        let block = 2 * S::F32_LANES;
        for (block_at, (weights, bias)) in
            weights.chunks_exact(9 * self.inputs).zip(bias).enumerate()
        {
            let first = block_at * block;
            let count = block.min(self.outputs - first);
            for at in 0..height * width {
                let corners = corners(at / width, at % width, self.pitch, self.inputs);
                let sums = tile(simd, self.padded, corners, row, weights);
                let (y, chosen) = pooled(simd, sums, *bias);
                let to = at * self.outputs + first;
                store::<S>(y, &mut self.y[to..to + count]);
                store::<S>(chosen, &mut self.chosen[to..to + count]);
            }
        }
    }
}

/// The largest of four with the bias after the relu, and which it is.
#[inline(always)]
fn pooled<S: Simd>(simd: S, sums: [Pair<S>; 4], bias: Pair<S>) -> (Pair<S>, Pair<S>) {
    let (mut y, mut chosen) = (sums[0], [simd.splat_f32s(0.0); 2]);
    let (zero, none) = (simd.splat_f32s(0.0), simd.splat_f32s(-1.0));
    for half in 0..2 {
        for (number, sum) in [1.0, 2.0, 3.0].into_iter().zip(&sums[1..]) {
            let larger = simd.less_than_f32s(y[half], sum[half]);
            y[half] = simd.select_f32s(larger, sum[half], y[half]);
            chosen[half] = simd.select_f32s(larger, simd.splat_f32s(number), chosen[half]);
        }
        y[half] = simd.add_f32s(y[half], bias[half]);
        // What is not a number stays so, for all to see.
        let below = simd.less_than_f32s(y[half], zero);
        y[half] = simd.select_f32s(below, zero, y[half]);
        let above = simd.less_than_f32s(zero, y[half]);
        chosen[half] = simd.select_f32s(above, chosen[half], none);
    }
    (y, chosen)
}

/// Values as pairs of registers.
#[inline(always)]
fn pairs<S: Simd>(values: &[f32]) -> &[Pair<S>] {
    S::as_simd_f32s(values).0.as_chunks::<2>().0
}

/// Backward: puts the gradients of one image's outputs where they came from, and adds them up.
pub(super) struct Scatter<'a> {
    pub(super) gradient: &'a [f32],
    pub(super) chosen: &'a [f32],
    pub(super) channels: usize,
    pub(super) tiles: [usize; 2],
    pub(super) pitch: usize,
    pub(super) dz: &'a mut [f32],
    pub(super) channels_padded: usize,
    pub(super) sums: &'a mut [f32],
}

impl WithSimd for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let channels = self.channels;
        let width = self.tiles[1];
        let outputs = self.gradient.chunks_exact(channels);
        for (at, (gradient, chosen)) in outputs.zip(self.chosen.chunks_exact(channels)).enumerate()
        {
            // The windows' middles: one pixel further down and to the right.
            let corners = corners(at / width, at % width, self.pitch, self.channels_padded)
                .map(|corner| corner + (self.pitch + 1) * self.channels_padded);
            for (number, corner) in [0.0, 1.0, 2.0, 3.0].into_iter().zip(corners) {
                let dz = &mut self.dz[corner..corner + channels];
                for ((dz, gradient), chosen) in dz.iter_mut().zip(gradient).zip(chosen) {
                    *dz = if *chosen == number { *gradient } else { 0.0 };
                }
            }
            for ((sum, gradient), chosen) in self.sums.iter_mut().zip(gradient).zip(chosen) {
                *sum += if *chosen >= 0.0 { *gradient } else { 0.0 };
            }
        }
    }
}

/// Backward: adds one image's gradient of the weights.
pub(super) struct Weigh<'a> {
    pub(super) padded: &'a [f32],
    pub(super) inputs: usize,
    pub(super) pitch: usize,
    pub(super) pixels: [usize; 2],
    pub(super) dz: &'a [f32],
    /// Whole blocks.
    pub(super) outputs: usize,
    /// A row of outputs for each place of the kernel and input.
    pub(super) sums: &'a mut [f32],
}

impl WithSimd for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let rows = 9 * self.inputs;
        for first in (0..self.outputs).step_by(2 * S::F32_LANES) {
            let mut row = 0;
            while row < rows {
                row += match rows - row {
                    1 => self.some_rows::<S, 1>(simd, row, first),
                    2 => self.some_rows::<S, 2>(simd, row, first),
                    3 => self.some_rows::<S, 3>(simd, row, first),
                    4 => self.some_rows::<S, 4>(simd, row, first),
                    5 => self.some_rows::<S, 5>(simd, row, first),
                    _ => self.some_rows::<S, 6>(simd, row, first),
                };
            }
        }
    }
}

impl Weigh<'_> {
    /// R rows and one block of outputs, whose sums stay in registers for the whole image.
    #[inline(always)]
    fn some_rows<S: Simd, const R: usize>(&mut self, simd: S, row: usize, first: usize) -> usize {
        let [height, width] = self.pixels;
        let (inputs, outputs, pitch) = (self.inputs, self.outputs, self.pitch);
        // Three pixels of inputs are in one piece.
        let offsets: [usize; R] = std::array::from_fn(|i| {
            let row = row + i;
            row / (3 * inputs) * pitch * inputs + row % (3 * inputs)
        });
        let mut sums = [[simd.splat_f32s(0.0); 2]; R];
        for y in 0..height {
            let dz = &self.dz[((y + 1) * pitch + 1) * outputs + first..];
            let span = (width - 1) * inputs + 1;
            let values = offsets.map(|offset| &self.padded[y * pitch * inputs + offset..][..span]);
            for x in 0..width {
                let dz = pairs::<S>(&dz[x * outputs..][..2 * S::F32_LANES])[0];
                for (sum, values) in sums.iter_mut().zip(values) {
                    let value = simd.splat_f32s(values[x * inputs]);
                    sum[0] = simd.mul_add_e_f32s(value, dz[0], sum[0]);
                    sum[1] = simd.mul_add_e_f32s(value, dz[1], sum[1]);
                }
            }
        }
        for (i, sum) in sums.iter().enumerate() {
            let target = &mut self.sums[(row + i) * outputs + first..][..2 * S::F32_LANES];
            let before = pairs::<S>(target)[0];
            let after = [
                simd.add_f32s(before[0], sum[0]),
                simd.add_f32s(before[1], sum[1]),
            ];
            store::<S>(after, target);
        }
        R
    }
}

/// Backward: one image's gradient of the input.
pub(super) struct Spread<'a> {
    pub(super) dz: &'a [f32],
    pub(super) outputs: usize,
    pub(super) pitch: usize,
    pub(super) weights: &'a [f32],
    pub(super) size: [usize; 2],
    pub(super) inputs: usize,
    pub(super) dx: &'a mut [f32],
}

impl WithSimd for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let weights = pairs::<S>(self.weights);
        let row = self.pitch * self.outputs;
        let [height, width] = self.size;
        let tiles = width.div_ceil(2);
        let block = 2 * S::F32_LANES;
        for (block_at, weights) in weights.chunks_exact(9 * self.outputs).enumerate() {
            let first = block_at * block;
            let count = block.min(self.inputs - first);
            for at in 0..height.div_ceil(2) * tiles {
                let (y, x) = (at / tiles, at % tiles);
                let corners = corners(y, x, self.pitch, self.outputs);
                let sums = tile(simd, self.dz, corners, row, weights);
                for (place, sum) in sums.into_iter().enumerate() {
                    let (y, x) = (2 * y + place / 2, 2 * x + place % 2);
                    if y < height && x < width {
                        let to = (y * width + x) * self.inputs + first;
                        store::<S>(sum, &mut self.dx[to..to + count]);
                    }
                }
            }
        }
    }
}

//! The gate of a feed-forward layer, and rotary positions: element by element.

use std::sync::{Arc, Mutex, PoisonError};

use burn_flex::FlexTensor;
use pulp::{Arch, NullaryFnOnce};

use super::fused::{Fused, contiguous, dims, into_values, tensor, values};
use super::math;
use super::matmul::by_rows;
use super::plain::rotations;

/// [`swiglu`](super::swiglu) of gate and up.
#[derive(Debug, Clone)]
pub(super) struct Swiglu;

impl Fused<2> for Swiglu {
    type Saved = [FlexTensor; 2];

    fn forward(&self, inputs: [FlexTensor; 2], _: [bool; 2]) -> (FlexTensor, Self::Saved) {
        let inputs = inputs.map(contiguous);
        let [gate, up] = inputs.each_ref().map(values);
        let mut y = vec![0.0; gate.len()];
        by_rows(y.len(), 20, [&mut y], |at, len, [y]| {
            let (gate, up) = (&gate[at..at + len], &up[at..at + len]);
            Arch::new().dispatch(Gate { gate, up, y });
        });
        (tensor(y, dims::<2>(&inputs[0])), inputs)
    }

    fn backward(
        &self,
        saved: Self::Saved,
        gradient: FlexTensor,
        wanted: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let shape = dims::<2>(&gradient);
        let [gate, up] = saved.each_ref().map(values);
        let mut of_gate = into_values(gradient);
        let mut of_up = vec![0.0; of_gate.len()];
        let targets = [&mut of_gate[..], &mut of_up];
        by_rows(gate.len(), 30, targets, |at, len, [of_gate, of_up]| {
            let (gate, up) = (&gate[at..at + len], &up[at..at + len]);
            Arch::new().dispatch(GateBack {
                gate,
                up,
                of_gate,
                of_up,
            });
        });
        let results = [(wanted[0], of_gate), (wanted[1], of_up)];
        results.map(|(wanted, values)| wanted.then(|| tensor(values, shape)))
    }
}

struct Gate<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    y: &'a mut [f32],
}

impl NullaryFnOnce for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for ((y, gate), up) in self.y.iter_mut().zip(self.gate).zip(self.up) {
            *y = silu(*gate).0 * up;
        }
    }
}

struct GateBack<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    /// The gradient of the output at first.
    of_gate: &'a mut [f32],
    of_up: &'a mut [f32],
}

impl NullaryFnOnce for GateBack<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let inputs = self.gate.iter().zip(self.up);
        for ((of_gate, of_up), (gate, up)) in self.of_gate.iter_mut().zip(self.of_up).zip(inputs) {
            let (value, slope) = silu(*gate);
            *of_up = *of_gate * value;
            *of_gate *= up * slope;
        }
    }
}

/// x σ(x) and its derivative.
#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let sigmoid = math::sigmoid(x);
    (x * sigmoid, sigmoid + x * sigmoid * (1.0 - sigmoid))
}

/// [`rope`](super::rope).
#[derive(Debug, Clone)]
pub(super) struct Rope {
    pub(super) heads: usize,
    pub(super) frequencies: Arc<[f64]>,
}

impl Fused<1> for Rope {
    type Saved = ();

    fn forward(&self, [x]: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, ()) {
        (self.turned(contiguous(x), 1.0), ())
    }

    fn backward(&self, (): (), gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(self.turned(gradient, -1.0))]
    }
}

impl Rope {
    /// In one direction or, with a sign of -1, back.
    fn turned(&self, x: FlexTensor, sign: f32) -> FlexTensor {
        let shape @ [batch, time, width] = dims::<3>(&x);
        let d = width / self.heads;
        let turns = Turns::of(time, &self.frequencies);
        let mut x = into_values(x);
        by_rows(batch * time, 4 * width, [&mut x], |first, _, [rows]| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                let at = (first + i) % time * (d / 2);
                let turns = turns.cosines[at..at + d / 2]
                    .iter()
                    .zip(&turns.sines[at..at + d / 2]);
                for head in row.chunks_exact_mut(d) {
                    turn(head, turns.clone(), sign);
                }
            }
        });
        tensor(x, shape)
    }
}

fn turn<'a>(head: &mut [f32], turns: impl Iterator<Item = (&'a f32, &'a f32)>, sign: f32) {
    let (low, high) = head.split_at_mut(head.len() / 2);
    for ((a, b), (cosine, sine)) in low.iter_mut().zip(high).zip(turns) {
        let sine = sign * sine;
        (*a, *b) = (*a * cosine - *b * sine, *a * sine + *b * cosine);
    }
}

/// Cosine and sine of each position and pair.
#[derive(Debug)]
struct Turns {
    time: usize,
    frequencies: Arc<[f64]>,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Turns {
    /// All layers of a model want the same, so the last are kept.
    fn of(time: usize, frequencies: &Arc<[f64]>) -> Arc<Self> {
        static LAST: Mutex<Option<Arc<Turns>>> = Mutex::new(None);
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = last.as_ref()
            && (turns.time, &turns.frequencies) == (time, frequencies)
        {
            return turns.clone();
        }
        let (cosines, sines) = rotations(time, frequencies);
        let turns = Arc::new(Self {
            time,
            frequencies: frequencies.clone(),
            cosines,
            sines,
        });
        *last = Some(turns.clone());
        turns
    }
}

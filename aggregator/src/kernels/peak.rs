//! What the processor can do at most.

use std::hint::black_box;
use std::time::Instant;

use super::lanes::{LANES, Lanes, OnLanes, run_on_lanes};

/// Fused multiplications and additions of f32 that all threads of the pool do in a second, each
/// counted as two operations. Takes about a tenth of a second.
#[must_use]
pub fn fma_peak_flops() -> f64 {
    let rates = rayon::broadcast(|_| {
        let mut sums = [[0.5; LANES]; CHAINS];
        let mut best = 0f64;
        for _ in 0..5 {
            let start = Instant::now();
            run_on_lanes(Chains { sums: &mut sums });
            let operations = (2 * CHAINS * LANES * STEPS) as f64;
            best = best.max(operations / start.elapsed().as_secs_f64());
        }
        black_box(sums);
        best
    });
    rates.iter().sum()
}

/// Enough to hide the time from an operation to its result.
const CHAINS: usize = 12;
const STEPS: usize = 500_000;

struct Chains<'a> {
    sums: &'a mut [[f32; LANES]; CHAINS],
}

impl OnLanes for Chains<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let factor = l.load(&black_box([0.999; LANES]));
        let term = l.load(&black_box([0.001; LANES]));
        let mut sums = [term; CHAINS];
        for (sum, start) in sums.iter_mut().zip(&*self.sums) {
            *sum = l.load(start);
        }
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = l.mul_add(*sum, factor, term);
            }
        }
        for (end, sum) in self.sums.iter_mut().zip(sums) {
            *end = l.store(sum);
        }
    }
}

//! Cross-entropy whose gradient is there as soon as the loss is, in the memory of the logits.

use std::sync::Arc;

use burn_flex::FlexTensor;
use pulp::NullaryFnOnce;

use super::fused::{Fused, contiguous, dims, into_values, tensor, values};
use super::math;
use super::matmul::by_rows;

/// [`cross_entropy`](super::cross_entropy) of the logits.
#[derive(Debug, Clone)]
pub(super) struct CrossEntropy {
    /// Each below the number of classes.
    pub(super) targets: Arc<[usize]>,
    pub(super) weights: Arc<[f32]>,
}

impl Fused<1> for CrossEntropy {
    /// The gradient of the logits for a gradient of one.
    type Saved = FlexTensor;

    fn forward(&self, [logits]: [FlexTensor; 1], [tracked]: [bool; 1]) -> (FlexTensor, FlexTensor) {
        let [rows, classes] = dims::<2>(&logits);
        assert_eq!(self.targets.len(), rows, "one target for each row");
        assert_eq!(self.weights.len(), rows, "one weight for each row");
        let out_of_range = self.targets.iter().find(|&&target| target >= classes);
        assert_eq!(out_of_range, None, "targets are below {classes}");
        let mut logits = into_values(contiguous(logits));
        let mut losses = vec![0.0; rows];
        let targets = [&mut logits[..], &mut losses];
        by_rows(
            rows,
            8 * classes,
            targets,
            |first, rows, [logits, losses]| {
                pulp::Arch::new().dispatch(Rows {
                    logits,
                    losses,
                    targets: &self.targets[first..first + rows],
                    weights: &self.weights[first..first + rows],
                    tracked,
                });
            },
        );
        let loss: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
        let saved = if tracked { logits } else { Vec::new() };
        let shape = [saved.len() / classes.max(1), classes];
        (tensor(vec![loss as f32], [1]), tensor(saved, shape))
    }

    fn backward(
        &self,
        saved: FlexTensor,
        gradient: FlexTensor,
        _: [bool; 1],
    ) -> [Option<FlexTensor>; 1] {
        let factor = values(&gradient)[0];
        if factor == 1.0 {
            return [Some(saved)];
        }
        let shape = dims::<2>(&saved);
        let mut logits = into_values(saved);
        by_rows(shape[0], shape[1], [&mut logits], |_, _, [logits]| {
            for value in logits {
                *value *= factor;
            }
        });
        [Some(tensor(logits, shape))]
    }
}

struct Rows<'a> {
    /// Become their gradients if those are wanted.
    logits: &'a mut [f32],
    losses: &'a mut [f32],
    targets: &'a [usize],
    weights: &'a [f32],
    tracked: bool,
}

impl NullaryFnOnce for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let classes = self.logits.len() / self.losses.len();
        let rows = self.logits.chunks_exact_mut(classes).zip(self.losses);
        let wanted = self.targets.iter().zip(self.weights);
        for ((logits, loss), (&target, &weight)) in rows.zip(wanted) {
            if weight == 0.0 {
                logits.fill(0.0);
                continue;
            }
            let max = math::max(logits);
            let chosen = logits[target] - max;
            for logit in logits.iter_mut() {
                *logit = math::exp(*logit - max);
            }
            let sum = math::sum(classes, |i| logits[i]);
            *loss = weight * (sum.ln() - chosen);
            if self.tracked {
                let factor = weight / sum;
                for logit in logits.iter_mut() {
                    *logit *= factor;
                }
                logits[target] -= weight;
            }
        }
    }
}

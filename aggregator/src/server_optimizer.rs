//! Server optimizers: what the aggregated delta does to the checkpoint.

use convoke_protocol::task::AggregationSpec;

/// Stochastic gradient descent with momentum, the delta in the place of the negative gradient:
/// FedAvgM of Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for
/// Federated Visual Classification", 2019.
///
/// ```text
/// v ← momentum · v + delta
/// x ← x + server_lr · v
/// ```
///
/// With `server_lr` 1 and momentum 0 the step is the delta itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdMomentum {
    /// Server learning rate.
    pub server_lr: f64,
    /// Share of the last step's direction that is kept, 0 to below 1.
    pub momentum: f64,
}

impl SgdMomentum {
    /// As the task file has it, where the ranges were checked.
    #[must_use]
    pub fn of(spec: &AggregationSpec) -> Self {
        Self {
            server_lr: spec.server_lr,
            momentum: spec.server_momentum,
        }
    }

    /// Whether steps depend on earlier ones.
    #[must_use]
    pub fn has_state(&self) -> bool {
        self.momentum != 0.0
    }

    /// Takes the step of one chunk: `x` is the checkpoint, `v` the momentum, or the delta alone
    /// before the call if there is no earlier one.
    ///
    /// # Shapes
    /// All of one length.
    pub fn step(&self, x: &mut [f32], v: &mut [f32], delta: &[f32]) {
        for ((x, v), delta) in x.iter_mut().zip(v).zip(delta) {
            let direction = self.momentum * f64::from(*v) + f64::from(*delta);
            *v = direction as f32;
            *x = (f64::from(*x) + self.server_lr * f64::from(*v)) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_rate_without_momentum_adds_the_delta() {
        let optimizer = SgdMomentum {
            server_lr: 1.0,
            momentum: 0.0,
        };
        let (mut x, mut v) = ([1.0, 2.0], [9.0, 9.0]);
        optimizer.step(&mut x, &mut v, &[0.5, -0.5]);
        assert_eq!((x, v), ([1.5, 1.5], [0.5, -0.5]));
        assert!(!optimizer.has_state());
    }

    #[test]
    fn momentum_carries_over() {
        let optimizer = SgdMomentum {
            server_lr: 0.5,
            momentum: 0.5,
        };
        let (mut x, mut v) = ([0.0], [0.0]);
        optimizer.step(&mut x, &mut v, &[4.0]);
        optimizer.step(&mut x, &mut v, &[0.0]);
        // v: 4, 2; x: 2, 3
        assert_eq!((x, v), ([3.0], [2.0]));
    }
}

//! Scaling of the loss, so that small gradients do not vanish in f16 (Micikevicius et al. 2018,
//! arXiv:1710.03740, section 3.2).

use crate::device::Precision;

/// What a loss is multiplied by before its gradients are computed, and they are divided by after.
/// A power of two: it rounds nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LossScale {
    factor: f64,
    /// Steps since it last changed.
    steps: u32,
    moves: bool,
}

impl LossScale {
    /// At first 2^16 for f16, and 1 for all else, where it never moves.
    pub(super) fn new(precision: Precision) -> Self {
        let moves = precision == Precision::F16;
        Self {
            factor: if moves { FIRST } else { 1.0 },
            steps: 0,
            moves,
        }
    }

    /// The factor, 1 or more.
    pub(super) fn factor(self) -> f64 {
        self.factor
    }

    /// Whether gradients may overflow for no fault of their own.
    pub(super) fn moves(self) -> bool {
        self.moves
    }

    /// Gradients overflowed: half of it from now on. False if it is 1 already, so that it cannot
    /// be the scale's doing.
    pub(super) fn overflowed(&mut self) -> bool {
        self.steps = 0;
        if self.factor <= 1.0 {
            return false;
        }
        self.factor /= 2.0;
        true
    }

    /// A step was done: after many without an overflow, twice of it.
    pub(super) fn stepped(&mut self) {
        self.steps += 1;
        if self.moves && self.steps >= GROWS_AFTER && self.factor < MOST {
            self.factor *= 2.0;
            self.steps = 0;
        }
    }
}

const FIRST: f64 = 65_536.0;
const MOST: f64 = 16_777_216.0;
/// As torch.amp.GradScaler has it.
const GROWS_AFTER: u32 = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_falls_on_overflow_and_grows_again() {
        let mut scale = LossScale::new(Precision::F16);
        assert!(scale.overflowed());
        assert_eq!(scale.factor(), FIRST / 2.0);
        (0..GROWS_AFTER).for_each(|_| scale.stepped());
        assert_eq!(scale.factor(), FIRST);
        (0..16).for_each(|_| assert!(scale.overflowed()));
        assert!(!scale.overflowed(), "at 1 the gradients are to blame");
    }

    #[test]
    fn other_formats_need_none() {
        let mut scale = LossScale::new(Precision::Bf16);
        (0..2 * GROWS_AFTER).for_each(|_| scale.stepped());
        assert_eq!((scale.factor(), scale.moves()), (1.0, false));
    }
}

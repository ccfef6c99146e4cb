//! Scores and payouts.

use ark_bn254::Fr;

use super::{Round, Transcript};
use crate::builder::{Builder, Num};
use crate::plain::NORM_BITS;
use crate::witness::Witness;

/// ⟨sᵢ, Σ kept s⟩ of every slot, as a magnitude with a sign. That they are is checked at the
/// challenge.
pub(super) struct Rows {
    pub(super) rows: Vec<Num>,
    /// max(0, row)
    pub(super) positive: Vec<Num>,
}

pub(super) fn kept_rows(b: &mut Builder, w: &Witness, transcript: &mut Transcript) -> Rows {
    b.section("scores");
    let width = NORM_BITS + w.size.log2();
    let mut rows = Rows {
        rows: Vec::new(),
        positive: Vec::new(),
    };
    for row in &w.kept_rows {
        let sign = b.bit(*row >= 0);
        let magnitude = b.range(Fr::from(row.unsigned_abs()), width);
        transcript.push(&sign, 1);
        transcript.push(&magnitude, width);
        let positive = b.mul(&sign, &magnitude);
        rows.rows.push(&(&positive * 2) - &magnitude);
        rows.positive.push(positive);
    }
    rows
}

/// payoutᵢ W + remainderᵢ = pool wᵢ with 0 ≤ remainderᵢ < W, for all.
///
/// Nothing wraps: the payouts and the pool are below 2¹²⁸, because they are among the public
/// values, and W is below N² 2³⁶. W is not 0, as there is no remainder below it then.
pub(super) fn payouts(
    b: &mut Builder,
    w: &Witness,
    round: &Round,
    kept: &[Num],
    rows: &Rows,
    transcript: &mut Transcript,
) -> Vec<Num> {
    b.section("payouts");
    let width = WEIGHT_BITS + 2 * w.size.log2();
    let mut weights = Vec::new();
    for (i, kept) in kept.iter().enumerate() {
        let score = b.mul(kept, &rows.positive[i]);
        weights.push(b.mul(&score, &round.factors[i]));
    }
    let total = b.hold(&Num::sum(&weights));
    let mut payouts = Vec::new();
    for (i, weight) in weights.iter().enumerate() {
        let payout = b.witness(Fr::from(w.payouts[i]));
        transcript.raw(&payout);
        let due = b.mul(&round.pool, weight);
        let remainder = b.range(Fr::from(w.remainders[i]), width);
        b.enforce(&payout, &total, &(&due - &remainder));
        let room = &(&total - &remainder) - &Num::one();
        let slack = b.range(room.value, width);
        b.equal(&room, &slack);
        payouts.push(payout);
    }
    payouts
}

/// A score is at most N 2²¹ and a factor below 2¹⁵; there are N of each.
const WEIGHT_BITS: usize = 36;

const _: () = assert!(WEIGHT_BITS == NORM_BITS - 1 + super::FACTOR_BITS);

//! The lower median, without sorting.
//!
//! With c members, `med` is their lower median if some member attains it and the members can be
//! split in a low part of ⌈c / 2⌉, all at most `med` and that member among them, and the rest, all
//! at least `med`. Then at least ⌈c / 2⌉ are at or below, and less than that strictly below,
//! because the rest and the member itself are not: c − (c − ⌈c / 2⌉) − 1 < ⌈c / 2⌉. Conversely a
//! sorted list gives the split, whichever way ties fall.

use ark_bn254::Fr;

use crate::builder::{Builder, Num};

/// Bits that say who is in the low part, none of those that are not members.
pub(super) fn low_members(b: &mut Builder, members: &[Num], low: &[bool]) -> Vec<Num> {
    let low: Vec<Num> = low.iter().map(|low| b.bit(*low)).collect();
    for (low, member) in low.iter().zip(members) {
        b.enforce(low, &(&Num::one() - member), &Num::zero());
    }
    half_of(b, members, &low);
    low
}

/// Σ low = ⌈Σ members / 2⌉: twice the first, less one if the number is odd, is the second.
pub(super) fn half_of(b: &mut Builder, members: &[Num], low: &[Num]) {
    let (members, twice) = (Num::sum(members), &Num::sum(low) * 2);
    let odd = b.bit(twice.value != members.value);
    b.equal(&twice, &(&members + &odd));
}

/// Σ chosen = 1, where the caller forces to 0 whatever may not be chosen. At least one is then
/// not 0, and may be chosen.
pub(super) fn choose(b: &mut Builder, slots: usize, at: usize) -> Vec<Num> {
    let chosen: Vec<Num> = (0..slots).map(|i| b.witness(Fr::from(i == at))).collect();
    b.equal(&Num::sum(&chosen), &Num::one());
    chosen
}

//! For every group of constraints, a wrong witness that it refuses. What depends on the falsified
//! value is made to fit as far as a liar could, so that nothing else stands in the way.

use std::cmp::Reverse;

use convoke_protocol::ids::{Address, Amount, Digest, RoundId, TaskId};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::rounds::{broken, context, honest, round, witness};
use crate::plain::{Split, Trace};
use crate::public_data::{Commitment, PublicData};
use crate::size::Size;
use crate::witness::{RoundWitness, Witness};

/// Twelve honest trainers; slot 3 is refused as idle, slots 5 and 8 as copies of 1, slot 10 is
/// not active.
fn small() -> RoundWitness {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut sketches = honest(&mut rng, 12);
    sketches[3] = Some([1; 128]);
    for later in [5, 8] {
        sketches[later] = sketches[1].map(|s| s.map(|v| v.saturating_add(1)));
    }
    sketches[10] = None;
    round(sketches, &[10_000; 12], 1_000_000_007)
}

/// 40 trainers, the first four of whom collude.
fn large() -> RoundWitness {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let mut sketches = honest(&mut rng, 40);
    for sketch in &mut sketches[..4] {
        *sketch = sketch.map(|s| {
            let mut s = s;
            s[..64].fill(110);
            s
        });
    }
    round(sketches, &[10_000; 40], 1_000_000_007)
}

/// Scores and payouts that follow from the decisions in the witness, false as they may be.
fn settle(w: &mut Witness, s: &mut PublicData) {
    let slots = w.size.slots();
    let kept: Vec<bool> = (0..slots)
        .map(|i| {
            let above = w.applies && w.passes.iter().any(|pass| pass.above[i]);
            w.alive[i] && !w.copied[i] && !above
        })
        .collect();
    let row = |i: usize| -> i64 { (0..slots).filter(|j| kept[*j]).map(|j| w.gram[i][j]).sum() };
    w.kept_rows = (0..slots).map(row).collect();
    let score = |i: usize| {
        if kept[i] {
            w.kept_rows[i].max(0) as u64
        } else {
            0
        }
    };
    let scores: Vec<u64> = (0..slots).map(score).collect();
    split(w, s, &scores);
}

fn split(w: &mut Witness, s: &mut PublicData, scores: &[u64]) {
    let split = Split::down(w.pool, scores, &w.factors).unwrap();
    for (slot, payout) in s.slots.iter_mut().zip(&split.payouts) {
        slot.payout = Amount(*payout);
    }
    w.payouts = split.payouts;
    w.remainders = split.remainders;
}

fn small_refuses(part: &str, falsify: impl Fn(&mut Witness, &mut PublicData)) {
    refuses(Size::N16, &small(), part, falsify);
}

fn refuses(
    size: Size,
    round: &RoundWitness,
    part: &str,
    falsify: impl Fn(&mut Witness, &mut PublicData),
) {
    let (mut w, mut s) = witness(size, round);
    assert_eq!(broken(&w, &s), None);
    falsify(&mut w, &mut s);
    assert_eq!(broken(&w, &s), Some(part));
}

fn pay(w: &mut Witness, s: &mut PublicData, slot: usize, payout: u128) {
    w.payouts[slot] = payout;
    s.slots[slot].payout = Amount(payout);
}

#[test]
fn settling_honest_decisions_again_changes_nothing() {
    for (size, round) in [(Size::N16, small()), (Size::N64, large())] {
        let (mut w, mut s) = witness(size, &round);
        settle(&mut w, &mut s);
        assert_eq!(broken(&w, &s), None);
        assert_eq!(s, witness(size, &round).1);
    }
    let trace = Trace::of(&small().entries.iter().map(|e| e.sketch).collect::<Vec<_>>());
    assert!(!trace.alive[3]);
    assert_eq!((trace.partner[5], trace.partner[8]), (Some(1), Some(1)));
}

#[test]
fn payouts_one_off_are_refused() {
    small_refuses("payouts", |w, s| pay(w, s, 1, w.payouts[1] + 1));
    small_refuses("payouts", |w, s| pay(w, s, 1, w.payouts[1] - 1));
    // With the remainder that makes the equation hold, which is W too large.
    small_refuses("payouts", |w, s| {
        let scores = scores(w);
        let total = Split::down(w.pool, &scores, &w.factors).unwrap().weight;
        pay(w, s, 1, w.payouts[1] - 1);
        w.remainders[1] += total;
    });
    // Only the statement: the digest.
    small_refuses("digest", |_, s| s.slots[1].payout.0 += 1);
}

fn scores(w: &Witness) -> Vec<u64> {
    let sketches: Vec<_> = (0..w.size.slots())
        .map(|i| w.active[i].then_some(w.sketches[i]))
        .collect();
    Trace::of(&sketches).scores()
}

#[test]
fn swapped_payouts_are_refused() {
    small_refuses("payouts", |w, s| {
        let (a, b) = (w.payouts[0], w.payouts[1]);
        pay(w, s, 0, b);
        pay(w, s, 1, a);
        w.remainders.swap(0, 1);
    });
    small_refuses("digest", |_, s| {
        let (a, b) = (s.slots[0].payout, s.slots[1].payout);
        (s.slots[0].payout, s.slots[1].payout) = (b, a);
    });
    small_refuses("digest", |_, s| {
        let (a, b) = (s.slots[0].trainer, s.slots[1].trainer);
        (s.slots[0].trainer, s.slots[1].trainer) = (b, a);
    });
}

#[test]
fn nobody_is_paid_who_is_not_kept() {
    for slot in [3, 5, 10, 15] {
        small_refuses("payouts", |w, s| pay(w, s, slot, 1));
    }
    // A slot that is not active but claims to be alive.
    small_refuses("alive", |w, s| {
        w.alive[10] = true;
        settle(w, s);
    });
}

#[test]
fn copies_are_not_kept() {
    // Whichever inequality is claimed, the number that shows it cannot be had: with the right
    // entry of the Gram matrix it is negative, and with another entry the matrix is wrong.
    for (far, part) in [(true, "pairs"), (false, "gram")] {
        small_refuses(part, |w, s| {
            w.copied[5] = false;
            for row in &mut w.far {
                row[5] = far;
            }
            settle(w, s);
        });
    }
    // Nor the later one of two copies alone, when the earlier is already refused.
    small_refuses("pairs", |w, s| {
        w.copied[8] = false;
        settle(w, s);
    });
}

#[test]
fn nobody_is_refused_as_a_copy_who_is_none() {
    for partner in [Some(0), Some(3), None] {
        small_refuses("partners", |w, s| {
            w.copied[7] = true;
            w.partner[7] = partner;
            settle(w, s);
        });
    }
    // The first has nobody before it, and a later one is no partner.
    small_refuses("partners", |w, s| {
        w.copied[0] = true;
        settle(w, s);
    });
    small_refuses("partners", |w, s| {
        w.copied[1] = true;
        w.partner[1] = Some(5);
        settle(w, s);
    });
    // One who is not active cannot be a copy either.
    small_refuses("copies", |w, s| {
        w.copied[10] = true;
        settle(w, s);
    });
}

#[test]
fn idle_partners_do_not_count() {
    // 3 is idle and 9 is a copy of it, apart from being idle itself.
    let mut round = small();
    round.entries[9].sketch = round.entries[3].sketch;
    refuses(Size::N16, &round, "copies", |w, s| {
        w.copied[9] = true;
        w.partner[9] = Some(3);
        settle(w, s);
    });
}

#[test]
fn idle_ones_are_not_kept_and_others_not_called_idle() {
    small_refuses("alive", |w, s| {
        w.alive[3] = true;
        settle(w, s);
    });
    small_refuses("alive", |w, s| {
        w.alive[7] = false;
        settle(w, s);
    });
}

#[test]
fn wrong_medians_are_refused() {
    // Of n: a median of nothing would call nobody idle.
    small_refuses("alive", |w, _| w.norm_median = 0);
    // The next larger and the next smaller one, with fitting halves.
    for shift in [-1, 1] {
        small_refuses("alive", |w, _| {
            let mut active: Vec<usize> = (0..16).filter(|i| w.active[*i]).collect();
            active.sort_by_key(|i| w.gram[*i][*i]);
            let middle = active.iter().position(|i| *i == w.norm_median_at).unwrap();
            let at = (middle as i64 + shift) as usize;
            w.norm_median_at = active[at];
            w.norm_median = w.gram[active[at]][active[at]];
            for (rank, i) in active.iter().enumerate() {
                w.norm_low[*i] = rank <= at;
            }
        });
    }
    // Halves that fit by number, with a median that is not theirs.
    small_refuses("alive", |w, _| w.norm_median += 1);
}

#[test]
fn wrong_median_of_the_distances_is_refused() {
    small_refuses("centre", |w, _| w.spread += 1);
    small_refuses("centre", |w, _| w.near += 1);
    small_refuses("centre", |w, _| w.near -= 1);
    for larger in [false, true] {
        small_refuses("centre", |w, _| {
            let sketches: Vec<_> = (0..16)
                .map(|i| w.active[i].then_some(w.sketches[i]))
                .collect();
            let trace = Trace::of(&sketches);
            let mut alive: Vec<usize> = (0..16).filter(|i| w.alive[*i]).collect();
            alive.sort_by_key(|i| trace.centred[*i]);
            let middle = alive.iter().position(|i| *i == w.spread_at).unwrap();
            let at = if larger { middle + 1 } else { middle - 1 };
            w.spread_at = alive[at];
            w.spread = trace.centred[alive[at]];
            for (rank, i) in alive.iter().enumerate() {
                w.spread_low[*i] = rank <= at;
            }
            for i in (0..16).filter(|i| !w.alive[*i]) {
                w.spread_low[i] = trace.centred[i] <= w.spread;
            }
            let m = alive.len() as i128;
            w.near = ((w.spread + 3 * m * m - 1) / (3 * m * m)) as i64;
        });
    }
}

#[test]
fn wrong_products_are_refused() {
    // Large enough for the comparisons to hold all the same.
    small_refuses("gram", |w, s| {
        w.gram[7][2] -= 8;
        w.gram[2][7] -= 8;
        settle(w, s);
    });
    // A larger norm, of one that neither median depends on.
    small_refuses("gram", |w, _| {
        let free = |i: &usize| w.alive[*i] && *i != w.norm_median_at && !w.norm_low[*i];
        let at = (0..16).find(free).unwrap();
        w.gram[at][at] += 64;
    });
    small_refuses("rows", |w, s| {
        // A better score for 2, paid for by all.
        w.kept_rows[2] += 1_000;
        let mut scores = scores(w);
        scores[2] += 1_000;
        split(w, s, &scores);
    });
    small_refuses("payouts", |w, _| w.kept_rows[2] += 1_000);
    // The score of one that is above zero called below it, and the share of its pool given to all.
    small_refuses("rows", |w, s| {
        assert!(w.kept_rows[2] > 0);
        w.kept_rows[2] = -w.kept_rows[2];
        let mut scores = scores(w);
        scores[2] = 0;
        split(w, s, &scores);
    });
}

#[test]
fn sketches_are_those_committed_to() {
    small_refuses("gram", |w, _| w.sketches[2][5] ^= 1);
    small_refuses("gram", |w, s| {
        w.sketches[2][5] ^= 1;
        s.slots[2].commitment = Commitment::of(&w.sketches[2], w.trainers[2], &w.context);
    });
    // Even if everything is recomputed for the other sketch.
    let mut other = small();
    other.entries[2].sketch.as_mut().unwrap()[5] ^= 1;
    let (w, s) = witness(Size::N16, &other);
    let mut published = s.clone();
    published.slots[2].commitment = witness(Size::N16, &small()).1.slots[2].commitment;
    assert_eq!(broken(&w, &s), None);
    assert_eq!(broken(&w, &published), Some("digest"));
}

#[test]
fn public_data_is_not_free() {
    small_refuses("digest", |_, s| s.context.round = RoundId(8));
    small_refuses("digest", |_, s| s.context.task = TaskId(8));
    small_refuses("digest", |_, s| s.context.chain_id = 1);
    small_refuses("digest", |_, s| s.context.attempt = 2);
    small_refuses("digest", |_, s| s.context.contract = Address([1; 20]));
    small_refuses("digest", |_, s| s.context.seed = Digest([1; 32]));
    small_refuses("digest", |_, s| s.pool.0 += 1);
    small_refuses("digest", |_, s| s.slots[4].factor += 1);
    small_refuses("digest", |_, s| s.slots[4].trainer = Address([99; 20]));
    small_refuses("digest", |_, s| s.slots[4].active = false);
    small_refuses("digest", |_, s| s.slots[10].active = true);
    small_refuses("digest", |_, s| s.slots[4].commitment = Commitment::NONE);
    small_refuses("digest", |_, s| {
        s.slots[10].commitment = s.slots[4].commitment;
    });
    // The address is in the commitment too.
    small_refuses("digest", |w, s| {
        w.trainers[4] = Address([99; 20]);
        s.slots[4].trainer = Address([99; 20]);
    });
    assert_ne!(context().word(), witness(Size::N16, &small()).1.bound.0);
}

#[test]
fn factors_and_pool_decide_the_payouts() {
    small_refuses("payouts", |w, s| {
        w.factors[4] = 20_000;
        s.slots[4].factor = 20_000;
    });
    small_refuses("payouts", |w, s| {
        w.pool += 1_000_000;
        s.pool.0 += 1_000_000;
    });
}

fn large_refuses(part: &str, falsify: impl Fn(&mut Witness, &mut PublicData)) {
    refuses(Size::N64, &large(), part, falsify);
}

#[test]
fn colluders_are_refused_and_others_not() {
    let (w, _) = witness(Size::N64, &large());
    assert!((0..4).all(|i| w.passes.iter().any(|pass| pass.above[i])));
    large_refuses("energy rule", |w, s| {
        for pass in &mut w.passes {
            pass.above[0] = false;
        }
        settle(w, s);
    });
    large_refuses("energy rule", |w, s| {
        w.passes[2].above[20] = true;
        settle(w, s);
    });
    // Slots without a trainer are not members.
    large_refuses("energy rule", |w, _| w.passes[1].above[63] = true);
}

#[test]
fn the_energy_rule_cannot_be_switched() {
    large_refuses("energy gate", |w, s| {
        w.applies = false;
        settle(w, s);
    });
    let mut few = large();
    few.entries.truncate(31);
    refuses(Size::N64, &few, "energy gate", |w, s| {
        w.applies = true;
        settle(w, s);
    });
}

#[test]
fn wrong_energy_medians_are_refused() {
    large_refuses("energy rule", |w, _| w.passes[0].q_median += 1);
    large_refuses("energy rule", |w, _| w.passes[0].d_median += 1);
    // A median of nothing would refuse everybody, a larger one nobody.
    large_refuses("energy rule", |w, _| {
        w.passes[0].q_median = 0;
        w.passes[0].d_median = 1;
    });
    large_refuses("energy rule", |w, s| {
        let sketches: Vec<_> = (0..64)
            .map(|i| w.active[i].then_some(w.sketches[i]))
            .collect();
        let trace = Trace::of(&sketches);
        let energy = &trace.passes[0].energy;
        let mut ranked: Vec<usize> = (0..40).collect();
        ranked.sort_by_key(|i| Reverse(energy[*i].0 / energy[*i].1));
        let pass = &mut w.passes[0];
        (pass.q_median, pass.d_median) = energy[ranked[0]];
        pass.at = ranked[0];
        pass.low = (0..64).map(|i| i < 40).collect();
        pass.above = vec![false; 64];
        settle(w, s);
    });
}

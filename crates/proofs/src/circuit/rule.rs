//! The keep rule up to the copies.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};

use super::gadgets::{choose, half_of, low_members};
use super::{Round, Transcript, int, power_of_two};
use crate::builder::{Builder, Num};
use crate::plain::{CENTRED_BITS, NORM_BITS};
use crate::witness::Witness;

/// nᵢ of every slot. That they are the sketches' is checked with the Gram matrix.
pub(super) fn norms(b: &mut Builder, w: &Witness, transcript: &mut Transcript) -> Vec<Num> {
    b.section("norms");
    let norm = |i: usize| {
        let bits = b.range(int(w.gram[i][i]), NORM_BITS);
        transcript.push(&bits, NORM_BITS);
        b.hold(&bits)
    };
    (0..w.size.slots()).map(norm).collect()
}

/// Who is alive: 64 n ≥ the median n of the active.
pub(super) fn alive(
    b: &mut Builder,
    w: &Witness,
    round: &Round,
    norms: &[Num],
    transcript: &mut Transcript,
) -> Vec<Num> {
    b.section("alive");
    let slots = w.size.slots();
    let median = b.witness(int(w.norm_median));
    let low = low_members(b, &round.active, &w.norm_low);
    let chosen = choose(b, slots, w.norm_median_at);
    let mut alive = Vec::new();
    for i in 0..slots {
        let (active, norm) = (&round.active[i], &norms[i]);
        // (median − n) for the low, (n − median) for the others, 0 for those that are not active.
        let side = &(&low[i] * 2) - active;
        let below = &median - norm;
        let gap = b.range(side.value * below.value, NORM_BITS);
        b.enforce(&side, &below, &gap);
        // Two numbers that are not negative, and small: their sum is 0 only if both are.
        b.enforce(&chosen[i], &(&(&Num::one() - &low[i]) + &gap), &Num::zero());

        let is_alive = b.bit(w.alive[i]);
        b.enforce(&is_alive, &(&Num::one() - active), &Num::zero());
        // (64 n − median) for the alive, (median − 1 − 64 n) for the others that are active.
        let side = &(&is_alive * 2) - active;
        let above = &(norm * 64) - &median;
        let idle = active - &is_alive;
        let slack = b.range(side.value * above.value - idle.value, NORM_BITS + 6);
        b.enforce(&side, &above, &(&slack + &idle));
        transcript.push(&is_alive, 1);
        alive.push(is_alive);
    }
    alive
}

/// How the alive lie around their mean.
pub(super) struct Centre {
    /// ⟨sᵢ, Σ alive s⟩ of every slot. That they are is checked at the challenge.
    pub(super) rows: Vec<Num>,
    /// ⌈D / 3⌉, or in whole numbers ⌈m² D / 3 m²⌉.
    pub(super) near: Num,
}

/// D, the lower median of d over the alive.
///
/// The rows are bound by the range-checked distances to the median: with the median, the sides
/// and m, those give every m² dᵢ = m² nᵢ − 2 m rᵢ + T with T = Σ alive r; their sum over the alive
/// gives T (m is not 0, because the median is chosen from the alive), and T every rᵢ.
pub(super) fn centre(
    b: &mut Builder,
    w: &Witness,
    alive: &[Num],
    norms: &[Num],
    transcript: &mut Transcript,
) -> Centre {
    b.section("centre");
    let slots = w.size.slots();
    let width = CENTRED_BITS + 2 * w.size.log2();
    let m = b.hold(&Num::sum(alive));
    let m2 = b.mul(&m, &m);
    let rows: Vec<Num> = w.rows.iter().map(|row| b.witness(int(*row))).collect();
    let mut parts = Vec::new();
    for (row, alive) in rows.iter().zip(alive) {
        parts.push(b.mul(row, alive));
    }
    let total = b.hold(&Num::sum(&parts));
    let median = b.witness(int(w.spread));
    transcript.raw(&median);

    let low: Vec<Num> = w.spread_low.iter().map(|low| b.bit(*low)).collect();
    let chosen = choose(b, slots, w.spread_at);
    let mut low_alive = Vec::new();
    for i in 0..slots {
        let centred = &(&b.mul(&m2, &norms[i]) - &(&b.mul(&m, &rows[i]) * 2)) + &total;
        let side = &(&low[i] * 2) - &Num::one();
        let below = &median - &centred;
        let gap = b.range(side.value * below.value, width);
        b.enforce(&side, &below, &gap);
        transcript.push(&low[i], 1);
        transcript.push(&gap, width);
        let member = b.mul(&low[i], &alive[i]);
        b.enforce(&chosen[i], &(&(&Num::one() - &member) + &gap), &Num::zero());
        low_alive.push(member);
    }
    half_of(b, alive, &low_alive);

    // 3 m² near = median + rest with 0 ≤ rest < 3 m²: the quotient rounded up.
    let near = b.range(int(w.near), NEAR_BITS);
    let scale = &m2 * 3;
    let product = b.mul(&scale, &near);
    let rest = b.range(product.value - median.value, 2 * w.size.log2() + 2);
    b.equal(&(&median + &rest), &product);
    let room = &(&scale - &Num::one()) - &rest;
    let slack = b.range(room.value, 2 * w.size.log2() + 2);
    b.equal(&room, &slack);
    Centre { rows, near }
}

/// Who copied, and the Gram matrix, whose entries the comparisons of copies range-check.
pub(super) struct Copies {
    /// Gᵢⱼ of i < j, by j and i.
    pub(super) gram: Vec<Vec<Num>>,
    pub(super) copied: Vec<Num>,
    pub(super) kept: Vec<Num>,
    /// Of the partner that a copy is close to: G with it, and its n.
    pub(super) partners: Vec<(Num, Num)>,
}

/// Copies. i and j are close if P < near and 2 P < nᵢ + nⱼ.
///
/// No pair of an alive i and a kept j > i is close: the prover picks the inequality that fails,
/// and one number of [`PAIR_BITS`] bits shows it. Pairs of which nothing is to be shown get room
/// for anything: 2²² for i, and 2²² for j. That number, with the pick, n, near and the flags,
/// gives Gᵢⱼ, which enters it with factor 2 or 4; so it binds the Gram matrix.
///
/// A copy is close to a partner: two numbers show both inequalities, and give the partner's G and
/// n as combinations; that some alive i < j has both is checked at the challenge.
pub(super) fn copies(
    b: &mut Builder,
    w: &Witness,
    alive: &[Num],
    norms: &[Num],
    centre: &Centre,
    transcript: &mut Transcript,
) -> Copies {
    let mut copies = Copies {
        gram: Vec::new(),
        copied: Vec::new(),
        kept: Vec::new(),
        partners: Vec::new(),
    };
    for j in 0..w.size.slots() {
        b.section("copies");
        let copied = b.bit(w.copied[j]);
        b.enforce(&copied, &(&Num::one() - &alive[j]), &Num::zero());
        transcript.push(&copied, 1);
        let kept = &alive[j] - &copied;
        copies
            .partners
            .push(partner(b, w, &norms[j], &centre.near, j, transcript));
        b.section("pairs");
        let row = (0..j).map(|i| {
            let sum = &norms[i] + &norms[j];
            let room = &(&Num::int(2) - &alive[i]) - &kept;
            pair(b, w, (i, j), &sum, &room, &centre.near, transcript)
        });
        copies.gram.push(row.collect());
        copies.copied.push(copied);
        copies.kept.push(kept);
    }
    copies
}

/// The pair's Gram entry.
fn pair(
    b: &mut Builder,
    w: &Witness,
    (i, j): (usize, usize),
    sum: &Num,
    room: &Num,
    near: &Num,
    transcript: &mut Transcript,
) -> Num {
    let entry = int(w.gram[i][j]);
    let far = b.bit(w.far[i][j]);
    let product = b.witness(far.value * (entry.double() - near.value));
    // nᵢ + nⱼ − 4 G if not far, nᵢ + nⱼ − 2 G − near = P − near if far; and the room.
    let mut known = sum + &product;
    known.add_scaled(room, power_of_two(NORM_BITS));
    let slack = b.range(known.value - entry.double().double(), PAIR_BITS);
    let quarter = Fr::from(4u64).inverse().expect("the field has odd order");
    let gram = Num::weighted([(quarter, &known), (-quarter, &slack)]);
    b.enforce(&far, &(&(&gram * 2) - near), &product);
    transcript.push(&far, 1);
    transcript.push(&slack, PAIR_BITS);
    gram
}

/// The (G, n) of the one that j is close to. From
/// `nearness = near − 1 − (n + nⱼ − 2 G)` and `likeness = 4 G − n − nⱼ − 1`, both not negative,
/// follow `2 G = near + likeness − nearness` and `n = 4 G − nⱼ − 1 − likeness`.
fn partner(
    b: &mut Builder,
    w: &Witness,
    norm: &Num,
    near: &Num,
    j: usize,
    transcript: &mut Transcript,
) -> (Num, Num) {
    let (nearness, likeness) = match w.partner[j] {
        None => (Fr::ZERO, Fr::ZERO),
        Some(i) => {
            let (g, n) = (int(w.gram[i][j]), int(w.gram[i][i]));
            let nearness = near.value - Fr::ONE - (n + norm.value - g.double());
            (nearness, g.double().double() - n - norm.value - Fr::ONE)
        }
    };
    let nearness = b.range(nearness, NEAR_BITS);
    let likeness = b.range(likeness, NEAR_BITS);
    transcript.push(&nearness, NEAR_BITS);
    transcript.push(&likeness, NEAR_BITS);
    let twice = &(near + &likeness) - &nearness;
    let half = Fr::from(2u64).inverse().expect("the field has odd order");
    let gram = Num::weighted([(half, &twice)]);
    let norm = &(&(&(&twice * 2) - norm) - &Num::one()) - &likeness;
    (gram, norm)
}

/// D < 2²³, and a third of it is below 2²². Of the numbers that show closeness one is below near;
/// the other is below nᵢ + nⱼ ≤ 2²², because 2 G ≤ nᵢ + nⱼ.
const NEAR_BITS: usize = 22;

/// nᵢ + nⱼ − 4 G < 2²² + 2²³, as sketch values are below 128; P − near plus room < 2²³ + 2²³, and
/// it is not negative with room, as near is below 2²².
const PAIR_BITS: usize = 24;

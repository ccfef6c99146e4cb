//! The energy passes.
//!
//! Inner products around the mean of the m members are written Gᵢⱼ − αᵢ − αⱼ. The αᵢ are fixed by
//! the rows of that matrix adding up to 0 over the members: Σⱼ (Gᵢⱼ − αᵢ − αⱼ) = rᵢ − m αᵢ − A with
//! A = Σ α; summing again gives A = T / 2m and so αᵢ = rᵢ / m − T / 2m², the only solution, which
//! makes Gᵢⱼ − αᵢ − αⱼ the centred product. It is a fraction in the field; times m² it is whole,
//! and q is so after m⁴.

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};

use super::gadgets::{choose, low_members};
use super::rule::Copies;
use super::{Round, Transcript, int};
use crate::builder::{Builder, Num};
use crate::plain::ENERGY_FROM;
use crate::witness::{PassWitness, Witness};

/// Who is kept after all passes.
pub(super) fn passes(
    b: &mut Builder,
    w: &Witness,
    round: &Round,
    norms: &[Num],
    copies: &Copies,
    transcript: &mut Transcript,
) -> Vec<Num> {
    b.section("energy gate");
    let applies = applies(b, w, round);
    let mut kept = copies.kept.clone();
    for pass in &w.passes {
        let above = one_pass(b, w, pass, norms, &copies.gram, &kept);
        for (kept, above) in kept.iter_mut().zip(&above) {
            transcript.push(above, 1);
            let gone = b.mul(&applies, above);
            *kept = &*kept - &gone;
        }
    }
    kept
}

/// Whether there are enough updates.
fn applies(b: &mut Builder, w: &Witness, round: &Round) -> Num {
    let count = b.hold(&Num::sum(&round.active));
    let applies = b.bit(w.applies);
    let from = ENERGY_FROM as i64;
    // count − 32 if it applies, 31 − count if not.
    let spread = b.mul(&applies, &(&(&count * 2) - &Num::int(2 * from - 1)));
    let room = &(&spread + &Num::int(from - 1)) - &count;
    let slack = b.range(room.value, w.size.log2());
    b.equal(&room, &slack);
    applies
}

/// Bits of the members whose q / d is above twice the lower median.
fn one_pass(
    b: &mut Builder,
    w: &Witness,
    pass: &PassWitness,
    norms: &[Num],
    gram: &[Vec<Num>],
    kept: &[Num],
) -> Vec<Num> {
    let slots = w.size.slots();
    let energy = energy(b, w, norms, gram, kept);
    b.section("energy rule");
    let (q_median, d_median) = (b.witness(int(pass.q_median)), b.witness(int(pass.d_median)));
    let low = low_members(b, kept, &pass.low);
    let chosen = choose(b, slots, pass.at);
    // |m cᵢ|² < m² 2²³ and q ≤ d Σ d, where Σ d < m³ 2²¹: a product of q and d is below
    // m⁷ 2⁶⁷.
    let width = 67 + 7 * w.size.log2();
    let mut bits = Vec::new();
    for i in 0..slots {
        let (q, d) = &energy[i];
        b.enforce(&chosen[i], &(&Num::one() - &low[i]), &Num::zero());
        b.enforce(&chosen[i], &(q - &q_median), &Num::zero());
        b.enforce(&chosen[i], &(d - &d_median), &Num::zero());
        let own = b.mul(q, &d_median);
        let median = b.mul(&q_median, d);
        // (median − own) for the low, (own − median) for the other members.
        let side = &(&low[i] * 2) - &kept[i];
        let below = &median - &own;
        let gap = b.range(side.value * below.value, width);
        b.enforce(&side, &below, &gap);
        // (2 median − own) for those that stay, (own − 2 median − 1) for those above.
        let above = b.bit(pass.above[i]);
        b.enforce(&above, &(&Num::one() - &kept[i]), &Num::zero());
        let side = &kept[i] - &(&above * 2);
        let room = &(&median * 2) - &own;
        let slack = b.range(side.value * room.value - above.value, width + 1);
        b.enforce(&side, &room, &(&slack + &above));
        bits.push(above);
    }
    bits
}

/// m⁴ qᵢ and m² dᵢ of the members, 0 and 1 of the others and of the mean itself.
fn energy(
    b: &mut Builder,
    w: &Witness,
    norms: &[Num],
    gram: &[Vec<Num>],
    kept: &[Num],
) -> Vec<(Num, Num)> {
    b.section("energy");
    let slots = w.size.slots();
    let kept: Vec<Num> = kept.iter().map(|kept| b.hold(kept)).collect();
    let m = b.hold(&Num::sum(&kept));
    let m2 = b.mul(&m, &m);
    let m4 = b.mul(&m2, &m2);
    let alpha: Vec<Num> = alphas(w, &kept, m.value)
        .into_iter()
        .map(|alpha| b.witness(alpha))
        .collect();
    let mut own = Vec::new();
    let mut row_sums = Vec::new();
    let mut squares = vec![Num::zero(); slots];
    for i in 0..slots {
        let centred = b.mul(&kept[i], &(&norms[i] - &(&alpha[i] * 2)));
        row_sums.push(centred.clone());
        own.push(centred);
    }
    for j in 0..slots {
        for i in 0..j {
            let both = b.mul(&kept[i], &kept[j]);
            let shift = &alpha[i] + &alpha[j];
            let centred = b.mul(&both, &(&gram[j][i] - &shift));
            let square = b.mul(&centred, &centred);
            row_sums[i] += &centred;
            row_sums[j] += &centred;
            squares[i] += &square;
            squares[j] += &square;
        }
    }
    let mut energy = Vec::new();
    for i in 0..slots {
        b.equal(&row_sums[i], &Num::zero());
        let q = b.mul(&squares[i], &m4);
        let d = b.mul(&own[i], &m2);
        let is_zero = is_zero(b, &d);
        energy.push((q, &d + &is_zero));
    }
    energy
}

/// r / m − T / 2m²
fn alphas(w: &Witness, kept: &[Num], m: Fr) -> Vec<Fr> {
    let kept: Vec<bool> = kept.iter().map(|kept| kept.value == Fr::ONE).collect();
    let row = |row: &Vec<i64>| -> i64 {
        let entries = row.iter().zip(&kept).filter(|(_, kept)| **kept);
        entries.map(|(entry, _)| entry).sum()
    };
    let rows: Vec<i64> = w.gram.iter().map(row).collect();
    let total: i64 = rows
        .iter()
        .zip(&kept)
        .filter(|(_, k)| **k)
        .map(|(r, _)| r)
        .sum();
    let inverse = m.inverse().unwrap_or(Fr::ZERO);
    let half = Fr::from(2u64).inverse().expect("the field has odd order");
    let shift = int(total) * inverse.square() * half;
    rows.iter().map(|row| int(*row) * inverse - shift).collect()
}

/// 1 if a is 0, and 0 if not: a × inverse = 1 − result, and a × result = 0.
fn is_zero(b: &mut Builder, a: &Num) -> Num {
    let inverse = b.witness(a.value.inverse().unwrap_or(Fr::ZERO));
    let result = b.witness(Fr::from(a.value == Fr::ZERO));
    b.enforce(a, &inverse, &(&Num::one() - &result));
    b.enforce(a, &result, &Num::zero());
    result
}

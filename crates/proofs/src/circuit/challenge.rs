//! What is checked at the challenge x: identities between polynomials whose coefficients are all
//! fixed by h. If one does not hold it vanishes at no more points than its degree, below 2¹⁹, and x
//! is a hash of its coefficients' hash: a false one passes with probability below 2⁻²³⁰ a try.

use super::pay::Rows;
use super::rule::{Centre, Copies};
use super::{Round, power_of_two};
use crate::builder::{Builder, Num};
use crate::public_data::{FACTORS_PER_WORD, FLAGS_PER_WORD};
use crate::size::Size;

/// What the first part fixed.
pub(super) struct Fixed<'a> {
    pub(super) round: &'a Round,
    pub(super) norms: &'a [Num],
    pub(super) alive: &'a [Num],
    pub(super) centre: &'a Centre,
    pub(super) copies: &'a Copies,
    pub(super) kept: &'a [Num],
    pub(super) kept_rows: &'a Rows,
    pub(super) payouts: &'a [Num],
}

/// Xᵢ = x^eᵢ with eᵢ = 2 p i + (i² mod p), Erdős and Turán's Sidon set: sums of two exponents are
/// all different, so that Σ aᵢⱼ Xᵢ Xⱼ over i ≤ j has one coefficient for each pair.
pub(super) struct Powers(Vec<Num>);

impl Powers {
    pub(super) fn new(b: &mut Builder, size: Size, x: &Num) -> Self {
        b.section("challenge powers");
        let prime = size.prime();
        let mut small = vec![Num::one(), x.clone()];
        while small.len() <= prime {
            small.push(b.mul(&small[small.len() - 1], x));
        }
        let step = b.mul(&small[prime], &small[prime]);
        let mut powers = vec![Num::one()];
        let mut large = step.clone();
        for i in 1..size.slots() {
            powers.push(b.mul(&large, &small[i * i % prime]));
            large = b.mul(&large, &step);
        }
        Self(powers)
    }

    /// a × Xᵢ, in this order: what stands on the right costs the prover more. X₀ is 1 and costs
    /// nothing.
    fn times(&self, b: &mut Builder, i: usize, a: &Num) -> Num {
        match i {
            0 => a.clone(),
            _ => b.mul(a, &self.0[i]),
        }
    }
}

/// The Gram matrix and its products with the flags.
///
/// With Hⱼ = Σᵢ Gᵢⱼ Xᵢ: Σⱼ Xⱼ Hⱼ = Σ_l (Σᵢ Xᵢ sᵢₗ)² says that G = S Sᵀ, because both sides are
/// Σ of the entries times Xᵢ Xⱼ. Σᵢ Xᵢ rᵢ = Σⱼ flagⱼ Hⱼ says that r = G flag, twice: for the
/// alive, and for those kept in the end.
pub(super) fn gram(b: &mut Builder, powers: &Powers, fixed: &Fixed<'_>) {
    b.section("gram");
    let slots = fixed.norms.len();
    let mut products = vec![Num::zero(); slots];
    for j in 0..slots {
        products[j] += &powers.times(b, j, &fixed.norms[j]);
        for (i, entry) in fixed.copies.gram[j].iter().enumerate() {
            products[i] += &powers.times(b, j, entry);
            products[j] += &powers.times(b, i, entry);
        }
    }
    let mut left = Num::zero();
    for (j, product) in products.iter().enumerate() {
        left += &powers.times(b, j, product);
    }
    let mut right = Num::zero();
    for l in 0..fixed.round.sketches[0].len() {
        let mut sum = Num::zero();
        for (i, sketch) in fixed.round.sketches.iter().enumerate() {
            sum += &powers.times(b, i, &sketch[l]);
        }
        let sum = b.hold(&sum);
        right += &b.mul(&sum, &sum);
    }
    b.equal(&left, &right);

    b.section("rows");
    for (rows, flags) in [
        (&fixed.centre.rows, fixed.alive),
        (&fixed.kept_rows.rows, fixed.kept),
    ] {
        let (mut left, mut right) = (Num::zero(), Num::zero());
        for i in 0..slots {
            left += &powers.times(b, i, &rows[i]);
            right += &b.mul(&products[i], &flags[i]);
        }
        b.equal(&left, &right);
    }
}

/// The partner of a copy j is some alive i < j: of the numbers G + x n + x² alive, that of the
/// partner, with alive = 1, is one of those of the i < j, so that a product of differences is 0.
pub(super) fn partners(b: &mut Builder, x: &Num, fixed: &Fixed<'_>) {
    b.section("partners");
    let square = b.mul(x, x);
    let mut labels: Vec<Num> = Vec::new();
    for j in 0..fixed.norms.len() {
        let (gram, norm) = &fixed.copies.partners[j];
        let partner = &(gram + &b.mul(x, norm)) + &square;
        let mut product = Num::one();
        for (i, label) in labels.iter().enumerate() {
            let other = &fixed.copies.gram[j][i] + label;
            let difference = &partner - &other;
            product = match i {
                0 => difference,
                _ => b.mul(&product, &difference),
            };
        }
        b.enforce(&fixed.copies.copied[j], &product, &Num::zero());
        let norm = b.mul(x, &fixed.norms[j]);
        let flag = b.mul(&square, &fixed.alive[j]);
        labels.push(b.hold(&(&norm + &flag)));
    }
}

/// y is the polynomial of the public values at x.
pub(super) fn digest(b: &mut Builder, x: &Num, y: &Num, fixed: &Fixed<'_>) {
    b.section("digest");
    let round = fixed.round;
    let mut values = vec![round.context.clone(), round.pool.clone()];
    for flags in round.active.chunks(FLAGS_PER_WORD) {
        let weighted = flags.iter().enumerate();
        values.push(Num::weighted(weighted.map(|(i, f)| (power_of_two(i), f))));
    }
    for factors in round.factors.chunks(FACTORS_PER_WORD) {
        let shift = |i: usize| power_of_two(16 * (FACTORS_PER_WORD - 1 - i));
        let weighted = factors.iter().enumerate();
        values.push(Num::weighted(weighted.map(|(i, f)| (shift(i), f))));
    }
    for i in 0..fixed.payouts.len() {
        values.push(b.mul(&round.active[i], &round.commitments[i]));
        values.push(round.trainers[i].clone());
        values.push(fixed.payouts[i].clone());
    }
    let mut sum = Num::zero();
    for (position, value) in values.iter().rev().enumerate() {
        sum = match position {
            0 => value.clone(),
            _ => &b.mul(&sum, x) + value,
        };
    }
    b.equal(&sum, y);
}

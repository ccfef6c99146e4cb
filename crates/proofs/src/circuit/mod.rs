//! The circuit.
//!
//! It runs in two parts. The first fixes every value that the second relies on, and hashes them to
//! h: numbers that are range-checked go in packed, 253 bits an element, the others whole. The
//! second part uses the challenge x, which is hashed from h and the public data, so that nothing
//! in the first part can depend on it; it checks polynomial identities at x instead of products
//! of matrices one by one.
//!
//! **Why packing is sound.** Σ vᵢ 2^(wᵢ) with vᵢ bounded by bits that sum up to at most 253 is an
//! injective map into the field, so its hash binds every vᵢ. A packed value that is not
//! range-checked would not be bound: there are many ways to write one element as such a sum. Every
//! call of [`Transcript::push`] therefore takes a number that [`Builder::range`] or
//! [`Builder::bit`] made, or one that a constraint sets equal to such a number.

mod challenge;
mod energy;
mod gadgets;
mod pay;
mod rule;

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, Field};

use crate::builder::{Builder, Num};
use crate::poseidon::Poseidon;
use crate::public_data::BYTES_PER_ELEMENT;
use crate::witness::Witness;

/// What the circuit is given besides the witness: from h, the challenge x and the value y that
/// the public data has there.
pub(crate) trait Challenge {
    fn draw(&self, h: Fr) -> (Fr, Fr);
}

impl<F: Fn(Fr) -> (Fr, Fr)> Challenge for F {
    fn draw(&self, h: Fr) -> (Fr, Fr) {
        self(h)
    }
}

/// Writes down the circuit, or runs it; returns h.
pub(crate) fn synthesize(b: &mut Builder, w: &Witness, challenge: &dyn Challenge) -> Fr {
    let mut transcript = Transcript::new();
    let round = Round::new(b, w, &mut transcript);
    let norms = rule::norms(b, w, &mut transcript);
    let alive = rule::alive(b, w, &round, &norms, &mut transcript);
    let centre = rule::centre(b, w, &alive, &norms, &mut transcript);
    let copies = rule::copies(b, w, &alive, &norms, &centre, &mut transcript);
    let kept = match w.size.has_energy() {
        true => energy::passes(b, w, &round, &norms, &copies, &mut transcript),
        false => copies.kept.clone(),
    };
    let kept_rows = pay::kept_rows(b, w, &mut transcript);
    let payouts = pay::payouts(b, w, &round, &kept, &kept_rows, &mut transcript);

    b.section("transcript");
    let h = transcript.hash(b, w);
    let (x, y) = challenge.draw(h.value);
    let public = b.input(h.value);
    b.equal(&h, &public);
    let (x, y) = (b.input(x), b.input(y));

    let powers = challenge::Powers::new(b, w.size, &x);
    let fixed = challenge::Fixed {
        round: &round,
        norms: &norms,
        alive: &alive,
        centre: &centre,
        copies: &copies,
        kept: &kept,
        kept_rows: &kept_rows,
        payouts: &payouts,
    };
    challenge::gram(b, &powers, &fixed);
    challenge::partners(b, &x, &fixed);
    challenge::digest(b, &x, &y, &fixed);
    h.value
}

/// The round's data.
struct Round {
    context: Num,
    pool: Num,
    active: Vec<Num>,
    trainers: Vec<Num>,
    factors: Vec<Num>,
    /// Values of the sketches, each from 8 bits.
    sketches: Vec<Vec<Num>>,
    /// Of every slot, active or not.
    commitments: Vec<Num>,
}

impl Round {
    fn new(b: &mut Builder, w: &Witness, transcript: &mut Transcript) -> Self {
        let slots = w.size.slots();
        let context = b.witness(w.context.element());
        let pool = b.witness(Fr::from(w.pool));
        let mut round = Self {
            context: context.clone(),
            pool: pool.clone(),
            active: Vec::new(),
            trainers: Vec::new(),
            factors: Vec::new(),
            sketches: Vec::new(),
            commitments: Vec::new(),
        };
        transcript.raw(&context);
        transcript.raw(&pool);
        for i in 0..slots {
            b.section("slots");
            let active = b.bit(w.active[i]);
            transcript.push(&active, 1);
            round.active.push(active);
            let factor = b.range(Fr::from(w.factors[i]), FACTOR_BITS);
            transcript.push(&factor, FACTOR_BITS);
            round.factors.push(factor);
            let address = crate::public_data::address_element(w.trainers[i]);
            let trainer = b.witness(address);
            b.section("sketch range");
            let bytes: Vec<Num> = w.sketches[i]
                .iter()
                .map(|v| b.range(Fr::from(i64::from(*v) + 128), 8))
                .collect();
            b.section("commitments");
            let elements = pack(&bytes, &trainer);
            let commitment = Poseidon::narrow().enforce(b, &context, &elements);
            transcript.raw(&commitment);
            round.commitments.push(commitment);
            round.trainers.push(trainer);
            let offset = Num::int(128);
            round
                .sketches
                .push(bytes.iter().map(|byte| byte - &offset).collect());
        }
        round
    }
}

/// [`crate::public_data::pack_sketch`] as combinations.
fn pack(bytes: &[Num], trainer: &Num) -> Vec<Num> {
    let mut weights = vec![Fr::ONE];
    while weights.len() < BYTES_PER_ELEMENT {
        weights.push(weights[weights.len() - 1] * Fr::from(256u64));
    }
    let chunks = bytes.chunks(BYTES_PER_ELEMENT);
    let mut elements: Vec<Num> = chunks
        .map(|chunk| Num::weighted(weights.iter().copied().zip(chunk)))
        .collect();
    elements.push(trainer.clone());
    elements
}

/// Collects what h binds.
struct Transcript {
    elements: Vec<Num>,
    open: Num,
    used: usize,
}

impl Transcript {
    fn new() -> Self {
        Self {
            elements: Vec::new(),
            open: Num::zero(),
            used: 0,
        }
    }

    /// Binds a number that is known to be below 2^width.
    fn push(&mut self, number: &Num, width: usize) {
        if self.used + width > ELEMENT_BITS {
            let full = std::mem::replace(&mut self.open, Num::zero());
            self.elements.push(full);
            self.used = 0;
        }
        let weight = Fr::from(2u64).pow([self.used as u64]);
        self.open.add_scaled(number, weight);
        self.used += width;
    }

    /// Binds any field element.
    fn raw(&mut self, number: &Num) {
        self.elements.push(number.clone());
    }

    fn hash(mut self, b: &mut Builder, w: &Witness) -> Num {
        if self.used > 0 {
            self.elements.push(self.open);
        }
        let tag = Num::constant(Fr::from(w.size.slots() as u64));
        Poseidon::wide().enforce(b, &tag, &self.elements)
    }
}

fn int(value: impl Into<i128>) -> Fr {
    let value = value.into();
    let magnitude = Fr::from(value.unsigned_abs());
    if value < 0 { -magnitude } else { magnitude }
}

fn power_of_two(exponent: usize) -> Fr {
    let mut power = Fr::ONE;
    for _ in 0..exponent {
        power.double_in_place();
    }
    power
}

/// Factors are at most 20,000.
const FACTOR_BITS: usize = 15;

/// Bits that an element holds whatever they are: the modulus has 254.
const ELEMENT_BITS: usize = 253;

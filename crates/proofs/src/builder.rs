//! A thin layer over rank-1 constraints. The same circuit code writes down the matrices, or runs
//! without them on concrete values, which is what a prover and thousands of tests need.

use std::collections::BTreeMap;
use std::ops::{Add, AddAssign, Mul, Sub};

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, BigInteger, Field, PrimeField};
use ark_relations::gr1cs::{ConstraintSystemRef, LinearCombination, SynthesisError, Variable};

/// A linear combination of variables together with its value. With [`Backend::Values`] the value
/// is all there is.
#[derive(Debug, Clone)]
pub(crate) struct Num {
    pub(crate) value: Fr,
    terms: Vec<(Fr, Variable)>,
}

/// Where constraints go.
pub(crate) enum Backend {
    /// Into matrices, with assignments.
    System(ConstraintSystemRef<Fr>),
    /// Nowhere: they are checked at once.
    Values(Values),
}

/// The assignments of a run on values.
#[derive(Debug, Default)]
pub(crate) struct Values {
    pub(crate) instance: Vec<Fr>,
    pub(crate) witness: Vec<Fr>,
    /// The part of the circuit where a constraint first failed.
    pub(crate) broken: Option<&'static str>,
}

/// Allocates variables and enforces constraints.
pub(crate) struct Builder {
    backend: Backend,
    section: &'static str,
    counts: BTreeMap<&'static str, usize>,
    failure: Option<SynthesisError>,
}

impl Builder {
    pub(crate) fn new(backend: Backend) -> Self {
        Self {
            backend,
            section: "start",
            counts: BTreeMap::new(),
            failure: None,
        }
    }

    /// Names the part of the circuit that follows, in reports and errors.
    pub(crate) fn section(&mut self, name: &'static str) {
        self.section = name;
    }

    /// Ends the run: constraints by part of the circuit, and the values if there was no system.
    pub(crate) fn finish(
        self,
    ) -> Result<(BTreeMap<&'static str, usize>, Option<Values>), SynthesisError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let values = match self.backend {
            Backend::System(_) => None,
            Backend::Values(values) => Some(values),
        };
        Ok((self.counts, values))
    }

    /// A private variable.
    pub(crate) fn witness(&mut self, value: Fr) -> Num {
        match &mut self.backend {
            Backend::System(system) => {
                let variable = system.new_witness_variable(|| Ok(value));
                self.variable(variable, value)
            }
            Backend::Values(values) => {
                values.witness.push(value);
                Num::bare(value)
            }
        }
    }

    /// A public variable.
    pub(crate) fn input(&mut self, value: Fr) -> Num {
        match &mut self.backend {
            Backend::System(system) => {
                let variable = system.new_input_variable(|| Ok(value));
                self.variable(variable, value)
            }
            Backend::Values(values) => {
                values.instance.push(value);
                Num::bare(value)
            }
        }
    }

    fn variable(&mut self, variable: Result<Variable, SynthesisError>, value: Fr) -> Num {
        match variable {
            Ok(variable) => Num {
                value,
                terms: vec![(Fr::ONE, variable)],
            },
            Err(error) => {
                self.failure.get_or_insert(error);
                Num::bare(value)
            }
        }
    }

    /// a × b = c
    pub(crate) fn enforce(&mut self, a: &Num, b: &Num, c: &Num) {
        *self.counts.entry(self.section).or_default() += 1;
        match &mut self.backend {
            Backend::System(system) => {
                let lc = |num: &Num| LinearCombination(num.terms.clone());
                let done = system.enforce_r1cs_constraint(|| lc(a), || lc(b), || lc(c));
                if let Err(error) = done {
                    self.failure.get_or_insert(error);
                }
            }
            Backend::Values(values) => {
                if values.broken.is_none() && a.value * b.value != c.value {
                    values.broken = Some(self.section);
                }
            }
        }
    }

    /// a = b
    pub(crate) fn equal(&mut self, a: &Num, b: &Num) {
        self.enforce(a, &Num::one(), b);
    }

    /// a × b
    pub(crate) fn mul(&mut self, a: &Num, b: &Num) -> Num {
        let product = self.witness(a.value * b.value);
        self.enforce(a, b, &product);
        product
    }

    /// A variable of its own for a long combination that is used often. The combination stands
    /// where it costs the prover least: each variable of the first two sides is one more point in
    /// a sum over G1, and in the second side in one over G2 as well.
    pub(crate) fn hold(&mut self, a: &Num) -> Num {
        let held = self.witness(a.value);
        self.equal(&held, a);
        held
    }

    /// A private bit.
    pub(crate) fn bit(&mut self, value: bool) -> Num {
        let bit = self.witness(Fr::from(value));
        self.enforce(&bit, &(&Num::one() - &bit), &Num::zero());
        bit
    }

    /// A private number of `width` bits, lowest first, at most 253: a combination of bits, and
    /// therefore in range. Of a value out of range only the low bits are taken; what the result
    /// is then compared with differs.
    pub(crate) fn range(&mut self, value: Fr, width: usize) -> Num {
        let bits = value.into_bigint();
        let mut sum = Num::zero();
        let mut weight = Fr::ONE;
        for k in 0..width {
            sum.add_scaled(&self.bit(bits.get_bit(k)), weight);
            weight.double_in_place();
        }
        sum
    }
}

impl Num {
    /// Without a variable, for runs on values.
    fn bare(value: Fr) -> Self {
        Self {
            value,
            terms: Vec::new(),
        }
    }

    pub(crate) fn zero() -> Self {
        Self::bare(Fr::ZERO)
    }

    pub(crate) fn one() -> Self {
        Self::constant(Fr::ONE)
    }

    pub(crate) fn constant(value: Fr) -> Self {
        Self {
            value,
            terms: vec![(value, Variable::One)],
        }
    }

    pub(crate) fn int(value: i64) -> Self {
        Self::constant(Fr::from(value))
    }

    /// Adds coefficient × other.
    pub(crate) fn add_scaled(&mut self, other: &Self, coefficient: Fr) {
        self.value += other.value * coefficient;
        let scaled = other.terms.iter().map(|(c, v)| (*c * coefficient, *v));
        self.terms.extend(scaled);
    }

    /// Σ coefficient × number
    pub(crate) fn weighted<'a>(parts: impl IntoIterator<Item = (Fr, &'a Self)>) -> Self {
        let mut sum = Self::zero();
        for (coefficient, part) in parts {
            sum.add_scaled(part, coefficient);
        }
        sum
    }

    pub(crate) fn sum<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::zero();
        for part in parts {
            sum += part;
        }
        sum
    }
}

impl AddAssign<&Num> for Num {
    fn add_assign(&mut self, other: &Num) {
        self.value += other.value;
        self.terms.extend_from_slice(&other.terms);
    }
}

impl Add for &Num {
    type Output = Num;

    fn add(self, other: &Num) -> Num {
        let mut sum = self.clone();
        sum += other;
        sum
    }
}

impl Sub for &Num {
    type Output = Num;

    fn sub(self, other: &Num) -> Num {
        let mut difference = self.clone();
        difference.add_scaled(other, -Fr::ONE);
        difference
    }
}

impl Mul<i64> for &Num {
    type Output = Num;

    fn mul(self, factor: i64) -> Num {
        let mut product = Num::zero();
        product.add_scaled(self, Fr::from(factor));
        product
    }
}

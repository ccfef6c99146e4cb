//! Poseidon over the scalar field of BN254, natively and as constraints.
//!
//! α = 5, 8 full rounds, one element of capacity that starts as a tag or context instead of 0,
//! which separates what is hashed where. Parameters come from the reference Grain generator;
//! the numbers of partial rounds are those of the Poseidon paper for 128 bits.

use std::sync::OnceLock;

use ark_bn254::Fr;
use ark_crypto_primitives::sponge::poseidon::find_poseidon_ark_and_mds;
use ark_ff::{AdditiveGroup, Field};

use crate::builder::{Builder, Num};

/// One width of the permutation.
pub(crate) struct Poseidon {
    /// Elements of the state.
    width: usize,
    partial_rounds: usize,
    /// Constants, by round and element.
    ark: Vec<Vec<Fr>>,
    mds: Vec<Vec<Fr>>,
    template: Vec<Layer>,
}

/// The input of one S-box or one output, as a combination of 1 and the S-boxes' outputs since the
/// last time that all elements went through one.
type Combination = Vec<Fr>;

/// One round: the combinations that enter its S-boxes.
struct Layer {
    full: bool,
    inputs: Vec<Combination>,
}

impl Poseidon {
    /// For commitments: takes 6 elements.
    pub(crate) fn narrow() -> &'static Self {
        static NARROW: OnceLock<Poseidon> = OnceLock::new();
        NARROW.get_or_init(|| Self::new(6, 63))
    }

    /// For the transcript: takes 16 elements at a time.
    pub(crate) fn wide() -> &'static Self {
        static WIDE: OnceLock<Poseidon> = OnceLock::new();
        WIDE.get_or_init(|| Self::new(16, 68))
    }

    fn new(rate: usize, partial_rounds: usize) -> Self {
        let (ark, mds) =
            find_poseidon_ark_and_mds(254, rate, FULL_ROUNDS as u64, partial_rounds as u64, 0);
        let mut poseidon = Self {
            width: rate + 1,
            partial_rounds,
            ark,
            mds,
            template: Vec::new(),
        };
        poseidon.template = poseidon.combinations();
        poseidon
    }

    fn rounds(&self) -> usize {
        FULL_ROUNDS + self.partial_rounds
    }

    fn is_full(&self, round: usize) -> bool {
        round < FULL_ROUNDS / 2 || round >= FULL_ROUNDS / 2 + self.partial_rounds
    }

    /// Hashes elements, whose number must be fixed by the use; the last block is filled up with
    /// zeros.
    pub(crate) fn hash(&self, tag: Fr, elements: &[Fr]) -> Fr {
        let mut state = vec![Fr::ZERO; self.width];
        state[0] = tag;
        for block in elements.chunks(self.width - 1) {
            for (slot, element) in state[1..].iter_mut().zip(block) {
                *slot += element;
            }
            self.permute(&mut state);
        }
        state[1]
    }

    /// [`Self::hash`] as constraints.
    pub(crate) fn enforce(&self, builder: &mut Builder, tag: &Num, elements: &[Num]) -> Num {
        let mut state = vec![Num::zero(); self.width];
        state[0] = tag.clone();
        for block in elements.chunks(self.width - 1) {
            for (slot, element) in state[1..].iter_mut().zip(block) {
                *slot += element;
            }
            state = self.enforce_permutation(builder, &state);
        }
        state.swap_remove(1)
    }

    fn permute(&self, state: &mut Vec<Fr>) {
        for round in 0..self.rounds() {
            for (element, constant) in state.iter_mut().zip(&self.ark[round]) {
                *element += constant;
            }
            let boxes = if self.is_full(round) { self.width } else { 1 };
            for element in &mut state[..boxes] {
                let square = element.square();
                *element *= square.square();
            }
            *state = self.mix(state);
        }
    }

    fn mix(&self, state: &[Fr]) -> Vec<Fr> {
        let dot = |row: &Vec<Fr>| row.iter().zip(state).map(|(m, s)| *m * s).sum();
        self.mds.iter().map(dot).collect()
    }

    /// The combinations of every round after the first, then those of the output.
    fn combinations(&self) -> Vec<Layer> {
        let mut layers = Vec::new();
        let mut state = self.fresh();
        for round in 1..=self.rounds() {
            state = self.mix_combinations(&state);
            if round == self.rounds() {
                layers.push(Layer {
                    full: true,
                    inputs: state,
                });
                break;
            }
            for (element, constant) in state.iter_mut().zip(&self.ark[round]) {
                element[0] += constant;
            }
            if self.is_full(round) {
                let inputs = std::mem::replace(&mut state, self.fresh());
                layers.push(Layer { full: true, inputs });
            } else {
                let basis = state[0].len();
                let mut unit = vec![Fr::ZERO; basis + 1];
                unit[basis] = Fr::ONE;
                let input = std::mem::replace(&mut state[0], unit);
                for element in &mut state[1..] {
                    element.push(Fr::ZERO);
                }
                layers.push(Layer {
                    full: false,
                    inputs: vec![input],
                });
            }
        }
        layers
    }

    /// Every element is an S-box's output.
    fn fresh(&self) -> Vec<Combination> {
        let unit = |i: usize| {
            let mut unit = vec![Fr::ZERO; self.width + 1];
            unit[i + 1] = Fr::ONE;
            unit
        };
        (0..self.width).map(unit).collect()
    }

    fn mix_combinations(&self, state: &[Combination]) -> Vec<Combination> {
        let mix = |row: &Vec<Fr>| {
            let mut sum = vec![Fr::ZERO; state[0].len()];
            for (coefficient, combination) in row.iter().zip(state) {
                for (sum, part) in sum.iter_mut().zip(combination) {
                    *sum += *coefficient * part;
                }
            }
            sum
        };
        self.mds.iter().map(mix).collect()
    }

    fn enforce_permutation(&self, builder: &mut Builder, state: &[Num]) -> Vec<Num> {
        let first = state.iter().zip(&self.ark[0]);
        let mut basis = vec![Num::one()];
        for (element, constant) in first {
            basis.push(fifth_power(builder, &(element + &Num::constant(*constant))));
        }
        let combine = |basis: &[Num], combination: &Combination| {
            Num::weighted(combination.iter().copied().zip(basis))
        };
        let (output, rounds) = self.template.split_last().expect("there are rounds");
        for layer in rounds {
            let inputs: Vec<Num> = layer.inputs.iter().map(|c| combine(&basis, c)).collect();
            if layer.full {
                basis.truncate(1);
            }
            for input in inputs {
                basis.push(fifth_power(builder, &input));
            }
        }
        output.inputs.iter().map(|c| combine(&basis, c)).collect()
    }
}

fn fifth_power(builder: &mut Builder, input: &Num) -> Num {
    let square = builder.mul(input, input);
    let fourth = builder.mul(&square, &square);
    builder.mul(&fourth, input)
}

const FULL_ROUNDS: usize = 8;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ark_crypto_primitives::sponge::poseidon::{PoseidonConfig, PoseidonSponge};
    use ark_crypto_primitives::sponge::{CryptographicSponge, FieldBasedCryptographicSponge};

    use super::*;
    use crate::builder::{Backend, Values};

    #[test]
    fn agrees_with_the_library_and_with_the_constraints() {
        for (poseidon, count) in [(Poseidon::narrow(), 6), (Poseidon::wide(), 35)] {
            let elements: Vec<Fr> = (0..count).map(|i| Fr::from(i * i + 7)).collect();
            let native = poseidon.hash(Fr::ZERO, &elements);
            let config = PoseidonConfig::new(
                FULL_ROUNDS,
                poseidon.partial_rounds,
                5,
                poseidon.mds.clone(),
                poseidon.ark.clone(),
                poseidon.width - 1,
                1,
            );
            let mut sponge = PoseidonSponge::new(&config);
            sponge.absorb(&elements);
            assert_eq!(sponge.squeeze_native_field_elements(1), [native]);

            let mut builder = Builder::new(Backend::Values(Values::default()));
            let nums: Vec<Num> = elements.iter().map(|e| builder.witness(*e)).collect();
            let hash = poseidon.enforce(&mut builder, &Num::zero(), &nums);
            assert_eq!(hash.value, native);
        }
        let tagged = |tag: u64| Poseidon::narrow().hash(Fr::from(tag), &[Fr::ONE]);
        assert_ne!(tagged(1), tagged(2));
    }
}

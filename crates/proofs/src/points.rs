//! Points as words, in the order of the chain's precompiles.

use ark_bn254::{Fq, Fq2, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ff::{BigInteger, PrimeField};
use convoke_protocol::abi::Word;

/// x, y; (0, 0) for the point at infinity.
pub(crate) fn g1_words(point: &G1Affine) -> [Word; 2] {
    let (x, y) = point.xy().unwrap_or_default();
    [x, y].map(to_word)
}

/// x.c1, x.c0, y.c1, y.c0; zeros for the point at infinity.
pub(crate) fn g2_words(point: &G2Affine) -> [Word; 4] {
    let (x, y) = point.xy().unwrap_or_default();
    [x.c1, x.c0, y.c1, y.c0].map(to_word)
}

fn to_word(element: Fq) -> Word {
    let mut word = [0; 32];
    word.copy_from_slice(&element.into_bigint().to_bytes_be());
    word
}

/// `None` if the word is not below the modulus.
pub(crate) fn base_element(word: &Word) -> Option<Fq> {
    let element = Fq::from_be_bytes_mod_order(word);
    (to_word(element) == *word).then_some(element)
}

/// `None` unless the coordinates are in range and on the curve. The point at infinity is refused:
/// no honest key or proof contains it.
pub(crate) fn to_g1([x, y]: [&Word; 2]) -> Option<G1Affine> {
    let point = G1Affine::new_unchecked(base_element(x)?, base_element(y)?);
    let good =
        !point.is_zero() && point.is_on_curve() && point.is_in_correct_subgroup_assuming_on_curve();
    good.then_some(point)
}

/// The same of a point of the twist, which has to be in the subgroup.
pub(crate) fn to_g2([x1, x0, y1, y0]: [&Word; 4]) -> Option<G2Affine> {
    let x = Fq2::new(base_element(x0)?, base_element(x1)?);
    let y = Fq2::new(base_element(y0)?, base_element(y1)?);
    let point = G2Affine::new_unchecked(x, y);
    let good =
        !point.is_zero() && point.is_on_curve() && point.is_in_correct_subgroup_assuming_on_curve();
    good.then_some(point)
}

//! One contribution: new points, and proofs that their factors are known.

use std::fmt;

use ark_bn254::{Bn254, Fq, Fq2, Fr, G1Affine, G2Affine};
use ark_ec::pairing::Pairing;
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{AdditiveGroup, Field, PrimeField};
use rand::{CryptoRng, RngCore};
use zeroize::Zeroize;

use crate::keys::{Circuit, hex};
use crate::points::{g1_words, g2_words};

/// Names a contribution: the hash of the transcript up to and with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt(pub [u8; 32]);

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// A factor that is forgotten when it is dropped.
pub(super) struct Secret(Fr);

impl Secret {
    /// From both sources, so that neither has to be good.
    pub(super) fn draw<const K: usize, R: RngCore + CryptoRng>(
        entropy: &[u8],
        rng: &mut R,
    ) -> [Self; K] {
        let mut drawn = [0; 64];
        rng.fill_bytes(&mut drawn);
        let mut hasher = blake3::Hasher::new_derive_key("convoke ceremony 2026 secrets");
        hasher.update(&drawn).update(entropy);
        let mut stream = hasher.finalize_xof();
        let secrets = std::array::from_fn(|_| {
            loop {
                let mut wide = [0; 64];
                stream.fill(&mut wide);
                let secret = Fr::from_le_bytes_mod_order(&wide);
                wide.zeroize();
                if secret != Fr::ZERO {
                    break Self(secret);
                }
            }
        });
        drawn.zeroize();
        secrets
    }

    pub(super) fn value(&self) -> Fr {
        self.0
    }

    pub(super) fn inverse(&self) -> Self {
        Self(self.0.inverse().unwrap_or_default())
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Of K secrets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Contribution<const K: usize> {
    /// \[product of all secrets so far\]₁
    pub(super) after: [G1Affine; K],
    /// π = s R
    pub(super) known: [G2Affine; K],
}

impl<const K: usize> Contribution<K> {
    pub(super) fn new(state: &[u8; 32], before: [G1Affine; K], secrets: &[Secret; K]) -> Self {
        let after = std::array::from_fn(|i| (before[i] * secrets[i].value()).into_affine());
        Self {
            after,
            known: std::array::from_fn(|i| {
                (challenge(state, i, &after) * secrets[i].value()).into_affine()
            }),
        }
    }

    /// Checks that this follows on `before`, and that its factors are known.
    pub(super) fn check(
        &self,
        state: &[u8; 32],
        before: &[G1Affine; K],
    ) -> Result<(), &'static str> {
        let zero = self.after.iter().any(AffineRepr::is_zero);
        if zero || self.known.iter().any(AffineRepr::is_zero) {
            return Err("a factor is zero");
        }
        for (i, (before, after)) in before.iter().zip(&self.after).enumerate() {
            let random = challenge(state, i, &self.after);
            if Bn254::pairing(after, random) != Bn254::pairing(before, self.known[i]) {
                return Err("it does not know the factor between its point and the one before");
            }
        }
        Ok(())
    }

    /// The transcript's hash with this contribution.
    pub(super) fn state_after(&self, state: &[u8; 32]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("convoke ceremony 2026 contribution");
        hasher.update(state);
        for (after, known) in self.after.iter().zip(&self.known) {
            hasher.update(g1_words(after).as_flattened());
            hasher.update(g2_words(known).as_flattened());
        }
        *hasher.finalize().as_bytes()
    }
}

/// The hash that a transcript starts from.
pub(super) fn state_before(circuit: &Circuit) -> [u8; 32] {
    blake3::derive_key("convoke ceremony 2026 circuit", circuit.hash())
}

/// R, a point of G₂ whose logarithm nobody knows: x coordinates are tried until there is a point,
/// which is brought into the subgroup.
fn challenge(state: &[u8; 32], index: usize, after: &[G1Affine]) -> G2Affine {
    let mut hasher = blake3::Hasher::new_derive_key("convoke ceremony 2026 challenge");
    hasher.update(state).update(&(index as u64).to_be_bytes());
    for point in after {
        hasher.update(g1_words(point).as_flattened());
    }
    let mut stream = hasher.finalize_xof();
    loop {
        let mut wide = [0; 129];
        stream.fill(&mut wide);
        let (c0, rest) = wide.split_at(64);
        let (c1, greatest) = rest.split_at(64);
        let x = Fq2::new(
            Fq::from_le_bytes_mod_order(c0),
            Fq::from_le_bytes_mod_order(c1),
        );
        let point = G2Affine::get_point_from_x_unchecked(x, greatest[0] & 1 == 1);
        if let Some(point) = point.map(|point| point.clear_cofactor())
            && !point.is_zero()
        {
            return point;
        }
    }
}

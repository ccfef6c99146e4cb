//! Sketches as they are spoken of: norms, trees over chunks, and what a trainer signs once the
//! round's seed is known.
//!
//! A delta's values are cut into chunks of [`CHUNK_VALUES`]. Their tree's root is signed with the
//! update, before the seed. Once the seed is drawn, the projection of chunks 0 to c is a sum of 128
//! whole numbers, and a second tree holds those sums for every c. Whoever has the delta can open
//! one chunk with the sums before and after it, and a contract sees for itself whether they fit.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::abi::{self, double_hash};
use crate::identity::{IdentityError, Signature, Wallet, keccak};
use crate::ids::{Address, Digest, RoundId, TaskId, serde_bytes_array};
use crate::payout::PayoutDomain;
use crate::update::typed_digest;

/// Values of one chunk; the last one of a delta may have fewer.
pub const CHUNK_VALUES: usize = 2_048;

/// A Euclidean norm in single precision. Norms are ordered as their bits are, which is what
/// contracts see.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "u32", into = "u32")]
pub struct Norm(u32);

impl TryFrom<u32> for Norm {
    type Error = &'static str;

    fn try_from(bits: u32) -> Result<Self, Self::Error> {
        Self::from_bits(bits).ok_or("these bits are of no norm")
    }
}

impl From<Norm> for u32 {
    fn from(norm: Norm) -> Self {
        norm.0
    }
}

impl Norm {
    /// Of nothing at all.
    pub const ZERO: Self = Self(0);

    /// Rounds to single precision. What is below the normal range is zero, what is above is its
    /// upper end, and what is no number is zero.
    #[must_use]
    pub fn of(norm: f64) -> Self {
        let norm = norm.clamp(0.0, f64::from(f32::MAX)) as f32;
        Self(if norm.is_normal() { norm.to_bits() } else { 0 })
    }

    /// From bits of IEEE 754 binary32; `None` unless they are those of zero or of a positive,
    /// finite, normal number.
    #[must_use]
    pub fn from_bits(bits: u32) -> Option<Self> {
        let norm = f32::from_bits(bits);
        let good = bits == 0 || (norm.is_normal() && norm > 0.0);
        good.then_some(Self(bits))
    }

    /// As IEEE 754 binary32 has it.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The norm.
    #[must_use]
    pub fn value(self) -> f64 {
        f64::from(f32::from_bits(self.0))
    }

    /// The exponent, biased by 127; 0 of zero.
    #[must_use]
    pub fn exponent(self) -> u32 {
        self.0 >> 23
    }

    /// The significand with its leading one, 2²³ to 2²⁴ − 1; 0 of zero. The norm is
    /// mantissa × 2^(exponent − 150).
    #[must_use]
    pub fn mantissa(self) -> u32 {
        match self.0 {
            0 => 0,
            bits => (bits & 0x7f_ffff) | 0x80_0000,
        }
    }

    /// The round's clipping norm: the lower median of those that are not zero, so that idle
    /// trainers do not clip the others to nothing; zero if all are. It is fixed by what was signed
    /// before the seed, and no minority can move it past the others' norms.
    #[must_use]
    pub fn clipping(norms: impl IntoIterator<Item = Self>) -> Self {
        let mut norms: Vec<Self> = norms.into_iter().filter(|n| *n != Self::ZERO).collect();
        norms.sort_unstable();
        let middle = norms.len().saturating_sub(1) / 2;
        norms.get(middle).copied().unwrap_or(Self::ZERO)
    }
}

/// The leaf of one chunk of a delta:
/// the double hash of `(keccak("convoke.delta-chunk.v1"), index, count, keccak(bytes))`.
#[must_use]
pub fn chunk_leaf(index: u64, count: u64, bytes: &[u8]) -> Digest {
    leaf("convoke.delta-chunk.v1", index, count, bytes)
}

/// The leaf of the sums up to and with one chunk:
/// the double hash of `(keccak("convoke.sketch-sum.v1"), index, count, keccak(bytes))`.
#[must_use]
pub fn sums_leaf(index: u64, count: u64, bytes: &[u8]) -> Digest {
    leaf("convoke.sketch-sum.v1", index, count, bytes)
}

fn leaf(tag: &str, index: u64, count: u64, bytes: &[u8]) -> Digest {
    let (index, count) = (abi::number(index), abi::number(count));
    double_hash(&[abi::tag(tag), index, count, keccak(&[bytes]).0])
}

/// Length of a sketch.
pub const SKETCH_LEN: usize = 128;

/// A delta of the clipping norm has sketch values of about this standard deviation; four of them
/// fit in a byte.
pub const SKETCH_UNIT: u32 = 32;

/// A delta's projection, quantized: whole numbers in units of the clipping norm over
/// [`SKETCH_UNIT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sketch(pub [i8; SKETCH_LEN]);

impl Sketch {
    /// Of no delta at all.
    pub const ZERO: Self = Self([0; SKETCH_LEN]);

    /// The inner product; its magnitude is at most 128 · 128² = 2²¹.
    #[must_use]
    pub fn dot(&self, other: &Self) -> i64 {
        let products = self.0.iter().zip(&other.0);
        let sum: i32 = products.map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();
        i64::from(sum)
    }

    /// As bytes in two's complement.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; SKETCH_LEN] {
        self.0.map(i8::cast_unsigned)
    }
}

impl Serialize for Sketch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.to_bytes();
        if serializer.is_human_readable() {
            serializer.collect_str(&format_args!("0x{}", hex::encode(bytes)))
        } else {
            serde_bytes_array::serialize(&bytes, serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Sketch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            let mut bytes = [0; SKETCH_LEN];
            hex::decode_to_slice(text.strip_prefix("0x").unwrap_or(&text), &mut bytes)
                .map_err(serde::de::Error::custom)?;
            bytes
        } else {
            serde_bytes_array::deserialize(deserializer)?
        };
        Ok(Self(bytes.map(u8::cast_signed)))
    }
}

/// What the aggregator finds of one update's sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sketched {
    /// The sketch.
    pub sketch: Sketch,
    /// Poseidon commitment to it.
    pub commitment: Digest,
    /// Root of the tree over the sums.
    pub sums_root: Digest,
}

/// What a trainer says of its sketch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SketchClaim {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundId,
    /// How often the chain has opened the round, from 1.
    pub attempt: u16,
    /// [`crate::update::UpdateHeader::struct_hash`] of its update.
    pub update: Digest,
    /// The round's seed.
    pub seed: Digest,
    /// The round's clipping norm.
    pub clip_norm: Norm,
    /// Poseidon commitment to the sketch.
    pub commitment: Digest,
    /// Root of the tree over the sums.
    pub sums_root: Digest,
}

impl SketchClaim {
    /// The EIP-712 struct hash.
    #[must_use]
    pub fn struct_hash(&self) -> Digest {
        keccak(&[
            &keccak(&[CLAIM_TYPE]).0,
            &abi::number(self.task.0),
            &abi::number(self.round.0),
            &abi::number(self.attempt),
            &self.update.0,
            &self.seed.0,
            &abi::number(self.clip_norm.bits()),
            &self.commitment.0,
            &self.sums_root.0,
        ])
    }

    /// Signs the claim.
    #[must_use]
    pub fn sign(self, domain: &PayoutDomain, wallet: &Wallet) -> SignedSketch {
        let signature = wallet.sign_digest(&typed_digest(domain, &self.struct_hash()));
        SignedSketch {
            trainer: wallet.address(),
            claim: self,
            signature,
        }
    }
}

/// A claim with its trainer and signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedSketch {
    /// Whose claim it is.
    pub trainer: Address,
    /// What is signed.
    pub claim: SketchClaim,
    /// The trainer's signature.
    pub signature: Signature,
}

impl SignedSketch {
    /// Checks that the trainer named signed the claim.
    ///
    /// # Errors
    /// [`IdentityError`] otherwise.
    pub fn verify(&self, domain: &PayoutDomain) -> Result<(), IdentityError> {
        let digest = typed_digest(domain, &self.claim.struct_hash());
        self.signature.verify(&digest, self.trainer)
    }
}

const CLAIM_TYPE: &[u8] = b"Sketch(uint256 task,uint256 round,uint256 attempt,bytes32 update,\
bytes32 seed,uint256 clipNorm,bytes32 commitment,bytes32 sumsRoot)";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn norms_are_ordered_and_taken_apart() {
        let norms = [0.0, 1e-30, 0.1, 1.0, 1.5, 7e20].map(Norm::of);
        assert!(norms.is_sorted());
        for norm in &norms[1..] {
            let exponent = i32::try_from(norm.exponent()).unwrap() - 150;
            let value = f64::from(norm.mantissa()) * 2f64.powi(exponent);
            assert_eq!(value, norm.value());
            assert_eq!(Norm::from_bits(norm.bits()), Some(*norm));
        }
        assert_eq!(Norm::of(1e-45), Norm::ZERO);
        assert_eq!(Norm::of(f64::NAN), Norm::ZERO);
        assert_eq!(Norm::of(f64::INFINITY).value(), f64::from(f32::MAX));
        for bad in [
            1,
            0x8000_0000,
            f32::INFINITY.to_bits(),
            f32::NAN.to_bits(),
            (-1f32).to_bits(),
        ] {
            assert_eq!(Norm::from_bits(bad), None);
        }
    }

    #[test]
    fn the_clipping_norm_is_a_lower_median_without_zeros() {
        let clipping = |norms: &[f64]| Norm::clipping(norms.iter().map(|n| Norm::of(*n))).value();
        assert_eq!(clipping(&[]), 0.0);
        assert_eq!(clipping(&[0.0, 0.0]), 0.0);
        assert_eq!(clipping(&[0.0, 0.0, 4.0, 2.0]), 2.0);
        assert_eq!(clipping(&[1.0, 4.0, 2.0]), 2.0);
    }

    #[test]
    fn every_field_and_the_domain_are_signed() {
        let domain = PayoutDomain {
            chain_id: 31_337,
            contract: Address([5; 20]),
        };
        let wallet = Wallet::from_bytes(&[1; 32]).unwrap();
        let claim = SketchClaim {
            task: TaskId(1),
            round: RoundId(2),
            attempt: 3,
            update: Digest([4; 32]),
            seed: Digest([5; 32]),
            clip_norm: Norm::of(6.0),
            commitment: Digest([7; 32]),
            sums_root: Digest([8; 32]),
        };
        let signed = claim.sign(&domain, &wallet);
        signed.verify(&domain).unwrap();
        let changes: [fn(&mut SketchClaim); 8] = [
            |c| c.task = TaskId(9),
            |c| c.round = RoundId(9),
            |c| c.attempt = 9,
            |c| c.update = Digest([9; 32]),
            |c| c.seed = Digest([9; 32]),
            |c| c.clip_norm = Norm::of(9.0),
            |c| c.commitment = Digest([9; 32]),
            |c| c.sums_root = Digest([9; 32]),
        ];
        for change in changes {
            let mut changed = signed.clone();
            change(&mut changed.claim);
            assert!(changed.verify(&domain).is_err(), "{:?}", changed.claim);
        }
        let other = PayoutDomain {
            chain_id: 1,
            ..domain
        };
        assert!(signed.verify(&other).is_err());
    }

    #[test]
    fn leaves_bind_place_and_kind() {
        let leaf = chunk_leaf(1, 2, b"x");
        assert_ne!(leaf, chunk_leaf(0, 2, b"x"));
        assert_ne!(leaf, chunk_leaf(1, 3, b"x"));
        assert_ne!(leaf, chunk_leaf(1, 2, b"y"));
        assert_ne!(leaf, sums_leaf(1, 2, b"x"));
    }
}

//! The random signs of the projection: keccak per chunk, SplitMix64 (Steele, Lea and Flood,
//! 2014) within it.

use std::ops::Range;

use convoke_protocol::abi;
use convoke_protocol::ids::Digest;

use crate::tree::hash_all;

/// The keys of one chunk's signs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkSigns([u64; 4]);

/// 128 signs, 64 a word, lowest bit first; a 1 is a minus.
pub(crate) type SignBits = [u64; 2];

impl ChunkSigns {
    /// keccak256(seed ‖ chunk as uint256), as four big-endian words, of each of these chunks.
    pub(crate) fn of_chunks(seed: &Digest, chunks: Range<u64>) -> Vec<Self> {
        let message = |chunk: u64| {
            let mut message = [0; 64];
            message[..32].copy_from_slice(&seed.0);
            message[32..].copy_from_slice(&abi::number(chunk));
            message
        };
        let messages: Vec<_> = chunks.map(message).collect();
        let hashes = hash_all(&messages);
        hashes.iter().map(Self::from_hash).collect()
    }

    fn from_hash(hash: &Digest) -> Self {
        let mut keys = [0; 4];
        for (key, bytes) in keys.iter_mut().zip(hash.0.as_chunks::<8>().0) {
            *key = u64::from_be_bytes(*bytes);
        }
        Self(keys)
    }

    /// D and D′ of block number `block` of the chunk.
    #[inline(always)]
    pub(crate) fn of_block(&self, block: u64) -> (SignBits, SignBits) {
        let step = block.wrapping_mul(GOLDEN_GAMMA);
        let [a, b, c, d] = self.0.map(|key| mix(key.wrapping_add(step)));
        ([a, b], [c, d])
    }
}

/// The finalizer of SplitMix64.
#[inline(always)]
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// SplitMix64's increment, 2⁶⁴ over the golden ratio.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs of the generator seeded with 1234567, as published with its reference
    /// implementation.
    #[test]
    fn mixes_as_splitmix64_does() {
        let outputs =
            [1u64, 2, 3].map(|i| mix(1_234_567u64.wrapping_add(i.wrapping_mul(GOLDEN_GAMMA))));
        assert_eq!(
            outputs,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }
}

//! keccak256 of four messages at once, one in each lane of wide registers: the trees over chunks
//! and sums are most of the work otherwise.

use convoke_protocol::identity::keccak;
use convoke_protocol::ids::Digest;

/// Messages hashed at once.
pub(crate) const LANES: usize = 4;

/// keccak256 of each of four messages of one length. Where the processor has no AVX2 they are
/// hashed one by one.
///
/// # Panics
/// If a message is shorter than the first one.
pub(crate) fn keccak4(messages: [&[u8]; LANES]) -> [Digest; LANES] {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(wide::Messages { simd, messages });
    }
    messages.map(|message| keccak(&[message]))
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use convoke_protocol::ids::Digest;
    use pulp::x86::V3;
    use pulp::{NullaryFnOnce, cast, u64x2, u64x4};

    use super::LANES;

    pub(super) struct Messages<'a> {
        pub(super) simd: V3,
        pub(super) messages: [&'a [u8]; LANES],
    }

    /// Not a closure: the compiler does not inline those into code for other instructions.
    impl NullaryFnOnce for Messages<'_> {
        type Output = [Digest; LANES];

        #[inline(always)]
        fn call(self) -> [Digest; LANES] {
            let Self { simd, messages } = self;
            let length = messages[0].len();
            let mut state = [u64x4(0, 0, 0, 0); 25];
            let whole = length - length % RATE;
            for start in (0..whole).step_by(RATE) {
                absorb(simd, &mut state, messages.map(|m| &m[start..start + RATE]));
                permute(simd, &mut state);
            }
            let mut last = [[0; RATE]; LANES];
            for (last, message) in last.iter_mut().zip(messages) {
                let rest = &message[whole..length];
                last[..rest.len()].copy_from_slice(rest);
                // Keccak's padding as Ethereum has it, not SHA-3's.
                last[rest.len()] |= 0x01;
                last[RATE - 1] |= 0x80;
            }
            absorb(simd, &mut state, last.each_ref().map(|m| &m[..]));
            permute(simd, &mut state);
            let mut digests = [Digest::ZERO; LANES];
            for (i, word) in state[..4].iter().enumerate() {
                let words: [u64; LANES] = cast(*word);
                for (digest, word) in digests.iter_mut().zip(words) {
                    digest.0[8 * i..8 * i + 8].copy_from_slice(&word.to_le_bytes());
                }
            }
            digests
        }
    }

    #[inline(always)]
    fn absorb(simd: V3, state: &mut [u64x4; 25], blocks: [&[u8]; LANES]) {
        let word = |lane: usize, i: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&blocks[lane][8 * i..8 * i + 8]);
            u64::from_le_bytes(bytes)
        };
        for (i, state) in state.iter_mut().enumerate().take(RATE / 8) {
            let words = u64x4(word(0, i), word(1, i), word(2, i), word(3, i));
            *state = simd.xor_u64x4(*state, words);
        }
    }

    /// Keccak-f with 1,600 bits of FIPS 202, section 3.2.
    #[inline(always)]
    fn permute(simd: V3, state: &mut [u64x4; 25]) {
        let mut a = *state;
        for constant in ROUND_CONSTANTS {
            let mut columns = [a[0]; 5];
            for x in 0..5 {
                let upper = simd.xor_u64x4(a[x], a[x + 5]);
                let lower = simd.xor_u64x4(a[x + 10], a[x + 15]);
                columns[x] = simd.xor_u64x4(simd.xor_u64x4(upper, lower), a[x + 20]);
            }
            let mut b = a;
            for x in 0..5 {
                let next = rotate(simd, columns[(x + 1) % 5], 1);
                let theta = simd.xor_u64x4(columns[(x + 4) % 5], next);
                for y in 0..5 {
                    let word = simd.xor_u64x4(a[x + 5 * y], theta);
                    let moved = y + 5 * ((2 * x + 3 * y) % 5);
                    b[moved] = rotate(simd, word, ROTATIONS[x + 5 * y]);
                }
            }
            for y in (0..25).step_by(5) {
                for x in 0..5 {
                    let other = simd.andnot_u64x4(b[y + (x + 1) % 5], b[y + (x + 2) % 5]);
                    a[y + x] = simd.xor_u64x4(b[y + x], other);
                }
            }
            a[0] = simd.xor_u64x4(a[0], simd.splat_u64x4(constant));
        }
        *state = a;
    }

    #[inline(always)]
    fn rotate(simd: V3, word: u64x4, bits: u64) -> u64x4 {
        let left = simd.shl_u64x4(word, u64x2(bits, 0));
        let right = simd.shr_u64x4(word, u64x2(64 - bits, 0));
        simd.or_u64x4(left, right)
    }

    /// Bytes of a message absorbed by one permutation.
    const RATE: usize = 136;

    /// Of word x + 5 y.
    const ROTATIONS: [u64; 25] = [
        0, 1, 62, 28, 27, 36, 44, 6, 55, 20, 3, 10, 43, 25, 39, 41, 45, 15, 21, 8, 18, 2, 61, 56,
        14,
    ];

    const ROUND_CONSTANTS: [u64; 24] = [
        0x0000_0000_0000_0001,
        0x0000_0000_0000_8082,
        0x8000_0000_0000_808a,
        0x8000_0000_8000_8000,
        0x0000_0000_0000_808b,
        0x0000_0000_8000_0001,
        0x8000_0000_8000_8081,
        0x8000_0000_0000_8009,
        0x0000_0000_0000_008a,
        0x0000_0000_0000_0088,
        0x0000_0000_8000_8009,
        0x0000_0000_8000_000a,
        0x0000_0000_8000_808b,
        0x8000_0000_0000_008b,
        0x8000_0000_0000_8089,
        0x8000_0000_0000_8003,
        0x8000_0000_0000_8002,
        0x8000_0000_0000_0080,
        0x0000_0000_0000_800a,
        0x8000_0000_8000_000a,
        0x8000_0000_8000_8081,
        0x8000_0000_0000_8080,
        0x0000_0000_8000_0001,
        0x8000_0000_8000_8008,
    ];
}

#[cfg(test)]
mod tests {
    use convoke_protocol::identity::keccak;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_as_one_by_one_at_every_length() {
        for length in (0..300).chain([1_056, 8_192]) {
            let messages = [1u8, 2, 3, 4].map(|salt| {
                (0..length)
                    .map(|i| (i % 251) as u8 ^ salt)
                    .collect::<Vec<u8>>()
            });
            let expected = messages.each_ref().map(|message| keccak(&[message]));
            assert_eq!(
                keccak4(messages.each_ref().map(|m| &m[..])),
                expected,
                "{length}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_same_as_one_by_one(
            messages in (0usize..500).prop_flat_map(|length| {
                prop::array::uniform4(prop::collection::vec(any::<u8>(), length))
            }),
        ) {
            let expected = messages.each_ref().map(|message| keccak(&[message]));
            prop_assert_eq!(keccak4(messages.each_ref().map(|m| &m[..])), expected);
        }
    }
}

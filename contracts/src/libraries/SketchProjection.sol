// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Norms} from "./Norms.sol";

// What static analysis points at, and why it stays:
// - assembly: each of 2,048 values is read, turned and added; its memory was allocated for it;
// - too-many-digits: patterns of bits;
// - uninitialized-local: memory begins as zeros.
// slither-disable-start assembly,too-many-digits,uninitialized-local

/// @title The projection of one chunk of a delta
/// @notice As `crates/sketch` has it, in whole numbers. A chunk has up to 2,048 single-precision
/// values, little endian: 16 blocks of 128, filled up with zeros. A value v becomes
/// q = v 2^S, rounded towards zero and clamped to 24 bits, where S follows from the clipping norm.
/// With signs D and D' of the seed, and H the Hadamard matrix of order 128, the projection is the
/// sum over the blocks of D' H D q; beside it goes the sum of all q².
/// @dev About 1,130,000 gas for a full chunk.
library SketchProjection {
    /// @notice Values, and bytes, of a chunk; the last one of a delta may have fewer.
    uint256 internal constant CHUNK_VALUES = 2_048;
    uint256 internal constant CHUNK_BYTES = 8_192;

    uint256 private constant LANES = 128;
    uint256 private constant BLOCK_BYTES = 512;
    /// @dev Blocks that are transformed at once, in the 32-bit parts of a word.
    uint256 private constant PARTS = 8;
    uint256 private constant Q_MAX = (1 << 24) - 1;
    /// @dev 2^31 in each part: H of 128 numbers of 24 bits stays below that.
    uint256 private constant BIAS =
        0x8000000080000000800000008000000080000000800000008000000080000000;
    uint256 private constant LOW_BYTES =
        0x00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff;
    uint256 private constant LOW_PAIRS =
        0x0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff0000ffff;
    uint256 private constant GOLDEN = 0x9e3779b97f4a7c15;

    /// @notice What one chunk adds to the sums.
    /// @param chunk Its bytes, a multiple of 4 and at most `CHUNK_BYTES`.
    /// @param index Its place in the delta, from 0.
    /// @return lanes The projection.
    /// @return energy The sum of q².
    function project(bytes calldata chunk, uint256 index, bytes32 seed, uint256 clipNorm)
        internal
        pure
        returns (int256[LANES] memory lanes, uint256 energy)
    {
        uint256 key = uint256(keccak256(abi.encode(seed, index)));
        // The exponent from which on a value is clamped.
        uint256 top = Norms.exponent(clipNorm) + 2;
        uint256 blocks = (chunk.length + BLOCK_BYTES - 1) / BLOCK_BYTES;
        for (uint256 first = 0; first < blocks; first += PARTS) {
            uint256[LANES] memory work;
            uint256 end = first + PARTS < blocks ? first + PARTS : blocks;
            for (uint256 b = first; b < end; ++b) {
                energy += _load(work, chunk, b, _signs(key, b, 192, 128), top);
            }
            _transform(work);
            for (uint256 b = first; b < end; ++b) {
                _collect(lanes, work, 32 * (b - first), _signs(key, b, 64, 0));
            }
        }
    }

    /// @dev Reads a block's values, with its first signs, into one part of the words.
    function _load(
        uint256[LANES] memory work,
        bytes calldata chunk,
        uint256 b,
        uint256 signs,
        uint256 top
    ) private pure returns (uint256 energy) {
        uint256 begin = b * BLOCK_BYTES;
        uint256 length = chunk.length - begin;
        if (length > BLOCK_BYTES) length = BLOCK_BYTES;
        uint256 shift = 32 * (b % PARTS);
        assembly ("memory-safe") {
            let place := work
            let from := add(chunk.offset, begin)
            let end := add(from, length)
            for {} lt(from, end) { from := add(from, 0x20) } {
                let word := calldataload(from)
                // What follows the chunk in the calldata is none of its values.
                let left := sub(end, from)
                if lt(left, 0x20) {
                    let excess := sub(256, mul(8, left))
                    word := shl(excess, shr(excess, word))
                }
                // Little endian to big endian in all eight values.
                word := or(and(shr(8, word), LOW_BYTES), shl(8, and(word, LOW_BYTES)))
                word := or(and(shr(16, word), LOW_PAIRS), shl(16, and(word, LOW_PAIRS)))
                for { let position := 256 } position {} {
                    position := sub(position, 32)
                    let bits := and(shr(position, word), 0xffffffff)
                    let exponent := and(shr(23, bits), 0xff)
                    // The leading one of a normal number; others have the exponent of the least.
                    let q := or(and(bits, 0x7fffff), shl(23, iszero(iszero(exponent))))
                    exponent := add(exponent, iszero(exponent))
                    switch gt(exponent, top)
                    case 0 { q := shr(sub(top, exponent), q) }
                    default { q := Q_MAX }
                    energy := add(energy, mul(q, q))
                    // Minus if the value's sign and the seed's differ.
                    let minus := sub(0, and(xor(shr(31, bits), signs), 1))
                    signs := shr(1, signs)
                    mstore(place, add(mload(place), shl(shift, sub(xor(q, minus), minus))))
                    place := add(place, 0x20)
                }
            }
        }
    }

    /// @dev H, for all blocks in the words at once: sums and differences of whole words are those
    /// of their parts, as long as these are read with their borrows.
    function _transform(uint256[LANES] memory work) private pure {
        assembly ("memory-safe") {
            let end := add(work, 0x1000)
            for { let half := 0x20 } lt(half, 0x1000) { half := shl(1, half) } {
                for { let group := work } lt(group, end) { group := add(group, shl(1, half)) } {
                    let middle := add(group, half)
                    for { let place := group } lt(place, middle) { place := add(place, 0x20) } {
                        let a := mload(place)
                        let other := add(place, half)
                        let b := mload(other)
                        mstore(place, add(a, b))
                        mstore(other, sub(a, b))
                    }
                }
            }
        }
    }

    /// @dev Adds one part of the words, with a block's second signs, to the sums.
    function _collect(
        int256[LANES] memory lanes,
        uint256[LANES] memory work,
        uint256 shift,
        uint256 signs
    ) private pure {
        assembly ("memory-safe") {
            let end := add(lanes, 0x1000)
            for { let place := lanes } lt(place, end) { place := add(place, 0x20) } {
                // With a bias there are no borrows.
                let part := and(shr(shift, add(mload(work), BIAS)), 0xffffffff)
                let minus := sub(0, and(signs, 1))
                signs := shr(1, signs)
                let value := sub(xor(sub(part, 0x80000000), minus), minus)
                mstore(place, add(mload(place), value))
                work := add(work, 0x20)
            }
        }
    }

    /// @dev 128 signs of a block, the first in the lowest bit, from the chunk's key: two of its
    /// words of 64 bits, by where they begin.
    function _signs(uint256 key, uint256 b, uint256 low, uint256 high)
        private
        pure
        returns (uint256)
    {
        unchecked {
            return _mixed(uint64(key >> low) + uint64(b * GOLDEN))
                | (uint256(_mixed(uint64(key >> high) + uint64(b * GOLDEN))) << 64);
        }
    }

    /// @dev The finalizer of SplitMix64.
    function _mixed(uint64 z) private pure returns (uint64) {
        unchecked {
            z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
            z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
            return z ^ (z >> 31);
        }
    }
}
// slither-disable-end assembly,too-many-digits,uninitialized-local

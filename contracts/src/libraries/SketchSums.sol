// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Norms} from "./Norms.sol";

// What static analysis points at, and why it stays:
// - assembly: words of calldata whose length the caller has checked.
// slither-disable-start assembly

/// @title Sums of projections, and the sketch that follows from them
/// @notice The bytes are those of `crates/sketch`: 128 numbers of 64 bits, two's complement, big
/// endian, four a word, the first in the highest place; then the sum of all q² as a word.
library SketchSums {
    /// @notice Bytes of the sums.
    uint256 internal constant BYTES = 1_056;

    uint256 private constant LANES = 128;
    uint256 private constant WORDS = 32;
    uint256 private constant BYTES_PER_ELEMENT = 31;
    /// @dev Clamped to what a signed byte holds; stored with 128 added.
    uint256 private constant VALUE_MAX = 127;
    uint256 private constant VALUE_ZERO = 128;
    /// @dev With norms so far apart every value rounds to zero.
    uint256 private constant DISTANCE_MAX = 64;
    /// @dev The smallest and the largest norm that is not zero.
    uint256 private constant NORM_MIN = 1 << 23;
    uint256 private constant NORM_MAX = 0x7f7fffff;

    /// @notice Whether sums are those before, and what one chunk adds. Modulo 2^64, within which
    /// true sums lie.
    /// @param before Empty, or `BYTES` bytes.
    /// @param afterwards `BYTES` bytes.
    function follow(
        bytes calldata before,
        bytes calldata afterwards,
        int256[LANES] memory lanes,
        uint256 energy
    ) internal pure returns (bool same) {
        assembly ("memory-safe") {
            let word := 0
            let old := 0
            let place := lanes
            same := 1
            for { let i := 0 } lt(i, mul(0x20, WORDS)) { i := add(i, 0x20) } {
                if before.length { old := calldataload(add(before.offset, i)) }
                word := 0
                for { let shift := 256 } shift {} {
                    shift := sub(shift, 64)
                    let sum := and(add(shr(shift, old), mload(place)), 0xffffffffffffffff)
                    word := or(word, shl(shift, sum))
                    place := add(place, 0x20)
                }
                same := and(same, eq(word, calldataload(add(afterwards.offset, i))))
            }
            old := 0
            if before.length { old := calldataload(add(before.offset, 0x400)) }
            let last := calldataload(add(afterwards.offset, 0x400))
            same := and(same, eq(add(old, energy), last))
        }
    }

    /// @notice The sum of all q².
    function energyOf(bytes calldata sums) internal pure returns (uint256) {
        return uint256(bytes32(sums[32 * WORDS:]));
    }

    /// @notice Whether a delta's norm was declared too low: 127 / 128 of the energy are more than
    /// the norm's square, which rounding cannot bring about.
    /// @dev A norm of zero stands for all below the least normal number, and the largest one for
    /// all above it.
    function isUnderDeclared(uint256 energy, uint256 norm, uint256 clipNorm)
        internal
        pure
        returns (bool)
    {
        if (norm == NORM_MAX || energy == 0) return false;
        if (norm == 0) norm = NORM_MIN;
        // (norm 2^S)^2 = mantissa^2 2^(2 (exponent - clip exponent)) / 16.
        uint256 left = 16 * 127;
        uint256 right = 128 * Norms.mantissa(norm) ** 2;
        (uint256 own, uint256 clip) = (Norms.exponent(norm), Norms.exponent(clipNorm));
        // Beyond these the comparison is decided: the product on the left is below 2^255, as the
        // right one is, and neither is zero.
        if (energy >> 200 != 0) return true;
        if (own >= clip) {
            uint256 up = 2 * (own - clip);
            return up < 200 && left * energy > right << up;
        }
        uint256 down = 2 * (clip - own);
        // right / 2^down, rounded down: the left side is whole.
        return left * energy > (down < 256 ? right >> down : 0);
    }

    /// @notice What is committed to: the sketch of a whole delta's sums, and whose it is.
    /// @param clipNorm The round's norm T, `norm` that of the delta, N.
    /// @dev With L = max(T, N), value i is 32 P_i / (L 2^S), rounded to the nearest, halves away
    /// from zero, and clamped. Values have 31 to an element, as v + 128, the first in the lowest
    /// byte; the trainer's address has an element of its own.
    function packed(bytes calldata sums, uint256 norm, uint256 clipNorm, address trainer)
        internal
        pure
        returns (uint256[6] memory elements)
    {
        uint256 scale = _scale(norm, clipNorm);
        for (uint256 i = 0; i < LANES; ++i) {
            int256 sum = int64(uint64(bytes8(sums[8 * i:])));
            uint256 value = _quantized(sum, scale);
            elements[i / BYTES_PER_ELEMENT] |= value << (8 * (i % BYTES_PER_ELEMENT));
        }
        elements[5] = uint160(trainer);
    }

    /// @dev Q, by which 128 P_i is divided; zero if all values are zero.
    function _scale(uint256 norm, uint256 clipNorm) private pure returns (uint256) {
        if (clipNorm == 0) return 0;
        uint256 larger = norm > clipNorm ? norm : clipNorm;
        uint256 distance = Norms.exponent(larger) - Norms.exponent(clipNorm);
        return distance > DISTANCE_MAX ? 0 : Norms.mantissa(larger) << distance;
    }

    /// @dev With 128 added.
    function _quantized(int256 sum, uint256 scale) private pure returns (uint256) {
        if (scale == 0) return VALUE_ZERO;
        uint256 value = (256 * uint256(sum < 0 ? -sum : sum) + scale) / (2 * scale);
        if (value > VALUE_MAX) value = VALUE_MAX;
        return sum < 0 ? VALUE_ZERO - value : VALUE_ZERO + value;
    }
}
// slither-disable-end assembly

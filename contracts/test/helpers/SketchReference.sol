// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice The projection of a chunk by its definition, slowly.
library SketchReference {
    function project(bytes memory chunk, uint256 index, bytes32 seed, uint256 clipNorm)
        internal
        pure
        returns (int256[128] memory lanes, uint256 energy)
    {
        uint256 values = chunk.length / 4;
        for (uint256 b = 0; 128 * b < values; ++b) {
            int256[128] memory q;
            uint256[2] memory first = [word(seed, index, b, 0), word(seed, index, b, 1)];
            uint256[2] memory second = [word(seed, index, b, 2), word(seed, index, b, 3)];
            for (uint256 i = 0; i < 128 && 128 * b + i < values; ++i) {
                int256 value = whole(chunk, 128 * b + i, clipNorm);
                energy += uint256(value * value);
                q[i] = first[i / 64] >> (i % 64) & 1 == 1 ? -value : value;
            }
            q = hadamard(q);
            for (uint256 i = 0; i < 128; ++i) {
                lanes[i] += second[i / 64] >> (i % 64) & 1 == 1 ? -q[i] : q[i];
            }
        }
    }

    /// @notice By halves: H of the sum, then H of the difference.
    function hadamard(int256[128] memory q) internal pure returns (int256[128] memory) {
        for (uint256 half = 64; half > 0; half /= 2) {
            int256[128] memory next;
            for (uint256 i = 0; i < 128; ++i) {
                next[i] = i & half == 0 ? q[i] + q[i + half] : q[i - half] - q[i];
            }
            q = next;
        }
        return q;
    }

    /// @notice 1 where value `i` of a chunk has its sign turned before (`which` 0) the transform.
    function sign(bytes32 seed, uint256 index, uint256 i, uint256 which)
        internal
        pure
        returns (uint256)
    {
        return word(seed, index, i / 128, 2 * which + i % 128 / 64) >> (i % 64) & 1;
    }

    function whole(bytes memory chunk, uint256 i, uint256 clipNorm) private pure returns (int256) {
        uint256 bits = uint256(uint8(chunk[4 * i + 3])) << 24 | uint256(uint8(chunk[4 * i + 2]))
            << 16 | uint256(uint8(chunk[4 * i + 1])) << 8 | uint8(chunk[4 * i]);
        uint256 exponent = bits >> 23 & 0xff;
        uint256 q = bits & 0x7fffff;
        if (exponent == 0) exponent = 1;
        else q |= 1 << 23;
        uint256 clip = clipNorm >> 23;
        if (exponent > clip + 2) q = q == 0 ? 0 : 0xffffff;
        else q /= 2 ** (clip + 2 - exponent);
        return bits >> 31 == 1 ? -int256(q) : int256(q);
    }

    function word(bytes32 seed, uint256 index, uint256 b, uint256 j)
        private
        pure
        returns (uint256)
    {
        uint256 modulus = 1 << 64;
        uint256 key =
            uint256(keccak256(abi.encodePacked(seed, index))) / 2 ** (192 - 64 * j) % modulus;
        uint256 z = (key + b * 0x9E3779B97F4A7C15) % modulus;
        z ^= z >> 30;
        z = z * 0xBF58476D1CE4E5B9 % modulus;
        z ^= z >> 27;
        z = z * 0x94D049BB133111EB % modulus;
        return z ^ (z >> 31);
    }
}

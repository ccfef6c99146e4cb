// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @title Euclidean norms in single precision
/// @notice Bits of a positive, finite, normal IEEE 754 binary32, or 0 for zero. A norm is
/// mantissa × 2^(exponent − 150); norms are ordered as their bits are.
library Norms {
    /// @notice These bits are of no norm.
    error NotANorm(uint256 bits);

    uint256 private constant NORMAL_MIN = 1 << 23;
    uint256 private constant INFINITY = 0xff << 23;

    /// @notice Reverts unless the bits are those of a norm.
    function check(uint256 bits) internal pure {
        if (!isNorm(bits)) revert NotANorm(bits);
    }

    /// @notice Whether the bits are those of a norm.
    function isNorm(uint256 bits) internal pure returns (bool) {
        return bits == 0 || (bits >= NORMAL_MIN && bits < INFINITY);
    }

    /// @notice The exponent, biased by 127; 0 of zero.
    function exponent(uint256 bits) internal pure returns (uint256) {
        return bits >> 23;
    }

    /// @notice The significand with its leading one, 2^23 to 2^24 − 1; 0 of zero.
    function mantissa(uint256 bits) internal pure returns (uint256) {
        return bits == 0 ? 0 : (bits & (NORMAL_MIN - 1)) | NORMAL_MIN;
    }
}

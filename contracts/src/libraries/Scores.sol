// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

// What static analysis points at, and why it stays:
// - divide-before-multiply: the first quotient is meant to be rounded;
// - assembly: loads of two bytes from calldata, which the caller has checked for length.
// slither-disable-start divide-before-multiply,assembly

/// @title Factors, their stake-weighted median, and agreement with it
/// @notice Factors are two bytes each, big endian, one for each update. The weighted lower median
/// is the least value at or below which half of the weight lies: a minority of the stake cannot
/// move it past the others' values.
library Scores {
    /// @notice The factor of an ordinary update.
    uint16 internal constant FACTOR_ONE = 10_000;
    /// @notice No factor is above this, so that one lucky measurement does not take the pool.
    uint16 internal constant FACTOR_MAX = 20_000;
    /// @notice Distance from the median from which on disagreement does not grow.
    uint16 internal constant AGREEMENT_CLIP = 5_000;
    /// @notice Full agreement.
    uint256 internal constant AGREEMENT_ONE = 10_000;

    /// @notice The factor at `index`; the caller has checked the length.
    function factorAt(bytes calldata factors, uint256 index) internal pure returns (uint16 factor) {
        assembly ("memory-safe") {
            factor := shr(240, calldataload(add(factors.offset, mul(index, 2))))
        }
    }

    /// @notice The largest factor.
    function max(bytes calldata factors) internal pure returns (uint16 largest) {
        uint256 count = factors.length / 2;
        for (uint256 i = 0; i < count; ++i) {
            uint16 factor = factorAt(factors, i);
            if (factor > largest) largest = factor;
        }
    }

    /// @notice Where in the calldata each reveal's factors begin.
    function starts(bytes[] calldata reveals) internal pure returns (uint256[] memory places) {
        places = new uint256[](reveals.length);
        for (uint256 v = 0; v < reveals.length; ++v) {
            bytes calldata reveal = reveals[v];
            uint256 place;
            assembly ("memory-safe") {
                place := reveal.offset
            }
            places[v] = place;
        }
    }

    /// @notice Whether `middle` is the weighted lower median of the reveals' factors at `index`,
    /// and what each reveal is off, clipped, added to `deviations`.
    /// @dev In assembly: this runs for each update and validator, and the largest round must fit
    /// a transaction.
    /// @param places `starts` of the reveals, whose lengths the caller has checked.
    /// @param weights One for each reveal, below 2^128.
    /// @param total Their sum.
    /// @param deviations One for each reveal.
    function checkMedian(
        uint256[] memory places,
        uint256 index,
        uint256 middle,
        uint256[] memory weights,
        uint256 total,
        uint256[] memory deviations
    ) internal pure returns (bool) {
        uint256 below = 0;
        uint256 upTo = 0;
        assembly ("memory-safe") {
            // All three arrays have as many words, after one that says how many.
            let end := mul(add(mload(places), 1), 32)
            let offset := mul(index, 2)
            for { let word := 32 } lt(word, end) { word := add(word, 32) } {
                let factor := shr(240, calldataload(add(mload(add(places, word)), offset)))
                let weight := mload(add(weights, word))
                let off := sub(factor, middle)
                if iszero(gt(factor, middle)) {
                    upTo := add(upTo, weight)
                    off := sub(middle, factor)
                    if off { below := add(below, weight) }
                }
                if gt(off, AGREEMENT_CLIP) { off := AGREEMENT_CLIP }
                let sum := add(deviations, word)
                mstore(sum, add(mload(sum), off))
            }
        }
        // Both together say that the median is one of the values.
        return 2 * below < total && 2 * upTo >= total;
    }

    /// @notice The weighted lower median of few values.
    /// @param total The sum of the weights, above zero.
    function lowerMedian(uint16[] memory values, uint256[] memory weights, uint256 total)
        internal
        pure
        returns (uint16 least)
    {
        least = type(uint16).max;
        for (uint256 i = 0; i < values.length; ++i) {
            if (values[i] >= least) continue;
            uint256 upTo = 0;
            for (uint256 v = 0; v < values.length; ++v) {
                if (values[v] <= values[i]) upTo += weights[v];
            }
            if (2 * upTo >= total) least = values[i];
        }
    }

    /// @notice One minus the mean clipped deviation over the clip, in ten-thousandths.
    /// @param deviation Sum over `count` updates.
    function agreementDown(uint256 deviation, uint256 count) internal pure returns (uint256) {
        if (count == 0) return AGREEMENT_ONE;
        uint256 most = count * AGREEMENT_CLIP;
        return AGREEMENT_ONE - (AGREEMENT_ONE * deviation + most - 1) / most;
    }

    /// @notice A validator's pay: its part of the weight times its agreement.
    /// @param pool What all validators share; below 2^128, as `weight` is.
    function payDown(uint256 pool, uint256 weight, uint256 total, uint256 agreement)
        internal
        pure
        returns (uint128)
    {
        // Two steps, each rounded down: one product of all three could pass 2^256.
        uint256 part = total == 0 ? 0 : (pool * weight) / total;
        return uint128((part * agreement) / AGREEMENT_ONE);
    }
}
// slither-disable-end divide-before-multiply,assembly

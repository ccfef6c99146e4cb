// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice The formulas of `src/libraries/Scores.sol` as one would write them on paper.
library Reference {
    /// @notice Sorts by value, then adds up weights until half of them is reached.
    function lowerMedian(uint16[] memory values, uint256[] memory weights)
        internal
        pure
        returns (uint16)
    {
        uint16[] memory sorted = new uint16[](values.length);
        uint256[] memory moved = new uint256[](values.length);
        uint256 total = 0;
        for (uint256 i = 0; i < values.length; ++i) {
            uint256 place = i;
            for (; place > 0 && sorted[place - 1] > values[i]; --place) {
                (sorted[place], moved[place]) = (sorted[place - 1], moved[place - 1]);
            }
            (sorted[place], moved[place]) = (values[i], weights[i]);
            total += weights[i];
        }
        uint256 sum = 0;
        for (uint256 i = 0; i < sorted.length; ++i) {
            sum += moved[i];
            if (sum > 0 && sum >= total - sum) return sorted[i];
        }
        return 0;
    }

    /// @notice The median of each update over all validators.
    function medians(uint16[][] memory reveals, uint256[] memory weights)
        internal
        pure
        returns (uint16[] memory middle)
    {
        middle = new uint16[](reveals[0].length);
        uint16[] memory column = new uint16[](reveals.length);
        for (uint256 i = 0; i < middle.length; ++i) {
            for (uint256 v = 0; v < reveals.length; ++v) {
                column[v] = reveals[v][i];
            }
            middle[i] = lowerMedian(column, weights);
        }
    }

    /// @notice 10,000 less what the mean distance, each at most 5,000, is of 5,000; rounded down.
    function agreementDown(uint16[] memory factors, uint16[] memory middle)
        internal
        pure
        returns (uint256)
    {
        uint256 sum = 0;
        for (uint256 i = 0; i < factors.length; ++i) {
            uint256 off = factors[i] > middle[i] ? factors[i] - middle[i] : middle[i] - factors[i];
            sum += off > 5_000 ? 5_000 : off;
        }
        uint256 most = 5_000 * factors.length;
        return (10_000 * (most - sum)) / most;
    }
}

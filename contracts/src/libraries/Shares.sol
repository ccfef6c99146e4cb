// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

/// @title Shares of a pool of assets
/// @dev Each pool counts as if `VIRTUAL_SHARES` more shares had brought in one more base unit. So a
/// first depositor cannot drive up the price of a share at another's cost, and nothing is divided
/// by zero. Both directions round against the account and for the pool.
library Shares {
    uint256 private constant VIRTUAL_SHARES = 1_000;
    uint256 private constant VIRTUAL_ASSETS = 1;

    /// Shares of one base unit, above which a pool is worn out.
    uint256 private constant PRICE_INVERSE_MAX = VIRTUAL_SHARES << 64;

    /// @notice Shares for `amount` base units that join.
    function sharesDown(uint128 amount, uint256 shares, uint128 assets)
        internal
        pure
        returns (uint256)
    {
        return Math.mulDiv(amount, shares + VIRTUAL_SHARES, uint256(assets) + VIRTUAL_ASSETS);
    }

    /// @notice What `part` of all `shares` is worth, in base units; never more than `assets`.
    function assetsDown(uint256 part, uint256 shares, uint128 assets)
        internal
        pure
        returns (uint128)
    {
        return SafeCast.toUint128(
            Math.mulDiv(part, uint256(assets) + VIRTUAL_ASSETS, shares + VIRTUAL_SHARES)
        );
    }

    /// @notice Whether penalties have left so little of a pool that nobody may join it any more.
    /// @dev A penalty lowers the price of a share and the worth of what joined by the same
    /// factor. So what joins below this bound, at most 2^128 base units, never comes to more than
    /// 2^202 shares, and can always leave without an overflow.
    function wornOut(uint256 shares, uint128 assets) internal pure returns (bool) {
        return (shares + VIRTUAL_SHARES) / (uint256(assets) + VIRTUAL_ASSETS) > PRICE_INVERSE_MAX;
    }
}

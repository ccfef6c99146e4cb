// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {vm} from "./Vm.sol";

/// @notice What all tests say about values and refusals.
abstract contract Assertions {
    error Different(string what, uint256 left, uint256 right);
    error Untrue(string what);

    function equal(uint256 left, uint256 right, string memory what) internal pure {
        if (left != right) revert Different(what, left, right);
    }

    function atMost(uint256 left, uint256 right, string memory what) internal pure {
        if (left > right) revert Different(what, left, right);
    }

    function isTrue(bool condition, string memory what) internal pure {
        if (!condition) revert Untrue(what);
    }

    function refused(bytes memory reason) internal {
        vm.expectRevert(reason);
    }

    function refused(bytes4 selector) internal {
        vm.expectRevert(abi.encodeWithSelector(selector));
    }
}

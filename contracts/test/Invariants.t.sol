// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Actors} from "./helpers/Actors.sol";

/// @notice The money adds up after every call of a random sequence, and comes out at its end.
contract InvariantsTest {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    Actors private actors;

    function setUp() public {
        actors = new Actors();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actors);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        bytes4[6] memory all = [
            actors.advance.selector,
            actors.advanceOne.selector,
            actors.disturb.selector,
            actors.wait.selector,
            actors.money.selector,
            actors.staking.selector
        ];
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(actors), new bytes4[](all.length));
        for (uint256 i = 0; i < all.length; ++i) {
            targets[0].selectors[i] = all[i];
        }
    }

    function invariant_the_money_adds_up() external view {
        actors.checkTokens();
        // The dearer checks now and then, and at the end in any case.
        if (actors.done() % 8 == 0) actors.checkStakes();
    }

    /// At the end of each sequence.
    function afterInvariant() external {
        actors.endAll();
    }
}

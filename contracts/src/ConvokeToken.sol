// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title A plain ERC-20 for devnets and tests
/// @notice 18 decimals; the whole supply goes to the deployer, and nobody can mint more.
contract ConvokeToken is ERC20 {
    /// @param supply In base units.
    constructor(uint256 supply) ERC20("Convoke", "CVK") {
        _mint(msg.sender, supply);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

import {ConvokeToken} from "../../src/ConvokeToken.sol";

/// @notice Keeps one unit of every transfer, once switched on.
contract FeeToken is ConvokeToken {
    bool public takesFee;

    constructor() ConvokeToken(1e30) {}

    function takeFees() external {
        takesFee = true;
    }

    function _update(address from, address to, uint256 value) internal override {
        if (takesFee && from != address(0)) {
            super._update(from, address(0xFEE), 1);
            value -= 1;
        }
        super._update(from, to, value);
    }
}

/// @notice Refuses transfers to one account.
contract BlockingToken is ConvokeToken {
    error Blocked(address account);

    address public blocked;

    constructor() ConvokeToken(1e30) {}

    function block_(address account) external {
        blocked = account;
    }

    function _update(address from, address to, uint256 value) internal override {
        if (to == blocked && to != address(0)) revert Blocked(to);
        super._update(from, to, value);
    }
}

/// @notice Says `false` instead of reverting, once switched on.
contract FalseToken is ConvokeToken {
    bool public fails;

    constructor() ConvokeToken(1e30) {}

    function fail() external {
        fails = true;
    }

    function transfer(address to, uint256 value) public override returns (bool) {
        return fails ? false : super.transfer(to, value);
    }

    function transferFrom(address from, address to, uint256 value) public override returns (bool) {
        return fails ? false : super.transferFrom(from, to, value);
    }
}

/// @notice Calls back into a contract in the middle of every transfer, once armed, and
/// remembers what came of it.
contract ReentrantToken is ConvokeToken {
    address public target;
    bytes public call;
    bool public called;
    bool public succeeded;
    bytes public answer;

    constructor() ConvokeToken(1e30) {}

    function arm(address target_, bytes calldata call_) external {
        (target, call) = (target_, call_);
        called = false;
    }

    function _update(address from, address to, uint256 value) internal override {
        super._update(from, to, value);
        if (target != address(0) && !called) {
            called = true;
            (succeeded, answer) = target.call(call);
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

/// @notice The cheat codes that these tests use.
interface Vm {
    function warp(uint256 timestamp) external;
    function prank(address sender) external;
    function expectRevert(bytes calldata data) external;
    function expectEmit(address emitter) external;
    function snapshotGasLastCall(string calldata name) external returns (uint256 gasUsed);
}

Vm constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {PoseidonConstants} from "./PoseidonConstants.sol";

// What static analysis points at, and why it stays:
// - assembly: 71 rounds of field arithmetic, in memory that was allocated for it.
// slither-disable-start assembly

/// @title Poseidon over the scalar field of BN254, 7 elements wide
/// @notice That of `Poseidon::narrow` in `crates/proofs`: one block of 6 elements, and one element
/// of capacity that starts as a tag. About 380,000 gas.
library Poseidon {
    uint256 private constant R =
        21888242871839275222246405745257275088548364400416034343698204186575808495617;
    uint256 private constant WIDTH = 7;
    /// @dev Full rounds before the partial ones, and as many after.
    uint256 private constant HALF_ROUNDS = 4;
    uint256 private constant PARTIAL_ROUNDS = 63;

    /// @notice The hash of 6 elements.
    /// @param tag What the hash is for; below the field's order, as the elements are.
    function hash(uint256 tag, uint256[6] memory elements) internal pure returns (uint256) {
        uint256[WIDTH] memory state;
        state[0] = tag;
        for (uint256 i = 0; i < 6; ++i) {
            state[i + 1] = elements[i];
        }
        bytes memory words = PoseidonConstants.WORDS;
        uint256 matrix;
        assembly ("memory-safe") {
            matrix := add(words, 0x20)
        }
        uint256 next = _rounds(state, matrix, matrix + 32 * WIDTH * WIDTH, HALF_ROUNDS, WIDTH);
        next = _rounds(state, matrix, next, PARTIAL_ROUNDS, 1);
        _rounds(state, matrix, next, HALF_ROUNDS, WIDTH);
        return state[1];
    }

    /// @dev Rounds in which the first `boxes` elements go through the S-box.
    /// @param constants Where in memory those of the rounds begin.
    /// @return next Where they end.
    function _rounds(
        uint256[WIDTH] memory state,
        uint256 matrix,
        uint256 constants,
        uint256 count,
        uint256 boxes
    ) private pure returns (uint256 next) {
        uint256[WIDTH] memory mixed;
        assembly ("memory-safe") {
            let boxed := add(state, mul(0x20, boxes))
            next := constants
            for {} count { count := sub(count, 1) } {
                for { let place := state } lt(place, boxed) { place := add(place, 0x20) } {
                    let x := addmod(mload(place), mload(next), R)
                    let square := mulmod(x, x, R)
                    mstore(place, mulmod(x, mulmod(square, square, R), R))
                    next := add(next, 0x20)
                }
                let row := matrix
                for { let i := 0 } lt(i, 0xe0) { i := add(i, 0x20) } {
                    let sum := mulmod(mload(row), mload(state), R)
                    sum := addmod(sum, mulmod(mload(add(row, 0x20)), mload(add(state, 0x20)), R), R)
                    sum := addmod(sum, mulmod(mload(add(row, 0x40)), mload(add(state, 0x40)), R), R)
                    sum := addmod(sum, mulmod(mload(add(row, 0x60)), mload(add(state, 0x60)), R), R)
                    sum := addmod(sum, mulmod(mload(add(row, 0x80)), mload(add(state, 0x80)), R), R)
                    sum := addmod(sum, mulmod(mload(add(row, 0xa0)), mload(add(state, 0xa0)), R), R)
                    sum := addmod(sum, mulmod(mload(add(row, 0xc0)), mload(add(state, 0xc0)), R), R)
                    mstore(add(mixed, i), sum)
                    row := add(row, 0xe0)
                }
                for { let i := 0 } lt(i, 0xe0) { i := add(i, 0x20) } {
                    mstore(add(state, i), mload(add(mixed, i)))
                }
            }
        }
    }
}
// slither-disable-end assembly

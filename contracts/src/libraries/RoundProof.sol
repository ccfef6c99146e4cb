// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {PayoutTree} from "./PayoutTree.sol";

// What static analysis points at, and why it stays:
// - assembly: words of calldata whose length the caller has checked; it runs for each update.
// slither-disable-start assembly

/// @title The bytes of a round's proof
/// @notice The layout is that of `IRoundProofVerifier`.
library RoundProof {
    /// @notice Where the clipping norm, the number of own updates and the entries begin.
    uint256 internal constant CLIP_NORM_AT = 288;
    uint256 internal constant OWN_AT = 292;
    uint256 internal constant ENTRIES_AT = 294;
    /// @notice Bytes of one entry: trainer, update, commitment, root of the sums.
    uint256 internal constant ENTRY_BYTES = 116;
    /// @notice Separates leaves of updates from anything else that is ever hashed.
    bytes32 internal constant UPDATE_DOMAIN = keccak256("convoke.update.v1");

    /// @notice What the aggregator says of one update.
    struct Entry {
        address trainer;
        /// Struct hash of the header.
        bytes32 update;
        bytes32 commitment;
        bytes32 sumsRoot;
    }

    /// @notice The clipping norm's bits.
    function clipNorm(bytes calldata proof) internal pure returns (uint32) {
        return uint32(bytes4(proof[CLIP_NORM_AT:]));
    }

    /// @notice How many of the last updates trainers committed to themselves.
    function own(bytes calldata proof) internal pure returns (uint256) {
        return uint16(bytes2(proof[OWN_AT:]));
    }

    /// @notice The entry at `index`.
    function entry(bytes calldata proof, uint256 index) internal pure returns (Entry memory) {
        bytes calldata slice = proof[ENTRIES_AT + index * ENTRY_BYTES:];
        return Entry({
            trainer: address(bytes20(slice)),
            update: bytes32(slice[20:]),
            commitment: bytes32(slice[52:]),
            sumsRoot: bytes32(slice[84:])
        });
    }

    /// @notice The root of the updates that an aggregator commits to. A leaf is the double hash of
    /// `(keccak256("convoke.update.v1"), chainId, taskManager, task, round, index, trainer,
    /// update)`: pairs are commutative, and the order decides who copied whom.
    /// @param entries Of these updates alone, whole ones.
    function updatesRoot(address taskManager, uint64 task, uint32 round, bytes calldata entries)
        internal
        view
        returns (bytes32)
    {
        bytes32[] memory leaves = new bytes32[](entries.length / ENTRY_BYTES);
        // What is hashed for a leaf; index, trainer and update are filled in.
        bytes memory content =
            abi.encode(UPDATE_DOMAIN, block.chainid, taskManager, task, round, 0, 0, 0);
        assembly ("memory-safe") {
            let from := entries.offset
            let end := add(leaves, mul(0x20, add(1, mload(leaves))))
            for { let leaf := add(leaves, 0x20) } lt(leaf, end) { leaf := add(leaf, 0x20) } {
                mstore(add(content, 0xe0), shr(96, calldataload(from)))
                mstore(add(content, 0x100), calldataload(add(from, 20)))
                mstore(0, keccak256(add(content, 0x20), 0x100))
                mstore(leaf, keccak256(0, 0x20))
                mstore(add(content, 0xc0), add(mload(add(content, 0xc0)), 1))
                from := add(from, ENTRY_BYTES)
            }
        }
        return PayoutTree.root(leaves);
    }

    /// @notice The hash of the updates that trainers commit to themselves, as the round manager
    /// chains them; zero of none.
    /// @param entries Of these updates alone, whole ones.
    function ownCommitments(bytes calldata entries) internal pure returns (bytes32 chain) {
        for (uint256 from = 0; from < entries.length; from += ENTRY_BYTES) {
            address trainer = address(bytes20(entries[from:]));
            bytes32 update = bytes32(entries[from + 20:]);
            chain = keccak256(abi.encode(chain, trainer, update));
        }
    }
}
// slither-disable-end assembly

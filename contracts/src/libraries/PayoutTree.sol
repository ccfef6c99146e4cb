// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

/// @title The Merkle tree of a round's payouts
/// @notice OpenZeppelin's: commutative pairs, leaves hashed twice so that no inner node can pass
/// for a leaf. A node without a sibling moves up unchanged.
library PayoutTree {
    /// @notice Bytes of one packed payout: account, amount (uint128, big endian).
    uint256 internal constant ENTRY_BYTES = 36;
    /// @notice Separates payout leaves from anything else that is ever hashed.
    bytes32 internal constant DOMAIN = keccak256("convoke.payout.v1");

    /// @notice The leaf of one payout. `taskManager` is where it is claimed.
    function leaf(
        address taskManager,
        uint64 task,
        uint32 round,
        address account,
        uint128 amount
    ) internal view returns (bytes32) {
        return keccak256(
            bytes.concat(
                keccak256(
                    abi.encode(DOMAIN, block.chainid, taskManager, task, round, account, amount)
                )
            )
        );
    }

    /// @notice The entry at `index` of packed payouts.
    function entry(bytes calldata payouts, uint256 index)
        internal
        pure
        returns (address account, uint128 amount)
    {
        bytes calldata slice = payouts[index * ENTRY_BYTES:(index + 1) * ENTRY_BYTES];
        account = address(bytes20(slice[:20]));
        amount = uint128(bytes16(slice[20:]));
    }

    /// @notice The root over `nodes`, which it overwrites; zero over none.
    function root(bytes32[] memory nodes) internal pure returns (bytes32) {
        uint256 count = nodes.length;
        if (count == 0) return 0;
        while (count > 1) {
            uint256 pairs = count / 2;
            for (uint256 i = 0; i < pairs; ++i) {
                nodes[i] = Hashes.commutativeKeccak256(nodes[2 * i], nodes[2 * i + 1]);
            }
            if (count % 2 == 1) nodes[pairs] = nodes[count - 1];
            count = pairs + (count % 2);
        }
        return nodes[0];
    }
}

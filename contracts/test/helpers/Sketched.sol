// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IPenaltyManagerTypes} from "../../src/interfaces/IPenaltyManager.sol";
import {ISketchAuditTypes} from "../../src/interfaces/ISketchAudit.sol";
import {Poseidon} from "../../src/libraries/Poseidon.sol";
import {SketchProjection} from "../../src/libraries/SketchProjection.sol";
import {SketchSums} from "../../src/libraries/SketchSums.sol";
import {Tree} from "./Tree.sol";

/// @notice A delta, and all that is said of its sketch. A liar changes any of it.
struct Story {
    bytes[] chunks;
    bytes[] sums;
    /// The leaves of both trees, in their order.
    bytes32[] chunkLeaves;
    bytes32[] sumsLeaves;
    bytes32 seed;
    uint256 clipNorm;
    uint256 norm;
    bytes32 commitment;
}

/// @notice Tells the truth about a delta, with the contract's own arithmetic, which other tests
/// compare with the Rust side's.
contract Teller {
    function tell(
        bytes[] calldata chunks,
        bytes32 seed,
        uint256 clipNorm,
        uint256 norm,
        address trainer,
        uint256 context
    ) external view returns (Story memory s) {
        (s.chunks, s.seed, s.clipNorm, s.norm) = (chunks, seed, clipNorm, norm);
        s.sums = new bytes[](chunks.length);
        bytes memory sums = new bytes(1_056);
        for (uint256 i = 0; i < chunks.length; ++i) {
            sums = step(sums, chunks[i], i, seed, clipNorm);
            s.sums[i] = sums;
        }
        s.chunkLeaves = leaves("convoke.delta-chunk.v1", s.chunks);
        s.sumsLeaves = leaves("convoke.sketch-sum.v1", s.sums);
        s.commitment = this.commitment(sums, norm, clipNorm, trainer, context);
    }

    /// @notice The sums after one more chunk.
    function step(
        bytes memory before,
        bytes calldata chunk,
        uint256 index,
        bytes32 seed,
        uint256 clipNorm
    ) public pure returns (bytes memory) {
        (int256[128] memory lanes, uint256 energy) =
            SketchProjection.project(chunk, index, seed, clipNorm);
        return add(before, lanes, energy);
    }

    function commitment(
        bytes calldata sums,
        uint256 norm,
        uint256 clipNorm,
        address trainer,
        uint256 context
    ) external pure returns (bytes32) {
        uint256[6] memory elements = SketchSums.packed(sums, norm, clipNorm, trainer);
        return bytes32(Poseidon.hash(context, elements));
    }

    function leaves(string memory tag, bytes[] memory items)
        public
        pure
        returns (bytes32[] memory list)
    {
        list = new bytes32[](items.length);
        for (uint256 i = 0; i < items.length; ++i) {
            list[i] = Sketches.leaf(tag, i, items.length, items[i]);
        }
    }

    function add(bytes memory before, int256[128] memory lanes, uint256 energy)
        private
        pure
        returns (bytes memory sums)
    {
        sums = new bytes(1_056);
        for (uint256 w = 0; w < 33; ++w) {
            uint256 old;
            assembly {
                old := mload(add(add(before, 0x20), mul(w, 0x20)))
            }
            uint256 word = 0;
            for (uint256 j = 0; j < 4 && w < 32; ++j) {
                unchecked {
                    uint64 lane = uint64(old >> (192 - 64 * j)) + uint64(int64(lanes[4 * w + j]));
                    word = word << 64 | lane;
                }
            }
            if (w == 32) word = old + energy;
            assembly {
                mstore(add(add(sums, 0x20), mul(w, 0x20)), word)
            }
        }
    }
}

library Sketches {
    function leaf(string memory tag, uint256 index, uint256 count, bytes memory content)
        internal
        pure
        returns (bytes32)
    {
        bytes32 inner =
            keccak256(abi.encode(keccak256(bytes(tag)), index, count, keccak256(content)));
        return keccak256(abi.encode(inner));
    }

    function deltaRoot(Story memory s) internal pure returns (bytes32) {
        return Tree.root(s.chunkLeaves);
    }

    function sumsRoot(Story memory s) internal pure returns (bytes32) {
        return Tree.root(s.sumsLeaves);
    }

    /// @notice The leaves follow what a liar changed.
    function retell(Story memory s) internal pure {
        for (uint256 i = 0; i < s.chunks.length; ++i) {
            s.chunkLeaves[i] = leaf("convoke.delta-chunk.v1", i, s.chunks.length, s.chunks[i]);
        }
        for (uint256 i = 0; i < s.sums.length; ++i) {
            s.sumsLeaves[i] = leaf("convoke.sketch-sum.v1", i, s.sums.length, s.sums[i]);
        }
    }

    function opening(Story memory s, uint256 index)
        internal
        pure
        returns (ISketchAuditTypes.Opening memory o)
    {
        (o.index, o.count) = (uint64(index), uint64(s.chunks.length));
        o.chunk = s.chunks[index];
        o.chunkProof = Tree.proof(s.chunkLeaves, index);
        if (index != 0) {
            o.sumsBefore = s.sums[index - 1];
            o.beforeProof = Tree.proof(s.sumsLeaves, index - 1);
        }
        o.sumsAfter = s.sums[index];
        o.afterProof = Tree.proof(s.sumsLeaves, index);
    }

    /// @notice The header of an update with this delta.
    function header(Story memory s, uint64 task, uint32 round)
        internal
        pure
        returns (IPenaltyManagerTypes.Update memory u)
    {
        (u.task, u.round, u.base, u.delta) = (task, round, "base", "delta");
        (u.deltaRoot, u.deltaBytes, u.deltaNorm) = (deltaRoot(s), 123, s.norm);
        (u.numExamples, u.trainLossMicros) = (6, 7);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

import {ISketchAuditErrors, ISketchAuditTypes} from "../interfaces/ISketchAudit.sol";
import {Norms} from "./Norms.sol";
import {Poseidon} from "./Poseidon.sol";
import {SketchProjection} from "./SketchProjection.sol";
import {SketchSums} from "./SketchSums.sol";

/// @title Judging what is said of a sketch by one chunk of its delta
/// @notice What is said is true exactly if no opening shows a fault and none is withheld: sums of
/// no chunk are zero, each step adds what the chunk projects to, and the last gives the sketch.
library SketchOpening {
    bytes32 private constant CHUNK_DOMAIN = keccak256("convoke.delta-chunk.v1");
    bytes32 private constant SUMS_DOMAIN = keccak256("convoke.sketch-sum.v1");
    uint256 private constant VALUE_BYTES = 4;

    /// @notice What is said of a delta, and by what it is judged.
    struct Subject {
        address trainer;
        bytes32 deltaRoot;
        /// Bits of the delta's norm, by its header.
        uint256 norm;
        uint256 clipNorm;
        bytes32 sumsRoot;
        bytes32 commitment;
        bytes32 seed;
        /// What the commitment is for.
        uint256 context;
    }

    /// @notice The first fault that an opening shows, or none. Reverts if it opens something else.
    function judge(Subject memory subject, ISketchAuditTypes.Opening calldata opening)
        internal
        pure
        returns (ISketchAuditTypes.Fault)
    {
        if (!Norms.isNorm(subject.norm)) return ISketchAuditTypes.Fault.Norm;
        _checkProofs(subject, opening);
        bool isLast = opening.index + 1 == opening.count;
        if (!_isChunk(opening.chunk.length, isLast)) return ISketchAuditTypes.Fault.Chunk;
        if (
            opening.sumsAfter.length != SketchSums.BYTES
                || (opening.index != 0 && opening.sumsBefore.length != SketchSums.BYTES)
        ) return ISketchAuditTypes.Fault.Sums;
        if (!_follows(subject, opening)) return ISketchAuditTypes.Fault.Step;
        return isLast ? _judgeTotal(subject, opening.sumsAfter) : ISketchAuditTypes.Fault.None;
    }

    /// @notice Reverts unless a leaf is under a root. A leaf is the double hash of
    /// `(domain, index, count, content)`.
    function check(
        ISketchAuditTypes.Part part,
        bytes32 root,
        uint64 index,
        uint64 count,
        bytes32 content,
        bytes32[] calldata proof
    ) internal pure {
        if (index >= count) revert ISketchAuditErrors.NoSuchChunk(count, index);
        bytes32 domain = part == ISketchAuditTypes.Part.Chunk ? CHUNK_DOMAIN : SUMS_DOMAIN;
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(domain, index, count, content))));
        if (!MerkleProof.verifyCalldata(proof, root, leaf)) {
            revert ISketchAuditErrors.NotInTree(part, root, leaf);
        }
    }

    function _checkProofs(Subject memory subject, ISketchAuditTypes.Opening calldata o)
        private
        pure
    {
        bytes32 content = keccak256(o.chunk);
        check(
            ISketchAuditTypes.Part.Chunk, subject.deltaRoot, o.index, o.count, content, o.chunkProof
        );
        content = keccak256(o.sumsAfter);
        check(
            ISketchAuditTypes.Part.Sums, subject.sumsRoot, o.index, o.count, content, o.afterProof
        );
        if (o.index == 0) {
            if (o.sumsBefore.length != 0) revert ISketchAuditErrors.NothingBefore();
            return;
        }
        content = keccak256(o.sumsBefore);
        check(
            ISketchAuditTypes.Part.Sums,
            subject.sumsRoot,
            o.index - 1,
            o.count,
            content,
            o.beforeProof
        );
    }

    /// @dev Whole values; all chunks but the last are full.
    function _isChunk(uint256 length, bool isLast) private pure returns (bool) {
        if (!isLast) return length == SketchProjection.CHUNK_BYTES;
        return length != 0 && length <= SketchProjection.CHUNK_BYTES && length % VALUE_BYTES == 0;
    }

    function _follows(Subject memory subject, ISketchAuditTypes.Opening calldata opening)
        private
        pure
        returns (bool)
    {
        (int256[128] memory lanes, uint256 energy) = SketchProjection.project(
            opening.chunk, opening.index, subject.seed, subject.clipNorm
        );
        return SketchSums.follow(opening.sumsBefore, opening.sumsAfter, lanes, energy);
    }

    function _judgeTotal(Subject memory subject, bytes calldata sums)
        private
        pure
        returns (ISketchAuditTypes.Fault)
    {
        uint256 energy = SketchSums.energyOf(sums);
        if (SketchSums.isUnderDeclared(energy, subject.norm, subject.clipNorm)) {
            return ISketchAuditTypes.Fault.Energy;
        }
        uint256[6] memory elements =
            SketchSums.packed(sums, subject.norm, subject.clipNorm, subject.trainer);
        uint256 commitment = Poseidon.hash(subject.context, elements);
        return bytes32(commitment) == subject.commitment
            ? ISketchAuditTypes.Fault.None
            : ISketchAuditTypes.Fault.Commitment;
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IGroth16Verifier} from "./interfaces/IGroth16Verifier.sol";
import {IProofVerifier} from "./interfaces/IProofVerifier.sol";
import {IRoundProofVerifier} from "./interfaces/IRoundProofVerifier.sol";
import {Norms} from "./libraries/Norms.sol";
import {RoundDigest} from "./libraries/RoundDigest.sol";
import {RoundProof} from "./libraries/RoundProof.sol";

// What static analysis points at, and why it stays:
// - calls-loop: once for each size, at deployment.
// slither-disable-start calls-loop

/// @title The verifier of rounds' proofs
/// @notice Everything that the round manager pays by is bound: what the circuit speaks of goes into
/// its public inputs, the updates' hashes are compared with those on chain, and all of the
/// statement and of the entries is hashed into the same inputs: a proof for one is none for another.
/// @dev Keeps nothing but what the constructor names, and nobody administers it.
contract RoundProofVerifier is IRoundProofVerifier {
    using RoundDigest for uint256[];

    uint8 private constant SPLIT_BY_SCORE = 0;
    uint256 private constant FACTOR_BYTES = 2;
    uint256 private constant SLOTS_LIMIT = type(uint16).max;

    struct Sized {
        IGroth16Verifier verifier;
        uint16 slots;
    }

    /// @inheritdoc IRoundProofVerifier
    address public immutable taskManager;
    /// @inheritdoc IRoundProofVerifier
    uint256 public immutable slotsMax;

    Sized[] private verifiers;

    /// @param verifiers_ By ascending slots.
    constructor(address taskManager_, IGroth16Verifier[] memory verifiers_) {
        if (taskManager_ == address(0) || verifiers_.length == 0) revert NothingToVerify();
        taskManager = taskManager_;
        uint256 before = 0;
        for (uint256 i = 0; i < verifiers_.length; ++i) {
            uint256 slots = verifiers_[i].slots();
            if (slots <= before || slots > SLOTS_LIMIT) revert SlotsNotAscending(before, slots);
            verifiers.push(Sized({verifier: verifiers_[i], slots: uint16(slots)}));
            before = slots;
        }
        slotsMax = before;
    }

    /// @inheritdoc IProofVerifier
    function verify(
        Statement calldata statement,
        bytes calldata factors,
        bytes calldata payouts,
        bytes calldata proof
    ) external view {
        if (statement.split != SPLIT_BY_SCORE) {
            revert SplitNotProven(statement.split);
        }
        _checkLengths(statement.updates, factors, proof);
        Norms.check(RoundProof.clipNorm(proof));
        _checkUpdates(statement, proof);
        Sized memory sized = _fitting(statement.updates);
        (uint256 x, uint256 y) = _inputs(sized.slots, statement, factors, payouts, proof);
        sized.verifier.verifyProof(proof[:RoundProof.CLIP_NORM_AT], x, y);
    }

    /// @inheritdoc IRoundProofVerifier
    function verifierCount() external view returns (uint256) {
        return verifiers.length;
    }

    /// @inheritdoc IRoundProofVerifier
    function verifierAt(uint256 index)
        external
        view
        returns (IGroth16Verifier verifier, uint256 slots, bytes32 circuit)
    {
        if (index >= verifiers.length) revert NoSuchVerifier(index);
        Sized memory sized = verifiers[index];
        return (sized.verifier, sized.slots, sized.verifier.circuit());
    }

    function _checkLengths(uint256 updates, bytes calldata factors, bytes calldata proof)
        private
        pure
    {
        uint256 length = RoundProof.ENTRIES_AT + updates * RoundProof.ENTRY_BYTES;
        if (proof.length != length) revert WrongProofLength(length, proof.length);
        length = updates * FACTOR_BYTES;
        if (factors.length != length) revert WrongFactorsLength(length, factors.length);
    }

    /// @dev The entries are the updates that the chain knows, in its order.
    function _checkUpdates(Statement calldata statement, bytes calldata proof) private view {
        uint256 own = RoundProof.own(proof);
        if (own > statement.updates) revert TooManyOwnUpdates(statement.updates, own);
        bytes calldata entries = proof[RoundProof.ENTRIES_AT:];
        uint256 split = (statement.updates - own) * RoundProof.ENTRY_BYTES;
        bytes32 root =
            RoundProof.updatesRoot(taskManager, statement.task, statement.round, entries[:split]);
        if (root != statement.updatesRoot) revert OtherUpdates(statement.updatesRoot, root);
        bytes32 chain = RoundProof.ownCommitments(entries[split:]);
        if (chain != statement.ownCommitments) {
            revert OtherOwnUpdates(statement.ownCommitments, chain);
        }
    }

    function _fitting(uint256 updates) private view returns (Sized memory sized) {
        uint256 count = verifiers.length;
        for (uint256 i = 0; i < count; ++i) {
            sized = verifiers[i];
            if (updates <= sized.slots) return sized;
        }
        revert TooManyUpdates(slotsMax, updates);
    }

    function _inputs(
        uint256 slots,
        Statement calldata statement,
        bytes calldata factors,
        bytes calldata payouts,
        bytes calldata proof
    ) private view returns (uint256 x, uint256 y) {
        uint256[] memory buffer = RoundDigest.open(
            slots,
            uint256(bytes32(proof[RoundProof.CLIP_NORM_AT - 32:])),
            _bound(statement, proof),
            _context(statement),
            statement.trainersPool,
            factors
        );
        buffer.fill(slots, proof[RoundProof.ENTRIES_AT:], payouts);
        return buffer.close();
    }

    /// @dev So that nothing in either is free, whether or not the circuit speaks of it.
    function _bound(Statement calldata statement, bytes calldata proof)
        private
        pure
        returns (bytes32)
    {
        bytes32 entries = keccak256(proof[RoundProof.CLIP_NORM_AT:]);
        return keccak256(bytes.concat(abi.encode(statement), entries));
    }

    function _context(Statement calldata s) private view returns (uint256) {
        return RoundDigest.context(taskManager, s.task, s.round, s.attempt, s.seed);
    }
}
// slither-disable-end calls-loop

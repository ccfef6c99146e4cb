// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

interface IProofVerifierTypes {
    /// @notice What a proof is about: everything that the contract knows and pays by.
    struct Statement {
        uint64 task;
        uint32 round;
        uint16 attempt;
        /// Who put together the result.
        address aggregator;
        /// Root of the updates' commitments and the hash of those that trainers sent themselves.
        bytes32 updatesRoot;
        bytes32 ownCommitments;
        /// Updates in all, those included that trainers committed to themselves.
        uint16 updates;
        /// Drawn after the updates were committed to.
        bytes32 seed;
        /// What all trainers share at most; base units.
        uint128 trainersPool;
        /// 0 by score, 1 by rank; `RoundProofVerifier` knows the first alone.
        uint8 split;
        uint16 rankDecayBps;
        bytes32 checkpoint;
        bytes32 resultHash;
    }
}

/// @title Decides whether trainers' payouts follow from what was committed to
interface IProofVerifier is IProofVerifierTypes {
    /// @notice Reverts unless the proof holds. A verifier that answered `false` would make gas
    /// estimates too low, and the caller might forget to look. Must need less than the round
    /// manager's `VERIFY_GAS`: a challenge takes a proof that needs more for one that fails.
    /// @param factors The validators' combined factors, two bytes an update, big endian.
    /// @param payouts 36 bytes a payout: account, amount.
    function verify(
        Statement calldata statement,
        bytes calldata factors,
        bytes calldata payouts,
        bytes calldata proof
    ) external view;
}

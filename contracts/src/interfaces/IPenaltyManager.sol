// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IRoundManager} from "./IRoundManager.sol";

interface IPenaltyManagerErrors {
    /// @notice The signature is not well formed, or nobody's.
    error InvalidSignature();
    /// @notice The two updates are by different trainers.
    error DifferentSigners(address first, address second);
    /// @notice The two updates are one and the same.
    error SameUpdate(bytes32 updateHash);
    /// @notice The two updates are for different tasks or rounds, or start from different
    /// checkpoints.
    error DifferentRounds();
    /// @notice The round was never opened; a fault cannot be punished before it can matter.
    error RoundNotOpened(uint256 task, uint256 round);
    /// @notice The validator committed to nothing in that attempt.
    error NotCommitted(address validator);
    /// @notice The reveal agrees with the commitment.
    error NoContradiction(bytes32 commitment);
    /// @notice The account has no stake as a trainer or a validator, whichever the fault needs.
    error NotAnOperator(uint64 task, address account);
    /// @notice This fault was punished before.
    error AlreadyPunished(bytes32 fault);
}

interface IPenaltyManagerTypes {
    /// @notice An update's header as its trainer signs it (EIP-712).
    struct Update {
        uint256 task;
        uint256 round;
        bytes32 base;
        bytes32 delta;
        /// Root of the tree over the delta's chunks.
        bytes32 deltaRoot;
        uint256 deltaBytes;
        /// Bits of the delta's Euclidean norm: a positive normal IEEE 754 binary32, or 0.
        uint256 deltaNorm;
        uint256 numExamples;
        uint256 trainLossMicros;
    }

    /// @notice A validator's reveal as it signs it for the aggregator (EIP-712).
    struct Reveal {
        uint256 task;
        uint256 round;
        uint256 attempt;
        bytes factors;
        bytes32 salt;
    }
}

interface IPenaltyManagerEvents {
    /// @notice A trainer signed two different updates for one round.
    event EquivocationPunished(
        uint64 indexed task, uint32 indexed round, address indexed trainer, uint128 taken
    );
    /// @notice A validator signed a reveal that contradicts its commitment.
    event ContradictionPunished(
        uint64 indexed task, uint32 indexed round, address indexed validator, uint128 taken
    );
}

/// @title Hard penalties, on evidence that this contract checks itself
/// @notice Signatures are EIP-712 over the domain (`Convoke`, `1`, chain id, task manager).
interface IPenaltyManager is IPenaltyManagerErrors, IPenaltyManagerTypes, IPenaltyManagerEvents {
    /// @notice Punishes a trainer that signed two different updates for one round and base.
    /// Anyone; the caller is the reporter. Two bases are no fault: an aggregator could open a
    /// round, and again with another base, to make honest trainers sign twice.
    function punishEquivocation(
        Update calldata first,
        bytes calldata firstSignature,
        Update calldata second,
        bytes calldata secondSignature
    ) external returns (uint128 taken);

    /// @notice Punishes a validator that signed a reveal which contradicts its commitment.
    function punishContradiction(Reveal calldata reveal, bytes calldata signature)
        external
        returns (uint128 taken);

    function roundManager() external view returns (IRoundManager);
}

// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IPenaltyManager} from "./interfaces/IPenaltyManager.sol";
import {IRoundManager} from "./interfaces/IRoundManager.sol";
import {Punisher} from "./Punisher.sol";
import {TypedData} from "./libraries/TypedData.sol";

// What static analysis points at, and why it stays:
// - unused-return: some views answer more than one question;
// - reentrancy-events: the calls go to contracts of this deployment, linked for good.
// slither-disable-start unused-return,reentrancy-events

/// @title Hard penalties, on evidence that this contract checks itself
/// @dev Needs `SLASHER_ROLE` on the stake manager. It holds nothing, and nobody administers it.
contract PenaltyManager is IPenaltyManager, Punisher {
    uint8 private constant ROLE_TRAINER = 0;
    uint8 private constant ROLE_VALIDATOR = 1;

    bytes32 private constant REVEAL_TYPE = keccak256(
        "Reveal(uint256 task,uint256 round,uint256 attempt,bytes factors,bytes32 salt)"
    );

    /// @dev A fault is of a kind, a task, a round and an account; a validator's of an attempt, too.
    constructor(IRoundManager roundManager_) Punisher(roundManager_) {}

    /// @inheritdoc IPenaltyManager
    function punishEquivocation(
        Update calldata first,
        bytes calldata firstSignature,
        Update calldata second,
        bytes calldata secondSignature
    ) external returns (uint128 taken) {
        if (
            first.task != second.task || first.round != second.round || first.base != second.base
        ) revert DifferentRounds();
        bytes32 firstHash = TypedData.hash(first);
        bytes32 secondHash = TypedData.hash(second);
        if (firstHash == secondHash) revert SameUpdate(firstHash);
        address trainer = _signer(firstHash, firstSignature);
        address other = _signer(secondHash, secondSignature);
        if (trainer != other) revert DifferentSigners(trainer, other);
        (uint64 task, uint32 round) = _openedRound(first.task, first.round);
        bytes32 fault = keccak256(abi.encode(TypedData.UPDATE_TYPE, task, round, trainer));
        taken = _punish(fault, task, trainer, ROLE_TRAINER, msg.sender);
        emit EquivocationPunished(task, round, trainer, taken);
    }

    /// @inheritdoc IPenaltyManager
    function punishContradiction(Reveal calldata reveal, bytes calldata signature)
        external
        returns (uint128 taken)
    {
        address validator = _signer(_revealHash(reveal), signature);
        (uint64 task, uint32 round) = _openedRound(reveal.task, reveal.round);
        _checkContradiction(task, round, validator, reveal);
        bytes32 fault = keccak256(abi.encode(REVEAL_TYPE, task, round, reveal.attempt, validator));
        taken = _punish(fault, task, validator, ROLE_VALIDATOR, msg.sender);
        emit ContradictionPunished(task, round, validator, taken);
    }

    /// @inheritdoc IPenaltyManager
    function roundManager() external view returns (IRoundManager) {
        return rounds;
    }

    function _checkContradiction(
        uint64 task,
        uint32 round,
        address validator,
        Reveal calldata reveal
    ) private view {
        if (reveal.attempt > type(uint16).max) revert NotCommitted(validator);
        uint16 attempt = uint16(reveal.attempt);
        bytes32 committed = rounds.scoreCommitmentOf(task, round, attempt, validator).commitment;
        if (committed == 0) revert NotCommitted(validator);
        bytes32 revealed = rounds.scoresCommitment(
            task, round, attempt, validator, reveal.factors, reveal.salt
        );
        if (committed == revealed) revert NoContradiction(committed);
    }

    /// @dev Only rounds that were opened: a trainer could else get its future faults over with
    /// while it has next to no stake.
    function _openedRound(uint256 task, uint256 round) private view returns (uint64, uint32) {
        if (
            task > type(uint64).max || round > type(uint32).max
                || rounds.roundOf(uint64(task), uint32(round)).attempt == 0
        ) revert RoundNotOpened(task, round);
        return (uint64(task), uint32(round));
    }

    function _signer(bytes32 structHash, bytes calldata signature) private view returns (address) {
        return TypedData.signer(address(tasks), structHash, signature);
    }

    function _revealHash(Reveal calldata reveal) private pure returns (bytes32) {
        return keccak256(
            abi.encode(
                REVEAL_TYPE,
                reveal.task,
                reveal.round,
                reveal.attempt,
                keccak256(reveal.factors),
                reveal.salt
            )
        );
    }
}
// slither-disable-end unused-return,reentrancy-events

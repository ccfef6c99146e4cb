// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IPenaltyManager} from "./interfaces/IPenaltyManager.sol";
import {IRoundManager} from "./interfaces/IRoundManager.sol";
import {IStakeManager, IStakeManagerTypes} from "./interfaces/IStakeManager.sol";
import {ITaskManager, ITaskManagerTypes} from "./interfaces/ITaskManager.sol";
import {TypedData} from "./libraries/TypedData.sol";

// What static analysis points at, and why it stays:
// - unused-return: some views answer more than one question;
// - reentrancy-events: the calls go to contracts of this deployment, linked for good.
// slither-disable-start unused-return,reentrancy-events

/// @title Hard penalties, on evidence that this contract checks itself
/// @dev Needs `SLASHER_ROLE` on the stake manager. It holds nothing, and nobody administers it.
contract PenaltyManager is IPenaltyManager {
    uint8 private constant ROLE_TRAINER = 0;
    uint8 private constant ROLE_VALIDATOR = 1;

    bytes32 private constant REVEAL_TYPE = keccak256(
        "Reveal(uint256 task,uint256 round,uint256 attempt,bytes factors,bytes32 salt)"
    );

    /// @inheritdoc IPenaltyManager
    IRoundManager public immutable roundManager;
    IStakeManager private immutable stakeManager;
    ITaskManager private immutable taskManager;

    /// @notice Faults punished before, by their kind, task, round and account, a validator's by
    /// the attempt as well.
    mapping(bytes32 fault => bool) public punished;

    constructor(IRoundManager roundManager_) {
        roundManager = roundManager_;
        stakeManager = roundManager_.stakeManager();
        taskManager = roundManager_.taskManager();
    }

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
        taken = _punish(fault, task, trainer, ROLE_TRAINER);
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
        taken = _punish(fault, task, validator, ROLE_VALIDATOR);
        emit ContradictionPunished(task, round, validator, taken);
    }

    function _checkContradiction(
        uint64 task,
        uint32 round,
        address validator,
        Reveal calldata reveal
    ) private view {
        if (reveal.attempt > type(uint16).max) revert NotCommitted(validator);
        uint16 attempt = uint16(reveal.attempt);
        bytes32 committed =
            roundManager.scoreCommitmentOf(task, round, attempt, validator).commitment;
        if (committed == 0) revert NotCommitted(validator);
        bytes32 revealed = roundManager.scoresCommitment(
            task, round, attempt, validator, reveal.factors, reveal.salt
        );
        if (committed == revealed) revert NoContradiction(committed);
    }

    /// @dev A fault is punished once. Without stake it is not punished at all, and stays open, so
    /// that nobody gets a fault over with while it costs nothing.
    function _punish(bytes32 fault, uint64 task, address account, uint8 role)
        private
        returns (uint128)
    {
        if (punished[fault]) revert AlreadyPunished(fault);
        IStakeManagerTypes.Stake memory stake = stakeManager.stakeRecord(task, account);
        if (stake.role != role || (stake.amount == 0 && stake.unbonding == 0)) {
            revert NotAnOperator(task, account);
        }
        punished[fault] = true;
        ITaskManagerTypes.TaskSpec memory spec = taskManager.specOf(task);
        return stakeManager.slash(task, account, spec.slashBps, msg.sender, spec.reporterBps);
    }

    /// @dev Only rounds that were opened: a trainer could else get its future faults over with
    /// while it has next to no stake.
    function _openedRound(uint256 task, uint256 round) private view returns (uint64, uint32) {
        if (
            task > type(uint64).max || round > type(uint32).max
                || roundManager.roundOf(uint64(task), uint32(round)).attempt == 0
        ) revert RoundNotOpened(task, round);
        return (uint64(task), uint32(round));
    }

    function _signer(bytes32 structHash, bytes calldata signature) private view returns (address) {
        return TypedData.signer(address(taskManager), structHash, signature);
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

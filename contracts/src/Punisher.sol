// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IPenaltyManagerErrors} from "./interfaces/IPenaltyManager.sol";
import {IRoundManager} from "./interfaces/IRoundManager.sol";
import {IStakeManager, IStakeManagerTypes} from "./interfaces/IStakeManager.sol";
import {ITaskManager, ITaskManagerTypes} from "./interfaces/ITaskManager.sol";

// What static analysis points at, and why it stays:
// - incorrect-equality: a role is compared with a role.
// slither-disable-start incorrect-equality

/// @title What takes stake for faults, each of them once
/// @dev Needs `SLASHER_ROLE` on the stake manager.
abstract contract Punisher {
    IRoundManager internal immutable rounds;
    IStakeManager internal immutable stakes;
    ITaskManager internal immutable tasks;

    /// @notice Faults punished before.
    mapping(bytes32 fault => bool) public punished;

    constructor(IRoundManager rounds_) {
        rounds = rounds_;
        stakes = rounds_.stakeManager();
        tasks = rounds_.taskManager();
    }

    /// @dev A fault is punished once. Without stake it is not punished at all, and stays open, so
    /// that nobody gets a fault over with while it costs nothing.
    function _punish(bytes32 fault, uint64 task, address account, uint8 role, address reporter)
        internal
        returns (uint128)
    {
        if (punished[fault]) revert IPenaltyManagerErrors.AlreadyPunished(fault);
        if (!_isAtStake(task, account, role)) {
            revert IPenaltyManagerErrors.NotAnOperator(task, account);
        }
        punished[fault] = true;
        ITaskManagerTypes.TaskSpec memory spec = tasks.specOf(task);
        return stakes.slash(task, account, spec.slashBps, reporter, spec.reporterBps);
    }

    /// @dev Whether a penalty would reach anything.
    function _isAtStake(uint64 task, address account, uint8 role) internal view returns (bool) {
        IStakeManagerTypes.Stake memory stake = stakes.stakeRecord(task, account);
        return stake.role == role && (stake.amount != 0 || stake.unbonding != 0);
    }
}
// slither-disable-end incorrect-equality

// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {ITaskManager} from "./ITaskManager.sol";

interface IStakeManagerErrors {
    /// @notice Nothing was offered or asked for.
    error ZeroAmount();
    /// @notice Roles are 0 trainer, 1 validator, 2 aggregator.
    error UnknownRole(uint8 role);
    /// @notice An address has one role per task.
    error RoleTaken(uint8 current, uint8 requested);
    /// @notice Only the address that the task names stakes as its aggregator.
    error NotTheAggregator(address expected, address caller);
    /// @notice The task has ended, or never was.
    error TaskNotActive(uint64 task);
    /// @notice Stake backs an active task until that ends.
    error TaskStillActive(uint64 task);
    /// @notice The stake after the deposit would be below what the task asks of the role.
    error StakeBelowMinimum(uint128 minimum, uint128 stake);
    /// @notice More was asked for than is staked.
    error StakeTooSmall(uint128 staked, uint128 requested);
    /// @notice No withdrawal has been requested.
    error NothingRequested();
    /// @notice The unbonding time has not passed.
    error StillUnbonding(uint64 availableAt);
    /// @notice The token took a fee, or paid a bonus, on the way.
    error WrongAmountReceived(uint128 expected, uint256 received);
    /// @notice Only the deployer links the task manager.
    error NotTheDeployer(address expected, address caller);
    /// @notice The task manager is linked once, for good.
    error AlreadyLinked(address taskManager);
    /// @notice The contract offered was not built for this stake manager.
    error ForeignTaskManager(address taskManager);
    /// @notice There is no contract at the token's address.
    error NoTokenAt(address token);
    /// @notice The unbonding time is above `UNBONDING_SECONDS_MAX`.
    error UnbondingTooLong(uint32 maximum, uint32 unbonding);
}

interface IStakeManagerTypes {
    /// @notice What one address has staked in one task.
    struct Stake {
        /// Backs the task; base units.
        uint128 amount;
        /// Requested back and waiting for `availableAt`; base units.
        uint128 unbonding;
        /// When `unbonding` may be withdrawn; Unix seconds, 0 if nothing was requested.
        uint64 availableAt;
        /// 0 trainer, 1 validator, 2 aggregator; means nothing while nothing was ever staked.
        uint8 role;
    }
}

interface IStakeManagerEvents {
    /// @notice The task manager was linked.
    event TaskManagerLinked(address indexed taskManager);
    /// @notice `account` staked `amount` more; `stake` is the sum.
    event StakeDeposited(
        uint64 indexed task, address indexed account, uint8 role, uint128 amount, uint128 stake
    );
    /// @notice `amount` began to unbond, and what was unbonding already waits with it.
    event WithdrawalRequested(
        uint64 indexed task, address indexed account, uint128 amount, uint64 availableAt
    );
    /// @notice `amount` went back to `account`.
    event StakeWithdrawn(uint64 indexed task, address indexed account, uint128 amount);
}

/// @title Stake of trainers, validators and aggregators, held per task
interface IStakeManager is IStakeManagerErrors, IStakeManagerTypes, IStakeManagerEvents {
    /// @notice Names the task manager to ask. Only the deployer, once.
    function linkTaskManager(ITaskManager taskManager_) external;

    /// @notice Stakes `amount` base units for the caller. The allowance must cover it, and the
    /// stake must then reach the task's minimum for the role.
    function deposit(uint64 task, uint8 role, uint128 amount) external;

    /// @notice Starts the unbonding of `amount`, once the task has ended. A second request
    /// restarts the wait for what the first asked for.
    function requestWithdrawal(uint64 task, uint128 amount) external;

    /// @notice Pays the caller what has unbonded.
    function withdraw(uint64 task) external returns (uint128 amount);

    /// @notice The token that is staked.
    function token() external view returns (IERC20);

    /// @notice The contract asked whether a task is active; zero before it is linked.
    function taskManager() external view returns (ITaskManager);

    /// @notice Seconds between request and withdrawal.
    function unbonding() external view returns (uint32);

    /// @notice Everything held for stakers, unbonding included; base units.
    function totalHeld() external view returns (uint256);

    /// @notice What backs a task, unbonding excluded; base units.
    function totalStakeOf(uint64 task) external view returns (uint256);

    /// @notice The role and what backs the task, unbonding excluded.
    function stakeOf(uint64 task, address account)
        external
        view
        returns (uint8 role, uint128 amount);

    /// @notice All that is known of a stake.
    function stakeRecord(uint64 task, address account) external view returns (Stake memory);
}

// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {ITaskManager} from "./interfaces/ITaskManager.sol";

/// @title Stake of trainers, validators and aggregators, held per task
/// @dev Holds exactly `totalHeld` base units: what backs tasks and what unbonds. Nobody, the
/// deployer included, can move another's stake. Every task can be ended by anyone after its
/// round time-out, so no stake is locked for ever.
contract StakeManager is IStakeManager, ReentrancyGuard {
    using SafeERC20 for IERC20;

    /// @notice Longest unbonding time, in seconds.
    uint32 public constant UNBONDING_SECONDS_MAX = 90 days;

    uint8 private constant ROLE_AGGREGATOR = 2;

    /// @inheritdoc IStakeManager
    IERC20 public immutable token;
    /// @inheritdoc IStakeManager
    uint32 public immutable unbonding;
    address private immutable deployer;

    /// @inheritdoc IStakeManager
    ITaskManager public taskManager;
    /// @inheritdoc IStakeManager
    uint256 public totalHeld;
    /// @inheritdoc IStakeManager
    mapping(uint64 task => uint256 amount) public totalStakeOf;

    mapping(uint64 task => mapping(address account => Stake)) private stakes;

    /// @param unbonding_ Seconds between request and withdrawal; bounds the dispute windows of
    /// all tasks.
    constructor(IERC20 token_, uint32 unbonding_) {
        if (address(token_).code.length == 0) revert NoTokenAt(address(token_));
        if (unbonding_ > UNBONDING_SECONDS_MAX) {
            revert UnbondingTooLong(UNBONDING_SECONDS_MAX, unbonding_);
        }
        token = token_;
        unbonding = unbonding_;
        deployer = msg.sender;
    }

    /// @inheritdoc IStakeManager
    function linkTaskManager(ITaskManager taskManager_) external {
        if (msg.sender != deployer) revert NotTheDeployer(deployer, msg.sender);
        if (address(taskManager) != address(0)) revert AlreadyLinked(address(taskManager));
        if (address(taskManager_.stakeManager()) != address(this)) {
            revert ForeignTaskManager(address(taskManager_));
        }
        taskManager = taskManager_;
        emit TaskManagerLinked(address(taskManager_));
    }

    /// @inheritdoc IStakeManager
    function deposit(uint64 task, uint8 role, uint128 amount) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        if (role > ROLE_AGGREGATOR) revert UnknownRole(role);
        Stake storage stake = stakes[task][msg.sender];
        uint128 sum = stake.amount + amount;
        // Stake in an active task is never withdrawn, so only a first deposit finds none.
        if (stake.amount != 0 && stake.role != role) revert RoleTaken(stake.role, role);
        _checkTerms(task, role, sum);

        stake.amount = sum;
        stake.role = role;
        totalStakeOf[task] += amount;
        totalHeld += amount;
        _pull(amount);
        emit StakeDeposited(task, msg.sender, role, amount, sum);
    }

    /// @inheritdoc IStakeManager
    function requestWithdrawal(uint64 task, uint128 amount) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        Stake storage stake = stakes[task][msg.sender];
        if (amount > stake.amount) revert StakeTooSmall(stake.amount, amount);
        (bool active,,) = taskManager.stakeTerms(task, stake.role);
        if (active) revert TaskStillActive(task);

        uint64 availableAt = uint64(block.timestamp) + unbonding;
        stake.amount -= amount;
        stake.unbonding += amount;
        stake.availableAt = availableAt;
        totalStakeOf[task] -= amount;
        emit WithdrawalRequested(task, msg.sender, amount, availableAt);
    }

    /// @inheritdoc IStakeManager
    function withdraw(uint64 task) external nonReentrant returns (uint128 amount) {
        Stake storage stake = stakes[task][msg.sender];
        amount = stake.unbonding;
        if (amount == 0) revert NothingRequested();
        if (block.timestamp < stake.availableAt) revert StillUnbonding(stake.availableAt);

        stake.unbonding = 0;
        stake.availableAt = 0;
        totalHeld -= amount;
        emit StakeWithdrawn(task, msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
    }

    /// @inheritdoc IStakeManager
    function stakeOf(uint64 task, address account)
        external
        view
        returns (uint8 role, uint128 amount)
    {
        Stake storage stake = stakes[task][account];
        return (stake.role, stake.amount);
    }

    /// @inheritdoc IStakeManager
    function stakeRecord(uint64 task, address account) external view returns (Stake memory) {
        return stakes[task][account];
    }

    function _checkTerms(uint64 task, uint8 role, uint128 sum) private view {
        // Before the link there is no task to stake in, and nobody to ask.
        if (address(taskManager) == address(0)) revert TaskNotActive(task);
        (bool active, uint128 minimum, address aggregator) = taskManager.stakeTerms(task, role);
        if (!active) revert TaskNotActive(task);
        if (role == ROLE_AGGREGATOR && msg.sender != aggregator) {
            revert NotTheAggregator(aggregator, msg.sender);
        }
        if (sum < minimum) revert StakeBelowMinimum(minimum, sum);
    }

    /// @dev What counts is what arrives: a token that takes a fee would leave stakes uncovered.
    function _pull(uint128 amount) private {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != amount) revert WrongAmountReceived(amount, received);
    }
}

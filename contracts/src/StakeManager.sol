// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IRoundManager} from "./interfaces/IRoundManager.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {ITaskManager} from "./interfaces/ITaskManager.sol";
import {Shares} from "./libraries/Shares.sol";

// What static analysis points at, and why it stays:
// - timestamp: windows last minutes to days: the seconds by which a proposer can move the clock
//   decide nothing;
// - unused-return: some views answer more than one question;
// - incorrect-equality: amounts are compared with nothing at all, and a state with a state.
// slither-disable-start timestamp,unused-return,incorrect-equality

/// @title Stake of trainers, validators and aggregators, held per task, and delegation to them
/// @dev Holds exactly `totalHeld` base units: stakes, pools, what unbonds from either, what waits
/// to join a pool, and rewards that were booked and not paid. Nobody, the administrator included,
/// can move another's stake; penalties go through `SLASHER_ROLE`, which contracts that check the
/// evidence hold. Only entries can be paused.
contract StakeManager is IStakeManager, AccessControl, Pausable, ReentrancyGuard {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    /// @dev `Stake`, and whether anything was ever staked.
    struct Account {
        uint128 amount;
        uint128 unbonding;
        uint64 availableAt;
        uint64 lockedBy;
        uint8 role;
        bool known;
        /// Withdrawn since the last deposit.
        uint128 left;
    }

    /// @notice May stop deposits and delegations.
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");
    /// @notice May take stake: for the contracts that check evidence.
    bytes32 public constant SLASHER_ROLE = keccak256("SLASHER_ROLE");
    /// @notice Names the slashers while a deployment is put together; nobody has it afterwards, and
    /// nobody can be given it.
    bytes32 public constant SLASHER_ADMIN_ROLE = keccak256("SLASHER_ADMIN_ROLE");

    /// @notice Longest unbonding time, in seconds.
    uint32 public constant UNBONDING_SECONDS_MAX = 90 days;
    /// @notice What an operator keeps of its delegators' rewards at most.
    uint16 public constant COMMISSION_BPS_MAX = 10_000;
    /// @notice What one penalty takes at most.
    uint16 public constant SLASH_BPS_MAX = 5_000;

    uint16 private constant BPS = 10_000;
    uint256 private constant X64 = 1 << 64;

    uint8 private constant ROLE_VALIDATOR = 1;
    uint8 private constant ROLE_AGGREGATOR = 2;

    /// @inheritdoc IStakeManager
    IERC20 public immutable token;
    /// @inheritdoc IStakeManager
    uint32 public immutable unbonding;
    /// @inheritdoc IStakeManager
    uint32 public immutable warmup;
    /// @inheritdoc IStakeManager
    uint32 public immutable commissionNotice;
    /// @inheritdoc IStakeManager
    uint32 public immutable delegationCapBps;
    address private immutable deployer;

    /// @inheritdoc IStakeManager
    ITaskManager public taskManager;
    /// @inheritdoc IStakeManager
    IRoundManager public roundManager;
    /// @inheritdoc IStakeManager
    uint256 public totalHeld;
    /// @inheritdoc IStakeManager
    mapping(uint64 task => uint256 amount) public totalStakeOf;
    /// @inheritdoc IStakeManager
    mapping(uint64 task => uint32 count) public validatorCount;
    /// @inheritdoc IStakeManager
    mapping(uint64 task => uint256 amount) public validatorStakeOf;

    mapping(uint64 task => mapping(address account => Account)) private accounts;
    mapping(uint64 task => mapping(address operator => Pool)) private pools;
    mapping(uint64 task => mapping(address operator => mapping(address delegator => Delegation)))
        private delegations;

    /// @param unbonding_ Seconds between request and withdrawal; bounds the dispute windows of
    /// all tasks.
    /// @param warmup_ Seconds until a delegation joins its pool.
    /// @param commissionNotice_ Seconds until a higher commission is in force.
    /// @param delegationCapBps_ Delegation that counts, as a part of the operator's own stake.
    /// @param admin Grants the other roles.
    constructor(
        IERC20 token_,
        uint32 unbonding_,
        uint32 warmup_,
        uint32 commissionNotice_,
        uint32 delegationCapBps_,
        address admin
    ) {
        if (address(token_).code.length == 0) revert NoTokenAt(address(token_));
        if (unbonding_ > UNBONDING_SECONDS_MAX) {
            revert UnbondingTooLong(UNBONDING_SECONDS_MAX, unbonding_);
        }
        token = token_;
        unbonding = unbonding_;
        warmup = warmup_;
        commissionNotice = commissionNotice_;
        delegationCapBps = delegationCapBps_;
        deployer = msg.sender;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _setRoleAdmin(SLASHER_ROLE, SLASHER_ADMIN_ROLE);
        _setRoleAdmin(SLASHER_ADMIN_ROLE, SLASHER_ADMIN_ROLE);
        _grantRole(SLASHER_ADMIN_ROLE, admin);
    }

    // ---- Actions of an operator ----

    /// @inheritdoc IStakeManager
    function deposit(uint64 task, uint8 role, uint128 amount)
        external
        nonReentrant
        whenNotPaused
    {
        if (amount == 0) revert ZeroAmount();
        if (role > ROLE_AGGREGATOR) revert UnknownRole(role);
        Account storage account = accounts[task][msg.sender];
        // A role is for good: a fault in it can come to light after all stake was withdrawn.
        if (account.known && account.role != role) revert RoleTaken(account.role, role);
        uint128 sum = account.amount + amount;
        uint128 minimum = _checkTerms(task, role, sum);

        account.role = role;
        account.known = true;
        account.left = 0;
        _setOwn(task, account, sum, minimum);
        totalHeld += amount;
        emit StakeDeposited(task, msg.sender, role, amount, sum);
        _pull(amount);
    }

    /// @inheritdoc IStakeManager
    function requestWithdrawal(uint64 task, uint128 amount) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        Account storage account = accounts[task][msg.sender];
        uint128 own = account.amount;
        if (amount > own) revert StakeTooSmall(own, amount);

        uint64 availableAt = uint64(block.timestamp) + unbonding;
        _setOwn(task, account, own - amount, _validatorMinimum(task, account.role));
        account.unbonding += amount;
        account.availableAt = availableAt;
        // One round is open at a time. So either the round that locked an earlier request is the
        // one that is open now, or it is closed, and what it locked now waits for the newer one.
        account.lockedBy = roundManager.openRoundKey(task);
        emit WithdrawalRequested(task, msg.sender, amount, availableAt);
    }

    /// @inheritdoc IStakeManager
    function withdraw(uint64 task) external nonReentrant returns (uint128 amount) {
        Account storage account = accounts[task][msg.sender];
        amount = account.unbonding;
        if (amount == 0) revert NothingRequested();
        _checkAvailable(task, account.availableAt, account.lockedBy);

        account.unbonding = 0;
        account.availableAt = 0;
        account.lockedBy = 0;
        account.left += amount;
        emit StakeWithdrawn(task, msg.sender, amount);
        _push(msg.sender, amount);
    }

    /// @inheritdoc IStakeManager
    function setCommission(uint64 task, uint16 commissionBps) external nonReentrant {
        if (commissionBps > COMMISSION_BPS_MAX) {
            revert CommissionTooHigh(COMMISSION_BPS_MAX, commissionBps);
        }
        _checkOperator(task, msg.sender);
        Pool storage pool = pools[task][msg.sender];
        uint16 current = _commission(pool);
        uint64 from = uint64(block.timestamp);
        if (commissionBps > current) {
            from += commissionNotice;
            (pool.commissionBps, pool.nextCommissionBps) = (current, commissionBps);
            pool.nextCommissionAt = from;
        } else {
            (pool.commissionBps, pool.nextCommissionBps) = (commissionBps, 0);
            pool.nextCommissionAt = 0;
        }
        emit CommissionChanged(task, msg.sender, commissionBps, from);
    }

    // ---- Actions of a delegator ----

    /// @inheritdoc IStakeManager
    function delegate(uint64 task, address operator, uint128 amount)
        external
        nonReentrant
        whenNotPaused
    {
        if (amount == 0) revert ZeroAmount();
        if (operator == msg.sender) revert SelfDelegation();
        _checkJoinable(task, operator);
        Delegation storage delegation = delegations[task][operator][msg.sender];
        if (delegation.pending != 0 && block.timestamp >= delegation.activeAt) {
            _activate(task, operator, msg.sender);
        }

        uint64 activeAt = uint64(block.timestamp) + warmup;
        delegation.pending += amount;
        delegation.activeAt = activeAt;
        totalHeld += amount;
        emit Delegated(task, operator, msg.sender, amount, activeAt);
        _pull(amount);
    }

    /// @inheritdoc IStakeManager
    function activate(uint64 task, address operator, address delegator)
        external
        nonReentrant
        returns (uint256 shares)
    {
        Delegation storage delegation = delegations[task][operator][delegator];
        if (delegation.pending == 0) revert NothingPending();
        if (block.timestamp < delegation.activeAt) revert NotActiveYet(delegation.activeAt);
        // What waits is never at risk. Joining after the end would be for rewards alone, and
        // joining an operator that has left would only cost the delegator the way out.
        _checkJoinable(task, operator);
        return _activate(task, operator, delegator);
    }

    /// @inheritdoc IStakeManager
    function cancelDelegation(uint64 task, address operator)
        external
        nonReentrant
        returns (uint128 amount)
    {
        Delegation storage delegation = delegations[task][operator][msg.sender];
        amount = delegation.pending;
        if (amount == 0) revert NothingPending();

        delegation.pending = 0;
        delegation.activeAt = 0;
        emit DelegationCancelled(task, operator, msg.sender, amount);
        _push(msg.sender, amount);
    }

    /// @inheritdoc IStakeManager
    function undelegate(uint64 task, address operator, uint256 shares)
        external
        nonReentrant
        returns (uint128 amount)
    {
        Pool storage pool = pools[task][operator];
        Delegation storage delegation = delegations[task][operator][msg.sender];
        if (shares > delegation.shares) revert SharesTooFew(delegation.shares, shares);
        amount = Shares.assetsDown(shares, pool.shares, pool.assets);
        if (amount == 0) revert ZeroAmount();

        _settle(pool, delegation);
        uint64 availableAt = uint64(block.timestamp) + unbonding;
        uint256 unbondingShares =
            Shares.sharesDown(amount, pool.unbondingShares, pool.unbondingAssets);
        pool.shares -= shares;
        pool.assets -= amount;
        pool.unbondingShares += unbondingShares;
        pool.unbondingAssets += amount;
        delegation.shares -= shares;
        delegation.unbondingShares += unbondingShares;
        delegation.availableAt = availableAt;
        delegation.lockedBy = roundManager.openRoundKey(task);
        emit UndelegationRequested(task, operator, msg.sender, shares, amount, availableAt);
    }

    /// @inheritdoc IStakeManager
    function withdrawDelegation(uint64 task, address operator)
        external
        nonReentrant
        returns (uint128 amount)
    {
        Pool storage pool = pools[task][operator];
        Delegation storage delegation = delegations[task][operator][msg.sender];
        uint256 shares = delegation.unbondingShares;
        if (shares == 0) revert NothingRequested();
        _checkAvailable(task, delegation.availableAt, delegation.lockedBy);

        amount = Shares.assetsDown(shares, pool.unbondingShares, pool.unbondingAssets);
        pool.unbondingShares -= shares;
        pool.unbondingAssets -= amount;
        delegation.unbondingShares = 0;
        delegation.availableAt = 0;
        delegation.lockedBy = 0;
        emit DelegationWithdrawn(task, operator, msg.sender, amount);
        _push(msg.sender, amount);
    }

    /// @inheritdoc IStakeManager
    function claimRewards(uint64 task, address operator, address delegator)
        external
        nonReentrant
        returns (uint128 amount)
    {
        Delegation storage delegation = delegations[task][operator][delegator];
        _settle(pools[task][operator], delegation);
        amount = delegation.rewards;
        if (amount == 0) revert NoRewards(task, operator, delegator);

        delegation.rewards = 0;
        emit RewardsClaimed(task, operator, delegator, amount);
        _push(delegator, amount);
    }

    // ---- Calls of the other contracts ----

    /// @inheritdoc IStakeManager
    function bookRewardDown(uint64 task, address operator, uint128 amount)
        external
        nonReentrant
        returns (uint128 toDelegators)
    {
        if (msg.sender != address(taskManager)) {
            revert NotTheTaskManager(address(taskManager), msg.sender);
        }
        Pool storage pool = pools[task][operator];
        uint256 shares = pool.shares;
        if (shares == 0) return 0;
        (uint256 part, uint256 whole) = _delegatedPart(pool.assets, accounts[task][operator]);
        if (part == 0) return 0;

        toDelegators =
            Math.mulDiv(amount, part * (BPS - _commission(pool)), whole * BPS).toUint128();
        uint256 perShareX64 = toDelegators * X64 / shares;
        // What no share could get any of is better paid to the operator than kept for ever.
        if (perShareX64 == 0) return 0;
        pool.rewardPerShareX64 += perShareX64;
        totalHeld += toDelegators;
        emit RewardBooked(task, operator, toDelegators);
    }

    /// @inheritdoc IStakeManager
    function slash(
        uint64 task,
        address account,
        uint16 bps,
        address reporter,
        uint16 reporterBps
    ) external nonReentrant onlyRole(SLASHER_ROLE) returns (uint128 taken) {
        if (bps > SLASH_BPS_MAX) revert SlashTooHigh(SLASH_BPS_MAX, bps);
        if (reporterBps > BPS) revert SlashTooHigh(BPS, reporterBps);
        // Delegation first: the cap on it follows from the own stake before the penalty.
        uint128 delegated = _slashPoolDown(task, account, bps);
        uint128 own = _slashOwnUp(task, account, bps);
        uint128 toReporter = uint128(Math.mulDiv(own, reporterBps, BPS));
        taken = own + delegated;
        uint128 toTask = taken - toReporter;
        emit Slashed(task, account, reporter, own, delegated, toReporter);
        _push(reporter, toReporter);
        if (toTask != 0) {
            _push(address(taskManager), toTask);
            taskManager.onPenalty(task, toTask);
        }
    }

    // ---- Administration ----

    /// @inheritdoc IStakeManager
    function link(ITaskManager taskManager_, IRoundManager roundManager_) external {
        if (msg.sender != deployer) revert NotTheDeployer(deployer, msg.sender);
        if (address(taskManager) != address(0)) revert AlreadyLinked(address(taskManager));
        if (
            address(taskManager_.stakeManager()) != address(this)
                || address(taskManager_.token()) != address(token)
        ) revert ForeignContract(address(taskManager_));
        if (
            address(roundManager_.stakeManager()) != address(this)
                || address(roundManager_.taskManager()) != address(taskManager_)
        ) revert ForeignContract(address(roundManager_));
        taskManager = taskManager_;
        roundManager = roundManager_;
        emit Linked(address(taskManager_), address(roundManager_));
    }

    /// @inheritdoc IStakeManager
    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    /// @inheritdoc IStakeManager
    function unpause() external onlyRole(PAUSER_ROLE) {
        _unpause();
    }

    // ---- Views ----

    /// @inheritdoc IStakeManager
    function stakeOf(uint64 task, address account)
        external
        view
        returns (uint8 role, uint128 amount)
    {
        Account storage record = accounts[task][account];
        return (record.role, record.amount);
    }

    /// @inheritdoc IStakeManager
    function effectiveStakeDown(uint64 task, address account) external view returns (uint128) {
        uint256 own = accounts[task][account].amount;
        return (own + Math.min(pools[task][account].assets, _capDown(own))).toUint128();
    }

    /// @inheritdoc IStakeManager
    function stakeRecord(uint64 task, address account) external view returns (Stake memory) {
        Account storage record = accounts[task][account];
        return Stake({
            amount: record.amount,
            unbonding: record.unbonding,
            availableAt: record.availableAt,
            lockedBy: record.lockedBy,
            role: record.role
        });
    }

    /// @inheritdoc IStakeManager
    function poolOf(uint64 task, address operator) external view returns (Pool memory) {
        return pools[task][operator];
    }

    /// @inheritdoc IStakeManager
    function delegationOf(uint64 task, address operator, address delegator)
        external
        view
        returns (Delegation memory)
    {
        return delegations[task][operator][delegator];
    }

    /// @inheritdoc IStakeManager
    function commissionOf(uint64 task, address operator) external view returns (uint16) {
        return _commission(pools[task][operator]);
    }

    /// @inheritdoc IStakeManager
    function worthDown(uint64 task, address operator, address delegator)
        external
        view
        returns (uint128 active, uint128 unbonds, uint128 rewards)
    {
        Pool storage pool = pools[task][operator];
        Delegation storage delegation = delegations[task][operator][delegator];
        active = Shares.assetsDown(delegation.shares, pool.shares, pool.assets);
        unbonds = Shares.assetsDown(
            delegation.unbondingShares, pool.unbondingShares, pool.unbondingAssets
        );
        rewards = delegation.rewards + _unsettledDown(pool, delegation);
    }

    // ---- Inside ----

    /// @dev The one place where own stake changes, so that the sums follow it.
    /// @param minimum The validators' least stake; means nothing for other roles.
    function _setOwn(uint64 task, Account storage account, uint128 own, uint128 minimum) private {
        uint128 before = account.amount;
        account.amount = own;
        totalStakeOf[task] = totalStakeOf[task] + own - before;
        if (account.role != ROLE_VALIDATOR) return;
        bool counted = before != 0 && before >= minimum;
        bool counts = own != 0 && own >= minimum;
        validatorStakeOf[task] =
            validatorStakeOf[task] + (counts ? own : 0) - (counted ? before : 0);
        if (counts && !counted) ++validatorCount[task];
        if (counted && !counts) --validatorCount[task];
    }

    /// @dev Who joins shares what is left of the pool, and must be able to leave it again.
    function _activate(uint64 task, address operator, address delegator)
        private
        returns (uint256 shares)
    {
        Pool storage pool = pools[task][operator];
        Delegation storage delegation = delegations[task][operator][delegator];
        if (
            Shares.wornOut(pool.shares, pool.assets)
                || Shares.wornOut(pool.unbondingShares, pool.unbondingAssets)
        ) revert PoolWornOut(task, operator);
        uint128 amount = delegation.pending;
        shares = Shares.sharesDown(amount, pool.shares, pool.assets);
        if (shares == 0) revert ZeroAmount();

        _settle(pool, delegation);
        delegation.pending = 0;
        delegation.activeAt = 0;
        delegation.shares += shares;
        pool.shares += shares;
        pool.assets += amount;
        emit DelegationActivated(task, operator, delegator, amount, shares);
    }

    function _settle(Pool storage pool, Delegation storage delegation) private {
        delegation.rewards += _unsettledDown(pool, delegation);
        delegation.settledPerShareX64 = pool.rewardPerShareX64;
    }

    /// @dev Fits: all rewards of a pool come from one task's escrow, which is a `uint128`.
    function _unsettledDown(Pool storage pool, Delegation storage delegation)
        private
        view
        returns (uint128)
    {
        return Math.mulDiv(
            delegation.shares, pool.rewardPerShareX64 - delegation.settledPerShareX64, X64
        ).toUint128();
    }

    function _slashOwnUp(uint64 task, address operator, uint16 bps)
        private
        returns (uint128 taken)
    {
        Account storage account = accounts[task][operator];
        uint128 fromActive = _partUp(account.amount, bps);
        uint128 fromUnbonding = _partUp(account.unbonding, bps);
        _setOwn(task, account, account.amount - fromActive, _validatorMinimum(task, account.role));
        account.unbonding -= fromUnbonding;
        return fromActive + fromUnbonding;
    }

    /// @dev Rounds down: rounded up, a penalty of next to nothing would take a pool's last unit
    /// each time, and a handful of them could inflate its shares beyond all bounds.
    function _slashPoolDown(uint64 task, address operator, uint16 bps)
        private
        returns (uint128 taken)
    {
        Pool storage pool = pools[task][operator];
        uint256 sum = uint256(pool.assets) + pool.unbondingAssets;
        if (sum == 0) return 0;
        uint256 atRisk = Math.min(sum, _capDown(_atStake(accounts[task][operator])));
        uint128 fromActive = _partOfRiskDown(pool.assets, bps, atRisk, sum);
        uint128 fromUnbonding = _partOfRiskDown(pool.unbondingAssets, bps, atRisk, sum);
        pool.assets -= fromActive;
        pool.unbondingAssets -= fromUnbonding;
        return fromActive + fromUnbonding;
    }

    /// @dev What counts is what arrives: a token that takes a fee would leave stakes uncovered.
    function _pull(uint128 amount) private {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != amount) revert WrongAmountReceived(amount, received);
    }

    function _push(address to, uint128 amount) private {
        // Some tokens refuse to transfer nothing.
        if (amount == 0) return;
        totalHeld -= amount;
        token.safeTransfer(to, amount);
    }

    function _checkTerms(uint64 task, uint8 role, uint128 sum)
        private
        view
        returns (uint128 minimum)
    {
        // Before the link there is no task to stake in, and nobody to ask.
        if (address(taskManager) == address(0)) revert TaskNotActive(task);
        bool active;
        address aggregator;
        (active, minimum, aggregator) = taskManager.stakeTerms(task, role);
        if (!active) revert TaskNotActive(task);
        if (role == ROLE_AGGREGATOR && msg.sender != aggregator) {
            revert NotTheAggregator(aggregator, msg.sender);
        }
        if (sum < minimum) revert StakeBelowMinimum(minimum, sum);
    }

    function _checkOperator(uint64 task, address operator) private view returns (uint8 role) {
        Account storage account = accounts[task][operator];
        role = account.role;
        if (account.amount == 0 || role == ROLE_AGGREGATOR) revert NotAnOperator(task, operator);
    }

    function _checkJoinable(uint64 task, address operator) private view {
        (bool active,,) = taskManager.stakeTerms(task, _checkOperator(task, operator));
        if (!active) revert TaskNotActive(task);
    }

    /// @dev A round can outlast the unbonding. So what was requested while one was open waits for
    /// its end and, as long as its result can be disputed, for the end of that.
    function _checkAvailable(uint64 task, uint64 availableAt, uint64 lockedBy) private view {
        if (block.timestamp < availableAt) revert StillUnbonding(availableAt);
        if (lockedBy == 0) return;
        if (roundManager.openRoundKey(task) == lockedBy) revert StakeLocked(task, lockedBy);
        (,, uint64 finalAt) = roundManager.settlementOf(task, uint32(lockedBy >> 16));
        if (block.timestamp < finalAt) revert StillUnbonding(finalAt);
    }

    function _validatorMinimum(uint64 task, uint8 role) private view returns (uint128 minimum) {
        if (role == ROLE_VALIDATOR) (, minimum,) = taskManager.stakeTerms(task, role);
    }

    /// @dev Own stake that a penalty would reach.
    function _atStake(Account storage account) private view returns (uint256) {
        return uint256(account.amount) + account.unbonding;
    }

    /// @dev The delegators' part of an operator's pay. An operator that has left counts with what
    /// it took away: it neither takes what its delegators have earned, nor they what it has.
    function _delegatedPart(uint256 assets, Account storage account)
        private
        view
        returns (uint256 part, uint256 whole)
    {
        uint256 own = _atStake(account);
        if (assets == 0) return (0, 1);
        if (own == 0) own = account.left;
        // A penalty took what there was.
        if (own == 0) return (delegationCapBps, uint256(BPS) + delegationCapBps);
        part = Math.min(assets, _capDown(own));
        whole = own + part;
    }

    function _capDown(uint256 own) private view returns (uint256) {
        return own * delegationCapBps / BPS;
    }

    function _commission(Pool storage pool) private view returns (uint16) {
        uint64 from = pool.nextCommissionAt;
        return from != 0 && block.timestamp >= from ? pool.nextCommissionBps : pool.commissionBps;
    }

    function _partUp(uint128 amount, uint16 bps) private pure returns (uint128) {
        return uint128(Math.ceilDiv(uint256(amount) * bps, BPS));
    }

    function _partOfRiskDown(uint128 amount, uint16 bps, uint256 atRisk, uint256 sum)
        private
        pure
        returns (uint128)
    {
        return uint128(Math.mulDiv(uint256(amount) * bps, atRisk, sum * BPS));
    }
}
// slither-disable-end timestamp,unused-return,incorrect-equality

// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IRoundManager} from "./IRoundManager.sol";
import {ITaskManager} from "./ITaskManager.sol";

interface IStakeManagerErrors {
    /// @notice There is no contract at the token's address.
    error NoTokenAt(address token);
    /// @notice Withdrawals would wait longer than `UNBONDING_SECONDS_MAX`.
    error UnbondingTooLong(uint32 maximum, uint32 unbonding);
    /// @notice Only the deployer may link the other contracts.
    error NotTheDeployer(address deployer, address caller);
    /// @notice The other contracts are linked for good.
    error AlreadyLinked(address taskManager);
    /// @notice The contract asks another stake manager.
    error ForeignContract(address other);
    /// @notice Only the task manager may book rewards.
    error NotTheTaskManager(address expected, address caller);
    /// @notice An amount must be above zero.
    error ZeroAmount();
    /// @notice Roles are 0 trainer, 1 validator, 2 aggregator.
    error UnknownRole(uint8 role);
    /// @notice The address has another role in this task.
    error RoleTaken(uint8 role, uint8 wanted);
    /// @notice There is no such task, or it has ended.
    error TaskNotActive(uint64 task);
    /// @notice Only the task's aggregator may stake as one.
    error NotTheAggregator(address expected, address caller);
    /// @notice A deposit must bring the stake to the task's minimum.
    error StakeBelowMinimum(uint128 minimum, uint128 stake);
    /// @notice More is asked for than is there.
    error StakeTooSmall(uint128 stake, uint128 amount);
    /// @notice Nothing was requested back.
    error NothingRequested();
    /// @notice What was requested is not available before `availableAt`.
    error StillUnbonding(uint64 availableAt);
    /// @notice The stake backs a round that is still open.
    error StakeLocked(uint64 task, uint64 roundKey);
    /// @notice Only trainers and validators with stake can be delegated to.
    error NotAnOperator(uint64 task, address operator);
    /// @notice An operator adds to its own stake by `deposit`.
    error SelfDelegation();
    /// @notice More shares are asked for than the delegator has.
    error SharesTooFew(uint256 shares, uint256 wanted);
    /// @notice The delegation joins the pool at `activeAt`.
    error NotActiveYet(uint64 activeAt);
    /// @notice There is no delegation that waits to become active.
    error NothingPending();
    /// @notice Penalties have left next to nothing of the operator's pool: nobody joins it.
    error PoolWornOut(uint64 task, address operator);
    /// @notice A commission is at most `COMMISSION_BPS_MAX`.
    error CommissionTooHigh(uint16 maximum, uint16 commissionBps);
    /// @notice No rewards are due to the delegator.
    error NoRewards(uint64 task, address operator, address delegator);
    /// @notice A penalty is at most `SLASH_BPS_MAX` of the stake, a reporter's part at most all.
    error SlashTooHigh(uint16 maximum, uint16 bps);
    /// @notice The token took a fee, or paid a bonus, on the way.
    error WrongAmountReceived(uint128 expected, uint256 received);
}

interface IStakeManagerTypes {
    /// @notice What one address has staked itself in one task.
    struct Stake {
        /// Backs the task; base units.
        uint128 amount;
        /// Requested back and waiting for `availableAt`; base units. Can still be slashed.
        uint128 unbonding;
        /// When `unbonding` may be withdrawn; Unix seconds, 0 if nothing was requested.
        uint64 availableAt;
        /// The round that was open when the withdrawal was requested, 0 if none: while it is open
        /// nothing is withdrawn.
        uint64 lockedBy;
        /// 0 trainer, 1 validator, 2 aggregator; means nothing while nothing was ever staked.
        uint8 role;
    }

    /// @notice What others have delegated to one operator in one task.
    struct Pool {
        /// Backs the operator; base units.
        uint128 assets;
        /// Requested back by delegators; base units. Can still be slashed.
        uint128 unbondingAssets;
        /// Claims on `assets`.
        uint256 shares;
        /// Claims on `unbondingAssets`.
        uint256 unbondingShares;
        /// Rewards of one share since the beginning, times 2^64.
        uint256 rewardPerShareX64;
        /// What the operator keeps of its delegators' rewards, in basis points.
        uint16 commissionBps;
        /// Takes the place of `commissionBps` at `nextCommissionAt`.
        uint16 nextCommissionBps;
        /// Unix seconds; 0 if no change is announced.
        uint64 nextCommissionAt;
    }

    /// @notice One delegator's part of a pool.
    struct Delegation {
        /// Claims on the pool's `assets`.
        uint256 shares;
        /// Claims on the pool's `unbondingAssets`.
        uint256 unbondingShares;
        /// Where the pool's `rewardPerShareX64` stood when this was last settled.
        uint256 settledPerShareX64;
        /// Waits to join the pool at `activeAt`; base units.
        uint128 pending;
        /// Settled and not paid; base units.
        uint128 rewards;
        uint64 activeAt;
        /// When what unbonds may be withdrawn.
        uint64 availableAt;
        /// As in `Stake`.
        uint64 lockedBy;
    }
}

interface IStakeManagerEvents {
    /// @notice The other contracts were linked.
    event Linked(address indexed taskManager, address indexed roundManager);
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
    /// @notice `commissionBps` holds from `from` on.
    event CommissionChanged(
        uint64 indexed task, address indexed operator, uint16 commissionBps, uint64 from
    );
    /// @notice `amount` was delegated and joins the pool at `activeAt`.
    event Delegated(
        uint64 indexed task,
        address indexed operator,
        address indexed delegator,
        uint128 amount,
        uint64 activeAt
    );
    /// @notice `amount` joined the pool for `shares`.
    event DelegationActivated(
        uint64 indexed task,
        address indexed operator,
        address indexed delegator,
        uint128 amount,
        uint256 shares
    );
    /// @notice `amount` that had not joined the pool went back.
    event DelegationCancelled(
        uint64 indexed task, address indexed operator, address indexed delegator, uint128 amount
    );
    /// @notice `shares`, worth `amount` now, began to unbond.
    event UndelegationRequested(
        uint64 indexed task,
        address indexed operator,
        address indexed delegator,
        uint256 shares,
        uint128 amount,
        uint64 availableAt
    );
    /// @notice `amount` went back to the delegator.
    event DelegationWithdrawn(
        uint64 indexed task, address indexed operator, address indexed delegator, uint128 amount
    );
    /// @notice The delegators of `operator` share `amount`.
    event RewardBooked(uint64 indexed task, address indexed operator, uint128 amount);
    /// @notice A delegator took its rewards.
    event RewardsClaimed(
        uint64 indexed task, address indexed operator, address indexed delegator, uint128 amount
    );
    /// @notice A hard penalty: `own` of the operator's stake, `delegated` of its delegators'.
    event Slashed(
        uint64 indexed task,
        address indexed account,
        address indexed reporter,
        uint128 own,
        uint128 delegated,
        uint128 toReporter
    );
}

/// @title Stake of trainers, validators and aggregators, held per task, and delegation to them
interface IStakeManager is IStakeManagerErrors, IStakeManagerTypes, IStakeManagerEvents {
    // ---- Actions of an operator ----

    /// @notice Stakes `amount` base units for the caller. The allowance must cover it, and the
    /// stake must then reach the task's minimum for the role. Not while paused.
    function deposit(uint64 task, uint8 role, uint128 amount) external;

    /// @notice Starts the unbonding of `amount`: it stops counting at once. A second request
    /// restarts the wait for what the first asked for.
    function requestWithdrawal(uint64 task, uint128 amount) external;

    /// @notice Pays the caller what has unbonded, once the round that was open at the request is
    /// closed and its result, if it has one, is final.
    function withdraw(uint64 task) external returns (uint128 amount);

    /// @notice Sets the caller's commission: a lower one at once, a higher one after
    /// `commissionNotice`. A new call replaces a change that is not in force yet.
    function setCommission(uint64 task, uint16 commissionBps) external;

    // ---- Actions of a delegator ----

    /// @notice Delegates `amount` to an operator. It joins the pool, and begins to earn and to be
    /// at risk, when `warmup` has passed. A further call adds to what waits and restarts the wait;
    /// what is due to join joins first. Not while paused.
    function delegate(uint64 task, address operator, uint128 amount) external;

    /// @notice Lets a delegation that is due join the pool, while the task goes on and the
    /// operator has stake. Anyone.
    function activate(uint64 task, address operator, address delegator)
        external
        returns (uint256 shares);

    /// @notice Takes back what has not joined the pool yet.
    function cancelDelegation(uint64 task, address operator) external returns (uint128 amount);

    /// @notice Starts the unbonding of `shares`: they stop earning at once.
    function undelegate(uint64 task, address operator, uint256 shares)
        external
        returns (uint128 amount);

    /// @notice Pays the caller what has unbonded.
    function withdrawDelegation(uint64 task, address operator) external returns (uint128 amount);

    /// @notice Pays `delegator` its rewards. Anyone may call.
    function claimRewards(uint64 task, address operator, address delegator)
        external
        returns (uint128 amount);

    // ---- Calls of the other contracts ----

    /// @notice Books the delegators' part of an operator's pay. Only the task manager, which then
    /// transfers just this amount here.
    /// @return toDelegators `amount × d / (own + d) × (1 - commission)`, rounded down once; `own`
    /// is the operator's stake, what unbonds included, so that no request made just before a claim
    /// takes anything from delegators, and `d` the delegation up to the cap on `own`; `own` of an
    /// operator that has left is what it took away. Nothing without delegators.
    function bookRewardDown(uint64 task, address operator, uint128 amount)
        external
        returns (uint128 toDelegators);

    /// @notice Takes `bps` of all that stands behind `account`: of its own stake, rounded up, and
    /// of its delegators', rounded down, what unbonds included. Delegation is at risk up to the
    /// cap on the own stake, as it earns and weighs up to the cap. Only `SLASHER_ROLE`.
    /// @param reporterBps Part of the own stake taken that goes to `reporter`; the rest goes to the
    /// task's escrow. No part of the delegators', or operators would report themselves for it.
    /// @return taken In all.
    function slash(
        uint64 task,
        address account,
        uint16 bps,
        address reporter,
        uint16 reporterBps
    ) external returns (uint128 taken);

    // ---- Administration ----

    /// @notice Names the other contracts. Only the deployer, once.
    function link(ITaskManager taskManager_, IRoundManager roundManager_) external;

    /// @notice Stops deposits and delegations, nothing else. Only `PAUSER_ROLE`.
    function pause() external;

    /// @notice Only `PAUSER_ROLE`.
    function unpause() external;

    // ---- Views ----

    function token() external view returns (IERC20);
    function taskManager() external view returns (ITaskManager);
    function roundManager() external view returns (IRoundManager);

    /// @notice Seconds between a request and its withdrawal; not less than any dispute window.
    function unbonding() external view returns (uint32);

    /// @notice Seconds until a delegation joins its pool.
    function warmup() external view returns (uint32);

    /// @notice Seconds between the announcement of a higher commission and its force.
    function commissionNotice() external view returns (uint32);

    /// @notice Delegation counts up to so many basis points of the operator's own stake.
    function delegationCapBps() external view returns (uint32);

    /// @notice Everything held: stakes, delegations, what unbonds, and rewards; base units.
    function totalHeld() external view returns (uint256);

    /// @notice The operators' own stake behind a task, unbonding excluded; base units.
    function totalStakeOf(uint64 task) external view returns (uint256);

    /// @notice Validators of a task whose own stake reaches its minimum.
    function validatorCount(uint64 task) external view returns (uint32);

    /// @notice Own stake of those validators; base units.
    function validatorStakeOf(uint64 task) external view returns (uint256);

    /// @notice The role and the own stake, unbonding excluded.
    function stakeOf(uint64 task, address account)
        external
        view
        returns (uint8 role, uint128 amount);

    /// @notice What an account weighs: its own stake and its delegators', the latter up to the cap.
    function effectiveStakeDown(uint64 task, address account) external view returns (uint128);

    function stakeRecord(uint64 task, address account) external view returns (Stake memory);
    function poolOf(uint64 task, address operator) external view returns (Pool memory);
    function delegationOf(uint64 task, address operator, address delegator)
        external
        view
        returns (Delegation memory);

    /// @notice The commission in force now.
    function commissionOf(uint64 task, address operator) external view returns (uint16);

    /// @notice What a delegation is worth now, and what rewards are due; base units.
    function worthDown(uint64 task, address operator, address delegator)
        external
        view
        returns (uint128 active, uint128 unbonds, uint128 rewards);
}

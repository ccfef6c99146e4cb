// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IStakeManager} from "./IStakeManager.sol";

interface ITaskManagerErrors {
    /// @notice There is no such task.
    error UnknownTask(uint64 task);
    /// @notice A result was never submitted for the round.
    error RoundNotSettled(uint64 task, uint32 round);
    /// @notice The aggregator's address is zero.
    error AggregatorMissing();
    /// @notice A task has 1 to `ROUNDS_MAX` rounds.
    error RoundsOutOfRange(uint32 maximum, uint32 rounds);
    /// @notice Each round must have at least one base unit to share out.
    error RewardTooSmall(uint128 minimum, uint128 reward);
    /// @notice At most `VESTING_BPS_MAX` of a claim may vest.
    error VestingTooHigh(uint16 maximum, uint16 vestingBps);
    /// @notice A duration in seconds is outside its range.
    error WindowOutOfRange(uint32 minimum, uint32 maximum, uint32 window);
    /// @notice The task file is longer than `TASK_FILE_BYTES_MAX`.
    error TaskFileTooLong(uint256 maximum, uint256 length);
    /// @notice The token took a fee, or paid a bonus, on the way.
    error WrongAmountReceived(uint128 expected, uint256 received);
    /// @notice Only the task's aggregator may do this.
    error NotTheAggregator(address expected, address caller);
    /// @notice Only the task's creator may do this.
    error NotTheCreator(address expected, address caller);
    /// @notice The task has ended.
    error TaskNotActive(uint64 task, ITaskManagerTypes.TaskState state);
    /// @notice The task goes on.
    error TaskStillActive(uint64 task);
    /// @notice Rounds are settled in order, each once.
    error WrongRound(uint32 expected, uint32 round);
    /// @notice The result shares out more than the round's pool.
    error TotalAboveRoundPool(uint128 pool, uint128 total);
    /// @notice The aggregator has not staked what the task asks of it.
    error StakeBelowMinimum(uint128 minimum, uint128 stake);
    /// @notice Claims open when the dispute window has closed.
    error DisputeWindowOpen(uint64 opensAt);
    /// @notice The leaf is not under the round's root.
    error InvalidProof(uint32 round, address account, uint128 amount);
    /// @notice This payout was claimed before.
    error AlreadyClaimed(uint32 round, address account);
    /// @notice The claims of a round may not exceed its total, whatever its root says.
    error ClaimAboveRoundTotal(uint128 remaining, uint128 amount);
    /// @notice Vested shares wait until `releasableAt`.
    error StillVesting(uint64 releasableAt);
    /// @notice The account has nothing vesting in this task.
    error NothingVested(uint64 task, address account);
    /// @notice Rounds are missing.
    error RoundsRemaining(uint32 settled, uint32 rounds);
    /// @notice The round's time has not run out.
    error NotTimedOut(uint64 abortableAt);
    /// @notice A task with results or stake cannot be cancelled, only aborted by time-out.
    error NotCancellable(uint32 roundsSettled, uint256 staked);
    /// @notice The refund was paid before.
    error AlreadyRefunded(uint64 task);
    /// @notice The stake manager holds another token.
    error ForeignStakeManager(address stakeManager);
}

interface ITaskManagerTypes {
    /// @notice Where a task stands. Everything after `Active` is an end.
    enum TaskState {
        None,
        Active,
        Finished,
        Aborted,
        Cancelled
    }

    /// @notice What a creator asks for. Amounts are base units, durations seconds.
    struct TaskSpec {
        /// Submits results; neither holds the money nor can pay beyond a round's pool.
        address aggregator;
        /// Goes into escrow; a round may share out `reward / rounds`, rounded down.
        uint128 reward;
        /// 1 to 10,000.
        uint32 rounds;
        /// Least stake of a trainer.
        uint128 trainerStakeMin;
        /// Least stake of a validator.
        uint128 validatorStakeMin;
        /// Least stake of the aggregator.
        uint128 aggregatorStakeMin;
        /// Share of every claim that vests; 0 to 9,000 basis points.
        uint16 vestingBps;
        /// From a result to its first claim; at most the unbonding time of stake.
        uint32 disputeWindow;
        /// Without progress for so long, anyone may abort; at least 1.
        uint32 roundTimeout;
        /// From the task's end to the release of what vests.
        uint32 vestingDuration;
    }

    /// @notice A task as it is stored.
    struct TaskRecord {
        address creator;
        TaskState state;
        uint32 rounds;
        /// Rounds that have a result.
        uint32 roundsSettled;
        uint16 vestingBps;
        /// Whether the refund has been paid.
        bool isRefunded;
        address aggregator;
        /// Creation or newest result; Unix seconds.
        uint64 lastProgressAt;
        uint32 disputeWindow;
        uint128 reward;
        /// Sum of the totals of settled rounds.
        uint128 allocated;
        /// Paid out by claims and releases.
        uint128 paid;
        /// Claimed and waiting for release.
        uint128 vesting;
        uint128 refunded;
        uint32 roundTimeout;
        uint32 vestingDuration;
        /// Unix seconds; 0 while active.
        uint64 endedAt;
        /// keccak256 of the task file.
        bytes32 taskFileHash;
        uint128 trainerStakeMin;
        uint128 validatorStakeMin;
        uint128 aggregatorStakeMin;
        /// The block whose `TaskCreated` log carries the task file.
        uint64 createdBlock;
    }

    /// @notice What a round came to.
    struct RoundResult {
        /// Root of the Merkle tree of payouts; zero if nobody is paid.
        bytes32 payoutsRoot;
        /// BLAKE3 hash of the checkpoint after the round.
        bytes32 checkpoint;
        /// Hash of the aggregator's full account of the round.
        bytes32 resultHash;
        /// Most that claims of this round may come to.
        uint128 total;
        /// What they have come to.
        uint128 claimed;
        /// Unix seconds; 0 if the round is not settled.
        uint64 settledAt;
    }

    /// @notice One leaf with its proof.
    struct Claim {
        uint32 round;
        address account;
        uint128 amount;
        bytes32[] proof;
    }
}

interface ITaskManagerEvents {
    /// @notice A task was posted and its reward is in escrow. The log carries the task file.
    event TaskCreated(
        uint64 indexed task,
        address indexed creator,
        address indexed aggregator,
        uint128 reward,
        bytes32 taskFileHash,
        bytes taskFile
    );
    /// @notice The aggregator settled a round.
    event RoundSettled(
        uint64 indexed task,
        uint32 indexed round,
        bytes32 payoutsRoot,
        uint128 total,
        bytes32 checkpoint,
        bytes32 resultHash
    );
    /// @notice A payout was claimed: `paidNow` was transferred and `vesting` waits.
    event PayoutClaimed(
        uint64 indexed task,
        uint32 indexed round,
        address indexed account,
        uint128 paidNow,
        uint128 vesting
    );
    /// @notice What had vested was paid.
    event VestingReleased(uint64 indexed task, address indexed account, uint128 amount);
    /// @notice All rounds are settled and the aggregator closed the task.
    event TaskFinished(uint64 indexed task);
    /// @notice The task ended because nothing happened for its round time-out.
    event TaskAborted(uint64 indexed task, uint32 roundsSettled);
    /// @notice The creator took the task back before anything had happened.
    event TaskCancelled(uint64 indexed task);
    /// @notice What no round was allotted went back to the creator.
    event TaskRefunded(uint64 indexed task, address indexed creator, uint128 amount);
}

/// @title Tasks, their escrow, the results of their rounds, and the payouts
interface ITaskManager is ITaskManagerErrors, ITaskManagerTypes, ITaskManagerEvents {
    /// @notice Posts a task and pulls its reward into escrow; the allowance must cover it.
    /// @return id The first task is 1.
    function createTask(TaskSpec calldata spec, bytes calldata taskFile)
        external
        returns (uint64 id);

    /// @notice Records the result of the next round. Only the task's aggregator; the first time,
    /// it must have its minimum staked.
    function submitResult(
        uint64 id,
        uint32 round,
        bytes32 payoutsRoot,
        uint128 total,
        bytes32 checkpoint,
        bytes32 resultHash
    ) external;

    /// @notice Pays `account` one payout. Anyone may call.
    /// @return paidNow What was transferred; the rest of `amount` vests.
    function claim(
        uint64 id,
        uint32 round,
        address account,
        uint128 amount,
        bytes32[] calldata proof
    ) external returns (uint128 paidNow);

    /// @notice Pays many payouts of one task, and passes over those claimed before, so that a
    /// retry is safe. Successive claims of one account are paid by one transfer.
    /// @return paidNow What was transferred in all.
    function claimMany(uint64 id, Claim[] calldata batch) external returns (uint128 paidNow);

    /// @notice Pays `account` what has vested, `vestingDuration` after the task's end.
    function releaseVested(uint64 id, address account) external returns (uint128 amount);

    /// @notice Ends a task whose rounds are all settled. Only its aggregator.
    function finish(uint64 id) external;

    /// @notice Ends a task that made no progress for longer than its round time-out. Anyone.
    function abort(uint64 id) external;

    /// @notice Ends a task and refunds it, before any result and any stake. Only its creator.
    function cancel(uint64 id) external;

    /// @notice Pays the creator what no round was allotted, once the task has ended. Anyone.
    function refund(uint64 id) external returns (uint128 amount);

    /// @notice The token of rewards and stakes.
    function token() external view returns (IERC20);

    /// @notice Who holds the stakes.
    function stakeManager() external view returns (IStakeManager);

    /// @notice How many tasks there are; the newest has this id.
    function taskCount() external view returns (uint64);

    /// @notice A task; reverts for an unknown one.
    function task(uint64 id) external view returns (TaskRecord memory);

    /// @notice The most that a round of the task may share out.
    function roundPoolDown(uint64 id) external view returns (uint128);

    /// @notice A round's result; all zero if it is not settled.
    function roundResult(uint64 id, uint32 round) external view returns (RoundResult memory);

    /// @notice Whether a payout was claimed.
    function claimed(uint64 id, uint32 round, address account) external view returns (bool);

    /// @notice What waits for `releaseVested`.
    function vestingOf(uint64 id, address account) external view returns (uint128);

    /// @notice Where the reward is: `reward == paid + refunded + vesting + unclaimed` always.
    function balances(uint64 id)
        external
        view
        returns (uint128 reward, uint128 paid, uint128 refunded, uint128 vesting, uint128 unclaimed);

    /// @notice The leaf of a payout, as `claim` expects it under the round's root.
    function payoutLeaf(uint64 id, uint32 round, address account, uint128 amount)
        external
        view
        returns (bytes32);

    /// @notice What staking needs to know of a task, in one call.
    /// @return active Whether the task exists and has not ended.
    /// @return minimum The least stake of `role`.
    /// @return aggregator Who may stake as aggregator.
    function stakeTerms(uint64 id, uint8 role)
        external
        view
        returns (bool active, uint128 minimum, address aggregator);
}

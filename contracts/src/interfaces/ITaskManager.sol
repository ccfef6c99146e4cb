// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {IRoundManager} from "./IRoundManager.sol";
import {IStakeManager} from "./IStakeManager.sol";

interface ITaskManagerErrors {
    /// @notice There is no such task.
    error UnknownTask(uint64 task);
    /// @notice The aggregator's address is zero.
    error AggregatorMissing();
    /// @notice A task has 1 to `ROUNDS_MAX` rounds.
    error RoundsOutOfRange(uint32 maximum, uint32 rounds);
    /// @notice Each round must have at least one base unit to share out.
    error RewardTooSmall(uint128 minimum, uint128 reward);
    /// @notice Cohorts have 1 to `TRAINERS_MAX` trainers, the minimum not above the maximum.
    error CohortOutOfRange(uint16 trainersMin, uint16 trainersMax);
    /// @notice A task has 0 to 64 validators at least.
    error ValidatorsOutOfRange(uint16 maximum, uint16 validatorsMin);
    /// @notice The shares of trainers, validators and aggregator come to 10,000 basis points.
    error SharesDoNotAddUp(uint256 sum);
    /// @notice A rate in basis points is above its maximum.
    error RateTooHigh(uint16 maximum, uint16 rate);
    /// @notice A split by rank has a decay of 1 to 10,000 basis points.
    error RankDecayMissing();
    /// @notice A duration in seconds is outside its range.
    error WindowOutOfRange(uint32 minimum, uint32 maximum, uint32 window);
    /// @notice A round that uses all of its windows, the dispute window before it included, would
    /// run into the round time-out.
    error RoundTimeoutTooShort(uint256 minimum, uint32 roundTimeout);
    /// @notice A round is tried 1 to 100 times.
    error AttemptsOutOfRange(uint16 attempts);
    /// @notice The task file is longer than `TASK_FILE_BYTES_MAX`.
    error TaskFileTooLong(uint256 maximum, uint256 length);
    /// @notice An amount must be above zero.
    error ZeroAmount();
    /// @notice The token took a fee, or paid a bonus, on the way.
    error WrongAmountReceived(uint128 expected, uint256 received);
    /// @notice Only the task's creator may do this.
    error NotTheCreator(address expected, address caller);
    /// @notice Only the round manager may do this.
    error NotTheRoundManager(address expected, address caller);
    /// @notice Only the stake manager may do this.
    error NotTheStakeManager(address expected, address caller);
    /// @notice The task is not in the state that the call needs.
    error WrongState(uint64 task, ITaskManagerTypes.TaskState state);
    /// @notice Rounds are missing.
    error RoundsRemaining(uint32 settled, uint32 rounds);
    /// @notice The newest result can still be challenged.
    error ResultDisputable(uint64 until);
    /// @notice A task whose first round was opened cannot be cancelled.
    error NotCancellable(uint32 roundsOpened);
    /// @notice A result was never submitted for the round.
    error RoundNotSettled(uint64 task, uint32 round);
    /// @notice Claims open when the dispute window has closed.
    error DisputeWindowOpen(uint64 opensAt);
    /// @notice A result allots no more than the round's pool.
    error ResultAbovePool(uint128 pool, uint128 total);
    /// @notice The leaf is not under the round's root.
    error InvalidProof(uint32 round, address account, uint128 amount);
    /// @notice This payout was claimed before.
    error AlreadyClaimed(uint32 round, address account);
    /// @notice The account has no such pay.
    error NothingToClaim(uint32 round, address account);
    /// @notice The claims of a round may not exceed its total, whatever its root says.
    error ClaimAboveRoundTotal(uint128 remaining, uint128 amount);
    /// @notice All claims of a task together may not exceed what its rounds were allotted.
    error ClaimAboveAllotted(uint128 remaining, uint128 amount);
    /// @notice The account has nothing vesting in this task.
    error NothingVested(uint64 task, address account);
    /// @notice Nothing is due to the creator.
    error NothingToRefund(uint64 task);
    /// @notice There is nothing whose time has run out.
    error NothingDue(uint64 task);
    /// @notice The contract belongs to another deployment.
    error ForeignContract(address other);
    /// @notice Only the deployer may link the round manager, once.
    error NotTheDeployer(address deployer, address caller);
    error AlreadyLinked(address roundManager);
}

interface ITaskManagerTypes {
    /// @notice Where a task stands. Everything after `Closing` is an end.
    enum TaskState {
        None,
        Active,
        /// All rounds are settled and the closing evaluation decides on what vests.
        Closing,
        Finished,
        Aborted,
        Cancelled
    }

    /// @notice How the trainers' share of a round is split.
    enum SplitKind {
        /// In proportion to the scores.
        Score,
        /// `q^rank`, best score first, ties by earlier commitment.
        Rank
    }

    /// @notice When a result's proof is checked.
    enum ProofMode {
        OnSubmission,
        OnChallenge
    }

    /// @notice What a creator asks for. Amounts are base units, durations seconds, rates basis
    /// points.
    struct TaskSpec {
        /// Holds the rounds together; neither holds the money nor decides who gets it.
        address aggregator;
        /// 1 to 10,000.
        uint32 rounds;
        /// Cohort bounds, 1 to 256.
        uint16 trainersMin;
        uint16 trainersMax;
        /// 0 to 64. With 0 held-out loss plays no part.
        uint16 validatorsMin;
        /// A failed round is tried again until it was tried so often; 1 to 100.
        uint16 attemptsMax;
        /// From the opening of a round to the commitment of its updates.
        uint32 trainWindow;
        /// For commitments to scores, and again for reveals.
        uint32 scoreWindow;
        /// Validators that were missing last time are waited for no longer than this; at most
        /// `scoreWindow`.
        uint32 graceWindow;
        /// For the drawing of the seed, and again for the result.
        uint32 settleWindow;
        /// From a result to its first claim; at most the unbonding time of stake.
        uint32 disputeWindow;
        /// Without a result for so long, the task ends; at least the windows of one round, and the
        /// dispute window where proofs are checked on challenge.
        uint32 roundTimeout;
        /// The split of a round's pool; the three come to 10,000.
        uint16 trainersBps;
        uint16 validatorsBps;
        uint16 aggregatorBps;
        /// Share of every payout that waits for the closing evaluation; 0 to 9,000.
        uint16 vestingBps;
        /// Goes into escrow; a round may share out `reward / rounds`, rounded down.
        uint128 reward;
        SplitKind split;
        /// q of the rank split; 1 to 10,000, without meaning for the other.
        uint16 rankDecayBps;
        ProofMode proofMode;
        /// Hard penalty: this slice of a stake, 0 to 5,000, ...
        uint16 slashBps;
        /// ... of which this part goes to the reporter, 0 to 5,000.
        uint16 reporterBps;
        /// Least stakes.
        uint128 trainerStakeMin;
        uint128 validatorStakeMin;
        uint128 aggregatorStakeMin;
        /// BLAKE3 of the initial checkpoint.
        bytes32 modelHash;
        /// keccak256 of the description of the data.
        bytes32 dataHash;
    }

    /// @notice A task as it goes along; `TaskSpec` holds what never changes.
    struct TaskRecord {
        address creator;
        TaskState state;
        /// Rounds that have a result.
        uint32 roundsSettled;
        /// Rounds that were ever opened.
        uint32 roundsOpened;
        /// Creation or newest result; Unix seconds.
        uint64 lastProgressAt;
        /// Unix seconds; 0 while it goes on.
        uint64 endedAt;
        /// What one further round may pay; base units.
        uint128 roundPool;
        /// All that ever went into escrow: reward, top-ups, penalties.
        uint128 escrowed;
        /// Sum of what settled rounds allot.
        uint128 allotted;
        /// Paid out by claims and releases, delegators' parts included.
        uint128 paid;
        /// Claimed and waiting for the release.
        uint128 vesting;
        uint128 refunded;
        /// Vesting that the closing evaluation took away.
        uint128 forfeited;
        /// Part of what vests that is released; 10,000 unless the closing evaluation says less.
        uint16 releaseBps;
        /// keccak256 of the task file.
        bytes32 taskFileHash;
        /// The block whose `TaskCreated` log carries the task file.
        uint64 createdBlock;
    }

    /// @notice One leaf with its proof; a direct payout of a validator or aggregator has `amount`
    /// 0 and no proof.
    struct Claim {
        uint32 round;
        address account;
        uint128 amount;
        bytes32[] proof;
    }
}

interface ITaskManagerEvents {
    event Linked(address indexed roundManager);
    /// @notice A task was posted and its reward is in escrow. The log carries the task file.
    event TaskCreated(
        uint64 indexed task,
        address indexed creator,
        address indexed aggregator,
        uint128 reward,
        bytes32 taskFileHash,
        bytes taskFile
    );
    /// @notice Later rounds can pay more: `roundPool` each.
    event TaskFunded(
        uint64 indexed task, address indexed from, uint128 amount, uint128 roundPool
    );
    /// @notice A penalty's rest went into the escrow.
    event PenaltyReceived(uint64 indexed task, uint128 amount);
    /// @notice A payout was claimed: `paidNow` was transferred and `vesting` waits.
    event PayoutClaimed(
        uint64 indexed task,
        uint32 indexed round,
        address indexed account,
        uint128 paidNow,
        uint128 vesting
    );
    /// @notice What had vested was paid; `forfeited` goes back to the creator.
    event VestingReleased(
        uint64 indexed task, address indexed account, uint128 amount, uint128 forfeited
    );
    /// @notice All rounds are settled; validators now say how much of what vests is released.
    event TaskClosing(uint64 indexed task);
    event TaskFinished(uint64 indexed task, uint16 releaseBps);
    /// @notice The task ended because a time-out ran out or its attempts were used up.
    event TaskAborted(uint64 indexed task, uint32 roundsSettled);
    /// @notice The creator took the task back before anything had happened.
    event TaskCancelled(uint64 indexed task);
    /// @notice What no round was allotted went back to the creator.
    event TaskRefunded(uint64 indexed task, address indexed creator, uint128 amount);
}

/// @title Tasks, their escrow and the payouts
interface ITaskManager is ITaskManagerErrors, ITaskManagerTypes, ITaskManagerEvents {
    // ---- The creator ----

    /// @notice Posts a task and pulls its reward into escrow; the allowance must cover it. Not
    /// while paused.
    /// @return id The first task is 1.
    function createTask(TaskSpec calldata spec, bytes calldata taskFile)
        external
        returns (uint64 id);

    /// @notice Adds to the escrow of an active task; rounds not opened yet share it evenly. Anyone,
    /// but what is left in the end goes to the creator.
    function fund(uint64 id, uint128 amount) external;

    /// @notice Ends a task and refunds it, before its first round.
    function cancel(uint64 id) external;

    /// @notice Pays the creator what is due to it once the task has ended: what no round was
    /// allotted, and forfeited vesting. Anyone may call, again and again.
    function refund(uint64 id) external returns (uint128 amount);

    // ---- Payouts: anyone may call, the account is paid ----

    /// @notice Pays a trainer one payout.
    /// @return paidNow What was paid, the delegators' part included; the rest of `amount` vests.
    function claim(
        uint64 id,
        uint32 round,
        address account,
        uint128 amount,
        bytes32[] calldata proof
    ) external returns (uint128 paidNow);

    /// @notice Pays a validator or the aggregator for one round.
    function claimDirect(uint64 id, uint32 round, address account)
        external
        returns (uint128 paidNow);

    /// @notice Pays many payouts of one task, and passes over those claimed before, so that a
    /// retry is safe. Successive claims of one account are paid by one transfer.
    function claimMany(uint64 id, Claim[] calldata batch) external returns (uint128 paidNow);

    /// @notice Pays `account` what has vested, once the task has ended.
    function releaseVested(uint64 id, address account) external returns (uint128 amount);

    // ---- Ends ----

    /// @notice Closes a task whose rounds are all settled and final: opens the closing evaluation
    /// if anything vests and there are validators, else finishes. Anyone.
    function finish(uint64 id) external;

    /// @notice Moves on whatever has timed out, the open round included: the one call that keeps
    /// anybody's silence from holding funds. Reverts with `NothingDue` if there is nothing.
    function tick(uint64 id) external;

    // ---- Calls of the other contracts ----

    /// @notice Only the round manager: a round opens.
    /// @return pool What it may pay.
    function onRoundOpened(uint64 id, uint32 round) external returns (uint128 pool);

    /// @notice Only the round manager: a round has a result that allots `total` in all.
    function onRoundSettled(uint64 id, uint32 round, uint128 total) external;

    /// @notice Only the round manager: a challenge voided the newest result.
    function onResultVoided(uint64 id, uint32 round, uint128 total) external;

    /// @notice Only the round manager: the closing evaluation is over.
    function onClosed(uint64 id, uint16 releaseBps) external;

    /// @notice Only the stake manager, which has just transferred `amount` here. Not in the middle
    /// of a payment, where it could pass for what a payer owes.
    function onPenalty(uint64 id, uint128 amount) external;

    // ---- Administration ----

    /// @notice Names the round manager. Only the deployer, once.
    function link(IRoundManager roundManager_) external;
    function pause() external;
    function unpause() external;

    // ---- Views ----

    function token() external view returns (IERC20);
    function stakeManager() external view returns (IStakeManager);
    function roundManager() external view returns (IRoundManager);

    /// @notice How many tasks there are; the newest has this id.
    function taskCount() external view returns (uint64);

    /// @notice How a task stands; reverts for an unknown one.
    function task(uint64 id) external view returns (TaskRecord memory);

    /// @notice What was asked for; reverts for an unknown task.
    function specOf(uint64 id) external view returns (TaskSpec memory);

    /// @notice The same with where the task stands; what every call about a round needs.
    function termsOf(uint64 id) external view returns (TaskSpec memory spec, TaskState state);

    /// @notice Whether a trainer's payout was claimed.
    function claimed(uint64 id, uint32 round, address account) external view returns (bool);

    /// @notice Whether a validator's or the aggregator's was.
    function directClaimed(uint64 id, uint32 round, address account) external view returns (bool);

    /// @notice What waits for `releaseVested`.
    function vestingOf(uint64 id, address account) external view returns (uint128);

    /// @notice Where the escrow is: `escrowed == paid + refunded + vesting + held` always; `held`
    /// is payouts that nobody has claimed, and what no round was allotted.
    function balances(uint64 id)
        external
        view
        returns (uint128 escrowed, uint128 paid, uint128 refunded, uint128 vesting, uint128 held);

    /// @notice What `refund` would pay if the task had ended now.
    function refundableOf(uint64 id) external view returns (uint128);

    /// @notice The leaf of a payout under a round's root: the double hash of
    /// `(keccak256("convoke.payout.v1"), chainId, this, task, round, account, amount)`.
    function payoutLeaf(uint64 id, uint32 round, address account, uint128 amount)
        external
        view
        returns (bytes32);

    /// @notice What staking needs to know of a task, in one call.
    /// @return active Whether the task goes on.
    /// @return minimum The least stake of `role`.
    /// @return aggregator Who may stake as aggregator.
    function stakeTerms(uint64 id, uint8 role)
        external
        view
        returns (bool active, uint128 minimum, address aggregator);
}

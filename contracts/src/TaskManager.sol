// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {ITaskManager} from "./interfaces/ITaskManager.sol";

/// @title Tasks, their escrow, the results of their rounds, and the payouts
/// @dev Holds the sum over tasks of `reward - paid - refunded`. A task's aggregator decides who
/// shares a round's pool, never more than that pool; nobody decides where else money goes. There
/// is no owner, no pause and no upgrade. A transfer of tokens to this contract by hand is lost.
contract TaskManager is ITaskManager, ReentrancyGuard {
    using SafeERC20 for IERC20;

    /// @notice Most rounds of a task.
    uint32 public constant ROUNDS_MAX = 10_000;
    /// @notice Largest share of a claim that may vest, in basis points.
    uint16 public constant VESTING_BPS_MAX = 9_000;
    /// @notice Longest round time-out and vesting duration, in seconds.
    uint32 public constant WINDOW_SECONDS_MAX = 365 days;
    /// @notice Longest task file, in bytes.
    uint256 public constant TASK_FILE_BYTES_MAX = 16 * 1024;
    /// @notice Separates payout leaves from anything else that is ever hashed.
    bytes32 public constant PAYOUT_DOMAIN = keccak256("convoke.payout.v1");

    uint16 private constant BPS = 10_000;

    /// @inheritdoc ITaskManager
    IERC20 public immutable token;
    /// @inheritdoc ITaskManager
    IStakeManager public immutable stakeManager;

    /// @inheritdoc ITaskManager
    uint64 public taskCount;

    mapping(uint64 task => TaskRecord) private tasks;
    mapping(uint64 task => mapping(uint32 round => RoundResult)) private results;
    mapping(uint64 task => mapping(uint32 round => mapping(address account => bool))) private
        claims;
    mapping(uint64 task => mapping(address account => uint128)) private vestings;

    constructor(IERC20 token_, IStakeManager stakeManager_) {
        if (address(stakeManager_.token()) != address(token_)) {
            revert ForeignStakeManager(address(stakeManager_));
        }
        token = token_;
        stakeManager = stakeManager_;
    }

    // ---- The life of a task ----

    /// @inheritdoc ITaskManager
    function createTask(TaskSpec calldata spec, bytes calldata taskFile)
        external
        nonReentrant
        returns (uint64 id)
    {
        _checkSpec(spec);
        if (taskFile.length > TASK_FILE_BYTES_MAX) {
            revert TaskFileTooLong(TASK_FILE_BYTES_MAX, taskFile.length);
        }
        id = ++taskCount;
        bytes32 taskFileHash = keccak256(taskFile);
        _store(tasks[id], spec, taskFileHash);
        _pull(spec.reward);
        emit TaskCreated(id, msg.sender, spec.aggregator, spec.reward, taskFileHash, taskFile);
    }

    /// @inheritdoc ITaskManager
    function submitResult(
        uint64 id,
        uint32 round,
        bytes32 payoutsRoot,
        uint128 total,
        bytes32 checkpoint,
        bytes32 resultHash
    ) external {
        TaskRecord storage record = _active(id);
        if (msg.sender != record.aggregator) {
            revert NotTheAggregator(record.aggregator, msg.sender);
        }
        uint32 settled = record.roundsSettled;
        // The next round of a task without rounds left would be beyond `rounds`.
        if (round != settled + 1 || round > record.rounds) revert WrongRound(settled + 1, round);
        uint128 pool = _poolDown(record);
        if (total > pool) revert TotalAboveRoundPool(pool, total);
        // Stake in an active task cannot shrink: what the first result found, all find.
        if (settled == 0) _checkAggregatorStake(id, record);

        record.roundsSettled = round;
        record.allocated += total;
        record.lastProgressAt = uint64(block.timestamp);
        results[id][round] = RoundResult({
            payoutsRoot: payoutsRoot,
            checkpoint: checkpoint,
            resultHash: resultHash,
            total: total,
            claimed: 0,
            settledAt: uint64(block.timestamp)
        });
        emit RoundSettled(id, round, payoutsRoot, total, checkpoint, resultHash);
    }

    /// @inheritdoc ITaskManager
    function finish(uint64 id) external {
        TaskRecord storage record = _active(id);
        if (msg.sender != record.aggregator) {
            revert NotTheAggregator(record.aggregator, msg.sender);
        }
        if (record.roundsSettled < record.rounds) {
            revert RoundsRemaining(record.roundsSettled, record.rounds);
        }
        _end(record, TaskState.Finished);
        emit TaskFinished(id);
    }

    /// @inheritdoc ITaskManager
    function abort(uint64 id) external {
        TaskRecord storage record = _active(id);
        uint64 abortableAt = record.lastProgressAt + record.roundTimeout;
        if (block.timestamp < abortableAt) revert NotTimedOut(abortableAt);
        _end(record, TaskState.Aborted);
        emit TaskAborted(id, record.roundsSettled);
    }

    /// @inheritdoc ITaskManager
    function cancel(uint64 id) external nonReentrant {
        TaskRecord storage record = _active(id);
        if (msg.sender != record.creator) revert NotTheCreator(record.creator, msg.sender);
        uint256 staked = stakeManager.totalStakeOf(id);
        if (record.roundsSettled != 0 || staked != 0) {
            revert NotCancellable(record.roundsSettled, staked);
        }
        _end(record, TaskState.Cancelled);
        emit TaskCancelled(id);
        _refund(id, record);
    }

    /// @inheritdoc ITaskManager
    function refund(uint64 id) external nonReentrant returns (uint128 amount) {
        TaskRecord storage record = _known(id);
        if (record.state == TaskState.Active) revert TaskStillActive(id);
        if (record.isRefunded) revert AlreadyRefunded(id);
        return _refund(id, record);
    }

    // ---- Payouts ----

    /// @inheritdoc ITaskManager
    function claim(
        uint64 id,
        uint32 round,
        address account,
        uint128 amount,
        bytes32[] calldata proof
    ) external nonReentrant returns (uint128 paidNow) {
        TaskRecord storage record = _known(id);
        if (claims[id][round][account]) revert AlreadyClaimed(round, account);
        paidNow = _book(id, record, round, account, amount, proof);
        _pay(account, paidNow);
    }

    /// @inheritdoc ITaskManager
    function claimMany(uint64 id, Claim[] calldata batch)
        external
        nonReentrant
        returns (uint128 paidNow)
    {
        TaskRecord storage record = _known(id);
        uint128[] memory due = new uint128[](batch.length);
        for (uint256 i = 0; i < batch.length; ++i) {
            Claim calldata item = batch[i];
            if (claims[id][item.round][item.account]) continue;
            due[i] = _book(id, record, item.round, item.account, item.amount, item.proof);
            paidNow += due[i];
        }
        _payRuns(batch, due);
    }

    /// @inheritdoc ITaskManager
    function releaseVested(uint64 id, address account)
        external
        nonReentrant
        returns (uint128 amount)
    {
        TaskRecord storage record = _known(id);
        if (record.state == TaskState.Active) revert TaskStillActive(id);
        uint64 releasableAt = record.endedAt + record.vestingDuration;
        if (block.timestamp < releasableAt) revert StillVesting(releasableAt);
        amount = vestings[id][account];
        if (amount == 0) revert NothingVested(id, account);

        vestings[id][account] = 0;
        record.vesting -= amount;
        record.paid += amount;
        emit VestingReleased(id, account, amount);
        _pay(account, amount);
    }

    // ---- Views ----

    /// @inheritdoc ITaskManager
    function task(uint64 id) external view returns (TaskRecord memory) {
        return _known(id);
    }

    /// @inheritdoc ITaskManager
    function roundPoolDown(uint64 id) external view returns (uint128) {
        return _poolDown(_known(id));
    }

    /// @inheritdoc ITaskManager
    function roundResult(uint64 id, uint32 round) external view returns (RoundResult memory) {
        return results[id][round];
    }

    /// @inheritdoc ITaskManager
    function claimed(uint64 id, uint32 round, address account) external view returns (bool) {
        return claims[id][round][account];
    }

    /// @inheritdoc ITaskManager
    function vestingOf(uint64 id, address account) external view returns (uint128) {
        return vestings[id][account];
    }

    /// @inheritdoc ITaskManager
    function balances(uint64 id)
        external
        view
        returns (uint128 reward, uint128 paid, uint128 refunded, uint128 vesting, uint128 unclaimed)
    {
        TaskRecord storage record = _known(id);
        (reward, paid, refunded, vesting) =
        (record.reward, record.paid, record.refunded, record.vesting);
        unclaimed = reward - paid - refunded - vesting;
    }

    /// @inheritdoc ITaskManager
    function payoutLeaf(uint64 id, uint32 round, address account, uint128 amount)
        public
        view
        returns (bytes32)
    {
        // Hashed twice, so that no inner node of a tree can be shown as a leaf.
        return keccak256(
            bytes.concat(
                keccak256(
                    abi.encode(
                        PAYOUT_DOMAIN, block.chainid, address(this), id, round, account, amount
                    )
                )
            )
        );
    }

    /// @inheritdoc ITaskManager
    function stakeTerms(uint64 id, uint8 role)
        external
        view
        returns (bool active, uint128 minimum, address aggregator)
    {
        TaskRecord storage record = tasks[id];
        active = record.state == TaskState.Active;
        aggregator = record.aggregator;
        if (role == 0) minimum = record.trainerStakeMin;
        else if (role == 1) minimum = record.validatorStakeMin;
        else minimum = record.aggregatorStakeMin;
    }

    // ---- Inside ----

    function _known(uint64 id) private view returns (TaskRecord storage record) {
        record = tasks[id];
        if (record.state == TaskState.None) revert UnknownTask(id);
    }

    function _active(uint64 id) private view returns (TaskRecord storage record) {
        record = _known(id);
        if (record.state != TaskState.Active) revert TaskNotActive(id, record.state);
    }

    /// @dev What the division loses is never allotted, and goes back to the creator.
    function _poolDown(TaskRecord storage record) private view returns (uint128) {
        return record.reward / record.rounds;
    }

    function _checkSpec(TaskSpec calldata spec) private view {
        if (spec.aggregator == address(0)) revert AggregatorMissing();
        if (spec.rounds == 0 || spec.rounds > ROUNDS_MAX) {
            revert RoundsOutOfRange(ROUNDS_MAX, spec.rounds);
        }
        if (spec.reward < spec.rounds) revert RewardTooSmall(spec.rounds, spec.reward);
        if (spec.vestingBps > VESTING_BPS_MAX) {
            revert VestingTooHigh(VESTING_BPS_MAX, spec.vestingBps);
        }
        _checkWindow(1, WINDOW_SECONDS_MAX, spec.roundTimeout);
        _checkWindow(0, WINDOW_SECONDS_MAX, spec.vestingDuration);
        // Stake must outlast every window in which its owner can be shown to be at fault.
        _checkWindow(0, stakeManager.unbonding(), spec.disputeWindow);
    }

    function _checkWindow(uint32 minimum, uint32 maximum, uint32 window) private pure {
        if (window < minimum || window > maximum) {
            revert WindowOutOfRange(minimum, maximum, window);
        }
    }

    function _checkAggregatorStake(uint64 id, TaskRecord storage record) private view {
        uint128 minimum = record.aggregatorStakeMin;
        if (minimum == 0) return;
        (, uint128 staked) = stakeManager.stakeOf(id, record.aggregator);
        if (staked < minimum) revert StakeBelowMinimum(minimum, staked);
    }

    function _store(TaskRecord storage record, TaskSpec calldata spec, bytes32 taskFileHash)
        private
    {
        record.creator = msg.sender;
        record.state = TaskState.Active;
        record.rounds = spec.rounds;
        record.vestingBps = spec.vestingBps;
        record.aggregator = spec.aggregator;
        record.lastProgressAt = uint64(block.timestamp);
        record.disputeWindow = spec.disputeWindow;
        record.reward = spec.reward;
        record.roundTimeout = spec.roundTimeout;
        record.vestingDuration = spec.vestingDuration;
        record.taskFileHash = taskFileHash;
        record.trainerStakeMin = spec.trainerStakeMin;
        record.validatorStakeMin = spec.validatorStakeMin;
        record.aggregatorStakeMin = spec.aggregatorStakeMin;
        record.createdBlock = uint64(block.number);
    }

    function _end(TaskRecord storage record, TaskState state) private {
        record.state = state;
        record.endedAt = uint64(block.timestamp);
    }

    function _refund(uint64 id, TaskRecord storage record) private returns (uint128 amount) {
        amount = record.reward - record.allocated;
        record.isRefunded = true;
        record.refunded = amount;
        emit TaskRefunded(id, record.creator, amount);
        _pay(record.creator, amount);
    }

    /// @dev Everything about a claim except the transfer, which the caller makes afterwards.
    function _book(
        uint64 id,
        TaskRecord storage record,
        uint32 round,
        address account,
        uint128 amount,
        bytes32[] calldata proof
    ) private returns (uint128 paidNow) {
        RoundResult storage result = results[id][round];
        _checkClaim(id, record, result, round);
        if (!MerkleProof.verifyCalldata(
                proof, result.payoutsRoot, payoutLeaf(id, round, account, amount)
            )) revert InvalidProof(round, account, amount);
        // The root is the aggregator's word; the total is what the escrow set aside.
        uint128 remaining = result.total - result.claimed;
        if (amount > remaining) revert ClaimAboveRoundTotal(remaining, amount);

        paidNow = _payableNowDown(amount, record.vestingBps);
        uint128 vesting = amount - paidNow;
        claims[id][round][account] = true;
        result.claimed += amount;
        record.paid += paidNow;
        if (vesting != 0) {
            record.vesting += vesting;
            vestings[id][account] += vesting;
        }
        emit PayoutClaimed(id, round, account, paidNow, vesting);
    }

    function _checkClaim(
        uint64 id,
        TaskRecord storage record,
        RoundResult storage result,
        uint32 round
    ) private view {
        if (result.settledAt == 0) revert RoundNotSettled(id, round);
        uint64 opensAt = result.settledAt + record.disputeWindow;
        if (block.timestamp < opensAt) revert DisputeWindowOpen(opensAt);
    }

    /// @dev Rounded down: what is lost to the division vests, and is paid later.
    function _payableNowDown(uint128 amount, uint16 vestingBps) private pure returns (uint128) {
        // Fits: the product is below 2^142, the quotient not above `amount`.
        return uint128((uint256(amount) * (BPS - vestingBps)) / BPS);
    }

    /// @dev One transfer for each run of claims of the same account.
    function _payRuns(Claim[] calldata batch, uint128[] memory due) private {
        uint128 sum = 0;
        for (uint256 i = 0; i < batch.length; ++i) {
            sum += due[i];
            if (i + 1 == batch.length || batch[i + 1].account != batch[i].account) {
                _pay(batch[i].account, sum);
                sum = 0;
            }
        }
    }

    function _pay(address account, uint128 amount) private {
        if (amount != 0) token.safeTransfer(account, amount);
    }

    /// @dev What counts is what arrives: a token that takes a fee would leave claims uncovered.
    function _pull(uint128 amount) private {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != amount) revert WrongAmountReceived(amount, received);
    }
}

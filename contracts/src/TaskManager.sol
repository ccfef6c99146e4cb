// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {IRoundManager} from "./interfaces/IRoundManager.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {ITaskManager} from "./interfaces/ITaskManager.sol";
import {PayoutTree} from "./libraries/PayoutTree.sol";

// What static analysis points at, and why it stays:
// - timestamp: windows last minutes to days: the seconds by which a proposer can move the clock
//   decide nothing;
// - unused-return: some views answer more than one question;
// - incorrect-equality: amounts are compared with nothing at all, and a state with a state;
// - calls-loop: a batch is as long as its sender pays for, and one that fails harms nobody else;
// - reentrancy-no-eth: the calls go to contracts of this deployment, linked for good; what they call
//   back is open to them alone, and made for it;
// - reentrancy-events: likewise.
// slither-disable-start timestamp,unused-return,incorrect-equality,calls-loop,reentrancy-no-eth,reentrancy-events

/// @title Tasks, their escrow and the payouts
/// @dev Holds the sum over tasks of `escrowed - paid - refunded`. Nobody, the deployer included,
/// decides where money goes but by a round's result, and no result takes more than its round's
/// pool: whatever goes wrong in one round stays there. Only the creation of tasks can be paused.
/// There is no upgrade. A transfer of tokens to this contract by hand is lost.
contract TaskManager is ITaskManager, AccessControl, Pausable, ReentrancyGuard {
    using SafeERC20 for IERC20;

    /// @notice Stops the creation of tasks.
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");
    /// @notice Most rounds of a task.
    uint32 public constant ROUNDS_MAX = 10_000;
    /// @notice Most tries of a round.
    uint16 public constant ATTEMPTS_MAX = 100;
    /// @notice Most trainers of a cohort.
    uint16 public constant TRAINERS_MAX = 256;
    /// @notice Most validators that a task may ask for.
    uint16 public constant VALIDATORS_MAX = 64;
    /// @notice Largest share of a payout that may vest, in basis points.
    uint16 public constant VESTING_BPS_MAX = 9_000;
    /// @notice Largest slice of a stake that a penalty takes, and largest part of it that goes to
    /// the reporter, in basis points.
    uint16 public constant PENALTY_BPS_MAX = 5_000;
    /// @notice Longest window of a stage and longest round time-out, in seconds.
    uint32 public constant WINDOW_SECONDS_MAX = 365 days;
    /// @notice Longest task file, in bytes.
    uint256 public constant TASK_FILE_BYTES_MAX = 16 * 1024;

    uint16 private constant BPS = 10_000;

    /// @inheritdoc ITaskManager
    IERC20 public immutable token;
    /// @inheritdoc ITaskManager
    IStakeManager public immutable stakeManager;
    address private immutable deployer;

    /// @inheritdoc ITaskManager
    IRoundManager public roundManager;
    /// @inheritdoc ITaskManager
    uint64 public taskCount;

    mapping(uint64 task => TaskSpec) private specs;
    mapping(uint64 task => TaskRecord) private tasks;
    /// What a round may pay, fixed when it is first opened.
    mapping(uint64 task => mapping(uint32 round => uint128)) private pools;
    /// What trainers have claimed of a round.
    mapping(uint64 task => mapping(uint32 round => uint128)) private claimedTotals;
    mapping(uint64 task => mapping(uint32 round => mapping(address => bool))) private claims;
    mapping(uint64 task => mapping(uint32 round => mapping(address => bool))) private directClaims;
    mapping(uint64 task => mapping(address account => uint128)) private vestings;

    /// @param admin Names the holders of the roles.
    constructor(IERC20 token_, IStakeManager stakeManager_, address admin) {
        if (address(stakeManager_.token()) != address(token_)) {
            revert ForeignContract(address(stakeManager_));
        }
        token = token_;
        stakeManager = stakeManager_;
        deployer = msg.sender;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    // ---- The creator ----

    /// @inheritdoc ITaskManager
    function createTask(TaskSpec calldata spec, bytes calldata taskFile)
        external
        nonReentrant
        whenNotPaused
        returns (uint64 id)
    {
        _checkSpec(spec);
        if (taskFile.length > TASK_FILE_BYTES_MAX) {
            revert TaskFileTooLong(TASK_FILE_BYTES_MAX, taskFile.length);
        }
        id = ++taskCount;
        bytes32 taskFileHash = keccak256(taskFile);
        specs[id] = spec;
        TaskRecord storage record = tasks[id];
        record.creator = msg.sender;
        record.state = TaskState.Active;
        record.lastProgressAt = uint64(block.timestamp);
        record.roundPool = spec.reward / spec.rounds;
        record.escrowed = spec.reward;
        record.releaseBps = BPS;
        record.taskFileHash = taskFileHash;
        record.createdBlock = uint64(block.number);
        _pull(spec.reward);
        emit TaskCreated(id, msg.sender, spec.aggregator, spec.reward, taskFileHash, taskFile);
    }

    /// @inheritdoc ITaskManager
    function fund(uint64 id, uint128 amount) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        TaskRecord storage record = _active(id);
        uint32 left = specs[id].rounds - record.roundsOpened;
        record.escrowed += amount;
        if (left != 0) record.roundPool += amount / left;
        _pull(amount);
        emit TaskFunded(id, msg.sender, amount, record.roundPool);
    }

    /// @inheritdoc ITaskManager
    function cancel(uint64 id) external nonReentrant {
        TaskRecord storage record = _active(id);
        if (msg.sender != record.creator) revert NotTheCreator(record.creator, msg.sender);
        if (record.roundsOpened != 0) revert NotCancellable(record.roundsOpened);
        _end(record, TaskState.Cancelled);
        emit TaskCancelled(id);
        _refund(id, record);
    }

    /// @inheritdoc ITaskManager
    function refund(uint64 id) external nonReentrant returns (uint128 amount) {
        TaskRecord storage record = _ended(id);
        if (_refundable(record) == 0) revert NothingToRefund(id);
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
        paidNow = _bookClaim(id, record, round, account, amount, proof);
        _pay(id, account, paidNow);
    }

    /// @inheritdoc ITaskManager
    function claimDirect(uint64 id, uint32 round, address account)
        external
        nonReentrant
        returns (uint128 paidNow)
    {
        TaskRecord storage record = _known(id);
        if (directClaims[id][round][account]) revert AlreadyClaimed(round, account);
        paidNow = _bookDirect(id, record, round, account);
        _pay(id, account, paidNow);
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
            if (item.amount == 0) {
                if (directClaims[id][item.round][item.account]) continue;
                due[i] = _bookDirect(id, record, item.round, item.account);
            } else {
                if (claims[id][item.round][item.account]) continue;
                due[i] = _bookClaim(id, record, item.round, item.account, item.amount, item.proof);
            }
            paidNow += due[i];
        }
        _payRuns(id, batch, due);
    }

    /// @inheritdoc ITaskManager
    function releaseVested(uint64 id, address account)
        external
        nonReentrant
        returns (uint128 amount)
    {
        TaskRecord storage record = _ended(id);
        uint128 vesting = vestings[id][account];
        if (vesting == 0) revert NothingVested(id, account);
        amount = _partDown(vesting, record.releaseBps);
        uint128 forfeited = vesting - amount;

        vestings[id][account] = 0;
        record.vesting -= vesting;
        record.paid += amount;
        record.forfeited += forfeited;
        emit VestingReleased(id, account, amount, forfeited);
        _pay(id, account, amount);
    }

    // ---- Ends ----

    /// @inheritdoc ITaskManager
    function finish(uint64 id) external {
        TaskRecord storage record = _active(id);
        TaskSpec storage spec = specs[id];
        if (record.roundsSettled < spec.rounds) {
            revert RoundsRemaining(record.roundsSettled, spec.rounds);
        }
        uint64 until = _disputableUntil(id, spec);
        if (block.timestamp < until) revert ResultDisputable(until);
        _finish(id, record, spec);
    }

    /// @inheritdoc ITaskManager
    function tick(uint64 id) external {
        TaskRecord storage record = _known(id);
        bool moved = _tickRound(id);
        if (record.state == TaskState.Active) {
            TaskSpec storage spec = specs[id];
            if (record.roundsSettled == spec.rounds) {
                // All work is done: no time-out may take its end away.
                if (block.timestamp >= _disputableUntil(id, spec)) {
                    _finish(id, record, spec);
                    moved = true;
                }
            } else if (_isOverdue(id, record, spec)) {
                _end(record, TaskState.Aborted);
                emit TaskAborted(id, record.roundsSettled);
                roundManager.closeRounds(id);
                moved = true;
            }
        }
        if (!moved) revert NothingDue(id);
    }

    // ---- Calls of the other contracts ----

    /// @inheritdoc ITaskManager
    function onRoundOpened(uint64 id, uint32 round) external returns (uint128 pool) {
        _onlyRoundManager();
        TaskRecord storage record = _active(id);
        if (round <= record.roundsOpened) return pools[id][round];
        record.roundsOpened = round;
        pool = record.roundPool;
        pools[id][round] = pool;
    }

    /// @inheritdoc ITaskManager
    function onRoundSettled(uint64 id, uint32 round, uint128 total) external {
        _onlyRoundManager();
        TaskRecord storage record = _active(id);
        uint128 pool = pools[id][round];
        if (total > pool) revert ResultAbovePool(pool, total);
        record.roundsSettled = round;
        record.allotted += total;
        record.lastProgressAt = uint64(block.timestamp);
    }

    /// @inheritdoc ITaskManager
    function onResultVoided(uint64 id, uint32 round, uint128 total) external {
        _onlyRoundManager();
        TaskRecord storage record = tasks[id];
        // The dispute window of an early result may outlast its task, the last one's never does.
        if (record.state != TaskState.Active && record.state != TaskState.Aborted) {
            revert WrongState(id, record.state);
        }
        record.roundsSettled = round - 1;
        record.allotted -= total;
    }

    /// @inheritdoc ITaskManager
    function onClosed(uint64 id, uint16 releaseBps) external {
        _onlyRoundManager();
        TaskRecord storage record = tasks[id];
        if (record.state != TaskState.Closing) revert WrongState(id, record.state);
        _finished(id, record, releaseBps);
    }

    /// @inheritdoc ITaskManager
    function onPenalty(uint64 id, uint128 amount) external nonReentrant {
        if (msg.sender != address(stakeManager)) {
            revert NotTheStakeManager(address(stakeManager), msg.sender);
        }
        tasks[id].escrowed += amount;
        emit PenaltyReceived(id, amount);
    }

    // ---- Administration ----

    /// @inheritdoc ITaskManager
    function link(IRoundManager roundManager_) external {
        if (msg.sender != deployer) revert NotTheDeployer(deployer, msg.sender);
        if (address(roundManager) != address(0)) revert AlreadyLinked(address(roundManager));
        if (address(roundManager_.taskManager()) != address(this)) {
            revert ForeignContract(address(roundManager_));
        }
        roundManager = roundManager_;
        emit Linked(address(roundManager_));
    }

    /// @inheritdoc ITaskManager
    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    /// @inheritdoc ITaskManager
    function unpause() external onlyRole(PAUSER_ROLE) {
        _unpause();
    }

    // ---- Views ----

    /// @inheritdoc ITaskManager
    function task(uint64 id) external view returns (TaskRecord memory) {
        return _known(id);
    }

    /// @inheritdoc ITaskManager
    function specOf(uint64 id) external view returns (TaskSpec memory) {
        _known(id);
        return specs[id];
    }

    /// @inheritdoc ITaskManager
    function termsOf(uint64 id) external view returns (TaskSpec memory spec, TaskState state) {
        return (specs[id], _known(id).state);
    }

    /// @inheritdoc ITaskManager
    function claimed(uint64 id, uint32 round, address account) external view returns (bool) {
        return claims[id][round][account];
    }

    /// @inheritdoc ITaskManager
    function directClaimed(uint64 id, uint32 round, address account) external view returns (bool) {
        return directClaims[id][round][account];
    }

    /// @inheritdoc ITaskManager
    function vestingOf(uint64 id, address account) external view returns (uint128) {
        return vestings[id][account];
    }

    /// @inheritdoc ITaskManager
    function balances(uint64 id)
        external
        view
        returns (uint128 escrowed, uint128 paid, uint128 refunded, uint128 vesting, uint128 held)
    {
        TaskRecord storage record = _known(id);
        (escrowed, paid, refunded, vesting) =
        (record.escrowed, record.paid, record.refunded, record.vesting);
        held = escrowed - paid - refunded - vesting;
    }

    /// @inheritdoc ITaskManager
    function refundableOf(uint64 id) external view returns (uint128) {
        return _refundable(_known(id));
    }

    /// @inheritdoc ITaskManager
    function payoutLeaf(uint64 id, uint32 round, address account, uint128 amount)
        external
        view
        returns (bytes32)
    {
        return PayoutTree.leaf(address(this), id, round, account, amount);
    }

    /// @inheritdoc ITaskManager
    function stakeTerms(uint64 id, uint8 role)
        external
        view
        returns (bool active, uint128 minimum, address aggregator)
    {
        TaskSpec storage spec = specs[id];
        active = tasks[id].state == TaskState.Active;
        aggregator = spec.aggregator;
        if (role == 0) minimum = spec.trainerStakeMin;
        else if (role == 1) minimum = spec.validatorStakeMin;
        else minimum = spec.aggregatorStakeMin;
    }

    // ---- Inside: states ----

    function _known(uint64 id) private view returns (TaskRecord storage record) {
        record = tasks[id];
        if (record.state == TaskState.None) revert UnknownTask(id);
    }

    function _active(uint64 id) private view returns (TaskRecord storage record) {
        record = _known(id);
        if (record.state != TaskState.Active) revert WrongState(id, record.state);
    }

    function _ended(uint64 id) private view returns (TaskRecord storage record) {
        record = _known(id);
        if (record.state == TaskState.Active || record.state == TaskState.Closing) {
            revert WrongState(id, record.state);
        }
    }

    function _end(TaskRecord storage record, TaskState state) private {
        record.state = state;
        record.endedAt = uint64(block.timestamp);
    }

    function _finish(uint64 id, TaskRecord storage record, TaskSpec storage spec) private {
        if (spec.vestingBps == 0 || spec.validatorsMin == 0) {
            _finished(id, record, BPS);
            return;
        }
        record.state = TaskState.Closing;
        emit TaskClosing(id);
        roundManager.openClosing(id);
    }

    function _finished(uint64 id, TaskRecord storage record, uint16 releaseBps) private {
        record.releaseBps = releaseBps;
        _end(record, TaskState.Finished);
        emit TaskFinished(id, releaseBps);
    }

    /// @dev A round that has nothing to do is no failure here.
    function _tickRound(uint64 id) private returns (bool) {
        if (roundManager.openRoundKey(id) == 0) return false;
        try roundManager.tick(id) {
            return true;
        } catch {
            return false;
        }
    }

    function _isOverdue(uint64 id, TaskRecord storage record, TaskSpec storage spec)
        private
        view
        returns (bool)
    {
        if (block.timestamp >= record.lastProgressAt + spec.roundTimeout) return true;
        uint16 attempts = roundManager.attemptsOf(id, record.roundsSettled + 1);
        return attempts >= spec.attemptsMax && roundManager.openRoundKey(id) == 0;
    }

    /// @dev A proof that was checked on submission leaves nothing to dispute.
    function _disputableUntil(uint64 id, TaskSpec storage spec) private view returns (uint64) {
        if (spec.proofMode == ProofMode.OnSubmission) return 0;
        (,, uint64 claimableAt) = roundManager.settlementOf(id, spec.rounds);
        return claimableAt;
    }

    function _onlyRoundManager() private view {
        if (msg.sender != address(roundManager)) {
            revert NotTheRoundManager(address(roundManager), msg.sender);
        }
    }

    // ---- Inside: what a creator may ask for ----

    function _checkSpec(TaskSpec calldata spec) private view {
        if (spec.aggregator == address(0)) revert AggregatorMissing();
        if (spec.rounds == 0 || spec.rounds > ROUNDS_MAX) {
            revert RoundsOutOfRange(ROUNDS_MAX, spec.rounds);
        }
        if (spec.reward < spec.rounds) revert RewardTooSmall(spec.rounds, spec.reward);
        if (
            spec.trainersMin == 0 || spec.trainersMin > spec.trainersMax
                || spec.trainersMax > TRAINERS_MAX
        ) revert CohortOutOfRange(spec.trainersMin, spec.trainersMax);
        if (spec.validatorsMin > VALIDATORS_MAX) {
            revert ValidatorsOutOfRange(VALIDATORS_MAX, spec.validatorsMin);
        }
        if (spec.attemptsMax == 0 || spec.attemptsMax > ATTEMPTS_MAX) {
            revert AttemptsOutOfRange(spec.attemptsMax);
        }
        uint256 shares = uint256(spec.trainersBps) + spec.validatorsBps + spec.aggregatorBps;
        if (shares != BPS) revert SharesDoNotAddUp(shares);
        _checkRate(VESTING_BPS_MAX, spec.vestingBps);
        _checkRate(BPS, spec.rankDecayBps);
        if (spec.split == SplitKind.Rank && spec.rankDecayBps == 0) revert RankDecayMissing();
        _checkRate(PENALTY_BPS_MAX, spec.slashBps);
        _checkRate(PENALTY_BPS_MAX, spec.reporterBps);
        _checkWindows(spec);
    }

    function _checkWindows(TaskSpec calldata spec) private view {
        _checkWindow(1, WINDOW_SECONDS_MAX, spec.trainWindow);
        _checkWindow(1, WINDOW_SECONDS_MAX, spec.scoreWindow);
        _checkWindow(0, spec.scoreWindow, spec.graceWindow);
        _checkWindow(1, WINDOW_SECONDS_MAX, spec.settleWindow);
        // Stake must outlast every window in which its owner can be shown to be at fault.
        _checkWindow(0, stakeManager.unbonding(), spec.disputeWindow);
        _checkWindow(1, WINDOW_SECONDS_MAX, spec.roundTimeout);
        uint256 round = uint256(spec.trainWindow) + 2 * uint256(spec.scoreWindow)
            + 2 * uint256(spec.settleWindow);
        // A round opens when the result before it cannot be challenged any more.
        if (spec.proofMode == ProofMode.OnChallenge) round += spec.disputeWindow;
        if (spec.roundTimeout < round) revert RoundTimeoutTooShort(round, spec.roundTimeout);
    }

    function _checkRate(uint16 maximum, uint16 rate) private pure {
        if (rate > maximum) revert RateTooHigh(maximum, rate);
    }

    function _checkWindow(uint32 minimum, uint32 maximum, uint32 window) private pure {
        if (window < minimum || window > maximum) {
            revert WindowOutOfRange(minimum, maximum, window);
        }
    }

    // ---- Inside: money ----

    function _refundable(TaskRecord storage record) private view returns (uint128) {
        return record.escrowed - record.allotted + record.forfeited - record.refunded;
    }

    function _refund(uint64 id, TaskRecord storage record) private returns (uint128 amount) {
        amount = _refundable(record);
        record.refunded += amount;
        emit TaskRefunded(id, record.creator, amount);
        if (amount != 0) token.safeTransfer(record.creator, amount);
    }

    /// @dev Everything about a trainer's claim except the transfer.
    function _bookClaim(
        uint64 id,
        TaskRecord storage record,
        uint32 round,
        address account,
        uint128 amount,
        bytes32[] calldata proof
    ) private returns (uint128 paidNow) {
        (bytes32 root, uint128 total) = _claimable(id, round);
        bytes32 leaf = PayoutTree.leaf(address(this), id, round, account, amount);
        if (!MerkleProof.verifyCalldata(proof, root, leaf)) {
            revert InvalidProof(round, account, amount);
        }
        uint128 remaining = total - claimedTotals[id][round];
        if (amount > remaining) revert ClaimAboveRoundTotal(remaining, amount);

        claims[id][round][account] = true;
        claimedTotals[id][round] += amount;
        return _book(id, record, round, account, amount);
    }

    /// @dev The same for a validator or the aggregator.
    function _bookDirect(uint64 id, TaskRecord storage record, uint32 round, address account)
        private
        returns (uint128 paidNow)
    {
        _claimable(id, round);
        uint128 amount = roundManager.directPayOf(id, round, account);
        if (amount == 0) revert NothingToClaim(round, account);
        directClaims[id][round][account] = true;
        return _book(id, record, round, account, amount);
    }

    function _claimable(uint64 id, uint32 round)
        private
        view
        returns (bytes32 root, uint128 total)
    {
        uint64 opensAt = 0;
        (root, total, opensAt) = roundManager.settlementOf(id, round);
        if (opensAt == 0) revert RoundNotSettled(id, round);
        if (block.timestamp < opensAt) revert DisputeWindowOpen(opensAt);
    }

    function _book(
        uint64 id,
        TaskRecord storage record,
        uint32 round,
        address account,
        uint128 amount
    ) private returns (uint128 paidNow) {
        // Rounded down: what is lost to the division vests, and is paid later.
        paidNow = _partDown(amount, BPS - specs[id].vestingBps);
        uint128 vesting = amount - paidNow;
        uint128 remaining = record.allotted - record.forfeited - record.paid - record.vesting;
        if (amount > remaining) revert ClaimAboveAllotted(remaining, amount);
        record.paid += paidNow;
        if (vesting != 0) {
            record.vesting += vesting;
            vestings[id][account] += vesting;
        }
        emit PayoutClaimed(id, round, account, paidNow, vesting);
    }

    /// @dev Fits: the product is below 2^142, the quotient not above `amount`.
    function _partDown(uint128 amount, uint16 bps) private pure returns (uint128) {
        return uint128((uint256(amount) * bps) / BPS);
    }

    /// @dev One payment for each run of claims of the same account.
    function _payRuns(uint64 id, Claim[] calldata batch, uint128[] memory due) private {
        uint128 sum = 0;
        for (uint256 i = 0; i < batch.length; ++i) {
            sum += due[i];
            if (i + 1 == batch.length || batch[i + 1].account != batch[i].account) {
                _pay(id, batch[i].account, sum);
                sum = 0;
            }
        }
    }

    /// @dev Delegators get their part into the stake manager, which shares it among them.
    function _pay(uint64 id, address account, uint128 amount) private {
        if (amount == 0) return;
        uint128 toDelegators = stakeManager.bookRewardDown(id, account, amount);
        if (toDelegators != 0) token.safeTransfer(address(stakeManager), toDelegators);
        if (amount != toDelegators) token.safeTransfer(account, amount - toDelegators);
    }

    /// @dev What counts is what arrives: a token that takes a fee would leave claims uncovered.
    function _pull(uint128 amount) private {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != amount) revert WrongAmountReceived(amount, received);
    }
}
// slither-disable-end timestamp,unused-return,incorrect-equality,calls-loop,reentrancy-no-eth,reentrancy-events

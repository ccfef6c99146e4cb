// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

import {IProofVerifier, IProofVerifierTypes} from "./interfaces/IProofVerifier.sol";
import {IRoundManager} from "./interfaces/IRoundManager.sol";
import {IStakeManager} from "./interfaces/IStakeManager.sol";
import {ITaskManager, ITaskManagerTypes} from "./interfaces/ITaskManager.sol";
import {Scores} from "./libraries/Scores.sol";
import {Settlement} from "./libraries/Settlement.sol";

// What static analysis points at, and why it stays:
// - timestamp: windows last minutes to days: the seconds by which a proposer can move the clock
//   decide nothing;
// - unused-return: some views answer more than one question;
// - calls-loop: a batch is as long as its sender pays for, and one that fails harms nobody else;
// - reentrancy-no-eth: the calls go to contracts of this deployment, linked for good; what they call
//   back is open to them alone, and made for it;
// - reentrancy-events: likewise;
// - reentrancy-benign: likewise;
// - low-level-calls: a verifier that fails must not fail its caller.
// slither-disable-start timestamp,unused-return,calls-loop,reentrancy-no-eth,reentrancy-events,reentrancy-benign,low-level-calls

/// @title Rounds: cohort, commitments, seed, scores, result
/// @dev Holds no money. What it decides (a result, a penalty) it tells the contracts that do.
contract RoundManager is IRoundManager, AccessControl, ReentrancyGuard {
    using Scores for bytes;

    /// @notice Names the verifier of proofs.
    bytes32 public constant VERIFIER_ROLE = keccak256("VERIFIER_ROLE");
    /// @notice Most validators of one round.
    uint16 public constant VALIDATORS_MAX = 64;
    /// @notice Longest proof, in bytes: a longer one could cost more to challenge than to submit.
    uint256 public constant PROOF_BYTES_MAX = 64 * 1024;
    /// @notice Gas that a challenged proof gets.
    uint256 public constant VERIFY_GAS = 3_000_000;
    /// @notice Gas that a challenge needs left when it comes to the proof: a call gets 63/64 of
    /// what is there, whatever it asks for.
    uint256 public constant CHALLENGE_GAS_MIN = 3_100_000;

    bytes32 private constant COHORT_DOMAIN = keccak256("convoke.cohort-leaf.v1");
    bytes32 private constant SCORES_DOMAIN = keccak256("convoke.scores.v1");
    bytes32 private constant SEED_DOMAIN = keccak256("convoke.seed.v1");
    uint256 private constant BPS = 10_000;
    uint8 private constant ROLE_VALIDATOR = 1;
    uint8 private constant ROLE_AGGREGATOR = 2;
    uint256 private constant FACTOR_BYTES = 2;

    /// @dev Who revealed in a round: so many, with so much weight, are waited for in the next.
    struct Turnout {
        uint16 validators;
        uint128 weight;
    }

    /// @inheritdoc IRoundManager
    IStakeManager public immutable stakeManager;
    /// @inheritdoc IRoundManager
    ITaskManager public immutable taskManager;
    /// @inheritdoc IRoundManager
    IProofVerifier public proofVerifier;
    /// @inheritdoc IRoundManager
    mapping(uint64 task => uint64 key) public openRoundKey;

    mapping(uint64 task => mapping(uint32 round => Round)) private rounds;
    /// That of the newest settled round.
    mapping(uint64 task => Turnout) private turnouts;

    // By attempt, so that nothing of a failed one is left in the next.
    mapping(uint256 attemptKey => address[]) private validators;
    mapping(uint256 attemptKey => mapping(address validator => ScoreCommitment)) private scores;
    mapping(uint256 attemptKey => mapping(address validator => uint16)) private releases;
    mapping(uint256 attemptKey => mapping(address trainer => bool)) private ownCommitted;
    mapping(uint256 attemptKey => mapping(address account => uint128)) private directPay;

    /// @param admin Names the holders of the roles.
    constructor(IStakeManager stakeManager_, ITaskManager taskManager_, address admin) {
        if (address(taskManager_.stakeManager()) != address(stakeManager_)) {
            revert ForeignContract(address(taskManager_));
        }
        stakeManager = stakeManager_;
        taskManager = taskManager_;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    // ---- The aggregator ----

    /// @inheritdoc IRoundManager
    function openRound(
        uint64 task,
        uint32 round,
        bytes32 base,
        bytes32 cohortRoot,
        uint16 cohortSize
    ) external {
        (ITaskManagerTypes.TaskSpec memory spec, ITaskManagerTypes.TaskState state) =
            taskManager.termsOf(task);
        if (state != ITaskManagerTypes.TaskState.Active) revert TaskNotActive(task);
        _checkAggregator(spec);
        _checkOrder(task, round, spec);
        if (cohortSize < spec.trainersMin || cohortSize > spec.trainersMax) {
            revert CohortSizeOutOfRange(spec.trainersMin, spec.trainersMax, cohortSize);
        }
        uint128 stake = _stakeAs(task, spec.aggregator, ROLE_AGGREGATOR);
        if (stake < spec.aggregatorStakeMin) {
            revert NotEligible(spec.aggregator, spec.aggregatorStakeMin, stake);
        }

        IProofVerifier verifier = proofVerifier;
        if (address(verifier) == address(0)) revert NoProofVerifier();

        Round storage r = rounds[task][round];
        if (r.attempt >= spec.attemptsMax) revert AttemptsExhausted(r.attempt);
        uint16 attempt = _restart(task, round, r);
        r.verifier = verifier;
        r.base = base;
        r.cohortRoot = cohortRoot;
        r.cohortSize = cohortSize;
        _enter(r, Stage.Training, spec.trainWindow);
        uint128 pool = taskManager.onRoundOpened(task, round);
        r.pool = pool;
        emit RoundOpened(task, round, attempt, base, cohortRoot, cohortSize, pool);
    }

    /// @inheritdoc IRoundManager
    function commitUpdates(uint64 task, uint32 round, bytes32 updatesRoot, uint16 count) external {
        (ITaskManagerTypes.TaskSpec memory spec,) = taskManager.termsOf(task);
        _checkAggregator(spec);
        Round storage r = _within(task, round, Stage.Training);
        if (count == 0 || count > r.cohortSize) {
            revert UpdateCountOutOfRange(r.cohortSize, count);
        }

        uint64 seedBlock = uint64(block.number) + 1;
        r.updatesRoot = updatesRoot;
        r.updates = count;
        r.seedBlock = seedBlock;
        _enter(r, Stage.Sealed, spec.settleWindow);
        emit UpdatesCommitted(task, round, updatesRoot, count, seedBlock);
    }

    /// @inheritdoc IRoundManager
    function submitResult(uint64 task, uint32 round, Submission calldata submission)
        external
        nonReentrant
    {
        (ITaskManagerTypes.TaskSpec memory spec,) = taskManager.termsOf(task);
        _checkAggregator(spec);
        Round storage r = _reached(task, round, Stage.Settling, spec);
        if (submission.proof.length > PROOF_BYTES_MAX) {
            revert ProofTooLong(PROOF_BYTES_MAX, submission.proof.length);
        }
        IProofVerifier verifier = r.verifier;
        uint128 direct = _payDirectly(task, round, r, spec, submission);
        _recordPayouts(task, round, r, _shareDown(r.pool, spec.trainersBps), submission.payouts);
        r.checkpoint = submission.checkpoint;
        r.resultHash = submission.resultHash;
        r.allotted = r.total + direct;
        r.settledAt = uint64(block.timestamp);
        r.submissionHash =
            _submissionHash(submission.payouts, submission.factors, submission.proof);
        _enter(r, Stage.Settled, spec.disputeWindow);
        openRoundKey[task] = 0;
        emit RoundSettled(
            task,
            round,
            r.payoutsRoot,
            r.total,
            submission.checkpoint,
            submission.resultHash,
            submission.payouts,
            submission.factors
        );
        taskManager.onRoundSettled(task, round, r.allotted);
        if (spec.proofMode == ITaskManagerTypes.ProofMode.OnSubmission) {
            verifier.verify(
                _statement(task, round, r, spec),
                submission.factors,
                submission.payouts,
                submission.proof
            );
        }
    }

    /// @inheritdoc IRoundManager
    function failRound(uint64 task, uint32 round) external {
        (ITaskManagerTypes.TaskSpec memory spec, ITaskManagerTypes.TaskState state) =
            taskManager.termsOf(task);
        // The closing evaluation is the validators' affair.
        if (state != ITaskManagerTypes.TaskState.Active) revert TaskNotActive(task);
        _checkAggregator(spec);
        Round storage r = rounds[task][round];
        if (r.stage == Stage.None || r.stage == Stage.Settled) {
            revert WrongStage(Stage.Training, r.stage);
        }
        _fail(task, round, r);
    }

    // ---- Trainers and validators ----

    /// @inheritdoc IRoundManager
    function commitUpdate(
        uint64 task,
        uint32 round,
        bytes32 updateHash,
        bytes32[] calldata cohortProof
    ) external {
        Round storage r = _within(task, round, Stage.Training);
        bytes32 leaf = _cohortLeaf(task, round, msg.sender);
        if (!MerkleProof.verifyCalldata(cohortProof, r.cohortRoot, leaf)) {
            revert NotInCohort(msg.sender);
        }
        uint256 key = _attemptKey(task, round, r.attempt);
        if (ownCommitted[key][msg.sender]) revert AlreadyCommitted(msg.sender);
        // The root is the aggregator's word; the size bounds what the result is checked against.
        if (r.ownUpdates == r.cohortSize) {
            revert UpdateCountOutOfRange(r.cohortSize, r.ownUpdates + 1);
        }

        ownCommitted[key][msg.sender] = true;
        r.ownUpdates += 1;
        r.ownCommitments = keccak256(abi.encode(r.ownCommitments, msg.sender, updateHash));
        emit UpdateCommitted(task, round, msg.sender, updateHash);
    }

    /// @inheritdoc IRoundManager
    function commitScores(uint64 task, uint32 round, bytes32 commitment) external {
        (ITaskManagerTypes.TaskSpec memory spec,) = taskManager.termsOf(task);
        Round storage r = _within(task, round, Stage.Scoring);
        uint128 weight = _checkValidator(task, spec.validatorStakeMin);
        uint256 key = _attemptKey(task, round, r.attempt);
        if (scores[key][msg.sender].weight != 0) revert AlreadyCommitted(msg.sender);

        scores[key][msg.sender] =
            ScoreCommitment({commitment: commitment, factorsHash: 0, weight: weight});
        if (r.committed == VALIDATORS_MAX) {
            r.weight -= _displace(task, round, key, weight);
        } else {
            validators[key].push(msg.sender);
            r.committed += 1;
        }
        r.weight += weight;
        emit ScoresCommitted(task, round, msg.sender, weight);
        _advance(task, round, r, spec);
    }

    /// @inheritdoc IRoundManager
    function revealScores(uint64 task, uint32 round, bytes calldata factors, bytes32 salt)
        external
    {
        (ITaskManagerTypes.TaskSpec memory spec,) = taskManager.termsOf(task);
        Round storage r = _reached(task, round, Stage.Revealing, spec);
        uint256 key = _attemptKey(task, round, r.attempt);
        ScoreCommitment storage score = scores[key][msg.sender];
        if (score.weight == 0) revert NotCommitted(msg.sender);
        if (score.factorsHash != 0) revert AlreadyRevealed(msg.sender);
        bytes32 factorsHash = keccak256(factors);
        bytes32 revealed =
            _scoresCommitment(task, round, r.attempt, msg.sender, factorsHash, salt);
        if (revealed != score.commitment) revert RevealMismatch(score.commitment, revealed);
        _checkFactors(round, r, spec, factors);

        score.factorsHash = factorsHash;
        if (round > spec.rounds) releases[key][msg.sender] = factors.factorAt(0);
        r.revealed += 1;
        emit ScoresRevealed(task, round, msg.sender, factors);
        _advance(task, round, r, spec);
    }

    // ---- Anyone ----

    /// @inheritdoc IRoundManager
    function drawSeed(uint64 task, uint32 round) external {
        (ITaskManagerTypes.TaskSpec memory spec,) = taskManager.termsOf(task);
        Round storage r = _within(task, round, Stage.Sealed);
        uint64 seedBlock = r.seedBlock;
        if (block.number <= seedBlock) revert SeedTooEarly(seedBlock);
        bytes32 blockHash = blockhash(seedBlock);
        if (blockHash == 0) {
            // Older than 256 blocks: its hash cannot be read any more.
            seedBlock = uint64(block.number) + 1;
            r.seedBlock = seedBlock;
            emit SeedPostponed(task, round, seedBlock);
            return;
        }
        bytes32 seed = keccak256(
            abi.encode(
                SEED_DOMAIN,
                block.chainid,
                address(this),
                task,
                round,
                r.attempt,
                blockHash,
                block.prevrandao
            )
        );
        r.seed = seed;
        if (spec.validatorsMin == 0) {
            _enter(r, Stage.Settling, spec.settleWindow);
        } else {
            _enter(r, Stage.Scoring, spec.scoreWindow);
        }
        emit SeedDrawn(task, round, seed);
    }

    /// @inheritdoc IRoundManager
    function challengeResult(
        uint64 task,
        uint32 round,
        bytes calldata payouts,
        bytes calldata factors,
        bytes calldata proof
    ) external nonReentrant {
        (ITaskManagerTypes.TaskSpec memory spec,) = taskManager.termsOf(task);
        if (spec.proofMode != ITaskManagerTypes.ProofMode.OnChallenge) {
            revert NotChallengeable(task);
        }
        Round storage r = rounds[task][round];
        if (r.stage != Stage.Settled) revert WrongStage(Stage.Settled, r.stage);
        if (block.timestamp >= r.deadline) revert DisputeWindowClosed(r.deadline);
        bytes32 got = _submissionHash(payouts, factors, proof);
        if (got != r.submissionHash) revert NotTheSubmission(r.submissionHash, got);
        if (_holds(_statement(task, round, r, spec), r.verifier, factors, payouts, proof)) {
            revert ProofHolds();
        }

        uint128 allotted = r.allotted;
        r.stage = Stage.None;
        r.deadline = 0;
        emit ResultVoided(task, round, msg.sender);
        taskManager.onResultVoided(task, round, allotted);
        if (spec.slashBps != 0) {
            stakeManager.slash(
                task, spec.aggregator, spec.slashBps, msg.sender, spec.reporterBps
            );
        }
    }

    /// @inheritdoc IRoundManager
    function tick(uint64 task) external {
        uint64 key = openRoundKey[task];
        if (key == 0) revert NothingDue(task);
        uint32 round = uint32(key >> 16);
        (ITaskManagerTypes.TaskSpec memory spec,) = taskManager.termsOf(task);
        if (!_advance(task, round, rounds[task][round], spec)) revert NothingDue(task);
    }

    // ---- Calls of the task manager ----

    /// @inheritdoc IRoundManager
    function openClosing(uint64 task) external {
        _onlyTaskManager();
        (ITaskManagerTypes.TaskSpec memory spec,) = taskManager.termsOf(task);
        uint32 round = spec.rounds + 1;
        Round storage r = rounds[task][round];
        _restart(task, round, r);
        bytes32 checkpoint = rounds[task][spec.rounds].checkpoint;
        r.base = checkpoint;
        r.updates = 1;
        _enter(r, Stage.Scoring, spec.scoreWindow);
        emit RoundOpened(task, round, r.attempt, checkpoint, 0, 0, 0);
    }

    /// @inheritdoc IRoundManager
    function closeRounds(uint64 task) external {
        _onlyTaskManager();
        uint64 key = openRoundKey[task];
        if (key == 0) return;
        uint32 round = uint32(key >> 16);
        _fail(task, round, rounds[task][round]);
    }

    // ---- Administration ----

    /// @inheritdoc IRoundManager
    function setProofVerifier(IProofVerifier verifier) external onlyRole(VERIFIER_ROLE) {
        proofVerifier = verifier;
        emit ProofVerifierChanged(address(verifier));
    }

    // ---- Views ----

    /// @inheritdoc IRoundManager
    function roundOf(uint64 task, uint32 round) external view returns (Round memory) {
        return rounds[task][round];
    }

    /// @inheritdoc IRoundManager
    function attemptsOf(uint64 task, uint32 round) external view returns (uint16) {
        return rounds[task][round].attempt;
    }

    /// @inheritdoc IRoundManager
    function validatorsOf(uint64 task, uint32 round) external view returns (address[] memory) {
        return validators[_attemptKey(task, round, rounds[task][round].attempt)];
    }

    /// @inheritdoc IRoundManager
    function scoreCommitmentOf(uint64 task, uint32 round, uint16 attempt, address validator)
        external
        view
        returns (ScoreCommitment memory)
    {
        return scores[_attemptKey(task, round, attempt)][validator];
    }

    /// @inheritdoc IRoundManager
    function directPayOf(uint64 task, uint32 round, address account)
        external
        view
        returns (uint128)
    {
        Round storage r = rounds[task][round];
        if (r.stage != Stage.Settled) return 0;
        return directPay[_attemptKey(task, round, r.attempt)][account];
    }

    /// @inheritdoc IRoundManager
    function settlementOf(uint64 task, uint32 round)
        external
        view
        returns (bytes32 payoutsRoot, uint128 total, uint64 claimableAt)
    {
        Round storage r = rounds[task][round];
        if (r.stage != Stage.Settled) return (0, 0, 0);
        return (r.payoutsRoot, r.total, r.deadline);
    }

    /// @inheritdoc IRoundManager
    function scoresCommitment(
        uint64 task,
        uint32 round,
        uint16 attempt,
        address validator,
        bytes calldata factors,
        bytes32 salt
    ) external view returns (bytes32) {
        return _scoresCommitment(task, round, attempt, validator, keccak256(factors), salt);
    }

    // ---- Stages ----

    /// @dev Moves a stage on whose time has run out, or that waits for nobody any more.
    function _advance(
        uint64 task,
        uint32 round,
        Round storage r,
        ITaskManagerTypes.TaskSpec memory spec
    ) private returns (bool) {
        Stage stage = r.stage;
        if (stage == Stage.None || stage == Stage.Settled) return false;
        bool isLate = block.timestamp > r.deadline;
        if (stage == Stage.Scoring && (isLate || _allCommitted(task, round, r, spec))) {
            if (r.committed == 0) {
                _endUnscored(task, round, r, spec);
            } else {
                _enter(r, Stage.Revealing, spec.scoreWindow);
                emit RevealOpened(task, round, r.deadline);
            }
            return true;
        }
        if (stage == Stage.Revealing && (isLate || r.revealed == r.committed)) {
            if (r.revealed == 0) {
                _endUnscored(task, round, r, spec);
            } else if (round > spec.rounds) {
                _close(task, round, r, _medianRelease(task, round, r));
            } else {
                _enter(r, Stage.Settling, spec.settleWindow);
                emit SettlingOpened(task, round, r.deadline);
            }
            return true;
        }
        if (isLate) _fail(task, round, r);
        return isLate;
    }

    /// @dev Everyone who has the stake; or, after the grace time, as many as revealed last time, so
    /// that one dead validator does not cost every round its whole window. Numbers alone would let
    /// many small stakes shut out few large ones.
    function _allCommitted(
        uint64 task,
        uint32 round,
        Round storage r,
        ITaskManagerTypes.TaskSpec memory spec
    ) private view returns (bool) {
        uint16 committed = r.committed;
        if (committed == 0) return false;
        uint256 eligible = stakeManager.validatorCount(task);
        if (committed >= eligible && _eligible(task, round, r, spec) >= eligible) return true;
        Turnout memory usual = turnouts[task];
        return usual.validators != 0 && committed >= usual.validators
            && 2 * uint256(r.weight) > usual.weight
            && 2 * uint256(r.weight) > stakeManager.validatorStakeOf(task)
            && block.timestamp > r.stageAt + spec.graceWindow;
    }

    /// @dev Who committed and withdrew its stake does not stand for another who has not committed.
    function _eligible(
        uint64 task,
        uint32 round,
        Round storage r,
        ITaskManagerTypes.TaskSpec memory spec
    ) private view returns (uint256 count) {
        address[] memory committed = validators[_attemptKey(task, round, r.attempt)];
        for (uint256 i = 0; i < committed.length; ++i) {
            uint128 stake = _stakeAs(task, committed[i], ROLE_VALIDATOR);
            if (stake != 0 && stake >= spec.validatorStakeMin) ++count;
        }
    }

    /// @dev Puts the caller in the place of the lightest validator, if that is lighter: nobody
    /// keeps others out by coming first with many small stakes.
    /// @return lost The weight of who had to go.
    function _displace(uint64 task, uint32 round, uint256 key, uint128 weight)
        private
        returns (uint128 lost)
    {
        address[] storage committed = validators[key];
        uint256 place = 0;
        lost = type(uint128).max;
        for (uint256 i = 0; i < VALIDATORS_MAX; ++i) {
            uint128 other = scores[key][committed[i]].weight;
            if (other < lost) (lost, place) = (other, i);
        }
        if (weight <= lost) revert TooManyValidators(VALIDATORS_MAX);
        address displaced = committed[place];
        delete scores[key][displaced];
        committed[place] = msg.sender;
        emit ScoresDisplaced(task, round, displaced);
    }

    /// @dev Nobody said anything: a round is tried again, a closing evaluation harms nobody.
    function _endUnscored(
        uint64 task,
        uint32 round,
        Round storage r,
        ITaskManagerTypes.TaskSpec memory spec
    ) private {
        if (round > spec.rounds) _close(task, round, r, uint16(BPS));
        else _fail(task, round, r);
    }

    function _close(uint64 task, uint32 round, Round storage r, uint16 releaseBps) private {
        _enter(r, Stage.Settled, 0);
        r.settledAt = uint64(block.timestamp);
        openRoundKey[task] = 0;
        emit RoundSettled(task, round, 0, 0, r.base, 0, "", abi.encodePacked(releaseBps));
        taskManager.onClosed(task, releaseBps);
    }

    function _medianRelease(uint64 task, uint32 round, Round storage r)
        private
        view
        returns (uint16)
    {
        uint256 key = _attemptKey(task, round, r.attempt);
        address[] memory committed = validators[key];
        uint16[] memory values = new uint16[](committed.length);
        uint256[] memory weights = new uint256[](committed.length);
        uint256 total = 0;
        for (uint256 i = 0; i < committed.length; ++i) {
            ScoreCommitment storage score = scores[key][committed[i]];
            // Who did not reveal weighs nothing.
            if (score.factorsHash == 0) continue;
            values[i] = releases[key][committed[i]];
            weights[i] = score.weight;
            total += score.weight;
        }
        return Scores.lowerMedian(values, weights, total);
    }

    function _fail(uint64 task, uint32 round, Round storage r) private {
        Stage stage = r.stage;
        r.stage = Stage.None;
        r.deadline = 0;
        openRoundKey[task] = 0;
        emit RoundFailed(task, round, r.attempt, stage);
    }

    function _enter(Round storage r, Stage stage, uint32 window) private {
        r.stage = stage;
        r.stageAt = uint64(block.timestamp);
        r.deadline = uint64(block.timestamp) + window;
    }

    /// @dev Begins the next attempt with nothing of the last.
    function _restart(uint64 task, uint32 round, Round storage r) private returns (uint16 attempt) {
        attempt = r.attempt + 1;
        if (attempt > 1) delete rounds[task][round];
        r.attempt = attempt;
        openRoundKey[task] = (uint64(round) << 16) | attempt;
    }

    function _within(uint64 task, uint32 round, Stage stage)
        private
        view
        returns (Round storage r)
    {
        r = rounds[task][round];
        if (r.stage != stage) revert WrongStage(stage, r.stage);
        if (block.timestamp > r.deadline) revert StageOver(r.deadline);
    }

    /// @dev The same for a stage that begins without a call when the one before runs out.
    function _reached(
        uint64 task,
        uint32 round,
        Stage stage,
        ITaskManagerTypes.TaskSpec memory spec
    ) private returns (Round storage r) {
        r = rounds[task][round];
        if (r.stage != stage) _advance(task, round, r, spec);
        return _within(task, round, stage);
    }

    // ---- Checks ----

    function _onlyTaskManager() private view {
        if (msg.sender != address(taskManager)) {
            revert NotTheTaskManager(address(taskManager), msg.sender);
        }
    }

    function _checkAggregator(ITaskManagerTypes.TaskSpec memory spec) private view {
        if (msg.sender != spec.aggregator) revert NotTheAggregator(spec.aggregator, msg.sender);
    }

    /// @dev The round before must have a result that stands; none may be open.
    function _checkOrder(uint64 task, uint32 round, ITaskManagerTypes.TaskSpec memory spec)
        private
        view
    {
        uint64 key = openRoundKey[task];
        if (key != 0) revert WrongRound(uint32(key >> 16), round);
        if (round == 0 || round > spec.rounds) revert WrongRound(1, round);
        Stage stage = rounds[task][round].stage;
        if (stage != Stage.None) revert WrongStage(Stage.None, stage);
        if (round == 1) return;
        Round storage previous = rounds[task][round - 1];
        if (previous.stage != Stage.Settled) revert WrongRound(round - 1, round);
        if (
            spec.proofMode == ITaskManagerTypes.ProofMode.OnChallenge
                && block.timestamp < previous.deadline
        ) revert PreviousRoundDisputable(previous.deadline);
    }

    function _checkValidator(uint64 task, uint128 minimum) private view returns (uint128 weight) {
        uint128 stake = _stakeAs(task, msg.sender, ROLE_VALIDATOR);
        if (stake < minimum || stake == 0) revert NotEligible(msg.sender, minimum, stake);
        return stakeManager.effectiveStakeDown(task, msg.sender);
    }

    /// @dev Nothing if the account has another role.
    function _stakeAs(uint64 task, address account, uint8 role) private view returns (uint128) {
        (uint8 actual, uint128 stake) = stakeManager.stakeOf(task, account);
        return actual == role ? stake : 0;
    }

    function _checkFactors(
        uint32 round,
        Round storage r,
        ITaskManagerTypes.TaskSpec memory spec,
        bytes calldata factors
    ) private view {
        uint256 length = FACTOR_BYTES * _updates(r);
        if (factors.length != length) revert WrongFactorsLength(length, factors.length);
        uint16 most = round > spec.rounds ? uint16(BPS) : Scores.FACTOR_MAX;
        uint16 largest = factors.max();
        if (largest > most) revert FactorTooHigh(most, largest);
    }

    // ---- The result ----

    /// @dev Checks the medians, and books the pay of validators and aggregator.
    /// @return direct Sum of what was booked.
    function _payDirectly(
        uint64 task,
        uint32 round,
        Round storage r,
        ITaskManagerTypes.TaskSpec memory spec,
        Submission calldata submission
    ) private returns (uint128 direct) {
        uint256 key = _attemptKey(task, round, r.attempt);
        if (r.committed == 0) {
            Settlement.checkPlainFactors(submission.factors, submission.reveals, _updates(r));
        } else {
            (Settlement.Revealer[] memory revealers, uint128 weight) = _revealers(key, r.revealed);
            turnouts[task] = Turnout(r.revealed, weight);
            uint128[] memory pays =
                _paysDown(r, revealers, _shareDown(r.pool, spec.validatorsBps), submission);
            for (uint256 v = 0; v < pays.length; ++v) {
                direct += _book(task, round, key, revealers[v].validator, pays[v]);
            }
        }
        direct += _book(
            task, round, key, spec.aggregator, _shareDown(r.pool, spec.aggregatorBps)
        );
    }

    function _paysDown(
        Round storage r,
        Settlement.Revealer[] memory revealers,
        uint256 pool,
        Submission calldata submission
    ) private view returns (uint128[] memory) {
        return Settlement.validatorPaysDown(
            submission.factors, submission.reveals, revealers, pool, r.weight, _updates(r)
        );
    }

    function _revealers(uint256 key, uint256 revealed)
        private
        view
        returns (Settlement.Revealer[] memory revealers, uint128 weight)
    {
        revealers = new Settlement.Revealer[](revealed);
        address[] memory committed = validators[key];
        uint256 found = 0;
        for (uint256 i = 0; i < committed.length; ++i) {
            ScoreCommitment storage score = scores[key][committed[i]];
            bytes32 factorsHash = score.factorsHash;
            if (factorsHash == 0) continue;
            revealers[found++] = Settlement.Revealer({
                validator: committed[i], factorsHash: factorsHash, weight: score.weight
            });
            weight += score.weight;
        }
    }

    function _book(uint64 task, uint32 round, uint256 key, address account, uint128 amount)
        private
        returns (uint128)
    {
        if (amount == 0) return 0;
        // An aggregator that stakes nothing as one may be a validator, too.
        directPay[key][account] += amount;
        emit DirectPayBooked(task, round, account, amount);
        return amount;
    }

    function _recordPayouts(
        uint64 task,
        uint32 round,
        Round storage r,
        uint128 trainersPool,
        bytes calldata payouts
    ) private {
        (r.payoutsRoot, r.total) = Settlement.checkPayouts(
            address(taskManager), task, round, payouts, trainersPool, _updates(r)
        );
    }

    function _statement(
        uint64 task,
        uint32 round,
        Round storage r,
        ITaskManagerTypes.TaskSpec memory spec
    ) private view returns (IProofVerifierTypes.Statement memory) {
        return IProofVerifierTypes.Statement({
            task: task,
            round: round,
            attempt: r.attempt,
            aggregator: spec.aggregator,
            updatesRoot: r.updatesRoot,
            ownCommitments: r.ownCommitments,
            updates: uint16(_updates(r)),
            seed: r.seed,
            trainersPool: _shareDown(r.pool, spec.trainersBps),
            split: uint8(spec.split),
            rankDecayBps: spec.rankDecayBps,
            checkpoint: r.checkpoint,
            resultHash: r.resultHash
        });
    }

    /// @dev Only a verifier that had its gas and still reverted says that a proof does not hold.
    function _holds(
        IProofVerifierTypes.Statement memory statement,
        IProofVerifier verifier,
        bytes calldata factors,
        bytes calldata payouts,
        bytes calldata proof
    ) private view returns (bool) {
        bytes memory call =
            abi.encodeCall(IProofVerifier.verify, (statement, factors, payouts, proof));
        // Only now, since the encoding takes the more gas the longer the proof is.
        if (gasleft() < CHALLENGE_GAS_MIN) revert GasTooLow(CHALLENGE_GAS_MIN, gasleft());
        (bool holds,) = address(verifier).staticcall{gas: VERIFY_GAS}(call);
        return holds;
    }

    // ---- Formulas ----

    function _updates(Round storage r) private view returns (uint256) {
        return uint256(r.updates) + r.ownUpdates;
    }

    function _shareDown(uint128 pool, uint16 bps) private pure returns (uint128) {
        return uint128((uint256(pool) * bps) / BPS);
    }

    function _attemptKey(uint64 task, uint32 round, uint16 attempt) private pure returns (uint256) {
        return (uint256(task) << 48) | (uint256(round) << 16) | attempt;
    }

    function _submissionHash(bytes calldata payouts, bytes calldata factors, bytes calldata proof)
        private
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(keccak256(payouts), keccak256(factors), keccak256(proof)));
    }

    function _cohortLeaf(uint64 task, uint32 round, address trainer)
        private
        view
        returns (bytes32)
    {
        return keccak256(
            bytes.concat(
                keccak256(
                    abi.encode(
                        COHORT_DOMAIN, block.chainid, address(taskManager), task, round, trainer
                    )
                )
            )
        );
    }

    function _scoresCommitment(
        uint64 task,
        uint32 round,
        uint16 attempt,
        address validator,
        bytes32 factorsHash,
        bytes32 salt
    ) private view returns (bytes32) {
        return keccak256(
            bytes.concat(
                keccak256(
                    abi.encode(
                        SCORES_DOMAIN,
                        block.chainid,
                        address(this),
                        task,
                        round,
                        attempt,
                        validator,
                        factorsHash,
                        salt
                    )
                )
            )
        );
    }
}
// slither-disable-end timestamp,unused-return,calls-loop,reentrancy-no-eth,reentrancy-events,reentrancy-benign,low-level-calls

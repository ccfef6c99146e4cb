// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IProofVerifier} from "./IProofVerifier.sol";
import {IStakeManager} from "./IStakeManager.sol";
import {ITaskManager} from "./ITaskManager.sol";

interface IRoundManagerErrors {
    /// @notice The contract belongs to another deployment.
    error ForeignContract(address other);
    /// @notice The task is not active.
    error TaskNotActive(uint64 task);
    /// @notice Only the task's aggregator may do this.
    error NotTheAggregator(address expected, address caller);
    /// @notice Only the task manager may do this.
    error NotTheTaskManager(address expected, address caller);
    /// @notice The account may not take part: its stake is below the task's minimum, or it has
    /// another role.
    error NotEligible(address account, uint128 minimum, uint128 stake);
    /// @notice Rounds are opened in order.
    error WrongRound(uint32 expected, uint32 round);
    /// @notice The call belongs to another stage.
    error WrongStage(IRoundManagerTypes.Stage expected, IRoundManagerTypes.Stage stage);
    /// @notice The stage's time has run out; `tick` moves the round on.
    error StageOver(uint64 deadline);
    /// @notice The newest result can still be challenged.
    error PreviousRoundDisputable(uint64 until);
    /// @notice The round failed too often.
    error AttemptsExhausted(uint16 attempts);
    /// @notice A cohort has `trainersMin` to `trainersMax` members.
    error CohortSizeOutOfRange(uint16 minimum, uint16 maximum, uint16 size);
    /// @notice There are 1 to as many updates as trainers in the cohort.
    error UpdateCountOutOfRange(uint16 maximum, uint16 count);
    /// @notice The trainer is not in the cohort.
    error NotInCohort(address trainer);
    /// @notice The account has committed before.
    error AlreadyCommitted(address account);
    /// @notice The validator has revealed before.
    error AlreadyRevealed(address validator);
    /// @notice A round has at most `VALIDATORS_MAX` validators, and none of them weighs less.
    error TooManyValidators(uint16 maximum);
    /// @notice The block that gives the seed is not there yet.
    error SeedTooEarly(uint64 seedBlock);
    /// @notice The validator committed to nothing.
    error NotCommitted(address validator);
    /// @notice The scores are not those committed to.
    error RevealMismatch(bytes32 committed, bytes32 revealed);
    /// @notice One factor of two bytes for each update.
    error WrongFactorsLength(uint256 expected, uint256 length);
    /// @notice A factor is at most `FACTOR_MAX`.
    error FactorTooHigh(uint16 maximum, uint16 factor);
    /// @notice The reveals do not follow the order of `validatorsOf`.
    error WrongReveal(address validator, bytes32 expected, bytes32 got);
    /// @notice The factor is not the stake-weighted lower median of the reveals.
    error WrongMedian(uint16 update, uint16 factor);
    /// @notice The payouts come to more than the trainers' share of the pool.
    error PayoutsAbovePool(uint128 pool, uint256 total);
    /// @notice 36 bytes a payout, and no more payouts than updates.
    error WrongPayoutsLength(uint256 length);
    /// @notice Amounts are above zero.
    error ZeroPayout(uint16 index);
    /// @notice An account can claim one payout a round, and the zero address none.
    error DuplicatePayout(uint16 index, address account);
    /// @notice Nobody set a proof verifier.
    error NoProofVerifier();
    /// @notice A proof has at most `PROOF_BYTES_MAX` bytes, so that it can be challenged.
    error ProofTooLong(uint256 maximum, uint256 length);
    /// @notice Only tasks whose proofs are checked on challenge can be challenged.
    error NotChallengeable(uint64 task);
    /// @notice The dispute window has closed.
    error DisputeWindowClosed(uint64 closedAt);
    /// @notice These are not the payouts, factors and proof that the aggregator submitted.
    error NotTheSubmission(bytes32 expected, bytes32 got);
    /// @notice The proof holds.
    error ProofHolds();
    /// @notice A challenge needs this much gas, so that no proof fails for the lack of it.
    error GasTooLow(uint256 minimum, uint256 gas);
    /// @notice There is nothing whose time has run out.
    error NothingDue(uint64 task);
}

interface IRoundManagerTypes {
    /// @notice Where a round stands.
    enum Stage {
        /// Never opened, or its last attempt failed.
        None,
        /// Trainers train; the aggregator collects and commits to the updates.
        Training,
        /// The updates are committed to; the seed's block is awaited.
        Sealed,
        /// Validators commit to their scores.
        Scoring,
        /// Validators reveal.
        Revealing,
        /// The aggregator owes the result.
        Settling,
        /// There is a result. It is final after the dispute window.
        Settled
    }

    struct Round {
        Stage stage;
        /// 1 for the first try.
        uint16 attempt;
        uint16 cohortSize;
        /// Updates that the aggregator committed to.
        uint16 updates;
        /// Further updates that trainers committed to themselves.
        uint16 ownUpdates;
        uint16 committed;
        uint16 revealed;
        /// When the stage ends by time-out, or a result becomes final; Unix seconds.
        uint64 deadline;
        /// When the stage began.
        uint64 stageAt;
        /// The block whose hash gives the seed.
        uint64 seedBlock;
        /// What the round may pay; base units.
        uint128 pool;
        /// Sum of the weights of the validators that committed.
        uint128 weight;
        /// Sum of the trainers' payouts.
        uint128 total;
        /// `total` and the pay of validators and aggregator.
        uint128 allotted;
        /// Result in; Unix seconds.
        uint64 settledAt;
        bytes32 base;
        bytes32 cohortRoot;
        bytes32 updatesRoot;
        bytes32 ownCommitments;
        bytes32 seed;
        bytes32 payoutsRoot;
        bytes32 checkpoint;
        bytes32 resultHash;
        /// keccak256 of payouts, factors and proof as submitted.
        bytes32 submissionHash;
        /// The verifier that was in charge when the attempt was opened: a change cannot be put in
        /// front of a result.
        IProofVerifier verifier;
    }

    struct ScoreCommitment {
        bytes32 commitment;
        /// keccak256 of the factors revealed; zero before.
        bytes32 factorsHash;
        /// Effective stake at the time of the commitment.
        uint128 weight;
    }

    /// @notice What an aggregator submits for a round.
    struct Submission {
        bytes32 checkpoint;
        /// Hash of the aggregator's full account of the round.
        bytes32 resultHash;
        /// Trainers: 36 bytes each, account and amount (uint128, big endian).
        bytes payouts;
        /// Two bytes an update, big endian: own commitments last. The stake-weighted lower medians
        /// of the reveals; all `FACTOR_ONE` in a task without validators.
        bytes factors;
        /// The factors of each validator that revealed, in the order of `validatorsOf`.
        bytes[] reveals;
        bytes proof;
    }
}

interface IRoundManagerEvents {
    event ProofVerifierChanged(address indexed verifier);
    event RoundOpened(
        uint64 indexed task,
        uint32 indexed round,
        uint16 attempt,
        bytes32 base,
        bytes32 cohortRoot,
        uint16 cohortSize,
        uint128 pool
    );
    event UpdatesCommitted(
        uint64 indexed task,
        uint32 indexed round,
        bytes32 updatesRoot,
        uint16 count,
        uint64 seedBlock
    );
    /// @notice A trainer committed to its update without the aggregator.
    event UpdateCommitted(
        uint64 indexed task, uint32 indexed round, address indexed trainer, bytes32 updateHash
    );
    event SeedDrawn(uint64 indexed task, uint32 indexed round, bytes32 seed);
    /// @notice The hash of the seed's block was gone; another block gives it.
    event SeedPostponed(uint64 indexed task, uint32 indexed round, uint64 seedBlock);
    event ScoresCommitted(
        uint64 indexed task, uint32 indexed round, address indexed validator, uint128 weight
    );
    /// @notice There were `VALIDATORS_MAX` commitments, and one with more weight took the place.
    event ScoresDisplaced(uint64 indexed task, uint32 indexed round, address indexed validator);
    event RevealOpened(uint64 indexed task, uint32 indexed round, uint64 deadline);
    event ScoresRevealed(
        uint64 indexed task, uint32 indexed round, address indexed validator, bytes factors
    );
    event SettlingOpened(uint64 indexed task, uint32 indexed round, uint64 deadline);
    /// @notice There is a result, final after the dispute window unless it is challenged.
    event RoundSettled(
        uint64 indexed task,
        uint32 indexed round,
        bytes32 payoutsRoot,
        uint128 total,
        bytes32 checkpoint,
        bytes32 resultHash,
        bytes payouts,
        bytes factors
    );
    /// @notice A validator's or the aggregator's pay, without a Merkle proof.
    event DirectPayBooked(
        uint64 indexed task, uint32 indexed round, address indexed account, uint128 amount
    );
    /// @notice The round may be opened again, while attempts are left.
    event RoundFailed(
        uint64 indexed task, uint32 indexed round, uint16 attempt, IRoundManagerTypes.Stage stage
    );
    /// @notice The proof did not hold; the round failed and the aggregator was slashed.
    event ResultVoided(uint64 indexed task, uint32 indexed round, address indexed challenger);
}

/// @title Rounds: cohort, commitments, seed, scores, result
/// @dev One round of a task is open at a time. Every stage ends by a call of whoever owes it or,
/// when its time runs out, by anyone's `tick`.
interface IRoundManager is IRoundManagerErrors, IRoundManagerTypes, IRoundManagerEvents {
    // ---- The aggregator ----

    /// @notice Opens a round, or opens it again after a failed attempt.
    function openRound(
        uint64 task,
        uint32 round,
        bytes32 base,
        bytes32 cohortRoot,
        uint16 cohortSize
    ) external;

    /// @notice Commits to all updates that arrived and closes training. The root is that of
    /// OpenZeppelin's tree over the double hashes of `(keccak256("convoke.update.v1"), chainId,
    /// taskManager, task, round, index, trainer, update)`.
    function commitUpdates(uint64 task, uint32 round, bytes32 updatesRoot, uint16 count) external;

    /// @notice Gives up the open attempt of a round, at whatever stage before its result, so that
    /// nobody waits for it to time out. Silence would fail it as well: this only saves the time.
    function failRound(uint64 task, uint32 round) external;

    /// @notice Submits the result. The proof is checked now, or on challenge, as the task says.
    function submitResult(uint64 task, uint32 round, Submission calldata submission) external;

    // ---- Trainers and validators ----

    /// @notice Commits to the caller's own update, past an aggregator that ignores it. It counts
    /// after the aggregator's, in the order of arrival.
    function commitUpdate(
        uint64 task,
        uint32 round,
        bytes32 updateHash,
        bytes32[] calldata cohortProof
    ) external;

    /// @notice Commits to scores. The last commitment that can come opens the reveal.
    function commitScores(uint64 task, uint32 round, bytes32 commitment) external;

    /// @notice Reveals scores. The last reveal that can come lets the round settle.
    function revealScores(uint64 task, uint32 round, bytes calldata factors, bytes32 salt) external;

    // ---- Anyone ----

    /// @notice Draws the seed from the hash of `seedBlock` and this block's `prevrandao`; after
    /// 256 blocks, names another block instead.
    function drawSeed(uint64 task, uint32 round) external;

    /// @notice Shows that a result's proof does not hold: the round fails and the aggregator is
    /// slashed. Only within the dispute window of a task whose proofs are checked on challenge.
    function challengeResult(
        uint64 task,
        uint32 round,
        bytes calldata payouts,
        bytes calldata factors,
        bytes calldata proof
    ) external;

    /// @notice Moves on a stage whose time has run out, or that waits for nobody any more.
    /// Reverts with `NothingDue` otherwise.
    function tick(uint64 task) external;

    // ---- Calls of the task manager ----

    /// @notice Opens the closing evaluation: a round numbered one above the task's last that has
    /// no updates, and one factor for the whole task.
    function openClosing(uint64 task) external;

    /// @notice Fails the open round of a task that has ended, if there is one.
    function closeRounds(uint64 task) external;

    // ---- Administration ----

    /// @notice Names the verifier of proofs. Only `VERIFIER_ROLE`.
    function setProofVerifier(IProofVerifier verifier) external;

    // ---- Views ----

    function stakeManager() external view returns (IStakeManager);
    function taskManager() external view returns (ITaskManager);
    function proofVerifier() external view returns (IProofVerifier);

    /// @notice The open round of a task as `round << 16 | attempt`; 0 if none is open.
    function openRoundKey(uint64 task) external view returns (uint64);

    /// @notice Attempts of a round so far, the open one included.
    function attemptsOf(uint64 task, uint32 round) external view returns (uint16);

    /// @notice A round at its newest attempt.
    function roundOf(uint64 task, uint32 round) external view returns (Round memory);

    /// @notice Validators that committed to scores, in order.
    function validatorsOf(uint64 task, uint32 round) external view returns (address[] memory);
    function scoreCommitmentOf(uint64 task, uint32 round, uint16 attempt, address validator)
        external
        view
        returns (ScoreCommitment memory);

    /// @notice Pay of a validator or the aggregator for a settled round.
    function directPayOf(uint64 task, uint32 round, address account)
        external
        view
        returns (uint128);

    /// @notice What a claim needs: the root, the total, and when claims open. `claimableAt` is 0 if
    /// the round has no result.
    function settlementOf(uint64 task, uint32 round)
        external
        view
        returns (bytes32 payoutsRoot, uint128 total, uint64 claimableAt);

    /// @notice What a validator commits to: the double hash of
    /// `(keccak256("convoke.scores.v1"), chainId, this, task, round, attempt, validator,
    /// keccak256(factors), salt)`.
    function scoresCommitment(
        uint64 task,
        uint32 round,
        uint16 attempt,
        address validator,
        bytes calldata factors,
        bytes32 salt
    ) external view returns (bytes32);
}

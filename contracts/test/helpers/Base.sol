// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {ConvokeToken} from "../../src/ConvokeToken.sol";
import {PenaltyManager} from "../../src/PenaltyManager.sol";
import {RoundManager} from "../../src/RoundManager.sol";
import {StakeManager} from "../../src/StakeManager.sol";
import {TaskManager} from "../../src/TaskManager.sol";
import {IProofVerifier} from "../../src/interfaces/IProofVerifier.sol";
import {IRoundManagerTypes as Rounds} from "../../src/interfaces/IRoundManager.sol";
import {ITaskManagerTypes as Tasks} from "../../src/interfaces/ITaskManager.sol";
import {Assertions} from "./Assertions.sol";
import {Reference} from "./Reference.sol";
import {Tree} from "./Tree.sol";
import {PickyVerifier} from "./Verifiers.sol";
import {vm} from "./Vm.sol";

/// @notice All contracts as they are deployed, funded actors, and the steps of a round.
abstract contract Base is Assertions {
    uint128 internal constant REWARD = 1_000_003;
    uint32 internal constant ROUNDS = 2;
    uint128 internal constant POOL = REWARD / ROUNDS;
    uint16 internal constant ATTEMPTS = 3;
    uint32 internal constant TRAIN = 100;
    uint32 internal constant SCORE = 50;
    uint32 internal constant GRACE = 20;
    uint32 internal constant SETTLE = 40;
    uint32 internal constant DISPUTE = 30;
    uint32 internal constant TIMEOUT = 1_000;
    uint32 internal constant UNBONDING = 200;
    uint32 internal constant WARMUP = 60;
    uint32 internal constant NOTICE = 70;
    uint32 internal constant CAP_BPS = 20_000;
    uint16 internal constant VALIDATORS_BPS = 1_500;
    uint16 internal constant AGGREGATOR_BPS = 500;
    uint128 internal constant TRAINER_STAKE = 50;
    uint128 internal constant VALIDATOR_STAKE = 100;
    uint128 internal constant AGGREGATOR_STAKE = 1_000;
    uint256 internal constant START = 1_700_000_000;
    uint16 internal constant ONE = 10_000;

    address internal constant CREATOR = address(0xC0);
    address internal constant AGGREGATOR = address(0xA0);
    address internal constant ADMIN = address(0xAD);
    address internal constant ANYONE = address(0xDEAD);
    bytes32 internal constant SALT = "salt";
    bytes32 internal constant UPDATES_ROOT = "updates";

    IERC20 internal token;
    StakeManager internal stakes;
    TaskManager internal tasks;
    RoundManager internal rounds;
    PenaltyManager internal penalties;

    function start() internal {
        vm.warp(START);
        vm.roll(1_000);
        vm.prevrandao("randao");
        deploy(new ConvokeToken(1e30));
        setVerifier(new PickyVerifier());
    }

    /// @dev Without a verifier, as on a new chain.
    function deploy(IERC20 token_) internal {
        token = token_;
        stakes = new StakeManager(token, UNBONDING, WARMUP, NOTICE, CAP_BPS, ADMIN);
        tasks = new TaskManager(token, stakes, ADMIN);
        rounds = new RoundManager(stakes, tasks, ADMIN);
        penalties = new PenaltyManager(rounds);
        tasks.link(rounds);
        stakes.link(tasks, rounds);
        bytes32 slasher = stakes.SLASHER_ROLE();
        bytes32 verifier = rounds.VERIFIER_ROLE();
        vm.prank(ADMIN);
        stakes.grantRole(slasher, address(rounds));
        vm.prank(ADMIN);
        stakes.grantRole(slasher, address(penalties));
        vm.prank(ADMIN);
        rounds.grantRole(verifier, ADMIN);
        endow(CREATOR);
        endow(AGGREGATOR);
    }

    function endow(address account) internal {
        require(token.transfer(account, 1e24));
        vm.prank(account);
        token.approve(address(stakes), type(uint256).max);
        vm.prank(account);
        token.approve(address(tasks), type(uint256).max);
    }

    function setVerifier(IProofVerifier verifier) internal {
        vm.prank(ADMIN);
        rounds.setProofVerifier(verifier);
    }

    // ---- What a test usually starts from ----

    function specification() internal pure returns (Tasks.TaskSpec memory spec) {
        spec.aggregator = AGGREGATOR;
        spec.rounds = ROUNDS;
        spec.trainersMin = 1;
        spec.trainersMax = 256;
        spec.validatorsMin = 1;
        spec.attemptsMax = ATTEMPTS;
        spec.trainWindow = TRAIN;
        spec.scoreWindow = SCORE;
        spec.graceWindow = GRACE;
        spec.settleWindow = SETTLE;
        spec.disputeWindow = DISPUTE;
        spec.roundTimeout = TIMEOUT;
        spec.trainersBps = ONE - VALIDATORS_BPS - AGGREGATOR_BPS;
        spec.validatorsBps = VALIDATORS_BPS;
        spec.aggregatorBps = AGGREGATOR_BPS;
        spec.vestingBps = 2_500;
        spec.reward = REWARD;
        spec.rankDecayBps = 9_000;
        spec.slashBps = 1_000;
        spec.reporterBps = 2_000;
        spec.trainerStakeMin = TRAINER_STAKE;
        spec.validatorStakeMin = VALIDATOR_STAKE;
        spec.aggregatorStakeMin = AGGREGATOR_STAKE;
    }

    function create(Tasks.TaskSpec memory spec) internal returns (uint64 id) {
        vm.prank(CREATOR);
        return tasks.createTask(spec, "task");
    }

    /// @dev A task whose aggregator has its stake, with so many validators of equal stake.
    function staffed(Tasks.TaskSpec memory spec, uint256 validators) internal returns (uint64 id) {
        id = create(spec);
        if (spec.aggregatorStakeMin != 0) stake(id, AGGREGATOR, 2, spec.aggregatorStakeMin);
        for (uint256 v = 0; v < validators; ++v) {
            stake(id, validator(v), 1, VALIDATOR_STAKE);
        }
    }

    function staffed(uint256 validators) internal returns (uint64) {
        return staffed(specification(), validators);
    }

    function stake(uint64 id, address account, uint8 role, uint128 amount) internal {
        if (token.balanceOf(account) == 0) endow(account);
        vm.prank(account);
        stakes.deposit(id, role, amount);
    }

    function trainer(uint256 i) internal view virtual returns (address) {
        return address(uint160(0x7000 + i));
    }

    function validator(uint256 i) internal view virtual returns (address) {
        return address(uint160(0x8000 + i));
    }

    // ---- Steps of a round ----

    function open(uint64 id, uint32 round, uint16 trainers) internal {
        bytes32 root = Tree.root(cohort(id, round, trainers));
        vm.prank(AGGREGATOR);
        rounds.openRound(id, round, "base", root, trainers);
    }

    function cohort(uint64 id, uint32 round, uint256 trainers)
        internal
        view
        returns (bytes32[] memory leaves)
    {
        leaves = new bytes32[](trainers);
        for (uint256 i = 0; i < trainers; ++i) {
            bytes memory leaf = abi.encode(
                keccak256("convoke.cohort-leaf.v1"),
                block.chainid,
                address(tasks),
                id,
                round,
                trainer(i)
            );
            leaves[i] = keccak256(abi.encode(keccak256(leaf)));
        }
    }

    /// @dev A trainer's own commitment; `trainers` are in the cohort.
    function commitOwn(uint64 id, uint32 round, uint256 i, uint256 trainers) internal {
        bytes32[] memory proof = Tree.proof(cohort(id, round, trainers), i);
        vm.prank(trainer(i));
        rounds.commitUpdate(id, round, keccak256(abi.encode(i)), proof);
    }

    function seal(uint64 id, uint32 round, uint16 count) internal {
        vm.prank(AGGREGATOR);
        rounds.commitUpdates(id, round, UPDATES_ROOT, count);
    }

    function draw(uint64 id, uint32 round) internal {
        vm.roll(block.number + 2);
        rounds.drawSeed(id, round);
    }

    /// @dev Up to `Scoring`, or `Settling` in a task without validators.
    function toScoring(uint64 id, uint32 round, uint16 trainers) internal {
        open(id, round, trainers);
        seal(id, round, trainers);
        draw(id, round);
    }

    function commitScores(uint64 id, uint32 round, uint256 v, uint16[] memory factors) internal {
        uint16 attempt = rounds.attemptsOf(id, round);
        bytes32 commitment =
            rounds.scoresCommitment(id, round, attempt, validator(v), encode(factors), SALT);
        vm.prank(validator(v));
        rounds.commitScores(id, round, commitment);
    }

    function reveal(uint64 id, uint32 round, uint256 v, uint16[] memory factors) internal {
        vm.prank(validator(v));
        rounds.revealScores(id, round, encode(factors), SALT);
    }

    /// @dev The first validators commit to and reveal these factors; all must be staked.
    function score(uint64 id, uint32 round, uint16[][] memory reveals) internal {
        for (uint256 v = 0; v < reveals.length; ++v) {
            commitScores(id, round, v, reveals[v]);
        }
        if (stage(id, round) == Rounds.Stage.Scoring) {
            pass(SCORE + 1);
            rounds.tick(id);
        }
        for (uint256 v = 0; v < reveals.length; ++v) {
            reveal(id, round, v, reveals[v]);
        }
    }

    function submit(uint64 id, uint32 round, Rounds.Submission memory result) internal {
        vm.prank(AGGREGATOR);
        rounds.submitResult(id, round, result);
    }

    /// @dev What the first validators' reveals ask for, with these payouts of the first trainers.
    function submission(
        uint64 id,
        uint32 round,
        uint16[][] memory reveals,
        uint128[] memory amounts
    ) internal view returns (Rounds.Submission memory) {
        bytes[] memory encoded = new bytes[](reveals.length);
        for (uint256 v = 0; v < reveals.length; ++v) {
            encoded[v] = encode(reveals[v]);
        }
        Rounds.Round memory r = rounds.roundOf(id, round);
        uint16[] memory factors = reveals.length == 0
            ? same(r.updates + r.ownUpdates, ONE)
            : Reference.medians(reveals, weights(id, round, reveals.length));
        return Rounds.Submission({
            checkpoint: "checkpoint",
            resultHash: "result",
            payouts: pack(amounts),
            factors: encode(factors),
            reveals: encoded,
            proof: "proof"
        });
    }

    function weights(uint64 id, uint32 round, uint256 validators)
        internal
        view
        returns (uint256[] memory all)
    {
        uint16 attempt = rounds.attemptsOf(id, round);
        all = new uint256[](validators);
        for (uint256 v = 0; v < validators; ++v) {
            all[v] = rounds.scoreCommitmentOf(id, round, attempt, validator(v)).weight;
        }
    }

    /// @dev From opening to result: all updates alike, all trainers paid alike.
    function play(uint64 id, uint32 round, uint16 trainers, uint256 validators) internal {
        toScoring(id, round, trainers);
        uint16[][] memory reveals = sameReveals(validators, trainers, ONE);
        score(id, round, reveals);
        submit(id, round, submission(id, round, reveals, share(id, round, trainers)));
    }

    /// @dev Ready for `submitResult`, every validator saying that all updates are ordinary.
    function toSettling(uint64 id, uint32 round, uint16 trainers, uint256 validators)
        internal
        returns (Rounds.Submission memory)
    {
        toScoring(id, round, trainers);
        uint16[][] memory reveals = sameReveals(validators, trainers, ONE);
        score(id, round, reveals);
        return submission(id, round, reveals, share(id, round, trainers));
    }

    /// @dev The trainers' share in equal parts.
    function share(uint64 id, uint32 round, uint256 trainers)
        internal
        view
        returns (uint128[] memory amounts)
    {
        uint256 pool = rounds.roundOf(id, round).pool;
        amounts = new uint128[](trainers);
        for (uint256 i = 0; i < trainers; ++i) {
            amounts[i] = uint128(pool * tasks.specOf(id).trainersBps / ONE / trainers);
        }
    }

    // ---- Encodings ----

    function encode(uint16[] memory factors) internal pure returns (bytes memory packed) {
        packed = new bytes(2 * factors.length);
        for (uint256 i = 0; i < factors.length; ++i) {
            packed[2 * i] = bytes1(uint8(factors[i] >> 8));
            packed[2 * i + 1] = bytes1(uint8(factors[i]));
        }
    }

    /// @dev The first trainers with these amounts.
    function pack(uint128[] memory amounts) internal view returns (bytes memory packed) {
        for (uint256 i = 0; i < amounts.length; ++i) {
            packed = bytes.concat(packed, abi.encodePacked(trainer(i), amounts[i]));
        }
    }

    function same(uint256 count, uint16 factor) internal pure returns (uint16[] memory factors) {
        factors = new uint16[](count);
        for (uint256 i = 0; i < count; ++i) {
            factors[i] = factor;
        }
    }

    function sameReveals(uint256 validators, uint256 count, uint16 factor)
        internal
        pure
        returns (uint16[][] memory reveals)
    {
        reveals = new uint16[][](validators);
        for (uint256 v = 0; v < validators; ++v) {
            reveals[v] = same(count, factor);
        }
    }

    function payoutLeaves(uint64 id, uint32 round, uint128[] memory amounts)
        internal
        view
        returns (bytes32[] memory leaves)
    {
        leaves = new bytes32[](amounts.length);
        for (uint256 i = 0; i < amounts.length; ++i) {
            leaves[i] = tasks.payoutLeaf(id, round, trainer(i), amounts[i]);
        }
    }

    // ---- Time and states ----

    function pass(uint256 time) internal {
        vm.warp(block.timestamp + time);
    }

    function stage(uint64 id, uint32 round) internal view returns (Rounds.Stage) {
        return rounds.roundOf(id, round).stage;
    }

    function state(uint64 id) internal view returns (Tasks.TaskState) {
        return tasks.task(id).state;
    }

    // ---- Assertions ----

    function isStage(uint64 id, uint32 round, Rounds.Stage expected) internal view {
        equal(uint256(stage(id, round)), uint256(expected), "stage");
    }

    function isState(uint64 id, Tasks.TaskState expected) internal view {
        equal(uint256(state(id)), uint256(expected), "state");
    }

    /// @dev The identity that holds at every moment, and the tokens behind it.
    function conserved(uint64 id) internal view {
        (uint128 escrowed, uint128 paid, uint128 refunded, uint128 vesting, uint128 held) =
            tasks.balances(id);
        equal(escrowed, uint256(paid) + refunded + vesting + held, "escrow");
        equal(token.balanceOf(address(tasks)), owed(), "tokens of the task manager");
        equal(token.balanceOf(address(stakes)), stakes.totalHeld(), "tokens of the stake manager");
    }

    /// @dev What the task manager must hold, over all tasks.
    function owed() internal view returns (uint256 sum) {
        for (uint64 id = 1; id <= tasks.taskCount(); ++id) {
            (uint128 escrowed, uint128 paid, uint128 refunded,,) = tasks.balances(id);
            sum += uint256(escrowed) - paid - refunded;
        }
    }
}

/// @notice A test that starts from a fresh deployment.
abstract contract BaseTest is Base {
    function setUp() public virtual {
        start();
    }
}

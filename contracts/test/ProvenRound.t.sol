// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {RoundManager} from "../src/RoundManager.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {TaskManager} from "../src/TaskManager.sol";
import {ConvokeToken} from "../src/ConvokeToken.sol";
import {RoundProofVerifier} from "../src/RoundProofVerifier.sol";
import {IGroth16VerifierErrors} from "../src/interfaces/IGroth16Verifier.sol";
import {
    IRoundManagerErrors as Errors,
    IRoundManagerTypes as Rounds
} from "../src/interfaces/IRoundManager.sol";
import {ITaskManagerTypes as Tasks} from "../src/interfaces/ITaskManager.sol";
import {Base} from "./helpers/Base.sol";
import {ProofFixture, Proven} from "./helpers/ProofFixture.sol";
import {Tree} from "./helpers/Tree.sol";
import {UncheckedVerifier} from "../src/UncheckedVerifier.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice A round that settles by the proof of the Rust side, on the real contracts: task 3, round
/// 7, second attempt, the task manager where the fixture says. Only the seed is put in place, since
/// no block can be made to give it.
contract ProvenRoundTest is Base {
    Proven private p;
    uint64 private id;
    uint32 private round;
    RoundProofVerifier private verifier;

    function setUp() public {
        vm.chainId(31_337);
        p = ProofFixture.load("proof16");
        (id, round) = (p.statement.task, p.statement.round);
        deployAt(p.taskManager);
        verifier = ProofFixture.adaptor();
    }

    function test_a_round_settles_by_its_proof_and_pays() public {
        toSettling(Tasks.ProofMode.OnSubmission);
        Rounds.Submission memory result = proven();
        vm.prank(p.statement.aggregator);
        rounds.submitResult(id, round, result);
        isStage(id, round, Rounds.Stage.Settled);
        pass(DISPUTE);
        (address account, uint128 amount) = payout(1);
        (bytes32[] memory leaves) = leavesOf(result.payouts);
        tasks.claim(id, round, account, amount, Tree.proof(leaves, 1));
        uint256 now_ = amount - uint256(amount) * 2_500 / ONE;
        atMost(now_, token.balanceOf(account) + 1, "paid");
        atMost(token.balanceOf(account), now_ + 1, "paid");
    }

    function test_a_round_does_not_settle_by_anything_else() public {
        toSettling(Tasks.ProofMode.OnSubmission);
        Rounds.Submission memory result = proven();
        result.payouts[result.payouts.length - 1] ^= 0x01;
        refuses(result);
        result = proven();
        result.checkpoint = "another";
        refuses(result);
        result = proven();
        result.resultHash = "another";
        refuses(result);
        result = proven();
        result.proof[300] ^= 0x01;
        vm.prank(p.statement.aggregator);
        try rounds.submitResult(id, round, result) {
            isTrue(false, "accepted");
        } catch {}
        isStage(id, round, Rounds.Stage.Settling);
        // The honest one still goes through.
        vm.prank(p.statement.aggregator);
        rounds.submitResult(id, round, proven());
    }

    function test_a_proof_that_holds_cannot_be_challenged() public {
        toSettling(Tasks.ProofMode.OnChallenge);
        Rounds.Submission memory result = proven();
        vm.prank(p.statement.aggregator);
        rounds.submitResult(id, round, result);
        refused(Errors.ProofHolds.selector);
        rounds.challengeResult(id, round, result.payouts, result.factors, result.proof);
    }

    function test_a_payout_too_high_is_voided_and_costs_the_aggregator() public {
        toSettling(Tasks.ProofMode.OnChallenge);
        Rounds.Submission memory result = proven();
        result.payouts[result.payouts.length - 1] ^= 0x01;
        vm.prank(p.statement.aggregator);
        rounds.submitResult(id, round, result);
        uint256 before = stakes.stakeRecord(id, p.statement.aggregator).amount;
        rounds.challengeResult(id, round, result.payouts, result.factors, result.proof);
        isStage(id, round, Rounds.Stage.None);
        uint256 left = stakes.stakeRecord(id, p.statement.aggregator).amount;
        equal(before - left, before / 10, "slashed");
    }

    // ---- Inside ----

    /// @dev The task manager's code and storage at the fixture's address.
    function deployAt(address place) private {
        vm.warp(START);
        vm.roll(1_000);
        token = new ConvokeToken(1e30);
        stakes = new StakeManager(token, UNBONDING, WARMUP, NOTICE, CAP_BPS, ADMIN);
        bytes memory arguments = abi.encode(token, stakes, ADMIN);
        vm.etch(place, bytes.concat(type(TaskManager).creationCode, arguments));
        (bool works, bytes memory code) = place.call("");
        require(works);
        vm.etch(place, code);
        tasks = TaskManager(place);
        rounds = new RoundManager(stakes, tasks, ADMIN);
        tasks.link(rounds);
        stakes.link(tasks, rounds);
        bytes32 role = stakes.SLASHER_ROLE();
        vm.prank(ADMIN);
        stakes.grantRole(role, address(rounds));
        role = rounds.VERIFIER_ROLE();
        vm.prank(ADMIN);
        rounds.grantRole(role, ADMIN);
        // Three rewards of about as much.
        for (uint256 i = 0; i < 3; ++i) {
            endow(CREATOR);
        }
        setVerifier(new UncheckedVerifier());
    }

    function toSettling(Tasks.ProofMode mode) private {
        Tasks.TaskSpec memory spec = specification();
        spec.aggregator = p.statement.aggregator;
        spec.rounds = round;
        (spec.trainersBps, spec.validatorsBps, spec.aggregatorBps) = (ONE, 0, 0);
        spec.rankDecayBps = p.statement.rankDecayBps;
        spec.reward = p.statement.trainersPool * round;
        spec.proofMode = mode;
        for (uint64 i = 1; i <= id; ++i) {
            create(spec);
        }
        stake(id, spec.aggregator, 2, AGGREGATOR_STAKE);
        stake(id, validator(0), 1, VALIDATOR_STAKE);
        for (uint32 i = 1; i < round; ++i) {
            empty(i);
        }
        setVerifier(verifier);
        opened(round);
        vm.prank(p.statement.aggregator);
        rounds.failRound(id, round);
        opened(round);
        for (uint256 i = p.statement.updates - p.own; i < p.statement.updates; ++i) {
            (address account, bytes32 update) = entry(i);
            bytes32[] memory path = Tree.proof(cohort(), i);
            vm.prank(account);
            rounds.commitUpdate(id, round, update, path);
        }
        settling(round, p.statement.updatesRoot, p.statement.updates - uint16(p.own), p.factors);
        equal(rounds.attemptsOf(id, round), p.statement.attempt, "attempt");
        putSeed(p.statement.seed);
    }

    /// @dev A round with one update that pays nobody.
    function empty(uint32 number) private {
        opened(number);
        settling(number, "root", 1, hex"2710");
        Rounds.Submission memory result;
        (result.factors, result.reveals) = (hex"2710", new bytes[](1));
        result.reveals[0] = hex"2710";
        vm.prank(p.statement.aggregator);
        rounds.submitResult(id, number, result);
        pass(DISPUTE);
    }

    function opened(uint32 number) private {
        bytes32 root = Tree.root(cohort());
        vm.prank(p.statement.aggregator);
        rounds.openRound(id, number, "base", root, p.statement.updates);
    }

    function settling(uint32 number, bytes32 root, uint16 count, bytes memory factors) private {
        vm.prank(p.statement.aggregator);
        rounds.commitUpdates(id, number, root, count);
        draw(id, number);
        uint16 attempt = rounds.attemptsOf(id, number);
        bytes32 commitment =
            rounds.scoresCommitment(id, number, attempt, validator(0), factors, SALT);
        vm.prank(validator(0));
        rounds.commitScores(id, number, commitment);
        vm.prank(validator(0));
        rounds.revealScores(id, number, factors, SALT);
        isStage(id, number, Rounds.Stage.Settling);
    }

    function putSeed(bytes32 seed) private {
        bytes32 drawn = rounds.roundOf(id, round).seed;
        vm.record();
        rounds.roundOf(id, round);
        (bytes32[] memory reads,) = vm.accesses(address(rounds));
        for (uint256 i = 0; i < reads.length; ++i) {
            if (vm.load(address(rounds), reads[i]) == drawn) {
                vm.store(address(rounds), reads[i], seed);
            }
        }
        isTrue(rounds.roundOf(id, round).seed == seed, "seed");
    }

    function proven() private view returns (Rounds.Submission memory result) {
        result.checkpoint = p.statement.checkpoint;
        result.resultHash = p.statement.resultHash;
        (result.payouts, result.factors, result.proof) = (p.payouts, p.factors, p.proof);
        result.reveals = new bytes[](1);
        result.reveals[0] = p.factors;
    }

    function refuses(Rounds.Submission memory result) private {
        vm.prank(p.statement.aggregator);
        refused(IGroth16VerifierErrors.ProofRefused.selector);
        rounds.submitResult(id, round, result);
    }

    function cohort() private view returns (bytes32[] memory leaves) {
        leaves = new bytes32[](p.statement.updates);
        for (uint256 i = 0; i < leaves.length; ++i) {
            (address account,) = entry(i);
            bytes memory leaf = abi.encode(
                keccak256("convoke.cohort-leaf.v1"),
                block.chainid,
                address(tasks),
                id,
                round,
                account
            );
            leaves[i] = keccak256(abi.encode(keccak256(leaf)));
        }
    }

    function entry(uint256 i) private view returns (address account, bytes32 update) {
        bytes memory all = p.proof;
        uint256 offset = 294 + 116 * i;
        assembly ("memory-safe") {
            account := shr(96, mload(add(add(all, 0x20), offset)))
            update := mload(add(add(all, 0x34), offset))
        }
    }

    function payout(uint256 i) private view returns (address account, uint128 amount) {
        bytes memory all = p.payouts;
        uint256 offset = 36 * i;
        assembly ("memory-safe") {
            account := shr(96, mload(add(add(all, 0x20), offset)))
            amount := shr(128, mload(add(add(all, 0x34), offset)))
        }
    }

    function leavesOf(bytes memory payouts) private view returns (bytes32[] memory leaves) {
        leaves = new bytes32[](payouts.length / 36);
        for (uint256 i = 0; i < leaves.length; ++i) {
            (address account, uint128 amount) = payout(i);
            leaves[i] = tasks.payoutLeaf(id, round, account, amount);
        }
    }
}

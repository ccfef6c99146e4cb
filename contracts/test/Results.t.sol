// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IProofVerifier, IProofVerifierTypes} from "../src/interfaces/IProofVerifier.sol";
import {
    IRoundManagerErrors as Errors,
    IRoundManagerEvents as Events,
    IRoundManagerTypes as Rounds
} from "../src/interfaces/IRoundManager.sol";
import {ITaskManagerTypes as Tasks} from "../src/interfaces/ITaskManager.sol";
import {RoundBase} from "./helpers/RoundBase.sol";
import {Tree} from "./helpers/Tree.sol";
import {ExactVerifier, PickyVerifier, SlowVerifier} from "./helpers/Verifiers.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice Results, challenges, the closing evaluation, and tasks from beginning to end.
contract ResultsTest is RoundBase {
    // ---- The result ----

    function test_a_result() public {
        uint64 id = staffed(2);
        Rounds.Submission memory result = toSettling(id, 1, 3, 2);
        bytes32 root = Tree.root(payoutLeaves(id, 1, share(id, 1, 3)));
        uint128 total = 3 * share(id, 1, 3)[0];
        vm.expectEmit(address(rounds));
        emit Events.RoundSettled(
            id, 1, root, total, "checkpoint", "result", result.payouts, result.factors
        );
        submit(id, 1, result);

        Rounds.Round memory r = rounds.roundOf(id, 1);
        isStage(id, 1, Rounds.Stage.Settled);
        isTrue(r.payoutsRoot == root && r.checkpoint == "checkpoint", "hashes");
        equal(r.total, total, "total");
        uint128 pay = POOL * VALIDATORS_BPS / ONE / 2;
        equal(r.allotted, total + 2 * pay + fee(POOL), "allotted");
        equal(rounds.directPayOf(id, 1, validator(0)), pay, "pay");
        equal(rounds.directPayOf(id, 1, AGGREGATOR), fee(POOL), "fee");
        equal(rounds.directPayOf(id, 1, trainer(0)), 0, "no pay");
        equal(rounds.openRoundKey(id), 0, "key");
        (bytes32 settledRoot, uint128 settled, uint64 opensAt) = rounds.settlementOf(id, 1);
        isTrue(settledRoot == root && settled == total, "settlement");
        equal(opensAt, START + DISPUTE, "claimable");
        (,, opensAt) = rounds.settlementOf(id, 2);
        equal(opensAt, 0, "no result");
        equal(rounds.directPayOf(id, 2, AGGREGATOR), 0, "no result");
    }

    function test_results_are_refused() public {
        uint64 id = staffed(1);
        open(id, 1, 2);
        Rounds.Submission memory result;
        refusesStage(Rounds.Stage.Settling, Rounds.Stage.Training);
        submit(id, 1, result);
        vm.prank(AGGREGATOR);
        rounds.failRound(id, 1);
        setVerifier(IProofVerifier(address(0)));
        refused(Errors.NoProofVerifier.selector);
        open(id, 1, 2);
        setVerifier(new PickyVerifier());
        result = toSettling(id, 1, 2, 1);
        refusesOthers();
        rounds.submitResult(id, 1, result);
        result.proof = new bytes(64 * 1024 + 1);
        refused(abi.encodeWithSelector(Errors.ProofTooLong.selector, 65_536, 65_537));
        submit(id, 1, result);
        // Whoever is named now checks later attempts: nobody is caught by a change.
        setVerifier(IProofVerifier(address(0)));
        result.proof = "bad";
        refused(PickyVerifier.ProofRefused.selector);
        submit(id, 1, result);
        result.proof = "good";
        pass(SETTLE + 1);
        refused(abi.encodeWithSelector(Errors.StageOver.selector, block.timestamp - 1));
        submit(id, 1, result);
    }

    function test_payouts_are_checked() public {
        uint64 id = staffed(1);
        Rounds.Submission memory result = toSettling(id, 1, 2, 1);
        uint128 trainersPool = uint128(uint256(POOL) * 8_000 / ONE);
        uint128[] memory amounts = new uint128[](2);
        (amounts[0], amounts[1]) = (trainersPool, 1);
        result.payouts = pack(amounts);
        refused(
            abi.encodeWithSelector(Errors.PayoutsAbovePool.selector, trainersPool, trainersPool + 1)
        );
        submit(id, 1, result);
        (amounts[0], amounts[1]) = (type(uint128).max, type(uint128).max);
        result.payouts = pack(amounts);
        refused(
            abi.encodeWithSelector(
                Errors.PayoutsAbovePool.selector, trainersPool, 2 * uint256(type(uint128).max)
            )
        );
        submit(id, 1, result);
        (amounts[0], amounts[1]) = (1, 0);
        result.payouts = pack(amounts);
        refused(abi.encodeWithSelector(Errors.ZeroPayout.selector, 1));
        submit(id, 1, result);
        result.payouts = pack(new uint128[](3));
        refused(abi.encodeWithSelector(Errors.WrongPayoutsLength.selector, 108));
        submit(id, 1, result);
        result.payouts = new bytes(35);
        refused(abi.encodeWithSelector(Errors.WrongPayoutsLength.selector, 35));
        submit(id, 1, result);
        // A second payout could not be claimed, nor one to nobody.
        bytes memory once = abi.encodePacked(trainer(0), uint128(1));
        result.payouts = bytes.concat(once, abi.encodePacked(trainer(0), uint128(2)));
        refused(abi.encodeWithSelector(Errors.DuplicatePayout.selector, 1, trainer(0)));
        submit(id, 1, result);
        result.payouts = abi.encodePacked(address(0), uint128(2));
        refused(abi.encodeWithSelector(Errors.DuplicatePayout.selector, 0, address(0)));
        submit(id, 1, result);
        (amounts[0], amounts[1]) = (trainersPool - 1, 1);
        result.payouts = pack(amounts);
        submit(id, 1, result);
    }

    function test_a_round_may_pay_no_trainer() public {
        uint64 id = staffed(1);
        Rounds.Submission memory result = toSettling(id, 1, 2, 1);
        result.payouts = "";
        submit(id, 1, result);
        (bytes32 root, uint128 total,) = rounds.settlementOf(id, 1);
        isTrue(root == 0 && total == 0, "nothing");
        pass(DISPUTE);
        refused(abi.encodeWithSignature("InvalidProof(uint32,address,uint128)", 1, trainer(0), 0));
        tasks.claim(id, 1, trainer(0), 0, new bytes32[](0));
    }

    /// Neither may a reveal be left out, nor changed, nor made up, nor moved.
    function test_the_reveals_are_those_on_chain() public {
        uint64 id = staffed(2);
        toScoring(id, 1, 1);
        uint16[][] memory reveals = sameReveals(2, 1, ONE);
        reveals[1][0] = 9_000;
        score(id, 1, reveals);
        Rounds.Submission memory result = submission(id, 1, reveals, share(id, 1, 1));
        bytes[] memory honest = result.reveals;
        (bytes32 first, bytes32 second) = (keccak256(honest[0]), keccak256(honest[1]));

        result.reveals = new bytes[](1);
        result.reveals[0] = honest[0];
        refusesReveal(validator(1), second, 0);
        submit(id, 1, result);
        result.reveals = new bytes[](2);
        (result.reveals[0], result.reveals[1]) = (honest[1], honest[0]);
        refusesReveal(validator(0), first, second);
        submit(id, 1, result);
        result.reveals = new bytes[](3);
        (result.reveals[0], result.reveals[1]) = (honest[0], honest[1]);
        refusesReveal(address(0), 0, keccak256(""));
        submit(id, 1, result);
        result.reveals = honest;
        result.factors = encode(same(2, 9_000));
        refused(abi.encodeWithSelector(Errors.WrongFactorsLength.selector, 2, 4));
        submit(id, 1, result);
        result.factors = encode(same(1, ONE));
        refused(abi.encodeWithSelector(Errors.WrongMedian.selector, 0, ONE));
        submit(id, 1, result);
        result.factors = encode(same(1, 9_000));
        submit(id, 1, result);
    }

    function test_without_validators_all_factors_are_one() public {
        Tasks.TaskSpec memory spec = specification();
        spec.validatorsMin = 0;
        uint64 id = staffed(spec, 0);
        toScoring(id, 1, 2);
        Rounds.Submission memory result = submission(id, 1, new uint16[][](0), share(id, 1, 2));
        result.factors[3] = bytes1(uint8(result.factors[3]) + 1);
        refused(abi.encodeWithSelector(Errors.WrongMedian.selector, 1, ONE + 1));
        submit(id, 1, result);
        result.factors = encode(same(1, ONE));
        refused(abi.encodeWithSelector(Errors.WrongFactorsLength.selector, 4, 2));
        submit(id, 1, result);
        result.factors = encode(same(2, ONE));
        result.reveals = new bytes[](1);
        refusesReveal(address(0), 0, keccak256(""));
        submit(id, 1, result);
    }

    /// The verifier is told just what the contract pays by.
    function test_the_statement() public {
        Tasks.TaskSpec memory spec = specification();
        (spec.split, spec.proofMode) = (Tasks.SplitKind.Rank, Tasks.ProofMode.OnSubmission);
        uint64 id = staffed(spec, 1);
        open(id, 1, 3);
        commitOwn(id, 1, 2, 3);
        seal(id, 1, 2);
        draw(id, 1);
        uint16[][] memory reveals = sameReveals(1, 3, 8_000);
        score(id, 1, reveals);
        Rounds.Submission memory result = submission(id, 1, reveals, share(id, 1, 3));
        Rounds.Round memory r = rounds.roundOf(id, 1);
        IProofVerifierTypes.Statement memory statement = IProofVerifierTypes.Statement({
            task: id,
            round: 1,
            attempt: 1,
            aggregator: AGGREGATOR,
            updatesRoot: UPDATES_ROOT,
            ownCommitments: r.ownCommitments,
            updates: 3,
            seed: r.seed,
            trainersPool: uint128(uint256(POOL) * 8_000 / ONE),
            split: 1,
            rankDecayBps: 9_000,
            checkpoint: "checkpoint",
            resultHash: "result"
        });
        bytes32 expected =
            keccak256(abi.encode(statement, result.factors, result.payouts, result.proof));
        setVerifier(new ExactVerifier(expected));
        submit(id, 1, result);
    }

    // ---- Challenges ----

    function test_a_result_whose_proof_fails_is_voided() public {
        (uint64 id, Rounds.Submission memory result) = disputed("bad");
        uint256 before = token.balanceOf(ANYONE);
        vm.expectEmit(address(rounds));
        emit Events.ResultVoided(id, 1, ANYONE);
        vm.prank(ANYONE);
        rounds.challengeResult(id, 1, result.payouts, result.factors, result.proof);

        isStage(id, 1, Rounds.Stage.None);
        equal(token.balanceOf(ANYONE) - before, AGGREGATOR_STAKE / 10 / 5, "reporter");
        (, uint128 left) = stakes.stakeOf(id, AGGREGATOR);
        equal(left, AGGREGATOR_STAKE - AGGREGATOR_STAKE / 10, "stake");
        Tasks.TaskRecord memory record = tasks.task(id);
        equal(record.allotted, 0, "allotted");
        equal(record.roundsSettled, 0, "settled");
        equal(record.escrowed, REWARD + AGGREGATOR_STAKE / 10 * 4 / 5, "escrow");
        equal(rounds.directPayOf(id, 1, AGGREGATOR), 0, "fee");
        conserved(id);

        // Voided once, and open to another attempt.
        refusesStage(Rounds.Stage.Settled, Rounds.Stage.None);
        rounds.challengeResult(id, 1, result.payouts, result.factors, result.proof);
        stake(id, AGGREGATOR, 2, AGGREGATOR_STAKE / 10);
        play(id, 1, 1, 1);
        equal(rounds.attemptsOf(id, 1), 2, "attempts");
        pass(DISPUTE);
        tasks.claimDirect(id, 1, AGGREGATOR);
        conserved(id);
    }

    function test_a_proof_that_holds_is_no_ground() public {
        (uint64 id, Rounds.Submission memory result) = disputed("good");
        refused(Errors.ProofHolds.selector);
        rounds.challengeResult(id, 1, result.payouts, result.factors, result.proof);
    }

    function test_only_what_was_submitted_is_challenged() public {
        (uint64 id, Rounds.Submission memory result) = disputed("good");
        bytes32 there = rounds.roundOf(id, 1).submissionHash;
        bytes32 got = keccak256(
            abi.encode(keccak256(result.payouts), keccak256(result.factors), keccak256("bad"))
        );
        refused(abi.encodeWithSelector(Errors.NotTheSubmission.selector, there, got));
        rounds.challengeResult(id, 1, result.payouts, result.factors, "bad");
    }

    function test_no_challenge_after_the_window() public {
        (uint64 id, Rounds.Submission memory result) = disputed("bad");
        pass(DISPUTE);
        refused(abi.encodeWithSelector(Errors.DisputeWindowClosed.selector, block.timestamp));
        rounds.challengeResult(id, 1, result.payouts, result.factors, result.proof);
    }

    function test_no_challenge_where_proofs_were_checked() public {
        uint64 id = staffed(1);
        play(id, 1, 1, 1);
        refused(abi.encodeWithSelector(Errors.NotChallengeable.selector, id));
        rounds.challengeResult(id, 1, "", "", "");
    }

    /// The verifier in charge when the result came decides, not one named later.
    function test_a_new_verifier_judges_no_old_result() public {
        (uint64 id, Rounds.Submission memory result) = disputed("good");
        setVerifier(new ExactVerifier(0));
        refused(Errors.ProofHolds.selector);
        rounds.challengeResult(id, 1, result.payouts, result.factors, result.proof);
    }

    /// A challenger cannot make a proof fail by sending too little gas, whatever it sends.
    function test_a_challenge_with_too_little_gas_changes_nothing() public {
        setVerifier(new SlowVerifier());
        (uint64 id, Rounds.Submission memory result) = disputed("good");
        bytes memory call = abi.encodeCall(
            rounds.challengeResult, (id, 1, result.payouts, result.factors, result.proof)
        );
        bool seenLow = false;
        for (uint256 gas = 2_800_000; gas < 3_400_000; gas += 20_000) {
            (bool done, bytes memory answer) = address(rounds).call{gas: gas}(call);
            isTrue(!done, "voided");
            bool isLow = bytes4(answer) == Errors.GasTooLow.selector;
            seenLow = seenLow || isLow;
            isTrue(isLow || bytes4(answer) == Errors.ProofHolds.selector, "reason");
        }
        isTrue(seenLow, "too little");
        isStage(id, 1, Rounds.Stage.Settled);
    }

    /// An aggregator without stake cannot be slashed; its result is voided all the same.
    function test_voiding_needs_no_stake() public {
        Tasks.TaskSpec memory spec = specification();
        (spec.aggregatorStakeMin, spec.proofMode) = (0, Tasks.ProofMode.OnChallenge);
        uint64 id = staffed(spec, 1);
        Rounds.Submission memory result = toSettling(id, 1, 1, 1);
        result.proof = "bad";
        submit(id, 1, result);
        rounds.challengeResult(id, 1, result.payouts, result.factors, result.proof);
        isStage(id, 1, Rounds.Stage.None);
    }

    /// An aggregator that asks for its stake while the round is open gets it too late.
    function test_the_stake_outlasts_the_dispute() public {
        Tasks.TaskSpec memory spec = specification();
        spec.proofMode = Tasks.ProofMode.OnChallenge;
        spec.trainWindow = UNBONDING;
        uint64 id = staffed(spec, 1);
        open(id, 1, 1);
        vm.prank(AGGREGATOR);
        stakes.requestWithdrawal(id, AGGREGATOR_STAKE);
        pass(UNBONDING);
        seal(id, 1, 1);
        draw(id, 1);
        score(id, 1, sameReveals(1, 1, ONE));
        uint16[][] memory reveals = sameReveals(1, 1, ONE);
        Rounds.Submission memory result = submission(id, 1, reveals, share(id, 1, 1));
        result.proof = "bad";
        submit(id, 1, result);
        vm.prank(AGGREGATOR);
        refused(abi.encodeWithSignature("StillUnbonding(uint64)", block.timestamp + DISPUTE));
        stakes.withdraw(id);
        rounds.challengeResult(id, 1, result.payouts, result.factors, result.proof);
        equal(stakes.stakeRecord(id, AGGREGATOR).unbonding, AGGREGATOR_STAKE * 9 / 10, "slashed");
    }

    /// A task that ended by time-out while its newest result could be disputed.
    function test_a_result_is_voided_even_after_the_task_was_aborted() public {
        Tasks.TaskSpec memory spec = specification();
        spec.proofMode = Tasks.ProofMode.OnChallenge;
        uint64 id = staffed(spec, 1);
        play(id, 1, 1, 1);
        pass(DISPUTE);
        Rounds.Submission memory result = toSettling(id, 2, 1, 1);
        result.proof = "bad";
        submit(id, 2, result);
        rounds.challengeResult(id, 2, result.payouts, result.factors, result.proof);
        pass(TIMEOUT);
        tasks.tick(id);
        isState(id, Tasks.TaskState.Aborted);
        takeAllOut(id, 1, 1);
    }

    // ---- The closing evaluation ----

    function test_the_median_decides_what_is_released() public {
        uint64 id = toClosing(3);
        uint32 round = ROUNDS + 1;
        Rounds.Round memory r = rounds.roundOf(id, round);
        isStage(id, round, Rounds.Stage.Scoring);
        isTrue(r.base == "checkpoint", "base");
        equal(r.updates, 1, "one factor");
        uint16[][] memory reveals = sameReveals(3, 1, 0);
        (reveals[0][0], reveals[1][0], reveals[2][0]) = (9_000, 100, 4_000);
        score(id, round, reveals);
        isState(id, Tasks.TaskState.Finished);
        equal(tasks.task(id).releaseBps, 4_000, "released");
        isStage(id, round, Rounds.Stage.Settled);
        equal(rounds.openRoundKey(id), 0, "key");
        // Nothing can be claimed or disputed there.
        equal(rounds.directPayOf(id, round, AGGREGATOR), 0, "no fee");
        refused(abi.encodeWithSignature("NothingToClaim(uint32,address)", round, AGGREGATOR));
        tasks.claimDirect(id, round, AGGREGATOR);
        takeAllOut(id, 2, 3);
    }

    function test_no_release_is_above_all() public {
        uint64 id = toClosing(1);
        commitScores(id, ROUNDS + 1, 0, same(1, ONE + 1));
        refused(abi.encodeWithSelector(Errors.FactorTooHigh.selector, ONE, ONE + 1));
        reveal(id, ROUNDS + 1, 0, same(1, ONE + 1));
    }

    function test_silence_in_scoring_releases_all() public {
        uint64 id = toClosing(2);
        pass(SCORE + 1);
        tasks.tick(id);
        isState(id, Tasks.TaskState.Finished);
        equal(tasks.task(id).releaseBps, ONE, "released");
        takeAllOut(id, 2, 2);
    }

    function test_silence_in_revealing_releases_all() public {
        uint64 id = toClosing(2);
        commitScores(id, ROUNDS + 1, 0, same(1, 0));
        pass(SCORE + 1);
        rounds.tick(id);
        isStage(id, ROUNDS + 1, Rounds.Stage.Revealing);
        pass(SCORE + 1);
        rounds.tick(id);
        isState(id, Tasks.TaskState.Finished);
        equal(tasks.task(id).releaseBps, ONE, "released");
        takeAllOut(id, 2, 2);
    }

    function test_who_does_not_reveal_has_no_say_in_the_closing() public {
        uint64 id = toClosing(3);
        for (uint256 v = 0; v < 3; ++v) {
            commitScores(id, ROUNDS + 1, v, same(1, uint16(1_000 * v)));
        }
        reveal(id, ROUNDS + 1, 2, same(1, 2_000));
        pass(SCORE + 1);
        rounds.tick(id);
        equal(tasks.task(id).releaseBps, 2_000, "released");
    }

    function test_without_vesting_there_is_no_closing_evaluation() public {
        Tasks.TaskSpec memory spec = specification();
        (spec.rounds, spec.vestingBps) = (1, 0);
        uint64 id = staffed(spec, 1);
        play(id, 1, 2, 1);
        tasks.finish(id);
        isState(id, Tasks.TaskState.Finished);
        takeAllOut(id, 2, 1);
    }

    // ---- Whole tasks ----

    function test_whole_tasks_in_both_proof_modes() public {
        uint16[4] memory trainers = [uint16(1), 2, 7, 20];
        for (uint256 i = 0; i < trainers.length; ++i) {
            for (uint256 validators = 1; validators < 5; validators += 3) {
                Tasks.TaskSpec memory spec = specification();
                spec.proofMode = Tasks.ProofMode(i % 2);
                uint64 id = staffed(spec, validators);
                for (uint32 round = 1; round <= ROUNDS; ++round) {
                    play(id, round, trainers[i], validators);
                    pass(DISPUTE);
                }
                tasks.finish(id);
                score(id, ROUNDS + 1, sameReveals(validators, 1, 8_000));
                isState(id, Tasks.TaskState.Finished);
                takeAllOut(id, trainers[i], validators);
            }
        }
    }

    /// Everyone goes silent at each stage in turn: the task ends within its time-out, and all
    /// money comes out.
    function test_silence_at_any_stage_holds_nobody() public {
        for (uint256 step = 0; step < 7; ++step) {
            uint64 id = staffed(2);
            uint256 began = block.timestamp;
            play(id, 1, 2, 2);
            began = block.timestamp;
            if (step > 0) open(id, 2, 2);
            if (step > 1) seal(id, 2, 2);
            if (step > 2) draw(id, 2);
            if (step > 3) commitScores(id, 2, 0, same(2, ONE));
            if (step > 4) commitScores(id, 2, 1, same(2, ONE));
            if (step > 5) {
                reveal(id, 2, 0, same(2, ONE));
                reveal(id, 2, 1, same(2, ONE));
            }
            end(id);
            isState(id, Tasks.TaskState.Aborted);
            isTrue(block.timestamp <= began + TIMEOUT + 1, "in time");
            equal(rounds.openRoundKey(id), 0, "no open round");
            takeAllOut(id, 2, 2);
        }
    }

    function test_silence_after_the_last_result_holds_nobody() public {
        uint64 id = staffed(2);
        play(id, 1, 2, 2);
        play(id, 2, 2, 2);
        uint256 began = block.timestamp;
        end(id);
        isState(id, Tasks.TaskState.Finished);
        isTrue(block.timestamp <= began + DISPUTE + 2 * SCORE + 2, "in time");
        takeAllOut(id, 2, 2);
    }

    /// One who only ever commits costs time, not the round.
    function test_a_validator_that_never_reveals_loses_its_pay_alone() public {
        uint64 id = staffed(2);
        toScoring(id, 1, 2);
        commitScores(id, 1, 0, same(2, ONE));
        commitScores(id, 1, 1, same(2, ONE));
        reveal(id, 1, 0, same(2, ONE));
        pass(SCORE + 1);
        rounds.tick(id);
        uint16[][] memory reveals = sameReveals(1, 2, ONE);
        submit(id, 1, submission(id, 1, reveals, share(id, 1, 2)));
        equal(rounds.directPayOf(id, 1, validator(1)), 0, "silent");
        (, uint128 left) = stakes.stakeOf(id, validator(1));
        equal(left, VALIDATOR_STAKE, "stake");
        end(id);
        takeAllOut(id, 2, 2);
    }

    /// An aggregator that is a validator, too, is paid for both.
    function test_fee_and_validators_pay_of_one_account_add_up() public {
        Tasks.TaskSpec memory spec = specification();
        spec.aggregatorStakeMin = 0;
        uint64 id = create(spec);
        stake(id, AGGREGATOR, 1, VALIDATOR_STAKE);
        toScoring(id, 1, 1);
        bytes memory factors = encode(same(1, ONE));
        bytes32 commitment = rounds.scoresCommitment(id, 1, 1, AGGREGATOR, factors, SALT);
        vm.prank(AGGREGATOR);
        rounds.commitScores(id, 1, commitment);
        vm.prank(AGGREGATOR);
        rounds.revealScores(id, 1, factors, SALT);
        Rounds.Submission memory result;
        (result.factors, result.reveals) = (factors, new bytes[](1));
        result.reveals[0] = factors;
        submit(id, 1, result);
        uint128 pay = POOL * VALIDATORS_BPS / ONE;
        equal(rounds.directPayOf(id, 1, AGGREGATOR), fee(POOL) + pay, "pay");
        equal(rounds.roundOf(id, 1).allotted, fee(POOL) + pay, "allotted");
    }
}

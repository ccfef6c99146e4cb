// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {
    ITaskManagerErrors as Errors,
    ITaskManagerEvents,
    ITaskManagerTypes as Types
} from "../src/interfaces/ITaskManager.sol";
import {RoundsDouble, TaskBase} from "./helpers/TaskBase.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice Every way a task can end, whoever falls silent, and what goes back to its creator.
contract TaskEndsTest is TaskBase, ITaskManagerEvents {
    // ---- Finish and closing ----

    function test_finish_opens_the_closing_evaluation() public {
        uint64 id = newTask();
        refused(abi.encodeWithSelector(Errors.RoundsRemaining.selector, 0, ROUNDS));
        tasks.finish(id);
        settleEmpty(id, 1, ROUNDS);
        vm.expectEmit(address(tasks));
        emit TaskClosing(id);
        vm.prank(ANYONE);
        tasks.finish(id);
        inState(id, Types.TaskState.Closing);
        isTrue(rounds.standing(id).closingOpened, "asked for scores");
        equal(tasks.task(id).endedAt, 0, "not over yet");
        (bool active,,) = tasks.stakeTerms(id, 0);
        isTrue(!active, "nobody joins any more");

        refused(wrongState(id, Types.TaskState.Closing));
        tasks.refund(id);
        refused(abi.encodeWithSelector(Errors.NothingDue.selector, id));
        tasks.tick(id);
        vm.expectEmit(address(tasks));
        emit TaskFinished(id, 9_000);
        rounds.close(id, 9_000);
        inState(id, Types.TaskState.Finished);
        equal(tasks.task(id).releaseBps, 9_000, "release");
        equal(tasks.task(id).endedAt, block.timestamp, "over");
    }

    function test_finish_needs_no_closing_where_nothing_vests() public {
        Types.TaskSpec memory spec = specification();
        spec.vestingBps = 0;
        uint64 id = create(spec);
        settleEmpty(id, 1, ROUNDS);
        vm.expectEmit(address(tasks));
        emit TaskFinished(id, WHOLE);
        tasks.finish(id);
        inState(id, Types.TaskState.Finished);
        isTrue(!rounds.standing(id).closingOpened, "nobody is asked");
    }

    function test_finish_needs_no_closing_where_nobody_could_speak() public {
        Types.TaskSpec memory spec = specification();
        spec.validatorsMin = 0;
        uint64 id = create(spec);
        settle(id, 1, 0, 0, 40);
        rounds.setDirect(id, 1, ALICE, 40);
        settleEmpty(id, 2, ROUNDS);
        tasks.finish(id);
        inState(id, Types.TaskState.Finished);
        pass(WINDOW);
        equal(tasks.claimDirect(id, 1, ALICE), 30, "now");
        equal(tasks.releaseVested(id, ALICE), 10, "all of the rest");
        conserved(id);
    }

    function test_finish_waits_while_the_last_result_can_be_challenged() public {
        uint64 id = create(challengeable());
        settleEmpty(id, 1, ROUNDS);
        refused(abi.encodeWithSelector(Errors.ResultDisputable.selector, START + WINDOW));
        tasks.finish(id);
        refused(abi.encodeWithSelector(Errors.NothingDue.selector, id));
        tasks.tick(id);
        pass(WINDOW - 1);
        refused(abi.encodeWithSelector(Errors.ResultDisputable.selector, START + WINDOW));
        tasks.finish(id);
        pass(1);
        tasks.finish(id);
        inState(id, Types.TaskState.Closing);
    }

    function test_finish_does_not_wait_for_what_was_proven_on_submission() public {
        uint64 id = newTask();
        (bytes32[] memory alice,) = settleTwo(id, 1, 40, 4, 44);
        settleEmpty(id, 2, ROUNDS);
        tasks.finish(id);
        rounds.close(id, WHOLE);
        tasks.refund(id);
        // The end changes nothing about when claims open.
        refused(abi.encodeWithSelector(Errors.DisputeWindowOpen.selector, START + WINDOW));
        tasks.claim(id, 1, ALICE, 40, alice);
        pass(WINDOW);
        tasks.claim(id, 1, ALICE, 40, alice);
        conserved(id);
    }

    function test_a_task_of_one_round() public {
        Types.TaskSpec memory spec = specification();
        (spec.rounds, spec.reward) = (1, 1);
        uint64 id = create(spec);
        equal(rounds.open(id, 1), 1, "one unit is enough");
        rounds.setDirect(id, 1, ALICE, 1);
        rounds.settle(id, 1, 0, 0, 1, uint64(block.timestamp));
        // Rounded down: the whole unit vests.
        equal(tasks.claimDirect(id, 1, ALICE), 0, "now");
        equal(stakes.bookings(), 0, "nothing is not booked");
        tasks.finish(id);
        rounds.close(id, 9_999);
        equal(tasks.releaseVested(id, ALICE), 0, "released");
        equal(tasks.refund(id), 1, "forfeited by rounding");
        equal(token.balanceOf(address(tasks)), 0, "nothing is left");
        conserved(id);
    }

    function test_what_each_state_forbids() public {
        for (uint256 s = 2; s <= uint256(Types.TaskState.Cancelled); ++s) {
            Types.TaskState got = Types.TaskState(s);
            uint64 id = taskIn(got);
            bytes memory reason = wrongState(id, got);
            refused(reason);
            tasks.finish(id);
            refused(reason);
            vm.prank(CREATOR);
            tasks.cancel(id);
            refused(reason);
            vm.prank(ANYONE);
            tasks.fund(id, 1);
            refused(abi.encodeWithSelector(Errors.NothingDue.selector, id));
            tasks.tick(id);
            refused(reason);
            rounds.open(id, 1);
            refused(reason);
            rounds.settle(id, 1, 0, 0, 0, 1);
            if (got != Types.TaskState.Aborted) {
                refused(reason);
                rounds.void_(id, 1, 0);
            }
            if (got != Types.TaskState.Closing) {
                refused(reason);
                rounds.close(id, 0);
                (bool active,,) = tasks.stakeTerms(id, 1);
                isTrue(!active, "nobody joins what is over");
                continue;
            }
            refused(reason);
            tasks.releaseVested(id, ALICE);
        }
    }

    // ---- The creator or everybody vanishes ----

    function test_anyone_can_see_a_task_through_for_a_vanished_creator() public {
        uint64 id = newTask();
        settle(id, 1, 0, 0, 40);
        settleEmpty(id, 2, ROUNDS);
        uint256 before = token.balanceOf(CREATOR);
        vm.prank(ANYONE);
        tasks.tick(id);
        rounds.setDue(id, RoundsDouble.Due.Close, WHOLE);
        vm.prank(ANYONE);
        tasks.tick(id);
        vm.prank(ANYONE);
        tasks.refund(id);
        equal(token.balanceOf(CREATOR) - before, REWARD - 40, "the creator is paid all the same");
        conserved(id);
    }

    function test_a_task_that_nobody_ever_worked_on_ends() public {
        uint64 id = newTask();
        pass(TIMEOUT);
        vm.prank(ANYONE);
        tasks.tick(id);
        inState(id, Types.TaskState.Aborted);
        equal(tasks.refund(id), REWARD, "refund");
        conserved(id);
    }

    // ---- The aggregator vanishes ----

    function test_tick_aborts_after_the_round_timeout_and_closes_the_round() public {
        uint64 id = newTask();
        settle(id, 1, 0, 0, 0);
        rounds.open(id, 2);
        pass(TIMEOUT - 1);
        refused(abi.encodeWithSelector(Errors.NothingDue.selector, id));
        tasks.tick(id);
        pass(1);
        vm.expectEmit(address(tasks));
        emit TaskAborted(id, 1);
        vm.prank(ANYONE);
        tasks.tick(id);
        inState(id, Types.TaskState.Aborted);
        equal(tasks.task(id).endedAt, block.timestamp, "over");
        isTrue(rounds.standing(id).roundsClosed, "round closed");
        equal(tasks.refund(id), REWARD, "everything goes back");
        conserved(id);
    }

    function test_progress_renews_the_round_timeout() public {
        uint64 id = newTask();
        pass(TIMEOUT - 1);
        settle(id, 1, 0, 0, 0);
        pass(TIMEOUT - 1);
        refused(abi.encodeWithSelector(Errors.NothingDue.selector, id));
        tasks.tick(id);
        // Neither an opening nor a top-up is progress.
        rounds.open(id, 2);
        vm.prank(ANYONE);
        tasks.fund(id, 1);
        pass(1);
        tasks.tick(id);
        inState(id, Types.TaskState.Aborted);
    }

    function test_tick_aborts_when_the_attempts_are_used_up() public {
        uint64 id = newTask();
        rounds.open(id, 1);
        rounds.fail(id, ATTEMPTS - 1);
        refused(abi.encodeWithSelector(Errors.NothingDue.selector, id));
        tasks.tick(id);
        rounds.fail(id, ATTEMPTS);
        tasks.tick(id);
        inState(id, Types.TaskState.Aborted);
    }

    function test_the_last_attempt_is_waited_for_and_its_failure_ends_the_task() public {
        uint64 id = newTask();
        rounds.open(id, 1);
        rounds.setAttempts(id, ATTEMPTS);
        refused(abi.encodeWithSelector(Errors.NothingDue.selector, id));
        tasks.tick(id);
        rounds.setDue(id, RoundsDouble.Due.Failure, 0);
        tasks.tick(id);
        inState(id, Types.TaskState.Aborted);
    }

    function test_a_failed_attempt_does_not_end_a_task_with_more() public {
        uint64 id = newTask();
        rounds.open(id, 1);
        rounds.setAttempts(id, ATTEMPTS - 1);
        rounds.setDue(id, RoundsDouble.Due.Failure, 0);
        tasks.tick(id);
        inState(id, Types.TaskState.Active);
        equal(rounds.open(id, 1), POOL, "tried again");
    }

    function test_tick_moves_the_round_first() public {
        uint64 id = newTask();
        rounds.open(id, 1);
        rounds.setDue(id, RoundsDouble.Due.Move, 0);
        tasks.tick(id);
        isTrue(rounds.standing(id).due == RoundsDouble.Due.Nothing, "moved on");
        inState(id, Types.TaskState.Active);
        // A stage that keeps moving does not put the end off.
        rounds.setDue(id, RoundsDouble.Due.Move, 0);
        pass(TIMEOUT);
        tasks.tick(id);
        inState(id, Types.TaskState.Aborted);
    }

    function test_tick_finishes_a_task_whose_work_is_done_whatever_the_time() public {
        uint64 id = newTask();
        settleEmpty(id, 1, ROUNDS);
        pass(100 * TIMEOUT);
        tasks.tick(id);
        inState(id, Types.TaskState.Closing);
    }

    function test_no_timeout_takes_the_end_from_a_task_that_waits_for_a_dispute() public {
        uint64 id = create(challengeable());
        settleEmpty(id, 1, ROUNDS - 1);
        rounds.open(id, ROUNDS);
        uint64 until = uint64(block.timestamp) + 2 * TIMEOUT;
        rounds.settle(id, ROUNDS, 0, 0, 0, until);
        pass(2 * TIMEOUT - 1);
        refused(abi.encodeWithSelector(Errors.NothingDue.selector, id));
        tasks.tick(id);
        pass(1);
        tasks.tick(id);
        inState(id, Types.TaskState.Closing);
    }

    // ---- The validators vanish ----

    function test_tick_moves_the_closing_evaluation_on_and_ends_it() public {
        uint64 id = taskIn(Types.TaskState.Closing);
        rounds.setDue(id, RoundsDouble.Due.Move, 0);
        tasks.tick(id);
        inState(id, Types.TaskState.Closing);
        // However late: there is no time-out above the evaluation's own.
        pass(100 * TIMEOUT);
        refused(abi.encodeWithSelector(Errors.NothingDue.selector, id));
        tasks.tick(id);
        rounds.setDue(id, RoundsDouble.Due.Close, 7_000);
        vm.expectEmit(address(tasks));
        emit TaskFinished(id, 7_000);
        tasks.tick(id);
        inState(id, Types.TaskState.Finished);
        equal(tasks.refund(id), REWARD, "refund");
        conserved(id);
    }

    // ---- Results that do not stand ----

    function test_a_voided_result_takes_its_round_back() public {
        uint64 id = newTask();
        settle(id, 1, 0, 60, 40);
        equal(tasks.task(id).allotted, 100, "allotted");
        rounds.void_(id, 1, 100);
        equal(tasks.task(id).allotted, 0, "nothing allotted");
        equal(tasks.task(id).roundsSettled, 0, "not settled");
        equal(rounds.open(id, 1), POOL, "the same pool again");
        pass(TIMEOUT);
        tasks.tick(id);
        equal(tasks.refund(id), REWARD, "refund");
        conserved(id);
    }

    function test_nothing_of_a_voided_result_is_paid() public {
        uint64 id = create(challengeable());
        (bytes32[] memory alice,) = settleTwo(id, 1, 60, 40, 100);
        rounds.setDirect(id, 1, BOB, 7);
        pass(WINDOW - 1);
        refused(abi.encodeWithSelector(Errors.DisputeWindowOpen.selector, START + WINDOW));
        tasks.claim(id, 1, ALICE, 60, alice);
        rounds.void_(id, 1, 100);
        pass(1);
        refused(abi.encodeWithSelector(Errors.RoundNotSettled.selector, id, 1));
        tasks.claim(id, 1, ALICE, 60, alice);
        refused(abi.encodeWithSelector(Errors.RoundNotSettled.selector, id, 1));
        tasks.claimDirect(id, 1, BOB);
        // A later attempt pays as if there had been none before.
        (alice,) = settleTwo(id, 1, 30, 20, 50);
        pass(WINDOW);
        tasks.claim(id, 1, ALICE, 30, alice);
        conserved(id);
    }

    function test_a_task_whose_last_result_is_voided_goes_on() public {
        uint64 id = create(challengeable());
        settleEmpty(id, 1, ROUNDS);
        rounds.void_(id, ROUNDS, 0);
        pass(WINDOW);
        refused(abi.encodeWithSelector(Errors.RoundsRemaining.selector, ROUNDS - 1, ROUNDS));
        tasks.finish(id);
        refused(abi.encodeWithSelector(Errors.NothingDue.selector, id));
        tasks.tick(id);
        settleEmpty(id, ROUNDS, ROUNDS);
        pass(WINDOW);
        tasks.tick(id);
        inState(id, Types.TaskState.Closing);
    }

    function test_a_result_can_be_voided_after_its_task_was_aborted() public {
        uint64 id = create(challengeable());
        settle(id, 1, 0, 60, 40);
        rounds.fail(id, ATTEMPTS);
        tasks.tick(id);
        equal(tasks.refund(id), REWARD - 100, "refund");
        rounds.void_(id, 1, 100);
        equal(tasks.refund(id), 100, "the rest");
        equal(token.balanceOf(address(tasks)), 0, "nothing is left");
        conserved(id);
    }

    function test_no_result_allots_more_than_its_pool() public {
        uint64 id = newTask();
        rounds.open(id, 1);
        vm.prank(ANYONE);
        tasks.fund(id, 3_000);
        refused(abi.encodeWithSelector(Errors.ResultAbovePool.selector, POOL, POOL + 1));
        rounds.settle(id, 1, 0, 0, POOL + 1, 1);
        refused(abi.encodeWithSelector(Errors.ResultAbovePool.selector, 0, 1));
        rounds.settle(id, 2, 0, 0, 1, 1);
        rounds.settle(id, 1, 0, 0, POOL, 1);
        equal(tasks.task(id).allotted, POOL, "the whole pool");
    }

    // ---- Refund ----

    function test_refund_pays_what_no_round_was_allotted_once() public {
        uint64 id = newTask();
        settle(id, 1, 0, 60, 40);
        pass(TIMEOUT);
        refused(wrongState(id, Types.TaskState.Active));
        tasks.refund(id);
        tasks.tick(id);
        vm.expectEmit(address(tasks));
        emit TaskRefunded(id, CREATOR, REWARD - 100);
        vm.prank(ANYONE);
        equal(tasks.refund(id), REWARD - 100, "refund");
        refused(abi.encodeWithSelector(Errors.NothingToRefund.selector, id));
        tasks.refund(id);
        conserved(id);
    }

    function test_penalties_reach_the_creator_whatever_the_state() public {
        for (uint256 s = 1; s <= uint256(Types.TaskState.Cancelled); ++s) {
            Types.TaskState got = Types.TaskState(s);
            uint64 id = taskIn(got);
            uint128 before = tasks.refundableOf(id);
            require(token.transfer(address(stakes), 9));
            stakes.penalize(tasks, id, 9);
            equal(tasks.refundableOf(id), before + 9, "refundable");
            if (got > Types.TaskState.Closing) equal(tasks.refund(id), before + 9, "refund");
            conserved(id);
        }
    }

    // ---- Helpers ----

    function challengeable() private pure returns (Types.TaskSpec memory spec) {
        spec = specification();
        spec.proofMode = Types.ProofMode.OnChallenge;
    }

    /// @dev A task without any payout that got into a state by the shortest way.
    function taskIn(Types.TaskState wanted) private returns (uint64 id) {
        id = newTask();
        if (wanted == Types.TaskState.Cancelled) {
            vm.prank(CREATOR);
            tasks.cancel(id);
        } else if (wanted == Types.TaskState.Aborted) {
            pass(TIMEOUT);
            tasks.tick(id);
        } else if (wanted != Types.TaskState.Active) {
            settleEmpty(id, 1, ROUNDS);
            tasks.finish(id);
            if (wanted == Types.TaskState.Finished) rounds.close(id, WHOLE);
        }
        inState(id, wanted);
    }
}

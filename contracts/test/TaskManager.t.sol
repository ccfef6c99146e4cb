// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ConvokeToken} from "../src/ConvokeToken.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {TaskManager} from "../src/TaskManager.sol";
import {
    ITaskManagerErrors as Errors,
    ITaskManagerEvents,
    ITaskManagerTypes as Types
} from "../src/interfaces/ITaskManager.sol";
import {BaseTest} from "./helpers/Base.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice The life of a task: create, settle, finish, abort, cancel, refund.
contract TaskManagerTest is BaseTest, ITaskManagerEvents {
    // ---- Creation ----

    function test_constructor_refuses_a_stake_manager_of_another_token() public {
        StakeManager foreign = new StakeManager(new ConvokeToken(1), UNBONDING);
        refused(abi.encodeWithSelector(Errors.ForeignStakeManager.selector, foreign));
        new TaskManager(token, foreign);
    }

    function test_create_pulls_the_reward_and_logs_the_file() public {
        uint256 before = token.balanceOf(CREATOR);
        vm.expectEmit(address(tasks));
        emit TaskCreated(1, CREATOR, AGGREGATOR, REWARD, keccak256("file"), "file");
        vm.prank(CREATOR);
        uint64 id = tasks.createTask(specification(), "file");
        equal(id, 1, "first id");
        equal(tasks.taskCount(), 1, "count");
        equal(token.balanceOf(CREATOR), before - REWARD, "creator");
        Types.TaskRecord memory record = tasks.task(id);
        isTrue(record.taskFileHash == keccak256("file"), "hash");
        isTrue(record.creator == CREATOR && record.aggregator == AGGREGATOR, "people");
        isTrue(record.state == Types.TaskState.Active, "state");
        equal(record.lastProgressAt, START, "progress");
        equal(record.createdBlock, block.number, "block");
        equal(tasks.roundPoolDown(id), POOL, "pool");
        conserved(id);
    }

    function test_create_refuses_values_out_of_range() public {
        Types.TaskSpec memory spec = specification();
        spec.aggregator = address(0);
        createRefused(spec, abi.encodeWithSelector(Errors.AggregatorMissing.selector));

        spec = specification();
        spec.rounds = 0;
        createRefused(spec, abi.encodeWithSelector(Errors.RoundsOutOfRange.selector, 10_000, 0));
        spec.rounds = 10_001;
        createRefused(
            spec, abi.encodeWithSelector(Errors.RoundsOutOfRange.selector, 10_000, 10_001)
        );

        spec = specification();
        spec.reward = spec.rounds - 1;
        createRefused(
            spec, abi.encodeWithSelector(Errors.RewardTooSmall.selector, ROUNDS, ROUNDS - 1)
        );

        spec = specification();
        spec.vestingBps = 9_001;
        createRefused(spec, abi.encodeWithSelector(Errors.VestingTooHigh.selector, 9_000, 9_001));
    }

    function test_create_refuses_windows_out_of_range() public {
        uint32 year = tasks.WINDOW_SECONDS_MAX();
        Types.TaskSpec memory spec = specification();
        spec.roundTimeout = 0;
        createRefused(spec, outOfRange(1, year, 0));
        spec.roundTimeout = year + 1;
        createRefused(spec, outOfRange(1, year, year + 1));

        spec = specification();
        spec.vestingDuration = year + 1;
        createRefused(spec, outOfRange(0, year, year + 1));

        spec = specification();
        spec.disputeWindow = UNBONDING + 1;
        createRefused(spec, outOfRange(0, UNBONDING, UNBONDING + 1));
    }

    function test_create_takes_16_kibibytes_of_file_and_no_more() public {
        vm.prank(CREATOR);
        tasks.createTask(specification(), new bytes(16_384));
        vm.prank(CREATOR);
        refused(abi.encodeWithSelector(Errors.TaskFileTooLong.selector, 16_384, 16_385));
        tasks.createTask(specification(), new bytes(16_385));
    }

    function test_views_of_an_unknown_task() public {
        bytes memory unknown = abi.encodeWithSelector(Errors.UnknownTask.selector, 7);
        refused(unknown);
        tasks.task(7);
        refused(unknown);
        tasks.balances(7);
        refused(unknown);
        tasks.roundPoolDown(7);
        equal(tasks.roundResult(7, 1).settledAt, 0, "no result");
        (bool active,,) = tasks.stakeTerms(7, 0);
        isTrue(!active, "inactive");
    }

    // ---- Results ----

    function test_submit_records_and_logs_the_result() public {
        uint64 id = newTask();
        pass(10);
        vm.expectEmit(address(tasks));
        emit RoundSettled(id, 1, bytes32("root"), POOL, bytes32("checkpoint"), bytes32("result"));
        submit(id, 1, bytes32("root"), POOL);
        Types.RoundResult memory result = tasks.roundResult(id, 1);
        isTrue(result.payoutsRoot == bytes32("root"), "root");
        isTrue(result.checkpoint == bytes32("checkpoint"), "checkpoint");
        isTrue(result.resultHash == bytes32("result"), "result");
        equal(result.total, POOL, "total");
        equal(result.settledAt, block.timestamp, "time");
        equal(tasks.task(id).lastProgressAt, block.timestamp, "progress");
        equal(tasks.task(id).allocated, POOL, "allocated");
        conserved(id);
    }

    function test_submit_is_for_the_aggregator_alone() public {
        uint64 id = newTask();
        vm.prank(CREATOR);
        refused(abi.encodeWithSelector(Errors.NotTheAggregator.selector, AGGREGATOR, CREATOR));
        tasks.submitResult(id, 1, 0, 0, 0, 0);
    }

    function test_rounds_are_settled_in_order_each_once_and_no_more() public {
        uint64 id = newTask();
        submitRefused(id, 0, 0, abi.encodeWithSelector(Errors.WrongRound.selector, 1, 0));
        submitRefused(id, 2, 0, abi.encodeWithSelector(Errors.WrongRound.selector, 1, 2));
        submitEmpty(id, 1, 1);
        submitRefused(id, 1, 0, abi.encodeWithSelector(Errors.WrongRound.selector, 2, 1));
        submitEmpty(id, 2, ROUNDS);
        submitRefused(
            id,
            ROUNDS + 1,
            0,
            abi.encodeWithSelector(Errors.WrongRound.selector, ROUNDS + 1, ROUNDS + 1)
        );
    }

    function test_a_round_shares_out_no_more_than_its_pool() public {
        uint64 id = newTask();
        submitRefused(
            id,
            1,
            POOL + 1,
            abi.encodeWithSelector(Errors.TotalAboveRoundPool.selector, POOL, POOL + 1)
        );
    }

    function test_the_aggregator_stakes_before_its_first_result() public {
        Types.TaskSpec memory spec = specification();
        spec.aggregatorStakeMin = 500;
        vm.prank(CREATOR);
        uint64 id = tasks.createTask(spec, "task");
        submitRefused(id, 1, 0, abi.encodeWithSelector(Errors.StakeBelowMinimum.selector, 500, 0));
        vm.prank(AGGREGATOR);
        stakes.deposit(id, 2, 500);
        submitEmpty(id, 1, ROUNDS);
    }

    function test_nothing_is_submitted_to_a_task_that_ended_or_never_was() public {
        submitRefused(9, 1, 0, abi.encodeWithSelector(Errors.UnknownTask.selector, 9));
        uint64 id = newTask();
        pass(TIMEOUT);
        tasks.abort(id);
        submitRefused(id, 1, 0, notActive(id, Types.TaskState.Aborted));
    }

    // ---- The end ----

    function test_finish_refunds_what_was_not_allotted() public {
        uint64 id = newTask();
        submit(id, 1, bytes32("root"), POOL - 5);
        submitEmpty(id, 2, ROUNDS);
        vm.expectEmit(address(tasks));
        emit TaskFinished(id);
        vm.prank(AGGREGATOR);
        tasks.finish(id);
        isTrue(state(id) == Types.TaskState.Finished, "state");

        uint256 before = token.balanceOf(CREATOR);
        uint128 amount = REWARD - POOL + 5;
        vm.expectEmit(address(tasks));
        emit TaskRefunded(id, CREATOR, amount);
        vm.prank(ANYONE);
        equal(tasks.refund(id), amount, "refund");
        equal(token.balanceOf(CREATOR), before + amount, "creator");
        conserved(id);

        refused(abi.encodeWithSelector(Errors.AlreadyRefunded.selector, id));
        tasks.refund(id);
    }

    function test_finish_is_for_the_aggregator_after_the_last_round() public {
        uint64 id = newTask();
        submitEmpty(id, 1, ROUNDS - 1);
        vm.prank(AGGREGATOR);
        refused(abi.encodeWithSelector(Errors.RoundsRemaining.selector, ROUNDS - 1, ROUNDS));
        tasks.finish(id);
        submitEmpty(id, ROUNDS, ROUNDS);
        vm.prank(CREATOR);
        refused(abi.encodeWithSelector(Errors.NotTheAggregator.selector, AGGREGATOR, CREATOR));
        tasks.finish(id);
        vm.prank(AGGREGATOR);
        tasks.finish(id);
        vm.prank(AGGREGATOR);
        refused(notActive(id, Types.TaskState.Finished));
        tasks.finish(id);
    }

    function test_abort_waits_for_the_time_out_since_the_last_progress() public {
        uint64 id = newTask();
        pass(TIMEOUT - 1);
        refused(abi.encodeWithSelector(Errors.NotTimedOut.selector, START + TIMEOUT));
        tasks.abort(id);
        submitEmpty(id, 1, 1);
        uint256 abortableAt = block.timestamp + TIMEOUT;
        pass(TIMEOUT - 1);
        refused(abi.encodeWithSelector(Errors.NotTimedOut.selector, abortableAt));
        tasks.abort(id);
        pass(1);
        vm.expectEmit(address(tasks));
        emit TaskAborted(id, 1);
        vm.prank(ANYONE);
        tasks.abort(id);
        isTrue(state(id) == Types.TaskState.Aborted, "state");
        equal(tasks.refund(id), REWARD, "all comes back");
        conserved(id);
    }

    function test_an_aggregator_that_never_finishes_holds_nothing_up() public {
        uint64 id = newTask();
        submitEmpty(id, 1, ROUNDS);
        pass(TIMEOUT);
        tasks.abort(id);
        tasks.refund(id);
        conserved(id);
    }

    function test_no_refund_while_the_task_goes_on() public {
        uint64 id = newTask();
        refused(abi.encodeWithSelector(Errors.TaskStillActive.selector, id));
        tasks.refund(id);
        refused(abi.encodeWithSelector(Errors.UnknownTask.selector, id + 1));
        tasks.refund(id + 1);
    }

    function test_cancel_returns_everything_at_once() public {
        uint64 id = newTask();
        uint256 before = token.balanceOf(CREATOR);
        vm.expectEmit(address(tasks));
        emit TaskCancelled(id);
        vm.prank(CREATOR);
        tasks.cancel(id);
        equal(token.balanceOf(CREATOR), before + REWARD, "creator");
        isTrue(state(id) == Types.TaskState.Cancelled, "state");
        conserved(id);
        refused(abi.encodeWithSelector(Errors.AlreadyRefunded.selector, id));
        tasks.refund(id);
    }

    function test_cancel_is_for_the_creator() public {
        uint64 id = newTask();
        vm.prank(AGGREGATOR);
        refused(abi.encodeWithSelector(Errors.NotTheCreator.selector, CREATOR, AGGREGATOR));
        tasks.cancel(id);
    }

    function test_cancel_comes_before_any_stake_and_any_result() public {
        uint64 staked = newTask();
        vm.prank(ALICE);
        stakes.deposit(staked, 0, STAKE_MIN);
        vm.prank(CREATOR);
        refused(abi.encodeWithSelector(Errors.NotCancellable.selector, 0, STAKE_MIN));
        tasks.cancel(staked);

        uint64 settled = newTask();
        submitEmpty(settled, 1, 1);
        vm.prank(CREATOR);
        refused(abi.encodeWithSelector(Errors.NotCancellable.selector, 1, 0));
        tasks.cancel(settled);
    }

    // ---- Helpers ----

    function createRefused(Types.TaskSpec memory spec, bytes memory reason) private {
        vm.prank(CREATOR);
        refused(reason);
        tasks.createTask(spec, "task");
    }

    function submitRefused(uint64 id, uint32 round, uint128 total, bytes memory reason) private {
        vm.prank(AGGREGATOR);
        refused(reason);
        tasks.submitResult(id, round, 0, total, 0, 0);
    }

    function outOfRange(uint32 minimum, uint32 maximum, uint32 window)
        private
        pure
        returns (bytes memory)
    {
        return abi.encodeWithSelector(Errors.WindowOutOfRange.selector, minimum, maximum, window);
    }

    function notActive(uint64 id, Types.TaskState now_) private pure returns (bytes memory) {
        return abi.encodeWithSelector(Errors.TaskNotActive.selector, id, now_);
    }
}

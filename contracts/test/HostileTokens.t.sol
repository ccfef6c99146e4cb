// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {
    ITaskManagerErrors as Errors,
    ITaskManagerTypes as Types
} from "../src/interfaces/ITaskManager.sol";
import {TaskBase} from "./helpers/TaskBase.sol";
import {BlockingToken, FalseToken, FeeToken, ReentrantToken} from "./helpers/Tokens.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice Tokens that misbehave cost their users nothing but the attempt.
contract HostileTokensTest is TaskBase {
    /// How many calls move money, and the last of those that need an active task.
    uint256 private constant CALLS = 8;
    uint256 private constant LAST_OF_ACTIVE = 5;

    function test_a_token_that_takes_a_fee_is_refused() public {
        FeeToken fee = new FeeToken();
        deploy(fee);
        uint64 id = newTask();
        fee.takeFees();

        vm.prank(CREATOR);
        refused(abi.encodeWithSelector(Errors.WrongAmountReceived.selector, REWARD, REWARD - 1));
        tasks.createTask(specification(), "task");

        vm.prank(CREATOR);
        refused(abi.encodeWithSelector(Errors.WrongAmountReceived.selector, 10, 9));
        tasks.fund(id, 10);
    }

    function test_a_token_that_says_false_changes_nothing() public {
        FalseToken liar = new FalseToken();
        deploy(liar);
        uint64 id = newTask();
        (bytes32[] memory proof,) = settleTwo(id, 1, 100, 1, 101);
        pass(WINDOW);
        liar.fail();

        bytes memory failed =
            abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, liar);
        refused(failed);
        tasks.claim(id, 1, ALICE, 100, proof);
        isTrue(!tasks.claimed(id, 1, ALICE), "not claimed");

        pass(TIMEOUT);
        tasks.tick(id);
        refused(failed);
        tasks.refund(id);
        equal(tasks.task(id).refunded, 0, "not refunded");
        vm.prank(CREATOR);
        refused(failed);
        tasks.createTask(specification(), "task");
    }

    function test_a_blocked_recipient_blocks_nobody_else() public {
        BlockingToken blocking = new BlockingToken();
        deploy(blocking);
        uint64 id = newTask();
        (bytes32[] memory alice, bytes32[] memory bob) = settleTwo(id, 1, 100, 50, 150);
        pass(WINDOW);
        blocking.block_(ALICE);
        refused(abi.encodeWithSelector(BlockingToken.Blocked.selector, ALICE));
        tasks.claim(id, 1, ALICE, 100, alice);
        tasks.claim(id, 1, BOB, 50, bob);
        blocking.block_(address(0));
        tasks.claim(id, 1, ALICE, 100, alice);
        conserved(id);
    }

    function test_a_blocked_account_of_a_batch_is_left_out_by_the_next() public {
        BlockingToken blocking = new BlockingToken();
        deploy(blocking);
        uint64 id = newTask();
        (bytes32[] memory alice, bytes32[] memory bob) = settleTwo(id, 1, 100, 50, 150);
        rounds.setDirect(id, 1, AGGREGATOR, 8);
        settle(id, 2, 0, 0, 8);
        pass(WINDOW);
        blocking.block_(ALICE);
        Types.Claim[] memory batch = new Types.Claim[](3);
        batch[0] = Types.Claim(1, ALICE, 100, alice);
        batch[1] = Types.Claim(1, BOB, 50, bob);
        batch[2] = Types.Claim(1, AGGREGATOR, 0, new bytes32[](0));
        refused(abi.encodeWithSelector(BlockingToken.Blocked.selector, ALICE));
        tasks.claimMany(id, batch);
        isTrue(!tasks.claimed(id, 1, BOB), "all or nothing");
        batch[0] = batch[2];
        equal(tasks.claimMany(id, batch), 37 + 6, "the others");
        conserved(id);
    }

    function test_a_blocked_creator_holds_nobody_up() public {
        BlockingToken blocking = new BlockingToken();
        deploy(blocking);
        uint64 id = newTask();
        uint64 other = newTask();
        (bytes32[] memory alice,) = settleTwo(id, 1, 100, 50, 150);
        bytes memory blocked = abi.encodeWithSelector(BlockingToken.Blocked.selector, CREATOR);
        blocking.block_(CREATOR);
        refused(blocked);
        vm.prank(CREATOR);
        tasks.cancel(other);
        pass(TIMEOUT);
        tasks.tick(id);
        tasks.tick(other);
        refused(blocked);
        tasks.refund(id);
        tasks.claim(id, 1, ALICE, 100, alice);
        equal(tasks.releaseVested(id, ALICE), 25, "released");
        blocking.block_(address(0));
        equal(tasks.refund(id), REWARD - 150, "refund");
        equal(tasks.refund(other), REWARD, "refund of the other");
        conserved(id);
    }

    function test_a_fee_on_the_way_out_is_its_recipients_alone() public {
        FeeToken fee = new FeeToken();
        deploy(fee);
        uint64 id = newTask();
        (bytes32[] memory alice, bytes32[] memory bob) = settleTwo(id, 1, 100, 50, 150);
        pass(TIMEOUT);
        tasks.tick(id);
        fee.takeFees();
        tasks.claim(id, 1, ALICE, 100, alice);
        equal(token.balanceOf(ALICE), 74, "less than paid");
        tasks.refund(id);
        tasks.claim(id, 1, BOB, 50, bob);
        tasks.releaseVested(id, ALICE);
        tasks.releaseVested(id, BOB);
        equal(token.balanceOf(address(tasks)), 0, "everything was covered");
        conserved(id);
    }

    /// @dev Each call that moves money, with each of them again in its middle.
    function test_no_call_that_moves_money_gets_in_during_another() public {
        ReentrantToken sly = new ReentrantToken();
        deploy(sly);
        for (uint256 outer = 0; outer < CALLS; ++outer) {
            for (uint256 inner = 0; inner < CALLS; ++inner) {
                (uint64 id, bytes[CALLS] memory calls) = ready(outer > LAST_OF_ACTIVE);
                sly.arm(address(tasks), calls[inner]);
                vm.prank(CREATOR);
                (bool done,) = address(tasks).call(calls[outer]);
                isTrue(done, "the outer call");
                entryRefused(sly);
                conserved(id);
            }
        }
    }

    function test_no_penalty_passes_for_a_payment() public {
        ReentrantToken sly = new ReentrantToken();
        deploy(sly);
        uint64 id = newTask();
        require(token.transfer(address(stakes), 5));
        sly.arm(address(stakes), abi.encodeCall(stakes.penalize, (tasks, id, 5)));
        vm.prank(CREATOR);
        tasks.fund(id, 10);
        entryRefused(sly);
        equal(tasks.task(id).escrowed, REWARD + 10, "escrow");
        conserved(id);
    }

    function test_a_round_that_opens_during_a_top_up_has_what_arrives() public {
        ReentrantToken sly = new ReentrantToken();
        deploy(sly);
        uint64 id = newTask();
        sly.arm(address(rounds), abi.encodeCall(rounds.open, (id, 1)));
        vm.prank(CREATOR);
        tasks.fund(id, 400);
        isTrue(sly.succeeded(), "opened");
        equal(rounds.open(id, 1), POOL + 100, "pool");
        equal(tasks.task(id).escrowed, REWARD + 400, "escrow");
        conserved(id);
    }

    function test_a_task_that_ends_during_a_top_up_returns_it() public {
        ReentrantToken sly = new ReentrantToken();
        deploy(sly);
        uint64 id = newTask();
        pass(TIMEOUT);
        sly.arm(address(tasks), abi.encodeCall(tasks.tick, (id)));
        vm.prank(CREATOR);
        tasks.fund(id, 400);
        inState(id, Types.TaskState.Aborted);
        equal(tasks.refund(id), REWARD + 400, "refund");
        conserved(id);
    }

    function test_a_task_may_end_in_the_middle_of_a_payment() public {
        ReentrantToken sly = new ReentrantToken();
        deploy(sly);
        uint64 id = newTask();
        (bytes32[] memory alice,) = settleTwo(id, 1, 100, 50, 150);
        pass(TIMEOUT);
        sly.arm(address(tasks), abi.encodeCall(tasks.tick, (id)));
        tasks.claim(id, 1, ALICE, 100, alice);
        isTrue(sly.succeeded(), "tick moves no money");
        inState(id, Types.TaskState.Aborted);
        conserved(id);
    }

    /// @dev A task in which each of the calls would do something: an ended one has only vesting and
    /// a refund left.
    function ready(bool ended) private returns (uint64 id, bytes[CALLS] memory calls) {
        id = newTask();
        (bytes32[] memory alice, bytes32[] memory bob) = settleTwo(id, 1, 100, 50, 150);
        settle(id, 2, 0, 0, 40);
        rounds.setDirect(id, 2, BOB, 40);
        pass(WINDOW);
        uint64 young = newTask();
        Types.Claim[] memory batch = new Types.Claim[](1);
        batch[0] = Types.Claim(1, BOB, 50, bob);
        calls[0] = abi.encodeCall(tasks.claim, (id, 1, ALICE, 100, alice));
        calls[1] = abi.encodeCall(tasks.claimDirect, (id, 2, BOB));
        calls[2] = abi.encodeCall(tasks.claimMany, (id, batch));
        calls[3] = abi.encodeCall(tasks.cancel, (young));
        calls[4] = abi.encodeCall(tasks.fund, (young, 4));
        calls[LAST_OF_ACTIVE] = abi.encodeCall(tasks.createTask, (specification(), "task"));
        calls[6] = abi.encodeCall(tasks.refund, (id));
        calls[7] = abi.encodeCall(tasks.releaseVested, (id, ALICE));
        if (!ended) return (id, calls);
        tasks.claim(id, 1, ALICE, 100, alice);
        rounds.fail(id, ATTEMPTS);
        tasks.tick(id);
    }

    function entryRefused(ReentrantToken sly) private view {
        isTrue(sly.called() && !sly.succeeded(), "the call went through");
        isTrue(
            bytes4(sly.answer()) == ReentrancyGuard.ReentrancyGuardReentrantCall.selector,
            "refused for another reason"
        );
    }
}

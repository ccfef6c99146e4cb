// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {IStakeManagerErrors} from "../src/interfaces/IStakeManager.sol";
import {
    ITaskManagerErrors as Errors,
    ITaskManagerTypes as Types
} from "../src/interfaces/ITaskManager.sol";
import {BaseTest} from "./helpers/Base.sol";
import {BlockingToken, FalseToken, FeeToken, ReentrantToken} from "./helpers/Tokens.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice Tokens that misbehave cost their users nothing but the attempt.
contract HostileTokensTest is BaseTest {
    function test_a_token_that_takes_a_fee_is_refused() public {
        FeeToken fee = new FeeToken();
        deploy(fee);
        uint64 id = newTask();
        fee.takeFees();

        vm.prank(CREATOR);
        refused(abi.encodeWithSelector(Errors.WrongAmountReceived.selector, REWARD, REWARD - 1));
        tasks.createTask(specification(), "task");

        vm.prank(ALICE);
        refused(
            abi.encodeWithSelector(
                IStakeManagerErrors.WrongAmountReceived.selector, STAKE_MIN, STAKE_MIN - 1
            )
        );
        stakes.deposit(id, 0, STAKE_MIN);
    }

    function test_a_token_that_says_false_changes_nothing() public {
        FalseToken liar = new FalseToken();
        deploy(liar);
        uint64 id = newTask();
        vm.prank(ALICE);
        stakes.deposit(id, 0, STAKE_MIN);
        (bytes32[] memory proof,) = settle(id, 1, 100, 1, 101);
        pass(WINDOW);
        liar.fail();

        bytes memory failed =
            abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, liar);
        refused(failed);
        tasks.claim(id, 1, ALICE, 100, proof);
        isTrue(!tasks.claimed(id, 1, ALICE), "not claimed");

        pass(TIMEOUT);
        tasks.abort(id);
        refused(failed);
        tasks.refund(id);
        isTrue(!tasks.task(id).isRefunded, "not refunded");
        vm.prank(CREATOR);
        refused(failed);
        tasks.createTask(specification(), "task");
    }

    function test_a_blocked_recipient_blocks_nobody_else() public {
        BlockingToken blocking = new BlockingToken();
        deploy(blocking);
        uint64 id = newTask();
        (bytes32[] memory alice, bytes32[] memory bob) = settle(id, 1, 100, 50, 150);
        pass(WINDOW);
        blocking.block_(ALICE);
        refused(abi.encodeWithSelector(BlockingToken.Blocked.selector, ALICE));
        tasks.claim(id, 1, ALICE, 100, alice);
        tasks.claim(id, 1, BOB, 50, bob);
        blocking.block_(address(0));
        tasks.claim(id, 1, ALICE, 100, alice);
        conserved(id);
    }

    function test_no_call_gets_in_during_a_transfer() public {
        ReentrantToken sly = new ReentrantToken();
        deploy(sly);
        uint64 id = newTask();
        (bytes32[] memory alice, bytes32[] memory bob) = settle(id, 1, 100, 50, 150);
        pass(WINDOW);

        sly.arm(address(tasks), abi.encodeCall(tasks.claim, (id, 1, ALICE, 100, alice)));
        tasks.claim(id, 1, ALICE, 100, alice);
        entryRefused(sly);
        sly.arm(address(tasks), abi.encodeCall(tasks.claim, (id, 1, ALICE, 100, alice)));
        tasks.claim(id, 1, BOB, 50, bob);
        entryRefused(sly);

        pass(TIMEOUT);
        tasks.abort(id);
        sly.arm(address(tasks), abi.encodeCall(tasks.refund, (id)));
        tasks.refund(id);
        entryRefused(sly);

        pass(VESTING);
        sly.arm(address(tasks), abi.encodeCall(tasks.releaseVested, (id, ALICE)));
        tasks.releaseVested(id, ALICE);
        entryRefused(sly);
        conserved(id);
    }

    function test_no_call_gets_in_while_tokens_are_pulled() public {
        ReentrantToken sly = new ReentrantToken();
        deploy(sly);
        uint64 id = newTask();
        sly.arm(address(tasks), abi.encodeCall(tasks.claimMany, (id, new Types.Claim[](0))));
        uint64 second = newTask();
        entryRefused(sly);
        equal(second, id + 1, "created");

        sly.arm(address(stakes), abi.encodeCall(stakes.withdraw, (id)));
        vm.prank(ALICE);
        stakes.deposit(id, 0, STAKE_MIN);
        entryRefused(sly);

        pass(TIMEOUT);
        tasks.abort(id);
        vm.prank(ALICE);
        stakes.requestWithdrawal(id, STAKE_MIN);
        pass(UNBONDING);
        sly.arm(address(stakes), abi.encodeCall(stakes.withdraw, (id)));
        vm.prank(ALICE);
        stakes.withdraw(id);
        entryRefused(sly);
        equal(token.balanceOf(address(stakes)), 0, "stakes");
    }

    function entryRefused(ReentrantToken sly) private view {
        isTrue(sly.called() && !sly.succeeded(), "the call went through");
        isTrue(
            bytes4(sly.answer()) == ReentrancyGuard.ReentrancyGuardReentrantCall.selector,
            "refused for another reason"
        );
    }
}

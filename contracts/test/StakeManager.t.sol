// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {StakeManager} from "../src/StakeManager.sol";
import {TaskManager} from "../src/TaskManager.sol";
import {IStakeManagerErrors as Errors} from "../src/interfaces/IStakeManager.sol";
import {IStakeManagerEvents, IStakeManagerTypes} from "../src/interfaces/IStakeManager.sol";
import {BaseTest} from "./helpers/Base.sol";
import {vm} from "./helpers/Vm.sol";

contract StakeManagerTest is BaseTest, IStakeManagerEvents {
    uint8 private constant TRAINER = 0;
    uint8 private constant VALIDATOR = 1;
    uint8 private constant AGGREGATOR_ROLE = 2;

    uint64 private task;

    function setUp() public override {
        super.setUp();
        task = newTask();
    }

    // ---- Deployment ----

    function test_constructor_refuses_an_address_without_code() public {
        refused(abi.encodeWithSelector(Errors.NoTokenAt.selector, ALICE));
        new StakeManager(IERC20(ALICE), UNBONDING);
    }

    function test_constructor_refuses_an_endless_unbonding() public {
        uint32 maximum = stakes.UNBONDING_SECONDS_MAX();
        refused(abi.encodeWithSelector(Errors.UnbondingTooLong.selector, maximum, maximum + 1));
        new StakeManager(token, maximum + 1);
    }

    function test_link_is_for_the_deployer_and_for_good() public {
        StakeManager fresh = new StakeManager(token, UNBONDING);
        refused(abi.encodeWithSelector(Errors.ForeignTaskManager.selector, tasks));
        fresh.linkTaskManager(tasks);

        TaskManager own = new TaskManager(token, fresh);
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.NotTheDeployer.selector, address(this), ALICE));
        fresh.linkTaskManager(own);

        vm.expectEmit(address(fresh));
        emit TaskManagerLinked(address(own));
        fresh.linkTaskManager(own);
        refused(abi.encodeWithSelector(Errors.AlreadyLinked.selector, own));
        fresh.linkTaskManager(own);
    }

    function test_deposit_before_the_link_is_refused() public {
        StakeManager fresh = new StakeManager(token, UNBONDING);
        refused(abi.encodeWithSelector(Errors.TaskNotActive.selector, task));
        fresh.deposit(task, TRAINER, STAKE_MIN);
    }

    // ---- Deposit ----

    function test_deposit_takes_the_tokens_and_counts_them() public {
        vm.expectEmit(address(stakes));
        emit StakeDeposited(task, ALICE, TRAINER, STAKE_MIN, STAKE_MIN);
        deposit(ALICE, TRAINER, STAKE_MIN);
        deposit(ALICE, TRAINER, 7);
        (uint8 role, uint128 amount) = stakes.stakeOf(task, ALICE);
        equal(role, TRAINER, "role");
        equal(amount, STAKE_MIN + 7, "amount");
        equal(stakes.totalStakeOf(task), STAKE_MIN + 7, "of the task");
        equal(stakes.totalHeld(), STAKE_MIN + 7, "held");
        equal(token.balanceOf(address(stakes)), STAKE_MIN + 7, "tokens");
    }

    function test_deposit_of_nothing_is_refused() public {
        vm.prank(ALICE);
        refused(Errors.ZeroAmount.selector);
        stakes.deposit(task, TRAINER, 0);
    }

    function test_deposit_for_an_unknown_role_is_refused() public {
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.UnknownRole.selector, 3));
        stakes.deposit(task, 3, STAKE_MIN);
    }

    function test_an_address_has_one_role_per_task() public {
        deposit(ALICE, TRAINER, STAKE_MIN);
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.RoleTaken.selector, TRAINER, VALIDATOR));
        stakes.deposit(task, VALIDATOR, 2 * STAKE_MIN);

        uint64 other = newTask();
        vm.prank(ALICE);
        stakes.deposit(other, VALIDATOR, 2 * STAKE_MIN);
    }

    function test_only_the_named_aggregator_stakes_as_such() public {
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.NotTheAggregator.selector, AGGREGATOR, ALICE));
        stakes.deposit(task, AGGREGATOR_ROLE, STAKE_MIN);
        deposit(AGGREGATOR, AGGREGATOR_ROLE, STAKE_MIN);
    }

    function test_deposit_below_the_minimum_of_the_role_is_refused() public {
        uint128 needed = 2 * STAKE_MIN;
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.StakeBelowMinimum.selector, needed, needed - 1));
        stakes.deposit(task, VALIDATOR, needed - 1);
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.StakeBelowMinimum.selector, STAKE_MIN, 1));
        stakes.deposit(task, TRAINER, 1);
    }

    function test_deposit_to_a_task_that_is_not_there_or_has_ended_is_refused() public {
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.TaskNotActive.selector, 99));
        stakes.deposit(99, TRAINER, STAKE_MIN);
        end();
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.TaskNotActive.selector, task));
        stakes.deposit(task, TRAINER, STAKE_MIN);
    }

    // ---- The way out ----

    function test_stake_of_an_active_task_stays() public {
        deposit(ALICE, TRAINER, STAKE_MIN);
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.TaskStillActive.selector, task));
        stakes.requestWithdrawal(task, 1);
    }

    function test_withdrawal_waits_for_the_unbonding() public {
        deposit(ALICE, TRAINER, STAKE_MIN);
        end();
        uint256 before = token.balanceOf(ALICE);
        uint64 availableAt = uint64(block.timestamp) + UNBONDING;
        vm.expectEmit(address(stakes));
        emit WithdrawalRequested(task, ALICE, STAKE_MIN, availableAt);
        request(ALICE, STAKE_MIN);
        (, uint128 amount) = stakes.stakeOf(task, ALICE);
        equal(amount, 0, "backs nothing");
        equal(stakes.totalHeld(), STAKE_MIN, "still held");

        pass(UNBONDING - 1);
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.StillUnbonding.selector, availableAt));
        stakes.withdraw(task);

        pass(1);
        vm.expectEmit(address(stakes));
        emit StakeWithdrawn(task, ALICE, STAKE_MIN);
        vm.prank(ALICE);
        equal(stakes.withdraw(task), STAKE_MIN, "returned");
        equal(token.balanceOf(ALICE), before + STAKE_MIN, "tokens");
        equal(stakes.totalHeld(), 0, "held");

        vm.prank(ALICE);
        refused(Errors.NothingRequested.selector);
        stakes.withdraw(task);
    }

    function test_a_second_request_restarts_the_wait() public {
        deposit(ALICE, TRAINER, STAKE_MIN);
        end();
        request(ALICE, 10);
        pass(UNBONDING);
        request(ALICE, 5);
        IStakeManagerTypes.Stake memory record = stakes.stakeRecord(task, ALICE);
        equal(record.unbonding, 15, "together");
        equal(record.availableAt, block.timestamp + UNBONDING, "from the second");
        equal(record.amount, STAKE_MIN - 15, "rest");
    }

    function test_requests_are_bounded_by_the_own_stake() public {
        deposit(ALICE, TRAINER, STAKE_MIN);
        deposit(BOB, TRAINER, STAKE_MIN);
        end();
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.StakeTooSmall.selector, STAKE_MIN, STAKE_MIN + 1));
        stakes.requestWithdrawal(task, STAKE_MIN + 1);
        vm.prank(ALICE);
        refused(Errors.ZeroAmount.selector);
        stakes.requestWithdrawal(task, 0);
    }

    function testFuzz_what_goes_in_comes_out(uint128 amount, uint128 asked) public {
        amount = STAKE_MIN + amount % 1e20;
        asked = 1 + asked % amount;
        uint256 before = token.balanceOf(ALICE);
        deposit(ALICE, TRAINER, amount);
        end();
        request(ALICE, asked);
        pass(UNBONDING);
        vm.prank(ALICE);
        stakes.withdraw(task);
        equal(token.balanceOf(ALICE), before - amount + asked, "Alice");
        equal(token.balanceOf(address(stakes)), amount - asked, "contract");
        equal(stakes.totalHeld(), amount - asked, "book");
    }

    function deposit(address account, uint8 role, uint128 amount) private {
        vm.prank(account);
        stakes.deposit(task, role, amount);
    }

    function request(address account, uint128 amount) private {
        vm.prank(account);
        stakes.requestWithdrawal(task, amount);
    }

    function end() private {
        pass(TIMEOUT);
        tasks.abort(task);
    }
}

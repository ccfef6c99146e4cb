// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {ConvokeToken} from "../src/ConvokeToken.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {IRoundManager} from "../src/interfaces/IRoundManager.sol";
import {IStakeManagerErrors as Errors} from "../src/interfaces/IStakeManager.sol";
import {
    IStakeManager,
    IStakeManagerEvents,
    IStakeManagerTypes
} from "../src/interfaces/IStakeManager.sol";
import {ITaskManager} from "../src/interfaces/ITaskManager.sol";
import {RoundsDouble, StakeTest, TasksDouble} from "./helpers/Doubles.sol";
import {BlockingToken, FalseToken, FeeToken, ReentrantToken} from "./helpers/Tokens.sol";
import {vm} from "./helpers/Vm.sol";

contract StakeManagerTest is StakeTest, IStakeManagerEvents {
    // ---- Deployment ----

    function test_constructor_refuses_an_address_without_code() public {
        refused(abi.encodeWithSelector(Errors.NoTokenAt.selector, ALICE));
        new StakeManager(IERC20(ALICE), UNBONDING, WARMUP, NOTICE, CAP, address(this));
    }

    function test_constructor_refuses_an_endless_unbonding() public {
        uint32 maximum = stakes.UNBONDING_SECONDS_MAX();
        refused(abi.encodeWithSelector(Errors.UnbondingTooLong.selector, maximum, maximum + 1));
        new StakeManager(token, maximum + 1, WARMUP, NOTICE, CAP, address(this));
    }

    function test_constructor_keeps_its_terms() public view {
        equal(stakes.unbonding(), UNBONDING, "unbonding");
        equal(stakes.warmup(), WARMUP, "warm-up");
        equal(stakes.commissionNotice(), NOTICE, "notice");
        equal(stakes.delegationCapBps(), CAP, "cap");
        isTrue(address(stakes.token()) == address(token), "token");
    }

    function test_link_is_for_the_deployer_and_for_good() public {
        StakeManager fresh = unlinked(token);
        TasksDouble own = new TasksDouble(token, fresh, AGGREGATOR);
        RoundsDouble ownRounds = new RoundsDouble(fresh, ITaskManager(address(own)));
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.NotTheDeployer.selector, address(this), ALICE));
        fresh.link(ITaskManager(address(own)), IRoundManager(address(ownRounds)));

        vm.expectEmit(address(fresh));
        emit Linked(address(own), address(ownRounds));
        fresh.link(ITaskManager(address(own)), IRoundManager(address(ownRounds)));
        isTrue(address(fresh.taskManager()) == address(own), "task manager");
        isTrue(address(fresh.roundManager()) == address(ownRounds), "round manager");
        refused(abi.encodeWithSelector(Errors.AlreadyLinked.selector, own));
        fresh.link(ITaskManager(address(own)), IRoundManager(address(ownRounds)));
    }

    function test_link_refuses_contracts_of_another_deployment() public {
        StakeManager fresh = unlinked(token);
        TasksDouble own = new TasksDouble(token, fresh, AGGREGATOR);
        RoundsDouble ownRounds = new RoundsDouble(fresh, ITaskManager(address(own)));

        refused(abi.encodeWithSelector(Errors.ForeignContract.selector, tasks));
        fresh.link(taskManager(), IRoundManager(address(ownRounds)));
        refused(abi.encodeWithSelector(Errors.ForeignContract.selector, rounds));
        fresh.link(ITaskManager(address(own)), roundManager());

        RoundsDouble stray = new RoundsDouble(fresh, taskManager());
        refused(abi.encodeWithSelector(Errors.ForeignContract.selector, stray));
        fresh.link(ITaskManager(address(own)), IRoundManager(address(stray)));

        TasksDouble otherMoney = new TasksDouble(new ConvokeToken(1), fresh, AGGREGATOR);
        refused(abi.encodeWithSelector(Errors.ForeignContract.selector, otherMoney));
        fresh.link(ITaskManager(address(otherMoney)), IRoundManager(address(ownRounds)));
    }

    function test_nothing_is_staked_before_the_link() public {
        StakeManager fresh = unlinked(token);
        refused(abi.encodeWithSelector(Errors.TaskNotActive.selector, TASK));
        fresh.deposit(TASK, TRAINER, TRAINER_MIN);
        refused(abi.encodeWithSelector(Errors.NotAnOperator.selector, TASK, ALICE));
        fresh.delegate(TASK, ALICE, 1);
    }

    // ---- Deposit ----

    function test_deposit_takes_the_tokens_and_counts_them() public {
        vm.expectEmit(address(stakes));
        emit StakeDeposited(TASK, ALICE, TRAINER, TRAINER_MIN, TRAINER_MIN);
        deposit(ALICE, TRAINER, TRAINER_MIN);
        deposit(ALICE, TRAINER, 7);
        (uint8 role, uint128 amount) = stakes.stakeOf(TASK, ALICE);
        equal(role, TRAINER, "role");
        equal(amount, TRAINER_MIN + 7, "amount");
        equal(stakes.totalStakeOf(TASK), TRAINER_MIN + 7, "of the task");
        equal(stakes.totalHeld(), TRAINER_MIN + 7, "held");
        equal(stakes.effectiveStakeDown(TASK, ALICE), TRAINER_MIN + 7, "weight");
        covered();
    }

    function test_deposit_of_nothing_is_refused() public {
        refused(Errors.ZeroAmount.selector);
        stakes.deposit(TASK, TRAINER, 0);
    }

    function test_deposit_for_an_unknown_role_is_refused() public {
        refused(abi.encodeWithSelector(Errors.UnknownRole.selector, 3));
        stakes.deposit(TASK, 3, TRAINER_MIN);
    }

    function test_an_address_has_one_role_per_task_for_good() public {
        deposit(ALICE, TRAINER, TRAINER_MIN);
        expectRoleTaken();
        request(ALICE, TRAINER_MIN);
        expectRoleTaken();
        pass(UNBONDING);
        withdraw(ALICE);
        expectRoleTaken();
        vm.prank(ALICE);
        stakes.deposit(2, VALIDATOR, VALIDATOR_MIN);
        deposit(ALICE, TRAINER, TRAINER_MIN);
    }

    function test_only_the_named_aggregator_stakes_as_such() public {
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.NotTheAggregator.selector, AGGREGATOR, ALICE));
        stakes.deposit(TASK, AGGREGATOR_ROLE, 1);
        deposit(AGGREGATOR, AGGREGATOR_ROLE, 1);
    }

    function test_deposit_below_the_minimum_of_the_role_is_refused() public {
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.StakeBelowMinimum.selector, VALIDATOR_MIN, 99));
        stakes.deposit(TASK, VALIDATOR, 99);
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.StakeBelowMinimum.selector, TRAINER_MIN, 1));
        stakes.deposit(TASK, TRAINER, 1);
    }

    function test_deposit_to_a_task_that_is_not_there_or_has_ended_is_refused() public {
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.TaskNotActive.selector, 99));
        stakes.deposit(99, TRAINER, TRAINER_MIN);
        tasks.end(TASK);
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.TaskNotActive.selector, TASK));
        stakes.deposit(TASK, TRAINER, TRAINER_MIN);
    }

    // ---- The way out ----

    function test_withdrawal_waits_for_the_unbonding() public {
        deposit(ALICE, TRAINER, TRAINER_MIN);
        uint256 before = token.balanceOf(ALICE);
        uint64 availableAt = uint64(block.timestamp) + UNBONDING;
        vm.expectEmit(address(stakes));
        emit WithdrawalRequested(TASK, ALICE, TRAINER_MIN, availableAt);
        request(ALICE, TRAINER_MIN);
        equal(ownOf(ALICE), 0, "backs nothing");
        equal(stakes.totalStakeOf(TASK), 0, "of the task");
        equal(stakes.totalHeld(), TRAINER_MIN, "still held");

        pass(UNBONDING - 1);
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.StillUnbonding.selector, availableAt));
        stakes.withdraw(TASK);

        pass(1);
        vm.expectEmit(address(stakes));
        emit StakeWithdrawn(TASK, ALICE, TRAINER_MIN);
        equal(withdraw(ALICE), TRAINER_MIN, "returned");
        equal(token.balanceOf(ALICE), before + TRAINER_MIN, "tokens");
        equal(stakes.totalHeld(), 0, "held");

        vm.prank(ALICE);
        refused(Errors.NothingRequested.selector);
        stakes.withdraw(TASK);
    }

    function test_a_second_request_restarts_the_wait() public {
        deposit(ALICE, TRAINER, TRAINER_MIN);
        request(ALICE, 10);
        pass(UNBONDING);
        request(ALICE, 5);
        IStakeManagerTypes.Stake memory record = stakes.stakeRecord(TASK, ALICE);
        equal(record.unbonding, 15, "together");
        equal(record.availableAt, block.timestamp + UNBONDING, "from the second");
        equal(record.amount, TRAINER_MIN - 15, "rest");
    }

    function test_requests_are_bounded_by_the_own_stake() public {
        deposit(ALICE, TRAINER, TRAINER_MIN);
        deposit(BOB, TRAINER, TRAINER_MIN);
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.StakeTooSmall.selector, TRAINER_MIN, 51));
        stakes.requestWithdrawal(TASK, 51);
        vm.prank(ALICE);
        refused(Errors.ZeroAmount.selector);
        stakes.requestWithdrawal(TASK, 0);
    }

    function test_stake_is_locked_while_the_round_of_the_request_is_open() public {
        deposit(ALICE, TRAINER, TRAINER_MIN);
        rounds.open(TASK, 3, 1);
        uint64 key = rounds.openRoundKey(TASK);
        request(ALICE, TRAINER_MIN);
        equal(stakes.stakeRecord(TASK, ALICE).lockedBy, key, "locked");
        pass(UNBONDING);
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.StakeLocked.selector, TASK, key));
        stakes.withdraw(TASK);
        // A later attempt is another round to the lock.
        rounds.open(TASK, 3, 2);
        equal(withdraw(ALICE), TRAINER_MIN, "freed");
    }

    /// A round that outlasts the unbonding must not let its stake go before it can be disputed.
    function test_stake_stays_until_the_result_of_its_round_is_final() public {
        deposit(ALICE, TRAINER, TRAINER_MIN);
        rounds.open(TASK, 3, 1);
        request(ALICE, TRAINER_MIN);
        pass(UNBONDING + 1_000);
        uint64 finalAt = uint64(block.timestamp) + 60;
        rounds.settle(TASK, finalAt);
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.StillUnbonding.selector, finalAt));
        stakes.withdraw(TASK);
        pass(60);
        withdraw(ALICE);
    }

    function test_a_lock_does_not_outlive_its_round() public {
        deposit(ALICE, TRAINER, TRAINER_MIN);
        rounds.open(TASK, 1, 1);
        request(ALICE, 10);
        rounds.close(TASK);
        request(ALICE, 10);
        equal(stakes.stakeRecord(TASK, ALICE).lockedBy, 0, "no round is open");
        rounds.open(TASK, 1, 1);
        pass(UNBONDING);
        equal(withdraw(ALICE), 20, "both");
    }

    function test_exits_stay_open_when_the_task_has_ended() public {
        deposit(ALICE, VALIDATOR, VALIDATOR_MIN);
        tasks.end(TASK);
        request(ALICE, VALIDATOR_MIN);
        pass(UNBONDING);
        equal(withdraw(ALICE), VALIDATOR_MIN, "all of it");
    }

    function testFuzz_what_goes_in_comes_out(uint128 amount, uint128 asked) public {
        amount = TRAINER_MIN + amount % 1e20;
        asked = 1 + asked % amount;
        uint256 before = token.balanceOf(ALICE);
        deposit(ALICE, TRAINER, amount);
        request(ALICE, asked);
        pass(UNBONDING);
        withdraw(ALICE);
        equal(token.balanceOf(ALICE), before - amount + asked, "Alice");
        equal(token.balanceOf(address(stakes)), amount - asked, "contract");
        covered();
    }

    // ---- Validators that count ----

    function test_validators_count_while_their_stake_reaches_the_minimum() public {
        deposit(BOB, TRAINER, 1_000);
        equal(stakes.validatorCount(TASK), 0, "a trainer");
        deposit(ALICE, VALIDATOR, VALIDATOR_MIN);
        deposit(ALICE, VALIDATOR, 1);
        equal(stakes.validatorCount(TASK), 1, "once");
        request(ALICE, 1);
        equal(stakes.validatorCount(TASK), 1, "at the minimum");
        request(ALICE, 1);
        equal(stakes.validatorCount(TASK), 0, "below");
        request(ALICE, 1);
        slash(ALICE, 1_000, 0);
        equal(stakes.validatorCount(TASK), 0, "not twice");
        deposit(ALICE, VALIDATOR, VALIDATOR_MIN);
        equal(stakes.validatorCount(TASK), 1, "again");
        slash(ALICE, 5_000, 0);
        equal(stakes.validatorCount(TASK), 0, "slashed");
        deposit(ALICE, VALIDATOR, VALIDATOR_MIN);
        request(ALICE, ownOf(ALICE));
        equal(stakes.validatorCount(TASK), 0, "all of it requested");
    }

    // ---- Penalties ----

    function test_slash_takes_from_stake_and_what_unbonds() public {
        deposit(ALICE, TRAINER, 1_001);
        request(ALICE, 500);
        // Even when it could have been withdrawn already.
        pass(UNBONDING);
        vm.expectEmit(address(stakes));
        emit Slashed(TASK, ALICE, REPORTER, 101, 0, 25);
        equal(slash(ALICE, 1_000, 2_500), 101, "51 and 50, rounded up");
        equal(ownOf(ALICE), 450, "stake");
        equal(stakes.stakeRecord(TASK, ALICE).unbonding, 450, "unbonding");
        equal(stakes.totalStakeOf(TASK), 450, "of the task");
        equal(token.balanceOf(REPORTER), 25, "reporter, rounded down");
        equal(tasks.penalties(TASK), 76, "task");
        covered();
    }

    function test_slash_of_nothing_takes_nothing() public {
        equal(slash(ALICE, 5_000, 5_000), 0, "never staked");
        deposit(ALICE, TRAINER, TRAINER_MIN);
        equal(slash(ALICE, 0, 5_000), 0, "no rate");
        equal(tasks.penalties(TASK), 0, "task");
    }

    function test_slash_takes_one_unit_of_one() public {
        deposit(ALICE, TRAINER, TRAINER_MIN);
        request(ALICE, TRAINER_MIN - 1);
        pass(UNBONDING);
        withdraw(ALICE);
        equal(slash(ALICE, 1, 0), 1, "rounded up");
        equal(slash(ALICE, 1, 0), 0, "never more than is there");
    }

    function test_slash_is_bounded_and_for_slashers() public {
        refused(abi.encodeWithSelector(Errors.SlashTooHigh.selector, 5_000, 5_001));
        slash(ALICE, 5_001, 0);
        refused(abi.encodeWithSelector(Errors.SlashTooHigh.selector, 10_000, 10_001));
        slash(ALICE, 1, 10_001);
        bytes32 role = stakes.SLASHER_ROLE();
        vm.prank(ALICE);
        refused(unauthorized(ALICE, role));
        stakes.slash(TASK, BOB, 1, ALICE, 1);
    }

    /// Once the deployment has given its role up, not even the administrator names slashers.
    function test_nobody_names_slashers_after_the_deployment() public {
        (bytes32 slasher, bytes32 namer) = (stakes.SLASHER_ROLE(), stakes.SLASHER_ADMIN_ROLE());
        stakes.renounceRole(namer, address(this));
        isTrue(stakes.hasRole(stakes.DEFAULT_ADMIN_ROLE(), address(this)), "administrator");
        refused(unauthorized(address(this), namer));
        stakes.grantRole(slasher, BOB);
        refused(unauthorized(address(this), namer));
        stakes.grantRole(namer, address(this));
        refused(unauthorized(address(this), namer));
        stakes.revokeRole(slasher, BOB);
    }

    function testFuzz_slash_of_own_stake_is_rounded_up(
        uint128 amount,
        uint128 asked,
        uint16 bps,
        uint16 reporterBps
    ) public {
        amount = TRAINER_MIN + amount % 1e28;
        asked = asked % (amount + 1);
        bps %= 5_001;
        reporterBps %= 10_001;
        deposit(ALICE, TRAINER, amount);
        if (asked != 0) request(ALICE, asked);
        uint256 own = (uint256(amount - asked) * bps + 9_999) / 10_000;
        uint256 unbonds = (uint256(asked) * bps + 9_999) / 10_000;
        equal(slash(ALICE, bps, reporterBps), own + unbonds, "taken");
        uint256 toReporter = (own + unbonds) * reporterBps / 10_000;
        equal(token.balanceOf(REPORTER), toReporter, "reporter");
        equal(tasks.penalties(TASK), own + unbonds - toReporter, "task");
        equal(ownOf(ALICE), amount - asked - own, "rest");
        covered();
    }

    // ---- Administration ----

    function test_a_pause_stops_entries_and_no_exit() public {
        deposit(ALICE, TRAINER, 1_000);
        uint256 shares = join(ALICE, BOB, 1_000);
        delegate(ALICE, BOB, 7);
        tasks.pay(TASK, ALICE, 100);
        stakes.pause();

        vm.prank(ALICE);
        refused(Pausable.EnforcedPause.selector);
        stakes.deposit(TASK, TRAINER, 1);
        vm.prank(BOB);
        refused(Pausable.EnforcedPause.selector);
        stakes.delegate(TASK, ALICE, 1);

        vm.prank(BOB);
        stakes.cancelDelegation(TASK, ALICE);
        undelegate(ALICE, BOB, shares);
        stakes.claimRewards(TASK, ALICE, BOB);
        request(ALICE, 1_000);
        pass(UNBONDING);
        withdraw(ALICE);
        withdrawDelegation(ALICE, BOB);
        stakes.unpause();
        deposit(ALICE, TRAINER, 1_000);
    }

    function test_only_pausers_pause() public {
        bytes32 role = stakes.PAUSER_ROLE();
        vm.prank(ALICE);
        refused(unauthorized(ALICE, role));
        stakes.pause();
        stakes.pause();
        vm.prank(ALICE);
        refused(unauthorized(ALICE, role));
        stakes.unpause();
    }

    function unlinked(IERC20 token_) private returns (StakeManager) {
        return new StakeManager(token_, UNBONDING, WARMUP, NOTICE, CAP, address(this));
    }

    function expectRoleTaken() private {
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.RoleTaken.selector, TRAINER, VALIDATOR));
        stakes.deposit(TASK, VALIDATOR, VALIDATOR_MIN);
    }

    function unauthorized(address account, bytes32 role) private pure returns (bytes memory) {
        return abi.encodeWithSelector(
            IAccessControl.AccessControlUnauthorizedAccount.selector, account, role
        );
    }
}

contract HostileTokensOfStakesTest is StakeTest {
    function test_a_token_that_takes_a_fee_is_refused() public {
        FeeToken fees = new FeeToken();
        deploy(fees);
        deposit(ALICE, TRAINER, 1_000);
        fees.takeFees();
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.WrongAmountReceived.selector, 1_000, 999));
        stakes.deposit(TASK, TRAINER, 1_000);
        vm.prank(BOB);
        refused(abi.encodeWithSelector(Errors.WrongAmountReceived.selector, 5, 4));
        stakes.delegate(TASK, ALICE, 5);
        covered();
    }

    function test_a_token_that_says_false_changes_nothing() public {
        FalseToken liar = new FalseToken();
        deploy(liar);
        deposit(ALICE, TRAINER, 1_000);
        request(ALICE, 1_000);
        pass(UNBONDING);
        liar.fail();
        bytes memory reason =
            abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, liar);
        vm.prank(ALICE);
        refused(reason);
        stakes.withdraw(TASK);
        vm.prank(ALICE);
        refused(reason);
        stakes.deposit(TASK, TRAINER, 1_000);
        equal(stakes.stakeRecord(TASK, ALICE).unbonding, 1_000, "still there");
        covered();
    }

    function test_a_blocked_recipient_blocks_only_itself() public {
        BlockingToken blocking = new BlockingToken();
        deploy(blocking);
        deposit(ALICE, TRAINER, 1_000);
        deposit(BOB, TRAINER, 1_000);
        request(ALICE, 1_000);
        request(BOB, 1_000);
        pass(UNBONDING);
        blocking.block_(ALICE);
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(BlockingToken.Blocked.selector, ALICE));
        stakes.withdraw(TASK);
        equal(withdraw(BOB), 1_000, "Bob");
        // A blocked reporter cannot shield the account: anyone else may report.
        refused(abi.encodeWithSelector(BlockingToken.Blocked.selector, ALICE));
        stakes.slash(TASK, ALICE, 1_000, ALICE, 1_000);
        equal(stakes.slash(TASK, ALICE, 1_000, BOB, 1_000), 100, "slashed");
        covered();
    }

    /// The token calls each function in turn from within transfers in and out.
    function test_reentrant_calls_get_nowhere() public {
        ReentrantToken evil = new ReentrantToken();
        deploy(evil);
        stakes.grantRole(stakes.SLASHER_ROLE(), address(evil));
        bytes[] memory calls = new bytes[](10);
        calls[0] = abi.encodeCall(IStakeManager.deposit, (TASK, TRAINER, 100));
        calls[1] = abi.encodeCall(IStakeManager.requestWithdrawal, (TASK, 1));
        calls[2] = abi.encodeCall(IStakeManager.withdraw, (TASK));
        calls[3] = abi.encodeCall(IStakeManager.delegate, (TASK, ALICE, 1));
        calls[4] = abi.encodeCall(IStakeManager.activate, (TASK, ALICE, BOB));
        calls[5] = abi.encodeCall(IStakeManager.cancelDelegation, (TASK, ALICE));
        calls[6] = abi.encodeCall(IStakeManager.undelegate, (TASK, ALICE, 1));
        calls[7] = abi.encodeCall(IStakeManager.withdrawDelegation, (TASK, ALICE));
        calls[8] = abi.encodeCall(IStakeManager.claimRewards, (TASK, ALICE, BOB));
        calls[9] = abi.encodeCall(IStakeManager.slash, (TASK, ALICE, 1, BOB, 1));
        deposit(ALICE, TRAINER, 1_000);
        for (uint256 i = 0; i < calls.length; ++i) {
            evil.arm(address(stakes), calls[i]);
            deposit(ALICE, TRAINER, 1_000);
            expectStopped(evil);
            evil.arm(address(stakes), calls[i]);
            slash(ALICE, 100, 100);
            expectStopped(evil);
            request(ALICE, 100);
            pass(UNBONDING);
            evil.arm(address(stakes), calls[i]);
            withdraw(ALICE);
            expectStopped(evil);
        }
        covered();
    }

    function expectStopped(ReentrantToken evil) private view {
        isTrue(evil.called() && !evil.succeeded(), "no way in");
        bytes4 stopped = ReentrancyGuard.ReentrancyGuardReentrantCall.selector;
        isTrue(bytes4(evil.answer()) == stopped, "by the guard");
    }
}

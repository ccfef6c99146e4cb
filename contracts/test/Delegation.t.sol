// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {IStakeManagerErrors as Errors} from "../src/interfaces/IStakeManager.sol";
import {IStakeManagerEvents, IStakeManagerTypes} from "../src/interfaces/IStakeManager.sol";
import {Shares} from "../src/libraries/Shares.sol";
import {StakeBase, StakeTest, TasksDouble} from "./helpers/Doubles.sol";
import {ReentrantToken} from "./helpers/Tokens.sol";
import {vm} from "./helpers/Vm.sol";

contract DelegationTest is StakeTest, IStakeManagerEvents {
    uint128 private constant OWN = 10_000;

    function setUp() public override {
        super.setUp();
        deposit(ALICE, TRAINER, OWN);
    }

    // ---- In ----

    function test_a_delegation_joins_after_the_warm_up() public {
        uint64 activeAt = uint64(block.timestamp) + WARMUP;
        vm.expectEmit(address(stakes));
        emit Delegated(TASK, ALICE, BOB, 500, activeAt);
        delegate(ALICE, BOB, 500);
        equal(stakes.totalHeld(), OWN + 500, "held");
        equal(stakes.effectiveStakeDown(TASK, ALICE), OWN, "counts for nothing yet");
        equal(tasks.pay(TASK, ALICE, 1_000), 0, "earns nothing yet");
        pass(WARMUP - 1);
        refused(abi.encodeWithSelector(Errors.NotActiveYet.selector, activeAt));
        stakes.activate(TASK, ALICE, BOB);
        pass(1);
        vm.expectEmit(address(stakes));
        emit DelegationActivated(TASK, ALICE, BOB, 500, 500_000);
        equal(stakes.activate(TASK, ALICE, BOB), 500_000, "shares");
        equal(activeOf(ALICE, BOB), 500, "worth");
        equal(stakes.effectiveStakeDown(TASK, ALICE), OWN + 500, "counts");
        refused(Errors.NothingPending.selector);
        stakes.activate(TASK, ALICE, BOB);
        covered();
    }

    function test_a_further_call_restarts_the_wait_of_what_is_not_due() public {
        delegate(ALICE, BOB, 500);
        pass(WARMUP - 1);
        delegate(ALICE, BOB, 1);
        IStakeManagerTypes.Delegation memory d = stakes.delegationOf(TASK, ALICE, BOB);
        equal(d.pending, 501, "together");
        equal(d.activeAt, block.timestamp + WARMUP, "from the second");
        pass(WARMUP);
        // What is due joins before the next is added.
        delegate(ALICE, BOB, 2);
        equal(stakes.delegationOf(TASK, ALICE, BOB).pending, 2, "the new one");
        equal(activeOf(ALICE, BOB), 501, "the old ones");
    }

    function test_delegation_needs_an_operator_with_stake() public {
        vm.prank(BOB);
        refused(abi.encodeWithSelector(Errors.NotAnOperator.selector, TASK, CAROL));
        stakes.delegate(TASK, CAROL, 1);
        deposit(AGGREGATOR, AGGREGATOR_ROLE, 100);
        vm.prank(BOB);
        refused(abi.encodeWithSelector(Errors.NotAnOperator.selector, TASK, AGGREGATOR));
        stakes.delegate(TASK, AGGREGATOR, 1);
        request(ALICE, OWN);
        vm.prank(BOB);
        refused(abi.encodeWithSelector(Errors.NotAnOperator.selector, TASK, ALICE));
        stakes.delegate(TASK, ALICE, 1);
    }

    function test_delegation_of_nothing_to_oneself_or_to_an_ended_task_is_refused() public {
        vm.prank(BOB);
        refused(Errors.ZeroAmount.selector);
        stakes.delegate(TASK, ALICE, 0);
        vm.prank(ALICE);
        refused(Errors.SelfDelegation.selector);
        stakes.delegate(TASK, ALICE, 1);
        tasks.end(TASK);
        vm.prank(BOB);
        refused(abi.encodeWithSelector(Errors.TaskNotActive.selector, TASK));
        stakes.delegate(TASK, ALICE, 1);
    }

    /// Joining after the end would only be for the rewards of others.
    function test_nobody_joins_after_the_end_or_an_operator_that_left() public {
        delegate(ALICE, BOB, 500);
        pass(WARMUP);
        request(ALICE, OWN);
        refused(abi.encodeWithSelector(Errors.NotAnOperator.selector, TASK, ALICE));
        stakes.activate(TASK, ALICE, BOB);
        deposit(ALICE, TRAINER, OWN);
        tasks.end(TASK);
        refused(abi.encodeWithSelector(Errors.TaskNotActive.selector, TASK));
        stakes.activate(TASK, ALICE, BOB);
        vm.prank(BOB);
        equal(stakes.cancelDelegation(TASK, ALICE), 500, "the way out");
    }

    function test_what_waits_can_be_taken_back_at_once() public {
        uint256 before = token.balanceOf(BOB);
        delegate(ALICE, BOB, 500);
        vm.expectEmit(address(stakes));
        emit DelegationCancelled(TASK, ALICE, BOB, 500);
        vm.prank(BOB);
        equal(stakes.cancelDelegation(TASK, ALICE), 500, "returned");
        equal(token.balanceOf(BOB), before, "tokens");
        vm.prank(BOB);
        refused(Errors.NothingPending.selector);
        stakes.cancelDelegation(TASK, ALICE);
        covered();
    }

    // ---- Out ----

    function test_undelegated_shares_wait_for_the_unbonding() public {
        uint256 shares = join(ALICE, BOB, 500);
        uint256 before = token.balanceOf(BOB);
        uint64 availableAt = uint64(block.timestamp) + UNBONDING;
        vm.expectEmit(address(stakes));
        emit UndelegationRequested(TASK, ALICE, BOB, shares, 500, availableAt);
        equal(undelegate(ALICE, BOB, shares), 500, "worth");
        equal(stakes.effectiveStakeDown(TASK, ALICE), OWN, "counts no more");
        pass(UNBONDING - 1);
        vm.prank(BOB);
        refused(abi.encodeWithSelector(Errors.StillUnbonding.selector, availableAt));
        stakes.withdrawDelegation(TASK, ALICE);
        pass(1);
        vm.expectEmit(address(stakes));
        emit DelegationWithdrawn(TASK, ALICE, BOB, 500);
        equal(withdrawDelegation(ALICE, BOB), 500, "returned");
        equal(token.balanceOf(BOB), before + 500, "tokens");
        vm.prank(BOB);
        refused(Errors.NothingRequested.selector);
        stakes.withdrawDelegation(TASK, ALICE);
        covered();
    }

    function test_undelegation_is_bounded_by_the_own_shares() public {
        uint256 shares = join(ALICE, BOB, 500);
        join(ALICE, CAROL, 500);
        vm.prank(BOB);
        refused(abi.encodeWithSelector(Errors.SharesTooFew.selector, shares, shares + 1));
        stakes.undelegate(TASK, ALICE, shares + 1);
        vm.prank(BOB);
        refused(Errors.ZeroAmount.selector);
        stakes.undelegate(TASK, ALICE, 0);
        // Shares worth less than one unit would be given away.
        vm.prank(BOB);
        refused(Errors.ZeroAmount.selector);
        stakes.undelegate(TASK, ALICE, 999);
    }

    function test_a_second_undelegation_restarts_the_wait() public {
        uint256 shares = join(ALICE, BOB, 500);
        undelegate(ALICE, BOB, shares / 2);
        pass(UNBONDING);
        undelegate(ALICE, BOB, shares / 2);
        uint64 availableAt = uint64(block.timestamp) + UNBONDING;
        vm.prank(BOB);
        refused(abi.encodeWithSelector(Errors.StillUnbonding.selector, availableAt));
        stakes.withdrawDelegation(TASK, ALICE);
    }

    function test_delegation_is_locked_with_its_round_and_until_its_result_is_final() public {
        uint256 shares = join(ALICE, BOB, 500);
        rounds.open(TASK, 4, 1);
        uint64 key = rounds.openRoundKey(TASK);
        undelegate(ALICE, BOB, shares);
        pass(UNBONDING);
        vm.prank(BOB);
        refused(abi.encodeWithSelector(Errors.StakeLocked.selector, TASK, key));
        stakes.withdrawDelegation(TASK, ALICE);
        uint64 finalAt = uint64(block.timestamp) + 9;
        rounds.settle(TASK, finalAt);
        vm.prank(BOB);
        refused(abi.encodeWithSelector(Errors.StillUnbonding.selector, finalAt));
        stakes.withdrawDelegation(TASK, ALICE);
        pass(9);
        equal(withdrawDelegation(ALICE, BOB), 500, "freed");
    }

    function test_delegators_leave_an_operator_that_left_and_a_task_that_ended() public {
        uint256 shares = join(ALICE, BOB, 500);
        request(ALICE, OWN);
        pass(UNBONDING);
        withdraw(ALICE);
        tasks.end(TASK);
        undelegate(ALICE, BOB, shares);
        pass(UNBONDING);
        equal(withdrawDelegation(ALICE, BOB), 500, "all of it");
    }

    // ---- The cap ----

    function test_delegation_counts_up_to_the_cap() public {
        join(ALICE, BOB, 4 * OWN);
        equal(stakes.effectiveStakeDown(TASK, ALICE), 4 * OWN, "own and three times as much");
        request(ALICE, OWN);
        equal(stakes.effectiveStakeDown(TASK, ALICE), 0, "nothing without own stake");
    }

    // ---- Commission ----

    function test_a_higher_commission_waits_and_a_lower_one_does_not() public {
        uint64 from = uint64(block.timestamp) + NOTICE;
        vm.expectEmit(address(stakes));
        emit CommissionChanged(TASK, ALICE, 2_000, from);
        setCommission(2_000);
        pass(NOTICE - 1);
        equal(stakes.commissionOf(TASK, ALICE), 0, "not yet");
        pass(1);
        equal(stakes.commissionOf(TASK, ALICE), 2_000, "in force");
        vm.expectEmit(address(stakes));
        emit CommissionChanged(TASK, ALICE, 500, uint64(block.timestamp));
        setCommission(500);
        equal(stakes.commissionOf(TASK, ALICE), 500, "at once");
        pass(NOTICE);
        equal(stakes.commissionOf(TASK, ALICE), 500, "and for good");
    }

    function test_no_change_of_commission_shortens_the_notice() public {
        setCommission(10_000);
        pass(NOTICE - 1);
        setCommission(9_000);
        pass(NOTICE - 1);
        equal(stakes.commissionOf(TASK, ALICE), 0, "a new notice");
        setCommission(0);
        pass(NOTICE);
        equal(stakes.commissionOf(TASK, ALICE), 0, "taken back");
        setCommission(100);
        pass(NOTICE);
        setCommission(200);
        equal(stakes.commissionOf(TASK, ALICE), 100, "one after the other");
        pass(NOTICE);
        equal(stakes.commissionOf(TASK, ALICE), 200, "each after its notice");
    }

    function test_commissions_are_bounded_and_for_operators() public {
        vm.prank(ALICE);
        refused(abi.encodeWithSelector(Errors.CommissionTooHigh.selector, 10_000, 10_001));
        stakes.setCommission(TASK, 10_001);
        vm.prank(BOB);
        refused(abi.encodeWithSelector(Errors.NotAnOperator.selector, TASK, BOB));
        stakes.setCommission(TASK, 1);
    }

    // ---- Rewards ----

    function test_rewards_follow_the_stake_less_commission() public {
        join(ALICE, BOB, OWN);
        join(ALICE, CAROL, 2 * OWN);
        setCommission(1_000);
        pass(NOTICE);
        vm.expectEmit(address(stakes));
        emit RewardBooked(TASK, ALICE, 67_500);
        equal(tasks.pay(TASK, ALICE, 100_000), 67_500, "three of four parts, less a tenth");
        (,, uint128 due) = stakes.worthDown(TASK, ALICE, BOB);
        atMost(22_499, due, "Bob");
        atMost(due, 22_500, "Bob");
        uint256 before = token.balanceOf(BOB);
        vm.expectEmit(address(stakes));
        emit RewardsClaimed(TASK, ALICE, BOB, due);
        equal(stakes.claimRewards(TASK, ALICE, BOB), due, "claimed");
        equal(token.balanceOf(BOB), before + due, "tokens");
        refused(abi.encodeWithSelector(Errors.NoRewards.selector, TASK, ALICE, BOB));
        stakes.claimRewards(TASK, ALICE, BOB);
        covered();
    }

    function test_nothing_is_booked_without_delegators() public {
        equal(tasks.pay(TASK, ALICE, 1_000), 0, "no delegators");
        equal(tasks.pay(TASK, CAROL, 1_000), 0, "nobody");
    }

    /// An operator that has left takes nothing of what its delegators have earned with it.
    function test_an_operator_that_has_left_still_owes_its_delegators() public {
        join(ALICE, BOB, 9 * OWN);
        uint128 before = tasks.pay(TASK, ALICE, 1_000_000);
        request(ALICE, OWN - 1);
        pass(UNBONDING);
        withdraw(ALICE);
        request(ALICE, 1);
        pass(UNBONDING);
        withdraw(ALICE);
        equal(tasks.pay(TASK, ALICE, 1_000_000), before, "as if it had stayed");
        undelegateAll();
        equal(tasks.pay(TASK, ALICE, 1_000), 0, "nobody left");
    }

    /// Nor do they take what it has earned: next to nothing delegated is next to nothing paid.
    function test_a_dust_delegator_gets_dust_of_an_operator_that_has_left() public {
        join(ALICE, BOB, 1);
        request(ALICE, OWN - 1);
        pass(UNBONDING);
        withdraw(ALICE);
        request(ALICE, 1);
        pass(UNBONDING);
        withdraw(ALICE);
        equal(tasks.pay(TASK, ALICE, OWN / 2), 0, "half a unit, rounded down");
    }

    function undelegateAll() private {
        uint256 shares = stakes.delegationOf(TASK, ALICE, BOB).shares;
        vm.prank(BOB);
        stakes.undelegate(TASK, ALICE, shares);
    }

    function test_only_the_task_manager_books() public {
        refused(abi.encodeWithSelector(Errors.NotTheTaskManager.selector, tasks, this));
        stakes.bookRewardDown(TASK, ALICE, 1);
    }

    /// An operator that asks for its stake right before a claim takes nothing from delegators.
    function test_a_request_before_a_claim_gains_an_operator_nothing() public {
        join(ALICE, BOB, OWN);
        request(ALICE, OWN);
        equal(tasks.pay(TASK, ALICE, 1_000), 500, "as before");
    }

    /// Rewards of the time before the warm-up ran out belong to those who were in the pool.
    function test_a_late_delegator_gets_nothing_of_earlier_rewards() public {
        join(ALICE, BOB, 100);
        delegate(ALICE, CAROL, 1e20);
        tasks.pay(TASK, ALICE, 1_000_000);
        pass(WARMUP);
        stakes.activate(TASK, ALICE, CAROL);
        refused(abi.encodeWithSelector(Errors.NoRewards.selector, TASK, ALICE, CAROL));
        stakes.claimRewards(TASK, ALICE, CAROL);
        (,, uint128 due) = stakes.worthDown(TASK, ALICE, BOB);
        atMost(9_899, due, "all to Bob");
    }

    function test_what_unbonds_earns_nothing_and_keeps_what_it_earned() public {
        uint256 shares = join(ALICE, BOB, OWN);
        tasks.pay(TASK, ALICE, 1_000);
        undelegate(ALICE, BOB, shares);
        equal(tasks.pay(TASK, ALICE, 1_000), 0, "no shares, no reward");
        join(ALICE, CAROL, OWN);
        tasks.pay(TASK, ALICE, 1_000);
        (,, uint128 due) = stakes.worthDown(TASK, ALICE, BOB);
        atMost(499, due, "earned before");
        atMost(due, 500, "and nothing since");
    }

    function test_a_full_commission_leaves_nothing() public {
        join(ALICE, BOB, OWN);
        setCommission(10_000);
        pass(NOTICE);
        equal(tasks.pay(TASK, ALICE, 1_000), 0, "all to the operator");
    }

    function test_booking_costs_the_same_whatever_the_number_of_delegators() public {
        deposit(AGGREGATOR, AGGREGATOR_ROLE, 1);
        deposit(CAROL, TRAINER, OWN);
        join(CAROL, BOB, OWN);
        for (uint160 i = 1; i <= 50; ++i) {
            address delegator = address(i << 40);
            fund(delegator, 100);
            delegate(ALICE, delegator, 100);
        }
        pass(WARMUP);
        for (uint160 i = 1; i <= 50; ++i) {
            stakes.activate(TASK, ALICE, address(i << 40));
        }
        tasks.pay(TASK, CAROL, 1_000);
        tasks.pay(TASK, ALICE, 1_000);
        uint256 start = gasleft();
        tasks.pay(TASK, CAROL, 1_000);
        uint256 one = start - gasleft();
        start = gasleft();
        tasks.pay(TASK, ALICE, 1_000);
        uint256 fifty = start - gasleft();
        atMost(fifty, one + 500, "gas");
    }

    // ---- Penalties ----

    function test_a_slash_hits_delegators_pro_rata() public {
        join(ALICE, BOB, 1_000);
        uint256 shares = join(ALICE, CAROL, 3_000);
        undelegate(ALICE, CAROL, shares / 3);
        vm.expectEmit(address(stakes));
        emit Slashed(TASK, ALICE, REPORTER, 1_000, 400, 250);
        equal(slash(ALICE, 1_000, 2_500), 1_400, "taken");
        (uint128 active, uint128 unbonds,) = stakes.worthDown(TASK, ALICE, CAROL);
        equal(active, 1_800, "Carol's active");
        equal(unbonds, 900, "Carol's unbonding");
        equal(activeOf(ALICE, BOB), 900, "Bob's");
        equal(tasks.penalties(TASK), 1_150, "all but the reporter's part of the own stake");
        covered();
    }

    function test_what_waits_is_not_at_risk() public {
        delegate(ALICE, BOB, 1_000);
        pass(WARMUP);
        slash(ALICE, 5_000, 0);
        equal(stakes.delegationOf(TASK, ALICE, BOB).pending, 1_000, "untouched");
    }

    function test_unbonding_does_not_dodge_a_slash() public {
        uint256 shares = join(ALICE, BOB, 1_000);
        undelegate(ALICE, BOB, shares);
        pass(UNBONDING);
        slash(ALICE, 5_000, 0);
        equal(withdrawDelegation(ALICE, BOB), 500, "half");
        covered();
    }

    /// Delegation above the cap earns nothing, and an operator that risks little of its own
    /// cannot have much of it destroyed.
    function test_delegation_is_at_risk_up_to_the_cap() public {
        join(ALICE, BOB, 30 * OWN);
        equal(slash(ALICE, 1_000, 0), OWN / 10 + 3 * OWN / 10, "as if it were at the cap");
        request(ALICE, ownOf(ALICE));
        pass(UNBONDING);
        withdraw(ALICE);
        equal(slash(ALICE, 5_000, 0), 0, "nothing without own stake");
    }

    /// A reporter gets a part of the operator's own loss, so reporting oneself never pays.
    function test_reporting_oneself_takes_nothing_from_delegators() public {
        join(ALICE, BOB, 3 * OWN);
        slash(ALICE, 5_000, 5_000);
        equal(token.balanceOf(REPORTER), OWN / 4, "half of what Alice lost herself");
    }

    // ---- Attacks on shares ----

    /// First a share, then a gift: there is no way to give, so the best is to leave dust behind.
    function test_a_first_delegator_cannot_drive_up_the_price_of_shares() public {
        uint256 shares = join(ALICE, BOB, 1_000);
        uint256 lost = 1_000;
        // Takes out as few units as it can for as many shares.
        while (shares > 1_999) {
            lost -= undelegate(ALICE, BOB, 1_999);
            shares -= 1_999;
        }
        uint256 price = poolOf(ALICE).assets * 1_000 / poolOf(ALICE).shares;
        join(ALICE, CAROL, 1_000_000);
        uint256 loss = 1_000_000 - activeOf(ALICE, CAROL);
        atMost(loss * 100, lost, "the attacker loses a hundred times what its victim does");
        isTrue(price > 1, "it did drive it up");
    }

    function test_dust_does_not_keep_anybody_out() public {
        join(ALICE, BOB, 1);
        uint256 shares = join(ALICE, CAROL, 1e20);
        slash(ALICE, 5_000, 0);
        atMost(1e20 - 15_000 - 1, undelegate(ALICE, CAROL, shares), "all but a unit");
    }

    /// Were a pool's part of a penalty rounded up, each of these would halve its last unit's worth
    /// of shares, until an undelegation overflowed.
    function test_penalties_of_next_to_nothing_cannot_lock_delegators_in() public {
        uint256 shares = join(ALICE, CAROL, 1e20);
        uint256 dust = join(ALICE, BOB, 1_000) / 500;
        for (uint256 i = 0; i < 500; ++i) {
            undelegate(ALICE, BOB, dust);
            slash(ALICE, 1, 0);
        }
        atMost(1e20 - 2_000, undelegate(ALICE, CAROL, shares), "Carol");
        pass(UNBONDING);
        withdrawDelegation(ALICE, CAROL);
        covered();
    }

    function test_a_pool_that_was_wiped_out_takes_nobody_in_and_lets_all_out() public {
        uint256 shares = join(ALICE, BOB, 1_000_000);
        delegate(ALICE, CAROL, 1_000_000);
        uint256 last = shares;
        for (uint256 i = 0; i < 80; ++i) {
            deposit(ALICE, TRAINER, 1e20);
            slash(ALICE, 5_000, 0);
            // Tops up so that there is something to halve.
            vm.prank(BOB);
            try stakes.delegate(TASK, ALICE, 1_000_000) {} catch {}
            pass(WARMUP);
            try stakes.activate(TASK, ALICE, BOB) returns (uint256 more) {
                shares += more;
                last = more;
            } catch {}
        }
        refused(abi.encodeWithSelector(Errors.PoolWornOut.selector, TASK, ALICE));
        stakes.activate(TASK, ALICE, CAROL);
        vm.prank(CAROL);
        stakes.cancelDelegation(TASK, ALICE);
        undelegate(ALICE, BOB, shares);
        pass(UNBONDING);
        withdrawDelegation(ALICE, BOB);
        covered();
    }

    function test_what_unbonds_can_be_wiped_out_alone() public {
        undelegate(ALICE, BOB, join(ALICE, BOB, 1e24));
        for (uint256 i = 0; i < 80; ++i) {
            deposit(ALICE, TRAINER, 1e24);
            slash(ALICE, 5_000, 0);
        }
        delegate(ALICE, CAROL, 1e24);
        pass(WARMUP);
        // Carol could join, and never leave.
        refused(abi.encodeWithSelector(Errors.PoolWornOut.selector, TASK, ALICE));
        stakes.activate(TASK, ALICE, CAROL);
    }

    function test_a_reward_too_small_to_share_is_the_operators() public {
        join(ALICE, BOB, 1e24);
        uint256 held = stakes.totalHeld();
        equal(tasks.pay(TASK, ALICE, 40), 0, "booked");
        equal(stakes.totalHeld(), held, "nothing is kept for nobody");
    }

    function test_no_reward_overflows_the_accumulator() public {
        uint256 shares = join(ALICE, BOB, 1);
        for (uint256 i = 0; i < 20; ++i) {
            tasks.pay(TASK, ALICE, 1e27);
        }
        (,, uint128 due) = stakes.worthDown(TASK, ALICE, BOB);
        atMost(uint256(20e27) / 10_001 - 40, due, "to the unit for each");
        join(ALICE, CAROL, 1e28);
        deposit(ALICE, TRAINER, 1e28);
        tasks.pay(TASK, ALICE, 1e28);
        undelegate(ALICE, BOB, shares);
        stakes.claimRewards(TASK, ALICE, BOB);
        stakes.claimRewards(TASK, ALICE, CAROL);
        covered();
    }

    function test_a_reentrant_token_books_and_claims_nothing() public {
        ReentrantToken evil = new ReentrantToken();
        deploy(evil);
        deposit(ALICE, TRAINER, OWN);
        join(ALICE, BOB, OWN);
        evil.arm(address(tasks), abi.encodeCall(TasksDouble.pay, (TASK, ALICE, 1_000)));
        deposit(ALICE, TRAINER, 100);
        isTrue(evil.called() && !evil.succeeded(), "within a deposit");
        tasks.pay(TASK, ALICE, 1_000);
        evil.arm(
            address(stakes), abi.encodeCall(stakes.claimRewards, (TASK, ALICE, BOB))
        );
        stakes.claimRewards(TASK, ALICE, BOB);
        isTrue(evil.called() && !evil.succeeded(), "within a claim");
        bytes4 stopped = ReentrancyGuard.ReentrancyGuardReentrantCall.selector;
        isTrue(bytes4(evil.answer()) == stopped, "by the guard");
        covered();
    }

    function setCommission(uint16 bps) private {
        vm.prank(ALICE);
        stakes.setCommission(TASK, bps);
    }
}

/// @notice The formulas against plain references.
contract DelegationFormulasTest is StakeTest {
    /// The quotient is right if `q d <= a b < (q + 1) d`, in 512 bits.
    function testFuzz_shares_are_rounded_down(uint128 amount, uint256 shares, uint128 assets)
        public
        pure
    {
        shares %= 1 << 201;
        // Below the bound that makes sure that the shares fit.
        uint256 least = (shares >> 74) + 1;
        assets = uint128(least) + assets % (type(uint128).max - uint128(least) + 1);
        uint256 q = Shares.sharesDown(amount, shares, assets);
        isQuotientDown(q, amount, shares + 1_000, uint256(assets) + 1);
    }

    function testFuzz_assets_are_rounded_down_and_never_too_many(
        uint256 part,
        uint256 shares,
        uint128 assets
    ) public pure {
        shares %= 1 << 250;
        part %= shares + 1;
        uint256 q = Shares.assetsDown(part, shares, assets);
        isQuotientDown(q, part, uint256(assets) + 1, shares + 1_000);
        atMost(q, assets, "all of it");
    }

    function testFuzz_a_way_in_and_out_gains_nothing(
        uint128 amount,
        uint256 shares,
        uint128 assets
    ) public pure {
        amount = amount % 1e30 + 1;
        assets %= 1e30;
        shares %= 1e35;
        uint256 got = Shares.sharesDown(amount, shares, assets);
        atMost(Shares.assetsDown(got, shares + got, assets + amount), amount, "no gain");
    }

    /// No group of holders is worth more than the pool.
    function testFuzz_parts_never_come_to_more_than_the_pool(
        uint256 a,
        uint256 b,
        uint256 c,
        uint128 assets
    ) public pure {
        (a, b, c) = (a % 1e40, b % 1e40, c % 1e40);
        uint256 all = a + b + c;
        uint256 sum = Shares.assetsDown(a, all, assets);
        sum += Shares.assetsDown(b, all, assets);
        sum += Shares.assetsDown(c, all, assets);
        atMost(sum, assets, "sum");
    }

    function testFuzz_rewards_follow_the_formula(
        uint128 own,
        uint128 delegated,
        uint128 asked,
        uint128 amount,
        uint16 commissionBps
    ) public {
        own = TRAINER_MIN + own % 1e26;
        delegated = 1 + delegated % 1e27;
        asked %= own + 1;
        amount %= 1e28;
        commissionBps %= 10_001;
        deposit(ALICE, TRAINER, own);
        join(ALICE, BOB, delegated);
        vm.prank(ALICE);
        stakes.setCommission(TASK, commissionBps);
        pass(NOTICE);
        if (asked != 0) request(ALICE, asked);
        uint256 counted = delegated < 3 * uint256(own) ? delegated : 3 * uint256(own);
        uint256 expected =
            uint256(amount) * counted * (10_000 - commissionBps) / ((own + counted) * 10_000);
        uint128 booked = tasks.pay(TASK, ALICE, amount);
        if (booked == 0) {
            // One share would get less than 2^-64 of a unit.
            isTrue(expected << 64 < poolOf(ALICE).shares, "next to nothing");
        } else {
            equal(booked, expected, "formula");
        }
        (,, uint128 due) = stakes.worthDown(TASK, ALICE, BOB);
        atMost(due, booked, "one delegator gets no more");
        atMost(booked, due + (poolOf(ALICE).shares >> 64) + 1, "and all but dust");
        covered();
    }

    function testFuzz_a_slash_takes_delegators_pro_rata(
        uint128 own,
        uint128[2] memory delegated,
        uint256 leaving,
        uint16 bps
    ) public {
        own = TRAINER_MIN + own % 1e24;
        (delegated[0], delegated[1]) = (1 + delegated[0] % 1e25, 1 + delegated[1] % 1e25);
        bps %= 5_001;
        deposit(ALICE, TRAINER, own);
        uint256 shares = join(ALICE, BOB, delegated[0]);
        join(ALICE, CAROL, delegated[1]);
        leaving = 1_000 + leaving % (shares - 999);
        uint128 unbonding = undelegate(ALICE, BOB, leaving);

        uint128 active = poolOf(ALICE).assets;
        uint128 bob = activeOf(ALICE, BOB);
        uint128 carol = activeOf(ALICE, CAROL);
        uint256 sum = uint256(active) + unbonding;
        uint256 risk = sum < 3 * uint256(own) ? sum : 3 * uint256(own);
        uint256 ofActive = uint256(active) * bps * risk / (sum * 10_000);
        uint256 ofUnbonding = uint256(unbonding) * bps * risk / (sum * 10_000);
        uint256 ofOwn = (uint256(own) * bps + 9_999) / 10_000;
        equal(slash(ALICE, bps, 0), ofOwn + ofActive + ofUnbonding, "taken");
        equal(poolOf(ALICE).assets, active - ofActive, "active");
        equal(poolOf(ALICE).unbondingAssets, unbonding - ofUnbonding, "unbonding");
        near(activeOf(ALICE, BOB), bob - uint256(bob) * ofActive / active, "Bob");
        near(activeOf(ALICE, CAROL), carol - uint256(carol) * ofActive / active, "Carol");
        covered();
    }

    /// What an account gets is within two units of its part.
    function near(uint256 got, uint256 fair, string memory what) private pure {
        atMost(got, fair + 2, what);
        atMost(fair, got + 2, what);
    }

    function isQuotientDown(uint256 q, uint256 a, uint256 b, uint256 d) private pure {
        (uint256 high, uint256 low) = multiply(a, b);
        (uint256 under, uint256 underLow) = multiply(q, d);
        isTrue(under < high || (under == high && underLow <= low), "not above");
        (uint256 over, uint256 overLow) = multiply(q + 1, d);
        isTrue(over > high || (over == high && overLow > low), "the next one is");
    }

    /// Schoolbook, in four parts of 128 bits.
    function multiply(uint256 a, uint256 b) private pure returns (uint256 high, uint256 low) {
        (uint256 a1, uint256 a0) = (a >> 128, a & type(uint128).max);
        (uint256 b1, uint256 b0) = (b >> 128, b & type(uint128).max);
        uint256 middle = (a0 * b0 >> 128) + (a1 * b0 & type(uint128).max)
            + (a0 * b1 & type(uint128).max);
        low = middle << 128 | (a0 * b0 & type(uint128).max);
        high = a1 * b1 + (a1 * b0 >> 128) + (a0 * b1 >> 128) + (middle >> 128);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {
    ITaskManagerErrors as Errors,
    ITaskManagerEvents,
    ITaskManagerTypes as Types
} from "../src/interfaces/ITaskManager.sol";
import {TaskBase} from "./helpers/TaskBase.sol";
import {Tree} from "./helpers/Tree.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice Claims, vesting, delegators' parts.
contract PayoutsTest is TaskBase, ITaskManagerEvents {
    uint64 private id;
    bytes32[] private proofOfAlice;
    bytes32[] private proofOfBob;

    uint128 private constant FOR_ALICE = 1_001;
    uint128 private constant FOR_BOB = 500;
    /// 75 per cent, rounded down.
    uint128 private constant NOW_FOR_ALICE = 750;

    function setUp() public override {
        super.setUp();
        id = newTask();
        (proofOfAlice, proofOfBob) = settleTwo(id, 1, FOR_ALICE, FOR_BOB, FOR_ALICE + FOR_BOB);
    }

    // ---- Claims ----

    function test_the_leaf_is_what_the_aggregator_hashes() public view {
        bytes32 inner = keccak256(
            abi.encode(
                keccak256("convoke.payout.v1"),
                uint256(block.chainid),
                address(tasks),
                uint256(id),
                uint256(1),
                ALICE,
                uint256(FOR_ALICE)
            )
        );
        isTrue(tasks.payoutLeaf(id, 1, ALICE, FOR_ALICE) == keccak256(abi.encode(inner)), "leaf");
    }

    function test_claim_pays_now_and_books_the_rest() public {
        pass(WINDOW);
        uint256 before = token.balanceOf(ALICE);
        vm.expectEmit(address(tasks));
        emit PayoutClaimed(id, 1, ALICE, NOW_FOR_ALICE, FOR_ALICE - NOW_FOR_ALICE);
        vm.prank(ANYONE);
        equal(tasks.claim(id, 1, ALICE, FOR_ALICE, proofOfAlice), NOW_FOR_ALICE, "paid");
        equal(token.balanceOf(ALICE), before + NOW_FOR_ALICE, "Alice");
        equal(tasks.vestingOf(id, ALICE), FOR_ALICE - NOW_FOR_ALICE, "vesting");
        isTrue(tasks.claimed(id, 1, ALICE), "claimed");
        isTrue(!tasks.claimed(id, 1, BOB), "not Bob");
        conserved(id);
    }

    function test_claim_waits_for_the_dispute_window() public {
        pass(WINDOW - 1);
        refused(abi.encodeWithSelector(Errors.DisputeWindowOpen.selector, START + WINDOW));
        tasks.claim(id, 1, ALICE, FOR_ALICE, proofOfAlice);
    }

    function test_claim_is_paid_once() public {
        pass(WINDOW);
        tasks.claim(id, 1, ALICE, FOR_ALICE, proofOfAlice);
        refused(abi.encodeWithSelector(Errors.AlreadyClaimed.selector, 1, ALICE));
        tasks.claim(id, 1, ALICE, FOR_ALICE, proofOfAlice);
    }

    function test_claim_needs_the_very_leaf() public {
        pass(WINDOW);
        invalid(1, BOB, FOR_ALICE, proofOfAlice);
        invalid(1, ALICE, FOR_ALICE + 1, proofOfAlice);
        invalid(1, ALICE, FOR_ALICE, new bytes32[](0));
        invalid(1, ALICE, FOR_ALICE, proofOfBob);
    }

    function test_a_leaf_of_one_round_or_task_is_nothing_in_another() public {
        (bytes32 root,,) = rounds.settlementOf(id, 1);
        settle(id, 2, root, FOR_ALICE + FOR_BOB, 0);
        uint64 other = newTask();
        settle(other, 1, root, FOR_ALICE + FOR_BOB, 0);
        pass(WINDOW);
        invalid(2, ALICE, FOR_ALICE, proofOfAlice);
        refused(abi.encodeWithSelector(Errors.InvalidProof.selector, 1, ALICE, FOR_ALICE));
        tasks.claim(other, 1, ALICE, FOR_ALICE, proofOfAlice);
    }

    function test_the_empty_root_pays_nobody() public {
        settleEmpty(id, 2, 2);
        pass(WINDOW);
        invalid(2, ALICE, 1, new bytes32[](0));
    }

    function test_claim_of_a_round_without_result_is_refused() public {
        refused(abi.encodeWithSelector(Errors.RoundNotSettled.selector, id, 2));
        tasks.claim(id, 2, ALICE, FOR_ALICE, proofOfAlice);
        refused(abi.encodeWithSelector(Errors.UnknownTask.selector, 9));
        tasks.claim(9, 1, ALICE, FOR_ALICE, proofOfAlice);
    }

    function test_a_root_that_promises_too_much_pays_no_more_than_its_total() public {
        (bytes32[] memory alice, bytes32[] memory bob) = settleTwo(id, 2, POOL, POOL, POOL);
        pass(WINDOW);
        tasks.claim(id, 2, ALICE, POOL, alice);
        refused(abi.encodeWithSelector(Errors.ClaimAboveRoundTotal.selector, 0, POOL));
        tasks.claim(id, 2, BOB, POOL, bob);
        conserved(id);
    }

    function test_claims_stay_good_after_the_refund() public {
        pass(TIMEOUT);
        tasks.tick(id);
        tasks.refund(id);
        pass(3_650 days);
        tasks.claim(id, 1, ALICE, FOR_ALICE, proofOfAlice);
        tasks.claim(id, 1, BOB, FOR_BOB, proofOfBob);
        tasks.releaseVested(id, ALICE);
        tasks.releaseVested(id, BOB);
        equal(token.balanceOf(address(tasks)), 0, "nothing is left");
        conserved(id);
    }

    function test_claims_of_a_task_stay_within_what_it_was_allotted() public {
        settle(id, 2, 0, 0, 30);
        rounds.setDirect(id, 2, BOB, 31 + FOR_ALICE + FOR_BOB);
        pass(WINDOW);
        tasks.claim(id, 1, ALICE, FOR_ALICE, proofOfAlice);
        tasks.claim(id, 1, BOB, FOR_BOB, proofOfBob);
        refused(
            abi.encodeWithSelector(Errors.ClaimAboveAllotted.selector, 30, 31 + FOR_ALICE + FOR_BOB)
        );
        tasks.claimDirect(id, 2, BOB);
        rounds.setDirect(id, 2, BOB, 30);
        tasks.claimDirect(id, 2, BOB);
        conserved(id);

        // What is forfeited is the creator's and backs no claim.
        settleEmpty(id, 3, ROUNDS);
        tasks.finish(id);
        rounds.close(id, 0);
        tasks.releaseVested(id, ALICE);
        rounds.setDirect(id, 2, CREATOR, 1);
        refused(abi.encodeWithSelector(Errors.ClaimAboveAllotted.selector, 0, 1));
        tasks.claimDirect(id, 2, CREATOR);
        conserved(id);
    }

    function test_claims_go_on_whatever_becomes_of_the_task() public {
        uint64[2] memory ends = [id, newTask()];
        (bytes32[] memory alice, bytes32[] memory bob) =
            settleTwo(ends[1], 1, FOR_ALICE, FOR_BOB, FOR_ALICE + FOR_BOB);
        pass(WINDOW);
        rounds.fail(ends[0], ATTEMPTS);
        tasks.tick(ends[0]);
        tasks.claim(ends[0], 1, ALICE, FOR_ALICE, proofOfAlice);
        settleEmpty(ends[1], 2, ROUNDS);
        tasks.finish(ends[1]);
        inState(ends[1], Types.TaskState.Closing);
        tasks.claim(ends[1], 1, ALICE, FOR_ALICE, alice);
        rounds.close(ends[1], 5_000);
        tasks.claim(ends[1], 1, BOB, FOR_BOB, bob);
        conserved(ends[1]);
    }

    function test_tokens_of_one_task_pay_no_other() public {
        uint64 other = newTask();
        (bytes32[] memory alice,) = settleTwo(other, 1, POOL, 1, POOL);
        pass(WINDOW);
        tasks.claim(other, 1, ALICE, POOL, alice);
        rounds.setDirect(other, 1, BOB, REWARD);
        refused(abi.encodeWithSelector(Errors.ClaimAboveAllotted.selector, 0, REWARD));
        tasks.claimDirect(other, 1, BOB);
        (,,,, uint128 held) = tasks.balances(id);
        equal(held, REWARD, "untouched");
        conserved(id);
    }

    // ---- Many claims ----

    function test_claim_many_passes_over_what_was_claimed() public {
        pass(WINDOW);
        tasks.claim(id, 1, ALICE, FOR_ALICE, proofOfAlice);
        Types.Claim[] memory batch = both();
        equal(tasks.claimMany(id, batch), 375, "Bob's alone");
        equal(tasks.claimMany(id, batch), 0, "nothing the second time");
        conserved(id);
    }

    function test_claim_many_pays_each_account_its_own() public {
        (bytes32[] memory alice, bytes32[] memory bob) = settleTwo(id, 2, 40, 80, 120);
        pass(WINDOW);
        Types.Claim[] memory batch = new Types.Claim[](4);
        batch[0] = Types.Claim(1, ALICE, FOR_ALICE, proofOfAlice);
        batch[1] = Types.Claim(2, ALICE, 40, alice);
        batch[2] = Types.Claim(2, BOB, 80, bob);
        batch[3] = Types.Claim(1, BOB, FOR_BOB, proofOfBob);
        (uint256 a, uint256 b) = (token.balanceOf(ALICE), token.balanceOf(BOB));
        equal(tasks.claimMany(id, batch), NOW_FOR_ALICE + 30 + 60 + 375, "paid");
        equal(token.balanceOf(ALICE), a + NOW_FOR_ALICE + 30, "Alice");
        equal(token.balanceOf(BOB), b + 60 + 375, "Bob");
        conserved(id);
    }

    function test_claim_many_with_a_claim_twice_pays_it_once() public {
        pass(WINDOW);
        Types.Claim[] memory batch = both();
        batch[1] = batch[0];
        equal(tasks.claimMany(id, batch), NOW_FOR_ALICE, "once");
        conserved(id);
    }

    function test_claim_many_with_a_false_claim_pays_nothing() public {
        pass(WINDOW);
        Types.Claim[] memory batch = both();
        batch[1].amount += 1;
        refused(abi.encodeWithSelector(Errors.InvalidProof.selector, 1, BOB, FOR_BOB + 1));
        tasks.claimMany(id, batch);
        isTrue(!tasks.claimed(id, 1, ALICE), "Alice unpaid");
    }

    function test_claim_many_pays_a_run_of_one_account_at_once() public {
        (bytes32[] memory alice, bytes32[] memory bob) = settleTwo(id, 2, 40, 80, 120);
        rounds.setDirect(id, 2, ALICE, 4);
        stakes.setDelegatorsBps(5_000);
        pass(WINDOW);
        tasks.claim(id, 1, ALICE, FOR_ALICE, proofOfAlice);
        equal(stakes.bookings(), 1, "one claim, one booking");
        settle(id, 3, 0, 0, 4);
        Types.Claim[] memory batch = new Types.Claim[](5);
        batch[0] = Types.Claim(2, ALICE, 40, alice);
        // Claimed before, in the middle of a run.
        batch[1] = Types.Claim(1, ALICE, FOR_ALICE, proofOfAlice);
        batch[2] = Types.Claim(2, ALICE, 0, new bytes32[](0));
        batch[3] = Types.Claim(2, BOB, 80, bob);
        batch[4] = Types.Claim(1, ALICE, FOR_ALICE, proofOfAlice);
        uint256 before = token.balanceOf(ALICE);
        equal(tasks.claimMany(id, batch), 30 + 3 + 60, "paid");
        equal(stakes.bookings(), 3, "one for each run that is paid");
        // Half of 33, rounded down, is the delegators'.
        equal(token.balanceOf(ALICE), before + 17, "Alice");
        conserved(id);
    }

    function test_claim_many_with_a_direct_claim_of_nobody_pays_nothing() public {
        pass(WINDOW);
        Types.Claim[] memory batch = both();
        batch[1] = Types.Claim(1, ANYONE, 0, new bytes32[](0));
        refused(abi.encodeWithSelector(Errors.NothingToClaim.selector, 1, ANYONE));
        tasks.claimMany(id, batch);
        isTrue(!tasks.claimed(id, 1, ALICE), "Alice unpaid");
    }

    function test_claim_many_of_nothing_is_nothing() public {
        equal(tasks.claimMany(id, new Types.Claim[](0)), 0, "paid");
    }

    // ---- Vesting ----

    function test_vesting_is_released_after_the_end() public {
        pass(WINDOW);
        tasks.claim(id, 1, ALICE, FOR_ALICE, proofOfAlice);
        refused(wrongState(id, Types.TaskState.Active));
        tasks.releaseVested(id, ALICE);

        pass(TIMEOUT);
        tasks.tick(id);
        uint256 before = token.balanceOf(ALICE);
        uint128 amount = FOR_ALICE - NOW_FOR_ALICE;
        vm.expectEmit(address(tasks));
        emit VestingReleased(id, ALICE, amount, 0);
        vm.prank(ANYONE);
        equal(tasks.releaseVested(id, ALICE), amount, "released");
        equal(token.balanceOf(ALICE), before + amount, "Alice");
        conserved(id);

        refused(abi.encodeWithSelector(Errors.NothingVested.selector, id, ALICE));
        tasks.releaseVested(id, ALICE);
    }

    function test_the_closing_evaluation_decides_what_is_released() public {
        settleEmpty(id, 2, ROUNDS);
        pass(WINDOW);
        tasks.claim(id, 1, ALICE, FOR_ALICE, proofOfAlice);
        tasks.finish(id);
        refused(wrongState(id, Types.TaskState.Closing));
        tasks.releaseVested(id, ALICE);
        rounds.close(id, 6_000);

        // A claim that comes later vests by the same rule.
        tasks.claim(id, 1, BOB, FOR_BOB, proofOfBob);
        uint128 refundable = tasks.refundableOf(id);
        equal(tasks.refund(id), refundable, "unspent");
        // 60 per cent of 251 and of 125, rounded down.
        equal(tasks.releaseVested(id, ALICE), 150, "Alice");
        equal(tasks.releaseVested(id, BOB), 75, "Bob");
        equal(tasks.refund(id), 101 + 50, "forfeited");
        equal(token.balanceOf(address(tasks)), 0, "nothing is left");
        conserved(id);
    }

    function test_what_is_forfeited_wholly_pays_nobody_but_the_creator() public {
        settleEmpty(id, 2, ROUNDS);
        pass(WINDOW);
        tasks.claim(id, 1, ALICE, FOR_ALICE, proofOfAlice);
        tasks.finish(id);
        rounds.close(id, 0);
        equal(tasks.releaseVested(id, ALICE), 0, "released");
        equal(tasks.task(id).forfeited, FOR_ALICE - NOW_FOR_ALICE, "forfeited");
        conserved(id);
    }

    // ---- Validators and aggregator ----

    function test_direct_pay_has_a_claim_of_its_own() public {
        // A root that names a validator must not use up what the validator is owed.
        bytes32 leaf = tasks.payoutLeaf(id, 2, BOB, 8);
        settle(id, 2, leaf, 8, 40);
        rounds.setDirect(id, 2, BOB, 40);
        refused(abi.encodeWithSelector(Errors.DisputeWindowOpen.selector, block.timestamp + WINDOW));
        tasks.claimDirect(id, 2, BOB);
        pass(WINDOW);
        equal(tasks.claim(id, 2, BOB, 8, new bytes32[](0)), 6, "by proof");
        vm.prank(ANYONE);
        equal(tasks.claimDirect(id, 2, BOB), 30, "direct");
        isTrue(tasks.directClaimed(id, 2, BOB) && tasks.claimed(id, 2, BOB), "both");
        equal(tasks.vestingOf(id, BOB), 12, "vesting");
        refused(abi.encodeWithSelector(Errors.AlreadyClaimed.selector, 2, BOB));
        tasks.claimDirect(id, 2, BOB);
        refused(abi.encodeWithSelector(Errors.NothingToClaim.selector, 2, ALICE));
        tasks.claimDirect(id, 2, ALICE);
        refused(abi.encodeWithSelector(Errors.RoundNotSettled.selector, id, 3));
        tasks.claimDirect(id, 3, BOB);
        conserved(id);
    }

    function test_claim_many_takes_both_kinds() public {
        settle(id, 2, 0, 0, 40);
        rounds.setDirect(id, 2, ALICE, 40);
        pass(WINDOW);
        Types.Claim[] memory batch = new Types.Claim[](3);
        batch[0] = Types.Claim(1, ALICE, FOR_ALICE, proofOfAlice);
        batch[1] = Types.Claim(2, ALICE, 0, new bytes32[](0));
        batch[2] = batch[1];
        uint256 before = token.balanceOf(ALICE);
        equal(tasks.claimMany(id, batch), NOW_FOR_ALICE + 30, "paid");
        equal(token.balanceOf(ALICE), before + NOW_FOR_ALICE + 30, "Alice");
        conserved(id);
    }

    // ---- Delegators ----

    function test_delegators_get_their_part_of_every_payment() public {
        stakes.setDelegatorsBps(3_000);
        pass(WINDOW);
        tasks.claim(id, 1, ALICE, FOR_ALICE, proofOfAlice);
        equal(token.balanceOf(ALICE), 525, "70 per cent of 750");
        equal(token.balanceOf(address(stakes)), 225, "the rest");
        pass(TIMEOUT);
        tasks.tick(id);
        tasks.releaseVested(id, ALICE);
        // 251 released, 75 of it for delegators.
        equal(token.balanceOf(ALICE), 525 + 176, "with the release");
        equal(token.balanceOf(address(stakes)), stakes.booked(), "as booked");
        conserved(id);
    }

    function test_delegators_may_get_all_of_it() public {
        stakes.setDelegatorsBps(10_000);
        pass(WINDOW);
        tasks.claimMany(id, both());
        equal(token.balanceOf(ALICE), 0, "Alice");
        equal(token.balanceOf(address(stakes)), uint256(NOW_FOR_ALICE) + 375, "delegators");
        conserved(id);
    }

    function test_without_vesting_all_is_paid_at_once() public {
        Types.TaskSpec memory spec = specification();
        (spec.vestingBps, spec.disputeWindow) = (0, 0);
        id = create(spec);
        (bytes32[] memory alice,) = settleTwo(id, 1, 999, 1, 1_000);
        pass(WINDOW);
        equal(tasks.claim(id, 1, ALICE, 999, alice), 999, "paid");
        equal(tasks.vestingOf(id, ALICE), 0, "vesting");
        conserved(id);
    }

    // ---- Fuzz ----

    /// Every leaf of a random tree is paid its own amount, once, and the books close at zero.
    function testFuzz_every_claim_of_a_tree(uint128[9] memory weights, uint16 bps, uint8 count)
        public
    {
        uint256 leafCount = 1 + count % weights.length;
        Types.TaskSpec memory spec = specification();
        spec.vestingBps = bps % 9_001;
        id = create(spec);

        uint128[] memory amounts = new uint128[](leafCount);
        bytes32[] memory leaves = new bytes32[](leafCount);
        uint128 total = 0;
        for (uint256 i = 0; i < leafCount; ++i) {
            amounts[i] = weights[i] % (POOL / uint128(leafCount)) + 1;
            leaves[i] = tasks.payoutLeaf(id, 1, trainer(i), amounts[i]);
            total += amounts[i];
        }
        settle(id, 1, Tree.root(leaves), total, 0);
        pass(WINDOW);
        for (uint256 i = 0; i < leafCount; ++i) {
            uint128 now_ = tasks.claim(id, 1, trainer(i), amounts[i], Tree.proof(leaves, i));
            // Against the plain formula, in exact arithmetic.
            equal(now_, uint256(amounts[i]) * (10_000 - spec.vestingBps) / 10_000, "now");
            equal(token.balanceOf(trainer(i)), now_, "received");
        }
        closeAndCheck(leafCount, amounts, total);
    }

    /// A leaf of a tree of any size is paid by its own proof, and by no shortened one.
    function testFuzz_trees_of_any_size(uint16 size, uint16 index) public {
        uint256 leafCount = 1 + size % 256;
        index = uint16(index % leafCount);
        bytes32[] memory leaves = new bytes32[](leafCount);
        for (uint256 i = 0; i < leafCount; ++i) {
            leaves[i] = tasks.payoutLeaf(id, 2, trainer(i), uint128(i + 1));
        }
        uint128 amount = uint128(index) + 1;
        settle(id, 2, Tree.root(leaves), 40_000, 0);
        pass(WINDOW);
        bytes32[] memory proof = Tree.proof(leaves, index);
        if (proof.length != 0) {
            bytes32[] memory shorter = new bytes32[](proof.length - 1);
            for (uint256 i = 0; i < shorter.length; ++i) {
                shorter[i] = proof[i];
            }
            invalid(2, trainer(index), amount, shorter);
        }
        invalid(2, trainer(index), amount + 1, proof);
        tasks.claim(id, 2, trainer(index), amount, proof);
        conserved(id);
    }

    /// From the least to the largest amounts, against the formulas in exact arithmetic.
    function testFuzz_split_release_and_forfeit(
        uint128 amount,
        uint16 vestingBps,
        uint16 releaseBps,
        uint16 delegatorsBps
    ) public {
        if (amount == 0) amount = type(uint128).max;
        Types.TaskSpec memory spec = specification();
        (spec.reward, spec.rounds, spec.vestingBps) = (amount, 1, 1 + vestingBps % 9_000);
        (releaseBps, delegatorsBps) = (releaseBps % 10_001, delegatorsBps % 10_001);
        stakes.setDelegatorsBps(delegatorsBps);
        id = create(spec);
        settle(id, 1, 0, 0, amount);
        rounds.setDirect(id, 1, trainer(1), amount);
        pass(WINDOW);

        uint256 paidNow = uint256(amount) * (10_000 - spec.vestingBps) / 10_000;
        equal(tasks.claimDirect(id, 1, trainer(1)), paidNow, "now");
        uint256 vesting = amount - paidNow;
        equal(tasks.vestingOf(id, trainer(1)), vesting, "vesting");
        tasks.finish(id);
        rounds.close(id, releaseBps);
        uint256 released = vesting * releaseBps / 10_000;
        equal(tasks.releaseVested(id, trainer(1)), released, "released");
        equal(tasks.refundableOf(id), vesting - released, "forfeited");
        if (vesting != released) tasks.refund(id);

        uint256 toDelegators = paidNow * delegatorsBps / 10_000 + released * delegatorsBps / 10_000;
        equal(token.balanceOf(address(stakes)), toDelegators, "delegators");
        equal(token.balanceOf(trainer(1)), paidNow + released - toDelegators, "operator");
        equal(token.balanceOf(address(tasks)), REWARD, "the other task's alone");
        conserved(id);
    }

    /// Whatever total a lying aggregator sets aside, a round pays no more than that.
    function testFuzz_a_lying_root_pays_at_most_its_total(uint128 alice, uint128 bob, uint128 total)
        public
    {
        total = total % (POOL + 1);
        (alice, bob) = (alice == 0 ? 1 : alice, bob == 0 ? 1 : bob);
        (bytes32[] memory a, bytes32[] memory b) = settleTwo(id, 2, alice, bob, total);
        pass(WINDOW);
        uint256 before = token.balanceOf(address(tasks));
        try tasks.claim(id, 2, ALICE, alice, a) {} catch {}
        try tasks.claim(id, 2, BOB, bob, b) {} catch {}
        isTrue(before - token.balanceOf(address(tasks)) <= total, "paid");
        isTrue(tasks.claimed(id, 2, ALICE) == (alice <= total), "Alice's fits or does not");
    }

    // ---- Helpers ----

    function closeAndCheck(uint256 count, uint128[] memory amounts, uint128 total) private {
        pass(TIMEOUT);
        tasks.tick(id);
        if (total != REWARD) equal(tasks.refund(id), REWARD - total, "refund");
        for (uint256 i = 0; i < count; ++i) {
            if (tasks.vestingOf(id, trainer(i)) != 0) tasks.releaseVested(id, trainer(i));
            equal(token.balanceOf(trainer(i)), amounts[i], "in the end");
        }
        (, uint128 paid,, uint128 vesting, uint128 unclaimed) = tasks.balances(id);
        equal(paid, total, "paid");
        equal(uint256(vesting) + unclaimed, 0, "nothing left");
    }

    function trainer(uint256 index) private pure returns (address) {
        return address(uint160(0x7000 + index));
    }

    function both() private view returns (Types.Claim[] memory batch) {
        batch = new Types.Claim[](2);
        batch[0] = Types.Claim(1, ALICE, FOR_ALICE, proofOfAlice);
        batch[1] = Types.Claim(1, BOB, FOR_BOB, proofOfBob);
    }

    function invalid(uint32 round, address account, uint128 amount, bytes32[] memory proof)
        private
    {
        refused(abi.encodeWithSelector(Errors.InvalidProof.selector, round, account, amount));
        tasks.claim(id, round, account, amount, proof);
    }
}

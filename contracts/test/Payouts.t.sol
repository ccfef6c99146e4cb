// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {
    ITaskManagerErrors as Errors,
    ITaskManagerEvents,
    ITaskManagerTypes as Types
} from "../src/interfaces/ITaskManager.sol";
import {BaseTest} from "./helpers/Base.sol";
import {Tree} from "./helpers/Tree.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice Claims and vesting.
contract PayoutsTest is BaseTest, ITaskManagerEvents {
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
        (proofOfAlice, proofOfBob) = settle(id, 1, FOR_ALICE, FOR_BOB, FOR_ALICE + FOR_BOB);
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
        equal(tasks.roundResult(id, 1).claimed, FOR_ALICE, "of the round");
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
        bytes32 root = tasks.roundResult(id, 1).payoutsRoot;
        submit(id, 2, root, FOR_ALICE + FOR_BOB);
        uint64 other = newTask();
        submit(other, 1, root, FOR_ALICE + FOR_BOB);
        pass(WINDOW);
        invalid(2, ALICE, FOR_ALICE, proofOfAlice);
        refused(abi.encodeWithSelector(Errors.InvalidProof.selector, 1, ALICE, FOR_ALICE));
        tasks.claim(other, 1, ALICE, FOR_ALICE, proofOfAlice);
    }

    function test_the_empty_root_pays_nobody() public {
        submitEmpty(id, 2, 2);
        pass(WINDOW);
        invalid(2, ALICE, 0, new bytes32[](0));
    }

    function test_claim_of_a_round_without_result_is_refused() public {
        refused(abi.encodeWithSelector(Errors.RoundNotSettled.selector, id, 2));
        tasks.claim(id, 2, ALICE, FOR_ALICE, proofOfAlice);
        refused(abi.encodeWithSelector(Errors.UnknownTask.selector, 9));
        tasks.claim(9, 1, ALICE, FOR_ALICE, proofOfAlice);
    }

    function test_a_root_that_promises_too_much_pays_no_more_than_its_total() public {
        (bytes32[] memory alice, bytes32[] memory bob) = settle(id, 2, POOL, POOL, POOL);
        pass(WINDOW);
        tasks.claim(id, 2, ALICE, POOL, alice);
        refused(abi.encodeWithSelector(Errors.ClaimAboveRoundTotal.selector, 0, POOL));
        tasks.claim(id, 2, BOB, POOL, bob);
        conserved(id);
    }

    function test_claims_stay_good_after_the_refund() public {
        pass(TIMEOUT);
        tasks.abort(id);
        tasks.refund(id);
        pass(3_650 days);
        tasks.claim(id, 1, ALICE, FOR_ALICE, proofOfAlice);
        tasks.claim(id, 1, BOB, FOR_BOB, proofOfBob);
        tasks.releaseVested(id, ALICE);
        tasks.releaseVested(id, BOB);
        equal(token.balanceOf(address(tasks)), 0, "nothing is left");
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
        (bytes32[] memory alice, bytes32[] memory bob) = settle(id, 2, 40, 80, 120);
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

    function test_claim_many_of_nothing_is_nothing() public {
        equal(tasks.claimMany(id, new Types.Claim[](0)), 0, "paid");
    }

    // ---- Vesting ----

    function test_vesting_is_released_after_the_end() public {
        pass(WINDOW);
        tasks.claim(id, 1, ALICE, FOR_ALICE, proofOfAlice);
        refused(abi.encodeWithSelector(Errors.TaskStillActive.selector, id));
        tasks.releaseVested(id, ALICE);

        pass(TIMEOUT);
        tasks.abort(id);
        uint256 releasableAt = block.timestamp + VESTING;
        pass(VESTING - 1);
        refused(abi.encodeWithSelector(Errors.StillVesting.selector, releasableAt));
        tasks.releaseVested(id, ALICE);

        pass(1);
        uint256 before = token.balanceOf(ALICE);
        uint128 amount = FOR_ALICE - NOW_FOR_ALICE;
        vm.expectEmit(address(tasks));
        emit VestingReleased(id, ALICE, amount);
        vm.prank(ANYONE);
        equal(tasks.releaseVested(id, ALICE), amount, "released");
        equal(token.balanceOf(ALICE), before + amount, "Alice");
        conserved(id);

        refused(abi.encodeWithSelector(Errors.NothingVested.selector, id, ALICE));
        tasks.releaseVested(id, ALICE);
    }

    function test_without_vesting_all_is_paid_at_once() public {
        Types.TaskSpec memory spec = specification();
        (spec.vestingBps, spec.disputeWindow) = (0, 0);
        vm.prank(CREATOR);
        id = tasks.createTask(spec, "task");
        (bytes32[] memory alice,) = settle(id, 1, 999, 1, 1_000);
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
        vm.prank(CREATOR);
        id = tasks.createTask(spec, "task");

        uint128[] memory amounts = new uint128[](leafCount);
        bytes32[] memory leaves = new bytes32[](leafCount);
        uint128 total = 0;
        for (uint256 i = 0; i < leafCount; ++i) {
            amounts[i] = weights[i] % (POOL / uint128(leafCount) + 1);
            leaves[i] = tasks.payoutLeaf(id, 1, trainer(i), amounts[i]);
            total += amounts[i];
        }
        submit(id, 1, Tree.root(leaves), total);
        pass(WINDOW);
        for (uint256 i = 0; i < leafCount; ++i) {
            uint128 now_ = tasks.claim(id, 1, trainer(i), amounts[i], Tree.proof(leaves, i));
            // Against the plain formula, in exact arithmetic.
            equal(now_, uint256(amounts[i]) * (10_000 - spec.vestingBps) / 10_000, "now");
            equal(token.balanceOf(trainer(i)), now_, "received");
        }
        closeAndCheck(leafCount, amounts, total);
    }

    /// Whatever total a lying aggregator sets aside, a round pays no more than that.
    function testFuzz_a_lying_root_pays_at_most_its_total(uint128 alice, uint128 bob, uint128 total)
        public
    {
        total = total % (POOL + 1);
        (bytes32[] memory a, bytes32[] memory b) = settle(id, 2, alice, bob, total);
        pass(WINDOW);
        uint256 before = token.balanceOf(address(tasks));
        try tasks.claim(id, 2, ALICE, alice, a) {} catch {}
        try tasks.claim(id, 2, BOB, bob, b) {} catch {}
        isTrue(tasks.roundResult(id, 2).claimed <= total, "claimed");
        isTrue(before - token.balanceOf(address(tasks)) <= total, "paid");
        isTrue(tasks.claimed(id, 2, ALICE) == (alice <= total), "Alice's fits or does not");
    }

    // ---- Helpers ----

    function closeAndCheck(uint256 count, uint128[] memory amounts, uint128 total) private {
        pass(TIMEOUT);
        tasks.abort(id);
        equal(tasks.refund(id), REWARD - total, "refund");
        pass(VESTING);
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

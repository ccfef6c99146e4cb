// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {SketchAudit} from "../src/SketchAudit.sol";
import {IPenaltyManagerErrors, IPenaltyManagerTypes} from "../src/interfaces/IPenaltyManager.sol";
import {IRoundManagerTypes} from "../src/interfaces/IRoundManager.sol";
import {ISketchAuditErrors as Errors} from "../src/interfaces/ISketchAudit.sol";
import {AuditBase} from "./helpers/AuditBase.sol";
import {Sketches, Story} from "./helpers/Sketched.sol";
import {FeeToken} from "./helpers/Tokens.sol";
import {Tree} from "./helpers/Tree.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice What an aggregator withholds it is asked for; who answers is paid, who does not is
/// punished, and nobody's bond is lost.
contract SketchDemandsTest is AuditBase {
    using Sketches for Story;

    Place private place;
    IPenaltyManagerTypes.Update private head;

    // ---- Answers ----

    function test_a_header_is_shown_with_its_signature() public {
        Story memory s = begin();
        uint256 demand = askHeader();
        isOpen(demand, Part.Header, 0);
        bytes memory signature = sign(KEY, hash(header(s)));
        paid(demand);
        audit.answerHeader(demand, header(s), signature);
        gone(demand);
    }

    function test_a_header_is_not_shown_by_less() public {
        Story memory s = begin();
        uint256 demand = askHeader();
        IPenaltyManagerTypes.Update memory other = header(s);
        other.deltaNorm += 1;
        bytes memory signature = sign(KEY, hash(other));
        refused(abi.encodeWithSelector(Errors.NotAnAnswer.selector, demand));
        audit.answerHeader(demand, other, signature);
        // Made up by the aggregator.
        signature = sign(OTHER_KEY, hash(header(s)));
        refused(abi.encodeWithSelector(Errors.NotAnAnswer.selector, demand));
        audit.answerHeader(demand, header(s), signature);
        refused(IPenaltyManagerErrors.InvalidSignature.selector);
        audit.answerHeader(demand, header(s), "");
        refused(abi.encodeWithSelector(Errors.NotAnAnswer.selector, demand));
        audit.answerLeaf(demand, 0, 3, s.chunks[0], Tree.proof(s.chunkLeaves, 0));
        silent(demand, 1_000);
    }

    /// The chain itself knows who committed to it.
    function test_the_header_of_an_own_update_needs_no_signature() public {
        Story memory s = begin();
        place.slot = 2;
        uint256 demand = askHeader();
        paid(demand);
        audit.answerHeader(demand, header(s), "");
    }

    function test_sums_are_shown() public {
        Story memory s = begin();
        for (uint64 i = 0; i < 3; ++i) {
            uint256 demand = askSums(i);
            isOpen(demand, Part.Sums, i);
            paid(demand);
            audit.answerLeaf(demand, i, 3, s.sums[i], Tree.proof(s.sumsLeaves, i));
            gone(demand);
        }
    }

    function test_chunks_are_shown() public {
        Story memory s = begin();
        for (uint64 i = 0; i < 3; ++i) {
            uint256 demand = askChunk(i);
            isOpen(demand, Part.Chunk, i);
            paid(demand);
            audit.answerLeaf(demand, i, 3, s.chunks[i], Tree.proof(s.chunkLeaves, i));
            gone(demand);
        }
    }

    function test_where_there_are_not_so_many_any_other_says_so() public {
        Story memory s = begin();
        uint256 demand = askSums(3);
        paid(demand);
        audit.answerLeaf(demand, 1, 3, s.sums[1], Tree.proof(s.sumsLeaves, 1));
        demand = askChunk(type(uint64).max);
        paid(demand);
        audit.answerLeaf(demand, 0, 3, s.chunks[0], Tree.proof(s.chunkLeaves, 0));
    }

    function test_another_leaf_is_no_answer() public {
        Story memory s = begin();
        uint256 demand = askSums(1);
        refused(abi.encodeWithSelector(Errors.NotAnAnswer.selector, demand));
        audit.answerLeaf(demand, 0, 3, s.sums[0], Tree.proof(s.sumsLeaves, 0));
        refused(abi.encodeWithSelector(Errors.NotAnAnswer.selector, demand));
        audit.answerLeaf(demand, 2, 3, s.sums[2], Tree.proof(s.sumsLeaves, 2));
        refusesLeaf(demand, 1, 3, s.sums[0], Tree.proof(s.sumsLeaves, 0));
        refusesLeaf(demand, 1, 2, s.sums[1], Tree.proof(s.sumsLeaves, 1));
        // As if there were but one.
        refusesLeaf(demand, 0, 1, s.sums[0], Tree.proof(s.sumsLeaves, 0));
        // Of the other tree.
        refusesLeaf(demand, 1, 3, s.chunks[1], Tree.proof(s.chunkLeaves, 1));
        refused(abi.encodeWithSelector(Errors.NoSuchChunk.selector, 1, 1));
        audit.answerLeaf(demand, 1, 1, s.sums[1], Tree.proof(s.sumsLeaves, 1));
        refused(abi.encodeWithSelector(Errors.NotAnAnswer.selector, demand));
        audit.answerHeader(demand, header(s), "");
        silent(demand, 1_000);
    }

    function test_whoever_answers_the_aggregator_is_paid() public {
        Story memory s = begin();
        uint256 demand = askSums(1);
        uint256 before = token.balanceOf(AGGREGATOR);
        uint256 demander = token.balanceOf(BOB);
        vm.prank(BOB);
        audit.answerLeaf(demand, 1, 3, s.sums[1], Tree.proof(s.sumsLeaves, 1));
        equal(token.balanceOf(AGGREGATOR), before + BOND, "paid");
        equal(token.balanceOf(BOB), demander, "not paid");
    }

    function test_an_answer_comes_once_and_in_time() public {
        Story memory s = begin();
        uint256 demand = askSums(1);
        pass(WINDOW);
        audit.answerLeaf(demand, 1, 3, s.sums[1], Tree.proof(s.sumsLeaves, 1));
        refusesGone(demand, s);
        demand = askSums(1);
        pass(WINDOW + 1);
        refused(abi.encodeWithSelector(Errors.AnswerTooLate.selector, block.timestamp - 1));
        audit.answerLeaf(demand, 1, 3, s.sums[1], Tree.proof(s.sumsLeaves, 1));
        refusesGone(0, s);
    }

    // ---- Silence ----

    function test_silence_is_punished_and_pays_the_demander() public {
        begin();
        uint256 before = token.balanceOf(BOB);
        uint256 demand = askSums(1);
        equal(token.balanceOf(BOB), before - BOND, "bond");
        pass(WINDOW);
        refused(abi.encodeWithSelector(Errors.AnswerAwaited.selector, block.timestamp));
        audit.punishSilence(demand);
        pass(1);
        vm.expectEmit(address(audit));
        emit EntryPunished(TASK, ROUND, AGGREGATOR, SLOT, Fault.Silence, 1_000);
        vm.expectEmit(address(audit));
        emit DemandClosed(demand, 1_000);
        vm.prank(CAROL);
        equal(audit.punishSilence(demand), 1_000, "taken");
        equal(token.balanceOf(BOB), before + 250, "bond and reward");
        equal(ownOf(AGGREGATOR), 9_000, "rest");
        equal(token.balanceOf(address(audit)), 0, "nothing is left");
        gone(demand);
        refused(abi.encodeWithSelector(Errors.NoSuchDemand.selector, demand));
        audit.punishSilence(demand);
    }

    function test_silence_is_punished_once_and_no_bond_is_lost() public {
        Story memory s = begin();
        uint256 first = askSums(1);
        uint256 second = askChunk(2);
        silent(first, 1_000);
        uint256 before = token.balanceOf(BOB);
        equal(audit.punishSilence(second), 0, "taken");
        equal(token.balanceOf(BOB), before + BOND, "bond");
        // What is false besides is of the same submission.
        s.commitment ^= bytes32(uint256(1));
        Place memory again = settle(s);
        refused(
            abi.encodeWithSelector(
                IPenaltyManagerErrors.AlreadyPunished.selector,
                keccak256(abi.encode(keccak256("convoke.entry-fault.v1"), TASK, ROUND, ATTEMPT))
            )
        );
        audit.punishEntry(again, head, s.opening(2));
    }

    function test_the_bond_goes_back_where_the_result_was_voided() public {
        begin();
        uint256 demand = askSums(1);
        IRoundManagerTypes.Round memory r = rounds.roundOf(TASK, ROUND);
        r.stage = IRoundManagerTypes.Stage.None;
        rounds.set(TASK, ROUND, r);
        silent(demand, 0);
        // And where another attempt has a result.
        begin();
        demand = askSums(1);
        rounds.open(TASK, ROUND, ATTEMPT + 1);
        silent(demand, 0);
        equal(ownOf(AGGREGATOR), OWN, "untouched");
    }

    function test_the_bond_goes_back_where_nothing_is_at_stake() public {
        begin();
        uint256 demand = askSums(1);
        request(AGGREGATOR, OWN);
        rounds.close(TASK);
        pass(UNBONDING);
        withdraw(AGGREGATOR);
        uint256 before = token.balanceOf(BOB);
        equal(audit.punishSilence(demand), 0, "taken");
        equal(token.balanceOf(BOB), before + BOND, "bond");
    }

    // ---- Demands ----

    function test_a_demand_is_due_before_the_result_is_final() public {
        begin();
        uint64 last = uint64(block.timestamp) + DISPUTE;
        pass(DISPUTE - WINDOW - 1);
        askSums(1);
        pass(1);
        bytes memory reason = abi.encodeWithSelector(Errors.DemandTooLate.selector, last, last);
        Place memory p = place;
        vm.prank(BOB);
        refused(reason);
        audit.demandSums(p, 1);
        vm.prank(BOB);
        refused(reason);
        audit.demandHeader(p);
        vm.prank(BOB);
        refused(reason);
        audit.demandChunk(p, head, 1);
    }

    function test_demands_are_about_what_was_submitted() public {
        begin();
        Place memory p = place;
        p.slot = 0;
        vm.prank(BOB);
        refused(abi.encodeWithSelector(Errors.NotActive.selector, 0));
        audit.demandSums(p, 1);
        p.slot = 3;
        vm.prank(BOB);
        refused(abi.encodeWithSelector(Errors.NoSuchUpdate.selector, 3, 3));
        audit.demandHeader(p);
        p.slot = SLOT;
        IPenaltyManagerTypes.Update memory other = head;
        other.deltaRoot = "another";
        vm.prank(BOB);
        refused(abi.encodeWithSelector(Errors.OtherHeader.selector, hash(head), hash(other)));
        audit.demandChunk(p, other, 1);
        bytes32 expected = rounds.roundOf(TASK, ROUND).submissionHash;
        p.factorsHash = "another";
        bytes32 got = keccak256(abi.encode(p.payoutsHash, p.factorsHash, keccak256(p.proof)));
        vm.prank(BOB);
        refused(abi.encodeWithSelector(Errors.NotTheSubmission.selector, expected, got));
        audit.demandSums(p, 1);
    }

    function test_a_bond_is_paid_in_full() public {
        begin();
        Place memory p = place;
        vm.prank(CAROL);
        try audit.demandSums(p, 1) {
            isTrue(false, "without a bond");
        } catch {}
        equal(token.balanceOf(address(audit)), 0, "nothing");
    }

    function test_a_token_that_takes_a_fee_is_refused() public {
        FeeToken fees = new FeeToken();
        deploy(fees);
        audit = new SketchAudit(roundManager(), WINDOW, BOND);
        rounds.open(TASK, ROUND, ATTEMPT);
        vm.prank(BOB);
        token.approve(address(audit), type(uint256).max);
        fees.takeFees();
        begin();
        Place memory p = place;
        vm.prank(BOB);
        refused(abi.encodeWithSelector(Errors.WrongAmountReceived.selector, BOND, BOND - 1));
        audit.demandSums(p, 1);
    }

    // ---- A search for the first false sums ----

    /// A liar tells false sums from the second chunk on, and withholds them all. The auditor has
    /// the delta; by demands it finds the first that is false, and opens it.
    function test_a_liar_that_withholds_is_found() public {
        Story memory truth = begin();
        Story memory s = story();
        for (uint256 i = 1; i < 3; ++i) {
            s.sums[i][9] ^= 0x04;
        }
        s.retell();
        s.commitment = teller.commitment(s.sums[2], NORM, CLIP, account, context());
        place = settle(s);
        head = header(s);
        (uint256 low, uint256 high) = (0, 3);
        while (low < high) {
            uint256 middle = (low + high) / 2;
            uint256 demand = askSums(uint64(middle));
            audit.answerLeaf(
                demand, uint64(middle), 3, s.sums[middle], Tree.proof(s.sumsLeaves, middle)
            );
            bool isTrue_ = keccak256(s.sums[middle]) == keccak256(truth.sums[middle]);
            (low, high) = isTrue_ ? (middle + 1, high) : (low, middle);
        }
        equal(low, 1, "first false one");
        equal(audit.punishEntry(place, head, s.opening(low)), 1_000, "taken");
    }

    // ---- Inside ----

    function begin() private returns (Story memory s) {
        s = story();
        place = settle(s);
        head = header(s);
    }

    function askHeader() private returns (uint256) {
        Place memory p = place;
        vm.prank(BOB);
        return audit.demandHeader(p);
    }

    function askChunk(uint64 index) private returns (uint256) {
        Place memory p = place;
        IPenaltyManagerTypes.Update memory u = head;
        vm.prank(BOB);
        return audit.demandChunk(p, u, index);
    }

    function askSums(uint64 index) private returns (uint256) {
        Place memory p = place;
        vm.prank(BOB);
        return audit.demandSums(p, index);
    }

    /// @dev The next call answers.
    function paid(uint256 demand) private {
        vm.expectEmit(address(audit));
        emit Answered(demand);
    }

    function silent(uint256 demand, uint128 taken) private {
        pass(WINDOW + 1);
        uint256 before = token.balanceOf(BOB);
        equal(audit.punishSilence(demand), taken, "taken");
        equal(token.balanceOf(BOB), before + BOND + taken / 4, "bond and reward");
    }

    function isOpen(uint256 demand, Part part, uint64 index) private view {
        Demand memory asked = audit.demandOf(demand);
        isTrue(asked.demander == BOB && asked.part == part, "what");
        equal(asked.index, index, "index");
        equal(asked.due, block.timestamp + WINDOW, "due");
        equal(asked.attempt, ATTEMPT, "attempt");
    }

    function gone(uint256 demand) private view {
        isTrue(audit.demandOf(demand).demander == address(0), "gone");
        equal(token.balanceOf(address(audit)), 0, "bonds");
    }

    function refusesLeaf(
        uint256 demand,
        uint64 index,
        uint64 count,
        bytes memory content,
        bytes32[] memory proof
    ) private {
        try audit.answerLeaf(demand, index, count, content, proof) {
            isTrue(false, "answered");
        } catch (bytes memory reason) {
            isTrue(bytes4(reason) == Errors.NotInTree.selector, "not in the tree");
        }
    }

    function refusesGone(uint256 demand, Story memory s) private {
        bytes memory reason = abi.encodeWithSelector(Errors.NoSuchDemand.selector, demand);
        bytes32[] memory proof = Tree.proof(s.sumsLeaves, 1);
        refused(reason);
        audit.answerLeaf(demand, 1, 3, s.sums[1], proof);
        refused(reason);
        audit.answerHeader(demand, header(s), "");
        refused(reason);
        audit.punishSilence(demand);
    }
}

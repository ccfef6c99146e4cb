// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IPenaltyManagerErrors, IPenaltyManagerTypes} from "../src/interfaces/IPenaltyManager.sol";
import {IRoundManagerTypes} from "../src/interfaces/IRoundManager.sol";
import {ISketchAuditErrors as Errors} from "../src/interfaces/ISketchAudit.sol";
import {Norms} from "../src/libraries/Norms.sol";
import {AuditBase} from "./helpers/AuditBase.sol";
import {Sketches, Story} from "./helpers/Sketched.sol";
import {Tree} from "./helpers/Tree.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice What is true is no fault, and what is false is, whoever says it.
contract SketchAuditTest is AuditBase {
    using Sketches for Story;

    function test_the_constructor_keeps_what_it_is_given() public view {
        isTrue(address(audit.roundManager()) == address(rounds), "round manager");
        equal(audit.answerWindow(), WINDOW, "window");
        equal(audit.bond(), BOND, "bond");
    }

    // ---- What is true ----

    function test_the_truth_is_no_fault() public {
        Story memory s = story();
        for (uint256 i = 0; i < 3; ++i) {
            honest(s, i);
        }
    }

    function test_a_norm_declared_too_high_is_no_fault() public {
        Story memory s = story();
        s.norm = 0x7f7fffff;
        s.commitment = teller.commitment(s.sums[2], s.norm, s.clipNorm, account, context());
        honest(s, 2);
    }

    // ---- What is false ----

    function test_false_sums_are_a_fault() public {
        Story memory s = story();
        s.sums[0][100] ^= 0x01;
        s.retell();
        fault(s, 0, Fault.Step);
    }

    /// The sums that follow go on from the false ones, so that one step alone is false.
    function test_one_false_step_is_a_fault() public {
        Story memory s = story();
        s.sums[1][7] = bytes1(uint8(s.sums[1][7]) ^ 0x02);
        s.sums[2][7] = bytes1(uint8(s.sums[2][7]) ^ 0x02);
        s.retell();
        fault(s, 1, Fault.Step);
    }

    function test_a_false_energy_is_a_fault() public {
        Story memory s = story();
        s.sums[2][1_055] ^= 0x01;
        s.retell();
        fault(s, 2, Fault.Step);
    }

    function test_a_false_commitment_is_a_fault() public {
        Story memory s = story();
        s.commitment ^= bytes32(uint256(1));
        fault(s, 2, Fault.Commitment);
    }

    function test_a_commitment_for_another_trainer_is_a_fault() public {
        Story memory s = story();
        s.commitment = teller.commitment(s.sums[2], s.norm, s.clipNorm, BOB, context());
        fault(s, 2, Fault.Commitment);
    }

    function test_a_commitment_for_another_round_is_a_fault() public {
        Story memory s = story();
        s.commitment = teller.commitment(s.sums[2], s.norm, s.clipNorm, account, context() + 1);
        fault(s, 2, Fault.Commitment);
    }

    function test_a_norm_declared_too_low_is_a_fault() public {
        Story memory s = story();
        s.norm = 0x3f000000;
        s.commitment = teller.commitment(s.sums[2], s.norm, s.clipNorm, account, context());
        fault(s, 2, Fault.Energy);
    }

    /// Between two openings that fit there can be none: an index that is skipped is withheld.
    function test_sums_of_another_seed_are_a_fault() public {
        bytes[] memory chunks = story().chunks;
        Story memory s = teller.tell(chunks, "another", CLIP, NORM, account, context());
        s.seed = SEED;
        fault(s, 0, Fault.Step);
    }

    // ---- Trees that are none ----

    function test_a_short_chunk_in_the_middle_is_a_fault() public {
        Story memory s = story();
        s.chunks[1] = values("second", 2_047);
        s.retell();
        fault(s, 1, Fault.Chunk);
    }

    function test_a_chunk_too_long_is_a_fault() public {
        Story memory s = story();
        s.chunks[2] = values("third", 2_049);
        s.retell();
        fault(s, 2, Fault.Chunk);
    }

    function test_half_a_value_is_a_fault() public {
        Story memory s = story();
        s.chunks[2] = bytes.concat(s.chunks[2], hex"00");
        s.retell();
        fault(s, 2, Fault.Chunk);
    }

    function test_an_empty_chunk_is_a_fault() public {
        Story memory s = story();
        s.chunks[2] = "";
        s.retell();
        fault(s, 2, Fault.Chunk);
    }

    function test_sums_of_another_length_are_a_fault() public {
        Story memory s = story();
        s.sums[1] = bytes.concat(s.sums[1], hex"00");
        s.retell();
        fault(s, 1, Fault.Sums);
    }

    function test_sums_before_of_another_length_are_a_fault() public {
        Story memory s = story();
        s.sums[1] = "";
        s.retell();
        fault(s, 2, Fault.Sums);
    }

    function test_a_norm_that_is_none_is_a_fault() public {
        Story memory s = story();
        s.norm = 0x7fc00000;
        fault(s, 0, Fault.Norm);
    }

    /// Two leaves for one place: whichever is not true can be opened.
    function test_a_second_leaf_for_a_place_is_a_fault() public {
        Story memory s = story();
        bytes memory lie = bytes.concat(s.sums[1]);
        lie[3] ^= 0x01;
        bytes32[] memory more = new bytes32[](4);
        for (uint256 i = 0; i < 3; ++i) {
            more[i] = s.sumsLeaves[i];
        }
        more[3] = Sketches.leaf("convoke.sketch-sum.v1", 1, 3, lie);
        s.sumsLeaves = more;
        honest(s, 1);
        Opening memory opening = s.opening(1);
        opening.sumsAfter = lie;
        opening.afterProof = Tree.proof(s.sumsLeaves, 3);
        Place memory place = settle(s);
        equal(audit.punishEntry(place, header(s), opening), 1_000, "taken");
    }

    function test_trees_that_disagree_on_the_count_are_a_fault() public {
        Story memory s = story();
        // As if one chunk were all: nothing fits both trees.
        bytes32[] memory one = new bytes32[](1);
        one[0] = Sketches.leaf("convoke.sketch-sum.v1", 0, 1, s.sums[0]);
        s.sumsLeaves = one;
        s.commitment = teller.commitment(s.sums[0], s.norm, s.clipNorm, account, context());
        Place memory place = settle(s);
        Leaf memory chunk =
            Leaf(Part.Chunk, 0, 3, keccak256(s.chunks[0]), Tree.proof(s.chunkLeaves, 0));
        Leaf memory sums = Leaf(Part.Sums, 0, 1, keccak256(s.sums[0]), new bytes32[](0));
        vm.expectEmit(address(audit));
        emit EntryPunished(TASK, ROUND, AGGREGATOR, SLOT, Fault.Counts, 1_000);
        audit.punishCounts(place, header(s), chunk, sums);
    }

    function test_trees_that_agree_on_the_count_are_no_fault() public {
        Story memory s = story();
        Place memory place = settle(s);
        Leaf memory chunk =
            Leaf(Part.Chunk, 0, 3, keccak256(s.chunks[0]), Tree.proof(s.chunkLeaves, 0));
        Leaf memory sums = Leaf(Part.Sums, 2, 3, keccak256(s.sums[2]), Tree.proof(s.sumsLeaves, 2));
        refused(Errors.NoFault.selector);
        audit.punishCounts(place, header(s), chunk, sums);
        // A leaf of one tree is none of the other, and says its own count.
        chunk.part = Part.Sums;
        refusesLeaf(place, s, chunk, sums);
        chunk.part = Part.Chunk;
        chunk.count = 4;
        refusesLeaf(place, s, chunk, sums);
        (chunk.count, chunk.index) = (3, 3);
        refused(abi.encodeWithSelector(Errors.NoSuchChunk.selector, 3, 3));
        audit.punishCounts(place, header(s), chunk, sums);
    }

    function test_an_update_of_another_round_is_a_fault() public {
        Story memory s = story();
        for (uint256 i = 0; i < 3; ++i) {
            IPenaltyManagerTypes.Update memory u = header(s);
            if (i == 0) u.task += 1;
            if (i == 1) u.round += 1;
            if (i == 2) u.base = "another";
            rounds.open(TASK, ROUND, ATTEMPT + uint16(i));
            Place memory place = settle(u, s);
            vm.expectEmit(address(audit));
            emit EntryPunished(
                TASK, ROUND, AGGREGATOR, SLOT, Fault.Foreign, uint128([1_000, 900, 810][i])
            );
            audit.punishEntry(place, u, s.opening(0));
        }
    }

    /// @dev Where updates are buffered, one may have begun with the base of an earlier round.
    function test_an_update_of_a_recent_base_is_no_fault() public {
        Story memory s = story();
        IPenaltyManagerTypes.Update memory u = header(s);
        u.base = "earlier";
        based(ROUND - 1, "earlier");
        Place memory place = settle(u, s);
        refused(Errors.NoFault.selector);
        audit.punishEntry(place, u, s.opening(0));
    }

    function test_a_base_is_recent_for_a_hundred_rounds() public {
        Story memory s = story();
        s.commitment ^= bytes32(uint256(1));
        uint32 round = 200;
        rounds.open(TASK, round, ATTEMPT);
        IRoundManagerTypes.Round memory r = rounds.roundOf(TASK, round);
        (r.stage, r.seed, r.base) = (IRoundManagerTypes.Stage.Scoring, SEED, "base");
        rounds.set(TASK, round, r);
        based(round - 100, "oldest");
        based(round - 101, "older");
        IPenaltyManagerTypes.Update memory u = header(s);
        (u.round, u.base) = (round, "older");
        Sketch memory claim = claimOf(s);
        (claim.round, claim.update) = (round, hash(u));
        bytes memory signature = signed(claim);
        refused(abi.encodeWithSelector(Errors.OtherHeader.selector, claim.update, hash(u)));
        audit.punishClaim(u, claim, signature, s.opening(2));
        u.base = "oldest";
        claim.update = hash(u);
        signature = signed(claim);
        equal(audit.punishClaim(u, claim, signature, s.opening(2)), OWN / 10, "taken");
    }

    function based(uint32 round, bytes32 base) private {
        IRoundManagerTypes.Round memory r = rounds.roundOf(TASK, round);
        r.base = base;
        rounds.set(TASK, round, r);
    }

    // ---- Nobody is framed ----

    function test_nothing_but_what_is_in_the_trees_counts() public {
        Story memory s = story();
        Story memory other = teller.tell(
            two(values("other", 2_048), values("second", 50)), SEED, CLIP, NORM, account, context()
        );
        Place memory place = settle(s);
        // Another delta's opening, and mixtures of both.
        Opening memory opening = other.opening(0);
        refusesOpening(place, s, opening);
        opening = s.opening(1);
        opening.chunk = other.chunks[0];
        refusesOpening(place, s, opening);
        opening = s.opening(1);
        opening.sumsAfter = other.sums[0];
        refusesOpening(place, s, opening);
        opening = s.opening(1);
        opening.sumsBefore = "";
        refusesOpening(place, s, opening);
        // Another place.
        opening = s.opening(1);
        opening.index = 2;
        refusesOpening(place, s, opening);
        opening.index = 0;
        refusesOpening(place, s, opening);
        // Another count: the last chunk's length, and the commitment, are asked of the last alone.
        opening = s.opening(1);
        opening.count = 2;
        refusesOpening(place, s, opening);
        opening = s.opening(2);
        opening.count = 4;
        refusesOpening(place, s, opening);
        // As if nothing came before.
        opening = s.opening(0);
        opening.sumsBefore = s.sums[1];
        refused(Errors.NothingBefore.selector);
        audit.punishEntry(place, header(s), opening);
        opening = s.opening(2);
        opening.index = 3;
        refused(abi.encodeWithSelector(Errors.NoSuchChunk.selector, 3, 3));
        audit.punishEntry(place, header(s), opening);
    }

    function test_an_entry_is_judged_by_its_own_header() public {
        Story memory s = story();
        Place memory place = settle(s);
        IPenaltyManagerTypes.Update memory u = header(s);
        u.deltaNorm = 0x3f000000;
        Opening memory opening = s.opening(2);
        refused(abi.encodeWithSelector(Errors.OtherHeader.selector, hash(header(s)), hash(u)));
        audit.punishEntry(place, u, opening);
    }

    function test_an_entry_is_what_was_submitted() public {
        Story memory s = story();
        Place memory place = settle(s);
        bytes32 expected = rounds.roundOf(TASK, ROUND).submissionHash;
        place.proof[420] ^= 0x01;
        bytes32 got =
            keccak256(abi.encode(place.payoutsHash, place.factorsHash, keccak256(place.proof)));
        Opening memory opening = s.opening(0);
        refused(abi.encodeWithSelector(Errors.NotTheSubmission.selector, expected, got));
        audit.punishEntry(place, header(s), opening);
    }

    function test_an_update_that_is_not_active_says_nothing() public {
        Story memory s = story();
        Place memory place = settle(s);
        place.slot = 0;
        refused(abi.encodeWithSelector(Errors.NotActive.selector, 0));
        audit.punishEntry(place, header(s), s.opening(0));
        place.slot = 3;
        refused(abi.encodeWithSelector(Errors.NoSuchUpdate.selector, 3, 3));
        audit.punishEntry(place, header(s), s.opening(0));
    }

    function test_a_proof_of_another_length_has_no_entries() public {
        Story memory s = story();
        bytes memory proof = settle(s).proof;
        Place memory place = settleWith(bytes.concat(proof, hex"00"));
        refused(abi.encodeWithSelector(Errors.WrongProofLength.selector, 642, 643));
        audit.punishEntry(place, header(s), s.opening(0));
    }

    function test_a_result_that_does_not_stand_is_not_punished() public {
        Story memory s = story();
        s.commitment ^= bytes32(uint256(1));
        Place memory place = settle(s);
        IRoundManagerTypes.Round memory r = rounds.roundOf(TASK, ROUND);
        r.stage = IRoundManagerTypes.Stage.None;
        rounds.set(TASK, ROUND, r);
        refused(abi.encodeWithSelector(Errors.NotSettled.selector, TASK, ROUND));
        audit.punishEntry(place, header(s), s.opening(2));
        // Of the closing evaluation nothing was submitted.
        (r.stage, r.submissionHash) = (IRoundManagerTypes.Stage.Settled, 0);
        rounds.set(TASK, ROUND, r);
        refused(abi.encodeWithSelector(Errors.NotSettled.selector, TASK, ROUND));
        audit.punishEntry(place, header(s), s.opening(2));
    }

    function test_a_submission_is_punished_once() public {
        Story memory s = story();
        s.commitment ^= bytes32(uint256(1));
        s.sums[0][100] ^= 0x01;
        s.retell();
        Place memory place = settle(s);
        audit.punishEntry(place, header(s), s.opening(0));
        bytes memory reason = abi.encodeWithSelector(
            IPenaltyManagerErrors.AlreadyPunished.selector,
            keccak256(abi.encode(keccak256("convoke.entry-fault.v1"), TASK, ROUND, ATTEMPT))
        );
        refused(reason);
        audit.punishEntry(place, header(s), s.opening(0));
        refused(reason);
        audit.punishEntry(place, header(s), s.opening(1));
        // The next attempt is another submission.
        rounds.open(TASK, ROUND, ATTEMPT + 1);
        audit.punishEntry(place, header(s), s.opening(0));
    }

    // ---- Claims ----

    function test_a_claim_is_punished_once() public {
        Story memory s = story();
        s.commitment ^= bytes32(uint256(1));
        seeded();
        Sketch memory claim = claimOf(s);
        audit.punishClaim(header(s), claim, signed(claim), s.opening(2));
        claim.commitment ^= bytes32(uint256(3));
        bytes memory signature = signed(claim);
        bytes32 key = keccak256(
            abi.encode(
                keccak256(
                    "Sketch(uint256 task,uint256 round,uint256 attempt,bytes32 update,bytes32 seed,"
                    "uint256 clipNorm,bytes32 commitment,bytes32 sumsRoot)"
                ),
                TASK,
                ROUND,
                ATTEMPT,
                account
            )
        );
        refused(abi.encodeWithSelector(IPenaltyManagerErrors.AlreadyPunished.selector, key));
        audit.punishClaim(header(s), claim, signature, s.opening(2));
    }

    function test_a_claim_is_for_the_attempt_that_the_chain_knows() public {
        Story memory s = story();
        s.commitment ^= bytes32(uint256(1));
        Sketch memory claim = claimOf(s);
        // There is no seed yet.
        refusesAttempt(s, claim);
        claim.seed = 0;
        refusesAttempt(s, claim);
        seeded();
        claim = claimOf(s);
        claim.seed = "another";
        refusesAttempt(s, claim);
        claim = claimOf(s);
        claim.attempt -= 1;
        refusesAttempt(s, claim);
        claim.attempt = 1 << 16 | ATTEMPT;
        refusesAttempt(s, claim);
        claim = claimOf(s);
        claim.round += 1;
        refusesAttempt(s, claim);
        claim.round = 1 << 32 | ROUND;
        refusesAttempt(s, claim);
        claim = claimOf(s);
        claim.task = 1 << 64 | TASK;
        refusesAttempt(s, claim);
        // Given up and opened again.
        claim = claimOf(s);
        rounds.open(TASK, ROUND, ATTEMPT + 1);
        refusesAttempt(s, claim);
    }

    function test_a_claim_is_for_an_update_of_the_round() public {
        Story memory s = story();
        s.commitment ^= bytes32(uint256(1));
        seeded();
        for (uint256 i = 0; i < 4; ++i) {
            IPenaltyManagerTypes.Update memory u = header(s);
            Sketch memory claim = claimOf(s);
            if (i == 0) u.task += 1;
            if (i == 1) u.round += 1;
            if (i == 2) u.base = "another";
            if (i == 3) u.deltaRoot = "another";
            if (i < 3) claim.update = hash(u);
            bytes memory signature = signed(claim);
            refused(abi.encodeWithSelector(Errors.OtherHeader.selector, claim.update, hash(u)));
            audit.punishClaim(u, claim, signature, s.opening(2));
        }
    }

    function test_a_claim_is_its_signers() public {
        Story memory s = story();
        s.commitment ^= bytes32(uint256(1));
        seeded();
        Sketch memory claim = claimOf(s);
        bytes memory signature = sign(OTHER_KEY, claimHash(claim));
        refused(
            abi.encodeWithSelector(
                IPenaltyManagerErrors.NotAnOperator.selector, TASK, vm.addr(OTHER_KEY)
            )
        );
        audit.punishClaim(header(s), claim, signature, s.opening(2));
        refused(IPenaltyManagerErrors.InvalidSignature.selector);
        audit.punishClaim(header(s), claim, "", s.opening(2));
        equal(ownOf(account), OWN, "untouched");
    }

    function test_a_clipping_norm_that_is_none_is_not_judged() public {
        Story memory s = story();
        s.clipNorm = 0x7f800000;
        seeded();
        Sketch memory claim = claimOf(s);
        bytes memory signature = signed(claim);
        refused(abi.encodeWithSelector(Norms.NotANorm.selector, 0x7f800000));
        audit.punishClaim(header(s), claim, signature, s.opening(2));
    }

    function test_a_signature_is_for_one_chain() public {
        Story memory s = story();
        s.commitment ^= bytes32(uint256(1));
        seeded();
        Sketch memory claim = claimOf(s);
        bytes memory signature = signed(claim);
        vm.chainId(77);
        try audit.punishClaim(header(s), claim, signature, s.opening(2)) {
            isTrue(false, "punished");
        } catch {}
        vm.chainId(31_337);
    }

    // ---- Inside ----

    function refusesAttempt(Story memory s, Sketch memory claim) private {
        bytes memory signature = signed(claim);
        refused(
            abi.encodeWithSelector(
                Errors.NotThisAttempt.selector, claim.task, claim.round, claim.attempt
            )
        );
        audit.punishClaim(header(s), claim, signature, s.opening(2));
    }

    function refusesOpening(Place memory place, Story memory s, Opening memory opening) private {
        try audit.punishEntry(place, header(s), opening) {
            isTrue(false, "punished");
        } catch (bytes memory reason) {
            isTrue(bytes4(reason) == Errors.NotInTree.selector, "not in the tree");
        }
    }

    function refusesLeaf(Place memory place, Story memory s, Leaf memory one, Leaf memory other)
        private
    {
        try audit.punishCounts(place, header(s), one, other) {
            isTrue(false, "punished");
        } catch (bytes memory reason) {
            isTrue(bytes4(reason) == Errors.NotInTree.selector, "not in the tree");
        }
    }

    function two(bytes memory a, bytes memory b) private pure returns (bytes[] memory list) {
        list = new bytes[](2);
        (list[0], list[1]) = (a, b);
    }
}

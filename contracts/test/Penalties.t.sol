// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {PenaltyManager} from "../src/PenaltyManager.sol";
import {IPenaltyManagerErrors as Errors} from "../src/interfaces/IPenaltyManager.sol";
import {IPenaltyManagerEvents, IPenaltyManagerTypes} from "../src/interfaces/IPenaltyManager.sol";
import {StakeTest} from "./helpers/Doubles.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice EIP-712 as the Rust side has it, written once more.
library Typed {
    bytes32 internal constant UPDATE = keccak256(
        "Update(uint256 task,uint256 round,bytes32 base,bytes32 delta,bytes32 deltaRoot,"
        "uint256 deltaBytes,uint256 deltaNorm,uint256 numExamples,uint256 trainLossMicros)"
    );
    bytes32 internal constant REVEAL = keccak256(
        "Reveal(uint256 task,uint256 round,uint256 attempt,bytes factors,bytes32 salt)"
    );

    function hash(IPenaltyManagerTypes.Update memory u) internal pure returns (bytes32) {
        return keccak256(
            abi.encodePacked(
                UPDATE,
                u.task,
                u.round,
                u.base,
                u.delta,
                u.deltaRoot,
                u.deltaBytes,
                u.deltaNorm,
                u.numExamples,
                u.trainLossMicros
            )
        );
    }

    function hash(IPenaltyManagerTypes.Reveal memory r) internal pure returns (bytes32) {
        return keccak256(
            abi.encodePacked(REVEAL, r.task, r.round, r.attempt, keccak256(r.factors), r.salt)
        );
    }

    function digest(bytes32 structHash, uint256 chain, address taskManager)
        internal
        pure
        returns (bytes32)
    {
        bytes32 domain = keccak256(
            abi.encodePacked(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,"
                    "address verifyingContract)"
                ),
                keccak256("Convoke"),
                keccak256("1"),
                chain,
                uint256(uint160(taskManager))
            )
        );
        return keccak256(abi.encodePacked(bytes2(0x1901), domain, structHash));
    }
}

contract PenaltiesTest is StakeTest, IPenaltyManagerTypes, IPenaltyManagerEvents {
    uint256 private constant KEY = 0xA11CE;
    uint256 private constant OTHER_KEY = 0xB0B;
    uint256 private constant ORDER =
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    bytes32 private constant FROZEN_HASH =
        0xd254f3ab2631ae61ec5a77ef669364a8aedc3c670036c6fa99719f4a6ee1cec6;
    bytes32 private constant FROZEN_DIGEST =
        0x9849a7e0058f3712199c21b416b2bafd4046885aed0e4117119c5867f3af2d1e;
    uint32 private constant ROUND = 2;
    uint16 private constant ATTEMPT = 1;
    uint128 private constant OWN = 10_000;

    PenaltyManager private penalties;
    address private account;

    function setUp() public override {
        super.setUp();
        penalties = new PenaltyManager(roundManager());
        stakes.grantRole(stakes.SLASHER_ROLE(), address(penalties));
        account = vm.addr(KEY);
        fund(account, 1e20);
        rounds.open(TASK, ROUND, ATTEMPT);
    }

    function test_the_constructor_keeps_the_round_manager() public view {
        isTrue(address(penalties.roundManager()) == address(rounds), "round manager");
    }

    // ---- Two updates for one round ----

    function test_two_updates_for_one_round_cost_a_slice() public {
        deposit(account, TRAINER, OWN);
        vm.expectEmit(address(penalties));
        emit EquivocationPunished(TASK, ROUND, account, 1_000);
        vm.prank(BOB);
        equal(punish(update(1), update(2)), 1_000, "taken");
        equal(ownOf(account), 9_000, "rest");
        equal(tasks.penalties(TASK), 750, "task");
        equal(token.balanceOf(BOB), FUNDS / 8 + 250, "reporter");
    }

    function test_a_trainer_is_punished_once_for_a_round() public {
        deposit(account, TRAINER, OWN);
        punish(update(1), update(2));
        bytes32 fault = keccak256(abi.encode(Typed.UPDATE, TASK, ROUND, account));
        isTrue(penalties.punished(fault), "kept");
        expectEquivocation(update(1), update(2), already(fault));
        expectEquivocation(update(2), update(1), already(fault));
        expectEquivocation(update(1), update(3), already(fault));
        // Another round is another fault.
        rounds.open(TASK, ROUND + 1, 1);
        punish(updateOf(ROUND + 1, 1), updateOf(ROUND + 1, 2));
    }

    function test_one_update_signed_twice_is_no_fault() public {
        deposit(account, TRAINER, OWN);
        bytes32 hash = Typed.hash(update(1));
        bytes memory reason = abi.encodeWithSelector(Errors.SameUpdate.selector, hash);
        expectEquivocation(update(1), update(1), reason);
    }

    function test_updates_for_different_tasks_or_rounds_are_no_fault() public {
        deposit(account, TRAINER, OWN);
        bytes memory reason = abi.encodeWithSelector(Errors.DifferentRounds.selector);
        expectEquivocation(update(1), updateOf(ROUND + 1, 2), reason);
        Update memory elsewhere = update(2);
        elsewhere.task = 2;
        expectEquivocation(update(1), elsewhere, reason);
        // An aggregator that tries a round again names its base anew.
        Update memory again = update(2);
        again.base = bytes32("another");
        expectEquivocation(update(1), again, reason);
    }

    function test_updates_by_two_trainers_are_no_fault() public {
        deposit(account, TRAINER, OWN);
        Update memory first = update(1);
        Update memory second = update(2);
        bytes memory firstSignature = sign(KEY, Typed.hash(first));
        bytes memory secondSignature = sign(OTHER_KEY, Typed.hash(second));
        address other = vm.addr(OTHER_KEY);
        refused(abi.encodeWithSelector(Errors.DifferentSigners.selector, account, other));
        penalties.punishEquivocation(first, firstSignature, second, secondSignature);
    }

    /// With no stake at the time, a trainer could get future faults over with for nothing.
    function test_a_round_that_was_never_opened_is_not_punished() public {
        deposit(account, TRAINER, OWN);
        uint32 later = ROUND + 1;
        expectEquivocation(updateOf(later, 1), updateOf(later, 2), notOpened(TASK, later));
        Update memory first = update(1);
        Update memory second = update(2);
        (first.round, second.round) = (uint256(1) << 32 | ROUND, uint256(1) << 32 | ROUND);
        expectEquivocation(first, second, notOpened(TASK, first.round));
        (first, second) = (update(1), update(2));
        (first.task, second.task) = (uint256(1) << 64 | TASK, uint256(1) << 64 | TASK);
        expectEquivocation(first, second, notOpened(first.task, ROUND));
    }

    function test_who_never_staked_or_has_another_role_is_not_punished() public {
        bytes memory reason = abi.encodeWithSelector(Errors.NotAnOperator.selector, TASK, account);
        expectEquivocation(update(1), update(2), reason);
        deposit(account, VALIDATOR, OWN);
        expectEquivocation(update(1), update(2), reason);
    }

    /// A fault at a time without stake stays open.
    function test_a_fault_without_stake_can_be_punished_later() public {
        deposit(account, TRAINER, OWN);
        request(account, OWN);
        rounds.close(TASK);
        pass(UNBONDING);
        withdraw(account);
        bytes memory reason = abi.encodeWithSelector(Errors.NotAnOperator.selector, TASK, account);
        expectEquivocation(update(1), update(2), reason);
        deposit(account, TRAINER, OWN);
        equal(punish(update(1), update(2)), 1_000, "taken");
    }

    function test_a_request_does_not_dodge_the_penalty() public {
        deposit(account, TRAINER, OWN);
        request(account, OWN);
        equal(punish(update(1), update(2)), 1_000, "taken");
    }

    // ---- Signatures ----

    function test_only_well_formed_signatures_count() public {
        deposit(account, TRAINER, OWN);
        bytes32 digest = digestOf(Typed.hash(update(1)));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(KEY, digest);
        bytes32 mirrored = bytes32(ORDER - uint256(s));
        expectBadSignature(abi.encodePacked(r, mirrored, v == 27 ? uint8(28) : uint8(27)));
        expectBadSignature(abi.encodePacked(r, s, v - 27));
        expectBadSignature(abi.encodePacked(r, s));
        expectBadSignature(abi.encodePacked(r, s, v, uint8(0)));
        expectBadSignature("");
        expectBadSignature(abi.encodePacked(bytes32(0), bytes32(0), v));
        bytes32 vs = bytes32(uint256(s) | uint256(v - 27) << 255);
        expectBadSignature(abi.encodePacked(r, vs));
    }

    function test_signatures_hold_for_one_chain_and_one_task_manager() public {
        deposit(account, TRAINER, OWN);
        Update memory first = update(1);
        Update memory second = update(2);
        bytes memory good = sign(KEY, Typed.hash(second));
        bytes memory foreign = signDigest(
            KEY, Typed.digest(Typed.hash(first), block.chainid, address(this))
        );
        expectNotHers(first, foreign, second, good);
        foreign =
            signDigest(KEY, Typed.digest(Typed.hash(first), block.chainid + 1, address(tasks)));
        expectNotHers(first, foreign, second, good);
        // After a fork, both parts sign for chains of their own.
        bytes memory before = sign(KEY, Typed.hash(first));
        vm.chainId(77);
        good = sign(KEY, Typed.hash(second));
        expectNotHers(first, before, second, good);
        equal(punish(first, second), 1_000, "both for the chain that this is now");
        vm.chainId(31_337);
    }

    function testFuzz_every_field_is_signed(uint8 field, uint256 mask) public {
        deposit(account, TRAINER, OWN);
        if (mask == 0) mask = 1;
        Update memory first = update(1);
        bytes memory signature = sign(KEY, Typed.hash(first));
        field %= 6;
        if (field == 5) first.deltaRoot ^= bytes32(mask);
        if (field == 4) first.deltaNorm ^= mask;
        if (field == 1) first.delta ^= bytes32(mask);
        if (field == 2) first.deltaBytes ^= mask;
        if (field == 3) first.numExamples ^= mask;
        if (field == 0) first.trainLossMicros ^= mask;
        Update memory second =
            Update(TASK, ROUND, first.base, bytes32("other"), "root", 8, 9, 10, 11);
        expectNotHers(first, signature, second, sign(KEY, Typed.hash(second)));
    }

    function testFuzz_two_updates_that_differ_anywhere_are_a_fault(uint8 field, uint256 mask)
        public
    {
        deposit(account, TRAINER, OWN);
        if (mask == 0) mask = 1;
        Update memory second = update(1);
        field %= 6;
        if (field == 5) second.deltaRoot ^= bytes32(mask);
        if (field == 4) second.deltaNorm ^= mask;
        if (field == 1) second.delta ^= bytes32(mask);
        if (field == 2) second.deltaBytes ^= mask;
        if (field == 3) second.numExamples ^= mask;
        if (field == 0) second.trainLossMicros ^= mask;
        equal(punish(update(1), second), 1_000, "taken");
    }

    /// The same as the Rust side has for this header and domain.
    function test_hashes_are_those_of_the_protocol() public pure {
        Update memory frozen = Update({
            task: 1,
            round: 2,
            base: repeated(3),
            delta: repeated(4),
            deltaRoot: repeated(5),
            deltaBytes: 5,
            deltaNorm: 0x3f000000,
            numExamples: 6,
            trainLossMicros: 7
        });
        bytes32 hash = Typed.hash(frozen);
        address taskManager = address(bytes20(repeated(5)));
        isTrue(hash == FROZEN_HASH, "struct hash");
        isTrue(Typed.digest(hash, 31_337, taskManager) == FROZEN_DIGEST, "digest");
    }

    // ---- A reveal that contradicts its commitment ----

    function test_a_contradicting_reveal_costs_a_slice() public {
        deposit(account, VALIDATOR, OWN);
        commit(reveal(1));
        vm.expectEmit(address(penalties));
        emit ContradictionPunished(TASK, ROUND, account, 1_000);
        vm.prank(BOB);
        equal(punish(reveal(2)), 1_000, "taken");
        equal(token.balanceOf(BOB), FUNDS / 8 + 250, "reporter");
        bytes32 fault = keccak256(abi.encode(Typed.REVEAL, TASK, ROUND, ATTEMPT, account));
        isTrue(penalties.punished(fault), "kept");
        expectContradiction(reveal(2), already(fault));
        expectContradiction(reveal(3), already(fault));
    }

    function test_factors_and_salt_are_both_committed_to() public {
        deposit(account, VALIDATOR, OWN);
        commit(reveal(1));
        Reveal memory otherSalt = reveal(1);
        otherSalt.salt = bytes32("pepper");
        equal(punish(otherSalt), 1_000, "taken");
    }

    function test_a_reveal_that_agrees_is_no_fault() public {
        deposit(account, VALIDATOR, OWN);
        bytes32 committed = commit(reveal(1));
        expectContradiction(
            reveal(1), abi.encodeWithSelector(Errors.NoContradiction.selector, committed)
        );
    }

    function test_without_a_commitment_there_is_no_contradiction() public {
        deposit(account, VALIDATOR, OWN);
        bytes memory reason = abi.encodeWithSelector(Errors.NotCommitted.selector, account);
        expectContradiction(reveal(1), reason);
        commit(reveal(1));
        Reveal memory laterAttempt = reveal(2);
        laterAttempt.attempt = ATTEMPT + 1;
        expectContradiction(laterAttempt, reason);
        laterAttempt.attempt = uint256(1) << 16 | ATTEMPT;
        expectContradiction(laterAttempt, reason);
        Reveal memory laterRound = reveal(2);
        laterRound.round = ROUND + 1;
        expectContradiction(laterRound, notOpened(TASK, ROUND + 1));
    }

    function test_each_attempt_is_a_fault_of_its_own() public {
        deposit(account, VALIDATOR, OWN);
        commit(reveal(1));
        punish(reveal(2));
        rounds.open(TASK, ROUND, ATTEMPT + 1);
        Reveal memory again = reveal(1);
        again.attempt = ATTEMPT + 1;
        commit(again);
        again.factors = "other";
        equal(punish(again), 900, "of what is left");
    }

    function test_a_reveal_counts_by_its_signer() public {
        deposit(account, VALIDATOR, OWN);
        commit(reveal(1));
        Reveal memory made = reveal(2);
        bytes memory signature = sign(OTHER_KEY, Typed.hash(made));
        refused(abi.encodeWithSelector(Errors.NotCommitted.selector, vm.addr(OTHER_KEY)));
        penalties.punishContradiction(made, signature);
        refused(Errors.InvalidSignature.selector);
        penalties.punishContradiction(made, "");
    }

    function test_only_validators_contradict_themselves() public {
        deposit(account, TRAINER, OWN);
        commit(reveal(1));
        expectContradiction(
            reveal(2), abi.encodeWithSelector(Errors.NotAnOperator.selector, TASK, account)
        );
    }

    // ---- Made and signed ----

    function update(uint256 delta) private pure returns (Update memory) {
        return updateOf(ROUND, delta);
    }

    function updateOf(uint32 round, uint256 delta) private pure returns (Update memory) {
        return Update(TASK, round, bytes32("base"), bytes32(delta), "root", 5, 6, 7, 8);
    }

    function reveal(uint8 factor) private pure returns (Reveal memory) {
        return Reveal(TASK, ROUND, ATTEMPT, abi.encodePacked(uint16(factor)), bytes32("salt"));
    }

    function commit(Reveal memory r) private returns (bytes32 hash) {
        hash = rounds.scoresCommitment(
            TASK, uint32(r.round), uint16(r.attempt), account, r.factors, r.salt
        );
        rounds.commit(TASK, uint32(r.round), uint16(r.attempt), account, hash);
    }

    function digestOf(bytes32 structHash) private view returns (bytes32) {
        return Typed.digest(structHash, block.chainid, address(tasks));
    }

    function sign(uint256 key, bytes32 structHash) private view returns (bytes memory) {
        return signDigest(key, digestOf(structHash));
    }

    function signDigest(uint256 key, bytes32 digest) private pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function punish(Update memory first, Update memory second) private returns (uint128) {
        return penalties.punishEquivocation(
            first, sign(KEY, Typed.hash(first)), second, sign(KEY, Typed.hash(second))
        );
    }

    function punish(Reveal memory made) private returns (uint128) {
        return penalties.punishContradiction(made, sign(KEY, Typed.hash(made)));
    }

    function expectEquivocation(Update memory first, Update memory second, bytes memory reason)
        private
    {
        bytes memory firstSignature = sign(KEY, Typed.hash(first));
        bytes memory secondSignature = sign(KEY, Typed.hash(second));
        refused(reason);
        penalties.punishEquivocation(first, firstSignature, second, secondSignature);
    }

    function expectContradiction(Reveal memory made, bytes memory reason) private {
        bytes memory signature = sign(KEY, Typed.hash(made));
        refused(reason);
        penalties.punishContradiction(made, signature);
    }

    function expectBadSignature(bytes memory signature) private {
        Update memory second = update(2);
        bytes memory good = sign(KEY, Typed.hash(second));
        refused(Errors.InvalidSignature.selector);
        penalties.punishEquivocation(update(1), signature, second, good);
        refused(Errors.InvalidSignature.selector);
        penalties.punishEquivocation(second, good, update(1), signature);
    }

    /// What was signed for something else recovers to nobody in particular.
    function expectNotHers(
        Update memory first,
        bytes memory firstSignature,
        Update memory second,
        bytes memory secondSignature
    ) private {
        uint128 before = ownOf(account);
        try penalties.punishEquivocation(first, firstSignature, second, secondSignature) {
            isTrue(false, "punished");
        } catch (bytes memory reason) {
            isTrue(
                bytes4(reason) == Errors.DifferentSigners.selector
                    || bytes4(reason) == Errors.InvalidSignature.selector,
                "not her signature"
            );
        }
        equal(ownOf(account), before, "untouched");
    }

    function already(bytes32 fault) private pure returns (bytes memory) {
        return abi.encodeWithSelector(Errors.AlreadyPunished.selector, fault);
    }

    function notOpened(uint256 task, uint256 round) private pure returns (bytes memory) {
        return abi.encodeWithSelector(Errors.RoundNotOpened.selector, task, round);
    }

    function repeated(uint8 byte_) private pure returns (bytes32) {
        return bytes32(uint256(byte_) * (type(uint256).max / 255));
    }
}

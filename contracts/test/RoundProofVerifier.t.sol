// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Groth16Verifier} from "../src/Groth16Verifier.sol";
import {RoundProofVerifier} from "../src/RoundProofVerifier.sol";
import {IGroth16Verifier, IGroth16VerifierErrors} from "../src/interfaces/IGroth16Verifier.sol";
import {IProofVerifierTypes} from "../src/interfaces/IProofVerifier.sol";
import {IRoundProofVerifierErrors as Errors} from "../src/interfaces/IRoundProofVerifier.sol";
import {Norms} from "../src/libraries/Norms.sol";
import {RoundDigest} from "../src/libraries/RoundDigest.sol";
import {Assertions} from "./helpers/Assertions.sol";
import {ProofFixture, Proven} from "./helpers/ProofFixture.sol";
import {Tree} from "./helpers/Tree.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice A round proven by the Rust side holds; nothing of it can be changed.
contract RoundProofVerifierTest is Assertions, IProofVerifierTypes {
    using ProofFixture for Proven;

    uint256 private constant ENTRIES_AT = 294;
    uint256 private constant ENTRY = 116;
    uint256 private constant PAYOUT = 36;
    /// The update that was refused before the filter.
    uint256 private constant INACTIVE = 4;
    /// What the round manager gives a challenged proof.
    uint256 private constant VERIFY_GAS = 3_000_000;

    error OtherReason(bytes4 expected, bytes got);

    RoundProofVerifier private verifier;
    Proven private p;
    Statement private statement;
    bytes private factors;
    bytes private payouts;
    bytes private proof;

    function setUp() public {
        vm.chainId(31_337);
        verifier = ProofFixture.adaptor();
        p = ProofFixture.load("proof16");
        reset();
    }

    // ---- What holds ----

    function test_rounds_of_the_rust_side_hold() public {
        verify();
        load("proof64");
        verify();
    }

    function test_it_fits_what_a_challenge_gets() public {
        load("proof64");
        uint256 gas = gasleft();
        verify();
        atMost(gas - gasleft(), VERIFY_GAS / 4, "gas");
    }

    function test_sizes_are_told() public {
        equal(verifier.slotsMax(), 64, "most");
        equal(verifier.verifierCount(), 2, "count");
        isTrue(verifier.taskManager() == p.taskManager, "task manager");
        (IGroth16Verifier first, uint256 slots, bytes32 circuit) = verifier.verifierAt(0);
        equal(slots, 16, "slots");
        isTrue(circuit == p.circuit && first.circuit() == circuit, "circuit");
        (, slots,) = verifier.verifierAt(1);
        equal(slots, 64, "slots");
        refused(abi.encodeWithSelector(Errors.NoSuchVerifier.selector, 2));
        verifier.verifierAt(2);
    }

    // ---- Another statement ----

    function test_a_proof_is_for_one_round() public {
        statement.round += 1;
        refuses(Errors.OtherUpdates.selector);
        // The chain's root follows: then the context does not fit.
        follow();
        refusesProof();
    }

    function test_a_proof_is_for_one_task() public {
        statement.task += 1;
        refuses(Errors.OtherUpdates.selector);
        follow();
        refusesProof();
    }

    function test_a_proof_is_for_one_chain_and_one_task_manager() public {
        vm.chainId(1);
        refuses(Errors.OtherUpdates.selector);
        follow();
        refusesProof();
        vm.chainId(31_337);
        reset();
        IGroth16Verifier[] memory verifiers = new IGroth16Verifier[](1);
        (verifiers[0],,) = verifier.verifierAt(0);
        verifier = new RoundProofVerifier(address(this), verifiers);
        refuses(Errors.OtherUpdates.selector);
        follow();
        refusesProof();
    }

    function test_every_part_of_the_statement_is_bound() public {
        statement.attempt += 1;
        refusesProof();
        statement.attempt -= 1;
        statement.seed ^= bytes32(uint256(1));
        refusesProof();
        statement.seed ^= bytes32(uint256(1));
        statement.aggregator = address(1);
        refusesProof();
        statement.aggregator = p.statement.aggregator;
        statement.trainersPool += 1;
        refusesProof();
        statement.trainersPool -= 2;
        refusesProof();
        statement.trainersPool += 1;
        statement.rankDecayBps += 1;
        refusesProof();
        statement.rankDecayBps -= 1;
        statement.checkpoint ^= bytes32(uint256(1));
        refusesProof();
        statement.checkpoint ^= bytes32(uint256(1));
        statement.resultHash ^= bytes32(uint256(1));
        refusesProof();
        statement.resultHash ^= bytes32(uint256(1));
        verify();
    }

    function test_other_updates_on_chain_are_refused() public {
        statement.updatesRoot ^= bytes32(uint256(1));
        refuses(Errors.OtherUpdates.selector);
        statement.updatesRoot = p.statement.updatesRoot;
        statement.ownCommitments ^= bytes32(uint256(1));
        refuses(Errors.OtherOwnUpdates.selector);
        statement.ownCommitments = 0;
        refuses(Errors.OtherOwnUpdates.selector);
    }

    function test_a_split_by_rank_is_refused() public {
        statement.split = 1;
        refused(abi.encodeWithSelector(Errors.SplitNotProven.selector, 1));
        verify();
    }

    // ---- Payouts ----

    function testFuzz_no_payout_can_be_changed(uint256 index, uint256 bit) public {
        uint256 offset = index % (payouts.length / PAYOUT) * PAYOUT + 20;
        flip(payouts, offset + bit / 8 % 16, bit % 8);
        refusesProof();
    }

    function test_a_unit_more_or_less_is_refused() public {
        for (uint256 i = 0; i < payouts.length / PAYOUT; ++i) {
            uint256 amount = amountAt(i);
            setAmount(i, amount + 1);
            refusesProof();
            setAmount(i, amount - 1);
            refusesProof();
            setAmount(i, amount);
        }
        // One unit from the first to the second: the sum is as before.
        (uint256 first, uint256 second) = (amountAt(0), amountAt(1));
        setAmount(0, first - 1);
        setAmount(1, second + 1);
        refusesProof();
        setAmount(0, second);
        setAmount(1, first);
        refusesProof();
    }

    function test_payouts_to_others_are_refused() public {
        bytes memory whole = payouts;
        // To nobody; to the trainer whose update was refused; twice; and in another order.
        flip(payouts, 0, 0);
        refusesPayout(0);
        bytes memory inactive = part(proof, ENTRIES_AT + INACTIVE * ENTRY, 20);
        payouts = bytes.concat(whole, inactive, new bytes(16));
        refusesPayout(whole.length);
        payouts = bytes.concat(whole, whole);
        refusesPayout(whole.length);
        payouts = bytes.concat(part(whole, PAYOUT, PAYOUT), part(whole, 0, PAYOUT));
        refusesPayout(PAYOUT);
        payouts = bytes.concat(
            part(whole, PAYOUT, 20),
            part(whole, 20, 16),
            part(whole, 0, 20),
            part(whole, PAYOUT + 20, whole.length - PAYOUT - 20)
        );
        refuses(RoundDigest.PayoutWithoutSlot.selector);
    }

    function test_missing_payouts_are_refused() public {
        bytes memory whole = payouts;
        for (uint256 i = 0; i < whole.length / PAYOUT; ++i) {
            uint256 after_ = (i + 1) * PAYOUT;
            payouts = bytes.concat(
                part(whole, 0, i * PAYOUT), part(whole, after_, whole.length - after_)
            );
            refusesProof();
        }
        payouts = "";
        refusesProof();
        payouts = part(whole, 0, 35);
        refused(abi.encodeWithSelector(RoundDigest.WrongPayouts.selector, 35));
        verify();
    }

    // ---- Factors ----

    function testFuzz_no_factor_can_be_changed(uint256 index, uint256 bit) public {
        flip(factors, index % factors.length, bit % 8);
        refusesProof();
    }

    function test_there_is_one_factor_for_each_update() public {
        bytes memory whole = factors;
        factors = part(whole, 0, 26);
        refusesFactors(26);
        factors = part(whole, 0, 27);
        refusesFactors(27);
        factors = bytes.concat(whole, hex"0000");
        refusesFactors(30);
    }

    // ---- Entries ----

    function testFuzz_nothing_in_an_entry_is_free(uint256 index, uint256 bit) public {
        uint256 offset = ENTRIES_AT + index % (proof.length - ENTRIES_AT);
        flip(proof, offset, bit % 8);
        isRefused();
        // Even if the chain knew such updates.
        follow();
        isRefused();
    }

    function test_swapped_and_repeated_entries_are_refused() public {
        // Whole entries.
        move(0, 1, 0, ENTRY, true);
        refuses(Errors.OtherUpdates.selector);
        follow();
        isRefused();
        // Of two updates, commitments and sums alone: the chain cannot tell.
        reset();
        move(0, 1, 52, 64, true);
        refusesProof();
        reset();
        move(0, 1, 52, 64, false);
        refusesProof();
        reset();
        move(0, 1, 84, 32, true);
        refusesProof();
        reset();
        move(0, 1, 0, ENTRY, false);
        refuses(Errors.OtherUpdates.selector);
    }

    function test_who_takes_part_is_bound() public {
        // One less.
        move(INACTIVE, 0, 52, 64, false);
        refusesPayout(0);
        reset();
        // One more.
        for (uint256 i = 0; i < 64; ++i) {
            proof[ENTRIES_AT + INACTIVE * ENTRY + 52 + i] = 0x01;
        }
        refusesProof();
    }

    function test_half_entries_are_refused() public {
        for (uint256 i = 0; i < 32; ++i) {
            proof[ENTRIES_AT + 84 + i] = 0;
        }
        refused(abi.encodeWithSelector(RoundDigest.HalfAnEntry.selector, 0));
        verify();
        reset();
        proof[ENTRIES_AT + INACTIVE * ENTRY + 84] = 0x01;
        refused(abi.encodeWithSelector(RoundDigest.HalfAnEntry.selector, INACTIVE));
        verify();
    }

    function test_commitments_are_below_the_modulus() public {
        bytes32 order = bytes32(RoundDigest.R);
        bytes32 beyond = bytes32(uint256(wordAt(proof, ENTRIES_AT + 52)) + RoundDigest.R);
        putAt(ENTRIES_AT + 52, order);
        refused(abi.encodeWithSelector(RoundDigest.CommitmentTooLarge.selector, order));
        verify();
        putAt(ENTRIES_AT + 52, beyond);
        refused(abi.encodeWithSelector(RoundDigest.CommitmentTooLarge.selector, beyond));
        verify();
    }

    function test_own_updates_are_those_that_the_chain_chains() public {
        // As if the last of the aggregator's were a trainer's own, and the other way round.
        for (uint8 own = 0; own <= 14; ++own) {
            proof[293] = bytes1(own);
            if (own != 2) refuses(Errors.OtherUpdates.selector);
        }
        proof[293] = 0x01;
        followRoot();
        refuses(Errors.OtherOwnUpdates.selector);
        reset();
        proof[293] = 0x0f;
        refused(abi.encodeWithSelector(Errors.TooManyOwnUpdates.selector, 14, 15));
        verify();
    }

    function test_the_clipping_norm_is_bound_and_a_norm() public {
        proof[291] ^= 0x01;
        refusesProof();
        bytes4[5] memory none = [bytes4(0x00000001), 0x007fffff, 0x7f800000, 0x7fc00000, 0x80000000];
        for (uint256 i = 0; i < none.length; ++i) {
            for (uint256 j = 0; j < 4; ++j) {
                proof[288 + j] = none[i][j];
            }
            refused(abi.encodeWithSelector(Norms.NotANorm.selector, uint256(uint32(none[i]))));
            verify();
        }
    }

    function test_proofs_end_with_one_entry_for_each_update() public {
        uint256 length = proof.length;
        proof = bytes.concat(p.proof, hex"00");
        refusesLength(length);
        proof = part(p.proof, 0, length - 1);
        refusesLength(length);
        proof = part(p.proof, 0, 288);
        refusesLength(length);
        proof = "";
        refusesLength(length);
        (proof, statement.updates) = (p.proof, 13);
        refusesLength(length - ENTRY);
    }

    function test_there_are_no_more_updates_than_slots() public {
        load("proof64");
        uint16 updates = 65;
        bytes memory more = bytes.concat(proof, new bytes((updates - statement.updates) * ENTRY));
        factors = bytes.concat(factors, new bytes(2 * (updates - statement.updates)));
        (proof, statement.updates) = (more, updates);
        follow();
        refused(abi.encodeWithSelector(Errors.TooManyUpdates.selector, 64, 65));
        verify();
    }

    /// More updates than the smaller circuit has slots for go to the larger one.
    function test_a_proof_of_another_size_is_refused() public {
        bytes memory more = bytes.concat(proof, new bytes(3 * ENTRY));
        factors = bytes.concat(factors, new bytes(6));
        (proof, statement.updates) = (more, 17);
        follow();
        refusesProof();
    }

    // ---- Deployment ----

    function test_sizes_come_in_order() public {
        (IGroth16Verifier small,,) = verifier.verifierAt(0);
        (IGroth16Verifier large,,) = verifier.verifierAt(1);
        IGroth16Verifier[] memory list = new IGroth16Verifier[](2);
        (list[0], list[1]) = (large, small);
        refused(abi.encodeWithSelector(Errors.SlotsNotAscending.selector, 64, 16));
        new RoundProofVerifier(p.taskManager, list);
        (list[0], list[1]) = (small, small);
        refused(abi.encodeWithSelector(Errors.SlotsNotAscending.selector, 16, 16));
        new RoundProofVerifier(p.taskManager, list);
        list[0] = new Groth16Verifier(0, 0, p.key);
        refused(abi.encodeWithSelector(Errors.SlotsNotAscending.selector, 0, 0));
        new RoundProofVerifier(p.taskManager, list);
        list[0] = new Groth16Verifier(1 << 16, 0, p.key);
        refused(abi.encodeWithSelector(Errors.SlotsNotAscending.selector, 0, 1 << 16));
        new RoundProofVerifier(p.taskManager, list);
        refused(Errors.NothingToVerify.selector);
        new RoundProofVerifier(p.taskManager, new IGroth16Verifier[](0));
        refused(Errors.NothingToVerify.selector);
        new RoundProofVerifier(address(0), list);
    }

    // ---- Inside ----

    function load(string memory name) private {
        p = ProofFixture.load(name);
        reset();
    }

    function reset() private {
        statement = p.statement;
        factors = p.factors;
        payouts = p.payouts;
        proof = p.proof;
    }

    function verify() private view {
        verifier.verify(statement, factors, payouts, proof);
    }

    /// @dev The chain's hashes become those of the entries, so that nothing else is refused first.
    function follow() private {
        followRoot();
        uint256 own = uint16(bytes2(part(proof, 292, 2)));
        bytes32 chain = 0;
        for (uint256 i = statement.updates - own; i < statement.updates; ++i) {
            (address trainer, bytes32 update) = entryAt(i);
            chain = keccak256(abi.encode(chain, trainer, update));
        }
        statement.ownCommitments = chain;
    }

    function followRoot() private {
        uint256 own = uint16(bytes2(part(proof, 292, 2)));
        bytes32[] memory level = new bytes32[](statement.updates - own);
        for (uint256 i = 0; i < level.length; ++i) {
            (address trainer, bytes32 update) = entryAt(i);
            bytes memory leaf = abi.encode(
                keccak256("convoke.update.v1"),
                block.chainid,
                verifier.taskManager(),
                statement.task,
                statement.round,
                i,
                trainer,
                update
            );
            level[i] = keccak256(abi.encode(keccak256(leaf)));
        }
        statement.updatesRoot = Tree.root(level);
    }

    function entryAt(uint256 i) private view returns (address trainer, bytes32 update) {
        trainer = address(bytes20(part(proof, ENTRIES_AT + i * ENTRY, 20)));
        update = wordAt(proof, ENTRIES_AT + i * ENTRY + 20);
    }

    function refusesProof() private view {
        refuses(IGroth16VerifierErrors.ProofRefused.selector);
    }

    /// @dev By its selector alone: the values say what was found.
    function refuses(bytes4 selector) private view {
        try verifier.verify(statement, factors, payouts, proof) {
            isTrue(false, "accepted");
        } catch (bytes memory reason) {
            if (bytes4(reason) != selector) revert OtherReason(selector, reason);
        }
    }

    function isRefused() private view {
        try verifier.verify(statement, factors, payouts, proof) {
            isTrue(false, "accepted");
        } catch (bytes memory reason) {
            isTrue(reason.length >= 4, "typed");
        }
    }

    function refusesPayout(uint256 offset) private {
        refused(abi.encodeWithSelector(RoundDigest.PayoutWithoutSlot.selector, offset));
        verify();
    }

    function refusesFactors(uint256 length) private {
        refused(abi.encodeWithSelector(Errors.WrongFactorsLength.selector, 28, length));
        verify();
    }

    function refusesLength(uint256 expected) private {
        refused(abi.encodeWithSelector(Errors.WrongProofLength.selector, expected, proof.length));
        verify();
    }

    /// @dev Bytes of one entry into another; or one for the other.
    function move(uint256 from, uint256 to, uint256 offset, uint256 length, bool swaps) private {
        bytes memory a = part(proof, ENTRIES_AT + from * ENTRY + offset, length);
        bytes memory b = part(proof, ENTRIES_AT + to * ENTRY + offset, length);
        bytes memory all = proof;
        for (uint256 i = 0; i < length; ++i) {
            all[ENTRIES_AT + to * ENTRY + offset + i] = a[i];
            if (swaps) all[ENTRIES_AT + from * ENTRY + offset + i] = b[i];
        }
        proof = all;
    }

    function amountAt(uint256 i) private view returns (uint256) {
        return uint128(bytes16(part(payouts, i * PAYOUT + 20, 16)));
    }

    function setAmount(uint256 i, uint256 amount) private {
        bytes memory all = payouts;
        for (uint256 j = 0; j < 16; ++j) {
            all[i * PAYOUT + 20 + j] = bytes16(uint128(amount))[j];
        }
        payouts = all;
    }

    function flip(bytes storage data, uint256 index, uint256 bit) private {
        data[index] ^= bytes1(uint8(1 << bit));
    }

    function putAt(uint256 offset, bytes32 word) private {
        bytes memory all = proof;
        assembly ("memory-safe") {
            mstore(add(add(all, 0x20), offset), word)
        }
        proof = all;
    }

    function wordAt(bytes memory data, uint256 offset) private pure returns (bytes32) {
        return bytes32(part(data, offset, 32));
    }

    function part(bytes memory data, uint256 from, uint256 length)
        private
        pure
        returns (bytes memory slice)
    {
        slice = new bytes(length);
        for (uint256 i = 0; i < length; ++i) {
            slice[i] = data[from + i];
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Groth16Verifier} from "../src/Groth16Verifier.sol";
import {IGroth16VerifierErrors as Errors} from "../src/interfaces/IGroth16Verifier.sol";
import {Assertions} from "./helpers/Assertions.sol";
import {ProofFixture, Proven} from "./helpers/ProofFixture.sol";

contract Groth16VerifierTest is Assertions {
    using ProofFixture for Proven;

    uint256 private constant R =
        21888242871839275222246405745257275088548364400416034343698204186575808495617;
    /// Order of the base field, of which coordinates are.
    uint256 private constant P =
        21888242871839275222246405745257275088696311157297823662689037894645226208583;
    uint256 private constant GAS_MAX = 210_000;

    Groth16Verifier private verifier;
    bytes private proof;
    uint256 private x;
    uint256 private y;

    function setUp() public {
        Proven memory p = ProofFixture.load("proof16");
        verifier = p.verifier();
        (x, y) = (p.x, p.y);
        proof = head(p.proof);
    }

    function test_proofs_of_the_rust_side_hold() public {
        verifier.verifyProof(proof, x, y);
        Proven memory large = ProofFixture.load("proof64");
        Groth16Verifier other = large.verifier();
        other.verifyProof(head(large.proof), large.x, large.y);
        // A proof is for one circuit.
        refused(Errors.ProofRefused.selector);
        verifier.verifyProof(head(large.proof), large.x, large.y);
        refused(Errors.ProofRefused.selector);
        other.verifyProof(proof, x, y);
    }

    function test_the_constructor_keeps_size_and_circuit() public view {
        Proven memory p = ProofFixture.load("proof16");
        equal(verifier.slots(), 16, "slots");
        isTrue(verifier.circuit() == p.circuit, "circuit");
        equal(verifier.PROOF_BYTES(), 288, "bytes");
    }

    function test_every_word_of_the_key_counts() public {
        Proven memory p = ProofFixture.load("proof16");
        for (uint256 i = 0; i < p.key.length; ++i) {
            p.key[i] ^= 1;
            Groth16Verifier other = p.verifier();
            refused(Errors.ProofRefused.selector);
            other.verifyProof(proof, x, y);
            p.key[i] ^= 1;
        }
    }

    function test_it_costs_little() public view {
        bytes memory given = proof;
        (uint256 first, uint256 second) = (x, y);
        uint256 gas = gasleft();
        verifier.verifyProof(given, first, second);
        atMost(gas - gasleft(), GAS_MAX, "gas");
    }

    function test_inputs_are_below_the_modulus() public {
        tooLarge(proof, x + R, y, x + R);
        tooLarge(proof, x, y + R, y + R);
        tooLarge(proof, R, y, R);
        tooLarge(proof, x, R, R);
        uint256 h = word(proof, 8);
        tooLarge(with(8, h + R), x, y, h + R);
        tooLarge(with(8, R), x, y, R);
    }

    function test_other_inputs_are_refused() public {
        refuses(proof, addmod(x, 1, R), y);
        refuses(proof, x, addmod(y, 1, R));
        refuses(proof, y, x);
        refuses(with(8, addmod(word(proof, 8), 1, R)), x, y);
        refuses(proof, 0, 0);
    }

    /// The same point, written with coordinates that are not below the modulus, is refused.
    function test_coordinates_are_below_the_modulus() public {
        for (uint256 i = 0; i < 8; ++i) {
            refuses(with(i, word(proof, i) + P), x, y);
        }
    }

    function test_mirrored_points_are_refused() public {
        // A, B and C with another sign, each alone.
        refuses(with(1, P - word(proof, 1)), x, y);
        refuses(with(7, P - word(proof, 7)), x, y);
        bytes memory mirrored = with(4, P - word(proof, 4));
        put(mirrored, 5, P - word(proof, 5));
        refuses(mirrored, x, y);
        // Together A and B say the same as before: a proof can be rerandomized, and still is about
        // these inputs alone.
        put(mirrored, 1, P - word(proof, 1));
        verifier.verifyProof(mirrored, x, y);
        refuses(mirrored, x, addmod(y, 1, R));
    }

    function test_swapped_points_are_refused() public {
        bytes memory swapped = with(0, word(proof, 6));
        put(swapped, 1, word(proof, 7));
        put(swapped, 6, word(proof, 0));
        put(swapped, 7, word(proof, 1));
        refuses(swapped, x, y);
        // The parts of B's coordinates the other way round.
        bytes memory turned = with(2, word(proof, 3));
        put(turned, 3, word(proof, 2));
        put(turned, 4, word(proof, 5));
        put(turned, 5, word(proof, 4));
        refuses(turned, x, y);
    }

    function test_points_at_infinity_are_refused() public {
        uint256[4] memory begins = [uint256(0), 2, 6, 8];
        for (uint256 i = 0; i < 3; ++i) {
            bytes memory changed = bytes.concat(proof);
            for (uint256 j = begins[i]; j < begins[i + 1]; ++j) {
                put(changed, j, 0);
            }
            refuses(changed, x, y);
        }
    }

    /// (1, 3) is not on the curve, and a point of the twist with another coordinate is none.
    function test_points_off_the_curve_are_refused_cheaply() public {
        bytes memory off = with(0, 1);
        put(off, 1, 3);
        costsLittle(off);
        off = with(6, 1);
        put(off, 7, 3);
        costsLittle(off);
        costsLittle(with(2, word(proof, 2) ^ 1));
        costsLittle(with(0, type(uint256).max));
    }

    function testFuzz_changed_proofs_are_refused_cheaply(uint256 index, uint256 value) public view {
        index %= 9;
        if (word(proof, index) == value) return;
        bytes memory changed = with(index, value);
        uint256 gas = gasleft();
        try verifier.verifyProof(changed, x, y) {
            isTrue(false, "accepted");
        } catch (bytes memory reason) {
            bool isKnown = bytes4(reason) == Errors.ProofRefused.selector
                || bytes4(reason) == Errors.InputTooLarge.selector;
            isTrue(isKnown, "typed");
        }
        atMost(gas - gasleft(), GAS_MAX + 20_000, "gas");
    }

    function testFuzz_proofs_have_one_length(uint256 length) public {
        length %= 600;
        if (length == 288) return;
        refused(abi.encodeWithSelector(Errors.WrongProofLength.selector, 288, length));
        verifier.verifyProof(new bytes(length), 1, 1);
    }

    function test_little_gas_is_a_revert_and_no_answer() public view {
        for (uint256 gas = 20_000; gas < 200_000; gas += 20_000) {
            try verifier.verifyProof{gas: gas}(proof, x, y) {
                isTrue(false, "accepted");
            } catch {}
        }
    }

    // ---- Inside ----

    function costsLittle(bytes memory changed) private {
        uint256 gas = gasleft();
        refuses(changed, x, y);
        // What the precompiles may burn, and the test's own calls.
        atMost(gas - gasleft(), GAS_MAX + 20_000, "gas");
    }

    function refuses(bytes memory changed, uint256 first, uint256 second) private {
        refused(Errors.ProofRefused.selector);
        verifier.verifyProof(changed, first, second);
    }

    function tooLarge(bytes memory given, uint256 first, uint256 second, uint256 input) private {
        refused(abi.encodeWithSelector(Errors.InputTooLarge.selector, input));
        verifier.verifyProof(given, first, second);
    }

    function with(uint256 index, uint256 value) private view returns (bytes memory changed) {
        changed = bytes.concat(proof);
        put(changed, index, value);
    }

    function put(bytes memory data, uint256 index, uint256 value) private pure {
        assembly ("memory-safe") {
            mstore(add(add(data, 0x20), mul(index, 0x20)), value)
        }
    }

    function word(bytes memory data, uint256 index) private pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := mload(add(add(data, 0x20), mul(index, 0x20)))
        }
    }

    function head(bytes memory data) private pure returns (bytes memory first) {
        first = new bytes(288);
        for (uint256 i = 0; i < first.length; ++i) {
            first[i] = data[i];
        }
    }
}

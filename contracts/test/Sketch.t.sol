// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Poseidon} from "../src/libraries/Poseidon.sol";
import {SketchProjection} from "../src/libraries/SketchProjection.sol";
import {SketchSums} from "../src/libraries/SketchSums.sol";
import {Assertions} from "./helpers/Assertions.sol";
import {SketchReference} from "./helpers/SketchReference.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice Takes the data as calldata, as an audit does.
contract Sketcher {
    function project(bytes calldata chunk, uint256 index, bytes32 seed, uint256 clipNorm)
        external
        view
        returns (int256[128] memory lanes, uint256 energy, uint256 gas)
    {
        gas = gasleft();
        (lanes, energy) = SketchProjection.project(chunk, index, seed, clipNorm);
        gas -= gasleft();
    }

    function follow(
        bytes calldata before,
        bytes calldata afterwards,
        int256[128] calldata lanes,
        uint256 energy
    ) external pure returns (bool) {
        return SketchSums.follow(before, afterwards, lanes, energy);
    }

    function packed(bytes calldata sums, uint256 norm, uint256 clipNorm, address trainer)
        external
        view
        returns (uint256[6] memory elements, uint256 gas)
    {
        gas = gasleft();
        elements = SketchSums.packed(sums, norm, clipNorm, trainer);
        gas -= gasleft();
    }

    function energyOf(bytes calldata sums) external pure returns (uint256) {
        return SketchSums.energyOf(sums);
    }

    function hash(uint256 tag, uint256[6] calldata elements)
        external
        view
        returns (uint256 result, uint256 gas)
    {
        gas = gasleft();
        result = Poseidon.hash(tag, elements);
        gas -= gasleft();
    }
}

/// @notice Projection, sums, norm check and sketch are those of the Rust side, and of a plain
/// reference.
contract SketchTest is Assertions {
    uint256 private constant PROJECTION_GAS_MAX = 1_200_000;
    uint256 private constant POSEIDON_GAS_MAX = 400_000;

    Sketcher private sketcher;
    string private json;

    function setUp() public {
        sketcher = new Sketcher();
        json = vm.readFile("test/fixtures/sketch.json");
    }

    // ---- Projection ----

    function test_sums_are_those_of_the_rust_side() public view {
        bytes32 seed = vm.parseJsonBytes32(json, ".seed");
        uint256 clipNorm = vm.parseJsonUint(json, ".clipNorm");
        bytes[] memory chunks = vm.parseJsonBytesArray(json, ".chunks");
        bytes[] memory sums = vm.parseJsonBytesArray(json, ".sums");
        isTrue(follows(chunks[0], 0, seed, clipNorm, "", sums[0]), "first");
        isTrue(follows(chunks[1], 1, seed, clipNorm, sums[0], sums[1]), "second");
        isTrue(!follows(chunks[1], 0, seed, clipNorm, sums[0], sums[1]), "another index");
        isTrue(!follows(chunks[1], 1, "seed", clipNorm, sums[0], sums[1]), "another seed");
        isTrue(!follows(chunks[1], 1, seed, clipNorm + (1 << 23), sums[0], sums[1]), "norm");
        isTrue(!follows(chunks[1], 1, seed, clipNorm, "", sums[1]), "other sums before");
        isTrue(!follows(chunks[1], 1, seed, clipNorm, sums[1], sums[1]), "other sums before");
    }

    function test_any_bits_there_are_project_alike() public view {
        bytes32 seed = vm.parseJsonBytes32(json, ".seed");
        uint256 count = 0;
        for (; exists("anyBits", count, "sums"); ++count) {
            bytes memory chunk = vm.parseJsonBytes(json, key("anyBits", count, "chunk"));
            uint256 clipNorm = vm.parseJsonUint(json, key("anyBits", count, "clipNorm"));
            bytes memory sums = vm.parseJsonBytes(json, key("anyBits", count, "sums"));
            isTrue(follows(chunk, 0, seed, clipNorm, "", sums), "sums");
        }
        isTrue(count >= 4, "count");
    }

    /// Of every length, with what follows in the calldata as no part of it.
    function testFuzz_projections_are_those_of_the_reference(
        bytes32 content,
        uint256 values,
        uint256 index,
        bytes32 seed,
        uint256 clipNorm
    ) public view {
        values = 1 + values % 300;
        clipNorm = clipNorm % 0x7f7fffff + 1;
        bytes memory chunk = random(content, values);
        (int256[128] memory lanes, uint256 energy,) = sketcher.project(chunk, index, seed, clipNorm);
        (int256[128] memory expected, uint256 sum) =
            SketchReference.project(chunk, index, seed, clipNorm);
        equal(energy, sum, "energy");
        for (uint256 i = 0; i < 128; ++i) {
            isTrue(lanes[i] == expected[i], "lane");
        }
    }

    /// All values as large as they can be, so that every part of a word is as full as it can be.
    function test_the_largest_values_fit() public view {
        bytes memory chunk = new bytes(8_192);
        bytes32 seed = "seed";
        for (uint256 turn = 0; turn < 2; ++turn) {
            // With the signs of the seed against them, sums are all that there is in one lane.
            for (uint256 i = 0; i < 2_048; ++i) {
                uint256 sign = turn == 0 ? 0 : SketchReference.sign(seed, 0, i, 0);
                bytes4 bits = bytes4(uint32(sign == 0 ? 0xffff7f7f : 0xffff7fff));
                for (uint256 j = 0; j < 4; ++j) {
                    chunk[4 * i + j] = bits[j];
                }
            }
            (int256[128] memory lanes, uint256 energy,) =
                sketcher.project(chunk, 0, seed, 0x00800000);
            (int256[128] memory expected,) = SketchReference.project(chunk, 0, seed, 0x00800000);
            equal(energy, 2_048 * uint256(0xffffff) ** 2, "energy");
            for (uint256 i = 0; i < 128; ++i) {
                isTrue(lanes[i] == expected[i], "lane");
            }
        }
    }

    function test_a_whole_chunk_costs_little() public view {
        bytes memory chunk = random("chunk", 2_048);
        (,, uint256 gas) = sketcher.project(chunk, 0, "seed", 0x3f400000);
        atMost(gas, PROJECTION_GAS_MAX, "gas");
    }

    // ---- Sums ----

    function test_every_word_of_the_sums_counts() public view {
        int256[128] memory lanes;
        for (uint256 i = 0; i < 128; ++i) {
            lanes[i] = (i % 2 == 0 ? int256(1) : -1) * int256(i * 1e9);
        }
        bytes memory before = random("before", 264);
        bytes memory afterwards = sumsOf(before, lanes, 77);
        isTrue(sketcher.follow(before, afterwards, lanes, 77), "sum");
        isTrue(!sketcher.follow(before, afterwards, lanes, 78), "energy");
        for (uint256 i = 0; i < 128; ++i) {
            lanes[i] += 1;
            isTrue(!sketcher.follow(before, afterwards, lanes, 77), "lane");
            lanes[i] -= 1;
        }
        for (uint256 i = 0; i < 1_056; i += 7) {
            afterwards[i] ^= 0x01;
            isTrue(!sketcher.follow(before, afterwards, lanes, 77), "byte");
            afterwards[i] ^= 0x01;
        }
        afterwards = sumsOf(new bytes(1_056), lanes, 77);
        isTrue(sketcher.follow("", afterwards, lanes, 77), "from nothing");
    }

    // ---- Sketch and norm ----

    function test_sketches_and_norm_checks_are_those_of_the_rust_side() public view {
        bytes memory sums = vm.parseJsonBytesArray(json, ".sums")[1];
        uint256 count = 0;
        for (; exists("quantized", count, "sketch"); ++count) {
            uint256 norm = vm.parseJsonUint(json, key("quantized", count, "norm"));
            uint256 clipNorm = vm.parseJsonUint(json, key("quantized", count, "clipNorm"));
            bytes memory sketch = vm.parseJsonBytes(json, key("quantized", count, "sketch"));
            (uint256[6] memory elements,) = sketcher.packed(sums, norm, clipNorm, address(7));
            for (uint256 i = 0; i < 128; ++i) {
                uint256 value = elements[i / 31] >> (8 * (i % 31)) & 0xff;
                // The fixture has two's complement.
                equal(value, uint8(sketch[i]) ^ 0x80, "value");
            }
            equal(elements[5], 7, "trainer");
            equal(elements[4] >> 32, 0, "nothing else");
            bool isUnder = SketchSums.isUnderDeclared(sketcher.energyOf(sums), norm, clipNorm);
            bool expected = vm.parseJsonBool(json, key("quantized", count, "underDeclared"));
            isTrue(isUnder == expected, "under-declared");
        }
        isTrue(count > 20, "count");
    }

    function test_norms_out_of_range_are_nobodys_fault() public pure {
        // Norms below the normal range are zero, above it the largest there is.
        isTrue(!SketchSums.isUnderDeclared(type(uint128).max, 0x7f7fffff, 0x00800000), "largest");
        isTrue(!SketchSums.isUnderDeclared(1 << 42, 0, 0x00800000), "zero");
        isTrue(SketchSums.isUnderDeclared(1 << 43, 0, 0x00800000), "not zero");
        isTrue(!SketchSums.isUnderDeclared(0, 0, 0x3f400000), "nothing");
        isTrue(SketchSums.isUnderDeclared(1, 0, 0x3f400000), "something");
    }

    /// The boundary, to the unit: 16 * 127 * energy against 128 mantissa^2 2^(2 distance).
    function testFuzz_norm_checks_are_exact(uint256 norm, uint256 clipNorm, uint256 off)
        public
        pure
    {
        norm = 0x00800000 + norm % 0x7effffff;
        uint256 exponent = norm >> 23;
        uint256 spread = off % 61;
        uint256 clip = exponent + spread < 31 ? 1 : exponent + spread - 30;
        clipNorm = (clip > 254 ? 254 : clip) << 23 | (clipNorm & 0x7fffff);
        uint256 right = 128 * ((norm & 0x7fffff) | 0x800000) ** 2 << 100;
        clip = clipNorm >> 23;
        right =
            exponent >= clip ? right << (2 * (exponent - clip)) : right >> (2 * (clip - exponent));
        uint256 most = right / (16 * 127 << 100);
        isTrue(!SketchSums.isUnderDeclared(most, norm, clipNorm), "allowed");
        isTrue(SketchSums.isUnderDeclared(most + 1, norm, clipNorm), "too much");
    }

    // ---- Poseidon ----

    /// By the generator and parameters of ark-crypto-primitives: tag 9, elements 1 to 6.
    function test_poseidon_is_that_of_the_rust_side() public view {
        uint256[6] memory elements = [uint256(1), 2, 3, 4, 5, 6];
        (uint256 hash, uint256 gas) = sketcher.hash(9, elements);
        equal(
            hash,
            10810220587892129808803101487722407701389880569359151711978604111310549450739,
            "hash"
        );
        atMost(gas, POSEIDON_GAS_MAX, "gas");
    }

    /// The fixture's sketch, packed and hashed as `Commitment::of` of crates/proofs does.
    function test_commitments_are_those_of_the_rust_side() public view {
        bytes memory sums = vm.parseJsonBytesArray(json, ".sums")[1];
        address trainer = 0x1111111111111111111111111111111111111111;
        uint256 norm = vm.parseJsonUint(json, ".norm");
        uint256 clipNorm = vm.parseJsonUint(json, ".clipNorm");
        (uint256[6] memory elements,) = sketcher.packed(sums, norm, clipNorm, trainer);
        uint256 context = 0x0022222222222222222222222222222222222222222222222222222222222222;
        (uint256 commitment,) = sketcher.hash(context, elements);
        equal(
            commitment,
            390868265256302865749519539905700253944432753725206996811558781246190614931,
            "commitment"
        );
    }

    // ---- Inside ----

    function follows(
        bytes memory chunk,
        uint256 index,
        bytes32 seed,
        uint256 clipNorm,
        bytes memory before,
        bytes memory afterwards
    ) private view returns (bool) {
        (int256[128] memory lanes, uint256 energy,) = sketcher.project(chunk, index, seed, clipNorm);
        return sketcher.follow(before, afterwards, lanes, energy);
    }

    function sumsOf(bytes memory before, int256[128] memory lanes, uint256 energy)
        private
        pure
        returns (bytes memory sums)
    {
        for (uint256 i = 0; i < 128; ++i) {
            uint64 old = 0;
            for (uint256 j = 0; j < 8; ++j) {
                old = old << 8 | uint8(before[8 * i + j]);
            }
            unchecked {
                sums = bytes.concat(sums, bytes8(old + uint64(int64(lanes[i]))));
            }
        }
        uint256 last = 0;
        for (uint256 j = 0; j < 32; ++j) {
            last = last << 8 | uint8(before[1_024 + j]);
        }
        unchecked {
            return bytes.concat(sums, bytes32(last + energy));
        }
    }

    function random(bytes32 content, uint256 values) private pure returns (bytes memory chunk) {
        chunk = new bytes(4 * values);
        for (uint256 i = 0; i < values; ++i) {
            bytes32 word = keccak256(abi.encode(content, i));
            for (uint256 j = 0; j < 4; ++j) {
                chunk[4 * i + j] = word[j];
            }
        }
    }

    function exists(string memory list, uint256 index, string memory field)
        private
        view
        returns (bool)
    {
        return vm.keyExistsJson(json, key(list, index, field));
    }

    function key(string memory list, uint256 index, string memory field)
        private
        pure
        returns (string memory)
    {
        bytes memory digits = index < 10
            ? abi.encodePacked(bytes1(uint8(48 + index)))
            : abi.encodePacked(bytes1(uint8(48 + index / 10)), bytes1(uint8(48 + index % 10)));
        return string.concat(".", list, "[", string(digits), "].", field);
    }
}

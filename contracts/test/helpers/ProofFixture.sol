// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Groth16Verifier} from "../../src/Groth16Verifier.sol";
import {RoundProofVerifier} from "../../src/RoundProofVerifier.sol";
import {IGroth16Verifier} from "../../src/interfaces/IGroth16Verifier.sol";
import {IProofVerifierTypes} from "../../src/interfaces/IProofVerifier.sol";
import {vm} from "./Vm.sol";

/// @notice A round proven by the Rust side, with keys made from a fixed seed.
struct Proven {
    uint256 slots;
    bytes32 circuit;
    uint256[22] key;
    uint256 chainId;
    address taskManager;
    IProofVerifierTypes.Statement statement;
    bytes factors;
    bytes payouts;
    bytes proof;
    uint256 own;
    uint256 clipNorm;
    uint256 x;
    uint256 y;
}

/// @notice Reads `test/fixtures/proof*.json`, which the example `fixture` of `crates/proofs` writes.
library ProofFixture {
    function load(string memory name) internal view returns (Proven memory p) {
        string memory json = vm.readFile(string.concat("test/fixtures/", name, ".json"));
        p.slots = vm.parseJsonUint(json, ".slots");
        p.circuit = vm.parseJsonBytes32(json, ".circuit");
        bytes32[] memory key = vm.parseJsonBytes32Array(json, ".key");
        require(key.length == 22);
        for (uint256 i = 0; i < 22; ++i) {
            p.key[i] = uint256(key[i]);
        }
        p.chainId = vm.parseJsonUint(json, ".chainId");
        p.taskManager = vm.parseJsonAddress(json, ".taskManager");
        p.statement = _statement(json);
        p.factors = vm.parseJsonBytes(json, ".factors");
        p.payouts = vm.parseJsonBytes(json, ".payouts");
        p.proof = vm.parseJsonBytes(json, ".proof");
        p.own = vm.parseJsonUint(json, ".own");
        p.clipNorm = vm.parseJsonUint(json, ".clipNorm");
        p.x = vm.parseJsonUint(json, ".x");
        p.y = vm.parseJsonUint(json, ".y");
    }

    /// @notice The Groth16 verifier of the fixture's keys.
    function verifier(Proven memory p) internal returns (Groth16Verifier) {
        return new Groth16Verifier(p.slots, p.circuit, p.key);
    }

    /// @notice The adaptor with both sizes.
    function adaptor() internal returns (RoundProofVerifier) {
        Proven memory small = load("proof16");
        Proven memory large = load("proof64");
        IGroth16Verifier[] memory verifiers = new IGroth16Verifier[](2);
        (verifiers[0], verifiers[1]) = (verifier(small), verifier(large));
        return new RoundProofVerifier(small.taskManager, verifiers);
    }

    function _statement(string memory json)
        private
        pure
        returns (IProofVerifierTypes.Statement memory s)
    {
        s.task = uint64(vm.parseJsonUint(json, ".statement.task"));
        s.round = uint32(vm.parseJsonUint(json, ".statement.round"));
        s.attempt = uint16(vm.parseJsonUint(json, ".statement.attempt"));
        s.aggregator = vm.parseJsonAddress(json, ".statement.aggregator");
        s.updatesRoot = vm.parseJsonBytes32(json, ".statement.updatesRoot");
        s.ownCommitments = vm.parseJsonBytes32(json, ".statement.ownCommitments");
        s.updates = uint16(vm.parseJsonUint(json, ".statement.updates"));
        s.seed = vm.parseJsonBytes32(json, ".statement.seed");
        s.trainersPool = uint128(vm.parseJsonUint(json, ".statement.trainersPool"));
        s.split = uint8(vm.parseJsonUint(json, ".statement.split"));
        s.rankDecayBps = uint16(vm.parseJsonUint(json, ".statement.rankDecayBps"));
        s.checkpoint = vm.parseJsonBytes32(json, ".statement.checkpoint");
        s.resultHash = vm.parseJsonBytes32(json, ".statement.resultHash");
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {RoundProofVerifier} from "../src/RoundProofVerifier.sol";
import {IGroth16Verifier} from "../src/interfaces/IGroth16Verifier.sol";
import {IPenaltyManagerTypes} from "../src/interfaces/IPenaltyManager.sol";
import {IProofVerifierTypes} from "../src/interfaces/IProofVerifier.sol";
import {RoundDigest} from "../src/libraries/RoundDigest.sol";
import {RoundProof} from "../src/libraries/RoundProof.sol";
import {Assertions} from "./helpers/Assertions.sol";
import {AuditBase} from "./helpers/AuditBase.sol";
import {ProofFixture, Proven} from "./helpers/ProofFixture.sol";
import {Sketches, Story} from "./helpers/Sketched.sol";
import {Tree} from "./helpers/Tree.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice Parts of a verification, measured where they run.
contract Meter {
    using RoundDigest for uint256[];

    function whole(RoundProofVerifier verifier, Proven calldata p) external view returns (uint256) {
        (IProofVerifierTypes.Statement memory s, bytes memory factors) = (p.statement, p.factors);
        (bytes memory payouts, bytes memory proof) = (p.payouts, p.proof);
        uint256 gas = gasleft();
        verifier.verify(s, factors, payouts, proof);
        return gas - gasleft();
    }

    function pairing(IGroth16Verifier verifier, Proven calldata p) external view returns (uint256) {
        bytes memory points = p.proof[:288];
        (uint256 x, uint256 y) = (p.x, p.y);
        uint256 gas = gasleft();
        verifier.verifyProof(points, x, y);
        return gas - gasleft();
    }

    function digest(Proven calldata p) external view returns (uint256) {
        uint256 gas = gasleft();
        uint256[] memory buffer =
            RoundDigest.open(p.slots, 1, bytes32(0), 1, p.statement.trainersPool, p.factors);
        buffer.fill(p.slots, p.proof[294:], p.payouts);
        (uint256 x, uint256 y) = buffer.close();
        gas -= gasleft();
        require(x != y);
        return gas;
    }

    function roots(Proven calldata p) external view returns (uint256) {
        bytes calldata entries = p.proof[294:];
        uint256 split = (p.statement.updates - p.own) * 116;
        uint256 gas = gasleft();
        bytes32 root = RoundProof.updatesRoot(
            p.taskManager, p.statement.task, p.statement.round, entries[:split]
        );
        bytes32 chain = RoundProof.ownCommitments(entries[split:]);
        gas -= gasleft();
        require(root == p.statement.updatesRoot && chain == p.statement.ownCommitments);
        return gas;
    }
}

/// @notice Gas of a round's proof on chain; `npm run gas` writes it to snapshots/.
contract ProofGasTest is Assertions {
    using ProofFixture for Proven;

    function test_gas_of_a_proof_of_16() public {
        measure("proof16", ", 14 updates in 16 slots");
    }

    function test_gas_of_a_proof_of_64() public {
        measure("proof64", ", 61 updates in 64 slots");
    }

    function measure(string memory name, string memory label) private {
        vm.chainId(31_337);
        Proven memory p = ProofFixture.load(name);
        RoundProofVerifier verifier = ProofFixture.adaptor();
        Meter meter = new Meter();
        note("verify, all of it", label, meter.whole(verifier, p));
        uint256 gas = meter.pairing(p.verifier(), p);
        atMost(gas, 210_000, "pairing");
        note("verifyProof", label, gas);
        note("digest", label, meter.digest(p));
        note("roots", label, meter.roots(p));
    }

    function note(string memory name, string memory label, uint256 gas) private {
        vm.snapshotValue(string.concat(name, label), gas);
    }
}

/// @notice Gas of an audit, each call as a transaction of its own: a delta of 10,000,000 values in
/// 4,883 chunks, of which the one in question is full.
contract AuditGasTest is AuditBase {
    using Sketches for Story;

    uint256 private constant CHUNKS = 4_883;
    /// What one transaction may use since EIP-7825.
    uint256 private constant TRANSACTION_GAS_MAX = 1 << 24;

    function test_gas_of_a_claim() public {
        seeded();
        (Story memory s, Opening memory opening) = deep(2_000);
        Sketch memory claim = claimOf(s);
        audit.punishClaim(header(s), claim, signed(claim), opening);
        vm.snapshotGasLastCall("punishClaim, a chunk in the middle");
        rounds.open(TASK, ROUND, ATTEMPT + 1);
        (s, opening) = deep(CHUNKS - 1);
        claim = claimOf(s);
        claim.attempt += 1;
        audit.punishClaim(header(s), claim, signed(claim), opening);
        vm.snapshotGasLastCall("punishClaim, the last chunk");
    }

    /// The largest there is: 256 updates, and 256 more of their trainers' own.
    function test_gas_of_an_entry() public {
        (Story memory s, Opening memory opening) = deep(CHUNKS - 1);
        Place memory place = settle(s);
        audit.punishEntry(place, header(s), opening);
        vm.snapshotGasLastCall("punishEntry, the last chunk, 3 updates");
        rounds.open(TASK, ROUND, ATTEMPT + 1);
        place = large(place);
        audit.punishEntry(place, header(s), opening);
        atMost(
            vm.snapshotGasLastCall("punishEntry, the last chunk, 512 updates"),
            TRANSACTION_GAS_MAX / 4,
            "too large"
        );
    }

    function test_gas_of_demands() public {
        (Story memory s, Opening memory opening) = deep(2_000);
        Place memory place = settle(s);
        vm.prank(BOB);
        uint256 demand = audit.demandHeader(place);
        vm.snapshotGasLastCall("demandHeader, 3 updates");
        audit.answerHeader(demand, header(s), sign(KEY, hash(header(s))));
        vm.snapshotGasLastCall("answerHeader");
        vm.prank(BOB);
        demand = audit.demandChunk(place, header(s), 2_000);
        vm.snapshotGasLastCall("demandChunk, 3 updates");
        audit.answerLeaf(demand, 2_000, uint64(CHUNKS), opening.chunk, opening.chunkProof);
        vm.snapshotGasLastCall("answerLeaf, a chunk");
        vm.prank(BOB);
        demand = audit.demandSums(place, 2_000);
        vm.snapshotGasLastCall("demandSums, 3 updates");
        audit.answerLeaf(demand, 2_000, uint64(CHUNKS), opening.sumsAfter, opening.afterProof);
        vm.snapshotGasLastCall("answerLeaf, sums");
        vm.prank(BOB);
        demand = audit.demandSums(place, 1);
        pass(WINDOW + 1);
        audit.punishSilence(demand);
        vm.snapshotGasLastCall("punishSilence");
    }

    /// @dev A false step at a chunk in the middle, or a false commitment at the last.
    function deep(uint256 index) private view returns (Story memory s, Opening memory opening) {
        (s.seed, s.clipNorm, s.norm, s.commitment) = (SEED, CLIP, 0x7f7fffff, "false");
        opening.chunk = values("chunk", 2_048);
        opening.sumsBefore = teller.step(new bytes(1_056), opening.chunk, 0, SEED, CLIP);
        opening.sumsAfter = teller.step(opening.sumsBefore, opening.chunk, index, SEED, CLIP);
        if (index + 1 < CHUNKS) opening.sumsAfter[0] ^= 0x01;
        (opening.index, opening.count) = (uint64(index), uint64(CHUNKS));
        (s.chunkLeaves, s.sumsLeaves) = (new bytes32[](CHUNKS), new bytes32[](CHUNKS));
        s.chunkLeaves[index] = Sketches.leaf("convoke.delta-chunk.v1", index, CHUNKS, opening.chunk);
        string memory tag = "convoke.sketch-sum.v1";
        s.sumsLeaves[index - 1] = Sketches.leaf(tag, index - 1, CHUNKS, opening.sumsBefore);
        s.sumsLeaves[index] = Sketches.leaf(tag, index, CHUNKS, opening.sumsAfter);
        opening.chunkProof = Tree.proof(s.chunkLeaves, index);
        opening.beforeProof = Tree.proof(s.sumsLeaves, index - 1);
        opening.afterProof = Tree.proof(s.sumsLeaves, index);
    }

    function large(Place memory place) private returns (Place memory) {
        bytes memory filler = new bytes(509 * 116);
        for (uint256 i = 0; i < filler.length; ++i) {
            filler[i] = 0x01;
        }
        return settleWith(bytes.concat(place.proof, filler), 512);
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {SketchAudit} from "../../src/SketchAudit.sol";
import {IPenaltyManagerTypes} from "../../src/interfaces/IPenaltyManager.sol";
import {IRoundManagerTypes} from "../../src/interfaces/IRoundManager.sol";
import {
    ISketchAuditErrors as Errors,
    ISketchAuditEvents,
    ISketchAuditTypes
} from "../../src/interfaces/ISketchAudit.sol";
import {StakeTest} from "./Doubles.sol";
import {Sketches, Story, Teller} from "./Sketched.sol";
import {vm} from "./Vm.sol";

/// @notice One update of three chunks in a settled round, and its auditor.
abstract contract AuditBase is StakeTest, ISketchAuditTypes, ISketchAuditEvents {
    using Sketches for Story;

    uint256 internal constant KEY = 0xA11CE;
    uint256 internal constant OTHER_KEY = 0xB0B;
    uint32 internal constant ROUND = 2;
    uint16 internal constant ATTEMPT = 3;
    uint128 internal constant OWN = 10_000;
    uint32 internal constant WINDOW = 40;
    uint32 internal constant DISPUTE = 100;
    uint128 internal constant BOND = 500;
    bytes32 internal constant SEED = "seed";
    uint256 internal constant CLIP = 0x3f400000;
    /// About twice the norm of the delta under test.
    uint256 internal constant NORM = 0x41000000;
    uint256 internal constant VALUES_LAST = 100;
    /// The update under test is the second of three, of which the last is its trainer's own.
    uint256 internal constant SLOT = 1;

    SketchAudit internal audit;
    Teller internal teller;
    address internal account;

    function setUp() public override {
        super.setUp();
        audit = new SketchAudit(roundManager(), WINDOW, BOND);
        stakes.grantRole(stakes.SLASHER_ROLE(), address(audit));
        teller = new Teller();
        account = vm.addr(KEY);
        fund(account, 1e20);
        rounds.open(TASK, ROUND, ATTEMPT);
        deposit(account, TRAINER, OWN);
        deposit(AGGREGATOR, AGGREGATOR_ROLE, OWN);
        vm.prank(BOB);
        token.approve(address(audit), type(uint256).max);
    }

    // ---- Stories ----

    function story() internal view returns (Story memory) {
        bytes[] memory chunks = new bytes[](3);
        chunks[0] = values("first", 2_048);
        chunks[1] = values("second", 2_048);
        chunks[2] = values("third", VALUES_LAST);
        return teller.tell(chunks, SEED, CLIP, NORM, account, context());
    }

    function context() internal view returns (uint256) {
        return uint256(
            keccak256(
            abi.encode(
            keccak256("convoke.sketch-context.v1"),
            block.chainid,
            address(tasks),
            TASK,
            ROUND,
            ATTEMPT,
            SEED
        )
        )
        ) << 8 >> 8;
    }

    /// @dev Between -1/16 and 1/16.
    function values(bytes32 content, uint256 count) internal pure returns (bytes memory chunk) {
        chunk = new bytes(4 * count);
        for (uint256 i = 0; i < count; ++i) {
            uint256 word = uint256(keccak256(abi.encode(content, i)));
            uint256 bits = (word & 0x807fffff) | ((100 + word / 2 ** 32 % 23) << 23);
            for (uint256 j = 0; j < 4; ++j) {
                chunk[4 * i + j] = bytes1(uint8(bits >> (8 * j)));
            }
        }
    }

    function header(Story memory s) internal pure returns (IPenaltyManagerTypes.Update memory) {
        return s.header(TASK, ROUND);
    }

    // ---- Claims ----

    function claimOf(Story memory s) internal pure returns (Sketch memory c) {
        (c.task, c.round, c.attempt) = (TASK, ROUND, ATTEMPT);
        c.update = hash(header(s));
        (c.seed, c.clipNorm, c.commitment) = (s.seed, s.clipNorm, s.commitment);
        c.sumsRoot = s.sumsRoot();
    }

    /// @dev The round as a claim finds it: the seed is drawn.
    function seeded() internal {
        IRoundManagerTypes.Round memory r;
        (r.stage, r.seed, r.base) = (IRoundManagerTypes.Stage.Scoring, SEED, "base");
        rounds.set(TASK, ROUND, r);
    }

    function signed(Sketch memory claim) internal view returns (bytes memory) {
        return sign(KEY, claimHash(claim));
    }

    function claimHash(Sketch memory claim) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256(
                    "Sketch(uint256 task,uint256 round,uint256 attempt,bytes32 update,bytes32 seed,"
                    "uint256 clipNorm,bytes32 commitment,bytes32 sumsRoot)"
                ),
                claim
            )
        );
    }

    function hash(IPenaltyManagerTypes.Update memory u) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256(
                    "Update(uint256 task,uint256 round,bytes32 base,bytes32 delta,"
                    "bytes32 deltaRoot,uint256 deltaBytes,uint256 deltaNorm,uint256 numExamples,"
                    "uint256 trainLossMicros)"
                ),
                u
            )
        );
    }

    function sign(uint256 key, bytes32 structHash) internal view returns (bytes memory) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,"
                    "address verifyingContract)"
                ),
                keccak256("Convoke"),
                keccak256("1"),
                block.chainid,
                address(tasks)
            )
        );
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(key, keccak256(abi.encodePacked(hex"1901", domain, structHash)));
        return abi.encodePacked(r, s, v);
    }

    // ---- Entries ----

    /// @dev The round with a result that says this of the update under test.
    function settle(Story memory s) internal returns (Place memory place) {
        return settle(header(s), s);
    }

    function settle(IPenaltyManagerTypes.Update memory u, Story memory s)
        internal
        returns (Place memory place)
    {
        bytes memory proof = abi.encodePacked(
            new bytes(288),
            uint32(s.clipNorm),
            uint16(1),
            // Refused before the filter.
            abi.encodePacked(address(1), bytes32("update"), bytes32(0), bytes32(0)),
            abi.encodePacked(account, hash(u), s.commitment, s.sumsRoot()),
            abi.encodePacked(BOB, hash(u), s.commitment, s.sumsRoot())
        );
        return settleWith(proof);
    }

    function settleWith(bytes memory proof) internal returns (Place memory) {
        return settleWith(proof, 3);
    }

    function settleWith(bytes memory proof, uint16 updates) internal returns (Place memory place) {
        place = Place(TASK, ROUND, SLOT, keccak256("payouts"), keccak256("factors"), proof);
        IRoundManagerTypes.Round memory r;
        (r.stage, r.seed, r.base) = (IRoundManagerTypes.Stage.Settled, SEED, "base");
        (r.updates, r.ownUpdates) = (updates - 1, 1);
        r.deadline = uint64(block.timestamp) + DISPUTE;
        r.submissionHash =
            keccak256(abi.encode(place.payoutsHash, place.factorsHash, keccak256(proof)));
        rounds.set(TASK, ROUND, r);
    }

    function fault(Story memory s, uint256 index, Fault expected) internal {
        Place memory place = settle(s);
        vm.expectEmit(address(audit));
        emit EntryPunished(TASK, ROUND, AGGREGATOR, SLOT, expected, 1_000);
        vm.prank(BOB);
        equal(audit.punishEntry(place, header(s), s.opening(index)), 1_000, "taken");
        equal(ownOf(AGGREGATOR), 9_000, "rest");
        equal(tasks.penalties(TASK), 750, "task");
        // The trainer that says the same is at fault as well, by its own signature.
        seeded();
        Sketch memory claim = claimOf(s);
        vm.expectEmit(address(audit));
        emit ClaimPunished(TASK, ROUND, account, expected, 1_000);
        audit.punishClaim(header(s), claim, signed(claim), s.opening(index));
        equal(ownOf(account), 9_000, "rest");
    }

    function honest(Story memory s, uint256 index) internal {
        Place memory place = settle(s);
        refused(Errors.NoFault.selector);
        audit.punishEntry(place, header(s), s.opening(index));
        seeded();
        Sketch memory claim = claimOf(s);
        bytes memory signature = signed(claim);
        refused(Errors.NoFault.selector);
        audit.punishClaim(header(s), claim, signature, s.opening(index));
    }
}

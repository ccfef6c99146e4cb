// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {Punisher} from "./Punisher.sol";
import {IPenaltyManagerTypes} from "./interfaces/IPenaltyManager.sol";
import {IRoundManager, IRoundManagerTypes} from "./interfaces/IRoundManager.sol";
import {ISketchAudit} from "./interfaces/ISketchAudit.sol";
import {Norms} from "./libraries/Norms.sol";
import {RoundDigest} from "./libraries/RoundDigest.sol";
import {RoundProof} from "./libraries/RoundProof.sol";
import {SketchOpening} from "./libraries/SketchOpening.sol";
import {TypedData} from "./libraries/TypedData.sol";

// What static analysis points at, and why it stays:
// - timestamp: windows last minutes to days: the seconds by which a proposer can move the clock
//   decide nothing;
// - incorrect-equality: parts, stages and attempts are compared with their like;
// - calls-loop: a base is looked for in a bounded number of rounds of this deployment;
// - reentrancy-events: the calls go to contracts of this deployment, linked for good, and to the
//   token, when everything is written down.
// slither-disable-start timestamp,incorrect-equality,calls-loop,reentrancy-events

/// @title Optimistic audit of sketches
/// @dev Needs `SLASHER_ROLE` on the stake manager. It holds the bonds of open demands, and nobody
/// administers it.
contract SketchAudit is ISketchAudit, Punisher, ReentrancyGuard {
    using SafeERC20 for IERC20;

    uint8 private constant ROLE_TRAINER = 0;
    uint8 private constant ROLE_AGGREGATOR = 2;

    /// @dev Rounds that a base may lie back in any task. A task that buffers updates may allow
    /// less, others allow none; the chain does not know, and what it does not know is no evidence.
    uint256 private constant STALENESS_MAX = 100;

    bytes32 private constant CLAIM_TYPE = keccak256(
        "Sketch(uint256 task,uint256 round,uint256 attempt,bytes32 update,bytes32 seed,"
        "uint256 clipNorm,bytes32 commitment,bytes32 sumsRoot)"
    );
    /// @dev One submission is punished once, whatever is wrong with it.
    bytes32 private constant ENTRY_FAULT = keccak256("convoke.entry-fault.v1");

    /// @inheritdoc ISketchAudit
    uint32 public immutable answerWindow;
    /// @inheritdoc ISketchAudit
    uint128 public immutable bond;
    IERC20 private immutable token;

    uint256 private demandCount;
    mapping(uint256 demand => Demand) private demands;
    /// @dev Of the update that a demand is about.
    mapping(uint256 demand => uint256) private slots;

    /// @param answerWindow_ Seconds; a task whose dispute window is shorter knows no demands.
    /// @param bond_ Should cover what an answer costs, about 200,000 gas; base units.
    constructor(IRoundManager roundManager_, uint32 answerWindow_, uint128 bond_)
        Punisher(roundManager_)
    {
        (answerWindow, bond) = (answerWindow_, bond_);
        token = tasks.token();
    }

    // ---- False claims ----

    /// @inheritdoc ISketchAudit
    function punishClaim(
        IPenaltyManagerTypes.Update calldata header,
        Sketch calldata claim,
        bytes calldata signature,
        Opening calldata opening
    ) external returns (uint128 taken) {
        _checkAttempt(header, claim);
        bytes32 claimHash = keccak256(abi.encode(CLAIM_TYPE, claim));
        address trainer = TypedData.signer(address(tasks), claimHash, signature);
        uint64 task = uint64(claim.task);
        uint32 round = uint32(claim.round);
        uint16 attempt = uint16(claim.attempt);
        Fault found = SketchOpening.judge(_claimed(header, claim, trainer), opening);
        if (found == Fault.None) revert NoFault();
        bytes32 fault = keccak256(abi.encode(CLAIM_TYPE, task, round, attempt, trainer));
        taken = _punish(fault, task, trainer, ROLE_TRAINER, msg.sender);
        emit ClaimPunished(task, round, trainer, found, taken);
    }

    /// @inheritdoc ISketchAudit
    function punishEntry(
        Place calldata place,
        IPenaltyManagerTypes.Update calldata header,
        Opening calldata opening
    ) external returns (uint128 taken) {
        IRoundManagerTypes.Round memory r = _settled(place);
        RoundProof.Entry memory entry = _entry(place, r);
        _checkHeader(entry.update, header);
        Fault found = _foreign(place, header, r);
        if (found == Fault.None) {
            found = SketchOpening.judge(_entered(place, header, entry, r), opening);
        }
        if (found == Fault.None) revert NoFault();
        return _punishEntry(place, r.attempt, found);
    }

    /// @inheritdoc ISketchAudit
    function punishCounts(
        Place calldata place,
        IPenaltyManagerTypes.Update calldata header,
        Leaf calldata one,
        Leaf calldata other
    ) external returns (uint128 taken) {
        IRoundManagerTypes.Round memory r = _settled(place);
        RoundProof.Entry memory entry = _entry(place, r);
        _checkHeader(entry.update, header);
        _checkLeaf(one, header.deltaRoot, entry.sumsRoot);
        _checkLeaf(other, header.deltaRoot, entry.sumsRoot);
        if (one.count == other.count) revert NoFault();
        return _punishEntry(place, r.attempt, Fault.Counts);
    }

    // ---- What is withheld ----

    /// @inheritdoc ISketchAudit
    function demandHeader(Place calldata place) external nonReentrant returns (uint256) {
        IRoundManagerTypes.Round memory r = _settled(place);
        RoundProof.Entry memory entry = _entry(place, r);
        address trainer = place.slot < r.updates ? entry.trainer : address(0);
        return _demand(place, r, Part.Header, 0, trainer, entry.update);
    }

    /// @inheritdoc ISketchAudit
    function demandChunk(
        Place calldata place,
        IPenaltyManagerTypes.Update calldata header,
        uint64 index
    ) external nonReentrant returns (uint256) {
        IRoundManagerTypes.Round memory r = _settled(place);
        _checkHeader(_entry(place, r).update, header);
        return _demand(place, r, Part.Chunk, index, address(0), header.deltaRoot);
    }

    /// @inheritdoc ISketchAudit
    function demandSums(Place calldata place, uint64 index)
        external
        nonReentrant
        returns (uint256)
    {
        IRoundManagerTypes.Round memory r = _settled(place);
        return _demand(place, r, Part.Sums, index, address(0), _entry(place, r).sumsRoot);
    }

    /// @inheritdoc ISketchAudit
    function answerHeader(
        uint256 demand,
        IPenaltyManagerTypes.Update calldata header,
        bytes calldata signature
    ) external nonReentrant {
        Demand memory asked = _answerable(demand);
        bytes32 got = TypedData.hash(header);
        if (asked.part != Part.Header || got != asked.root) revert NotAnAnswer(demand);
        if (
            asked.trainer != address(0)
                && TypedData.signer(address(tasks), got, signature) != asked.trainer
        ) revert NotAnAnswer(demand);
        _answered(demand, asked.task);
    }

    /// @inheritdoc ISketchAudit
    function answerLeaf(
        uint256 demand,
        uint64 index,
        uint64 count,
        bytes calldata content,
        bytes32[] calldata proof
    ) external nonReentrant {
        Demand memory asked = _answerable(demand);
        if (asked.part == Part.Header || (index != asked.index && count > asked.index)) {
            revert NotAnAnswer(demand);
        }
        SketchOpening.check(asked.part, asked.root, index, count, keccak256(content), proof);
        _answered(demand, asked.task);
    }

    /// @inheritdoc ISketchAudit
    function punishSilence(uint256 demand) external nonReentrant returns (uint128 taken) {
        Demand memory asked = _open(demand);
        if (block.timestamp <= asked.due) revert AnswerAwaited(asked.due);
        uint256 slot = slots[demand];
        _close(demand);
        address aggregator = tasks.specOf(asked.task).aggregator;
        if (_isPunishable(asked, aggregator)) {
            bytes32 fault = _entryFault(asked.task, asked.round, asked.attempt);
            taken = _punish(fault, asked.task, aggregator, ROLE_AGGREGATOR, asked.demander);
            emit EntryPunished(asked.task, asked.round, aggregator, slot, Fault.Silence, taken);
        }
        emit DemandClosed(demand, taken);
        token.safeTransfer(asked.demander, bond);
    }

    // ---- Views ----

    /// @inheritdoc ISketchAudit
    function roundManager() external view returns (IRoundManager) {
        return rounds;
    }

    /// @inheritdoc ISketchAudit
    function demandOf(uint256 demand) external view returns (Demand memory) {
        return demands[demand];
    }

    // ---- Inside: claims ----

    /// @dev The attempt that the chain knows now, with its seed, and an update of it: what a
    /// trainer says when there is no seed yet, or of something else, is of no use to anybody.
    function _checkAttempt(IPenaltyManagerTypes.Update calldata header, Sketch calldata claim)
        private
        view
    {
        if (claim.task > type(uint64).max || claim.round > type(uint32).max) {
            revert NotThisAttempt(claim.task, claim.round, claim.attempt);
        }
        IRoundManagerTypes.Round memory r = rounds.roundOf(uint64(claim.task), uint32(claim.round));
        if (r.seed == 0 || r.seed != claim.seed || r.attempt != claim.attempt) {
            revert NotThisAttempt(claim.task, claim.round, claim.attempt);
        }
        _checkHeader(claim.update, header);
        if (header.task != claim.task || header.round != claim.round || !_isRecent(header, r)) {
            revert OtherHeader(claim.update, claim.update);
        }
        Norms.check(claim.clipNorm);
    }

    function _claimed(
        IPenaltyManagerTypes.Update calldata header,
        Sketch calldata claim,
        address trainer
    ) private view returns (SketchOpening.Subject memory) {
        return SketchOpening.Subject({
            trainer: trainer,
            deltaRoot: header.deltaRoot,
            norm: header.deltaNorm,
            clipNorm: claim.clipNorm,
            sumsRoot: claim.sumsRoot,
            commitment: claim.commitment,
            seed: claim.seed,
            context: RoundDigest.context(
                address(tasks),
                uint64(claim.task),
                uint32(claim.round),
                uint16(claim.attempt),
                claim.seed
            )
        });
    }

    // ---- Inside: entries ----

    /// @dev The round of a result that stands and is the one shown.
    function _settled(Place calldata place)
        private
        view
        returns (IRoundManagerTypes.Round memory r)
    {
        r = rounds.roundOf(place.task, place.round);
        if (r.stage != IRoundManagerTypes.Stage.Settled || r.submissionHash == 0) {
            revert NotSettled(place.task, place.round);
        }
        bytes32 got =
            keccak256(abi.encode(place.payoutsHash, place.factorsHash, keccak256(place.proof)));
        if (got != r.submissionHash) revert NotTheSubmission(r.submissionHash, got);
    }

    function _entry(Place calldata place, IRoundManagerTypes.Round memory r)
        private
        pure
        returns (RoundProof.Entry memory entry)
    {
        uint256 updates = uint256(r.updates) + r.ownUpdates;
        uint256 length = RoundProof.ENTRIES_AT + updates * RoundProof.ENTRY_BYTES;
        if (place.proof.length != length) revert WrongProofLength(length, place.proof.length);
        if (place.slot >= updates) revert NoSuchUpdate(updates, place.slot);
        entry = RoundProof.entry(place.proof, place.slot);
        if (entry.commitment == 0) revert NotActive(place.slot);
    }

    function _entered(
        Place calldata place,
        IPenaltyManagerTypes.Update calldata header,
        RoundProof.Entry memory entry,
        IRoundManagerTypes.Round memory r
    ) private view returns (SketchOpening.Subject memory) {
        uint256 clipNorm = RoundProof.clipNorm(place.proof);
        Norms.check(clipNorm);
        return SketchOpening.Subject({
            trainer: entry.trainer,
            deltaRoot: header.deltaRoot,
            norm: header.deltaNorm,
            clipNorm: clipNorm,
            sumsRoot: entry.sumsRoot,
            commitment: entry.commitment,
            seed: r.seed,
            context: RoundDigest.context(address(tasks), place.task, place.round, r.attempt, r.seed)
        });
    }

    function _foreign(
        Place calldata place,
        IPenaltyManagerTypes.Update calldata header,
        IRoundManagerTypes.Round memory r
    ) private view returns (Fault) {
        bool isForeign = header.task != place.task || header.round != place.round
            || !_isRecent(header, r);
        return isForeign ? Fault.Foreign : Fault.None;
    }

    /// @dev Whether an update of round `r` begins with that round's base, or with one of at most
    /// `STALENESS_MAX` rounds before it. Newest first: the usual base costs no look-up. Task and
    /// round of the header are those of `r`.
    function _isRecent(
        IPenaltyManagerTypes.Update calldata header,
        IRoundManagerTypes.Round memory r
    ) private view returns (bool) {
        bytes32 base = r.base;
        for (uint256 back = 1; base != header.base; ++back) {
            if (back > STALENESS_MAX || back >= header.round) return false;
            base = rounds.roundOf(uint64(header.task), uint32(header.round - back)).base;
        }
        return true;
    }

    function _checkHeader(bytes32 update, IPenaltyManagerTypes.Update calldata header)
        private
        pure
    {
        bytes32 got = TypedData.hash(header);
        if (got != update) revert OtherHeader(update, got);
    }

    function _checkLeaf(Leaf calldata leaf, bytes32 deltaRoot, bytes32 sumsRoot) private pure {
        bytes32 root = leaf.part == Part.Chunk ? deltaRoot : sumsRoot;
        SketchOpening.check(leaf.part, root, leaf.index, leaf.count, leaf.content, leaf.proof);
    }

    function _punishEntry(Place calldata place, uint16 attempt, Fault found)
        private
        returns (uint128 taken)
    {
        address aggregator = tasks.specOf(place.task).aggregator;
        bytes32 fault = _entryFault(place.task, place.round, attempt);
        taken = _punish(fault, place.task, aggregator, ROLE_AGGREGATOR, msg.sender);
        emit EntryPunished(place.task, place.round, aggregator, place.slot, found, taken);
    }

    function _entryFault(uint64 task, uint32 round, uint16 attempt) private pure returns (bytes32) {
        return keccak256(abi.encode(ENTRY_FAULT, task, round, attempt));
    }

    // ---- Inside: demands ----

    /// @dev The answer must be due before the result is final: until then the aggregator's stake
    /// cannot have left.
    function _demand(
        Place calldata place,
        IRoundManagerTypes.Round memory r,
        Part part,
        uint64 index,
        address trainer,
        bytes32 root
    ) private returns (uint256 demand) {
        uint64 due = uint64(block.timestamp) + answerWindow;
        if (due >= r.deadline) revert DemandTooLate(due, r.deadline);
        demand = ++demandCount;
        demands[demand] = Demand({
            demander: msg.sender,
            due: due,
            part: part,
            task: place.task,
            round: place.round,
            attempt: r.attempt,
            index: index,
            trainer: trainer,
            root: root
        });
        slots[demand] = place.slot;
        emit Demanded(demand, place.task, place.round, place.slot, part, index, due);
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), bond);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != bond) revert WrongAmountReceived(bond, received);
    }

    function _open(uint256 demand) private view returns (Demand memory asked) {
        asked = demands[demand];
        if (asked.demander == address(0)) revert NoSuchDemand(demand);
    }

    function _answerable(uint256 demand) private view returns (Demand memory asked) {
        asked = _open(demand);
        if (block.timestamp > asked.due) revert AnswerTooLate(asked.due);
    }

    function _close(uint256 demand) private {
        delete demands[demand];
        delete slots[demand];
    }

    /// @dev The bond goes to the aggregator whoever answers: a demander that answered itself could
    /// else let the aggregator's answer fail, at its cost, and have the bond back.
    function _answered(uint256 demand, uint64 task) private {
        _close(demand);
        emit Answered(demand);
        token.safeTransfer(tasks.specOf(task).aggregator, bond);
    }

    /// @dev Nothing of these may keep a bond from going back.
    function _isPunishable(Demand memory asked, address aggregator) private view returns (bool) {
        IRoundManagerTypes.Round memory r = rounds.roundOf(asked.task, asked.round);
        return r.stage == IRoundManagerTypes.Stage.Settled && r.attempt == asked.attempt
            && !punished[_entryFault(asked.task, asked.round, asked.attempt)]
            && _isAtStake(asked.task, aggregator, ROLE_AGGREGATOR);
    }
}
// slither-disable-end timestamp,incorrect-equality,calls-loop,reentrancy-events

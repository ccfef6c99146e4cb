// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IPenaltyManagerTypes} from "./IPenaltyManager.sol";
import {IRoundManager} from "./IRoundManager.sol";

interface ISketchAuditErrors {
    /// @notice Nothing is wrong with what was shown.
    error NoFault();
    /// @notice The claim is not for the round as it stands: another attempt, another seed, or none.
    error NotThisAttempt(uint256 task, uint256 round, uint256 attempt);
    /// @notice The header is not the one that the claim or the entry names, or of another round.
    error OtherHeader(bytes32 expected, bytes32 got);
    /// @notice The round has no result, or none any more.
    error NotSettled(uint64 task, uint32 round);
    /// @notice These are not the payouts, factors and proof that the aggregator submitted.
    error NotTheSubmission(bytes32 expected, bytes32 got);
    /// @notice A proof ends with one entry for each update; one that does not can be challenged as
    /// a whole.
    error WrongProofLength(uint256 expected, uint256 length);
    /// @notice There is no such update in the round.
    error NoSuchUpdate(uint256 updates, uint256 slot);
    /// @notice The update was refused before the filter: nothing is said of its sketch.
    error NotActive(uint256 slot);
    /// @notice There is no such chunk.
    error NoSuchChunk(uint256 count, uint256 index);
    /// @notice The leaf is not under the root.
    error NotInTree(ISketchAuditTypes.Part part, bytes32 root, bytes32 leaf);
    /// @notice Nothing comes before the first chunk.
    error NothingBefore();
    /// @notice There is no such demand, or none any more.
    error NoSuchDemand(uint256 demand);
    /// @notice The answer could come when the result is final and the stake gone.
    error DemandTooLate(uint64 due, uint64 finalAt);
    /// @notice The time to answer is over.
    error AnswerTooLate(uint64 due);
    /// @notice The aggregator can still answer.
    error AnswerAwaited(uint64 due);
    /// @notice Something else was asked for.
    error NotAnAnswer(uint256 demand);
    /// @notice The token took a fee, or paid a bonus, on the way.
    error WrongAmountReceived(uint128 expected, uint256 received);
}

interface ISketchAuditTypes {
    /// @notice What was found.
    enum Fault {
        None,
        /// The update is of another task or round, or of a base that no recent round had.
        Foreign,
        /// The header's norm is none.
        Norm,
        /// A chunk has not the length that its place asks for.
        Chunk,
        /// Sums have not their length.
        Sums,
        /// Sums are not those before and the chunk's projection.
        Step,
        /// The delta is larger than the header says.
        Energy,
        /// The commitment is not to the sketch that follows from the sums.
        Commitment,
        /// Leaves of the two trees disagree on the number of chunks.
        Counts,
        /// Something asked for was not shown.
        Silence
    }

    /// @notice What can be asked for.
    enum Part {
        Header,
        Chunk,
        Sums
    }

    /// @notice What a trainer says of its sketch, as it signs it (EIP-712).
    struct Sketch {
        uint256 task;
        uint256 round;
        uint256 attempt;
        /// Struct hash of its update's header.
        bytes32 update;
        bytes32 seed;
        /// Bits of the round's clipping norm.
        uint256 clipNorm;
        bytes32 commitment;
        bytes32 sumsRoot;
    }

    /// @notice One chunk of a delta, with the sums up to the chunk before it and up to itself.
    struct Opening {
        uint64 index;
        /// Of chunks; both trees' leaves have it.
        uint64 count;
        bytes chunk;
        bytes32[] chunkProof;
        /// Empty for the first chunk.
        bytes sumsBefore;
        bytes32[] beforeProof;
        bytes sumsAfter;
        bytes32[] afterProof;
    }

    /// @notice One update in an aggregator's submission for a settled round.
    struct Place {
        uint64 task;
        uint32 round;
        /// The update's place, from 0.
        uint256 slot;
        /// keccak256 of the payouts and of the factors as submitted.
        bytes32 payoutsHash;
        bytes32 factorsHash;
        bytes proof;
    }

    /// @notice One leaf of the tree over chunks or over sums.
    struct Leaf {
        Part part;
        uint64 index;
        uint64 count;
        /// keccak256 of the chunk or of the sums.
        bytes32 content;
        bytes32[] proof;
    }

    /// @notice What an aggregator has been asked to show.
    struct Demand {
        address demander;
        /// Until when it may answer; Unix seconds.
        uint64 due;
        Part part;
        uint64 task;
        uint32 round;
        uint16 attempt;
        /// Of the chunk or sums.
        uint64 index;
        /// Who must have signed the header; zero if the chain knows who committed to it.
        address trainer;
        /// The update's hash, or the root of the tree.
        bytes32 root;
    }
}

interface ISketchAuditEvents {
    /// @notice A trainer signed a claim that is false.
    event ClaimPunished(
        uint64 indexed task,
        uint32 indexed round,
        address indexed trainer,
        ISketchAuditTypes.Fault fault,
        uint128 taken
    );
    /// @notice An aggregator submitted an entry that is false, or did not show what is behind it.
    event EntryPunished(
        uint64 indexed task,
        uint32 indexed round,
        address indexed aggregator,
        uint256 slot,
        ISketchAuditTypes.Fault fault,
        uint128 taken
    );
    /// @notice The aggregator has to show something by `due`.
    event Demanded(
        uint256 indexed demand,
        uint64 indexed task,
        uint32 indexed round,
        uint256 slot,
        ISketchAuditTypes.Part part,
        uint64 index,
        uint64 due
    );
    /// @notice It was shown; the bond went to the aggregator.
    event Answered(uint256 indexed demand);
    /// @notice It was not shown in time, or need not be any more; the bond went back.
    event DemandClosed(uint256 indexed demand, uint128 taken);
}

/// @title Optimistic audit of sketches
/// @notice Nothing on chain computes a sketch from a delta. Whoever has the delta, which is public,
/// can show that a sketch is false by one chunk: the contract projects that chunk itself. See
/// `contracts/README.md` for what is whose fault.
interface ISketchAudit is ISketchAuditErrors, ISketchAuditTypes, ISketchAuditEvents {
    // ---- False claims ----

    /// @notice Punishes a trainer that signed a false claim of its sketch. Anyone; the caller is
    /// the reporter. As long as the chain holds the attempt that the claim is for.
    /// @param header The trainer's update.
    /// @param signature The trainer's, over the claim.
    function punishClaim(
        IPenaltyManagerTypes.Update calldata header,
        Sketch calldata claim,
        bytes calldata signature,
        Opening calldata opening
    ) external returns (uint128 taken);

    /// @notice Punishes an aggregator whose submission says something false of an update's sketch.
    /// Anyone; the caller is the reporter. As long as the result stands.
    /// @param header The update of the entry. If it is of another round or has no norm, that is the
    /// fault, and the opening is not looked at.
    function punishEntry(
        Place calldata place,
        IPenaltyManagerTypes.Update calldata header,
        Opening calldata opening
    ) external returns (uint128 taken);

    /// @notice Punishes an aggregator whose submission names trees that disagree on the number of
    /// chunks, so that one opening could not speak of both.
    /// @param one A leaf of either tree, and `other` one with another count.
    function punishCounts(
        Place calldata place,
        IPenaltyManagerTypes.Update calldata header,
        Leaf calldata one,
        Leaf calldata other
    ) external returns (uint128 taken);

    // ---- What is withheld ----

    /// @notice Asks for the header of an update, and its trainer's signature unless the trainer
    /// committed to it on chain. The caller pays the bond, for each demand.
    function demandHeader(Place calldata place) external returns (uint256 demand);

    /// @notice Asks for a chunk of an update's delta.
    function demandChunk(
        Place calldata place,
        IPenaltyManagerTypes.Update calldata header,
        uint64 index
    ) external returns (uint256 demand);

    /// @notice Asks for the sums up to and with a chunk.
    function demandSums(Place calldata place, uint64 index) external returns (uint256 demand);

    /// @notice Answers `demandHeader`. Anyone; the bond goes to the aggregator.
    /// @param signature Not looked at if the trainer committed to the update on chain.
    function answerHeader(
        uint256 demand,
        IPenaltyManagerTypes.Update calldata header,
        bytes calldata signature
    ) external;

    /// @notice Answers the other demands by the chunk or the sums asked for; or, if there are not
    /// so many, by any others of the same tree, whose leaf says how many there are.
    function answerLeaf(
        uint256 demand,
        uint64 index,
        uint64 count,
        bytes calldata content,
        bytes32[] calldata proof
    ) external;

    /// @notice Punishes an aggregator that did not answer in time, and pays the bond back. The
    /// demander is the reporter. If the result does not stand any more, the aggregator was punished
    /// for it before, or has nothing at stake, the bond alone is paid.
    function punishSilence(uint256 demand) external returns (uint128 taken);

    // ---- Views ----

    function roundManager() external view returns (IRoundManager);

    /// @notice Seconds in which a demand must be answered.
    function answerWindow() external view returns (uint32);

    /// @notice What a demand costs, if it is answered; base units.
    function bond() external view returns (uint128);

    /// @notice A demand that is open; nothing but zeros otherwise.
    function demandOf(uint256 demand) external view returns (Demand memory);
}

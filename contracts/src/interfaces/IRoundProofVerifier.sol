// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IGroth16Verifier} from "./IGroth16Verifier.sol";
import {IProofVerifier} from "./IProofVerifier.sol";

interface IRoundProofVerifierErrors {
    /// @notice A verifier of proofs needs a task manager and at least one size.
    error NothingToVerify();
    /// @notice Verifiers come by ascending slots.
    error SlotsNotAscending(uint256 before, uint256 slots);
    /// @notice There is no circuit for so many updates.
    error TooManyUpdates(uint256 slotsMax, uint256 updates);
    /// @notice The circuits prove the split by score alone.
    error SplitNotProven(uint8 split);
    /// @notice A proof ends with one entry for each update.
    error WrongProofLength(uint256 expected, uint256 length);
    /// @notice One factor of two bytes for each update.
    error WrongFactorsLength(uint256 expected, uint256 length);
    /// @notice The proof names more updates that trainers committed to themselves than there are
    /// updates.
    error TooManyOwnUpdates(uint256 updates, uint256 own);
    /// @notice The entries are not the updates that the aggregator committed to.
    error OtherUpdates(bytes32 expected, bytes32 got);
    /// @notice The entries are not the updates that trainers committed to themselves.
    error OtherOwnUpdates(bytes32 expected, bytes32 got);
    /// @notice There are not so many sizes.
    error NoSuchVerifier(uint256 index);
}

/// @title Zero-knowledge proofs of rounds
/// @notice Checks that trainers' payouts follow from commitments to their sketches, the validators'
/// factors and the pool, in the way that `docs/proofs.md` says. `proof` is:
///
/// | bytes | |
/// |---|---|
/// | 0 to 287 | the Groth16 proof and h, see `IGroth16Verifier.verifyProof` |
/// | 288 to 291 | clipping norm, bits of an IEEE 754 binary32 |
/// | 292 to 293 | number of updates that trainers committed to themselves |
/// | 116 each | trainer (20), struct hash of the update, commitment, root of the sums |
///
/// Integers are big endian. The aggregator's updates come first, in the order of its tree, then the
/// trainers' own, in the order of arrival. Commitment and root are zero for an update that was
/// refused before the filter.
interface IRoundProofVerifier is IProofVerifier, IRoundProofVerifierErrors {
    /// @notice Where money is held: the address in everything that is signed or hashed.
    function taskManager() external view returns (address);

    /// @notice Most updates of one round that can be proven.
    function slotsMax() external view returns (uint256);

    /// @notice How many sizes there are.
    function verifierCount() external view returns (uint256);

    /// @notice The verifier of one size, in ascending order, with the hash of its circuit.
    function verifierAt(uint256 index)
        external
        view
        returns (IGroth16Verifier verifier, uint256 slots, bytes32 circuit);
}

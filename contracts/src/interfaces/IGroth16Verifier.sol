// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

interface IGroth16VerifierErrors {
    /// @notice A proof has `PROOF_BYTES` bytes.
    error WrongProofLength(uint256 expected, uint256 length);
    /// @notice A public input is not below the order of the scalar field.
    error InputTooLarge(uint256 input);
    /// @notice The proof does not hold for these inputs, or a point is none.
    error ProofRefused();
}

/// @title Groth16 over BN254, for one circuit with the public inputs h, x and y
interface IGroth16Verifier is IGroth16VerifierErrors {
    /// @notice Reverts unless the proof holds. A verifier that answered `false` would make gas
    /// estimates too low, and the caller might forget to look.
    /// @param proof A.x, A.y, B.x.c1, B.x.c0, B.y.c1, B.y.c0, C.x, C.y and h.
    /// @param x What the public data hashes to.
    /// @param y The public data's polynomial at x.
    function verifyProof(bytes calldata proof, uint256 x, uint256 y) external view;

    /// @notice Bytes of a proof.
    function PROOF_BYTES() external view returns (uint256);

    /// @notice Trainers that the circuit has room for.
    function slots() external view returns (uint256);

    /// @notice BLAKE3 of the circuit's constraint matrices.
    function circuit() external view returns (bytes32);
}

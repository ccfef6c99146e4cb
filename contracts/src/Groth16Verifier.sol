// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IGroth16Verifier} from "./interfaces/IGroth16Verifier.sol";

// What static analysis points at, and why it stays:
// - assembly: precompiles, and words of calldata whose length was checked.
// slither-disable-start assembly

/// @title Groth16 over BN254, for one circuit with the public inputs h, x and y
/// @dev The verifying key comes with the constructor, so that whoever makes or imports keys needs
/// no compiler. Whether it is the key of the circuit named, the deployer vouches for: anybody can
/// compare it with the setup's transcript.
///
/// A proof can be rerandomized into another one of the same statement: nothing may depend on a
/// proof's bytes but what was submitted.
contract Groth16Verifier is IGroth16Verifier {
    /// @inheritdoc IGroth16Verifier
    uint256 public constant PROOF_BYTES = 288;

    uint256 private constant R =
        21888242871839275222246405745257275088548364400416034343698204186575808495617;

    // Prices of EIP-1108 (150, 6,000 and 181,000), and a little room.
    uint256 private constant ADD_GAS = 500;
    uint256 private constant MUL_GAS = 7_000;
    uint256 private constant PAIRING_GAS = 185_000;

    /// @inheritdoc IGroth16Verifier
    uint256 public immutable slots;
    /// @inheritdoc IGroth16Verifier
    bytes32 public immutable circuit;

    uint256 private immutable ALPHA_X;
    uint256 private immutable ALPHA_Y;
    // Minus beta, gamma and delta: then nothing of the proof has to be negated.
    uint256 private immutable BETA_X1;
    uint256 private immutable BETA_X0;
    uint256 private immutable BETA_Y1;
    uint256 private immutable BETA_Y0;
    uint256 private immutable GAMMA_X1;
    uint256 private immutable GAMMA_X0;
    uint256 private immutable GAMMA_Y1;
    uint256 private immutable GAMMA_Y0;
    uint256 private immutable DELTA_X1;
    uint256 private immutable DELTA_X0;
    uint256 private immutable DELTA_Y1;
    uint256 private immutable DELTA_Y0;
    uint256 private immutable ONE_X;
    uint256 private immutable ONE_Y;
    uint256 private immutable H_X;
    uint256 private immutable H_Y;
    uint256 private immutable X_X;
    uint256 private immutable X_Y;
    uint256 private immutable Y_X;
    uint256 private immutable Y_Y;

    /// @param slots_ Trainers that the circuit has room for.
    /// @param circuit_ BLAKE3 of the circuit's constraint matrices.
    /// @param key alpha; minus beta, minus gamma, minus delta; then what the inputs are combined
    /// with: of one, h, x and y. Points of the curve have two words, points of the twist four:
    /// x.c1, x.c0, y.c1, y.c0.
    constructor(uint256 slots_, bytes32 circuit_, uint256[22] memory key) {
        (slots, circuit) = (slots_, circuit_);
        (ALPHA_X, ALPHA_Y) = (key[0], key[1]);
        (BETA_X1, BETA_X0, BETA_Y1, BETA_Y0) = (key[2], key[3], key[4], key[5]);
        (GAMMA_X1, GAMMA_X0, GAMMA_Y1, GAMMA_Y0) = (key[6], key[7], key[8], key[9]);
        (DELTA_X1, DELTA_X0, DELTA_Y1, DELTA_Y0) = (key[10], key[11], key[12], key[13]);
        (ONE_X, ONE_Y, H_X, H_Y) = (key[14], key[15], key[16], key[17]);
        (X_X, X_Y, Y_X, Y_Y) = (key[18], key[19], key[20], key[21]);
    }

    /// @inheritdoc IGroth16Verifier
    function verifyProof(bytes calldata proof, uint256 x, uint256 y) external view {
        if (proof.length != PROOF_BYTES) revert WrongProofLength(PROOF_BYTES, proof.length);
        uint256 h = uint256(bytes32(proof[256:]));
        if (h >= R) revert InputTooLarge(h);
        if (x >= R) revert InputTooLarge(x);
        if (y >= R) revert InputTooLarge(y);

        // e(A, B) e(alpha, -beta) e(sum, -gamma) e(C, -delta) = 1
        uint256[24] memory pairs;
        assembly ("memory-safe") {
            calldatacopy(pairs, proof.offset, 0xc0)
            calldatacopy(add(pairs, 0x240), add(proof.offset, 0xc0), 0x40)
        }
        (pairs[6], pairs[7]) = (ALPHA_X, ALPHA_Y);
        (pairs[8], pairs[9], pairs[10], pairs[11]) = (BETA_X1, BETA_X0, BETA_Y1, BETA_Y0);
        (pairs[12], pairs[13]) = _combined(h, x, y);
        (pairs[14], pairs[15], pairs[16], pairs[17]) = (GAMMA_X1, GAMMA_X0, GAMMA_Y1, GAMMA_Y0);
        (pairs[20], pairs[21], pairs[22], pairs[23]) = (DELTA_X1, DELTA_X0, DELTA_Y1, DELTA_Y0);
        bool holds;
        // A bad point burns all the gas that a precompile is given: it gets no more than it needs.
        // The precompiles themselves refuse coordinates that are not below the base field's
        // modulus, points off their curve, and points of the twist outside the subgroup.
        assembly ("memory-safe") {
            holds := staticcall(PAIRING_GAS, 8, pairs, 0x300, 0, 0x20)
            holds := and(holds, mload(0))
        }
        if (!holds) revert ProofRefused();
    }

    /// @dev The sum of the key's points for one, h, x and y, each times its input.
    function _combined(uint256 h, uint256 x, uint256 y) private view returns (uint256, uint256) {
        // The sum, then a term and what it is multiplied by.
        uint256[5] memory work;
        (work[0], work[1]) = (ONE_X, ONE_Y);
        bool works = _accumulate(work, H_X, H_Y, h) && _accumulate(work, X_X, X_Y, x)
            && _accumulate(work, Y_X, Y_Y, y);
        if (!works) revert ProofRefused();
        return (work[0], work[1]);
    }

    function _accumulate(uint256[5] memory work, uint256 px, uint256 py, uint256 input)
        private
        view
        returns (bool works)
    {
        (work[2], work[3], work[4]) = (px, py, input);
        assembly ("memory-safe") {
            let term := add(work, 0x40)
            works := staticcall(MUL_GAS, 7, term, 0x60, term, 0x40)
            works := and(staticcall(ADD_GAS, 6, work, 0x80, work, 0x40), works)
        }
    }
}
// slither-disable-end assembly

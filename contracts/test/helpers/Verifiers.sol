// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IProofVerifier} from "../../src/interfaces/IProofVerifier.sol";

/// @notice Refuses proofs that say `bad`.
contract PickyVerifier is IProofVerifier {
    error ProofRefused();

    function verify(Statement calldata, bytes calldata, bytes calldata, bytes calldata proof)
        external
        pure
    {
        if (keccak256(proof) == keccak256("bad")) revert ProofRefused();
    }
}

/// @notice Takes nothing but one statement, factors and payouts.
contract ExactVerifier is IProofVerifier {
    bytes32 private immutable EXPECTED;

    error OtherStatement();

    constructor(bytes32 expected) {
        EXPECTED = expected;
    }

    function verify(
        Statement calldata statement,
        bytes calldata factors,
        bytes calldata payouts,
        bytes calldata proof
    ) external view {
        if (keccak256(abi.encode(statement, factors, payouts, proof)) != EXPECTED) {
            revert OtherStatement();
        }
    }
}

/// @notice Holds, after it has used most of `VERIFY_GAS`.
contract SlowVerifier is IProofVerifier {
    function verify(Statement calldata, bytes calldata, bytes calldata, bytes calldata)
        external
        view
    {
        uint256 start = gasleft();
        while (start - gasleft() < 2_900_000) {}
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IProofVerifier} from "./interfaces/IProofVerifier.sol";

/// @title A verifier that takes the aggregator's word
/// @notice For tests alone: it checks nothing. Where it is set, the aggregator decides who among
/// the trainers gets what within their share of a round's pool. Real rounds, those of devnets too,
/// are checked by `RoundProofVerifier`.
contract UncheckedVerifier is IProofVerifier {
    /// @inheritdoc IProofVerifier
    function verify(Statement calldata, bytes calldata, bytes calldata, bytes calldata)
        external
        pure {}
}

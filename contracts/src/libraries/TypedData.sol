// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {IPenaltyManagerErrors, IPenaltyManagerTypes} from "../interfaces/IPenaltyManager.sol";

// What static analysis points at, and why it stays:
// - unused-return: what a refused signature looked like is nobody's business.
// slither-disable-start unused-return

/// @title What trainers and validators sign
/// @notice EIP-712 over the domain (`Convoke`, `1`, chain id, task manager).
library TypedData {
    bytes32 internal constant UPDATE_TYPE = keccak256(
        "Update(uint256 task,uint256 round,bytes32 base,bytes32 delta,bytes32 deltaRoot,"
        "uint256 deltaBytes,uint256 deltaNorm,uint256 numExamples,uint256 trainLossMicros)"
    );
    bytes32 private constant DOMAIN_TYPE = keccak256(
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    );

    /// @notice The struct hash of an update's header: what is committed to on chain.
    function hash(IPenaltyManagerTypes.Update calldata update) internal pure returns (bytes32) {
        return keccak256(abi.encode(UPDATE_TYPE, update));
    }

    /// @notice Who signed the struct hash.
    function signer(address taskManager, bytes32 structHash, bytes calldata signature)
        internal
        view
        returns (address)
    {
        (address account, ECDSA.RecoverError failure,) =
            ECDSA.tryRecoverCalldata(digest(taskManager, structHash), signature);
        if (failure != ECDSA.RecoverError.NoError) {
            revert IPenaltyManagerErrors.InvalidSignature();
        }
        return account;
    }

    /// @dev The domain is hashed each time: after a fork of the chain it is another one.
    function digest(address taskManager, bytes32 structHash) internal view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                DOMAIN_TYPE, keccak256("Convoke"), keccak256("1"), block.chainid, taskManager
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }
}
// slither-disable-end unused-return

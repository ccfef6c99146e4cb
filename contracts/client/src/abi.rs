//! The contracts as solc sees them, from the committed artifacts, and conversions to ours.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use alloy::json_abi::JsonAbi;
use alloy::primitives::{Address as EthAddress, B256, U256};
use alloy::sol_types::SolCall;
use convoke_protocol::ids::{Address, Amount, Digest};

use crate::ChainError;

/// `ConvokeToken`, and what any ERC-20 has.
#[allow(missing_docs, unreachable_pub)]
pub(crate) mod token {
    alloy::sol!(ConvokeToken, "../artifacts/ConvokeToken.json");
}

/// `StakeManager`.
#[allow(missing_docs, unreachable_pub)]
pub(crate) mod stake_manager {
    alloy::sol!(StakeManager, "../artifacts/StakeManager.json");
}

/// `TaskManager`, with large structs in two parts.
#[allow(missing_docs, unreachable_pub, clippy::too_many_arguments)]
pub(crate) mod task_manager {
    alloy::sol!(TaskManager, concat!(env!("OUT_DIR"), "/TaskManager.json"));
}

/// `RoundManager`, with large structs in two parts.
#[allow(missing_docs, unreachable_pub, clippy::too_many_arguments)]
pub(crate) mod round_manager {
    alloy::sol!(RoundManager, concat!(env!("OUT_DIR"), "/RoundManager.json"));
}

/// `PenaltyManager`.
#[allow(missing_docs, unreachable_pub)]
pub(crate) mod penalty_manager {
    alloy::sol!(PenaltyManager, "../artifacts/PenaltyManager.json");
}

/// `SketchAudit`.
#[allow(missing_docs, unreachable_pub, clippy::too_many_arguments)]
pub(crate) mod sketch_audit {
    alloy::sol!(SketchAudit, "../artifacts/SketchAudit.json");
}

/// `Settlement`, a library that the round manager calls.
#[allow(missing_docs, unreachable_pub)]
pub(crate) mod settlement {
    alloy::sol!(Settlement, "../artifacts/Settlement.json");
}

/// `Groth16Verifier`, of one circuit.
#[allow(missing_docs, unreachable_pub)]
pub(crate) mod groth16_verifier {
    alloy::sol!(Groth16Verifier, "../artifacts/Groth16Verifier.json");
}

/// `RoundProofVerifier`, which checks the proofs of rounds by the verifiers of the circuits.
#[allow(missing_docs, unreachable_pub)]
pub(crate) mod round_proof_verifier {
    alloy::sol!(RoundProofVerifier, "../artifacts/RoundProofVerifier.json");
}

/// `UncheckedVerifier`, for tests.
#[allow(missing_docs, unreachable_pub)]
pub(crate) mod unchecked_verifier {
    alloy::sol!(UncheckedVerifier, "../artifacts/UncheckedVerifier.json");
}

/// OpenZeppelin's `TimelockController`.
#[allow(missing_docs, unreachable_pub, clippy::too_many_arguments)]
pub(crate) mod timelock {
    alloy::sol!(TimelockController, "../artifacts/TimelockController.json");
}

/// What all managers have of OpenZeppelin's `AccessControl` and `Pausable`.
#[allow(missing_docs, unreachable_pub)]
pub(crate) mod administration {
    alloy::sol! {
        event Paused(address account);
        event Unpaused(address account);
        event RoleGranted(bytes32 indexed role, address indexed account, address indexed sender);
        event RoleRevoked(bytes32 indexed role, address indexed account, address indexed sender);

        function hasRole(bytes32 role, address account) external view returns (bool);
        function grantRole(bytes32 role, address account) external;
        function renounceRole(bytes32 role, address callerConfirmation) external;
        function paused() external view returns (bool);
        function pause() external;
        function unpause() external;
    }
}

/// Large structs in one piece, as `build.rs` writes them.
#[allow(clippy::needless_pass_by_value)]
pub(crate) mod large {
    include!(concat!(env!("OUT_DIR"), "/large_structs.rs"));
}

pub(crate) fn eth(address: Address) -> EthAddress {
    EthAddress::new(address.0)
}

pub(crate) fn ours(address: EthAddress) -> Address {
    Address(address.into_array())
}

pub(crate) fn digest(hash: B256) -> Digest {
    Digest(hash.0)
}

pub(crate) fn word(digest: Digest) -> B256 {
    B256::from(digest.0)
}

/// # Errors
/// [`ChainError::AmountTooLarge`] past 2^128 - 1.
pub(crate) fn amount(value: U256) -> Result<Amount, ChainError> {
    u128::try_from(value)
        .map(Amount)
        .map_err(|_| ChainError::AmountTooLarge {
            value: value.to_string(),
        })
}

/// The input of a call. Where `build.rs` took a large struct apart the generated selector is of no
/// function, and the one of the function's name takes its place.
pub(crate) fn input_of<C: SolCall>(call: &C) -> Vec<u8> {
    let mut input = call.abi_encode();
    let is_there = |abi: &JsonAbi| {
        abi.functions()
            .any(|function| function.selector() == C::SELECTOR)
    };
    if !ABIS.iter().any(is_there) {
        let name = function_name::<C>();
        let function = ABIS.iter().find_map(|abi| abi.function(name)?.first());
        let selector = function
            .expect("every call is made from the committed ABIs")
            .selector();
        input[..4].copy_from_slice(selector.as_slice());
    }
    input
}

/// `transfer` of `transfer(address,uint256)`.
pub(crate) fn function_name<C: SolCall>() -> &'static str {
    C::SIGNATURE.split('(').next().unwrap_or(C::SIGNATURE)
}

/// The round manager's creation code, with the address of its library put in.
pub(crate) fn round_manager_code(settlement: Address) -> Vec<u8> {
    let mut code = round_manager::RoundManager::BYTECODE.to_vec();
    for start in LIBRARY_PLACES.iter() {
        code[*start..*start + settlement.0.len()].copy_from_slice(&settlement.0);
    }
    code
}

/// Where in the creation code the library's address belongs.
static LIBRARY_PLACES: LazyLock<Vec<usize>> = LazyLock::new(|| {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Artifact {
        link_references: BTreeMap<String, Vec<usize>>,
    }
    let artifact: Artifact =
        serde_json::from_str(ROUND_MANAGER).expect("the committed artifact has link references");
    assert!(
        artifact.link_references.keys().eq(["Settlement"]),
        "the round manager has one library"
    );
    artifact.link_references.into_values().flatten().collect()
});

/// The ABI of each contract, in the order of [`ARTIFACTS`].
pub(crate) static ABIS: LazyLock<Vec<JsonAbi>> = LazyLock::new(|| {
    ARTIFACTS
        .iter()
        .filter_map(|artifact| {
            let value: serde_json::Value = serde_json::from_str(artifact).ok()?;
            serde_json::from_value(value.get("abi")?.clone()).ok()
        })
        .collect()
});

const ROUND_MANAGER: &str = include_str!("../../artifacts/RoundManager.json");

/// All of them: a refusal of the token or of another manager comes through unchanged.
const ARTIFACTS: [&str; 11] = [
    include_str!("../../artifacts/ConvokeToken.json"),
    include_str!("../../artifacts/StakeManager.json"),
    include_str!("../../artifacts/TaskManager.json"),
    ROUND_MANAGER,
    include_str!("../../artifacts/PenaltyManager.json"),
    include_str!("../../artifacts/SketchAudit.json"),
    include_str!("../../artifacts/Settlement.json"),
    include_str!("../../artifacts/Groth16Verifier.json"),
    include_str!("../../artifacts/RoundProofVerifier.json"),
    include_str!("../../artifacts/UncheckedVerifier.json"),
    include_str!("../../artifacts/TimelockController.json"),
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_artifact_has_an_abi() {
        assert_eq!(ABIS.len(), ARTIFACTS.len());
    }

    #[test]
    fn the_library_is_put_into_every_place() {
        let library = Address([0xab; 20]);
        let code = round_manager_code(library);
        let places = code.windows(20).filter(|window| **window == library.0);
        assert_eq!(places.count(), LIBRARY_PLACES.len());
        assert!(!LIBRARY_PLACES.is_empty());
    }

    #[test]
    fn selectors_are_those_of_the_committed_abi() {
        let selector = |name: &str| {
            let mut found = ABIS.iter().filter_map(|abi| abi.function(name));
            found.next().unwrap()[0].selector()
        };
        let large = task_manager::TaskManager::specOfCall { id: 1 };
        assert_eq!(input_of(&large)[..4], selector("specOf"));
        let plain = task_manager::TaskManager::taskCall { id: 1 };
        assert_eq!(input_of(&plain)[..4], selector("task"));
        assert_eq!(
            function_name::<task_manager::TaskManager::taskCall>(),
            "task"
        );
    }
}

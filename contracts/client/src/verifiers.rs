//! What checks the proofs of rounds on chain: its deployment, and what a deployed one takes.

use alloy::network::TransactionBuilder;
use alloy::primitives::{Address as EthAddress, U256};
use alloy::providers::Provider;
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolValue;
use convoke_protocol::ids::{Address, Digest};
use serde::Serialize;

use crate::abi::groth16_verifier::Groth16Verifier;
use crate::abi::round_proof_verifier::RoundProofVerifier;
use crate::abi::unchecked_verifier::UncheckedVerifier;
use crate::abi::{digest, eth, ours, word};
use crate::connection::Link;
use crate::deploy;
use crate::{Chain, ChainError};

/// Words of a verifying key, as the contract `Groth16Verifier` takes it.
pub const KEY_WORDS: usize = 22;

/// Most sizes of which a verifier is asked.
const SIZES_MAX: u64 = 64;

/// What checks the proofs of a new deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ProofCheck {
    /// Nothing yet: no result counts until the governor has named a verifier.
    #[default]
    Unverified,
    /// A verifier that takes every proof: for tests, and never with real money.
    Unchecked,
    /// Zero-knowledge proofs, by one key for each size of rounds.
    Keys(Vec<VerifierKey>),
}

/// A verifying key as plain data. Whether it is the key of the circuit named, and made in a way
/// that nobody can forge proofs, the contracts cannot know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    /// Updates of a round that the circuit has room for, 1 to 65,535.
    pub slots: u16,
    /// BLAKE3 of the circuit's constraint matrices.
    pub circuit: Digest,
    /// Points of the key, in the order of the constructor of `Groth16Verifier`.
    pub words: [[u8; 32]; KEY_WORDS],
}

/// What the present verifier of proofs takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ProofCircuits {
    /// Nobody set a verifier: no result counts.
    None,
    /// It takes every proof.
    Unchecked {
        /// The verifier.
        verifier: Address,
    },
    /// Proofs of these circuits, by ascending slots.
    Circuits {
        /// The verifier.
        verifier: Address,
        /// One for each size.
        circuits: Vec<ProofCircuit>,
    },
    /// A contract of another kind.
    Unknown {
        /// The verifier.
        verifier: Address,
    },
}

impl ProofCircuits {
    /// The verifier, if there is one.
    #[must_use]
    pub fn verifier(&self) -> Option<Address> {
        match self {
            Self::None => None,
            Self::Unchecked { verifier }
            | Self::Circuits { verifier, .. }
            | Self::Unknown { verifier } => Some(*verifier),
        }
    }
}

/// One circuit of which proofs are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ProofCircuit {
    /// Updates of a round that it has room for.
    pub slots: u16,
    /// BLAKE3 of its constraint matrices.
    pub circuit: Digest,
    /// The contract that has its key.
    pub address: Address,
}

impl Chain {
    /// Deploys a verifier of proofs with these keys, which counts once the governor has named it
    /// by [`Chain::propose_verifier`]. Anyone.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `NothingToVerify` without keys, with `SlotsNotAscending` if
    /// two are of one size; errors of any transaction.
    pub async fn deploy_verifier(&self, keys: &[VerifierKey]) -> Result<Address, ChainError> {
        verifier_of(self.link(), self.book().task_manager, keys).await
    }

    /// What the present verifier of proofs takes.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`]; [`ChainError::Unexpected`] from a verifier that only looks like
    /// one of ours.
    pub async fn proof_circuits(&self) -> Result<ProofCircuits, ChainError> {
        match self.proof_verifier().await? {
            None => Ok(ProofCircuits::None),
            Some(verifier) => self.circuits_of(verifier).await,
        }
    }

    async fn circuits_of(&self, verifier: Address) -> Result<ProofCircuits, ChainError> {
        let link = self.link();
        if link.code(verifier).await? == UncheckedVerifier::DEPLOYED_BYTECODE {
            return Ok(ProofCircuits::Unchecked { verifier });
        }
        let call = RoundProofVerifier::verifierCountCall {};
        let count = match link.call(verifier, &call).await {
            Ok(count) => count,
            Err(error @ ChainError::Unreachable { .. }) => return Err(error),
            Err(_) => return Ok(ProofCircuits::Unknown { verifier }),
        };
        let count = u64::try_from(count).ok().filter(|c| *c <= SIZES_MAX);
        let odd = |what: &str| ChainError::Unexpected(format!("the verifier names {what}"));
        let count = count.ok_or_else(|| odd("more sizes than there can be"))?;
        let mut circuits = Vec::new();
        for index in 0..count {
            let call = RoundProofVerifier::verifierAtCall {
                index: U256::from(index),
            };
            let sized = link.call(verifier, &call).await?;
            circuits.push(ProofCircuit {
                slots: u16::try_from(sized.slots).map_err(|_| odd("a size past 65,535"))?,
                circuit: digest(sized.circuit),
                address: ours(sized.verifier),
            });
        }
        Ok(ProofCircuits::Circuits { verifier, circuits })
    }

    /// Whether the contract at an address verifies by exactly this key: its code is compared with
    /// what the key's constructor makes.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`]; [`ChainError::Refused`] by an endpoint that runs no
    /// constructors.
    pub async fn has_key(&self, address: Address, key: &VerifierKey) -> Result<bool, ChainError> {
        let link = self.link();
        let request = TransactionRequest::default().with_deploy_code(creation_code(key));
        let expected = link
            .read("eth_call", || async {
                link.provider.call(request.clone()).await
            })
            .await?;
        Ok(link.code(address).await? == expected)
    }
}

/// Makes what checks proofs; `None` if nothing is to.
pub(crate) async fn create(
    link: &Link,
    tasks: Address,
    proofs: &ProofCheck,
) -> Result<Option<Address>, ChainError> {
    match proofs {
        ProofCheck::Unverified => Ok(None),
        ProofCheck::Unchecked => {
            let what = "deployment of the verifier";
            deploy::create(link, what, &UncheckedVerifier::BYTECODE, &[])
                .await
                .map(Some)
        }
        ProofCheck::Keys(keys) => verifier_of(link, tasks, keys).await.map(Some),
    }
}

/// One contract for each key, and the adaptor in front of them.
async fn verifier_of(
    link: &Link,
    tasks: Address,
    keys: &[VerifierKey],
) -> Result<Address, ChainError> {
    let mut sorted: Vec<&VerifierKey> = keys.iter().collect();
    sorted.sort_by_key(|key| key.slots);
    let mut verifiers: Vec<EthAddress> = Vec::new();
    for key in sorted {
        let what = "deployment of a circuit's verifier";
        let verifier = deploy::create(link, what, &creation_code(key), &[]).await?;
        verifiers.push(eth(verifier));
    }
    deploy::create(
        link,
        "deployment of the verifier",
        &RoundProofVerifier::BYTECODE,
        &(eth(tasks), verifiers).abi_encode_params(),
    )
    .await
}

fn creation_code(key: &VerifierKey) -> Vec<u8> {
    let arguments = (
        U256::from(key.slots),
        word(key.circuit),
        key.words.map(U256::from_be_bytes::<32>),
    );
    [
        &Groth16Verifier::BYTECODE[..],
        &arguments.abi_encode_params(),
    ]
    .concat()
}

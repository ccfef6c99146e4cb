//! The contracts as solc sees them, from the committed artifacts, and conversions to ours.

use alloy::primitives::{Address as EthAddress, B256, U256};
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

/// `TaskManager`.
#[allow(missing_docs, unreachable_pub, clippy::too_many_arguments)]
pub(crate) mod task_manager {
    alloy::sol!(TaskManager, "../artifacts/TaskManager.json");
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

/// # Errors
/// [`ChainError::AmountTooLarge`] past 2^128 - 1.
pub(crate) fn amount(value: U256) -> Result<Amount, ChainError> {
    u128::try_from(value)
        .map(Amount)
        .map_err(|_| ChainError::AmountTooLarge {
            value: value.to_string(),
        })
}

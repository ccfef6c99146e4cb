//! A key, and which of its nonces are in flight.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use alloy::eips::eip2718::Encodable2718;
use alloy::network::{EthereumWallet, NetworkTransactionBuilder, TransactionBuilder};
use alloy::primitives::B256;
use alloy::rpc::types::TransactionRequest;
use alloy::signers::local::PrivateKeySigner;
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::Address;

use super::Fees;
use crate::ChainError;

/// Shared by all clones of a connection.
pub(crate) struct Signer {
    pub(crate) address: Address,
    wallet: EthereumWallet,
    /// Held from reading the nonce until the endpoint has the transaction.
    pub(crate) turn: tokio::sync::Mutex<()>,
    in_flight: Nonces,
}

type Nonces = Arc<Mutex<BTreeSet<u64>>>;

impl Signer {
    pub(crate) fn of(wallet: &Wallet) -> Result<Self, ChainError> {
        let key = PrivateKeySigner::from_slice(&wallet.secret_bytes())
            .map_err(|error| ChainError::Unexpected(format!("wallet without a key: {error}")))?;
        Ok(Self {
            address: wallet.address(),
            wallet: EthereumWallet::from(key),
            turn: tokio::sync::Mutex::new(()),
            in_flight: Nonces::default(),
        })
    }

    /// The least nonce from `count` on that is not in flight. After a reorganization that is one
    /// of a transaction that is gone, so gaps close by themselves.
    pub(super) fn take_nonce(&self, count: u64) -> Flight {
        let mut in_flight = locked(&self.in_flight);
        let nonce = (count..)
            .find(|nonce| !in_flight.contains(nonce))
            .expect("there are more nonces than transactions in memory");
        in_flight.insert(nonce);
        Flight {
            nonce,
            signed: Vec::new(),
            fees: None,
            in_flight: Arc::clone(&self.in_flight),
        }
    }

    /// Whether a transaction of ours with a nonce in `count..nonce` is awaited.
    pub(super) fn awaits_between(&self, count: u64, nonce: u64) -> bool {
        count < nonce && locked(&self.in_flight).range(count..nonce).next().is_some()
    }

    pub(super) async fn sign(
        &self,
        what: &'static str,
        request: &TransactionRequest,
        nonce: u64,
        fees: Fees,
    ) -> Result<Signed, ChainError> {
        let envelope = fees
            .applied(request.clone())
            .with_nonce(nonce)
            .build(&self.wallet)
            .await
            .map_err(|error| ChainError::Unexpected(format!("{what} cannot be signed: {error}")))?;
        Ok(Signed {
            hash: *envelope.tx_hash(),
            bytes: envelope.encoded_2718(),
        })
    }
}

/// A transaction ready to go.
pub(super) struct Signed {
    pub(super) hash: B256,
    pub(super) bytes: Vec<u8>,
}

/// A nonce, and all that was signed with it. Dropping it frees the nonce.
pub(super) struct Flight {
    nonce: u64,
    /// The newest last, which pays most.
    signed: Vec<Signed>,
    fees: Option<Fees>,
    in_flight: Nonces,
}

impl Flight {
    pub(super) fn nonce(&self) -> u64 {
        self.nonce
    }

    pub(super) fn launched(&mut self, signed: Signed, fees: Fees) {
        self.signed.push(signed);
        self.fees = Some(fees);
    }

    pub(super) fn hashes(&self) -> impl Iterator<Item = B256> {
        self.signed.iter().rev().map(|signed| signed.hash)
    }

    pub(super) fn newest(&self) -> Option<&Signed> {
        self.signed.last()
    }

    pub(super) fn fees(&self) -> Option<Fees> {
        self.fees
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        locked(&self.in_flight).remove(&self.nonce);
    }
}

fn locked(nonces: &Mutex<BTreeSet<u64>>) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
    // A set of numbers is whole after any panic.
    nonces.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nonces_in_flight_are_passed_over_and_come_free_again() {
        let signer = Signer::of(&Wallet::from_bytes(&[7; 32]).unwrap()).unwrap();
        let five = signer.take_nonce(5);
        let six = signer.take_nonce(5);
        assert_eq!((five.nonce(), six.nonce()), (5, 6));
        // The chain has seen both, or lost all.
        assert_eq!(signer.take_nonce(7).nonce(), 7);
        assert_eq!(signer.take_nonce(3).nonce(), 3);
        assert!(signer.awaits_between(4, 6) && !signer.awaits_between(3, 5));
        drop(five);
        assert_eq!(signer.take_nonce(5).nonce(), 5);
        assert!(!signer.awaits_between(6, 5), "an empty range");
    }
}

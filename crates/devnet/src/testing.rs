//! Wallets and small contracts for tests.

#![allow(clippy::unwrap_used)]

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy};
use alloy_eips::eip2718::Encodable2718 as _;
use alloy_primitives::{Address, Bytes, Signature, TxKind, U256, hex};
use k256::ecdsa::SigningKey;

use crate::chain::{BASE_FEE, Chain};
use crate::server::DEFAULT_CHAIN_ID;

pub(crate) const GENESIS_TIME: u64 = 1_700_000_000;

/// A chain on which [`key`]`(1)` has 1,000 ether.
pub(crate) fn chain() -> Chain {
    Chain::new(DEFAULT_CHAIN_ID, GENESIS_TIME, &funded())
}

pub(crate) fn funded() -> Vec<(Address, U256)> {
    vec![(address(1), ether(1_000))]
}

pub(crate) fn ether(amount: u64) -> U256 {
    U256::from(amount) * U256::from(10).pow(U256::from(18))
}

pub(crate) fn key(byte: u8) -> SigningKey {
    SigningKey::from_slice(&[byte; 32]).unwrap()
}

pub(crate) fn address(byte: u8) -> Address {
    Address::from_private_key(&key(byte))
}

/// A transaction of wallet 1 with enough gas for everything here.
pub(crate) fn eip1559(nonce: u64, to: TxKind, input: &[u8]) -> TxEip1559 {
    TxEip1559 {
        chain_id: DEFAULT_CHAIN_ID,
        nonce,
        gas_limit: 1_000_000,
        max_fee_per_gas: u128::from(2 * BASE_FEE),
        max_priority_fee_per_gas: 1,
        to,
        value: U256::ZERO,
        input: Bytes::copy_from_slice(input),
        ..TxEip1559::default()
    }
}

pub(crate) fn legacy(nonce: u64, to: Address, value: U256) -> TxLegacy {
    TxLegacy {
        chain_id: Some(DEFAULT_CHAIN_ID),
        nonce,
        gas_limit: 21_000,
        gas_price: u128::from(BASE_FEE),
        to: TxKind::Call(to),
        value,
        input: Bytes::new(),
    }
}

/// The raw bytes of a transaction, signed by wallet 1.
pub(crate) fn signed<T>(transaction: T) -> Bytes
where
    T: SignableTransaction<Signature>,
    TxEnvelope: From<alloy_consensus::Signed<T>>,
{
    let hash = transaction.signature_hash();
    let signature = key(1).sign_prehash_recoverable(hash.as_slice()).unwrap();
    let envelope = TxEnvelope::from(transaction.into_signed(signature.into()));
    envelope.encoded_2718().into()
}

/// Called without data, adds 1 to its slot 0, logs topics (0xaa, count) with the count as data,
/// and returns the count. Called with data, reverts with it.
pub(crate) const COUNTER: &str =
    "36601e57600054600101806000558060005260aa60206000a260206000f35b366000600037366000fd";

/// Returns the hash of the block whose number it is called with.
pub(crate) const BLOCK_HASHES: &str = "6000354060005260206000f3";

/// Creation code that leaves `runtime` on the chain.
pub(crate) fn creation(runtime: &str) -> Vec<u8> {
    let runtime = hex::decode(runtime).unwrap();
    let length = u8::try_from(runtime.len()).unwrap();
    let mut code = vec![
        0x60, length, 0x60, 12, 0x60, 0, 0x39, 0x60, length, 0x60, 0, 0xf3,
    ];
    code.extend_from_slice(&runtime);
    code
}

/// Deploys a contract as wallet 1, and gives its address.
pub(crate) fn deploy(chain: &mut Chain, nonce: u64, runtime: &str) -> Address {
    let raw = signed(eip1559(nonce, TxKind::Create, &creation(runtime)));
    let hash = chain.mine(&raw, 0).unwrap();
    let (_, mined) = chain.mined(&hash).unwrap();
    mined.contract_address.unwrap()
}

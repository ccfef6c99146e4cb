//! The embedded chain, in this process.

use alloy::primitives::{Address, U256};
use convoke_devnet::{Config, DEFAULT_CHAIN_ID, Devnet};
use convoke_protocol::identity::Wallet;

use super::Endpoint;

/// Starts a devnet on a free port, with its state in memory. It stops when dropped.
pub(crate) async fn start() -> (Devnet, Endpoint) {
    let funder = Wallet::from_bytes(&[0xf0; 32]).unwrap();
    let balance = U256::from(10_000) * U256::from(10).pow(U256::from(18));
    let devnet = Devnet::start(Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        journal: None,
        chain_id: DEFAULT_CHAIN_ID,
        funded: vec![(Address::from(funder.address().0), balance)],
    })
    .await
    .unwrap();
    let endpoint = Endpoint {
        rpc: devnet.url(),
        funder,
    };
    (devnet, endpoint)
}

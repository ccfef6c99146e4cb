//! The embedded chain, in this process.

use std::net::SocketAddr;
use std::path::PathBuf;

use alloy::primitives::{Address, U256};
use convoke_devnet::{Config, DEFAULT_CHAIN_ID, Devnet};

use super::{Endpoint, funder};

/// Starts a devnet on a free port, with its state in memory. It stops when dropped.
pub(crate) async fn start() -> (Devnet, Endpoint) {
    start_at("127.0.0.1:0".parse().unwrap(), None).await
}

/// Starts a devnet, or goes on with the one in the journal.
pub(crate) async fn start_at(listen: SocketAddr, journal: Option<PathBuf>) -> (Devnet, Endpoint) {
    let balance = U256::from(10_000) * U256::from(10).pow(U256::from(18));
    let devnet = Devnet::start(Config {
        listen,
        journal,
        chain_id: DEFAULT_CHAIN_ID,
        funded: vec![(Address::from(funder().address().0), balance)],
    })
    .await
    .unwrap();
    let endpoint = Endpoint {
        rpc: devnet.url(),
        funder: funder(),
    };
    (devnet, endpoint)
}

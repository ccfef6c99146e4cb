//! What the scenarios run on. Each test uses its part of it.
#![allow(dead_code, unused_imports)]

pub(crate) mod anvil;
pub(crate) mod devnet;
pub(crate) mod proxy;
pub(crate) mod scenarios;
pub(crate) mod stage;

use convoke_protocol::identity::Wallet;

/// Whose coins pay for everything: the same on every chain, so that contracts have the same
/// addresses.
pub(crate) fn funder() -> Wallet {
    Wallet::from_bytes(&[0xf0; 32]).unwrap()
}

/// A chain to test on, whatever serves it.
pub(crate) struct Endpoint {
    /// JSON-RPC over HTTP.
    pub(crate) rpc: String,
    /// Holds plenty of the chain's own coin.
    pub(crate) funder: Wallet,
}

impl Endpoint {
    /// Lets `seconds` pass and mines a block.
    pub(crate) async fn pass(&self, seconds: u64) {
        self.request("evm_increaseTime", &format!("[{seconds}]"))
            .await;
        self.request("evm_mine", "[]").await;
    }

    /// Calls a method of the endpoint itself, and gives the whole answer.
    pub(crate) async fn request(&self, method: &str, params: &str) -> String {
        // As the client itself does at its first connection.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        let answer = reqwest::Client::new()
            .post(&self.rpc)
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        assert!(!answer.contains("\"error\""), "{method}: {answer}");
        answer
    }
}

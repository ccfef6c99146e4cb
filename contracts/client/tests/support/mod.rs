//! What the scenarios run on.

pub(crate) mod anvil;
pub(crate) mod devnet;
pub(crate) mod proxy;
pub(crate) mod scenarios;

use convoke_protocol::identity::Wallet;

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

    async fn request(&self, method: &str, params: &str) {
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
    }
}

//! Transactions that are not mined at once: stuck for their fee, dropped, replaced, and left
//! behind a gap. Against anvil, which can be told not to mine.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use convoke_client::{Chain, ChainError, SendOptions};
use convoke_protocol::ids::{Address, Amount};
use support::stage::{SUPPLY, Stage, address, wallet};
use support::{Endpoint, anvil};

const TO: Address = Address([0x79; 20]);

fn hasty() -> SendOptions {
    SendOptions {
        bump_after: Duration::from_millis(200),
        receipt_timeout: Duration::from_secs(60),
        ..SendOptions::default()
    }
}

async fn hasty_creator(stage: &Stage<'_>) -> Chain {
    Chain::connect_with(&stage.book, Some(&wallet(1)), hasty())
        .await
        .unwrap()
}

/// Transactions that wait in the pool.
async fn pending(endpoint: &Endpoint) -> u64 {
    let answer = endpoint.request("txpool_status", "[]").await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let count = |kind: &str| {
        let text = answer["result"][kind].as_str().unwrap();
        u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
    };
    count("pending") + count("queued")
}

async fn until_pending(endpoint: &Endpoint, count: u64) {
    while pending(endpoint).await != count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_transaction_is_offered_for_more_and_mined_once() {
    let node = anvil::start();
    let endpoint = node.endpoint().await;
    let stage = Stage::set(&endpoint).await;
    let creator = hasty_creator(&stage).await;
    endpoint.request("evm_setAutomine", "[false]").await;
    let sent = tokio::spawn(async move { creator.transfer_token(TO, Amount(5)).await });
    until_pending(&endpoint, 1).await;
    // Dearer than what was offered at first, by far: 100 gwei.
    loop {
        let fee = r#"["0x174876e800"]"#;
        endpoint
            .request("anvil_setNextBlockBaseFeePerGas", fee)
            .await;
        endpoint.request("evm_mine", "[]").await;
        if sent.is_finished() {
            break;
        }
        tokio::task::yield_now().await;
    }
    sent.await.unwrap().unwrap();
    assert_eq!(stage.tokens(TO).await, Amount(5));
    assert_eq!(pending(&endpoint).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_transaction_is_offered_again() {
    let node = anvil::start();
    let endpoint = node.endpoint().await;
    let stage = Stage::set(&endpoint).await;
    let creator = hasty_creator(&stage).await;
    endpoint.request("evm_setAutomine", "[false]").await;
    let sent = tokio::spawn(async move { creator.transfer_token(TO, Amount(6)).await });
    until_pending(&endpoint, 1).await;
    endpoint.request("anvil_dropAllTransactions", "[]").await;
    until_pending(&endpoint, 1).await;
    endpoint.request("evm_setAutomine", "[true]").await;
    endpoint.request("evm_mine", "[]").await;
    sent.await.unwrap().unwrap();
    assert_eq!(stage.tokens(TO).await, Amount(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_transaction_is_signed_anew() {
    let node = anvil::start();
    let endpoint = node.endpoint().await;
    let stage = Stage::set(&endpoint).await;
    // Neither raises its fee while this goes on.
    let calm = SendOptions {
        bumps_max: 0,
        ..hasty()
    };
    let first = Chain::connect_with(&stage.book, Some(&wallet(1)), calm)
        .await
        .unwrap();
    endpoint.request("evm_setAutomine", "[false]").await;
    let sent = tokio::spawn(async move { first.transfer_token(TO, Amount(8)).await });
    until_pending(&endpoint, 1).await;
    endpoint.request("anvil_dropAllTransactions", "[]").await;
    // Another process of the same wallet takes the nonce before the first one notices.
    let second = Chain::connect_with(&stage.book, Some(&wallet(1)), calm)
        .await
        .unwrap();
    let other = tokio::spawn(async move { second.transfer_token(TO, Amount(100)).await });
    endpoint.request("evm_setAutomine", "[true]").await;
    other.await.unwrap().unwrap();
    sent.await.unwrap().unwrap();
    assert_eq!(stage.tokens(TO).await, Amount(108), "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_went_back_does_not_hold_up_the_wallet() {
    let node = anvil::start();
    let endpoint = node.endpoint().await;
    let stage = Stage::set(&endpoint).await;
    let creator = hasty_creator(&stage).await;
    let answer = endpoint.request("evm_snapshot", "[]").await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    for _ in 0..3 {
        creator.transfer_token(TO, Amount(1)).await.unwrap();
    }
    // One is under way when the blocks of the three before it go.
    endpoint.request("evm_setAutomine", "[false]").await;
    let late = {
        let creator = creator.clone();
        tokio::spawn(async move { creator.transfer_token(TO, Amount(50)).await })
    };
    until_pending(&endpoint, 1).await;
    endpoint
        .request("evm_revert", &format!("[{}]", answer["result"]))
        .await;
    endpoint.request("evm_setAutomine", "[true]").await;
    endpoint.request("evm_mine", "[]").await;
    creator.transfer_token(TO, Amount(7)).await.unwrap();
    late.await.unwrap().unwrap();
    assert_eq!(stage.tokens(TO).await, Amount(57), "what went is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_kept() {
    let node = anvil::start();
    let endpoint = node.endpoint().await;
    let stage = Stage::set(&endpoint).await;
    let tight = SendOptions {
        gas_ceiling: 40_000,
        ..hasty()
    };
    let chain = Chain::connect_with(&stage.book, Some(&wallet(1)), tight)
        .await
        .unwrap();
    let error = chain.transfer_token(TO, Amount(1)).await.unwrap_err();
    let ceiling = 40_000;
    assert!(
        matches!(error, ChainError::GasAboveCeiling { ceiling: c, .. } if c == ceiling),
        "{error}"
    );
    let impatient = SendOptions {
        receipt_timeout: Duration::from_millis(300),
        ..SendOptions::default()
    };
    let chain = Chain::connect_with(&stage.book, Some(&wallet(1)), impatient)
        .await
        .unwrap();
    endpoint.request("evm_setAutomine", "[false]").await;
    let error = chain.transfer_token(TO, Amount(1)).await.unwrap_err();
    assert!(
        matches!(error, ChainError::ReceiptTimeout { .. }),
        "{error}"
    );
    assert!(error.retryable());
    let bank = stage.tokens(address(&stage.creator)).await;
    assert!(bank < SUPPLY);
}

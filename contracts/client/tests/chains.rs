//! The same scenarios against the devnet of this repository and against anvil: they must go the
//! same way, and leave the same logs and balances.

#![allow(clippy::unwrap_used)]

mod support;

use convoke_client::{AddressBook, Chain, ChainError};
use convoke_protocol::ids::{Address, Digest, RoundId};
use support::stage::{BASE, Stage};
use support::{anvil, devnet, scenarios};

/// Runs a scenario on both chains and compares what they recorded.
macro_rules! on_every_chain {
    ($($scenario:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                let (_devnet, endpoint) = devnet::start().await;
                let here = scenarios::$scenario(&endpoint).await;
                let node = anvil::start();
                let there = scenarios::$scenario(&node.endpoint().await).await;
                for (number, (here, there)) in here.iter().zip(&there).enumerate() {
                    assert_eq!(here, there, "record {number}, the devnet's and anvil's");
                }
                assert_eq!(here.len(), there.len());
            }
        )*
    };
}

on_every_chain!(
    whole_task,
    administration,
    time_outs,
    cancelled_and_funded,
    delegation_and_slash,
    contradiction,
    voided_result,
    proven_round,
    audit,
    at_once,
    lost_answers,
    previews,
);

#[tokio::test(flavor = "multi_thread")]
async fn two_who_draw_the_seed_at_once_get_one() {
    let (_devnet, endpoint) = devnet::start().await;
    let stage = Stage::set(&endpoint).await;
    let task = stage.post(&stage.terms()).await;
    let round = RoundId(1);
    let aggregator = &stage.aggregator;
    aggregator
        .open_round(task, round, BASE, &stage.cohort())
        .await
        .unwrap();
    aggregator
        .commit_updates(task, round, Digest([1; 32]), 1)
        .await
        .unwrap();
    let (one, other) = tokio::join!(
        aggregator.draw_seed(task, round),
        stage.dora.draw_seed(task, round)
    );
    assert_eq!(one.unwrap(), other.unwrap());
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_worth_another_try() {
    // Bound and dropped: nobody listens there now.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = Chain::connect(&book(format!("http://127.0.0.1:{port}")), None)
        .await
        .unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");
    assert!(error.retryable());
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_is_none_is_not() {
    for rpc in ["", "ftp://127.0.0.1", "127.0.0.1:8545"] {
        let error = Chain::connect(&book(rpc.to_owned()), None)
            .await
            .unwrap_err();
        assert!(
            matches!(error, ChainError::Endpoint { .. }),
            "{rpc}: {error}"
        );
        assert!(!error.retryable());
    }
}

fn book(rpc: String) -> AddressBook {
    let nobody = Address::ZERO;
    AddressBook {
        chain_id: 1,
        rpc,
        token: nobody,
        stake_manager: nobody,
        task_manager: nobody,
        round_manager: nobody,
        penalty_manager: nobody,
        verifier: None,
        sketch_audit: None,
        timelock: None,
        deployed_block: 0,
    }
}

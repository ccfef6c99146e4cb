//! The same scenarios against the devnet of this repository and against anvil.

#![allow(clippy::unwrap_used)]

mod support;

use convoke_client::{AddressBook, Chain, ChainError};
use convoke_protocol::ids::Address;
use support::{anvil, scenarios};

#[tokio::test(flavor = "multi_thread")]
async fn a_task_from_posting_to_refund_on_anvil() {
    let node = anvil::start();
    scenarios::whole_task(&node.endpoint()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_out_vesting_and_unbonding_on_anvil() {
    let node = anvil::start();
    scenarios::time_out(&node.endpoint()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_at_once_on_anvil() {
    let node = anvil::start();
    scenarios::at_once(&node.endpoint()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_on_anvil() {
    let node = anvil::start();
    scenarios::lost_answers(&node.endpoint()).await;
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
        deployed_block: 0,
    }
}

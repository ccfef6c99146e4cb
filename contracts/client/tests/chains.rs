//! The same scenarios against the devnet of this repository and against anvil.

#![allow(clippy::unwrap_used)]

mod support;

use convoke_client::{AddressBook, Chain, ChainError};
use convoke_protocol::ids::Address;

/// Runs a scenario on both chains.
macro_rules! on_every_chain {
    ($($scenario:ident),* $(,)?) => {
        mod on_the_devnet {
            use super::support::{devnet, scenarios};
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $scenario() {
                    let (_devnet, endpoint) = devnet::start().await;
                    scenarios::$scenario(&endpoint).await;
                }
            )*
        }

        mod on_anvil {
            use super::support::{anvil, scenarios};
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $scenario() {
                    let node = anvil::start();
                    scenarios::$scenario(&node.endpoint()).await;
                }
            )*
        }
    };
}

on_every_chain!(whole_task, time_out, at_once, lost_answers);

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

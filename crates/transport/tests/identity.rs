//! Who may connect to whom: real QUIC on loopback.

#![allow(clippy::unwrap_used)]

mod common;

use common::{
    CLIENT, PROOF_BYTES, SERVER, client, close_code, hasty, join, loopback, proof, raw_client,
    raw_connect, raw_server, server, statement, wallet, within,
};
use convoke_protocol::ids::Address;
use convoke_transport::{ALPN, Connection, Endpoint, Limits, TransportError};

#[tokio::test]
async fn both_ends_prove_their_addresses() {
    let (client, server) = (client(Limits::default()), server(Limits::default()));
    let (dialled, accepted) = within(join(&client, &server)).await;
    assert_eq!(dialled.peer(), wallet(1).address());
    assert_eq!(accepted.peer(), wallet(2).address());
}

#[tokio::test]
async fn another_server_than_expected_is_refused_and_hears_why() {
    let (client, server) = (client(Limits::default()), server(Limits::default()));
    let expected = wallet(7).address();
    let dial = client.connect(server.local_addr().unwrap(), Some(expected));
    let accept = async { server.accept().await.unwrap().handshake().await };
    let (dialled, accepted) = within(async { tokio::join!(dial, accept) }).await;
    let got = wallet(1).address();
    assert!(
        matches!(dialled, Err(TransportError::WrongPeer { got: g, expected: e }) if g == got && e == expected)
    );
    // The server's proof was in order, so it learns of the refusal afterwards.
    let TransportError::IdentityRefused(reason) = within(accepted.unwrap().closed()).await else {
        panic!("no refusal of the identity");
    };
    assert!(reason.contains(&expected.to_string()), "{reason}");
}

/// What a server makes of a client's first bytes, and the code with which it closes.
async fn offer(
    limits: Limits,
    first: impl AsyncFnOnce(&quinn::Connection) -> Vec<u8>,
) -> (Result<Connection, TransportError>, Option<u64>) {
    let server = server(limits);
    let raw = raw_client(ALPN);
    let dial = async {
        let quic = raw_connect(&raw, &server).await;
        let bytes = first(&quic).await;
        let (mut send, _receive) = quic.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        close_code(&quic.closed().await)
    };
    let accept = async { server.accept().await.unwrap().handshake().await };
    let (code, accepted) = within(async { tokio::join!(dial, accept) }).await;
    (accepted, code)
}

#[tokio::test]
async fn a_signature_of_something_else_is_refused() {
    let (accepted, code) = offer(hasty(), async |quic| {
        let mut bytes = proof(quic, &wallet(9), CLIENT);
        let other = wallet(9).sign_digest(&statement(quic, SERVER));
        bytes[22..].copy_from_slice(&other.0);
        bytes
    })
    .await;
    assert!(
        matches!(accepted, Err(TransportError::Identity(_))),
        "{accepted:?}"
    );
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn a_signature_by_another_wallet_than_claimed_is_refused() {
    let (accepted, code) = offer(hasty(), async |quic| {
        let mut bytes = proof(quic, &wallet(9), CLIENT);
        bytes[2..22].copy_from_slice(&wallet(8).address().0);
        bytes
    })
    .await;
    assert!(
        matches!(accepted, Err(TransportError::Identity(_))),
        "{accepted:?}"
    );
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn bytes_that_are_no_signature_are_refused() {
    let (accepted, _) = offer(hasty(), async |_| {
        [&[1, 0][..], &[0; PROOF_BYTES - 2]].concat()
    })
    .await;
    assert!(
        matches!(accepted, Err(TransportError::Identity(_))),
        "{accepted:?}"
    );
}

#[tokio::test]
async fn a_proof_caught_on_one_connection_proves_nothing_on_another() {
    // A man in the middle: an honest client dials him, and he dials the server.
    let middle = raw_server(ALPN, 9);
    let victim = client(Limits::default());
    let to = middle.local_addr().unwrap();
    let dialling = tokio::spawn(async move { victim.connect(to, None).await });
    let inbound = within(async { middle.accept().await.unwrap().await.unwrap() }).await;
    let (_send, mut receive) = within(inbound.accept_bi()).await.unwrap();
    let mut caught = vec![0; PROOF_BYTES];
    within(receive.read_exact(&mut caught)).await.unwrap();
    assert_eq!(caught[2..22], wallet(2).address().0);
    let (accepted, code) = offer(hasty(), async |_| caught).await;
    assert!(
        matches!(accepted, Err(TransportError::Identity(_))),
        "{accepted:?}"
    );
    assert_eq!(code, Some(1));
    drop(inbound);
    drop(middle);
    dialling.abort();
}

/// What a client makes of a server's first bytes.
async fn answer(
    limits: Limits,
    alpn: &[u8],
    reply: impl AsyncFnOnce(&quinn::Connection, Vec<u8>) -> Vec<u8>,
) -> (Result<Connection, TransportError>, Option<u64>) {
    let raw = raw_server(alpn, 9);
    let client = client(limits);
    let dial = client.connect(raw.local_addr().unwrap(), None);
    let accept = async {
        let quic = raw.accept().await.unwrap().await.ok()?;
        let (mut send, mut receive) = quic.accept_bi().await.unwrap();
        let mut asked = vec![0; PROOF_BYTES];
        receive.read_exact(&mut asked).await.unwrap();
        let bytes = reply(&quic, asked).await;
        let _ = send.write_all(&bytes).await;
        close_code(&quic.closed().await)
    };
    within(async { tokio::join!(dial, accept) }).await
}

#[tokio::test]
async fn ones_own_proof_sent_back_is_refused() {
    let (dialled, code) = answer(hasty(), ALPN, async |_, asked| asked).await;
    assert!(
        matches!(dialled, Err(TransportError::Identity(_))),
        "{dialled:?}"
    );
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn a_node_does_not_connect_to_its_own_address() {
    let server = server(hasty());
    let twin = Endpoint::client(wallet(1), hasty()).unwrap();
    let dial = twin.connect(server.local_addr().unwrap(), None);
    let accept = async { server.accept().await.unwrap().handshake().await };
    let (dialled, accepted) = within(async { tokio::join!(dial, accept) }).await;
    assert!(
        matches!(accepted, Err(TransportError::Identity(_))),
        "{accepted:?}"
    );
    assert!(
        matches!(dialled, Err(TransportError::IdentityRefused(_))),
        "{dialled:?}"
    );
}

#[tokio::test]
async fn a_silent_client_is_given_up_and_told() {
    let server = server(hasty());
    let raw = raw_client(ALPN);
    let dial = async { close_code(&raw_connect(&raw, &server).await.closed().await) };
    let accept = async { server.accept().await.unwrap().handshake().await };
    let (code, accepted) = within(async { tokio::join!(dial, accept) }).await;
    assert!(matches!(accepted, Err(TransportError::IdentityTimeout)));
    assert_eq!(code, Some(2));
}

#[tokio::test]
async fn a_client_that_stops_within_its_proof_is_given_up() {
    let (accepted, code) = offer(hasty(), async |quic| {
        let mut bytes = proof(quic, &wallet(9), CLIENT);
        bytes.truncate(PROOF_BYTES - 1);
        bytes
    })
    .await;
    // Its end of the stream is finished when the raw client's future lets go of it.
    assert!(accepted.is_err(), "{accepted:?}");
    assert!(code.is_some());
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let (dialled, code) = answer(hasty(), ALPN, async |_, _| Vec::new()).await;
    assert!(
        matches!(dialled, Err(TransportError::IdentityTimeout)),
        "{dialled:?}"
    );
    assert_eq!(code, Some(2));
}

#[tokio::test]
async fn an_address_where_nobody_answers_is_given_up() {
    let hole = std::net::UdpSocket::bind(loopback()).unwrap();
    let dialled = within(client(hasty()).connect(hole.local_addr().unwrap(), None)).await;
    assert!(
        matches!(dialled, Err(TransportError::Lost(_))),
        "{dialled:?}"
    );
}

#[tokio::test]
async fn a_client_of_another_version_is_refused_and_told() {
    // Shorter than a proof of ours: a version may have proofs of any length.
    let (accepted, code) = offer(hasty(), async |_| vec![9, 0, 1]).await;
    let Err(TransportError::Incompatible { reason, .. }) = &accepted else {
        panic!("{accepted:?}");
    };
    assert!(reason.contains("version 9"), "{reason}");
    assert_eq!(code, Some(4));
}

#[tokio::test]
async fn a_server_of_another_version_is_refused_and_told() {
    let (dialled, code) = answer(hasty(), ALPN, async |quic, _| {
        let mut bytes = proof(quic, &wallet(1), SERVER);
        bytes[..2].copy_from_slice(&9u16.to_le_bytes());
        bytes
    })
    .await;
    assert!(
        matches!(dialled, Err(TransportError::Incompatible { .. })),
        "{dialled:?}"
    );
    assert_eq!(code, Some(4));
}

#[tokio::test]
async fn a_refusal_for_our_version_is_no_refusal_of_our_identity() {
    let (dialled, _) = answer(hasty(), ALPN, async |quic, _| {
        quic.close(4u32.into(), b"version 9 is needed");
        Vec::new()
    })
    .await;
    let Err(error @ TransportError::Incompatible { .. }) = dialled else {
        panic!("{dialled:?}");
    };
    assert!(!error.retryable());
}

#[tokio::test]
async fn a_client_of_an_unknown_protocol_is_refused() {
    let server = server(hasty());
    let raw = raw_client(b"h3");
    let dial = async {
        let to = server.local_addr().unwrap();
        raw.connect(to, "raw").unwrap().await
    };
    let accept = async { server.accept().await.unwrap().handshake().await };
    let (dialled, accepted) = within(async { tokio::join!(dial, accept) }).await;
    assert!(dialled.is_err());
    assert!(
        matches!(accepted, Err(TransportError::Incompatible { .. })),
        "{accepted:?}"
    );
}

#[tokio::test]
async fn a_server_of_an_unknown_protocol_is_refused() {
    let (dialled, _) = answer(hasty(), b"h3", async |_, _| Vec::new()).await;
    assert!(
        matches!(dialled, Err(TransportError::Incompatible { .. })),
        "{dialled:?}"
    );
}

#[tokio::test]
async fn a_peers_words_cannot_rewrite_the_terminal() {
    let (dialled, _) = answer(hasty(), ALPN, async |quic, _| {
        quic.close(0u32.into(), b"\x1b[2Jall is well");
        Vec::new()
    })
    .await;
    let text = dialled.unwrap_err().to_string();
    assert!(text.contains("all is well"), "{text}");
    assert!(!text.contains(char::is_control), "{text:?}");
}

#[tokio::test]
async fn retries_resolve_names_and_stop_where_none_can_help() {
    let limits = Limits {
        retries_max: Some(1),
        ..hasty()
    };
    let (client, server) = (client(limits), server(Limits::default()));
    let to = format!("localhost:{}", server.local_addr().unwrap().port());
    let accept = async { server.accept().await.unwrap().handshake().await };
    let dial = client.connect_with_retry(&to, None);
    let (dialled, accepted) = within(async { tokio::join!(dial, accept) }).await;
    assert_eq!(dialled.unwrap().peer(), server.address());
    assert_eq!(accepted.unwrap().peer(), client.address());

    let unnamed = within(client.connect_with_retry("no port", None)).await;
    assert!(matches!(unnamed, Err(TransportError::Resolve { .. })));

    let accepting = tokio::spawn(async move {
        let mut kept = Vec::new();
        while kept.len() < 2 {
            kept.push(server.accept().await.unwrap().handshake().await);
        }
    });
    let wrong = within(client.connect_with_retry(&to, Some(Address([9; 20])))).await;
    assert!(matches!(wrong, Err(TransportError::WrongPeer { .. })));
    assert!(!accepting.is_finished(), "it was tried again");
    accepting.abort();
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_and_room_is_given_again() {
    let limits = Limits {
        connections_max: 1,
        ..Limits::default()
    };
    let (client, server) = (client(Limits::default()), server(limits));
    let (first, accepted) = within(join(&client, &server)).await;
    let refusing = server.clone();
    let door = tokio::spawn(async move { refusing.accept().await.map(|i| i.remote_addr()) });
    let to = server.local_addr().unwrap();
    let second = within(client.connect(to, None)).await;
    assert!(matches!(second, Err(TransportError::Lost(_))), "{second:?}");
    assert!(!door.is_finished(), "it was let in");
    door.abort();
    let _ = door.await;
    first.close("done");
    within(accepted.closed()).await;
    drop((first, accepted));
    // The server forgets a closed connection some round trips later: ask until it has.
    let limits = Limits {
        retries_max: None,
        ..Limits::default()
    };
    let patient = common::client(limits);
    let name = to.to_string();
    let dial = patient.connect_with_retry(&name, None);
    let accept = async { server.accept().await.unwrap().handshake().await };
    let (third, _) = within(async { tokio::join!(dial, accept) }).await;
    assert!(third.is_ok(), "{third:?}");
}

#[tokio::test]
async fn a_closed_endpoint_tells_its_peers_and_accepts_no_more() {
    let (client, server) = (client(Limits::default()), server(Limits::default()));
    let (dialled, _accepted) = within(join(&client, &server)).await;
    within(server.close("going home")).await;
    let error = within(dialled.closed()).await;
    assert!(matches!(&error, TransportError::ClosedByPeer(reason) if reason == "going home"));
    assert!(within(server.accept()).await.is_none());
}

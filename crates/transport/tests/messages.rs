//! The message stream, and peers that misuse it.

#![allow(clippy::unwrap_used)]

mod common;

use std::pin::pin;
use std::time::Duration;

use common::{client, join, loopback, pair, raw_to_server, server, wallet, within};
use convoke_protocol::codec::{CodecError, MESSAGE_BYTES_MAX, encode};
use convoke_transport::{Endpoint, Limits, Receiver, TransportError};
use quinn::SendStream;
use tokio::sync::watch;

/// A raw client's stream, and the node's receiver of it. The guard keeps both ends open.
async fn raw_stream() -> (SendStream, Receiver, impl Sized) {
    let server = server(Limits::default());
    let (raw, connection) = raw_to_server(&server, 3).await;
    let (sender, receiver) = connection.messages().unwrap();
    let guard = (server, raw.quic, raw.receive, connection, sender);
    (raw.send, receiver, guard)
}

fn frame(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [&length.to_le_bytes()[..], body].concat()
}

#[tokio::test]
async fn messages_go_both_ways_in_order_until_the_stream_is_finished() {
    let (client, server) = within(pair()).await;
    let (mut to_server, mut from_server) = client.messages().unwrap();
    let (mut to_client, mut from_client) = server.messages().unwrap();
    let largest = vec![7u8; MESSAGE_BYTES_MAX - 8];
    within(async {
        to_server.send(&"one".to_owned()).await.unwrap();
        let send = async {
            to_server.send(&largest).await.unwrap();
            to_server.finish().await;
        };
        let receive = async {
            let one: Option<String> = from_client.recv().await.unwrap();
            assert_eq!(one.as_deref(), Some("one"));
            let two: Option<Vec<u8>> = from_client.recv().await.unwrap();
            assert!(two.as_ref() == Some(&largest));
            assert_eq!(from_client.recv::<u8>().await.unwrap(), None);
        };
        tokio::join!(send, receive);
        to_client.send(&5u64).await.unwrap();
        assert_eq!(from_server.recv::<u64>().await.unwrap(), Some(5));
    })
    .await;
}

#[tokio::test]
async fn the_message_stream_is_taken_once() {
    let (client, _server) = within(pair()).await;
    let _taken = client.messages().unwrap();
    let again = client.clone().messages();
    assert!(matches!(again, Err(TransportError::MessagesTaken)));
}

#[tokio::test]
async fn the_peer_hears_why_a_connection_is_closed() {
    let (client, server) = within(pair()).await;
    client.close("done here");
    let heard = within(server.closed()).await;
    assert!(matches!(&heard, TransportError::ClosedByPeer(reason) if reason == "done here"));
    assert!(matches!(
        within(client.closed()).await,
        TransportError::Closed
    ));
    let (mut sender, mut receiver) = server.messages().unwrap();
    assert!(matches!(
        within(sender.send(&1u8)).await,
        Err(TransportError::ClosedByPeer(_))
    ));
    assert!(matches!(
        within(receiver.recv::<u8>()).await,
        Err(TransportError::ClosedByPeer(_))
    ));
}

#[tokio::test]
async fn a_message_that_is_too_long_is_not_sent_and_breaks_nothing() {
    let (client, server) = within(pair()).await;
    let (mut sender, _) = client.messages().unwrap();
    let (_, mut receiver) = server.messages().unwrap();
    let refused = within(sender.send(&vec![0u8; MESSAGE_BYTES_MAX])).await;
    assert!(matches!(refused, Err(TransportError::Message(_))));
    within(sender.send(&1u8)).await.unwrap();
    assert_eq!(within(receiver.recv::<u8>()).await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_length_beyond_the_limit_is_refused_before_a_byte_of_it_comes() {
    let (mut raw, mut receiver, _guard) = raw_stream().await;
    let length = MESSAGE_BYTES_MAX + 1;
    raw.write_all(&u32::try_from(length).unwrap().to_le_bytes())
        .await
        .unwrap();
    for _ in 0..2 {
        let refused = within(receiver.recv::<Vec<u8>>()).await;
        let Err(TransportError::Message(CodecError::TooLong { got })) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(got, length, "and it stays refused");
    }
}

#[tokio::test]
async fn garbage_is_refused_and_the_next_message_is_read() {
    let (mut raw, mut receiver, _guard) = raw_stream().await;
    // A vector that claims more elements than there are bytes, no message at all, one too many.
    let claims = frame(&u64::MAX.to_le_bytes());
    let trailing = frame(&[encode(&vec![1u8]).unwrap(), vec![0]].concat());
    for bytes in [&claims, &frame(b""), &trailing] {
        raw.write_all(bytes).await.unwrap();
        let refused = within(receiver.recv::<Vec<u8>>()).await;
        assert!(
            matches!(refused, Err(TransportError::Message(_))),
            "{refused:?}"
        );
    }
    raw.write_all(&frame(&encode(&vec![4u8, 2]).unwrap()))
        .await
        .unwrap();
    let good: Option<Vec<u8>> = within(receiver.recv()).await.unwrap();
    assert_eq!(good, Some(vec![4, 2]));
}

#[tokio::test]
async fn a_message_cut_short_is_no_message() {
    let whole = frame(&encode(&vec![1u8; 100]).unwrap());
    for length in [1, 3, 4, 50, whole.len() - 1] {
        let (mut raw, mut receiver, _guard) = raw_stream().await;
        raw.write_all(&whole[..length]).await.unwrap();
        raw.finish().unwrap();
        for _ in 0..2 {
            let cut = within(receiver.recv::<Vec<u8>>()).await;
            assert!(
                matches!(cut, Err(TransportError::Truncated)),
                "{length} bytes: {cut:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_reset_stream_is_lost() {
    let (mut raw, mut receiver, _guard) = raw_stream().await;
    raw.reset(7u32.into()).unwrap();
    let lost = within(receiver.recv::<u8>()).await;
    assert!(matches!(lost, Err(TransportError::Lost(_))), "{lost:?}");
}

#[tokio::test]
async fn receiving_can_be_cancelled_anywhere_within_a_message() {
    let (mut raw, mut receiver, _guard) = raw_stream().await;
    let message: Vec<u8> = (0..40).collect();
    let bytes = frame(&encode(&message).unwrap());
    let (cancelled, mut cancellations) = watch::channel(0u32);
    let drip = async {
        for byte in bytes {
            raw.write_all(&[byte]).await.unwrap();
            // The next byte comes only after more calls have been cancelled.
            let seen = *cancellations.borrow_and_update();
            cancellations.wait_for(|now| *now > seen + 3).await.unwrap();
        }
        // Kept open: the end of the stream must not be what ends the wait.
        raw
    };
    let receive = async {
        loop {
            tokio::select! {
                biased;
                got = receiver.recv::<Vec<u8>>() => break got,
                () = tokio::task::yield_now() => cancelled.send_modify(|count| *count += 1),
            }
        }
    };
    let mut drip = pin!(drip);
    let mut receive = pin!(receive);
    let got = within(async {
        tokio::select! {
            got = &mut receive => got,
            _ = &mut drip => receive.await,
        }
    })
    .await;
    assert_eq!(got.unwrap(), Some(message));
}

#[tokio::test]
async fn a_sender_is_held_back_by_a_receiver_who_does_not_read() {
    const MESSAGE_BYTES: usize = 16 << 10;
    const WINDOW_BYTES: u32 = 128 << 10;
    const MESSAGES: usize = 100;
    let limits = Limits {
        stream_window_bytes: WINDOW_BYTES,
        connection_window_bytes: WINDOW_BYTES,
        ..Limits::default()
    };
    let server = Endpoint::server(wallet(1), loopback(), limits.clone()).unwrap();
    let (client, accepted) = within(join(&client(limits), &server)).await;
    let (mut sender, _) = client.messages().unwrap();
    let (_, mut receiver) = accepted.messages().unwrap();
    let (sent, mut count) = watch::channel(0usize);
    tokio::spawn(async move {
        for _ in 0..MESSAGES {
            sender.send(&vec![1u8; MESSAGE_BYTES]).await.unwrap();
            sent.send_modify(|count| *count += 1);
        }
        sender.finish().await;
    });
    // Nothing more goes through: the receiver's window and the sender's buffer are full.
    let still = Duration::from_millis(500);
    while let Ok(changed) = tokio::time::timeout(still, count.changed()).await {
        changed.unwrap();
    }
    let held = *count.borrow();
    let bound = 2 * WINDOW_BYTES as usize / MESSAGE_BYTES;
    assert!(held <= bound, "{held} messages went, {bound} fit");
    for _ in 0..MESSAGES {
        let message: Option<Vec<u8>> = within(receiver.recv()).await.unwrap();
        assert_eq!(message.map(|m| m.len()), Some(MESSAGE_BYTES));
    }
    assert_eq!(within(receiver.recv::<u8>()).await.unwrap(), None);
}

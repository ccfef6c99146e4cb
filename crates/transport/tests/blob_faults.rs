//! Blobs and peers that refuse, lie, stall or flood.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{
    Folder, Raw, Seen, client, client_to_raw, close_code, content, hasty, join, pair,
    raw_to_server, serve, server, wallet, within,
};
use convoke_protocol::ids::BlobHash;
use convoke_transport::{Limits, TransportError};
use quinn::{RecvStream, SendStream};

const FETCH: u8 = 1;
const PUSH: u8 = 2;
const OK: u8 = 0;
const REFUSED: u8 = 1;

fn request(kind: u8, blob: &BlobHash, number: u64) -> Vec<u8> {
    [&[kind][..], &blob.0, &number.to_le_bytes()].concat()
}

/// A raw push up to the peer's answer: its status.
async fn raw_push(raw: &Raw, blob: &BlobHash, length: u64) -> (SendStream, RecvStream, u8) {
    let (mut send, mut receive) = raw.quic.open_bi().await.unwrap();
    send.write_all(&request(PUSH, blob, length)).await.unwrap();
    let mut status = [0];
    within(receive.read_exact(&mut status)).await.unwrap();
    (send, receive, status[0])
}

async fn reason(mut receive: RecvStream) -> String {
    let bytes = within(receive.read_to_end(256)).await.unwrap();
    assert_eq!(bytes.len(), 1 + usize::from(bytes[0]));
    String::from_utf8(bytes[1..].to_vec()).unwrap()
}

/// The offset that a granted push begins at.
async fn offset(receive: &mut RecvStream) -> u64 {
    let mut bytes = [0; 8];
    within(receive.read_exact(&mut bytes)).await.unwrap();
    u64::from_le_bytes(bytes)
}

fn spoil(folder: &Folder, blob: &BlobHash) {
    let mut bytes = fs::read(folder.store.path(blob)).unwrap();
    bytes[0] ^= 1;
    fs::write(folder.store.path(blob), bytes).unwrap();
}

#[tokio::test]
async fn other_content_than_its_name_is_discarded_by_the_one_who_fetches() {
    let (client, server) = within(pair()).await;
    let (here, there) = (Folder::new(), Folder::new());
    let _events = serve(&server, &there.store, true);
    let blob = there.store.insert_bytes(&content(300_000)).unwrap();
    spoil(&there, &blob);
    let fetched = within(client.fetch_blob(&blob, u64::MAX, &here.store, |_| {})).await;
    assert!(
        matches!(fetched, Err(TransportError::BlobContent { expected, .. }) if expected == blob),
        "{fetched:?}"
    );
    assert!(!here.store.contains(&blob));
    assert!(!here.partial(&blob).exists());
}

#[tokio::test]
async fn other_content_than_its_name_is_refused_by_the_one_it_is_pushed_to() {
    let (client, server) = within(pair()).await;
    let (here, there) = (Folder::new(), Folder::new());
    let mut events = serve(&server, &there.store, true);
    let blob = here.store.insert_bytes(&content(300_000)).unwrap();
    spoil(&here, &blob);
    let pushed = within(client.push_blob(&blob, &here.store, |_| {})).await;
    let Err(TransportError::BlobRefused { reason, .. }) = pushed else {
        panic!("{pushed:?}");
    };
    assert!(reason.contains("has the content of"), "{reason}");
    assert!(!there.store.contains(&blob));
    assert!(!there.partial(&blob).exists());
    while let Ok(event) = events.try_recv() {
        assert_eq!(event, Seen::Arriving, "nothing was written");
    }
    // The same connection goes on.
    let good = here.store.insert_bytes(b"good").unwrap();
    within(client.push_blob(&good, &here.store, |_| {}))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_with_the_reason() {
    let (client, server) = within(pair()).await;
    let (here, there) = (Folder::new(), Folder::new());
    let _events = serve(&server, &there.store, false);
    let secret = there.store.insert_bytes(b"secret").unwrap();
    let absent = BlobHash([7; 32]);
    let mut reasons = Vec::new();
    for blob in [secret, absent] {
        match within(client.fetch_blob(&blob, 100, &here.store, |_| {})).await {
            Err(TransportError::BlobRefused { reason, .. }) => reasons.push(reason),
            other => panic!("{other:?}"),
        }
        assert!(!here.partial(&blob).exists(), "nothing is left behind");
    }
    assert_eq!(
        reasons[0], reasons[1],
        "it cannot be told what is here from what is not"
    );
    let mine = here.store.insert_bytes(b"mine").unwrap();
    let pushed = within(client.push_blob(&mine, &here.store, |_| {})).await;
    let Err(TransportError::BlobRefused { reason, .. }) = pushed else {
        panic!("{pushed:?}");
    };
    assert_eq!(reason, "not from you");
    assert!(!there.store.contains(&mine));
}

#[tokio::test]
async fn a_blob_longer_than_wanted_is_not_taken() {
    let (client, server) = within(pair()).await;
    let (here, there) = (Folder::new(), Folder::new());
    let _events = serve(&server, &there.store, true);
    let blob = there.store.insert_bytes(&content(1001)).unwrap();
    let fetched = within(client.fetch_blob(&blob, 1000, &here.store, |_| {
        panic!("something was taken");
    }))
    .await;
    let Err(error @ TransportError::BlobProtocol { .. }) = fetched else {
        panic!("{fetched:?}");
    };
    assert!(error.to_string().contains("1001"), "{error}");
    assert!(!error.retryable());
    assert!(!here.partial(&blob).exists());
}

#[tokio::test]
async fn a_fetch_that_stalls_is_given_up_keeps_what_came_and_can_be_resumed() {
    let (connection, raw) = client_to_raw(&client(hasty()), 9).await;
    let here = Folder::new();
    let blob = BlobHash::of(b"0123456789");
    for expected in [0u64, 4] {
        let serve = async {
            let (mut answers, mut requests) = raw.quic.accept_bi().await.unwrap();
            let bytes = requests.read_to_end(100).await.unwrap();
            assert_eq!(bytes, request(FETCH, &blob, expected));
            answers.write_all(&[OK]).await.unwrap();
            answers.write_all(&10u64.to_le_bytes()).await.unwrap();
            if expected == 0 {
                answers.write_all(b"0123").await.unwrap();
            }
            // And no more, until the client has enough of it.
            let _ = answers.stopped().await;
        };
        let fetch = connection.fetch_blob(&blob, 10, &here.store, |_| {});
        let (fetched, ()) = within(async { tokio::join!(fetch, serve) }).await;
        assert!(
            matches!(fetched, Err(TransportError::BlobStalled(stalled)) if stalled == blob),
            "{fetched:?}"
        );
        assert_eq!(here.partial_length(&blob), 4);
    }
}

#[tokio::test]
async fn a_peer_that_gives_no_stream_or_no_answer_is_given_up() {
    // Room for the message stream only, then room for blobs that nobody answers.
    for streams in [1, 9] {
        let (connection, _raw) = client_to_raw(&client(hasty()), streams).await;
        let here = Folder::new();
        let blob = BlobHash([3; 32]);
        let fetched = within(connection.fetch_blob(&blob, 10, &here.store, |_| {})).await;
        assert!(
            matches!(fetched, Err(TransportError::BlobStalled(_))),
            "{fetched:?}"
        );
        let mine = here.store.insert_bytes(b"mine").unwrap();
        let pushed = within(connection.push_blob(&mine, &here.store, |_| {})).await;
        assert!(
            matches!(pushed, Err(TransportError::BlobStalled(_))),
            "{pushed:?}"
        );
    }
}

#[tokio::test]
async fn a_push_to_one_who_does_not_read_or_acknowledge_is_given_up() {
    let (connection, raw) = client_to_raw(&client(hasty()), 9).await;
    let here = Folder::new();
    // One that the receiver's window does not hold, and one that it does.
    for length in [4 << 20, 100] {
        let blob = here.store.insert_bytes(&content(length)).unwrap();
        let serve = async {
            let (mut answers, mut requests) = raw.quic.accept_bi().await.unwrap();
            requests.read_exact(&mut [0; 41]).await.unwrap();
            answers.write_all(&[0; 9]).await.unwrap();
            (answers, requests)
        };
        let push = connection.push_blob(&blob, &here.store, |_| {});
        let (pushed, _streams) = within(async { tokio::join!(push, serve) }).await;
        assert!(
            matches!(pushed, Err(TransportError::BlobStalled(_))),
            "{pushed:?}"
        );
    }
}

#[tokio::test]
async fn a_pusher_who_stalls_loses_the_blob_to_the_next_one() {
    let (server, there) = (server(hasty()), Folder::new());
    let (raw, accepted) = raw_to_server(&server, 3).await;
    let _events = serve(&accepted, &there.store, true);
    let bytes = content(1000);
    let blob = BlobHash::of(&bytes);
    let (mut send, mut answers, status) = raw_push(&raw, &blob, 1000).await;
    assert_eq!((status, offset(&mut answers).await), (OK, 0));
    send.write_all(&bytes[..10]).await.unwrap();
    // Nothing more comes: the node stops the stream.
    assert!(within(send.stopped()).await.unwrap().is_some());

    let (honest, accepted) = within(join(&client(Limits::default()), &server)).await;
    let _events = serve(&accepted, &there.store, true);
    let here = Folder::new();
    here.store.insert_bytes(&bytes).unwrap();
    let mut steps = Vec::new();
    let pushed = honest.push_blob(&blob, &here.store, |progress| steps.push(progress.done));
    within(pushed).await.unwrap().verify().unwrap();
    assert!(there.store.contains(&blob));
}

#[tokio::test]
async fn of_two_pushes_at_once_one_is_refused_and_later_acknowledged() {
    let (server, there) = (server(Limits::default()), Folder::new());
    let (raw, accepted) = raw_to_server(&server, 3).await;
    let _raw_events = serve(&accepted, &there.store, true);
    let blob = BlobHash::of(b"twice");
    let (mut send, mut answers, status) = raw_push(&raw, &blob, 5).await;
    assert_eq!((status, offset(&mut answers).await), (OK, 0));

    let (other, accepted) = within(join(&client(Limits::default()), &server)).await;
    let _events = serve(&accepted, &there.store, true);
    let here = Folder::new();
    here.store.insert_bytes(b"twice").unwrap();
    let second = within(other.push_blob(&blob, &here.store, |_| {})).await;
    let Err(error @ TransportError::BlobRefused { .. }) = second else {
        panic!("{second:?}");
    };
    assert!(error.retryable());
    assert!(error.to_string().contains("arriving already"), "{error}");

    send.write_all(b"twice").await.unwrap();
    let mut receipt = [9; 66];
    within(answers.read_exact(&mut receipt)).await.unwrap();
    assert_eq!(receipt[0], OK);
    assert_eq!(there.store.read(&blob).unwrap(), b"twice");
    let again = within(other.push_blob(&blob, &here.store, |_| {})).await;
    again.unwrap().verify().unwrap();
}

#[tokio::test]
async fn many_pushes_of_one_blob_leave_one_right_copy() {
    let (server, there) = (server(Limits::default()), Folder::new());
    let bytes = content(600_000);
    let mut pushing = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (connection, accepted) = within(join(&client(Limits::default()), &server)).await;
        let events = serve(&accepted, &there.store, true);
        let here = Folder::new();
        let blob = here.store.insert_bytes(&bytes).unwrap();
        pushing.spawn(async move {
            let pushed = connection.push_blob(&blob, &here.store, |_| {}).await;
            drop((events, accepted, here));
            pushed
        });
    }
    let mut receipts = 0;
    while let Some(pushed) = within(pushing.join_next()).await {
        match pushed.unwrap() {
            Ok(_) => receipts += 1,
            Err(TransportError::BlobRefused { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(receipts > 0);
    assert!(there.store.read(&BlobHash::of(&bytes)).unwrap() == bytes);
}

#[tokio::test]
async fn no_receipt_is_given_for_another_length_than_the_blob_has() {
    let (server, there) = (server(Limits::default()), Folder::new());
    let (raw, accepted) = raw_to_server(&server, 3).await;
    let mut events = serve(&accepted, &there.store, true);
    let blob = there.store.insert_bytes(b"five!").unwrap();
    let (_send, answers, status) = raw_push(&raw, &blob, 1 << 40).await;
    assert_eq!(status, REFUSED);
    assert!(reason(answers).await.contains("5 bytes"));
    assert!(events.try_recv().is_err());
}

#[tokio::test]
async fn nothing_is_written_beyond_the_announced_length() {
    let (server, there) = (server(Limits::default()), Folder::new());
    let (raw, accepted) = raw_to_server(&server, 3).await;
    let _events = serve(&accepted, &there.store, true);
    // Its first ten bytes have the name; the flood behind them is never looked at.
    let bytes = content(1 << 20);
    let blob = BlobHash::of(&bytes[..10]);
    let (mut send, mut answers, status) = raw_push(&raw, &blob, 10).await;
    assert_eq!((status, offset(&mut answers).await), (OK, 0));
    let _ = within(send.write_all(&bytes)).await;
    let mut receipt = [9; 66];
    within(answers.read_exact(&mut receipt)).await.unwrap();
    assert_eq!(receipt[0], OK);
    assert_eq!(there.store.len(&blob), Some(10));
    // And the stream is stopped, so that the flood ends.
    assert!(within(send.stopped()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_push_that_ends_early_keeps_what_came() {
    let (server, there) = (server(Limits::default()), Folder::new());
    let (raw, accepted) = raw_to_server(&server, 3).await;
    let _events = serve(&accepted, &there.store, true);
    let blob = BlobHash::of(b"0123456789");
    let (mut send, mut answers, _) = raw_push(&raw, &blob, 10).await;
    assert_eq!(offset(&mut answers).await, 0);
    send.write_all(b"01234").await.unwrap();
    send.finish().unwrap();
    // No receipt, but the end of the answers.
    let end = within(answers.read_to_end(100)).await.unwrap();
    assert!(end.is_empty(), "{end:?}");
    let (_send, mut answers, status) = raw_push(&raw, &blob, 10).await;
    assert_eq!((status, offset(&mut answers).await), (OK, 5));
}

#[tokio::test]
async fn garbage_after_a_resumed_beginning_is_discarded_with_it() {
    let (server, there) = (server(Limits::default()), Folder::new());
    let bytes = content(700_000);
    let blob = BlobHash::of(&bytes);
    let length = bytes.len() as u64;
    let half = 300_000;
    // The beginning is good, and the connection breaks.
    let (raw, accepted) = raw_to_server(&server, 3).await;
    let mut events = serve(&accepted, &there.store, true);
    let (mut send, mut answers, _) = raw_push(&raw, &blob, length).await;
    assert_eq!(offset(&mut answers).await, 0);
    send.write_all(&bytes[..half]).await.unwrap();
    send.finish().unwrap();
    assert!(within(answers.read_to_end(100)).await.unwrap().is_empty());
    // The rest is not what it should be.
    let (mut send, mut answers, _) = raw_push(&raw, &blob, length).await;
    assert_eq!(offset(&mut answers).await, half as u64);
    send.write_all(&vec![0xA5; bytes.len() - half])
        .await
        .unwrap();
    let mut status = [0];
    within(answers.read_exact(&mut status)).await.unwrap();
    assert_eq!(status[0], REFUSED);
    assert!(reason(answers).await.contains("has the content of"));
    assert!(!there.partial(&blob).exists() && !there.store.contains(&blob));
    while let Ok(event) = events.try_recv() {
        assert_eq!(event, Seen::Arriving, "nothing was written");
    }
    // Nothing is left of it: what is then sent is whole, and so is what the sink sees of it.
    let here = Folder::new();
    here.store.insert_bytes(&bytes).unwrap();
    let (client, accepted) = within(join(&client(Limits::default()), &server)).await;
    let _events = serve(&accepted, &there.store, true);
    within(client.push_blob(&blob, &here.store, |_| {}))
        .await
        .unwrap();
    assert!(there.store.read(&blob).unwrap() == bytes);
}

#[tokio::test]
async fn an_offset_beyond_the_end_is_answered_by_nothing() {
    let (server, there) = (server(Limits::default()), Folder::new());
    let (raw, accepted) = raw_to_server(&server, 3).await;
    let _events = serve(&accepted, &there.store, true);
    let blob = there.store.insert_bytes(b"five!").unwrap();
    for (offset, rest) in [(3, &b"e!"[..]), (5, b""), (6, b""), (u64::MAX, b"")] {
        let (mut send, mut answers) = raw.quic.open_bi().await.unwrap();
        send.write_all(&request(FETCH, &blob, offset))
            .await
            .unwrap();
        let answer = within(answers.read_to_end(100)).await.unwrap();
        assert_eq!(answer, [&[OK, 5, 0, 0, 0, 0, 0, 0, 0][..], rest].concat());
    }
}

#[tokio::test]
async fn a_receiver_that_asks_for_more_than_there_is_breaks_the_protocol() {
    let (connection, raw) = client_to_raw(&client(Limits::default()), 9).await;
    let here = Folder::new();
    let blob = here.store.insert_bytes(b"five!").unwrap();
    let serve = async {
        let (mut answers, _requests) = raw.quic.accept_bi().await.unwrap();
        answers.write_all(&[OK]).await.unwrap();
        answers.write_all(&6u64.to_le_bytes()).await.unwrap();
        let _ = answers.stopped().await;
    };
    let push = connection.push_blob(&blob, &here.store, |_| {});
    let (pushed, ()) = within(async { tokio::join!(push, serve) }).await;
    assert!(
        matches!(pushed, Err(TransportError::BlobProtocol { .. })),
        "{pushed:?}"
    );
}

#[tokio::test]
async fn a_receipt_signed_by_somebody_else_does_not_hold() {
    let (connection, raw) = client_to_raw(&client(Limits::default()), 9).await;
    let here = Folder::new();
    let blob = here.store.insert_bytes(b"five!").unwrap();
    let serve = async {
        let (mut answers, mut requests) = raw.quic.accept_bi().await.unwrap();
        answers.write_all(&[0; 9]).await.unwrap();
        requests.read_to_end(1000).await.unwrap();
        let forged = wallet(8).sign_digest(&convoke_protocol::ids::Digest([1; 32]));
        answers.write_all(&[OK]).await.unwrap();
        answers.write_all(&forged.0).await.unwrap();
        let _ = answers.stopped().await;
    };
    let push = connection.push_blob(&blob, &here.store, |_| {});
    let (pushed, ()) = within(async { tokio::join!(push, serve) }).await;
    let Err(error @ TransportError::BlobProtocol { .. }) = pushed else {
        panic!("{pushed:?}");
    };
    assert!(error.to_string().contains("receipt"), "{error}");
}

#[tokio::test]
async fn a_stream_of_an_unknown_kind_closes_the_connection() {
    let (server, there) = (server(Limits::default()), Folder::new());
    let (raw, accepted) = raw_to_server(&server, 3).await;
    let _events = serve(&accepted, &there.store, true);
    let (mut send, _receive) = raw.quic.open_bi().await.unwrap();
    send.write_all(&request(77, &BlobHash([0; 32]), 0))
        .await
        .unwrap();
    assert_eq!(close_code(&within(raw.quic.closed()).await), Some(3));
}

#[tokio::test]
async fn streams_that_say_nothing_are_given_up_and_their_room_is_given_back() {
    let (server, there) = (server(hasty()), Folder::new());
    let (raw, accepted) = raw_to_server(&server, 3).await;
    let _events = serve(&accepted, &there.store, true);
    // Twice as many as are allowed at one time: the second half opens when the first is ended.
    let mut streams = Vec::new();
    for _ in 0..16 {
        let (mut send, receive) = within(raw.quic.open_bi()).await.unwrap();
        send.write_all(&[FETCH]).await.unwrap();
        streams.push((send, receive));
        if streams.len() == 8 {
            for (mut send, mut receive) in streams.drain(..) {
                assert!(within(send.stopped()).await.unwrap().is_some());
                let _ = send.reset(0u32.into());
                assert!(within(receive.read_to_end(10)).await.unwrap().is_empty());
            }
        }
    }
}

#[test]
fn peers_that_do_not_read_take_no_thread_away_from_the_others() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (server, there) = (server(Limits::default()), Folder::new());
        let blob = there.store.insert_bytes(&content(32 << 20)).unwrap();
        let (raw, accepted) = raw_to_server(&server, 3).await;
        let _raw_events = serve(&accepted, &there.store, true);
        let mut held = Vec::new();
        for _ in 0..8 {
            let (mut send, mut answers) = within(raw.quic.open_bi()).await.unwrap();
            send.write_all(&request(FETCH, &blob, 0)).await.unwrap();
            within(answers.read_exact(&mut [0; 9])).await.unwrap();
            held.push((send, answers));
        }
        // All eight are granted, and nobody reads them.
        let (honest, accepted) = within(join(&client(Limits::default()), &server)).await;
        let _events = serve(&accepted, &there.store, true);
        let here = Folder::new();
        let small = there.store.insert_bytes(b"small").unwrap();
        within(honest.fetch_blob(&small, 5, &here.store, |_| {}))
            .await
            .unwrap();
    });
    runtime.shutdown_background();
}

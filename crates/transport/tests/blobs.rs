//! Blobs between honest nodes: fetched, pushed, broken off and resumed.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;

use common::{
    Folder, Seen, client, client_to_raw, content, join, pair, serve, server, wallet, within,
};
use convoke_protocol::ids::BlobHash;
use convoke_transport::{Limits, TransportError};

const MEBIBYTE: usize = 1 << 20;

#[tokio::test]
async fn blobs_of_all_sizes_are_fetched() {
    let (client, server) = within(pair()).await;
    let (here, there) = (Folder::new(), Folder::new());
    let _events = serve(&server, &there.store, true);
    for length in [0, 1, (256 << 10) - 1, 256 << 10, 3 * MEBIBYTE + 1] {
        let bytes = content(length);
        let blob = there.store.insert_bytes(&bytes).unwrap();
        let mut last = 0;
        let fetched = client.fetch_blob(&blob, length as u64, &here.store, |progress| {
            assert!(progress.done > last && progress.length == length as u64);
            last = progress.done;
        });
        within(fetched).await.unwrap();
        assert_eq!(last, length as u64);
        assert!(here.store.read(&blob).unwrap() == bytes, "{length} bytes");
        assert!(!here.partial(&blob).exists());
    }
}

#[tokio::test]
async fn a_blob_that_is_here_is_not_fetched() {
    let (client, _server) = within(pair()).await;
    let here = Folder::new();
    let blob = here.store.insert_bytes(b"mine").unwrap();
    // Nobody serves at the other end.
    within(client.fetch_blob(&blob, 4, &here.store, |_| panic!("something came")))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_pushed_blob_is_acknowledged_by_a_receipt_that_holds() {
    let (client, server) = within(pair()).await;
    let (here, there) = (Folder::new(), Folder::new());
    let mut events = serve(&server, &there.store, true);
    for length in [0, 1, 2 * MEBIBYTE + 3] {
        let bytes = content(length);
        let blob = here.store.insert_bytes(&bytes).unwrap();
        let mut last = 0;
        let pushed = client.push_blob(&blob, &here.store, |progress| last = progress.done);
        let receipt = within(pushed).await.unwrap();
        receipt.verify().unwrap();
        assert_eq!((receipt.blob, receipt.length), (blob, length as u64));
        assert_eq!(receipt.sender, wallet(2).address());
        assert_eq!(receipt.receiver, wallet(1).address());
        assert_eq!(last, length as u64);
        assert!(there.store.read(&blob).unwrap() == bytes);
        let written = loop {
            match within(events.recv()).await.unwrap() {
                Seen::Arriving => assert!(length > 0),
                written @ Seen::Written(..) => break written,
            }
        };
        assert_eq!(
            written,
            Seen::Written(wallet(2).address(), blob, length as u64)
        );
    }
}

#[tokio::test]
async fn the_server_pushes_and_fetches_as_well() {
    let (client, server) = within(pair()).await;
    let (here, there) = (Folder::new(), Folder::new());
    let _events = serve(&client, &here.store, true);
    let up = here.store.insert_bytes(&content(MEBIBYTE)).unwrap();
    let down = there.store.insert_bytes(&content(MEBIBYTE + 1)).unwrap();
    let (fetched, pushed) = within(async {
        tokio::join!(
            server.fetch_blob(&up, u64::MAX, &there.store, |_| {}),
            server.push_blob(&down, &there.store, |_| {})
        )
    })
    .await;
    fetched.unwrap();
    assert_eq!(pushed.unwrap().receiver, wallet(2).address());
    assert!(there.store.contains(&up) && here.store.contains(&down));
}

#[tokio::test]
async fn a_blob_that_the_peer_has_is_acknowledged_without_being_sent() {
    let (client, server) = within(pair()).await;
    let (here, there) = (Folder::new(), Folder::new());
    let mut events = serve(&server, &there.store, true);
    let blob = here.store.insert_bytes(b"known").unwrap();
    there.store.insert_bytes(b"known").unwrap();
    let pushed = client.push_blob(&blob, &here.store, |_| panic!("something was sent"));
    within(pushed).await.unwrap().verify().unwrap();
    let event = within(events.recv()).await.unwrap();
    assert_eq!(event, Seen::Written(wallet(2).address(), blob, 5));
}

#[tokio::test]
async fn a_blob_that_is_not_in_the_store_is_not_pushed() {
    let (client, _server) = within(pair()).await;
    let here = Folder::new();
    let pushed = client.push_blob(&BlobHash([1; 32]), &here.store, |_| {});
    assert!(matches!(
        within(pushed).await,
        Err(TransportError::BlobMissing(_))
    ));
}

#[tokio::test]
async fn more_blobs_than_streams_take_turns() {
    let (client, server) = within(pair()).await;
    let (here, there) = (Folder::new(), Folder::new());
    let _events = serve(&server, &there.store, true);
    let blobs: Vec<_> = (0..40u8)
        .map(|i| there.store.insert_bytes(&[i; 1000]).unwrap())
        .collect();
    let mut fetching = tokio::task::JoinSet::new();
    for blob in blobs.clone() {
        let (client, store) = (client.clone(), here.store.clone());
        fetching.spawn(async move { client.fetch_blob(&blob, 1000, &store, |_| {}).await });
    }
    while let Some(fetched) = within(fetching.join_next()).await {
        fetched.unwrap().unwrap();
    }
    assert!(blobs.iter().all(|blob| here.store.contains(blob)));
}

#[tokio::test]
async fn a_fetch_that_broke_off_goes_on_where_it_was() {
    let endpoints = (client(Limits::default()), server(Limits::default()));
    let (here, there) = (Folder::new(), Folder::new());
    let bytes = content(8 * MEBIBYTE);
    let blob = there.store.insert_bytes(&bytes).unwrap();
    let length = bytes.len() as u64;

    let (first, accepted) = within(join(&endpoints.0, &endpoints.1)).await;
    let _events = serve(&accepted, &there.store, true);
    let closer = first.clone();
    let mut reached = 0;
    let broken = first.fetch_blob(&blob, length, &here.store, |progress| {
        reached = progress.done;
        if reached > MEBIBYTE as u64 {
            closer.close("broken off");
        }
    });
    let error = within(broken).await.unwrap_err();
    assert!(error.retryable(), "{error}");
    assert!(!here.store.contains(&blob));
    // All that came is on disk when the error is told, so nothing is fetched twice.
    assert_eq!(here.partial_length(&blob), reached);
    assert!(reached > MEBIBYTE as u64 && reached < length);

    // A raw server sees what is asked for, and gives no byte more.
    let (second, raw) = client_to_raw(&endpoints.0, 9).await;
    let serve = async {
        let (mut answers, mut requests) = raw.quic.accept_bi().await.unwrap();
        let mut request = [0; 41];
        requests.read_exact(&mut request).await.unwrap();
        assert_eq!(request[0], 1);
        assert_eq!(request[1..33], blob.0);
        assert_eq!(request[33..], reached.to_le_bytes());
        answers.write_all(&[0]).await.unwrap();
        answers.write_all(&length.to_le_bytes()).await.unwrap();
        let rest = &bytes[usize::try_from(reached).unwrap()..];
        answers.write_all(rest).await.unwrap();
        answers.finish().unwrap();
        let _ = raw.send.stopped().await;
    };
    let mut first_progress = None;
    let fetch = second.fetch_blob(&blob, length, &here.store, |progress| {
        first_progress.get_or_insert(progress.done);
    });
    within(async {
        tokio::select! {
            fetched = fetch => fetched.unwrap(),
            () = serve => panic!("the client left"),
        }
    })
    .await;
    assert!(first_progress.unwrap() > reached);
    assert!(here.store.read(&blob).unwrap() == bytes);
}

#[tokio::test]
async fn a_push_that_broke_off_goes_on_where_it_was() {
    let endpoints = (client(Limits::default()), server(Limits::default()));
    let (here, there) = (Folder::new(), Folder::new());
    let bytes = content(32 * MEBIBYTE);
    let blob = here.store.insert_bytes(&bytes).unwrap();
    let length = bytes.len() as u64;

    let (first, accepted) = within(join(&endpoints.0, &endpoints.1)).await;
    let mut events = serve(&accepted, &there.store, true);
    let breaking = async {
        // Some of it has come; far from all, since a packet holds less than 2 KiB.
        for _ in 0..200 {
            assert_eq!(events.recv().await, Some(Seen::Arriving));
        }
        accepted.close("broken off");
    };
    let push = first.push_blob(&blob, &here.store, |_| {});
    let (broken, ()) = within(async { tokio::join!(push, breaking) }).await;
    let error = broken.unwrap_err();
    assert!(error.retryable(), "{error}");

    // The claim on the blob is released once the rest is on disk; then a push is let in again.
    let (pushed, progress) = loop {
        let (next, accepted) = within(join(&endpoints.0, &endpoints.1)).await;
        let _events = serve(&accepted, &there.store, true);
        let mut progress = Vec::new();
        let pushed = next.push_blob(&blob, &here.store, |p| progress.push(p.done));
        match within(pushed).await {
            Err(TransportError::BlobRefused { .. }) => {}
            other => break (other, progress),
        }
    };
    pushed.unwrap().verify().unwrap();
    assert!(there.store.read(&blob).unwrap() == bytes);
    // One step of the sender is a chunk at most, so the first tells the offset closely.
    let chunk = 256 << 10;
    assert!(
        progress[0] > 100 << 10,
        "it began anew: first at {}",
        progress[0]
    );
    assert!(progress[0] < length);
    let steps = progress
        .windows(2)
        .all(|w| w[1] > w[0] && w[1] - w[0] <= chunk);
    assert!(steps, "{progress:?}");
}

#[tokio::test]
async fn the_beginning_left_by_an_earlier_process_is_used() {
    let (client, server) = within(pair()).await;
    let (here, there) = (Folder::new(), Folder::new());
    let _events = serve(&server, &there.store, true);
    let bytes = content(MEBIBYTE);
    let blob = there.store.insert_bytes(&bytes).unwrap();
    fs::write(here.partial(&blob), &bytes[..MEBIBYTE / 2]).unwrap();
    let mut first = None;
    let fetched = client.fetch_blob(&blob, u64::MAX, &here.store, |progress| {
        first.get_or_insert(progress.done);
    });
    within(fetched).await.unwrap();
    assert!(first.unwrap() > MEBIBYTE as u64 / 2);
    assert!(here.store.read(&blob).unwrap() == bytes);
}

#[tokio::test]
async fn a_whole_blob_that_was_never_renamed_costs_no_transfer() {
    let (client, server) = within(pair()).await;
    let (here, there) = (Folder::new(), Folder::new());
    let _events = serve(&server, &there.store, true);
    let blob = there.store.insert_bytes(b"all of it").unwrap();
    fs::write(here.partial(&blob), b"all of it").unwrap();
    let fetched = client.fetch_blob(&blob, u64::MAX, &here.store, |_| panic!("it was sent"));
    within(fetched).await.unwrap();
    assert!(here.store.contains(&blob));
}

#[tokio::test]
async fn a_spoilt_beginning_is_discarded_and_the_next_attempt_succeeds() {
    let (client, server) = within(pair()).await;
    let there = Folder::new();
    let _events = serve(&server, &there.store, true);
    let blob = there.store.insert_bytes(b"the real content").unwrap();
    // Torn by a crash, and longer than the blob itself.
    for spoilt in [&b"xxx"[..], &[0; 100]] {
        let here = Folder::new();
        fs::write(here.partial(&blob), spoilt).unwrap();
        let first = within(client.fetch_blob(&blob, 100, &here.store, |_| {})).await;
        let error = first.unwrap_err();
        assert!(error.retryable(), "{error}");
        within(client.fetch_blob(&blob, 100, &here.store, |_| {}))
            .await
            .unwrap();
        assert_eq!(here.store.read(&blob).unwrap(), b"the real content");
    }
}

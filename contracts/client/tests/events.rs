//! Streams of events: through a restart of the endpoint, a saved cursor, and reorganizations.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use convoke_client::{Chain, ChainEvent, Contract, Cursor, Event, EventStream, LoggedEvent};
use convoke_protocol::ids::{Amount, TaskId};
use support::stage::{FILE, Stage, address};
use support::{Endpoint, anvil, devnet};

/// Longest wait for something that is bound to happen.
const PATIENCE: Duration = Duration::from_secs(30);

async fn next(events: &mut EventStream) -> ChainEvent {
    let told = tokio::time::timeout(PATIENCE, events.next()).await;
    told.expect("an event comes").unwrap()
}

async fn logged(events: &mut EventStream) -> LoggedEvent {
    match next(events).await {
        ChainEvent::Logged(event) => *event,
        reorged @ ChainEvent::Reorged { .. } => panic!("{reorged:?}"),
    }
}

/// All there is now.
async fn drain(events: &mut EventStream) -> Vec<LoggedEvent> {
    let mut all = Vec::new();
    while let Some(event) = events.next_now().await.unwrap() {
        match event {
            ChainEvent::Logged(event) => all.push(*event),
            reorged @ ChainEvent::Reorged { .. } => panic!("{reorged:?}"),
        }
    }
    all
}

#[track_caller]
fn funded(event: &LoggedEvent) -> u128 {
    match event.event {
        Event::TaskFunded { amount, .. } => amount.0,
        ref other => panic!("{other:?}"),
    }
}

async fn posted(stage: &Stage<'_>) -> TaskId {
    stage
        .creator
        .create_task(&stage.terms(), FILE)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_typed_in_order_and_once() {
    let (_devnet, endpoint) = devnet::start().await;
    let stage = Stage::set(&endpoint).await;
    let mut events = stage.bob.events(stage.book.deployed_block, 0);
    let deployment = drain(&mut events).await;
    assert!(deployment.len() > 10, "links, grants, renunciations");
    assert_eq!(events.next_now().await.unwrap(), None);

    let task = posted(&stage).await;
    let created = logged(&mut events).await;
    assert_eq!(created.contract, Contract::TaskManager);
    let Event::TaskCreated {
        task: told,
        creator,
        ..
    } = created.event
    else {
        panic!("{created:?}");
    };
    assert_eq!((told, creator), (task, address(&stage.creator)));

    // One that waits is told of what happens then.
    let waiting = tokio::spawn(async move {
        let event = logged(&mut events).await;
        (funded(&event), events)
    });
    stage.dora.fund(task, Amount(7)).await.unwrap();
    let (amount, _) = waiting.await.unwrap();
    assert_eq!(amount, 7);

    let mut again = stage.bob.events(stage.book.deployed_block, 0);
    let all = drain(&mut again).await;
    assert_eq!(all.len(), deployment.len() + 2);
    assert_eq!(all[..deployment.len()], deployment);
    assert!(all.is_sorted_by_key(|event| (event.block, event.log_index)));
}

#[tokio::test(flavor = "multi_thread")]
async fn confirmations_hold_events_back() {
    let (_devnet, endpoint) = devnet::start().await;
    let stage = Stage::set(&endpoint).await;
    let head = stage.bob.latest_block().await.unwrap().number;
    let mut events = stage.bob.events(head + 1, 2);
    posted(&stage).await;
    assert_eq!(events.next_now().await.unwrap(), None);
    endpoint.request("evm_mine", "[]").await;
    assert_eq!(events.next_now().await.unwrap(), None);
    endpoint.request("evm_mine", "[]").await;
    assert!(events.next_now().await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_survives_a_restart_of_the_endpoint() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Some(dir.path().join("chain"));
    let (server, endpoint) =
        devnet::start_at("127.0.0.1:0".parse().unwrap(), journal.clone()).await;
    let listen = server.local_addr();
    let stage = Stage::set(&endpoint).await;
    let task = posted(&stage).await;
    let mut events = stage.bob.events(stage.book.deployed_block, 0);
    drain(&mut events).await;
    let waiting = tokio::spawn(async move { logged(&mut events).await });
    drop(server);
    let (_server, _) = restarted(listen, journal).await;
    stage.dora.fund(task, Amount(9)).await.unwrap();
    assert_eq!(funded(&waiting.await.unwrap()), 9);
}

/// The old server's socket may take a moment to close.
async fn restarted(
    listen: std::net::SocketAddr,
    journal: Option<std::path::PathBuf>,
) -> (convoke_devnet::Devnet, ()) {
    loop {
        let config = convoke_devnet::Config {
            listen,
            journal: journal.clone(),
            chain_id: convoke_devnet::DEFAULT_CHAIN_ID,
            funded: Vec::new(),
        };
        match convoke_devnet::Devnet::start(config).await {
            Ok(server) => return (server, ()),
            Err(convoke_devnet::DevnetError::Listen { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_cursor_goes_on_without_loss_or_repeats() {
    let (_devnet, endpoint) = devnet::start().await;
    let stage = Stage::set(&endpoint).await;
    let task = posted(&stage).await;
    for amount in 1..=3 {
        stage.dora.fund(task, Amount(amount)).await.unwrap();
    }
    let whole = drain(&mut stage.bob.events(stage.book.deployed_block, 0)).await;
    // A process that is killed after each event.
    let mut saved = serde_json::to_string(&Cursor::at(stage.book.deployed_block)).unwrap();
    for expected in &whole {
        let cursor: Cursor = serde_json::from_str(&saved).unwrap();
        let mut events = stage.bob.events_from(cursor, 0);
        assert_eq!(logged(&mut events).await, *expected);
        saved = serde_json::to_string(events.cursor()).unwrap();
    }
    let cursor: Cursor = serde_json::from_str(&saved).unwrap();
    let mut events = stage.bob.events_from(cursor, 0);
    assert_eq!(events.next_now().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn reorganizations_are_told_on_the_devnet() {
    let (_devnet, endpoint) = devnet::start().await;
    reorganized(&endpoint).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reorganizations_are_told_on_anvil() {
    let node = anvil::start();
    reorganized(&node.endpoint().await).await;
}

async fn reorganized(endpoint: &Endpoint) {
    let stage = Stage::set(endpoint).await;
    let task = posted(&stage).await;
    let mut events = stage.bob.events(stage.book.deployed_block, 0);
    let mut idle = stage.bob.events(stage.book.deployed_block, 0);
    let mut patient = stage.bob.events(stage.book.deployed_block, 3);
    drain(&mut events).await;
    drain(&mut idle).await;
    stage.dora.fund(task, Amount(1)).await.unwrap();
    assert_eq!(funded(&logged(&mut events).await), 1);
    drain(&mut idle).await;

    let fork = snapshot(endpoint).await;
    let forked_at = stage.bob.latest_block().await.unwrap().number;
    for amount in [2, 3] {
        stage.dora.fund(task, Amount(amount)).await.unwrap();
        assert_eq!(funded(&logged(&mut events).await), amount);
    }
    drain(&mut patient).await;
    let saved = events.cursor().clone();
    endpoint.request("evm_revert", &format!("[{fork}]")).await;
    // The other branch is shorter, then longer than the first; the wallet's nonces go back, too.
    let chain = Chain::connect(&stage.book, Some(&support::stage::wallet(7)))
        .await
        .unwrap();
    for amount in [4, 5, 6] {
        chain.fund(task, Amount(amount)).await.unwrap();
    }
    // The stream that told of the first branch, and one from its saved cursor.
    let from_saved = stage.bob.events_from(saved, 0);
    for mut events in [events, from_saved] {
        let reorged = next(&mut events).await;
        let from = forked_at + 1;
        assert_eq!(reorged, ChainEvent::Reorged { from });
        for amount in [4, 5, 6] {
            assert_eq!(funded(&logged(&mut events).await), amount);
        }
        assert_eq!(events.next_now().await.unwrap(), None);
    }
    // Those that told nothing of it have nothing to take back.
    for amount in [4, 5, 6] {
        assert_eq!(funded(&logged(&mut idle).await), amount);
    }
    for _ in 0..3 {
        endpoint.request("evm_mine", "[]").await;
    }
    let amounts: Vec<_> = drain(&mut patient).await.iter().map(funded).collect();
    assert_eq!(amounts, [4, 5, 6]);
    // The clones that were there before go on as well.
    stage.dora.fund(task, Amount(7)).await.unwrap();
    assert_eq!(funded(&logged(&mut idle).await), 7);
}

async fn snapshot(endpoint: &Endpoint) -> String {
    let answer = endpoint.request("evm_snapshot", "[]").await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    answer["result"].to_string()
}

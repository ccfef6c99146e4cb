//! Peers that send what they should not, against a running federation: each is refused by name
//! and with its reason, and the round goes on.
#![allow(clippy::unwrap_used)]

mod common;

use convoke_models::Parameters;
use convoke_protocol::ids::{Amount, BlobHash, Digest, RoundId};
use convoke_protocol::message::{AggregatorMessage, NodeMessage, Order};
use convoke_protocol::payout::PayoutDomain;
use convoke_protocol::sketch::Norm;

use self::common::hostile::Peer;
use self::common::{World, hostile, spec, trainer};

/// A delta of the task's model whose values are all `value`.
fn delta(world: &World, value: f32) -> Vec<u8> {
    let checkpoint = std::fs::read(&world.initial).unwrap();
    let mut delta = Parameters::from_safetensors(&checkpoint, None).unwrap();
    delta.values_mut().fill(value);
    delta.to_safetensors()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_updates_are_refused_by_name_and_the_round_goes_on() {
    let mut world = World::start(spec(10, 0, 1)).await;
    let _aggregator = world.aggregator(None);
    let mut watcher = world.watch();
    let _honest = [world.trainer(0, &[]), world.trainer(1, &[])];
    let mut peers = Vec::new();
    for index in 0..8 {
        peers.push(Peer::join(&world, hostile(index)).await);
    }
    let mut orders = Vec::new();
    for peer in &mut peers {
        orders.push(peer.ordered_to_train().await);
    }
    let (round, base) = orders[0];
    let good = delta(&world, 0.001);
    let header = |peer: &Peer, bytes: &[u8]| peer.header(&world, round, base, bytes);

    let not_a_number = header(&peers[0], &delta(&world, f32::NAN));
    peers[0].send(&world, not_a_number).await;

    let short = header(&peers[1], &good[..good.len() - 4]);
    peers[1].send(&world, short).await;

    let mut stale = header(&peers[2], &good);
    stale.base = BlobHash([9; 32]);
    peers[2].send(&world, stale).await;

    let original = header(&peers[3], &good);
    peers[3].send(&world, original).await;
    let copy = header(&peers[4], &good);
    peers[4].send(&world, copy).await;

    let mut scrambled = good.clone();
    scrambled[9] ^= 0x20;
    let other_tensors = header(&peers[5], &scrambled);
    peers[5].send(&world, other_tensors).await;

    let mut modest = header(&peers[6], &delta(&world, 0.5));
    modest.delta_norm = Norm::of(0.001);
    peers[6].send(&world, modest).await;

    let mut uprooted = header(&peers[7], &delta(&world, 0.002));
    uprooted.delta_root = Digest([9; 32]);
    peers[7].send(&world, uprooted).await;

    watcher.until_finished().await;
    let refusal = |index: u8| watcher.refusal(1, hostile(index).address());
    assert_eq!(refusal(0), Some("not_finite"));
    assert_eq!(refusal(1), Some("delta_length"));
    assert_eq!(refusal(2), Some("stale"));
    assert_eq!(refusal(4), Some("copy"));
    assert_eq!(refusal(5), Some("layout"));
    assert_eq!(refusal(6), Some("wrong_norm"));
    assert_eq!(refusal(7), Some("wrong_root"));
    for index in 0..2 {
        assert!(
            watcher.kept(1, trainer(index).address()),
            "{:?}",
            watcher.reports
        );
    }
    world.assert_money_adds_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_sketch_costs_its_trainer_the_round_and_nobody_else() {
    let mut world = World::start(spec(3, 0, 1)).await;
    let _aggregator = world.aggregator(None);
    let mut watcher = world.watch();
    let _honest = [world.trainer(0, &[]), world.trainer(1, &[])];
    let _forger = world.trainer(2, &["--persona", "forger"]);
    watcher.until_finished().await;
    let refusal = watcher.refusal(1, trainer(2).address());
    assert_eq!(refusal, Some("wrong_sketch"));
    for index in 0..2 {
        assert!(watcher.kept(1, trainer(index).address()));
    }
    // It was proven without the forger's slot.
    let chain = world.chain().await;
    let state = chain.round(world.task, RoundId(1)).await.unwrap();
    assert_eq!(state.updates, 3);
    assert!(state.total > Amount::ZERO);
    world.assert_money_adds_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_signatures_and_garbage_leave_no_trace() {
    let mut world = World::start(spec(3, 0, 1)).await;
    let _aggregator = world.aggregator(None);
    let mut watcher = world.watch();
    let _honest = [world.trainer(0, &[]), world.trainer(1, &[])];
    let mut peer = Peer::join(&world, hostile(0)).await;
    let (round, base) = peer.ordered_to_train().await;
    let domain = PayoutDomain {
        chain_id: world.book.chain_id,
        contract: world.book.task_manager,
    };
    let header = peer.header(&world, round, base, &delta(&world, 0.01));

    // Another's signature under our name, and ours under another's.
    let mut forged = header.clone().sign(&domain, &hostile(1));
    forged.trainer = peer.wallet.address();
    peer.sender
        .send(&NodeMessage::Update(forged))
        .await
        .unwrap();
    assert!(fault(&mut peer).await.contains("signature"));
    let theirs = header.clone().sign(&domain, &hostile(1));
    peer.sender
        .send(&NodeMessage::Update(theirs))
        .await
        .unwrap();
    assert!(fault(&mut peer).await.contains("signed for"));
    // Signed for another chain.
    let elsewhere = PayoutDomain {
        chain_id: 1,
        ..domain
    };
    let replayed = header.clone().sign(&elsewhere, &peer.wallet);
    peer.sender
        .send(&NodeMessage::Update(replayed))
        .await
        .unwrap();
    assert!(fault(&mut peer).await.contains("signature"));
    // A round that is not under way.
    let mut late = header.clone();
    late.round = RoundId(9);
    let late = late.sign(&domain, &peer.wallet);
    peer.sender.send(&NodeMessage::Update(late)).await.unwrap();
    assert!(fault(&mut peer).await.contains("round 9"));
    // A blob that was never announced.
    let smuggled = peer.blobs().insert_bytes(&[7; 1_000]).unwrap();
    let pushed = peer
        .connection
        .push_blob(&smuggled, peer.blobs(), |_| {})
        .await;
    assert!(
        pushed
            .unwrap_err()
            .to_string()
            .contains("no delta is waited for")
    );
    // Bytes that are no message end the connection, and nothing else.
    peer.sender
        .send(&(u64::MAX, u64::MAX, "garbage"))
        .await
        .unwrap();
    while let Ok(Some(_)) = peer.receiver.recv::<AggregatorMessage>().await {}

    // After all that the same node may still do its work.
    peer.rejoin(&world).await;
    assert_eq!(peer.ordered_to_train().await, (round, base));
    peer.send(&world, header).await;
    watcher.until_finished().await;
    assert!(
        watcher.kept(1, hostile(0).address()),
        "{:?}",
        watcher.reports
    );
    world.assert_money_adds_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_broken_off_midway_is_resumed() {
    // One tensor of 6 MiB: many chunks, and more than one flow-control window of a chunk.
    let values = vec![0.5f32; 3 << 19];
    let layout = vec![convoke_models::TensorSpec {
        name: "w".into(),
        shape: vec![values.len()],
    }];
    let checkpoint = Parameters::new(layout, values).unwrap().to_safetensors();
    let mut world = World::with_checkpoint(spec(1, 0, 1), &checkpoint).await;
    let _aggregator = world.aggregator(None);
    let mut watcher = world.watch();
    let mut peer = Peer::join(&world, hostile(0)).await;
    let (round, base) = peer.ordered_to_train().await;
    let header = peer.header(&world, round, base, &delta(&world, 0.25));
    let blob = header.delta;
    let domain = PayoutDomain {
        chain_id: world.book.chain_id,
        contract: world.book.task_manager,
    };
    let update = header.sign(&domain, &peer.wallet);
    peer.sender
        .send(&NodeMessage::Update(update))
        .await
        .unwrap();
    send_delta_ordered(&mut peer).await;

    let partial = world
        .dir
        .path()
        .join("aggregator/blobs/partial")
        .join(blob.to_file_name());
    let connection = peer.connection.clone();
    let broken = peer
        .connection
        .push_blob(&blob, peer.blobs(), |_| {
            // Once some of it is on the other side's disk, the line goes dead.
            if partial.metadata().is_ok_and(|meta| meta.len() > 0) {
                connection.close("the test breaks the line");
            }
        })
        .await;
    assert!(broken.is_err());

    peer.rejoin(&world).await;
    send_delta_ordered(&mut peer).await;
    let mut first = None;
    let receipt = peer
        .connection
        .push_blob(&blob, peer.blobs(), |progress| {
            first.get_or_insert(progress.done);
        })
        .await
        .unwrap();
    receipt.verify().unwrap();
    assert!(first.unwrap() > 256 << 10, "began anew: {first:?}");
    watcher.until_finished().await;
    assert!(watcher.kept(1, hostile(0).address()));
    world.assert_money_adds_up().await;
}

async fn fault(peer: &mut Peer) -> String {
    loop {
        if let AggregatorMessage::Fault { reason } = peer.hear().await {
            return reason;
        }
    }
}

async fn send_delta_ordered(peer: &mut Peer) {
    loop {
        if let AggregatorMessage::Order(Order::SendDelta { .. }) = peer.hear().await {
            return;
        }
    }
}

//! Whole-system tests of the modes of rounds: real processes, real QUIC, a real chain.
#![allow(clippy::unwrap_used)]

mod common;

use convoke_protocol::ids::RoundId;
use convoke_protocol::message::{Notice, PhaseName};
use convoke_protocol::task::{AggregationMode, EXAMPLE_WEIGHT};

use self::common::{World, spec, trainer};

/// Two trainers with 80 images, and one with 50 times as many, whose work lasts over rounds. The
/// aggregator is killed on the way, and then the slow trainer.
#[tokio::test(flavor = "multi_thread")]
async fn a_buffered_task_finishes_with_a_slow_trainer_whose_updates_count() {
    let mut task = spec(3, 0, 16);
    task.training.steps_max = None;
    task.training.batch_size = 4;
    task.aggregation.mode = AggregationMode::Buffered;
    task.aggregation.buffer_size = 2;
    task.aggregation.staleness_max = 16;
    let mut world = World::start(task).await;
    let aggregator = world.aggregator(Some("filter:2"));
    let mut watcher = world.watch();
    let _fast = [0, 1].map(|index| {
        let from = 80 * usize::from(index);
        world.trainer_on(index, from..from + 80, &[])
    });
    let _slow = world.trainer_on(2, 1_000..5_000, &[]);
    world.until_paused(PhaseName::Filter, 2).await;
    aggregator.kill();
    let _aggregator = world.aggregator(None);
    let slow = trainer(2).address();
    let stored = |notice: &Notice| matches!(notice, Notice::UpdateStored { trainer, .. } if *trainer == slow);
    watcher.until("the slow trainer's update", stored).await;
    watcher.until_finished().await;
    assert_eq!(watcher.reports.len(), 16);
    let kept = watcher.reports.iter().flat_map(|report| &report.kept);
    let of_slow: Vec<_> = kept.filter(|kept| kept.trainer == slow).collect();
    let stale = |weight: u64| weight < 4_000 * EXAMPLE_WEIGHT;
    assert!(
        of_slow.iter().any(|kept| stale(kept.num_examples)),
        "{of_slow:?}"
    );
    assert!(!watcher.kept(1, slow), "its work lasts longer than a round");
    let refused = watcher.reports.iter().flat_map(|report| &report.refused);
    assert_eq!(refused.count(), 0, "{:?}", watcher.reports);
    assert_eq!(watcher.reports.last().unwrap().round, RoundId(16));
    world.assert_paid_as_the_chain_says(&watcher).await;
    world.assert_money_adds_up().await;
}

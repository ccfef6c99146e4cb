//! Whole-system tests of the modes of rounds: real processes, real QUIC, a real chain.
#![allow(clippy::unwrap_used)]

mod common;

use convoke_protocol::message::{Kept, Notice, PhaseName};
use convoke_protocol::task::{AggregationMode, EXAMPLE_WEIGHT};

use self::common::{World, convoke, spec, trainer};

/// What `convoke verify` says of a round with the aggregator's files: each check with its outcome.
fn verified(world: &World, round: u32) -> Vec<(String, String)> {
    let (task, round) = (world.task.to_string(), round.to_string());
    let mut command = convoke(&["verify", "--task", &task, "--round", &round]);
    command.args(["--format", "json", "--chain"]);
    command.arg(world.dir.path().join("chain.toml"));
    command.arg("--deltas");
    command.arg(world.dir.path().join("aggregator/blobs"));
    let output = command.output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |check: &serde_json::Value, field: &str| check[field].as_str().unwrap().to_owned();
    let checks = report["checks"].as_array().unwrap().iter();
    let rows: Vec<_> = checks
        .map(|check| (text(check, "check"), text(check, "outcome")))
        .collect();
    assert!(output.status.success(), "round {round}: {report:#}");
    rows
}

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
    let with_slow = watcher.reports.iter().find(|report| {
        let stale = |kept: &Kept| kept.trainer == slow && stale(kept.num_examples);
        report.kept.iter().any(stale)
    });
    let checks = verified(&world, with_slow.unwrap().round.0);
    for name in ["signatures", "weights", "step"] {
        assert!(
            checks.contains(&(name.into(), "holds".into())),
            "{checks:?}"
        );
    }
    world.assert_paid_as_the_chain_says(&watcher).await;
    world.assert_money_adds_up().await;
}

/// The aggregator is killed between the step and the result, and a trainer within a round.
#[tokio::test(flavor = "multi_thread")]
async fn control_variates_survive_kills_and_are_verified() {
    let mut task = spec(2, 0, 4);
    task.training.momentum = 0.0;
    task.training.control_variates = true;
    let mut world = World::start(task).await;
    let aggregator = world.aggregator(Some("settle:2"));
    let mut watcher = world.watch();
    let _stays = world.trainer(0, &[]);
    let killed = world.trainer(1, &[]);
    world.until_paused(PhaseName::Settle, 2).await;
    aggregator.kill();
    killed.kill();
    let _aggregator = world.aggregator(None);
    let _again = world.trainer(1, &[]);
    watcher.until_finished().await;
    let controls: Vec<_> = watcher
        .reports
        .iter()
        .map(|report| report.control)
        .collect();
    assert!(controls.iter().all(Option::is_some), "{controls:?}");
    assert!(controls.windows(2).all(|pair| pair[0] != pair[1]));
    for round in 1..=4 {
        let checks = verified(&world, round);
        let variate = ("control variate".into(), "holds".into());
        assert!(checks.contains(&variate), "round {round}: {checks:?}");
    }
    for index in 0..2 {
        assert!(watcher.kept(4, trainer(index).address()));
        let file = world
            .dir
            .path()
            .join(format!("trainer-{index}/control.json"));
        let text = std::fs::read_to_string(file).unwrap();
        let state: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(
            state["current"].is_string() && state["next"]["round"] == 4,
            "{text}"
        );
    }
    world.assert_money_adds_up().await;
}

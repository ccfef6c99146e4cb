//! `convoke verify` against a running federation, whose word it does not take.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};

use convoke_protocol::ids::RoundId;
use convoke_protocol::message::Notice;
use convoke_protocol::task::{CodecKind, ServerOptimizerKind};
use serde_json::Value;

use self::common::{World, convoke, spec};

/// Exit code of a verification in which something fails.
const FALSIFIED: i32 = 3;

struct Verified {
    code: i32,
    report: Value,
}

impl Verified {
    fn of(world: &World, more: &[&str]) -> Self {
        let (task, chain) = (world.task.to_string(), world.dir.path().join("chain.toml"));
        let mut command = convoke(&["verify", "--task", &task, "--round", "1"]);
        command.args(["--format", "json", "--chain"]).arg(chain);
        let output = command.args(more).output().unwrap();
        let (text, log) = (&output.stdout, String::from_utf8_lossy(&output.stderr));
        Self {
            code: output.status.code().unwrap(),
            report: serde_json::from_slice(text).unwrap_or_else(|_| panic!("{log}")),
        }
    }

    fn named(&self, outcome: &str) -> Vec<&str> {
        let checks = self.report["checks"].as_array().unwrap();
        let wanted = checks.iter().filter(|check| check["outcome"] == outcome);
        wanted.map(|c| c["check"].as_str().unwrap()).collect()
    }
}

/// The record of the first round, as the aggregator has it on disk.
async fn record(world: &World) -> PathBuf {
    let state = world.chain().await.round(world.task, RoundId(1)).await;
    let name = hex::encode(state.unwrap().result_hash.0);
    world.dir.path().join("aggregator/blobs").join(name)
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_round_holds_and_a_changed_record_does_not() {
    let mut spec = spec(2, 0, 2);
    spec.aggregation.rule = "multi_krum".into();
    spec.aggregation.server_optimizer = ServerOptimizerKind::Adam;
    spec.aggregation.server_lr = 0.01;
    spec.aggregation.server_momentum = 0.5;
    spec.compression.update = CodecKind::DctSign;
    spec.compression.keep_ppm = 100_000;
    spec.compression.checkpoint = CodecKind::Int8;
    let mut world = World::start(spec).await;
    let _aggregator = world.aggregator(None);
    let mut watcher = world.watch();
    let _trainers = [world.trainer(0, &[]), world.trainer(1, &[])];
    let settled = |notice: &Notice| matches!(notice, Notice::RoundSettled { .. });
    watcher.until("the first round is settled", settled).await;

    let address = world.aggregator_address();
    let honest = Verified::of(&world, &["--aggregator", &address]);
    assert_eq!(honest.code, 0, "{}", honest.report);
    assert!(honest.named("fails").is_empty());
    let holds = honest.named("holds");
    let of_step = ["server optimizer", "checkpoint", "step"];
    for check in ["proof (chain)", "proof (here)", "record"]
        .into_iter()
        .chain(of_step)
    {
        assert!(holds.contains(&check), "{check}: {}", honest.report);
    }
    // Whatever is not checkable, the sums of the step are.
    assert!(holds.len() >= 8, "{}", honest.report);

    let file = record(&world).await;
    let offline = Verified::of(&world, &["--record", path(&file)]);
    assert_eq!(offline.code, 0, "{}", offline.report);
    assert!(offline.named("not_checkable").len() > honest.named("not_checkable").len());

    let text = std::fs::read_to_string(&file).unwrap();
    let changed = world.dir.path().join("changed.json");
    std::fs::write(&changed, text.replacen("\"weight\":", "\"weight\":1", 1)).unwrap();
    let lie = Verified::of(&world, &["--record", path(&changed)]);
    assert_eq!(lie.code, FALSIFIED, "{}", lie.report);
    assert_eq!(lie.named("fails"), ["record"]);
}

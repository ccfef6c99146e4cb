//! Whole-system tests: real processes, real QUIC, a real chain. Each ends with the money
//! counted.
#![allow(clippy::unwrap_used)]

mod common;

use convoke_models::DeviceChoice;
use convoke_protocol::ids::RoundId;
use convoke_protocol::message::{Notice, PhaseName};
use convoke_protocol::task::{CodecKind, SplitKind};

use self::common::{World, spec, trainer, until, validator};

fn phase_began(phase: PhaseName, round: u32) -> impl FnMut(&Notice) -> bool {
    move |notice| {
        matches!(notice, Notice::PhaseBegan { phase: began, round: in_round, .. }
            if *began == phase && *in_round == RoundId(round))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregator_killed_in_each_phase_goes_on_where_it_was() {
    let mut spec = spec(2, 1, 7);
    // What was decoded of a delta must be there again, too.
    spec.compression.update = CodecKind::Int8;
    spec.compression.checkpoint = CodecKind::TopK;
    let mut world = World::start(spec).await;
    let phases = [
        PhaseName::Open,
        PhaseName::Train,
        PhaseName::Filter,
        PhaseName::Validate,
        PhaseName::Commit,
        PhaseName::Settle,
    ];
    let mut aggregator = world.aggregator(Some("open:2"));
    let mut watcher = world.watch();
    let _trainers = [world.trainer(0, &[]), world.trainer(1, &[])];
    let _validator = world.validator(0);
    for (phase, round) in phases.into_iter().zip(2u32..) {
        world.until_paused(phase, round).await;
        aggregator.kill();
        let next = phases
            .get(round as usize - 1)
            .map(|next| format!("{next}:{}", round + 1));
        aggregator = world.aggregator(next.as_deref());
    }
    watcher.until_finished().await;
    assert_eq!(watcher.reports.len(), 7);
    for (report, round) in watcher.reports.iter().zip(1..) {
        assert_eq!(report.round, RoundId(round));
        assert!(report.absent.is_empty(), "round {round}: {report:?}");
        assert_eq!(report.validators.len(), 1, "round {round}: {report:?}");
    }
    assert!(
        watcher
            .reports
            .windows(2)
            .all(|pair| pair[0].checkpoint == pair[1].base)
    );
    world.assert_paid_as_the_chain_says(&watcher).await;
    world.assert_money_adds_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_killed_within_a_round_comes_back_into_it() {
    let mut spec = spec(2, 0, 2);
    spec.compression.update = CodecKind::TopK;
    let mut world = World::start(spec).await;
    let _aggregator = world.aggregator(None);
    let mut watcher = world.watch();
    let _other = world.trainer(0, &[]);
    let killed = world.trainer(1, &[]);
    watcher
        .until("training", phase_began(PhaseName::Train, 1))
        .await;
    killed.kill();
    let _again = world.trainer(1, &[]);
    watcher.until_finished().await;
    for round in 1..=2 {
        assert!(
            watcher.kept(round, trainer(1).address()),
            "{:?}",
            watcher.reports
        );
    }
    world.assert_money_adds_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_killed_in_the_middle_of_training_goes_on_from_there() {
    let mut spec = spec(2, 0, 1);
    // Many small steps, which take seconds.
    spec.training.local_epochs = 100;
    spec.training.batch_size = 4;
    spec.training.client_lr = 1e-4;
    spec.training.steps_max = None;
    let mut world = World::start(spec).await;
    let _aggregator = world.aggregator(None);
    let mut watcher = world.watch();
    let _other = world.trainer(0, &[]);
    let killed = world.trainer(1, &["--snapshot-every", "0"]);
    let snapshot = world.dir.path().join("trainer-1/training.snapshot");
    until("a snapshot", || snapshot.exists()).await;
    killed.kill();
    let _again = world.trainer(1, &[]);
    watcher.until_finished().await;
    let address = trainer(1).address();
    assert!(watcher.kept(1, address), "{:?}", watcher.reports);
    let log = std::fs::read_to_string(world.log("trainer-1")).unwrap();
    assert!(log.contains("training goes on where it was"), "{log}");
    world.assert_money_adds_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_that_never_reveals_is_left_out_and_unpaid() {
    let mut task = spec(2, 2, 1);
    task.timing.score_timeout_s = 15;
    let mut world = World::start(task).await;
    let _aggregator = world.aggregator(None);
    let mut watcher = world.watch();
    let _trainers = [world.trainer(0, &[]), world.trainer(1, &[])];
    let _honest = world.validator(0);
    let withholding = convoke_validator::service::Config {
        wallet: validator(1),
        chain: world.book.clone(),
        task: world.task,
        aggregator: world.aggregator_address(),
        data: world.held_out(1),
        dir: world.dir.path().join("withholding"),
        device: DeviceChoice::Cpu,
        precision: None,
        threads: None,
        claim: false,
        withhold: true,
    };
    let silent = std::sync::Arc::new(|_| {});
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn(convoke_validator::service::run(withholding, silent, stop));
    watcher.until_finished().await;
    assert_eq!(watcher.reports[0].validators, [validator(0).address()]);
    running.await.unwrap().unwrap();
    let (chain, round) = (world.chain().await, RoundId(1));
    let pay = async |index: u8| {
        let account = validator(index).address();
        chain
            .direct_pay(world.task, round, account)
            .await
            .unwrap()
            .0
    };
    assert_eq!(pay(1).await, 0);
    // 100 of the 201 that committed, and it agrees with itself.
    let share = world.spec.reward.pool.0 * 2 / 10;
    assert_eq!(pay(0).await, share * 100 / 201);
    world.assert_money_adds_up().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_stake_is_told_what_to_do() {
    let mut task = spec(1, 0, 1);
    task.stake.trainer = convoke_protocol::ids::Amount(5);
    let mut world = World::start(task).await;
    let _aggregator = world.aggregator(None);
    let mut peer = common::hostile::Peer::join(&world, common::hostile(0)).await;
    let answer = peer.hear().await;
    let text = format!("{answer:?}");
    assert!(
        text.contains("Rejected") && text.contains("convoke stake deposit"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pay_by_rank_is_what_the_chain_holds_and_everyone_can_claim_it() {
    let mut task = spec(3, 1, 2);
    task.reward.split = SplitKind::Rank;
    task.reward.rank_decay_bps = 5_000;
    let mut world = World::start(task).await;
    let _aggregator = world.aggregator(None);
    let mut watcher = world.watch();
    let _trainers = [0, 1, 2].map(|index| world.trainer(index, &[]));
    let _validator = world.validator(0);
    watcher.until_finished().await;
    world.assert_paid_as_the_chain_says(&watcher).await;
    let chain = world.chain().await;
    let mut best = chain.payouts(world.task, RoundId(1)).await.unwrap();
    best.sort_by_key(|(_, amount)| std::cmp::Reverse(*amount));
    let ratio = best[0].1.0 as f64 / best[1].1.0 as f64;
    assert!((ratio - 2.0).abs() < 1e-6, "{best:?}");
    world.assert_all_can_be_claimed().await;
    world.assert_money_adds_up().await;
}

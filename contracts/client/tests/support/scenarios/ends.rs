//! Tasks that do not get to their end.

use convoke_client::{ChainError, Stage as RoundStage, TaskState};
use convoke_protocol::ids::{Amount, Digest, RoundId};

use crate::support::Endpoint;
use crate::support::stage::*;

/// Silence at every stage: the round fails, is tried again, and in the end the task is aborted
/// and everything comes back.
pub(crate) async fn time_outs(endpoint: &Endpoint) -> Vec<String> {
    let stage = Stage::set(endpoint).await;
    let terms = convoke_client::TaskTerms {
        attempts_max: 4,
        round_timeout_seconds: 100 * WINDOW,
        ..stage.terms()
    };
    let task = stage.post(&terms).await;
    let round = RoundId(1);
    let (aggregator, cohort) = (&stage.aggregator, stage.cohort());
    assert!(!stage.dora.tick(task).await.unwrap(), "nothing is due");

    // Nobody trains.
    let open = async || aggregator.open_round(task, round, BASE, &cohort).await;
    assert_eq!(open().await.unwrap(), 1);
    assert!(!stage.dora.tick(task).await.unwrap(), "not yet");
    stage.late().await;
    let late = aggregator.commit_updates(task, round, Digest([1; 32]), 1);
    let error = late.await.unwrap_err();
    assert_eq!(error.revert_name(), Some("StageOver"), "{error}");
    assert!(stage.dora.tick(task).await.unwrap());
    assert_eq!(stage.dora.open_round_key(task).await.unwrap(), None);

    // Nobody draws the seed.
    assert_eq!(open().await.unwrap(), 2);
    let root = Digest([1; 32]);
    aggregator
        .commit_updates(task, round, root, 1)
        .await
        .unwrap();
    stage.late().await;
    assert!(stage.dora.tick(task).await.unwrap());

    // One validator commits, and does not reveal.
    assert_eq!(open().await.unwrap(), 3);
    aggregator
        .commit_updates(task, round, root, 1)
        .await
        .unwrap();
    aggregator.draw_seed(task, round).await.unwrap();
    let commitment = stage.commitment(&stage.vera, task, round, &[10_000]).await;
    stage
        .vera
        .commit_scores(task, round, commitment)
        .await
        .unwrap();
    stage.late().await;
    assert!(stage.dora.tick(task).await.unwrap());
    let state = stage.dora.round(task, round).await.unwrap();
    assert_eq!((state.stage, state.committed), (RoundStage::Revealing, 1));
    stage.late().await;
    assert!(stage.dora.tick(task).await.unwrap());
    let state = stage.dora.round(task, round).await.unwrap();
    assert_eq!((state.stage, state.attempt), (RoundStage::None, 3));

    // The aggregator gives up the last attempt, and the task with it.
    assert_eq!(open().await.unwrap(), 4);
    for _ in 0..2 {
        aggregator.fail_round(task, round).await.unwrap();
    }
    assert!(stage.dora.tick(task).await.unwrap());
    assert!(!stage.dora.tick(task).await.unwrap());
    let error = open().await.unwrap_err();
    assert_eq!(error.revert_name(), Some("TaskNotActive"), "{error}");
    let state = stage.dora.task(task).await.unwrap().state;
    assert_eq!(state, TaskState::Aborted);
    assert_eq!(stage.dora.refund(task).await.unwrap(), REWARD);
    stage.money_adds_up(task).await;

    // A task without any progress.
    let silent = stage.post(&stage.terms()).await;
    stage.endpoint.pass(TIMEOUT.into()).await;
    assert!(stage.dora.tick(silent).await.unwrap());
    let state = stage.dora.task(silent).await.unwrap().state;
    assert_eq!(state, TaskState::Aborted);
    stage.record().await
}

/// Top-ups, a task that is taken back, and one whose rounds were opened.
pub(crate) async fn cancelled_and_funded(endpoint: &Endpoint) -> Vec<String> {
    let stage = Stage::set(endpoint).await;
    let creator = &stage.creator;
    let task = creator.create_task(&stage.terms(), FILE).await.unwrap();
    let all = stage.tokens(address(&stage.dora)).await;
    let pool = stage.dora.fund(task, Amount(5)).await.unwrap();
    assert_eq!(pool, Amount(REWARD.0 / 2 + 2), "the dust is in escrow");
    assert_reverts(stage.dora.fund(task, Amount::ZERO).await, "ZeroAmount");
    let too_much = stage.dora.fund(task, SUPPLY).await;
    assert!(matches!(too_much, Err(ChainError::NotEnoughTokens { .. })));
    assert_eq!(
        all.checked_sub(Amount(5)),
        Some(stage.tokens(address(&stage.dora)).await)
    );
    assert_reverts(stage.dora.cancel(task).await, "NotTheCreator");
    assert_eq!(creator.cancel(task).await.unwrap(), Amount(REWARD.0 + 5));
    assert_eq!(creator.cancel(task).await.unwrap(), Amount::ZERO);
    assert_reverts(stage.dora.fund(task, Amount(5)).await, "WrongState");
    assert_eq!(stage.dora.refund(task).await.unwrap(), Amount::ZERO);

    let opened = stage.post(&stage.terms()).await;
    stage.train(opened, RoundId(1)).await;
    assert_reverts(creator.cancel(opened).await, "NotCancellable");
    assert_reverts(creator.finish(opened).await, "RoundsRemaining");
    // Stake that is requested back stays while the round is open.
    stage.alice.request_withdrawal(opened, STAKE).await.unwrap();
    let record = stage.bob.stake(opened, address(&stage.alice)).await;
    let lock = record.unwrap().unwrap().locked_by.unwrap();
    assert_eq!((lock.round, lock.attempt), (RoundId(1), 1));
    stage.endpoint.pass(UNBONDING.into()).await;
    assert_reverts(stage.alice.withdraw_stake(opened).await, "StakeLocked");
    assert!(stage.dora.tick(opened).await.unwrap());
    assert_eq!(stage.alice.withdraw_stake(opened).await.unwrap(), STAKE);
    stage.record().await
}

impl Stage<'_> {
    async fn late(&self) {
        self.endpoint.pass(u64::from(WINDOW) + 1).await;
    }
}

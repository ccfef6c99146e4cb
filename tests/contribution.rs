//! A task that pays by Shapley value, from task file to chain.
#![allow(clippy::unwrap_used)]

mod common;

use convoke_protocol::factors::FACTOR_ONE;
use convoke_protocol::ids::RoundId;
use convoke_protocol::task::ScoreMethod;

use self::common::{World, spec, trainer};

#[tokio::test(flavor = "multi_thread")]
async fn shapley_values_pay_the_honest_and_no_free_rider() {
    let mut task = spec(4, 1, 1);
    task.contribution.method = ScoreMethod::GtgShapley;
    task.contribution.evaluations_max = 12;
    let mut world = World::start(task).await;
    let _aggregator = world.aggregator(None);
    let mut watcher = world.watch();
    let _honest = [0, 1, 2].map(|index| world.trainer(index, &[]));
    let _free_rider = world.trainer(3, &["--persona", "free_rider"]);
    let _validator = world.validator(0);
    watcher.until_finished().await;
    // Its pay is little by any method; that it was this one, the validator says.
    let log = std::fs::read_to_string(world.log("validator-0")).unwrap();
    assert!(log.contains("updates valued round=1 evaluations="), "{log}");
    let report = &watcher.reports[0];
    let factor = |index: u8| {
        let address = trainer(index).address();
        let kept = report.kept.iter().find(|kept| kept.trainer == address);
        kept.map_or(0, |kept| kept.factor)
    };
    let honest = [0, 1, 2].map(factor);
    let lowest = *honest.iter().min().unwrap();
    assert!(lowest > FACTOR_ONE / 4, "{report:?}");
    assert!(factor(3) < lowest / 2, "{report:?}");
    let chain = world.chain().await;
    let payouts = chain.payouts(world.task, RoundId(1)).await.unwrap();
    let pay = |index: u8| {
        let address = trainer(index).address();
        let paid = payouts.iter().find(|(account, _)| *account == address);
        paid.map_or(0, |(_, amount)| amount.0)
    };
    let least = [0, 1, 2].map(pay).into_iter().min().unwrap();
    assert!(least > 0 && pay(3) < least / 100, "{payouts:?}");
    world.assert_paid_as_the_chain_says(&watcher).await;
    world.assert_money_adds_up().await;
}

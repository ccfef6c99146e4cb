//! Transactions as such.

use convoke_client::{AddressBook, Chain, ChainError};
use convoke_protocol::ids::{Address, Amount, Role, RoundId, TaskId};

use crate::support::Endpoint;
use crate::support::proxy::losing_answers;
use crate::support::stage::*;

/// Fifty at once from clones of one connection, and ten from another of the same wallet.
pub(crate) async fn at_once(endpoint: &Endpoint) -> Vec<String> {
    let stage = Stage::set(endpoint).await;
    let to = Address([0x77; 20]);
    let second = Chain::connect(&stage.book, Some(&wallet(1))).await.unwrap();
    let sends: Vec<_> = (1..=60)
        .map(|amount| {
            let chain = if amount % 6 == 0 {
                second.clone()
            } else {
                stage.creator.clone()
            };
            tokio::spawn(async move { chain.transfer_token(to, Amount(amount)).await })
        })
        .collect();
    for send in sends {
        send.await.unwrap().unwrap();
    }
    assert_eq!(stage.tokens(to).await, Amount(60 * 61 / 2));
    // One that is refused holds up none of the others.
    let refused = stage.creator.transfer_token(to, SUPPLY);
    let sent = stage.creator.transfer_token(to, Amount(1));
    let (refused, sent) = tokio::join!(refused, sent);
    assert_reverts(refused, "ERC20InsufficientBalance");
    sent.unwrap();
    stage.record().await
}

/// A line that loses answers: every transaction arrives once all the same.
pub(crate) async fn lost_answers(endpoint: &Endpoint) -> Vec<String> {
    let stage = Stage::set(endpoint).await;
    let to = Address([0x78; 20]);
    for method in [
        "eth_sendRawTransaction",
        "eth_getTransactionReceipt",
        "eth_estimateGas",
        "eth_getTransactionCount",
    ] {
        let rpc = losing_answers(endpoint.rpc.clone(), method, 2).await;
        let book = AddressBook {
            rpc,
            ..stage.book.clone()
        };
        let chain = Chain::connect(&book, Some(&wallet(1))).await.unwrap();
        chain.transfer_token(to, Amount(1)).await.unwrap();
    }
    assert_eq!(stage.tokens(to).await, Amount(4));
    stage.record().await
}

/// What would be sent and what it would cost; nothing is sent.
pub(crate) async fn previews(endpoint: &Endpoint) -> Vec<String> {
    let stage = Stage::set(endpoint).await;
    let creator = &stage.creator;
    let before = stage.bob.latest_block().await.unwrap();
    let terms = stage.terms();
    let previews = creator
        .preview(|chain| async move { chain.create_task(&terms, FILE).await })
        .await
        .unwrap();
    let calls: Vec<_> = previews.iter().map(|p| p.call.as_str()).collect();
    assert_eq!(calls, ["approve", "createTask"]);
    for preview in &previews {
        assert_eq!(preview.refused, None, "the approval counts for the second");
        assert!(preview.gas.unwrap() > 21_000 && preview.fee_wei_max.unwrap() > Amount::ZERO);
    }
    assert_eq!(previews[1].to, Some(stage.book.task_manager));
    assert_eq!(stage.bob.latest_block().await.unwrap(), before, "not sent");

    let task = stage.post(&stage.terms()).await;
    let sent = stage.bob.latest_block().await.unwrap();
    let refused = stage
        .alice
        .preview(|chain| async move { chain.deposit_stake(task, Role::Validator, STAKE).await })
        .await
        .unwrap();
    let words = refused.last().unwrap().refused.clone().unwrap();
    assert_eq!(
        words,
        "RoleTaken (the address is a trainer in this task and cannot be a validator)"
    );
    // Also of calls that look first and of those that make a transaction of their own.
    let cohort = stage.cohort();
    let opening = stage
        .aggregator
        .preview(|chain| async move { chain.open_round(task, RoundId(1), BASE, &cohort).await })
        .await
        .unwrap();
    assert_eq!(opening.len(), 1);
    let nothing = creator
        .preview(|chain| async move { chain.claim_rewards(task, cohort[0], cohort[1]).await })
        .await
        .unwrap();
    assert!(
        nothing[0]
            .refused
            .as_ref()
            .unwrap()
            .starts_with("NoRewards")
    );
    let unknown = creator
        .preview(|chain| async move { chain.refund(TaskId(99)).await })
        .await;
    assert_eq!(unknown, Err(ChainError::UnknownTask { task: TaskId(99) }));
    let coin = creator
        .preview(|chain| async move { chain.transfer_native(cohort[0], Amount(7)).await })
        .await
        .unwrap();
    assert_eq!((coin[0].value_wei, coin[0].gas), (Amount(7), Some(25_200)));
    assert_eq!(stage.bob.latest_block().await.unwrap(), sent, "not sent");
    stage.record().await
}

//! Claiming pay: the aggregator names the payouts of each round, the contract's root proves
//! them, and what is not claimed yet is claimed in one transaction.

use std::collections::BTreeMap;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use convoke_client::{Chain, ChainError, Claim};
use convoke_protocol::ids::{Address, Amount, Digest, RoundId, TaskId};
use convoke_protocol::message::{AggregatorMessage, NodeMessage};
use convoke_protocol::payout::{MerkleTree, Payout};

use crate::error::NodeError;
use crate::link::{Link, LinkEvent};

/// Gathers the payouts of a task's settled rounds and claims one account's part.
#[derive(Debug)]
pub struct Claims {
    chain: Chain,
    task: TaskId,
    account: Address,
    /// Rounds whose payouts are still to be heard from the aggregator, with their roots.
    wanted: BTreeMap<RoundId, Digest>,
    claims: Vec<Claim>,
}

impl Claims {
    /// Finds the settled rounds that `account` has not claimed from yet.
    ///
    /// # Errors
    /// [`NodeError::Chain`].
    pub async fn prepare(chain: &Chain, task: TaskId, account: Address) -> Result<Self, NodeError> {
        let settled = chain.task(task).await?.rounds_settled;
        let mut wanted = BTreeMap::new();
        for round in (1..=settled).map(RoundId) {
            if chain.claimed(task, round, account).await? {
                continue;
            }
            if let Some(result) = chain.round_result(task, round).await? {
                wanted.insert(round, result.submission.payouts_root);
            }
        }
        Ok(Self {
            chain: chain.clone(),
            task,
            account,
            wanted,
            claims: Vec::new(),
        })
    }

    /// The next round to ask the aggregator about; `None` once all answers are in.
    #[must_use]
    pub fn next_wanted(&self) -> Option<RoundId> {
        self.wanted.keys().next().copied()
    }

    /// Takes an answer of the aggregator, checked against the root on chain.
    ///
    /// # Errors
    /// [`NodeError::Payouts`] if it is not what the contract holds.
    pub fn hear(&mut self, round: RoundId, payouts: &[Payout]) -> Result<(), NodeError> {
        let Some(root) = self.wanted.get(&round) else {
            return Ok(());
        };
        let tree = MerkleTree::of_payouts(&self.chain.domain(), self.task, round, payouts);
        if tree.root() != *root {
            return Err(NodeError::Payouts(round));
        }
        self.wanted.remove(&round);
        let mine = payouts
            .iter()
            .enumerate()
            .filter(|(_, p)| p.account == self.account);
        self.claims.extend(mine.filter_map(|(index, payout)| {
            let proof = tree.proof(index)?;
            Some(Claim {
                round,
                account: payout.account,
                amount: payout.amount,
                proof,
            })
        }));
        Ok(())
    }

    /// Claims what has been heard, waiting for a dispute window that is still open. Gives what
    /// was paid at once; the vesting part is booked by the contract.
    ///
    /// # Errors
    /// [`NodeError::Chain`], if the chain refuses for good.
    pub async fn submit(self) -> Result<Amount, NodeError> {
        if self.claims.is_empty() {
            return Ok(Amount::ZERO);
        }
        let claim = || self.chain.claim_many(self.task, &self.claims);
        let paid = claim
            .retry(patience())
            .sleep(tokio::time::sleep)
            .when(ChainError::retryable)
            .notify(|error, after| tracing::debug!(%error, ?after, "claim put off"))
            .await?;
        Ok(paid)
    }
}

/// Asks the aggregator, over the link, for the payouts of all settled rounds, and claims this
/// node's part. Survives broken connections.
///
/// # Errors
/// [`NodeError`] if link or chain fail for good, or if the aggregator's lists are not those
/// that the contract holds.
pub async fn claim_pay(
    link: &mut Link,
    chain: &Chain,
    task: TaskId,
    account: Address,
) -> Result<Amount, NodeError> {
    let mut claims = Claims::prepare(chain, task, account).await?;
    let handle = link.handle();
    while let Some(round) = claims.next_wanted() {
        handle.send(&NodeMessage::PayoutsWanted { round }).await;
        while claims.next_wanted() == Some(round) {
            match link.next().await? {
                LinkEvent::Message(AggregatorMessage::Payouts { round, payouts }) => {
                    claims.hear(round, &payouts)?;
                }
                // What was asked before a break is lost: ask again.
                LinkEvent::Connected { .. } => break,
                LinkEvent::Message(_) | LinkEvent::Disconnected { .. } => {}
            }
        }
    }
    claims.submit().await
}

/// Every quarter of a second at first, every half minute in the end, for as long as it takes.
fn patience() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(30))
        .with_jitter()
        .without_max_times()
}

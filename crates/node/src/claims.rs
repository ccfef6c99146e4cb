//! Claiming pay. The chain alone says what is due: trainers' payouts are in the log of their round
//! and proven against its root, validators' and the aggregator's pay is booked by the contract.

use convoke_client::{Chain, ChainError, Claim, patiently};
use convoke_protocol::ids::{Address, Amount, RoundId, TaskId};
use convoke_protocol::payout::MerkleTree;

use crate::error::NodeError;

/// Claims what `account` has not claimed of a task's settled rounds, in whatever role, waiting
/// for a dispute window that is still open; and what has vested, once the task has ended. Gives
/// what was paid by this call, the parts of delegators included.
///
/// # Errors
/// [`NodeError::Chain`], if the chain refuses for good.
pub async fn claim_pay(chain: &Chain, task: TaskId, account: Address) -> Result<Amount, NodeError> {
    let claim = || async {
        let claims = outstanding(chain, task, account).await?;
        if claims.is_empty() {
            return Ok(Amount::ZERO);
        }
        chain.claim_many(task, &claims).await
    };
    let paid = patiently(claim).await?;
    let released = patiently(|| release(chain, task, account)).await?;
    Ok(Amount(paid.0.saturating_add(released.0)))
}

/// What `account` has not claimed of the task's settled rounds, oldest first. Direct pay has the
/// amount 0 and no proof.
///
/// # Errors
/// Those of any read.
pub async fn outstanding(
    chain: &Chain,
    task: TaskId,
    account: Address,
) -> Result<Vec<Claim>, ChainError> {
    let settled = chain.task(task).await?.rounds_settled;
    let mut claims = Vec::new();
    for round in (1..=settled).map(RoundId) {
        claims.extend(payout(chain, task, round, account).await?);
        let pay = chain.direct_pay(task, round, account).await?;
        if pay > Amount::ZERO && !chain.direct_claimed(task, round, account).await? {
            claims.push(Claim {
                round,
                account,
                amount: Amount::ZERO,
                proof: Vec::new(),
            });
        }
    }
    Ok(claims)
}

/// A trainer's payout with its proof, unless it was claimed.
async fn payout(
    chain: &Chain,
    task: TaskId,
    round: RoundId,
    account: Address,
) -> Result<Option<Claim>, ChainError> {
    if chain.claimed(task, round, account).await? {
        return Ok(None);
    }
    let payouts = chain.payouts(task, round).await?;
    let Some(index) = payouts.iter().position(|(paid, _)| *paid == account) else {
        return Ok(None);
    };
    let tree = MerkleTree::of_payouts(&chain.domain(), task, round, &payouts);
    Ok(tree.proof(index).map(|proof| Claim {
        round,
        account,
        amount: payouts[index].1,
        proof,
    }))
}

/// Takes what has vested, if the task has ended.
async fn release(chain: &Chain, task: TaskId, account: Address) -> Result<Amount, ChainError> {
    let ended = chain.task(task).await?.state.has_ended();
    if !ended || chain.vesting_of(task, account).await? == Amount::ZERO {
        return Ok(Amount::ZERO);
    }
    chain.release_vested(task, account).await
}

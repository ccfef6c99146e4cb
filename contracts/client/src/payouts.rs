//! Pay: trainers claim by Merkle proof, validators and the aggregator directly; what vests is
//! released after the task's end.

use alloy::primitives::B256;
use convoke_protocol::ids::{Address, Amount, RoundId, TaskId};

use crate::abi::eth;
use crate::abi::task_manager::{ITaskManagerTypes, TaskManager};
use crate::sending::{event, events};
use crate::{Chain, ChainError, Claim};

/// Most claims in one transaction, so that it stays well below the gas ceiling.
const CLAIMS_PER_CALL_MAX: usize = 64;

impl Chain {
    /// Claims many payouts, of any accounts, direct pay included, and returns what was paid by
    /// this call, the parts of delegators included. Payouts claimed before are passed over.
    /// Claims of one account side by side are cheaper.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `InvalidProof`, `DisputeWindowOpen`, `RoundNotSettled`,
    /// `NothingToClaim`, `ClaimAboveRoundTotal`; errors of any transaction. Each 64 claims are one transaction, and
    /// those before the failing one stand: call again with all of them.
    pub async fn claim_many(&self, task: TaskId, claims: &[Claim]) -> Result<Amount, ChainError> {
        let mut paid = Amount::ZERO;
        for batch in claims.chunks(CLAIMS_PER_CALL_MAX) {
            let call = TaskManager::claimManyCall {
                id: task.0,
                batch: batch.iter().map(claim_of).collect(),
            };
            let receipt = match self.link().send(self.book().task_manager, &call).await {
                // Batches do not depend on one another.
                Err(ChainError::Previewed) => continue,
                sent => sent?,
            };
            let events = events::<TaskManager::PayoutClaimed>(&receipt, self.book().task_manager);
            let now: Amount = events.map(|event| Amount(event.paidNow)).sum();
            paid = paid
                .checked_add(now)
                .ok_or_else(|| ChainError::AmountTooLarge {
                    value: format!("{paid} + {now}"),
                })?;
        }
        Ok(paid)
    }

    /// Claims one trainer's payout and returns what was paid, the delegators' part included; the
    /// rest vests.
    ///
    /// # Errors
    /// As [`Chain::claim_many`], and `AlreadyClaimed` the second time.
    pub async fn claim(&self, task: TaskId, claim: &Claim) -> Result<Amount, ChainError> {
        let claim = claim_of(claim);
        let call = TaskManager::claimCall {
            id: task.0,
            round: claim.round,
            account: claim.account,
            amount: claim.amount,
            proof: claim.proof,
        };
        let receipt = self.link().send(self.book().task_manager, &call).await?;
        event::<TaskManager::PayoutClaimed>(&receipt, self.book().task_manager)
            .map(|event| Amount(event.paidNow))
    }

    /// Claims a validator's or the aggregator's pay for one round, and returns what was paid, the
    /// delegators' part included; the rest vests.
    ///
    /// # Errors
    /// As [`Chain::claim`].
    pub async fn claim_direct(
        &self,
        task: TaskId,
        round: RoundId,
        account: Address,
    ) -> Result<Amount, ChainError> {
        let call = TaskManager::claimDirectCall {
            id: task.0,
            round: round.0,
            account: eth(account),
        };
        let receipt = self.link().send(self.book().task_manager, &call).await?;
        event::<TaskManager::PayoutClaimed>(&receipt, self.book().task_manager)
            .map(|event| Amount(event.paidNow))
    }

    /// Whether a trainer's payout was claimed.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn claimed(
        &self,
        task: TaskId,
        round: RoundId,
        account: Address,
    ) -> Result<bool, ChainError> {
        let call = TaskManager::claimedCall {
            id: task.0,
            round: round.0,
            account: eth(account),
        };
        self.link().call(self.book().task_manager, &call).await
    }

    /// Whether a validator's or the aggregator's pay was claimed.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn direct_claimed(
        &self,
        task: TaskId,
        round: RoundId,
        account: Address,
    ) -> Result<bool, ChainError> {
        let call = TaskManager::directClaimedCall {
            id: task.0,
            round: round.0,
            account: eth(account),
        };
        self.link().call(self.book().task_manager, &call).await
    }

    /// What an account has vesting in a task.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn vesting_of(&self, task: TaskId, account: Address) -> Result<Amount, ChainError> {
        let call = TaskManager::vestingOfCall {
            id: task.0,
            account: eth(account),
        };
        self.link()
            .call(self.book().task_manager, &call)
            .await
            .map(Amount)
    }

    /// Pays `account` what has vested, once the task has ended, and returns it. Anyone.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `WrongState`, `NothingVested`; errors of any transaction.
    pub async fn release_vested(
        &self,
        task: TaskId,
        account: Address,
    ) -> Result<Amount, ChainError> {
        let call = TaskManager::releaseVestedCall {
            id: task.0,
            account: eth(account),
        };
        let receipt = self.link().send(self.book().task_manager, &call).await?;
        event::<TaskManager::VestingReleased>(&receipt, self.book().task_manager)
            .map(|event| Amount(event.amount))
    }
}

fn claim_of(claim: &Claim) -> ITaskManagerTypes::Claim {
    ITaskManagerTypes::Claim {
        round: claim.round.0,
        account: eth(claim.account),
        amount: claim.amount.0,
        proof: claim.proof.iter().map(|node| B256::from(node.0)).collect(),
    }
}

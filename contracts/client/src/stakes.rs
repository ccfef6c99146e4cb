//! Stake: deposit, request, withdraw.

use convoke_protocol::ids::{Address, Amount, Role, TaskId};

use crate::abi::eth;
use crate::abi::stake_manager::StakeManager;
use crate::sending::event;
use crate::types::role_of_chain;
use crate::{Chain, ChainError, StakeRecord};

impl Chain {
    /// Stakes `amount` base units more, and approves the transfer first. The stake must then
    /// reach the task's minimum for the role.
    ///
    /// # Errors
    /// [`ChainError::NotEnoughTokens`]; [`ChainError::Reverted`] with `RoleTaken`,
    /// `StakeBelowMinimum`, `TaskNotActive`, `NotTheAggregator`; errors of any transaction.
    pub async fn deposit_stake(
        &self,
        task: TaskId,
        role: Role,
        amount: Amount,
    ) -> Result<(), ChainError> {
        let role = role.on_chain().ok_or(ChainError::NoStakeForObservers)?;
        self.approve(self.book().stake_manager, amount).await?;
        let call = StakeManager::depositCall {
            task: task.0,
            role,
            amount: amount.0,
        };
        self.link().send(self.book().stake_manager, &call).await?;
        Ok(())
    }

    /// Starts the unbonding of `amount` base units; the task must have ended. Returns when it
    /// can be withdrawn, in Unix seconds.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `TaskStillActive`, `StakeTooSmall`; errors of any transaction.
    pub async fn request_withdrawal(
        &self,
        task: TaskId,
        amount: Amount,
    ) -> Result<u64, ChainError> {
        let call = StakeManager::requestWithdrawalCall {
            task: task.0,
            amount: amount.0,
        };
        let receipt = self.link().send(self.book().stake_manager, &call).await?;
        event::<StakeManager::WithdrawalRequested>(&receipt, self.book().stake_manager)
            .map(|event| event.availableAt)
    }

    /// Pays the wallet what has unbonded, and returns it.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `StillUnbonding`, `NothingRequested`; errors of any
    /// transaction.
    pub async fn withdraw_stake(&self, task: TaskId) -> Result<Amount, ChainError> {
        let call = StakeManager::withdrawCall { task: task.0 };
        let receipt = self.link().send(self.book().stake_manager, &call).await?;
        event::<StakeManager::StakeWithdrawn>(&receipt, self.book().stake_manager)
            .map(|event| Amount(event.amount))
    }

    /// What backs a task, and in which role; `None` when nothing does.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn stake_of(
        &self,
        task: TaskId,
        account: Address,
    ) -> Result<Option<(Role, Amount)>, ChainError> {
        let record = self.stake_record(task, account).await?;
        Ok(record
            .filter(|r| r.amount > Amount::ZERO)
            .map(|r| (r.role, r.amount)))
    }

    /// A stake with what unbonds; `None` when there is nothing of either.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn stake_record(
        &self,
        task: TaskId,
        account: Address,
    ) -> Result<Option<StakeRecord>, ChainError> {
        let call = StakeManager::stakeRecordCall {
            task: task.0,
            account: eth(account),
        };
        let stake = self.link().call(self.book().stake_manager, &call).await?;
        if stake.amount == 0 && stake.unbonding == 0 {
            return Ok(None);
        }
        let role = role_of_chain(stake.role)
            .ok_or_else(|| ChainError::Unexpected(format!("stake in role {}", stake.role)))?;
        Ok(Some(StakeRecord {
            role,
            amount: Amount(stake.amount),
            unbonding: Amount(stake.unbonding),
            available_at: Some(stake.availableAt).filter(|at| *at != 0),
        }))
    }

    /// Seconds between request and withdrawal of stake; the longest dispute window of any task.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn unbonding_seconds(&self) -> Result<u32, ChainError> {
        self.link()
            .call(self.book().stake_manager, &StakeManager::unbondingCall {})
            .await
    }
}

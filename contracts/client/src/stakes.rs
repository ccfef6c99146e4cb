//! Stake and delegation: deposit, request, withdraw, rewards.

use convoke_protocol::ids::{Address, Amount, Role, TaskId};

use crate::abi::eth;
use crate::abi::stake_manager::StakeManager;
use crate::sending::event;
use crate::types::{role_of_chain, time};
use crate::{
    Chain, ChainError, DelegationRecord, NextCommission, PoolRecord, RoundKey, Shares, StakeRecord,
};

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

    /// Starts the unbonding of `amount` base units, which stop counting at once. A second request
    /// restarts the wait for what the first asked for. Returns when it can be withdrawn, in Unix
    /// seconds.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `StakeTooSmall`, `ZeroAmount`; errors of any transaction.
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
    /// [`ChainError::Reverted`] with `StillUnbonding`, `StakeLocked`, `NothingRequested`; errors
    /// of any transaction.
    pub async fn withdraw_stake(&self, task: TaskId) -> Result<Amount, ChainError> {
        let call = StakeManager::withdrawCall { task: task.0 };
        let receipt = self.link().send(self.book().stake_manager, &call).await?;
        event::<StakeManager::StakeWithdrawn>(&receipt, self.book().stake_manager)
            .map(|event| Amount(event.amount))
    }

    /// Sets what the wallet keeps of its delegators' rewards, in basis points: a lower commission
    /// at once, a higher one after the notice period. Returns from when it holds, in Unix seconds.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `CommissionTooHigh`, `NotAnOperator`; errors of any
    /// transaction.
    pub async fn set_commission(&self, task: TaskId, bps: u16) -> Result<u64, ChainError> {
        let call = StakeManager::setCommissionCall {
            task: task.0,
            commissionBps: bps,
        };
        let receipt = self.link().send(self.book().stake_manager, &call).await?;
        event::<StakeManager::CommissionChanged>(&receipt, self.book().stake_manager)
            .map(|event| event.from)
    }

    /// Delegates `amount` base units to an operator, and approves the transfer first. It joins the
    /// pool after the warm-up; a further call adds to what waits and restarts the wait. Returns
    /// when it may join, in Unix seconds.
    ///
    /// # Errors
    /// [`ChainError::NotEnoughTokens`]; [`ChainError::Reverted`] with `NotAnOperator`,
    /// `SelfDelegation`, `TaskNotActive`; errors of any transaction.
    pub async fn delegate(
        &self,
        task: TaskId,
        operator: Address,
        amount: Amount,
    ) -> Result<u64, ChainError> {
        self.approve(self.book().stake_manager, amount).await?;
        let call = StakeManager::delegateCall {
            task: task.0,
            operator: eth(operator),
            amount: amount.0,
        };
        let receipt = self.link().send(self.book().stake_manager, &call).await?;
        event::<StakeManager::Delegated>(&receipt, self.book().stake_manager)
            .map(|event| event.activeAt)
    }

    /// Lets a delegation that is due join the pool. Anyone. Returns its shares.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `NotActiveYet`, `NothingPending`; errors of any transaction.
    pub async fn activate_delegation(
        &self,
        task: TaskId,
        operator: Address,
        delegator: Address,
    ) -> Result<Shares, ChainError> {
        let call = StakeManager::activateCall {
            task: task.0,
            operator: eth(operator),
            delegator: eth(delegator),
        };
        let receipt = self.link().send(self.book().stake_manager, &call).await?;
        event::<StakeManager::DelegationActivated>(&receipt, self.book().stake_manager)
            .map(|event| Shares(event.shares))
    }

    /// Takes back what has not joined the pool yet, and returns it.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `NothingPending`; errors of any transaction.
    pub async fn cancel_delegation(
        &self,
        task: TaskId,
        operator: Address,
    ) -> Result<Amount, ChainError> {
        let call = StakeManager::cancelDelegationCall {
            task: task.0,
            operator: eth(operator),
        };
        let receipt = self.link().send(self.book().stake_manager, &call).await?;
        event::<StakeManager::DelegationCancelled>(&receipt, self.book().stake_manager)
            .map(|event| Amount(event.amount))
    }

    /// Starts the unbonding of `shares`, which stop earning at once. Returns what they are worth
    /// now, and when they can be withdrawn, in Unix seconds.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `SharesTooFew`; errors of any transaction.
    pub async fn undelegate(
        &self,
        task: TaskId,
        operator: Address,
        shares: Shares,
    ) -> Result<(Amount, u64), ChainError> {
        let call = StakeManager::undelegateCall {
            task: task.0,
            operator: eth(operator),
            shares: shares.0,
        };
        let receipt = self.link().send(self.book().stake_manager, &call).await?;
        event::<StakeManager::UndelegationRequested>(&receipt, self.book().stake_manager)
            .map(|event| (Amount(event.amount), event.availableAt))
    }

    /// Pays the wallet what of its delegation has unbonded, and returns it.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `StillUnbonding`, `StakeLocked`, `NothingRequested`; errors
    /// of any transaction.
    pub async fn withdraw_delegation(
        &self,
        task: TaskId,
        operator: Address,
    ) -> Result<Amount, ChainError> {
        let call = StakeManager::withdrawDelegationCall {
            task: task.0,
            operator: eth(operator),
        };
        let receipt = self.link().send(self.book().stake_manager, &call).await?;
        event::<StakeManager::DelegationWithdrawn>(&receipt, self.book().stake_manager)
            .map(|event| Amount(event.amount))
    }

    /// Pays a delegator its rewards, and returns them; nothing if none are due. Anyone.
    ///
    /// # Errors
    /// Errors of any transaction.
    pub async fn claim_rewards(
        &self,
        task: TaskId,
        operator: Address,
        delegator: Address,
    ) -> Result<Amount, ChainError> {
        let call = StakeManager::claimRewardsCall {
            task: task.0,
            operator: eth(operator),
            delegator: eth(delegator),
        };
        match self.link().send(self.book().stake_manager, &call).await {
            Ok(receipt) => {
                event::<StakeManager::RewardsClaimed>(&receipt, self.book().stake_manager)
                    .map(|event| Amount(event.amount))
            }
            Err(error) if error.revert_name() == Some("NoRewards") => Ok(Amount::ZERO),
            Err(error) => Err(error),
        }
    }

    /// The own stake that backs a task, and in which role; `None` when there is none.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn stake_of(
        &self,
        task: TaskId,
        account: Address,
    ) -> Result<Option<(Role, Amount)>, ChainError> {
        let record = self.stake(task, account).await?;
        Ok(record
            .filter(|r| r.amount > Amount::ZERO)
            .map(|r| (r.role, r.amount)))
    }

    /// An own stake with what unbonds; `None` when there is nothing of either.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn stake(
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
            available_at: time(stake.availableAt),
            locked_by: RoundKey::of_chain(stake.lockedBy),
        }))
    }

    /// What an account weighs in a task: its own stake and its delegators', the latter up to the
    /// cap, rounded down.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn effective_stake(
        &self,
        task: TaskId,
        account: Address,
    ) -> Result<Amount, ChainError> {
        let call = StakeManager::effectiveStakeDownCall {
            task: task.0,
            account: eth(account),
        };
        self.link()
            .call(self.book().stake_manager, &call)
            .await
            .map(Amount)
    }

    /// What is delegated to an operator.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn pool(&self, task: TaskId, operator: Address) -> Result<PoolRecord, ChainError> {
        let (link, manager) = (self.link(), self.book().stake_manager);
        let (task, operator) = (task.0, eth(operator));
        let pool_call = StakeManager::poolOfCall { task, operator };
        let now_call = StakeManager::commissionOfCall { task, operator };
        let (pool, commission_bps) = tokio::try_join!(
            link.call(manager, &pool_call),
            link.call(manager, &now_call)
        )?;
        // A change that is in force already is only written down at the next one.
        let next_commission = time(pool.nextCommissionAt)
            .filter(|_| pool.nextCommissionBps != commission_bps)
            .map(|at| NextCommission {
                bps: pool.nextCommissionBps,
                at,
            });
        Ok(PoolRecord {
            assets: Amount(pool.assets),
            unbonding_assets: Amount(pool.unbondingAssets),
            shares: Shares(pool.shares),
            unbonding_shares: Shares(pool.unbondingShares),
            commission_bps,
            next_commission,
        })
    }

    /// One delegator's part of a pool; all zero if it has none.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn delegation(
        &self,
        task: TaskId,
        operator: Address,
        delegator: Address,
    ) -> Result<DelegationRecord, ChainError> {
        let (link, manager) = (self.link(), self.book().stake_manager);
        let (task, operator, delegator) = (task.0, eth(operator), eth(delegator));
        let record_call = StakeManager::delegationOfCall {
            task,
            operator,
            delegator,
        };
        let worth_call = StakeManager::worthDownCall {
            task,
            operator,
            delegator,
        };
        let (record, worth) = tokio::try_join!(
            link.call(manager, &record_call),
            link.call(manager, &worth_call)
        )?;
        Ok(DelegationRecord {
            shares: Shares(record.shares),
            active: Amount(worth.active),
            unbonding: Amount(worth.unbonds),
            rewards: Amount(worth.rewards),
            pending: Amount(record.pending),
            active_at: time(record.activeAt),
            available_at: time(record.availableAt),
            locked_by: RoundKey::of_chain(record.lockedBy),
        })
    }

    /// Validators of a task whose own stake reaches its minimum.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn validator_count(&self, task: TaskId) -> Result<u32, ChainError> {
        let call = StakeManager::validatorCountCall { task: task.0 };
        self.link().call(self.book().stake_manager, &call).await
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

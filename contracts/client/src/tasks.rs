//! Tasks: post, read, settle, end.

use alloy::primitives::{B256, Bytes};
use alloy::providers::Provider;
use alloy::rpc::types::Filter;
use alloy::sol_types::SolEvent;
use convoke_protocol::identity::keccak;
use convoke_protocol::ids::{Amount, BlobHash, RoundId, TaskId};

use crate::abi::task_manager::{ITaskManagerTypes, TaskManager};
use crate::abi::{digest, eth, ours};
use crate::sending::event;
use crate::{
    Balances, Chain, ChainError, NewTask, ResultSubmission, RoundResult, StakeMinimums, TaskRecord,
    TaskState,
};

/// Most tasks that [`Chain::tasks`] lists.
const TASKS_LISTED_MAX: u64 = 1_000;

impl Chain {
    /// Posts a task with its reward, and approves the transfer first. The task file goes into
    /// the log, at most 16 KiB.
    ///
    /// # Errors
    /// [`ChainError::NotEnoughTokens`]; [`ChainError::Reverted`] with the value that is out of
    /// range; errors of any transaction. After [`ChainError::ReceiptTimeout`] the task may exist.
    pub async fn create_task(&self, task: &NewTask, file: &str) -> Result<TaskId, ChainError> {
        self.approve(self.book().task_manager, task.reward).await?;
        let call = TaskManager::createTaskCall {
            spec: spec_of(task),
            taskFile: Bytes::copy_from_slice(file.as_bytes()),
        };
        let receipt = self.link().send(self.book().task_manager, &call).await?;
        event::<TaskManager::TaskCreated>(&receipt, self.book().task_manager)
            .map(|event| TaskId(event.task))
    }

    /// A task.
    ///
    /// # Errors
    /// [`ChainError::UnknownTask`], [`ChainError::Unreachable`].
    pub async fn task(&self, task: TaskId) -> Result<TaskRecord, ChainError> {
        let call = TaskManager::taskCall { id: task.0 };
        match self.link().call(self.book().task_manager, &call).await {
            Ok(record) => record_of(&record),
            Err(error) if error.revert_name() == Some("UnknownTask") => {
                Err(ChainError::UnknownTask { task })
            }
            Err(error) => Err(error),
        }
    }

    /// The newest thousand tasks, oldest first.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn tasks(&self) -> Result<Vec<(TaskId, TaskRecord)>, ChainError> {
        let call = TaskManager::taskCountCall {};
        let count: u64 = self.link().call(self.book().task_manager, &call).await?;
        let first = count.saturating_sub(TASKS_LISTED_MAX) + 1;
        let mut tasks = Vec::new();
        for id in (first..=count).map(TaskId) {
            tasks.push((id, self.task(id).await?));
        }
        Ok(tasks)
    }

    /// The text of a task, from the log of its creation, checked against the hash in the
    /// contract's state.
    ///
    /// # Errors
    /// [`ChainError::UnknownTask`]; [`ChainError::Unexpected`] if the endpoint has no such log or
    /// another text; [`ChainError::Unreachable`].
    pub async fn task_file(&self, task: TaskId) -> Result<String, ChainError> {
        let record = self.task(task).await?;
        let filter = Filter::new()
            .address(eth(self.book().task_manager))
            .event_signature(TaskManager::TaskCreated::SIGNATURE_HASH)
            .topic1(B256::left_padding_from(&task.0.to_be_bytes()))
            .select(record.created_block);
        let link = self.link();
        let logs = link
            .read("eth_getLogs", || async {
                link.provider.get_logs(&filter).await
            })
            .await?;
        let event = logs
            .iter()
            .find_map(|log| TaskManager::TaskCreated::decode_log(&log.inner).ok())
            .ok_or_else(|| {
                let block = record.created_block;
                ChainError::Unexpected(format!("no log of task {task} in block {block}"))
            })?;
        let (got, expected) = (keccak(&[&event.taskFile]), record.task_file_hash);
        if got != expected {
            return Err(ChainError::Unexpected(format!(
                "the file of task {task} has hash {got}, the contract says {expected}"
            )));
        }
        String::from_utf8(event.taskFile.to_vec())
            .map_err(|_| ChainError::Unexpected(format!("the file of task {task} is no text")))
    }

    /// Settles the next round. Doing so again with the same result is no error, so that an
    /// aggregator that was killed in between can simply repeat it.
    ///
    /// # Errors
    /// [`ChainError::ResultConflict`] if another result is there; [`ChainError::Reverted`] with
    /// `WrongRound`, `TotalAboveRoundPool`, `NotTheAggregator`, `StakeBelowMinimum`,
    /// `TaskNotActive`; errors of any transaction.
    pub async fn submit_result(
        &self,
        task: TaskId,
        round: RoundId,
        result: &ResultSubmission,
    ) -> Result<(), ChainError> {
        if self.is_settled_so(task, round, result).await? {
            return Ok(());
        }
        let call = TaskManager::submitResultCall {
            id: task.0,
            round: round.0,
            payoutsRoot: B256::from(result.payouts_root.0),
            total: result.total.0,
            checkpoint: B256::from(result.checkpoint.0),
            resultHash: B256::from(result.result_hash.0),
        };
        let Err(error) = self.link().send(self.book().task_manager, &call).await else {
            return Ok(());
        };
        // The transaction may be in all the same: late, or from another process of the same key.
        match self.is_settled_so(task, round, result).await {
            Ok(true) => Ok(()),
            Err(conflict @ ChainError::ResultConflict { .. }) => Err(conflict),
            _ => Err(error),
        }
    }

    /// The result of a round; `None` if it is not settled.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn round_result(
        &self,
        task: TaskId,
        round: RoundId,
    ) -> Result<Option<RoundResult>, ChainError> {
        let call = TaskManager::roundResultCall {
            id: task.0,
            round: round.0,
        };
        let result = self.link().call(self.book().task_manager, &call).await?;
        Ok((result.settledAt != 0).then(|| RoundResult {
            submission: ResultSubmission {
                payouts_root: digest(result.payoutsRoot),
                total: Amount(result.total),
                checkpoint: BlobHash(result.checkpoint.0),
                result_hash: digest(result.resultHash),
            },
            claimed: Amount(result.claimed),
            settled_at: result.settledAt,
        }))
    }

    /// Closes a task whose rounds are all settled. Only its aggregator. No error if it is
    /// finished already.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `RoundsRemaining`, `NotTheAggregator`, `TaskNotActive`;
    /// errors of any transaction.
    pub async fn finish(&self, task: TaskId) -> Result<(), ChainError> {
        if self.task(task).await?.state == TaskState::Finished {
            return Ok(());
        }
        let call = TaskManager::finishCall { id: task.0 };
        self.link()
            .send(self.book().task_manager, &call)
            .await
            .map(drop)
    }

    /// Ends a task that made no progress for its round time-out. Anyone. No error if it is
    /// aborted already.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `NotTimedOut`, `TaskNotActive`; errors of any transaction.
    pub async fn abort(&self, task: TaskId) -> Result<(), ChainError> {
        if self.task(task).await?.state == TaskState::Aborted {
            return Ok(());
        }
        let call = TaskManager::abortCall { id: task.0 };
        self.link()
            .send(self.book().task_manager, &call)
            .await
            .map(drop)
    }

    /// Takes a task back before any result and any stake, and returns the refund. Only its
    /// creator.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `NotCancellable`, `NotTheCreator`, `TaskNotActive`; errors of
    /// any transaction.
    pub async fn cancel(&self, task: TaskId) -> Result<Amount, ChainError> {
        let call = TaskManager::cancelCall { id: task.0 };
        let receipt = self.link().send(self.book().task_manager, &call).await?;
        event::<TaskManager::TaskRefunded>(&receipt, self.book().task_manager)
            .map(|event| Amount(event.amount))
    }

    /// Pays the creator what no round was allotted, once the task has ended. Anyone. Returns
    /// what was paid by this call: nothing, without a transaction, if the refund was paid before.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `TaskStillActive`; errors of any transaction.
    pub async fn refund(&self, task: TaskId) -> Result<Amount, ChainError> {
        if self.task(task).await?.is_refunded {
            return Ok(Amount::ZERO);
        }
        let call = TaskManager::refundCall { id: task.0 };
        let receipt = self.link().send(self.book().task_manager, &call).await?;
        event::<TaskManager::TaskRefunded>(&receipt, self.book().task_manager)
            .map(|event| Amount(event.amount))
    }

    /// Where the task's reward is.
    ///
    /// # Errors
    /// [`ChainError::UnknownTask`], [`ChainError::Unreachable`].
    pub async fn balances(&self, task: TaskId) -> Result<Balances, ChainError> {
        Ok(self.task(task).await?.balances)
    }

    /// Whether the round is settled with just this result.
    async fn is_settled_so(
        &self,
        task: TaskId,
        round: RoundId,
        result: &ResultSubmission,
    ) -> Result<bool, ChainError> {
        match self.round_result(task, round).await? {
            None => Ok(false),
            Some(there) if there.submission == *result => Ok(true),
            Some(_) => Err(ChainError::ResultConflict { task, round }),
        }
    }
}

fn spec_of(task: &NewTask) -> ITaskManagerTypes::TaskSpec {
    ITaskManagerTypes::TaskSpec {
        aggregator: eth(task.aggregator),
        reward: task.reward.0,
        rounds: task.rounds,
        trainerStakeMin: task.stakes_min.trainer.0,
        validatorStakeMin: task.stakes_min.validator.0,
        aggregatorStakeMin: task.stakes_min.aggregator.0,
        vestingBps: task.vesting_bps,
        disputeWindow: task.dispute_window_seconds,
        roundTimeout: task.round_timeout_seconds,
        vestingDuration: task.vesting_seconds,
    }
}

fn record_of(record: &ITaskManagerTypes::TaskRecord) -> Result<TaskRecord, ChainError> {
    let state = TaskState::of_chain(record.state)
        .ok_or_else(|| ChainError::Unexpected(format!("task state {}", record.state)))?;
    Ok(TaskRecord {
        creator: ours(record.creator),
        aggregator: ours(record.aggregator),
        state,
        reward: Amount(record.reward),
        rounds: record.rounds,
        rounds_settled: record.roundsSettled,
        stakes_min: StakeMinimums {
            trainer: Amount(record.trainerStakeMin),
            validator: Amount(record.validatorStakeMin),
            aggregator: Amount(record.aggregatorStakeMin),
        },
        vesting_bps: record.vestingBps,
        dispute_window_seconds: record.disputeWindow,
        round_timeout_seconds: record.roundTimeout,
        vesting_seconds: record.vestingDuration,
        last_progress_at: record.lastProgressAt,
        ended_at: Some(record.endedAt).filter(|at| *at != 0),
        is_refunded: record.isRefunded,
        task_file_hash: digest(record.taskFileHash),
        created_block: record.createdBlock,
        balances: balances_of(record)?,
    })
}

fn balances_of(record: &ITaskManagerTypes::TaskRecord) -> Result<Balances, ChainError> {
    let unclaimed = [record.paid, record.refunded, record.vesting]
        .into_iter()
        .try_fold(record.reward, u128::checked_sub)
        .ok_or_else(|| ChainError::Unexpected("a task that paid more than it has".to_owned()))?;
    Ok(Balances {
        reward: Amount(record.reward),
        paid: Amount(record.paid),
        refunded: Amount(record.refunded),
        vesting: Amount(record.vesting),
        unclaimed: Amount(unclaimed),
    })
}

//! Tasks: post, read, fund, end.

use alloy::primitives::Bytes;
use alloy::sol_types::SolEvent;
use convoke_protocol::identity::keccak;
use convoke_protocol::ids::{Amount, TaskId};

use crate::abi::large::TaskSpec;
use crate::abi::task_manager::{ITaskManagerTypes, TaskManager};
use crate::abi::{digest, ours};
use crate::sending::event;
use crate::types::time;
use crate::{Balances, Chain, ChainError, TaskRecord, TaskState, TaskTerms, spec};

/// Most tasks that [`Chain::tasks`] lists.
const TASKS_LISTED_MAX: u64 = 1_000;

impl Chain {
    /// Posts a task with its reward, and approves the transfer first. The task file goes into
    /// the log, at most 16 KiB.
    ///
    /// # Errors
    /// [`ChainError::NotEnoughTokens`]; [`ChainError::Reverted`] with the value that is out of
    /// range; errors of any transaction. After [`ChainError::ReceiptTimeout`] the task may exist.
    pub async fn create_task(&self, terms: &TaskTerms, file: &str) -> Result<TaskId, ChainError> {
        self.approve(self.book().task_manager, terms.reward).await?;
        let (head, tail) = spec::spec_of(terms).split();
        let call = TaskManager::createTaskCall {
            head,
            tail,
            taskFile: Bytes::copy_from_slice(file.as_bytes()),
        };
        let receipt = self.link().send(self.book().task_manager, &call).await?;
        event::<TaskManager::TaskCreated>(&receipt, self.book().task_manager)
            .map(|event| TaskId(event.task))
    }

    /// How a task stands.
    ///
    /// # Errors
    /// [`ChainError::UnknownTask`], [`ChainError::Unreachable`].
    pub async fn task(&self, task: TaskId) -> Result<TaskRecord, ChainError> {
        let call = TaskManager::taskCall { id: task.0 };
        match self.link().call(self.book().task_manager, &call).await {
            Ok(record) => record_of(&record),
            Err(error) => Err(unknown(task, error)),
        }
    }

    /// What was asked for.
    ///
    /// # Errors
    /// [`ChainError::UnknownTask`], [`ChainError::Unreachable`].
    pub async fn terms(&self, task: TaskId) -> Result<TaskTerms, ChainError> {
        let call = TaskManager::specOfCall { id: task.0 };
        match self.link().call(self.book().task_manager, &call).await {
            Ok(spec) => spec::terms_of(&TaskSpec::join(spec.head, spec.tail)),
            Err(error) => Err(unknown(task, error)),
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
        let block = record.created_block;
        let filter = self
            .filter_of(
                self.book().task_manager,
                TaskManager::TaskCreated::SIGNATURE_HASH,
            )
            .topic1(crate::logs::topic(task.0))
            .select(block);
        let logs = self.logs(&filter).await?;
        let event = logs
            .iter()
            .find_map(|log| TaskManager::TaskCreated::decode_log(&log.inner).ok())
            .ok_or_else(|| {
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

    /// Adds `amount` base units to a task's escrow, and approves the transfer first. Rounds that
    /// were not opened yet share it evenly. Anyone. Returns what one further round may pay.
    ///
    /// # Errors
    /// [`ChainError::NotEnoughTokens`]; [`ChainError::Reverted`] with `WrongState`; errors of any
    /// transaction.
    pub async fn fund(&self, task: TaskId, amount: Amount) -> Result<Amount, ChainError> {
        self.approve(self.book().task_manager, amount).await?;
        let call = TaskManager::fundCall {
            id: task.0,
            amount: amount.0,
        };
        let receipt = self.link().send(self.book().task_manager, &call).await?;
        event::<TaskManager::TaskFunded>(&receipt, self.book().task_manager)
            .map(|event| Amount(event.roundPool))
    }

    /// Closes a task whose rounds are all settled and final: opens the closing evaluation if
    /// anything vests and there are validators, else finishes it. Anyone. No error if that is
    /// done already.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `RoundsRemaining`, `ResultDisputable`, `WrongState`; errors
    /// of any transaction.
    pub async fn finish(&self, task: TaskId) -> Result<(), ChainError> {
        if self.is_closed(task).await? {
            return Ok(());
        }
        let call = TaskManager::finishCall { id: task.0 };
        let Err(error) = self.link().send(self.book().task_manager, &call).await else {
            return Ok(());
        };
        match self.is_closed(task).await {
            Ok(true) => Ok(()),
            _ => Err(error),
        }
    }

    async fn is_closed(&self, task: TaskId) -> Result<bool, ChainError> {
        let state = self.task(task).await?.state;
        Ok(matches!(state, TaskState::Closing | TaskState::Finished))
    }

    /// Moves on whatever of a task has timed out, its open round included. Anyone. Returns
    /// whether there was anything.
    ///
    /// # Errors
    /// Errors of any transaction.
    pub async fn tick(&self, task: TaskId) -> Result<bool, ChainError> {
        let call = TaskManager::tickCall { id: task.0 };
        match self.link().send(self.book().task_manager, &call).await {
            Ok(_) => Ok(true),
            Err(error) if error.revert_name() == Some("NothingDue") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes a task back before its first round and any stake, and returns the refund: nothing,
    /// without a transaction, if that was done before. Only its creator.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `NotCancellable`, `NotTheCreator`, `WrongState`; errors of
    /// any transaction.
    pub async fn cancel(&self, task: TaskId) -> Result<Amount, ChainError> {
        if self.task(task).await?.state == TaskState::Cancelled {
            return Ok(Amount::ZERO);
        }
        let call = TaskManager::cancelCall { id: task.0 };
        let receipt = self.link().send(self.book().task_manager, &call).await?;
        event::<TaskManager::TaskRefunded>(&receipt, self.book().task_manager)
            .map(|event| Amount(event.amount))
    }

    /// Pays the creator what is due to it once the task has ended: what no round was allotted,
    /// and forfeited vesting. Anyone, again and again. Returns what was paid by this call: nothing,
    /// without a transaction, if nothing is due.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `WrongState`; errors of any transaction.
    pub async fn refund(&self, task: TaskId) -> Result<Amount, ChainError> {
        let has_ended = self.task(task).await?.state.has_ended();
        if has_ended && self.refundable(task).await? == Amount::ZERO {
            return Ok(Amount::ZERO);
        }
        let call = TaskManager::refundCall { id: task.0 };
        match self.link().send(self.book().task_manager, &call).await {
            Ok(receipt) => event::<TaskManager::TaskRefunded>(&receipt, self.book().task_manager)
                .map(|event| Amount(event.amount)),
            Err(error) if error.revert_name() == Some("NothingToRefund") => Ok(Amount::ZERO),
            Err(error) => Err(error),
        }
    }

    /// What [`Chain::refund`] would pay if the task had ended now.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn refundable(&self, task: TaskId) -> Result<Amount, ChainError> {
        let call = TaskManager::refundableOfCall { id: task.0 };
        self.link()
            .call(self.book().task_manager, &call)
            .await
            .map(Amount)
    }

    /// Where the task's escrow is.
    ///
    /// # Errors
    /// [`ChainError::UnknownTask`], [`ChainError::Unreachable`].
    pub async fn balances(&self, task: TaskId) -> Result<Balances, ChainError> {
        Ok(self.task(task).await?.balances)
    }
}

fn unknown(task: TaskId, error: ChainError) -> ChainError {
    match error.revert_name() {
        Some("UnknownTask") => ChainError::UnknownTask { task },
        _ => error,
    }
}

fn record_of(record: &ITaskManagerTypes::TaskRecord) -> Result<TaskRecord, ChainError> {
    let state = TaskState::of_chain(record.state)
        .ok_or_else(|| ChainError::Unexpected(format!("task state {}", record.state)))?;
    Ok(TaskRecord {
        creator: ours(record.creator),
        state,
        rounds_settled: record.roundsSettled,
        rounds_opened: record.roundsOpened,
        last_progress_at: record.lastProgressAt,
        ended_at: time(record.endedAt),
        round_pool: Amount(record.roundPool),
        allotted: Amount(record.allotted),
        forfeited: Amount(record.forfeited),
        release_bps: record.releaseBps,
        task_file_hash: digest(record.taskFileHash),
        created_block: record.createdBlock,
        balances: balances_of(record)?,
    })
}

fn balances_of(record: &ITaskManagerTypes::TaskRecord) -> Result<Balances, ChainError> {
    let held = [record.paid, record.refunded, record.vesting]
        .into_iter()
        .try_fold(record.escrowed, u128::checked_sub)
        .ok_or_else(|| ChainError::Unexpected("a task that paid more than it has".to_owned()))?;
    Ok(Balances {
        escrowed: Amount(record.escrowed),
        paid: Amount(record.paid),
        refunded: Amount(record.refunded),
        vesting: Amount(record.vesting),
        held: Amount(held),
    })
}

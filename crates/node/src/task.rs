//! What a node has to know of its task, read from the chain by the task's number alone.

use convoke_client::{AddressBook, Chain};
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{Address, Amount, Role, TaskId};
use convoke_protocol::task::TaskSpec;

use crate::error::NodeError;

/// A task, as the chain has it.
#[derive(Debug, Clone)]
pub struct TaskContext {
    /// The task's number.
    pub task: TaskId,
    /// The chain, with the node's wallet.
    pub chain: Chain,
    /// The task file.
    pub spec: TaskSpec,
    /// The address that the aggregator must prove.
    pub aggregator: Address,
}

impl TaskContext {
    /// Reads a task, and checks that the wallet has staked enough in it for `role`.
    ///
    /// # Errors
    /// [`NodeError::Chain`], [`NodeError::TaskFile`], [`NodeError::Stake`].
    pub async fn load(
        book: &AddressBook,
        wallet: &Wallet,
        task: TaskId,
        role: Role,
    ) -> Result<Self, NodeError> {
        let chain = Chain::connect(book, Some(wallet)).await?;
        let record = chain.task(task).await?;
        let file = chain.task_file(task).await?;
        let spec = TaskSpec::parse(&file).map_err(|source| NodeError::TaskFile { task, source })?;
        let needed = match role {
            Role::Trainer => spec.stake.trainer,
            Role::Validator => spec.stake.validator,
            Role::Aggregator => spec.stake.aggregator,
            Role::Observer => Amount::ZERO,
        };
        let context = Self {
            task,
            chain,
            spec,
            aggregator: record.aggregator,
        };
        context.check_stake(wallet.address(), role, needed).await?;
        Ok(context)
    }

    async fn check_stake(
        &self,
        address: Address,
        role: Role,
        needed: Amount,
    ) -> Result<(), NodeError> {
        let staked = self.chain.stake_of(self.task, address).await?;
        let got = match staked {
            Some((staked_as, amount)) if staked_as == role => amount,
            _ => Amount::ZERO,
        };
        if got < needed {
            return Err(NodeError::Stake {
                task: self.task,
                address,
                role,
                got,
                needed,
            });
        }
        Ok(())
    }
}

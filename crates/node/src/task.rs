//! What a node has to know of its task, read from the chain by the task's number alone.

use convoke_client::{AddressBook, Chain, StakeMinimums, TaskTerms};
use convoke_protocol::identity::{Wallet, keccak};
use convoke_protocol::ids::{Address, Amount, BlobHash, Role, TaskId};
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
        let terms = chain.terms(task).await?;
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
            aggregator: terms.aggregator,
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

/// What a task file asks of the contract.
///
/// The chain's windows are those of the file, from the moment that the chain knows of: training
/// has `settle_timeout_s` more, in which the aggregator commits to the updates.
#[must_use]
pub fn terms_of(spec: &TaskSpec, aggregator: Address) -> TaskTerms {
    let (cohort, timing) = (&spec.cohort, &spec.timing);
    let (reward, stake) = (&spec.reward, &spec.stake);
    TaskTerms {
        aggregator,
        reward: reward.pool,
        rounds: spec.rounds,
        trainers_min: count(spec.cohort_min()),
        trainers_max: count(cohort.trainers_max),
        validators_min: count(cohort.validators_min),
        attempts_max: count(timing.attempts_max),
        model_hash: spec.initial.unwrap_or(BlobHash::ZERO),
        data_hash: keccak(&[spec.description.as_bytes()]),
        stakes_min: StakeMinimums {
            trainer: stake.trainer,
            validator: stake.validator,
            aggregator: stake.aggregator,
        },
        shares: spec.shares(),
        vesting_bps: reward.vesting_bps,
        split: reward.split,
        rank_decay_bps: reward.rank_decay_bps,
        slash_bps: stake.slash_bps,
        reporter_bps: stake.reporter_bps,
        proof_mode: reward.proof,
        train_window_seconds: timing.train_max_s + timing.settle_timeout_s,
        score_window_seconds: timing.score_timeout_s,
        grace_window_seconds: timing.grace_s.min(timing.score_timeout_s),
        settle_window_seconds: timing.settle_timeout_s,
        dispute_window_seconds: reward.dispute_window_s,
        round_timeout_seconds: reward.round_timeout_s,
    }
}

/// The task file's ranges all fit; what does not would be refused by the contract.
fn count(number: u32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_protocol::task::SplitKind;

    use super::*;

    #[test]
    fn a_quorum_is_enough_for_the_chain_and_windows_fit_into_one_another() {
        let text = "name = \"t\"\n[model]\nkind = \"mlp\"\n[cohort]\ntrainers_min = 10\n\
                    [timing]\ntrain_max_s = 50\nsettle_timeout_s = 7\ngrace_s = 90\n\
                    score_timeout_s = 60\n[reward]\nsplit = \"rank\"\n";
        let spec = TaskSpec::parse(text).unwrap();
        let terms = terms_of(&spec, Address([1; 20]));
        assert_eq!((terms.trainers_min, terms.trainers_max), (7, 64));
        assert_eq!(terms.train_window_seconds, 57);
        assert_eq!(terms.grace_window_seconds, 60);
        assert_eq!(terms.split, SplitKind::Rank);
    }
}

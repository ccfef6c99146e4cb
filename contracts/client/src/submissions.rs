//! What rounds were settled with, and what their proofs are about: all that it takes to check a
//! result again.

use alloy::consensus::Transaction as _;
use alloy::primitives::{B256, Bytes};
use alloy::providers::Provider;
use alloy::sol_types::SolCall;
use convoke_protocol::factors;
use convoke_protocol::identity::keccak;
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, RoundId, TaskId};
use convoke_protocol::task::{BPS, SplitKind};

use crate::abi::round_manager::RoundManager;
use crate::abi::round_proof_verifier::{IProofVerifierTypes, RoundProofVerifier};
use crate::abi::{digest, eth, ours, word};
use crate::round_types::{payout_bytes, payouts_of};
use crate::rounds::conflict;
use crate::spec::split_number;
use crate::{Chain, ChainError, ResultSubmission, Stage};

/// How often the trainers' own commitments are read anew while more of them come.
const OWN_TRIES_MAX: u32 = 4;

/// What the proof of a round is about: all that the contracts know and pay by. The struct
/// `Statement` of `IProofVerifier`, field by field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundId,
    /// How often the chain has opened the round, from 1.
    pub attempt: u16,
    /// Who puts together the result.
    pub aggregator: Address,
    /// Root of the tree over the updates that the aggregator committed to.
    pub updates_root: Digest,
    /// Hash chain of the updates that trainers committed to themselves.
    pub own_commitments: Digest,
    /// Updates in all.
    pub updates: u16,
    /// Drawn after the updates were committed to; zero before.
    pub seed: Digest,
    /// What all trainers share at most; base units.
    pub trainers_pool: Amount,
    /// How it is split.
    pub split: SplitKind,
    /// Of the split by rank.
    pub rank_decay_bps: u16,
    /// The checkpoint after the round; zero before the result.
    pub checkpoint: BlobHash,
    /// Hash of the aggregator's full account of the round; zero before the result.
    pub result_hash: Digest,
}

impl Chain {
    /// What the proof of a round's newest attempt is about. Before the result, its checkpoint and
    /// result hash are zero: whoever makes the result fills them in.
    ///
    /// # Errors
    /// [`ChainError::UnknownTask`]; [`ChainError::Unreachable`].
    pub async fn statement(&self, task: TaskId, round: RoundId) -> Result<Statement, ChainError> {
        let (state, terms) = tokio::try_join!(self.round(task, round), self.terms(task))?;
        let shares = terms.shares;
        Ok(Statement {
            task,
            round,
            attempt: state.attempt,
            aggregator: terms.aggregator,
            updates_root: state.updates_root,
            own_commitments: state.own_commitments,
            // The contract's sum of two such numbers, which is checked there.
            updates: state.updates.saturating_add(state.own_updates),
            seed: state.seed.unwrap_or(Digest::ZERO),
            trainers_pool: state
                .pool
                .share_down(shares.trainers_bps.into(), BPS.into()),
            split: terms.split,
            rank_decay_bps: terms.rank_decay_bps,
            checkpoint: state.checkpoint,
            result_hash: state.result_hash,
        })
    }

    /// What a round was settled with, from its transaction and checked against the hashes in the
    /// contract's state; `None` if it is not settled.
    ///
    /// # Errors
    /// [`ChainError::Unexpected`] if the endpoint lacks the log or the transaction, or if the
    /// aggregator called through a contract of its own, so that the transaction does not say;
    /// [`ChainError::Unreachable`].
    pub async fn submission(
        &self,
        task: TaskId,
        round: RoundId,
    ) -> Result<Option<ResultSubmission>, ChainError> {
        let state = self.round(task, round).await?;
        if state.stage != Stage::Settled {
            return Ok(None);
        }
        let missing = |what: &str| {
            ChainError::Unexpected(format!(
                "no {what} of the result of round {round} of task {task}"
            ))
        };
        let hash = self.settling_transaction(task, round).await?;
        let hash = hash.ok_or_else(|| missing("log"))?;
        let link = self.link();
        let transaction = link
            .read("eth_getTransactionByHash", || async {
                link.provider.get_transaction_by_hash(hash).await
            })
            .await?;
        let transaction = transaction.ok_or_else(|| missing("transaction"))?;
        let submission = submission_of(transaction.input());
        let submission = submission.ok_or_else(|| missing("plain call"))?;
        let got = (submission.checkpoint, submission.result_hash);
        let is_it = got == (state.checkpoint, state.result_hash)
            && submission.submission_hash() == state.submission_hash;
        is_it
            .then_some(Some(submission))
            .ok_or_else(|| missing("true copy"))
    }

    /// Asks the verifier that was in charge of a round whether a submission proves it. Sends no
    /// transaction. For a settled round, or for one whose result is about to come, in which case
    /// checkpoint and result hash are taken from the submission.
    ///
    /// # Errors
    /// [`ChainError::Reverted`], with the verifier's reason, if the proof does not hold, and with
    /// `NoProofVerifier` if there is none; [`ChainError::Unreachable`].
    pub async fn check_proof(
        &self,
        task: TaskId,
        round: RoundId,
        submission: &ResultSubmission,
    ) -> Result<(), ChainError> {
        let call = RoundManager::roundOfCall {
            task: task.0,
            round: round.0,
        };
        let raw = self.link().call(self.book().round_manager, &call).await?;
        let verifier = ours(raw.tail.verifier);
        if verifier == Address::ZERO {
            return Err(ChainError::Reverted {
                call: "verify",
                name: "NoProofVerifier".to_owned(),
                words: "no contract is in charge of this round's proof".to_owned(),
            });
        }
        let statement = Statement {
            checkpoint: submission.checkpoint,
            result_hash: submission.result_hash,
            ..self.statement(task, round).await?
        };
        let call = RoundProofVerifier::verifyCall {
            statement: statement.to_chain(),
            factors: factors::encode(&submission.factors).into(),
            payouts: payout_bytes(&submission.payouts).into(),
            proof: Bytes::copy_from_slice(&submission.proof),
        };
        self.link().call(verifier, &call).await?;
        Ok(())
    }

    /// The updates that trainers committed to themselves in an attempt, in the order in which they
    /// count: trainer, and struct hash of the update's header. From the logs, and checked against
    /// the hash chain in the contract's state.
    ///
    /// # Errors
    /// [`ChainError::Conflict`] if the chain's newest attempt is another one;
    /// [`ChainError::Unexpected`] if the endpoint lacks a log; [`ChainError::Unreachable`].
    pub async fn own_updates(
        &self,
        task: TaskId,
        round: RoundId,
        attempt: u16,
    ) -> Result<Vec<(Address, Digest)>, ChainError> {
        for _ in 0..OWN_TRIES_MAX {
            let state = self.round(task, round).await?;
            if state.attempt != attempt {
                return Err(conflict("attempt", task, round));
            }
            let count = usize::from(state.own_updates);
            let own = self.newest_own_updates(task, round, count).await?;
            if hash_chain(&own) == state.own_commitments {
                return Ok(own);
            }
            // Another one came in between, and took the place of the oldest.
        }
        Err(ChainError::Unexpected(format!(
            "no log of each update that trainers committed to in round {round} of task {task}"
        )))
    }

    /// The last `count` of a round, oldest first: those of the newest attempt, if it has so many.
    async fn newest_own_updates(
        &self,
        task: TaskId,
        round: RoundId,
        count: usize,
    ) -> Result<Vec<(Address, Digest)>, ChainError> {
        let mut own = Vec::with_capacity(count);
        if count == 0 {
            return Ok(own);
        }
        self.round_events_back(task, round, |event: RoundManager::UpdateCommitted| {
            own.push((ours(event.trainer), digest(event.updateHash)));
            own.len() == count
        })
        .await?;
        own.reverse();
        Ok(own)
    }

    async fn settling_transaction(
        &self,
        task: TaskId,
        round: RoundId,
    ) -> Result<Option<B256>, ChainError> {
        let mut found = None;
        // The newest: those before it were voided.
        self.round_logs_back(task, round, |_: RoundManager::RoundSettled, log| {
            found = log.transaction_hash;
            true
        })
        .await?;
        Ok(found)
    }
}

impl Statement {
    fn to_chain(self) -> IProofVerifierTypes::Statement {
        IProofVerifierTypes::Statement {
            task: self.task.0,
            round: self.round.0,
            attempt: self.attempt,
            aggregator: eth(self.aggregator),
            updatesRoot: word(self.updates_root),
            ownCommitments: word(self.own_commitments),
            updates: self.updates,
            seed: word(self.seed),
            trainersPool: self.trainers_pool.0,
            split: split_number(self.split),
            rankDecayBps: self.rank_decay_bps,
            checkpoint: self.checkpoint.0.into(),
            resultHash: word(self.result_hash),
        }
    }
}

/// `keccak256(abi.encode(chain, trainer, update))` from zero on, as the round manager links them.
fn hash_chain(own: &[(Address, Digest)]) -> Digest {
    let link = |chain: Digest, (trainer, update): &(Address, Digest)| {
        keccak(&[&chain.0, &[0; 12], &trainer.0, &update.0])
    };
    own.iter().fold(Digest::ZERO, link)
}

/// `None` for the input of another call.
fn submission_of(input: &[u8]) -> Option<ResultSubmission> {
    let call = RoundManager::submitResultCall::abi_decode(input).ok()?;
    let submission = call.submission;
    Some(ResultSubmission {
        checkpoint: BlobHash(submission.checkpoint.0),
        result_hash: digest(submission.resultHash),
        payouts: payouts_of(&submission.payouts)?,
        factors: factors::decode(&submission.factors)?,
        reveals: submission
            .reveals
            .iter()
            .map(|bytes| factors::decode(bytes))
            .collect::<Option<_>>()?,
        proof: submission.proof.to_vec(),
    })
}

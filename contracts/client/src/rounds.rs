//! Rounds: opening, updates, result.

use alloy::primitives::{B256, Bytes};
use convoke_protocol::factors;
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, RoundId, TaskId};
use convoke_protocol::payout::MerkleTree;

use crate::abi::large::Round;
use crate::abi::round_manager::{IRoundManagerTypes, RoundManager};
use crate::abi::{digest, eth, ours, word};
use crate::round_types::{payout_bytes, payouts_of};
use crate::types::time;
use crate::{Chain, ChainError, ResultSubmission, RoundKey, RoundResult, RoundState, Stage};

impl Chain {
    /// Opens a round, or opens it again after a failed attempt. Only the task's aggregator.
    /// Returns the attempt. Doing so again with the same base and cohort is no error.
    ///
    /// # Errors
    /// [`ChainError::Conflict`] if the round is open with another base or cohort;
    /// [`ChainError::Reverted`] with `WrongRound`, `PreviousRoundDisputable`, `AttemptsExhausted`,
    /// `CohortSizeOutOfRange`, `NotEligible`, `NotTheAggregator`; errors of any transaction.
    pub async fn open_round(
        &self,
        task: TaskId,
        round: RoundId,
        base: BlobHash,
        cohort: &[Address],
    ) -> Result<u16, ChainError> {
        let root = MerkleTree::of_cohort(&self.domain(), task, round, cohort).root();
        let is_open = async || {
            let state = self.round(task, round).await?;
            let same = (state.base, state.cohort_root) == (base, root);
            match state.stage {
                Stage::None => Ok(None),
                _ if same => Ok(Some(state.attempt)),
                _ => Err(conflict("opening", task, round)),
            }
        };
        if let Some(attempt) = is_open().await? {
            return Ok(attempt);
        }
        let size = u16::try_from(cohort.len()).unwrap_or(u16::MAX);
        let call = RoundManager::openRoundCall {
            task: task.0,
            round: round.0,
            base: base.0.into(),
            cohortRoot: word(root),
            cohortSize: size,
        };
        let sent = self.link().send(self.book().round_manager, &call).await;
        match (sent, is_open().await) {
            (_, Ok(Some(attempt))) => Ok(attempt),
            (_, Err(conflict @ ChainError::Conflict { .. })) => Err(conflict),
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(_), Ok(None)) => Err(ChainError::Unexpected(format!(
                "round {round} of task {task} was opened and is not open"
            ))),
        }
    }

    /// A round at its newest attempt. All zero if it was never opened.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn round(&self, task: TaskId, round: RoundId) -> Result<RoundState, ChainError> {
        let call = RoundManager::roundOfCall {
            task: task.0,
            round: round.0,
        };
        let state = self.link().call(self.book().round_manager, &call).await?;
        state_of(&Round::join(state.head, state.tail))
    }

    /// The round of a task that is open now, the closing evaluation included.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn open_round_key(&self, task: TaskId) -> Result<Option<RoundKey>, ChainError> {
        let call = RoundManager::openRoundKeyCall { task: task.0 };
        let key = self.link().call(self.book().round_manager, &call).await?;
        Ok(RoundKey::of_chain(key))
    }

    /// Commits to all updates that arrived and closes training. Only the task's aggregator. Doing
    /// so again with the same root is no error.
    ///
    /// # Errors
    /// [`ChainError::Conflict`] if another root is there; [`ChainError::Reverted`] with
    /// `WrongStage`, `StageOver`, `UpdateCountOutOfRange`, `NotTheAggregator`; errors of any
    /// transaction.
    pub async fn commit_updates(
        &self,
        task: TaskId,
        round: RoundId,
        root: Digest,
        count: u16,
    ) -> Result<(), ChainError> {
        let is_committed = async || {
            let state = self.round(task, round).await?;
            let same = (state.updates_root, state.updates) == (root, count);
            match state.stage {
                Stage::None | Stage::Training => Ok(false),
                _ if same => Ok(true),
                _ => Err(conflict("root of updates", task, round)),
            }
        };
        let call = RoundManager::commitUpdatesCall {
            task: task.0,
            round: round.0,
            updatesRoot: word(root),
            count,
        };
        self.send_once(&call, is_committed).await
    }

    /// Commits to the wallet's own update, past an aggregator that ignores it. It counts after
    /// the aggregator's. `update_hash` is the EIP-712 struct hash of the update's header, `proof`
    /// is the trainer's in [`MerkleTree::of_cohort`]. Doing so again with the same hash is no error.
    ///
    /// # Errors
    /// [`ChainError::Conflict`] if the wallet committed to another update;
    /// [`ChainError::Reverted`] with `NotInCohort`, `NotEligible`, `WrongStage`, `StageOver`;
    /// errors of any transaction.
    pub async fn commit_update(
        &self,
        task: TaskId,
        round: RoundId,
        update_hash: Digest,
        proof: &[Digest],
    ) -> Result<(), ChainError> {
        let me = self.wallet("commitUpdate")?;
        let call = RoundManager::commitUpdateCall {
            task: task.0,
            round: round.0,
            updateHash: word(update_hash),
            cohortProof: proof.iter().copied().map(word).collect(),
        };
        let Err(error) = self.link().send(self.book().round_manager, &call).await else {
            return Ok(());
        };
        if error.revert_name() != Some("AlreadyCommitted") {
            return Err(error);
        }
        // The newest log of the wallet is that of this attempt: there can be only one in each.
        let mut there = None;
        self.round_events_back(task, round, |event: RoundManager::UpdateCommitted| {
            let is_mine = ours(event.trainer) == me;
            if is_mine {
                there = Some(digest(event.updateHash));
            }
            is_mine
        })
        .await?;
        if there == Some(update_hash) {
            return Ok(());
        }
        Err(conflict("update of this trainer", task, round))
    }

    /// Gives up the open attempt of a round, so that nobody waits for its time-outs. Only the
    /// task's aggregator. No error if the round is not open.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `TaskNotActive`, `NotTheAggregator`; errors of any transaction.
    pub async fn fail_round(&self, task: TaskId, round: RoundId) -> Result<(), ChainError> {
        let is_closed = async || {
            let stage = self.round(task, round).await?.stage;
            Ok(matches!(stage, Stage::None | Stage::Settled))
        };
        let call = RoundManager::failRoundCall {
            task: task.0,
            round: round.0,
        };
        self.send_once(&call, is_closed).await
    }

    /// Settles a round. Only the task's aggregator. Doing so again with the same result is no
    /// error, so that an aggregator that was killed in between can simply repeat it.
    ///
    /// # Errors
    /// [`ChainError::Conflict`] if another result is there; [`ChainError::Reverted`] with
    /// `WrongStage`, `StageOver`, `WrongReveal`, `WrongMedian`, `PayoutsAbovePool`, `ZeroPayout`,
    /// `NoProofVerifier`, an error of the verifier, `NotTheAggregator`; errors of any transaction.
    pub async fn submit_result(
        &self,
        task: TaskId,
        round: RoundId,
        result: &ResultSubmission,
    ) -> Result<(), ChainError> {
        let hash = result.submission_hash();
        let is_settled = async || {
            let state = self.round(task, round).await?;
            let there = (state.checkpoint, state.result_hash, state.submission_hash);
            match state.stage {
                Stage::Settled if there == (result.checkpoint, result.result_hash, hash) => {
                    Ok(true)
                }
                Stage::Settled => Err(conflict("result", task, round)),
                _ => Ok(false),
            }
        };
        let call = RoundManager::submitResultCall {
            task: task.0,
            round: round.0,
            submission: IRoundManagerTypes::Submission {
                checkpoint: result.checkpoint.0.into(),
                resultHash: word(result.result_hash),
                payouts: payout_bytes(&result.payouts).into(),
                factors: factors::encode(&result.factors).into(),
                reveals: result
                    .reveals
                    .iter()
                    .map(|factors| Bytes::from(factors::encode(factors)))
                    .collect(),
                proof: Bytes::copy_from_slice(&result.proof),
            },
        };
        self.send_once(&call, is_settled).await
    }

    /// Shows that a result's proof does not hold: the round fails, and the aggregator is slashed
    /// with the wallet as the reporter. Anyone, within the dispute window of a task whose proofs
    /// are checked on challenge.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `ProofHolds`, `NotTheSubmission`, `NotChallengeable`,
    /// `DisputeWindowClosed`, `WrongStage`; errors of any transaction.
    pub async fn challenge_result(
        &self,
        task: TaskId,
        round: RoundId,
        payouts: &[(Address, Amount)],
        factors: &[u16],
        proof: &[u8],
    ) -> Result<(), ChainError> {
        let call = RoundManager::challengeResultCall {
            task: task.0,
            round: round.0,
            payouts: payout_bytes(payouts).into(),
            factors: factors::encode(factors).into(),
            proof: Bytes::copy_from_slice(proof),
        };
        self.link().send(self.book().round_manager, &call).await?;
        Ok(())
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
        let call = RoundManager::settlementOfCall {
            task: task.0,
            round: round.0,
        };
        let (state, settlement) = tokio::try_join!(
            self.round(task, round),
            self.link().call(self.book().round_manager, &call)
        )?;
        let settled_at = state.settled_at.filter(|_| state.stage == Stage::Settled);
        Ok(settled_at.map(|settled_at| RoundResult {
            attempt: state.attempt,
            checkpoint: state.checkpoint,
            result_hash: state.result_hash,
            submission_hash: state.submission_hash,
            payouts_root: state.payouts_root,
            total: state.total,
            settled_at,
            claimable_at: settlement.claimableAt,
        }))
    }

    /// The trainers' payouts of a settled round, in the order of the Merkle tree, from the log and
    /// checked against the root in the contract's state. Empty if the round is not settled.
    ///
    /// # Errors
    /// [`ChainError::Unexpected`] if the endpoint lacks the log; [`ChainError::Unreachable`].
    pub async fn payouts(
        &self,
        task: TaskId,
        round: RoundId,
    ) -> Result<Vec<(Address, Amount)>, ChainError> {
        let Some(result) = self.round_result(task, round).await? else {
            return Ok(Vec::new());
        };
        if result.payouts_root == Digest::ZERO {
            return Ok(Vec::new());
        }
        let domain = self.domain();
        let mut found = None;
        // Attempts that a challenge voided have logs, too.
        self.round_events_back(task, round, |event: RoundManager::RoundSettled| {
            let payouts = payouts_of(&event.payouts).unwrap_or_default();
            let tree = MerkleTree::of_payouts(&domain, task, round, &payouts);
            let is_it = tree.root() == result.payouts_root;
            if is_it {
                found = Some(payouts);
            }
            is_it
        })
        .await?;
        found.ok_or_else(|| {
            ChainError::Unexpected(format!(
                "no log of the payouts of round {round} of task {task}"
            ))
        })
    }

    /// A validator's or the aggregator's pay for a settled round, claimed or not.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn direct_pay(
        &self,
        task: TaskId,
        round: RoundId,
        account: Address,
    ) -> Result<Amount, ChainError> {
        let call = RoundManager::directPayOfCall {
            task: task.0,
            round: round.0,
            account: eth(account),
        };
        self.link()
            .call(self.book().round_manager, &call)
            .await
            .map(Amount)
    }

    /// The contract that checks proofs; `None` if nobody set one.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn proof_verifier(&self) -> Result<Option<Address>, ChainError> {
        let call = RoundManager::proofVerifierCall {};
        let verifier = self.link().call(self.book().round_manager, &call).await?;
        Ok(Some(ours(verifier)).filter(|verifier| *verifier != Address::ZERO))
    }

    /// Sends a call unless `is_done` says that it was in already. After a refusal it is asked
    /// again: the transaction may be in all the same, late, or from another process of the key.
    pub(crate) async fn send_once<C, F>(
        &self,
        call: &C,
        is_done: impl Fn() -> F,
    ) -> Result<(), ChainError>
    where
        C: alloy::sol_types::SolCall,
        F: Future<Output = Result<bool, ChainError>>,
    {
        if is_done().await? {
            return Ok(());
        }
        let Err(error) = self.link().send(self.book().round_manager, call).await else {
            return Ok(());
        };
        match is_done().await {
            Ok(true) => Ok(()),
            Err(conflict @ ChainError::Conflict { .. }) => Err(conflict),
            _ => Err(error),
        }
    }
}

pub(crate) fn conflict(what: &'static str, task: TaskId, round: RoundId) -> ChainError {
    ChainError::Conflict { what, task, round }
}

fn state_of(round: &Round) -> Result<RoundState, ChainError> {
    let stage = Stage::of_chain(round.stage)
        .ok_or_else(|| ChainError::Unexpected(format!("stage {}", round.stage)))?;
    Ok(RoundState {
        stage,
        attempt: round.attempt,
        cohort_size: round.cohortSize,
        updates: round.updates,
        own_updates: round.ownUpdates,
        committed: round.committed,
        revealed: round.revealed,
        deadline: round.deadline,
        stage_at: round.stageAt,
        seed_block: time(round.seedBlock),
        pool: Amount(round.pool),
        weight: Amount(round.weight),
        total: Amount(round.total),
        settled_at: time(round.settledAt),
        base: BlobHash(round.base.0),
        cohort_root: digest(round.cohortRoot),
        updates_root: digest(round.updatesRoot),
        own_commitments: digest(round.ownCommitments),
        seed: Some(digest(round.seed)).filter(|_| round.seed != B256::ZERO),
        payouts_root: digest(round.payoutsRoot),
        checkpoint: BlobHash(round.checkpoint.0),
        result_hash: digest(round.resultHash),
        submission_hash: digest(round.submissionHash),
    })
}

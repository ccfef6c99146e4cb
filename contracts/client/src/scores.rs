//! Validators' scores: committed to, then revealed.

use convoke_protocol::factors::{self, ChainReveal};
use convoke_protocol::identity::keccak;
use convoke_protocol::ids::{Address, Amount, Digest, RoundId, TaskId};

use crate::abi::round_manager::{IRoundManagerTypes, RoundManager};
use crate::abi::{digest, eth, ours, word};
use crate::rounds::conflict;
use crate::{Chain, ChainError};

impl Chain {
    /// Commits to scores, as a validator. Doing so again with the same commitment is no error.
    ///
    /// # Errors
    /// [`ChainError::Conflict`] if another commitment is there; [`ChainError::Reverted`] with
    /// `NotEligible`, `WrongStage`, `StageOver`, `TooManyValidators`; errors of any transaction.
    pub async fn commit_scores(
        &self,
        task: TaskId,
        round: RoundId,
        commitment: Digest,
    ) -> Result<(), ChainError> {
        let me = self.wallet("commitScores")?;
        let is_committed = async || {
            let attempt = self.round(task, round).await?.attempt;
            let there = self.score_commitment(task, round, attempt, me).await?;
            match digest(there.commitment) {
                Digest::ZERO => Ok(false),
                there if there == commitment => Ok(true),
                _ => Err(conflict("commitment of this validator", task, round)),
            }
        };
        let call = RoundManager::commitScoresCall {
            task: task.0,
            round: round.0,
            commitment: word(commitment),
        };
        self.send_once(&call, is_committed).await
    }

    /// Reveals scores, as a validator: one factor an update, own commitments last, 0 to 20,000.
    /// Doing so again with the same factors is no error.
    ///
    /// # Errors
    /// [`ChainError::Conflict`] if other factors are there; [`ChainError::Reverted`] with
    /// `RevealMismatch`, `NotCommitted`, `WrongStage`, `StageOver`, `WrongFactorsLength`,
    /// `FactorTooHigh`; errors of any transaction.
    pub async fn reveal_scores(
        &self,
        task: TaskId,
        round: RoundId,
        factors: &[u16],
        salt: Digest,
    ) -> Result<(), ChainError> {
        let me = self.wallet("revealScores")?;
        let bytes = factors::encode(factors);
        let hash = keccak(&[&bytes]);
        let is_revealed = async || {
            let attempt = self.round(task, round).await?.attempt;
            let there = self.score_commitment(task, round, attempt, me).await?;
            match digest(there.factorsHash) {
                Digest::ZERO => Ok(false),
                there if there == hash => Ok(true),
                _ => Err(conflict("reveal of this validator", task, round)),
            }
        };
        let call = RoundManager::revealScoresCall {
            task: task.0,
            round: round.0,
            factors: bytes.clone().into(),
            salt: word(salt),
        };
        self.send_once(&call, is_revealed).await
    }

    /// Validators that committed to scores in a round's newest attempt, in order, with what they
    /// revealed, from the logs and checked against the hashes in the contract's state.
    ///
    /// # Errors
    /// [`ChainError::Unexpected`] if the endpoint lacks a log; [`ChainError::Unreachable`].
    pub async fn scores(
        &self,
        task: TaskId,
        round: RoundId,
    ) -> Result<Vec<ChainReveal>, ChainError> {
        let call = RoundManager::validatorsOfCall {
            task: task.0,
            round: round.0,
        };
        let validators = self.link().call(self.book().round_manager, &call).await?;
        let attempt = self.round(task, round).await?.attempt;
        let mut scores = Vec::new();
        let mut hashes = Vec::new();
        for validator in validators.into_iter().map(ours) {
            let there = self
                .score_commitment(task, round, attempt, validator)
                .await?;
            hashes.push(digest(there.factorsHash));
            scores.push(ChainReveal {
                validator,
                weight: Amount(there.weight),
                factors: None,
            });
        }
        self.fill_factors(task, round, &mut scores, &hashes).await?;
        Ok(scores)
    }

    /// `hashes` are zero for those that have not revealed.
    async fn fill_factors(
        &self,
        task: TaskId,
        round: RoundId,
        scores: &mut [ChainReveal],
        hashes: &[Digest],
    ) -> Result<(), ChainError> {
        let mut missing = hashes.iter().filter(|hash| **hash != Digest::ZERO).count();
        if missing == 0 {
            return Ok(());
        }
        let mut take = |event: RoundManager::ScoresRevealed| {
            let (validator, hash) = (ours(event.validator), keccak(&[&event.factors]));
            let found = scores.iter_mut().zip(hashes).find(|(scores, wanted)| {
                scores.validator == validator && scores.factors.is_none() && **wanted == hash
            });
            if let Some((scores, _)) = found {
                scores.factors = factors::decode(&event.factors);
                missing -= 1;
            }
            missing == 0
        };
        if self.round_events_back(task, round, &mut take).await? {
            return Ok(());
        }
        Err(ChainError::Unexpected(format!(
            "{missing} reveals of round {round} of task {task} are not in the logs"
        )))
    }

    async fn score_commitment(
        &self,
        task: TaskId,
        round: RoundId,
        attempt: u16,
        validator: Address,
    ) -> Result<IRoundManagerTypes::ScoreCommitment, ChainError> {
        let call = RoundManager::scoreCommitmentOfCall {
            task: task.0,
            round: round.0,
            attempt,
            validator: eth(validator),
        };
        self.link().call(self.book().round_manager, &call).await
    }
}

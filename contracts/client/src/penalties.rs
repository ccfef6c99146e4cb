//! Hard penalties, on evidence that the contract checks itself.

use alloy::primitives::{Bytes, U256};
use alloy::sol_types::{SolCall, SolEvent};
use convoke_protocol::factors::{self, SignedReveal};
use convoke_protocol::ids::{Address, Amount, RoundId, TaskId};
use convoke_protocol::update::SignedUpdate;

use crate::abi::penalty_manager::{IPenaltyManagerTypes, PenaltyManager};
use crate::abi::word;
use crate::sending::event;
use crate::{Chain, ChainError};

impl Chain {
    /// Punishes a trainer that signed two different updates for one round; the wallet is the
    /// reporter and gets its part. Anyone. Returns what was taken, or `None` if this fault was
    /// punished before.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `SameUpdate`, `DifferentSigners`, `DifferentRounds`,
    /// `InvalidSignature`, `NotAnOperator`; errors of any transaction.
    pub async fn punish_equivocation(
        &self,
        first: &SignedUpdate,
        second: &SignedUpdate,
    ) -> Result<Option<Amount>, ChainError> {
        let call = PenaltyManager::punishEquivocationCall {
            first: update_of(first),
            firstSignature: Bytes::copy_from_slice(&first.signature.0),
            second: update_of(second),
            secondSignature: Bytes::copy_from_slice(&second.signature.0),
        };
        let manager = self.book().penalty_manager;
        self.punish(
            manager,
            &call,
            |event: PenaltyManager::EquivocationPunished| event.taken,
        )
        .await
    }

    /// Punishes a validator that signed a reveal which contradicts its commitment; the wallet is
    /// the reporter and gets its part. Anyone. Returns what was taken, or `None` if this fault was
    /// punished before.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `NoContradiction`, `NotCommitted`, `InvalidSignature`,
    /// `NotAnOperator`; errors of any transaction.
    pub async fn punish_contradiction(
        &self,
        task: TaskId,
        round: RoundId,
        reveal: &SignedReveal,
    ) -> Result<Option<Amount>, ChainError> {
        let call = PenaltyManager::punishContradictionCall {
            reveal: IPenaltyManagerTypes::Reveal {
                task: U256::from(task.0),
                round: U256::from(round.0),
                attempt: U256::from(reveal.attempt),
                factors: factors::encode(&reveal.factors).into(),
                salt: reveal.salt.into(),
            },
            signature: Bytes::copy_from_slice(&reveal.signature.0),
        };
        let manager = self.book().penalty_manager;
        self.punish(
            manager,
            &call,
            |event: PenaltyManager::ContradictionPunished| event.taken,
        )
        .await
    }

    /// Sends evidence to a contract. What was taken by the event that tells it, or `None` for a
    /// fault that was punished before.
    pub(crate) async fn punish<C: SolCall, E: SolEvent>(
        &self,
        contract: Address,
        evidence: &C,
        taken: fn(E) -> u128,
    ) -> Result<Option<Amount>, ChainError> {
        match self.link().send(contract, evidence).await {
            Ok(receipt) => event(&receipt, contract).map(|event| Some(Amount(taken(event)))),
            Err(error) if error.revert_name() == Some("AlreadyPunished") => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn update_of(update: &SignedUpdate) -> IPenaltyManagerTypes::Update {
    let header = &update.header;
    IPenaltyManagerTypes::Update {
        task: U256::from(header.task.0),
        round: U256::from(header.round.0),
        base: header.base.0.into(),
        delta: header.delta.0.into(),
        deltaRoot: word(header.delta_root),
        deltaBytes: U256::from(header.delta_bytes),
        deltaNorm: U256::from(header.delta_norm.bits()),
        numExamples: U256::from(header.num_examples),
        trainLossMicros: U256::from(header.train_loss_micros),
    }
}

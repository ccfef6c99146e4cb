//! Who administers the contracts, the guardian's brake, and the change of the proof verifier.

use std::collections::BTreeSet;

use alloy::primitives::{B256, Bytes, U256};
use alloy::sol_types::SolCall;
use convoke_protocol::ids::{Address, Digest};
use serde::{Deserialize, Serialize};

use crate::abi::administration::{pauseCall, pausedCall, unpauseCall};
use crate::abi::round_manager::RoundManager;
use crate::abi::timelock::TimelockController;
use crate::abi::{digest, eth, word};
use crate::deploy::role;
use crate::sending::event;
use crate::{Chain, ChainError, ChainEvent, Event};

/// Holders of roles on any of the contracts, each list in the order of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Administrators {
    /// They decide on all roles: the timelock, if nobody else was let in.
    pub admins: Vec<Address>,
    /// They can stop deposits, delegations and new tasks.
    pub guardians: Vec<Address>,
    /// They name the contract that checks proofs.
    pub verifier_setters: Vec<Address>,
    /// They take stake on evidence: contracts of the deployment only.
    pub slashers: Vec<Address>,
    /// They name who takes stake: nobody, once the deployment is done.
    pub slasher_setters: Vec<Address>,
}

/// A change of the contract that checks proofs, which waits for the timelock's delay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifierProposal {
    /// The contract that is to check proofs; zero for none.
    pub verifier: Address,
    /// Tells this proposal from others of the same contract.
    pub salt: Digest,
    /// From when it can be enacted, in Unix seconds.
    pub ready_at: u64,
}

impl Chain {
    /// Proposes another contract that checks proofs. Only the timelock's governor.
    ///
    /// # Errors
    /// [`ChainError::NoTimelock`]; [`ChainError::Reverted`] with
    /// `AccessControlUnauthorizedAccount`; errors of any transaction.
    pub async fn propose_verifier(
        &self,
        verifier: Address,
    ) -> Result<VerifierProposal, ChainError> {
        let timelock = self.book().timelock.ok_or(ChainError::NoTimelock)?;
        let delay = self
            .link()
            .call(timelock, &TimelockController::getMinDelayCall {})
            .await?;
        // Of a block before the proposal: no two in one block, and none from another chain.
        let salt = self.latest_block().await?.hash;
        let call = TimelockController::scheduleCall {
            target: eth(self.book().round_manager),
            value: U256::ZERO,
            data: change_of(verifier),
            predecessor: B256::ZERO,
            salt: word(salt),
            delay,
        };
        let receipt = self.link().send(timelock, &call).await?;
        let id = event::<TimelockController::CallScheduled>(&receipt, timelock)?.id;
        let ready_at = self
            .link()
            .call(timelock, &TimelockController::getTimestampCall { id })
            .await?;
        Ok(VerifierProposal {
            verifier,
            salt,
            ready_at: ready_at.saturating_to(),
        })
    }

    /// Carries out a proposal when the timelock's delay is over. Anyone. No error if the contract
    /// is set already.
    ///
    /// # Errors
    /// [`ChainError::NoTimelock`]; [`ChainError::Reverted`] with
    /// `TimelockUnexpectedOperationState` before the delay is over, and for a proposal that was
    /// never made; errors of any transaction.
    pub async fn enact_verifier(&self, proposal: &VerifierProposal) -> Result<(), ChainError> {
        let timelock = self.book().timelock.ok_or(ChainError::NoTimelock)?;
        if self.proof_verifier().await?.unwrap_or(Address::ZERO) == proposal.verifier {
            return Ok(());
        }
        let call = TimelockController::executeCall {
            target: eth(self.book().round_manager),
            value: U256::ZERO,
            payload: change_of(proposal.verifier),
            predecessor: B256::ZERO,
            salt: word(proposal.salt),
        };
        self.link().send(timelock, &call).await?;
        Ok(())
    }

    /// Who has which role, from the logs of all grants and revocations since the deployment.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`], [`ChainError::Refused`].
    pub async fn administrators(&self) -> Result<Administrators, ChainError> {
        let mut holders = BTreeSet::new();
        let mut events = self.events(self.book().deployed_block, 0);
        while let Some(told) = events.next_now().await? {
            let event = match told {
                ChainEvent::Logged(event) => event,
                ChainEvent::Reorged { from } => {
                    holders.retain(|(_, _, _, block)| *block < from);
                    continue;
                }
            };
            let (contract, block) = (event.contract, event.block);
            match event.event {
                Event::RoleGranted { role, account, .. } => {
                    holders.insert((role, account, contract, block));
                }
                Event::RoleRevoked { role, account, .. } => {
                    holders.retain(|(r, a, c, _)| (*r, *a, *c) != (role, account, contract));
                }
                _ => {}
            }
        }
        let with = |wanted: B256| -> Vec<Address> {
            let wanted: Digest = digest(wanted);
            let accounts = holders.iter().filter(|(role, ..)| *role == wanted);
            let accounts: BTreeSet<_> = accounts.map(|(_, account, ..)| *account).collect();
            accounts.into_iter().collect()
        };
        Ok(Administrators {
            admins: with(B256::ZERO),
            guardians: with(role("PAUSER_ROLE")),
            verifier_setters: with(role("VERIFIER_ROLE")),
            slashers: with(role("SLASHER_ROLE")),
            slasher_setters: with(role("SLASHER_ADMIN_ROLE")),
        })
    }

    /// Stops deposits, delegations and new tasks; exits, claims and rounds go on. Only a guardian.
    /// No error if that was done before.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] with `AccessControlUnauthorizedAccount`; errors of any
    /// transaction.
    pub async fn pause_entry(&self) -> Result<(), ChainError> {
        for manager in [self.book().stake_manager, self.book().task_manager] {
            if !self.link().call(manager, &pausedCall {}).await? {
                self.link().send(manager, &pauseCall {}).await?;
            }
        }
        Ok(())
    }

    /// Ends what [`Chain::pause_entry`] began.
    ///
    /// # Errors
    /// As [`Chain::pause_entry`].
    pub async fn unpause_entry(&self) -> Result<(), ChainError> {
        for manager in [self.book().stake_manager, self.book().task_manager] {
            if self.link().call(manager, &pausedCall {}).await? {
                self.link().send(manager, &unpauseCall {}).await?;
            }
        }
        Ok(())
    }

    /// Whether entry is stopped on any of the contracts.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn entry_is_paused(&self) -> Result<bool, ChainError> {
        let paused = tokio::try_join!(
            self.link().call(self.book().stake_manager, &pausedCall {}),
            self.link().call(self.book().task_manager, &pausedCall {}),
        )?;
        Ok(paused.0 || paused.1)
    }
}

fn change_of(verifier: Address) -> Bytes {
    let call = RoundManager::setProofVerifierCall {
        verifier: eth(verifier),
    };
    call.abi_encode().into()
}

//! What a call would send, and what it would cost, without sending.

use std::sync::{Arc, Mutex, PoisonError};

use alloy::primitives::map::B256HashMap;
use alloy::primitives::{B256, U256, keccak256};
use alloy::providers::Provider;
use alloy::rpc::types::TransactionRequest;
use alloy::rpc::types::state::{AccountOverride, StateOverride};
use alloy::sol_types::{SolCall, SolValue};
use convoke_protocol::ids::{Address, Amount};
use serde::Serialize;

use crate::abi::token::ConvokeToken;
use crate::abi::{eth, ours};
use crate::connection::Link;
use crate::{Chain, ChainError};

/// Storage slots among which a token's allowances are looked for.
const ALLOWANCE_SLOTS: u64 = 32;

/// One transaction that would be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// The function called.
    pub call: String,
    /// The contract called; `None` for a deployment.
    pub to: Option<Address>,
    /// The chain's own coin that goes along, in wei.
    pub value_wei: Amount,
    /// The gas limit: the estimate and a fifth more. `None` if it cannot be told, because the
    /// call would fail or depends on an earlier one.
    pub gas: Option<u64>,
    /// The most that the gas can cost, in wei.
    pub fee_wei_max: Option<Amount>,
    /// Why it would fail, in words; `None` if it would go through as the chain is now.
    pub refused: Option<String>,
}

impl Chain {
    /// Runs calls of this connection without sending anything, and gives the transactions that
    /// they would send. Nothing is given for what is done already.
    ///
    /// A call ends at its first transaction, after an approval at the one that needs it.
    ///
    /// ```text
    /// chain.preview(|chain| async move { chain.fund(task, amount).await }).await?
    /// ```
    ///
    /// # Errors
    /// Errors of the calls but [`ChainError::Reverted`] by a transaction, which is given as
    /// [`Preview::refused`]; [`ChainError::NoWallet`].
    pub async fn preview<T, F>(
        &self,
        calls: impl FnOnce(Self) -> F,
    ) -> Result<Vec<Preview>, ChainError>
    where
        F: Future<Output = Result<T, ChainError>>,
    {
        let rehearsal = Arc::new(Rehearsal::default());
        let outcome = calls(self.rehearsing(Arc::clone(&rehearsal))).await;
        match outcome {
            Ok(_) | Err(ChainError::Previewed) => Ok(rehearsal.previews()),
            Err(error) => Err(error),
        }
    }
}

/// What was tried so far.
#[derive(Default)]
pub(crate) struct Rehearsal {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    previews: Vec<Preview>,
    /// As if the approvals had been sent.
    overrides: StateOverride,
    /// An approval could not be imitated: later refusals mean nothing.
    is_blind: bool,
}

impl Rehearsal {
    fn previews(&self) -> Vec<Preview> {
        self.state().previews.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// Notes a transaction instead of sending it; the error is what ends the call.
    pub(crate) async fn rehearse(
        &self,
        what: &'static str,
        rehearsal: &Rehearsal,
        request: TransactionRequest,
    ) -> ChainError {
        match self.rehearsed(what, rehearsal, request).await {
            Ok(preview) => {
                rehearsal.state().previews.push(preview);
                ChainError::Previewed
            }
            Err(error) => error,
        }
    }

    async fn rehearsed(
        &self,
        what: &'static str,
        rehearsal: &Rehearsal,
        request: TransactionRequest,
    ) -> Result<Preview, ChainError> {
        let (overrides, is_blind) = {
            let state = rehearsal.state();
            (state.overrides.clone(), state.is_blind)
        };
        let mut preview = Preview {
            call: what.to_owned(),
            to: request.to.and_then(|to| to.to().copied()).map(ours),
            value_wei: Amount(request.value.map_or(0, |value| value.saturating_to())),
            gas: None,
            fee_wei_max: None,
            refused: None,
        };
        let estimate = self
            .read(what, || async {
                let call = self.provider.estimate_gas(request.clone());
                if overrides.is_empty() {
                    call.await
                } else {
                    call.overrides(overrides.clone()).await
                }
            })
            .await;
        match estimate {
            Ok(estimate) => {
                let gas = self.gas_limit(what, estimate)?;
                let fee = self.fees(what).await?.most();
                preview.gas = Some(gas);
                preview.fee_wei_max = Some(Amount(fee.saturating_mul(u128::from(gas))));
            }
            Err(ChainError::Reverted { .. }) if is_blind => {}
            Err(ChainError::Reverted { words, .. }) => preview.refused = Some(words),
            Err(error) => return Err(error),
        }
        Ok(preview)
    }

    /// Lets what follows see an allowance that was not sent. Where a token keeps it is not
    /// known: places are tried until the token itself reads it back.
    pub(crate) async fn imitate_approval(
        &self,
        token: Address,
        owner: Address,
        spender: Address,
        value: U256,
    ) -> Result<(), ChainError> {
        let Some(rehearsal) = &self.rehearsal else {
            return Ok(());
        };
        let query = ConvokeToken::allowanceCall {
            owner: eth(owner),
            spender: eth(spender),
        };
        for slot in 0..ALLOWANCE_SLOTS {
            let inner = keccak256((eth(owner), U256::from(slot)).abi_encode());
            let place = keccak256((eth(spender), inner).abi_encode());
            let overrides = with_word(&rehearsal.state().overrides, token, place, value);
            let request = TransactionRequest::default()
                .to(eth(token))
                .input(query.abi_encode().into());
            let answer = self
                .read("allowance", || async {
                    self.provider
                        .call(request.clone())
                        .overrides(overrides.clone())
                        .await
                })
                .await;
            let seen = match answer {
                Ok(answer) => ConvokeToken::allowanceCall::abi_decode_returns(&answer).ok(),
                // An endpoint without overrides.
                Err(ChainError::Refused { .. }) => break,
                Err(error) => return Err(error),
            };
            if seen == Some(value) {
                rehearsal.state().overrides = overrides;
                return Ok(());
            }
        }
        rehearsal.state().is_blind = true;
        Ok(())
    }
}

fn with_word(overrides: &StateOverride, token: Address, place: B256, value: U256) -> StateOverride {
    let mut overrides = overrides.clone();
    let account: &mut AccountOverride = overrides.entry(eth(token)).or_default();
    account
        .state_diff
        .get_or_insert_with(B256HashMap::default)
        .insert(place, B256::from(value));
    overrides
}

//! Transactions: estimated with a ceiling, signed once for each nonce, sent until known, awaited
//! for a bounded time.
//!
//! Nothing is sent twice: what may have arrived is only ever signed anew with the same nonce, of
//! which a chain takes one, or once another transaction has that nonce for good.
//!
//! alloy's own nonce fillers do not fit: the simple one gives two concurrent transactions one
//! nonce, the cached one never looks at the chain again after a failed send or a reorganization.
//! Here a nonce is the least from the chain's pending count on that is not in flight.

use std::time::Duration;

use alloy::network::TransactionBuilder;
use alloy::primitives::{B256, U256};
use alloy::providers::Provider;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::sol_types::{SolCall, SolEvent};
use alloy::transports::RpcError;
use convoke_protocol::ids::Address;

use crate::ChainError;
use crate::abi::{eth, function_name, input_of};
use crate::connection::Link;

mod fees;
mod flight;
mod signer;

pub(crate) use fees::Fees;
use flight::Landing;
pub(crate) use signer::Signer;
use signer::{Flight, Signed};

/// Most gas of one transaction; the cap of EIP-7825.
pub const GAS_CEILING: u64 = 1 << 24;
/// How often one signed transaction is offered to the endpoint.
const OFFERS_MAX: u32 = 5;
/// Wait after the first failed offer; doubled after each further one.
const OFFER_BACKOFF: Duration = Duration::from_millis(200);
/// How often a transaction is signed anew because its nonce was taken by another process.
const NONCE_TRIES_MAX: u32 = 16;

/// Limits on the transactions of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendOptions {
    /// Most gas of one transaction: 2^24 by default, the cap of EIP-7825.
    pub gas_ceiling: u64,
    /// A transaction that is not mined for so long is offered again with an eighth more for its
    /// gas: 30 s by default.
    pub bump_after: Duration,
    /// How often that is done at most: 8 by default, which makes 2.6 times the first fee.
    pub bumps_max: u32,
    /// Longest wait for a receipt: 5 minutes by default.
    pub receipt_timeout: Duration,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            gas_ceiling: GAS_CEILING,
            bump_after: Duration::from_secs(30),
            bumps_max: 8,
            receipt_timeout: Duration::from_secs(300),
        }
    }
}

impl Link {
    /// Calls a function in a transaction and waits until it is mined.
    pub(crate) async fn send<C: SolCall>(
        &self,
        contract: Address,
        call: &C,
    ) -> Result<TransactionReceipt, ChainError> {
        let request = TransactionRequest::default()
            .with_to(eth(contract))
            .with_input(input_of(call));
        self.transact(function_name::<C>(), request).await
    }

    /// A transfer of the chain's own coin.
    pub(crate) async fn send_native(
        &self,
        to: Address,
        wei: u128,
    ) -> Result<TransactionReceipt, ChainError> {
        let request = TransactionRequest::default()
            .with_to(eth(to))
            .with_value(U256::from(wei));
        self.transact("transfer of native coin", request).await
    }

    /// Sends a transaction and waits until it is mined. `what` is for errors.
    pub(crate) async fn transact(
        &self,
        what: &'static str,
        request: TransactionRequest,
    ) -> Result<TransactionReceipt, ChainError> {
        let signer = self
            .signer
            .as_ref()
            .ok_or(ChainError::NoWallet { call: what })?;
        let request = request
            .with_from(eth(signer.address))
            .with_chain_id(self.chain_id);
        if let Some(rehearsal) = &self.rehearsal {
            return Err(self.rehearse(what, rehearsal, request).await);
        }
        let gas = self.gas(what, &request).await?;
        let request = request.with_gas_limit(gas);
        for _ in 0..NONCE_TRIES_MAX {
            let fees = self.fees(what).await?;
            let Some(mut flight) = self.launch(what, signer, &request, fees).await? else {
                tracing::debug!(what, "nonce taken, signing anew");
                continue;
            };
            match self.land(what, signer, &request, &mut flight).await? {
                Landing::Mined(receipt) => {
                    return self.checked(what, request, *receipt).await;
                }
                Landing::Replaced => {
                    tracing::debug!(what, nonce = flight.nonce(), "replaced, signing anew");
                }
            }
        }
        let reason = "the nonce was taken again and again; is the wallet in use elsewhere?";
        Err(ChainError::Refused {
            what: what.to_owned(),
            reason: reason.to_owned(),
        })
    }

    /// The estimate and a fifth more: state may change before the transaction is mined.
    pub(crate) async fn gas(
        &self,
        what: &'static str,
        request: &TransactionRequest,
    ) -> Result<u64, ChainError> {
        let estimate = self
            .read(what, || async {
                self.provider.estimate_gas(request.clone()).await
            })
            .await?;
        self.gas_limit(what, estimate)
    }

    /// # Errors
    /// [`ChainError::GasAboveCeiling`]. The margin may be cut, the estimate not.
    pub(crate) fn gas_limit(&self, call: &'static str, estimate: u64) -> Result<u64, ChainError> {
        let needed = estimate.saturating_add(estimate / 5);
        let ceiling = self.options.gas_ceiling;
        if estimate > ceiling {
            return Err(ChainError::GasAboveCeiling {
                call,
                needed,
                ceiling,
            });
        }
        Ok(needed.min(ceiling))
    }

    /// Takes a nonce, signs, and offers, in turn with the wallet's other transactions: a chain
    /// that queues nothing takes nonces only in order. `None` if the nonce was taken.
    async fn launch(
        &self,
        what: &'static str,
        signer: &Signer,
        request: &TransactionRequest,
        fees: Fees,
    ) -> Result<Option<Flight>, ChainError> {
        let _turn = signer.turn.lock().await;
        let count = self.pending_count(what, signer).await?;
        let mut flight = signer.take_nonce(count);
        let signed = signer.sign(what, request, flight.nonce(), fees).await?;
        let offer = self.offer(what, &signed).await?;
        flight.launched(signed, fees);
        Ok(match offer {
            Offer::Known => Some(flight),
            Offer::NonceTaken => None,
        })
    }

    pub(crate) async fn pending_count(
        &self,
        what: &'static str,
        signer: &Signer,
    ) -> Result<u64, ChainError> {
        let account = eth(signer.address);
        self.read(what, || async {
            self.provider.get_transaction_count(account).pending().await
        })
        .await
    }

    /// Offers the same bytes until the endpoint has them: the hash makes repeats harmless.
    async fn offer(&self, what: &'static str, signed: &Signed) -> Result<Offer, ChainError> {
        let mut wait = OFFER_BACKOFF;
        let mut may_have_arrived = false;
        let mut last = None;
        for _ in 0..OFFERS_MAX {
            let Err(error) = self.provider.send_raw_transaction(&signed.bytes).await else {
                return Ok(Offer::Known);
            };
            if let RpcError::ErrorResp(payload) = &error {
                match verdict(&payload.message) {
                    Some(Offer::Known) => return Ok(Offer::Known),
                    // After a broken answer the one that took the nonce may be this one.
                    Some(Offer::NonceTaken) if may_have_arrived => return Ok(Offer::Known),
                    Some(Offer::NonceTaken) => return Ok(Offer::NonceTaken),
                    None => {}
                }
            }
            let error = ChainError::of_rpc(&self.rpc, what, &error);
            if !matches!(error, ChainError::Unreachable { .. }) {
                return Err(error);
            }
            may_have_arrived = true;
            last = Some(error);
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        Err(last.unwrap_or_else(|| ChainError::Unexpected(format!("{what} was never offered"))))
    }

    async fn checked(
        &self,
        what: &'static str,
        request: TransactionRequest,
        receipt: TransactionReceipt,
    ) -> Result<TransactionReceipt, ChainError> {
        if receipt.status() {
            let hash = receipt.transaction_hash;
            tracing::debug!(what, %hash, gas = receipt.gas_used, "mined");
            return Ok(receipt);
        }
        Err(self.why_reverted(what, request, &receipt).await)
    }

    /// A receipt has no reason; the same call on the block's state has one, mostly, and on the
    /// newest state where old ones are not kept.
    async fn why_reverted(
        &self,
        what: &'static str,
        request: TransactionRequest,
        receipt: &TransactionReceipt,
    ) -> ChainError {
        let number = receipt.block_number.unwrap_or_default();
        let blocks = [
            alloy::eips::BlockId::number(number),
            alloy::eips::BlockId::latest(),
        ];
        for block in blocks {
            let replay = self.provider.call(request.clone()).block(block).await;
            let replay = replay.map_err(|error| ChainError::of_rpc(&self.rpc, what, &error));
            if let Err(error @ ChainError::Reverted { .. }) = replay {
                return error;
            }
        }
        ChainError::Reverted {
            call: what,
            name: String::new(),
            words: format!(
                "transaction {} failed in block {number}",
                receipt.transaction_hash
            ),
        }
    }
}

/// What a refusal says of the transaction; `None` if it is another refusal.
fn verdict(message: &str) -> Option<Offer> {
    const KNOWN: [&str; 3] = ["already known", "already imported", "known transaction"];
    const NONCE_TAKEN: [&str; 4] = [
        "nonce too low",
        "replacement transaction underpriced",
        // Of a chain that queues nothing: it went back behind what was in flight.
        "nonce too high",
        "nonce gap",
    ];
    let message = message.to_lowercase();
    let has = |texts: &[&str]| texts.iter().any(|text| message.contains(text));
    if has(&KNOWN) {
        Some(Offer::Known)
    } else if has(&NONCE_TAKEN) {
        Some(Offer::NonceTaken)
    } else {
        None
    }
}

/// The events of one kind that `contract` itself emitted: a token could imitate them.
pub(crate) fn events<E: SolEvent>(
    receipt: &TransactionReceipt,
    contract: Address,
) -> impl Iterator<Item = E> {
    let logs = receipt
        .logs()
        .iter()
        .filter(move |log| log.address() == eth(contract));
    logs.filter_map(|log| E::decode_log(&log.inner).ok())
        .map(|log| log.data)
}

/// The first event of a kind, which a successful call always emits.
pub(crate) fn event<E: SolEvent>(
    receipt: &TransactionReceipt,
    contract: Address,
) -> Result<E, ChainError> {
    events(receipt, contract).next().ok_or_else(|| {
        let hash: B256 = receipt.transaction_hash;
        ChainError::Unexpected(format!("no event {} in transaction {hash}", E::SIGNATURE))
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offer {
    /// The endpoint has the transaction, or had it.
    Known,
    /// Another transaction has this nonce, or earlier ones are missing; ours never arrived.
    NonceTaken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_several_nodes_are_understood() {
        for known in [
            "already known",
            "Transaction already imported",
            "AlreadyKnown: already known",
        ] {
            assert_eq!(verdict(known), Some(Offer::Known), "{known}");
        }
        for taken in [
            "nonce too low: next nonce 5, tx nonce 4",
            "replacement transaction underpriced",
            "Nonce too high: next nonce 5, tx nonce 9",
        ] {
            assert_eq!(verdict(taken), Some(Offer::NonceTaken), "{taken}");
        }
        assert_eq!(verdict("insufficient funds for gas * price + value"), None);
    }
}

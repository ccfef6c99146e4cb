//! From the offer to the receipt: dropped transactions are offered again, stuck ones for a higher
//! fee, and one whose nonce another transaction took is given up.

use std::time::Duration;

use alloy::network::TransactionBuilder;
use alloy::providers::Provider;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use tokio::time::Instant;

use super::{Flight, Offer, Signed, Signer};
use crate::ChainError;
use crate::abi::eth;
use crate::connection::Link;

/// First wait between two looks for a receipt; doubled up to the longest.
const POLL_MIN: Duration = Duration::from_millis(20);
const POLL_MAX: Duration = Duration::from_secs(2);
/// How often it is checked that the chain still has the transaction.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// So many checks in a row must find the nonce taken: endpoints behind one address may lag.
const REPLACED_CHECKS: u32 = 3;
/// Most nonces in a gap that are filled.
const GAP_MAX: u64 = 64;

/// How a flight ended.
pub(super) enum Landing {
    Mined(Box<TransactionReceipt>),
    /// Another transaction has the nonce, so that none of ours can be mined any more.
    Replaced,
}

impl Link {
    /// Waits until one of the flight's transactions is mined. An endpoint that does not answer
    /// is asked again until the time is over: the transaction may have arrived.
    pub(super) async fn land(
        &self,
        what: &'static str,
        signer: &Signer,
        request: &TransactionRequest,
        flight: &mut Flight,
    ) -> Result<Landing, ChainError> {
        let start = Instant::now();
        let mut wait = POLL_MIN;
        let mut check_at = start + CHECK_EVERY.min(self.options.bump_after);
        let mut bump_at = start + self.options.bump_after;
        let (mut bumps, mut taken) = (0, 0);
        while start.elapsed() < self.options.receipt_timeout {
            if let Some(receipt) = patient(self.receipt(what, flight).await)?.flatten() {
                return Ok(Landing::Mined(Box::new(receipt)));
            }
            if Instant::now() >= check_at {
                let is_taken = patient(self.check(what, signer, flight).await)?;
                match is_taken {
                    Some(true) => taken += 1,
                    Some(false) => taken = 0,
                    None => {}
                }
                if taken >= REPLACED_CHECKS {
                    return Ok(Landing::Replaced);
                }
                check_at = Instant::now() + CHECK_EVERY.min(self.options.bump_after);
            }
            if Instant::now() >= bump_at && bumps < self.options.bumps_max {
                patient(self.bump(what, signer, request, flight).await)?;
                bumps += 1;
                bump_at = Instant::now() + self.options.bump_after;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(POLL_MAX);
        }
        let hash = flight.hashes().next().unwrap_or_default();
        Err(ChainError::ReceiptTimeout {
            call: what,
            transaction: hash.to_string(),
            waited: self.options.receipt_timeout,
        })
    }

    async fn receipt(
        &self,
        what: &'static str,
        flight: &Flight,
    ) -> Result<Option<TransactionReceipt>, ChainError> {
        for hash in flight.hashes() {
            let found = self
                .read(what, || async {
                    self.provider.get_transaction_receipt(hash).await
                })
                .await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Brings back what the endpoint has lost. True if another transaction has the nonce.
    async fn check(
        &self,
        what: &'static str,
        signer: &Signer,
        flight: &Flight,
    ) -> Result<bool, ChainError> {
        let account = eth(signer.address);
        let mined = self
            .read(what, || async {
                self.provider.get_transaction_count(account).latest().await
            })
            .await?;
        if mined > flight.nonce() {
            return Ok(self.receipt(what, flight).await?.is_none());
        }
        for hash in flight.hashes() {
            let known = self
                .read(what, || async {
                    self.provider.get_transaction_by_hash(hash).await
                })
                .await?;
            if known.is_some() {
                self.fill_gap(what, signer, flight).await?;
                return Ok(false);
            }
        }
        if let Some(signed) = flight.newest() {
            tracing::info!(what, hash = %signed.hash, "dropped by the endpoint, offering again");
            self.reoffer(what, signed).await?;
        }
        Ok(false)
    }

    /// Offers what was offered before, or the same for more: a refusal leaves the old offer.
    async fn reoffer(&self, what: &'static str, signed: &Signed) -> Result<(), ChainError> {
        match self.offer(what, signed).await {
            Ok(Offer::Known | Offer::NonceTaken) => Ok(()),
            Err(ChainError::Refused { reason, .. }) => {
                tracing::warn!(what, reason, "not taken again");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// After a reorganization nonces below ours may be nobody's. A transfer of nothing to oneself
    /// takes each: what had them is not signed anew, so it cannot happen twice.
    async fn fill_gap(
        &self,
        what: &'static str,
        signer: &Signer,
        flight: &Flight,
    ) -> Result<(), ChainError> {
        let _turn = signer.turn.lock().await;
        let count = self.pending_count(what, signer).await?;
        if count >= flight.nonce() || signer.awaits_between(count, flight.nonce()) {
            return Ok(());
        }
        tracing::info!(
            what,
            from = count,
            to = flight.nonce(),
            "filling a gap of nonces"
        );
        let fees = self.fees(what).await?;
        let nothing = TransactionRequest::default()
            .with_from(eth(signer.address))
            .with_to(eth(signer.address))
            .with_chain_id(self.chain_id)
            .with_gas_limit(21_000);
        for nonce in (count..flight.nonce()).take(usize::try_from(GAP_MAX).unwrap_or(usize::MAX)) {
            let signed = signer.sign(what, &nothing, nonce, fees).await?;
            self.offer(what, &signed).await?;
        }
        Ok(())
    }

    /// Offers the same call with the same nonce for a higher fee.
    async fn bump(
        &self,
        what: &'static str,
        signer: &Signer,
        request: &TransactionRequest,
        flight: &mut Flight,
    ) -> Result<(), ChainError> {
        let usual = self.fees(what).await?;
        let fees = flight.fees().map_or(usual, |old| old.bumped(usual));
        let signed = signer.sign(what, request, flight.nonce(), fees).await?;
        tracing::info!(
            what,
            nonce = flight.nonce(),
            fee_wei = fees.most(),
            "raising the fee"
        );
        // Remembered before it is offered: an answer may get lost.
        flight.launched(signed, fees);
        let Some(signed) = flight.newest() else {
            return Ok(());
        };
        self.reoffer(what, signed).await
    }
}

/// `None` if the endpoint did not answer.
fn patient<T>(outcome: Result<T, ChainError>) -> Result<Option<T>, ChainError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(ChainError::Unreachable { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

//! Transactions: estimated with a ceiling, signed once, sent until known, awaited for a bounded
//! time. A transaction that may have arrived is never signed anew, so nothing is sent twice.

use std::time::Duration;

use alloy::eips::eip2718::Encodable2718;
use alloy::network::{NetworkTransactionBuilder, TransactionBuilder};
use alloy::primitives::{B256, U256};
use alloy::providers::Provider;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::sol_types::{SolCall, SolEvent};
use alloy::transports::RpcError;
use convoke_protocol::ids::Address;
use tokio::time::Instant;

use crate::ChainError;
use crate::abi::eth;
use crate::connection::{Link, Signer, function_name};

/// Most gas of one transaction; the cap of EIP-7825.
pub(crate) const GAS_CEILING: u64 = 1 << 24;
/// Longest wait for a receipt.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(120);
/// First wait between two looks for a receipt; doubled up to the longest.
const RECEIPT_POLL_MIN: Duration = Duration::from_millis(20);
const RECEIPT_POLL_MAX: Duration = Duration::from_secs(2);
/// How often one signed transaction is offered to the endpoint.
const OFFERS_MAX: u32 = 5;
/// Wait after the first failed offer; doubled after each further one.
const OFFER_BACKOFF: Duration = Duration::from_millis(200);
/// How often a transaction is signed anew because its nonce was taken by another process.
const NONCE_TRIES_MAX: u32 = 16;
/// Tip where the chain suggests none, in wei.
const TIP_DEFAULT: u128 = 1_000_000_000;

impl Link {
    /// Calls a function in a transaction and waits until it is mined.
    pub(crate) async fn send<C: SolCall>(
        &self,
        contract: Address,
        call: &C,
    ) -> Result<TransactionReceipt, ChainError> {
        let request = TransactionRequest::default()
            .with_to(eth(contract))
            .with_input(call.abi_encode());
        self.transact(function_name::<C>(), request).await
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
        let _turn = signer.turn.lock().await;
        for _ in 0..NONCE_TRIES_MAX {
            let signed = self.sign(what, signer, request.clone()).await?;
            match self.offer(what, &signed).await? {
                Offer::Known => return self.mined(what, request, signed.hash, signer).await,
                Offer::NonceTaken => tracing::debug!(what, "nonce taken, signing anew"),
            }
        }
        let reason = "the nonce was taken again and again; is the wallet in use elsewhere?";
        Err(ChainError::Refused {
            what: what.to_owned(),
            reason: reason.to_owned(),
        })
    }

    async fn sign(
        &self,
        what: &'static str,
        signer: &Signer,
        request: TransactionRequest,
    ) -> Result<Signed, ChainError> {
        let from = eth(signer.address);
        let request = request.with_from(from).with_chain_id(self.chain_id);
        let gas = self.gas(what, &request).await?;
        let request = self.with_fees(what, request.with_gas_limit(gas)).await?;
        // Last, so that another process with this wallet has little time to take it.
        let nonce = self
            .read(what, || async {
                self.provider.get_transaction_count(from).pending().await
            })
            .await?;
        let request = request.with_nonce(nonce);
        let envelope = request
            .build(&signer.wallet)
            .await
            .map_err(|error| ChainError::Unexpected(format!("{what} cannot be signed: {error}")))?;
        Ok(Signed {
            hash: *envelope.tx_hash(),
            bytes: envelope.encoded_2718(),
        })
    }

    /// The estimate and a fifth more: state may change before the transaction is mined.
    async fn gas(
        &self,
        what: &'static str,
        request: &TransactionRequest,
    ) -> Result<u64, ChainError> {
        let estimate = self
            .read(what, || async {
                self.provider.estimate_gas(request.clone()).await
            })
            .await?;
        let needed = estimate.saturating_add(estimate / 5);
        // The margin may be cut, the estimate not.
        if estimate > GAS_CEILING {
            return Err(ChainError::GasAboveCeiling {
                call: what,
                needed,
                ceiling: GAS_CEILING,
            });
        }
        Ok(needed.min(GAS_CEILING))
    }

    /// Room for the base fee to double, or a plain gas price where blocks have no base fee.
    async fn with_fees(
        &self,
        what: &'static str,
        request: TransactionRequest,
    ) -> Result<TransactionRequest, ChainError> {
        let latest = alloy::eips::BlockId::latest();
        let block = self
            .read(what, || async { self.provider.get_block(latest).await })
            .await?;
        let Some(base_fee) = block.and_then(|block| block.header.base_fee_per_gas) else {
            let price = self
                .read(what, || async { self.provider.get_gas_price().await })
                .await?;
            return Ok(request.with_gas_price(price));
        };
        let tip = self
            .read(what, || async {
                self.provider.get_max_priority_fee_per_gas().await
            })
            .await;
        let tip = match tip {
            Ok(tip) => tip,
            // An endpoint without the method; anything else is an error.
            Err(ChainError::Refused { .. }) => TIP_DEFAULT,
            Err(error) => return Err(error),
        };
        Ok(request
            .with_max_priority_fee_per_gas(tip)
            .with_max_fee_per_gas(2 * u128::from(base_fee) + tip))
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
                let message = payload.message.to_lowercase();
                if message.contains("already known") || message.contains("already imported") {
                    return Ok(Offer::Known);
                }
                let nonce_taken = message.contains("nonce too low")
                    || message.contains("replacement transaction underpriced");
                // After a broken answer the one that took the nonce may be this one.
                if nonce_taken {
                    return Ok(if may_have_arrived {
                        Offer::Known
                    } else {
                        Offer::NonceTaken
                    });
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

    async fn mined(
        &self,
        what: &'static str,
        request: TransactionRequest,
        hash: B256,
        signer: &Signer,
    ) -> Result<TransactionReceipt, ChainError> {
        let receipt = self.receipt(what, hash).await?;
        if receipt.status() {
            tracing::debug!(what, %hash, gas = receipt.gas_used, "mined");
            return Ok(receipt);
        }
        Err(self.why_reverted(what, request, &receipt, signer).await)
    }

    async fn receipt(
        &self,
        what: &'static str,
        hash: B256,
    ) -> Result<TransactionReceipt, ChainError> {
        let start = Instant::now();
        let mut wait = RECEIPT_POLL_MIN;
        while start.elapsed() < RECEIPT_TIMEOUT {
            let found = self
                .read(what, || async {
                    self.provider.get_transaction_receipt(hash).await
                })
                .await?;
            if let Some(receipt) = found {
                return Ok(receipt);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RECEIPT_POLL_MAX);
        }
        Err(ChainError::ReceiptTimeout {
            call: what,
            transaction: hash.to_string(),
            waited: RECEIPT_TIMEOUT,
        })
    }

    /// A receipt has no reason; the same call on the block's state has one, mostly.
    async fn why_reverted(
        &self,
        what: &'static str,
        request: TransactionRequest,
        receipt: &TransactionReceipt,
        signer: &Signer,
    ) -> ChainError {
        let block = receipt.block_number.unwrap_or_default();
        let replay = self
            .provider
            .call(request.with_from(eth(signer.address)))
            .block(alloy::eips::BlockId::number(block))
            .await;
        match replay.map_err(|error| ChainError::of_rpc(&self.rpc, what, &error)) {
            Err(error @ ChainError::Reverted { .. }) => error,
            _ => ChainError::Reverted {
                call: what,
                name: String::new(),
                words: format!(
                    "transaction {} failed in block {block}",
                    receipt.transaction_hash
                ),
            },
        }
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
        let hash = receipt.transaction_hash;
        ChainError::Unexpected(format!("no event {} in transaction {hash}", E::SIGNATURE))
    })
}

struct Signed {
    hash: B256,
    bytes: Vec<u8>,
}

enum Offer {
    /// The endpoint has the transaction, or had it.
    Known,
    /// Another transaction has this nonce; ours never arrived.
    NonceTaken,
}

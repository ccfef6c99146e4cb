//! A connection: checked when it is made, reads retried, one transaction at a time.

use std::sync::Arc;
use std::time::Duration;

use alloy::network::{EthereumWallet, TransactionBuilder};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::TransactionRequest;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use alloy::transports::http::Http;
use alloy::transports::{RpcError, TransportErrorKind};
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::Address;
use convoke_protocol::payout::PayoutDomain;
use tokio::sync::Mutex;

use crate::abi::{digest, eth};
use crate::{AddressBook, BlockHead, ChainError};

/// Longest wait for one answer of the endpoint.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest wait for a connection to the endpoint.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a read is tried before the endpoint counts as unreachable.
const READ_TRIES_MAX: u32 = 5;
/// Wait after the first failed read; doubled after each further one.
const READ_BACKOFF: Duration = Duration::from_millis(100);

/// The contracts of one deployment, seen through one endpoint.
///
/// Clones share the connection. Transactions of all clones go out one after the other, so that
/// none takes another's nonce; two connections with one wallet are safe too, but may have to
/// try again.
#[derive(Clone)]
pub struct Chain {
    inner: Arc<Inner>,
}

struct Inner {
    book: AddressBook,
    link: Link,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain")
            .field("book", &self.inner.book)
            .field(
                "wallet",
                &self.inner.link.signer.as_ref().map(|signer| signer.address),
            )
            .finish()
    }
}

impl Chain {
    /// Connects to a deployment. Without a wallet the connection only reads.
    ///
    /// # Errors
    /// [`ChainError::WrongChain`], [`ChainError::NotDeployed`], [`ChainError::Unreachable`] after
    /// a few tries, [`ChainError::Endpoint`].
    pub async fn connect(book: &AddressBook, wallet: Option<&Wallet>) -> Result<Self, ChainError> {
        let link = Link::open(&book.rpc, wallet).await?;
        if link.chain_id != book.chain_id {
            return Err(ChainError::WrongChain {
                rpc: book.rpc.clone(),
                expected: book.chain_id,
                got: link.chain_id,
            });
        }
        let contracts = [
            ("token", book.token),
            ("stake manager", book.stake_manager),
            ("task manager", book.task_manager),
        ];
        for (contract, address) in contracts {
            if !link.has_code(address).await? {
                let chain_id = book.chain_id;
                return Err(ChainError::NotDeployed {
                    contract,
                    address,
                    chain_id,
                });
            }
        }
        Ok(Self {
            inner: Arc::new(Inner {
                book: book.clone(),
                link,
            }),
        })
    }

    /// What binds payouts to this deployment.
    #[must_use]
    pub fn domain(&self) -> PayoutDomain {
        PayoutDomain {
            chain_id: self.book().chain_id,
            contract: self.book().task_manager,
        }
    }

    /// Where the contracts are.
    #[must_use]
    pub fn book(&self) -> &AddressBook {
        &self.inner.book
    }

    /// Whose transactions this connection sends, if any.
    #[must_use]
    pub fn wallet_address(&self) -> Option<Address> {
        self.link().signer.as_ref().map(|signer| signer.address)
    }

    /// The newest block.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`] after a few tries.
    pub async fn latest_block(&self) -> Result<BlockHead, ChainError> {
        let link = self.link();
        let block = link
            .read("eth_getBlockByNumber", || async {
                link.provider
                    .get_block(alloy::eips::BlockId::latest())
                    .await
            })
            .await?
            .ok_or_else(|| ChainError::Unexpected("no latest block".to_owned()))?;
        Ok(BlockHead {
            number: block.header.number,
            hash: digest(block.header.hash),
            timestamp: block.header.timestamp,
        })
    }

    pub(crate) fn link(&self) -> &Link {
        &self.inner.link
    }
}

/// The endpoint and the key; knows no contract.
pub(crate) struct Link {
    pub(crate) rpc: String,
    pub(crate) chain_id: u64,
    pub(crate) provider: RootProvider,
    pub(crate) signer: Option<Signer>,
}

/// A key, and the turn to use it.
pub(crate) struct Signer {
    pub(crate) address: Address,
    pub(crate) wallet: EthereumWallet,
    /// Held from reading the nonce until the receipt is there.
    pub(crate) turn: Mutex<()>,
}

impl Link {
    pub(crate) async fn open(rpc: &str, wallet: Option<&Wallet>) -> Result<Self, ChainError> {
        let signer = wallet.map(signer_of).transpose()?;
        let provider = RootProvider::new(http_client(rpc)?);
        let mut link = Self {
            rpc: rpc.to_owned(),
            chain_id: 0,
            provider,
            signer,
        };
        link.chain_id = link
            .read("eth_chainId", || async {
                link.provider.get_chain_id().await
            })
            .await?;
        Ok(link)
    }

    /// Calls a view function.
    pub(crate) async fn call<C: SolCall>(
        &self,
        contract: Address,
        call: &C,
    ) -> Result<C::Return, ChainError> {
        let request = TransactionRequest::default()
            .with_to(eth(contract))
            .with_input(call.abi_encode());
        let name = function_name::<C>();
        let output = self
            .read(name, || async { self.provider.call(request.clone()).await })
            .await?;
        C::abi_decode_returns(&output)
            .map_err(|error| ChainError::Unexpected(format!("answer to {name}: {error}")))
    }

    /// Repeats a read until the endpoint answers: reads change nothing, so that is safe.
    pub(crate) async fn read<T, F>(
        &self,
        what: &'static str,
        request: impl Fn() -> F,
    ) -> Result<T, ChainError>
    where
        F: Future<Output = Result<T, RpcError<TransportErrorKind>>>,
    {
        let mut wait = READ_BACKOFF;
        for tries_left in (0..READ_TRIES_MAX).rev() {
            let error = match request().await {
                Ok(value) => return Ok(value),
                Err(error) => ChainError::of_rpc(&self.rpc, what, &error),
            };
            if tries_left == 0 || !matches!(error, ChainError::Unreachable { .. }) {
                return Err(error);
            }
            tracing::debug!(%error, ?wait, "reading again");
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        unreachable!("the last try returns")
    }

    pub(crate) async fn has_code(&self, address: Address) -> Result<bool, ChainError> {
        let code = self
            .read("eth_getCode", || async {
                self.provider.get_code_at(eth(address)).await
            })
            .await?;
        Ok(!code.is_empty())
    }
}

/// `transfer` of `transfer(address,uint256)`.
pub(crate) fn function_name<C: SolCall>() -> &'static str {
    C::SIGNATURE.split('(').next().unwrap_or(C::SIGNATURE)
}

fn signer_of(wallet: &Wallet) -> Result<Signer, ChainError> {
    let key = PrivateKeySigner::from_slice(&wallet.secret_bytes())
        .map_err(|error| ChainError::Unexpected(format!("wallet without a key: {error}")))?;
    Ok(Signer {
        address: wallet.address(),
        wallet: EthereumWallet::from(key),
        turn: Mutex::new(()),
    })
}

fn http_client(rpc: &str) -> Result<RpcClient, ChainError> {
    let wrong = |reason: String| ChainError::Endpoint {
        rpc: rpc.to_owned(),
        reason,
    };
    let url: reqwest::Url = rpc.parse().map_err(|error| wrong(format!("{error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("the scheme is neither http nor https".to_owned()));
    }
    // Only the first caller in a process can install a provider; any that is there serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .timeout(REQUEST_TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    let is_local = url
        .host_str()
        .is_some_and(|host| host == "127.0.0.1" || host == "localhost");
    Ok(RpcClient::new(Http::with_client(client, url), is_local))
}

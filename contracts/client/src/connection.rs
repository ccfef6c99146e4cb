//! A connection: checked when it is made, reads retried.

use std::sync::Arc;
use std::time::Duration;

use alloy::network::TransactionBuilder;
use alloy::primitives::Bytes;
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolCall;
use alloy::transports::http::Http;
use alloy::transports::{RpcError, TransportErrorKind};
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::Address;
use convoke_protocol::payout::PayoutDomain;

use crate::abi::penalty_manager::PenaltyManager;
use crate::abi::stake_manager::StakeManager;
use crate::abi::task_manager::TaskManager;
use crate::abi::{digest, eth, function_name, input_of, ours};
use crate::preview::Rehearsal;
use crate::sending::Signer;
use crate::{AddressBook, BlockHead, ChainError, SendOptions};

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
/// Clones share the connection and the wallet's nonces: many transactions can be under way at
/// once. Two connections with one wallet are safe too, but may have to try again.
#[derive(Clone)]
pub struct Chain {
    book: Arc<AddressBook>,
    link: Link,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain")
            .field("book", &self.book)
            .field("wallet", &self.wallet_address())
            .finish()
    }
}

impl Chain {
    /// Connects to a deployment. Without a wallet the connection only reads.
    ///
    /// # Errors
    /// [`ChainError::WrongChain`], [`ChainError::NotDeployed`], [`ChainError::NotLinked`],
    /// [`ChainError::Unreachable`] after a few tries, [`ChainError::Endpoint`].
    pub async fn connect(book: &AddressBook, wallet: Option<&Wallet>) -> Result<Self, ChainError> {
        Self::connect_with(book, wallet, SendOptions::default()).await
    }

    /// Connects as [`Chain::connect`], with limits of one's own on transactions.
    ///
    /// # Errors
    /// As [`Chain::connect`].
    pub async fn connect_with(
        book: &AddressBook,
        wallet: Option<&Wallet>,
        options: SendOptions,
    ) -> Result<Self, ChainError> {
        let link = Link::open(&book.rpc, wallet, options).await?;
        if link.chain_id != book.chain_id {
            return Err(ChainError::WrongChain {
                rpc: book.rpc.clone(),
                expected: book.chain_id,
                got: link.chain_id,
            });
        }
        let chain = Self {
            book: Arc::new(book.clone()),
            link,
        };
        chain.check_code().await?;
        chain.check_links().await?;
        Ok(chain)
    }

    async fn check_code(&self) -> Result<(), ChainError> {
        let contracts = [
            ("token", self.book.token),
            ("stake manager", self.book.stake_manager),
            ("task manager", self.book.task_manager),
            ("round manager", self.book.round_manager),
            ("penalty manager", self.book.penalty_manager),
        ];
        for (contract, address) in contracts {
            if !self.link.has_code(address).await? {
                let chain_id = self.book.chain_id;
                return Err(ChainError::NotDeployed {
                    contract,
                    address,
                    chain_id,
                });
            }
        }
        Ok(())
    }

    /// A book that mixes two deployments would send tokens to contracts that do not know each
    /// other.
    async fn check_links(&self) -> Result<(), ChainError> {
        let book = &*self.book;
        let (stakes, tasks) = (book.stake_manager, book.task_manager);
        let links = tokio::try_join!(
            self.link.call(stakes, &StakeManager::tokenCall {}),
            self.link.call(stakes, &StakeManager::taskManagerCall {}),
            self.link.call(tasks, &TaskManager::stakeManagerCall {}),
            self.link.call(tasks, &TaskManager::roundManagerCall {}),
            self.link
                .call(book.penalty_manager, &PenaltyManager::roundManagerCall {}),
        )?;
        let links = [
            ("stake manager", "token", links.0, book.token),
            ("stake manager", "task manager", links.1, tasks),
            ("task manager", "stake manager", links.2, stakes),
            ("task manager", "round manager", links.3, book.round_manager),
            (
                "penalty manager",
                "round manager",
                links.4,
                book.round_manager,
            ),
        ];
        let wrong = links
            .into_iter()
            .find(|(_, _, got, expected)| ours(*got) != *expected);
        match wrong {
            None => Ok(()),
            Some((contract, other, got, expected)) => Err(ChainError::NotLinked {
                contract,
                other,
                expected,
                got: ours(got),
            }),
        }
    }

    /// What binds payouts to this deployment.
    #[must_use]
    pub fn domain(&self) -> PayoutDomain {
        PayoutDomain {
            chain_id: self.book.chain_id,
            contract: self.book.task_manager,
        }
    }

    /// Where the contracts are.
    #[must_use]
    pub fn book(&self) -> &AddressBook {
        &self.book
    }

    /// Whose transactions this connection sends, if any.
    #[must_use]
    pub fn wallet_address(&self) -> Option<Address> {
        self.link.signer.as_ref().map(|signer| signer.address)
    }

    /// The newest block.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`] after a few tries.
    pub async fn latest_block(&self) -> Result<BlockHead, ChainError> {
        self.link
            .block(alloy::eips::BlockId::latest())
            .await?
            .ok_or_else(|| ChainError::Unexpected("no latest block".to_owned()))
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// The same connection, whose transactions are only tried.
    pub(crate) fn rehearsing(&self, rehearsal: Arc<Rehearsal>) -> Self {
        Self {
            book: Arc::clone(&self.book),
            link: Link {
                rehearsal: Some(rehearsal),
                ..self.link.clone()
            },
        }
    }

    pub(crate) fn wallet(&self, call: &'static str) -> Result<Address, ChainError> {
        self.wallet_address().ok_or(ChainError::NoWallet { call })
    }
}

/// The endpoint and the key; knows no contract.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) rpc: Arc<str>,
    pub(crate) chain_id: u64,
    pub(crate) provider: RootProvider,
    pub(crate) signer: Option<Arc<Signer>>,
    pub(crate) options: SendOptions,
    pub(crate) rehearsal: Option<Arc<Rehearsal>>,
}

impl Link {
    pub(crate) async fn open(
        rpc: &str,
        wallet: Option<&Wallet>,
        options: SendOptions,
    ) -> Result<Self, ChainError> {
        let signer = wallet.map(Signer::of).transpose()?.map(Arc::new);
        let mut link = Self {
            rpc: rpc.into(),
            chain_id: 0,
            provider: RootProvider::new(http_client(rpc)?),
            signer,
            options,
            rehearsal: None,
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
            .with_input(input_of(call));
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

    /// A block's head; `None` if there is no such block.
    pub(crate) async fn block(
        &self,
        block: alloy::eips::BlockId,
    ) -> Result<Option<BlockHead>, ChainError> {
        let block = self
            .read("eth_getBlockByNumber", || async {
                self.provider.get_block(block).await
            })
            .await?;
        Ok(block.map(|block| BlockHead {
            number: block.header.number,
            hash: digest(block.header.hash),
            timestamp: block.header.timestamp,
        }))
    }

    pub(crate) async fn has_code(&self, address: Address) -> Result<bool, ChainError> {
        Ok(!self.code(address).await?.is_empty())
    }

    pub(crate) async fn code(&self, address: Address) -> Result<Bytes, ChainError> {
        self.read("eth_getCode", || async {
            self.provider.get_code_at(eth(address)).await
        })
        .await
    }
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

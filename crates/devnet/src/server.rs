//! The HTTP server around the chain.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::{Address, U256};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::error::DevnetError;
use crate::journal::{Entry, Journal};
use crate::rpc::{self, Node};

/// The chain id that development chains have by custom.
pub const DEFAULT_CHAIN_ID: u64 = 31_337;

/// Largest request, in bytes: contracts and task files fit many times over.
const BODY_BYTES_MAX: usize = 4 << 20;

/// What a devnet is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// File that keeps the state; none keeps it in memory.
    pub journal: Option<PathBuf>,
    /// EIP-155 chain id of a new chain.
    pub chain_id: u64,
    /// Balances in wei of a new chain.
    pub funded: Vec<(Address, U256)>,
}

/// A running devnet; dropping it stops the server.
#[derive(Debug)]
pub struct Devnet {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Devnet {
    /// Starts a chain, or goes on with the one in the journal.
    ///
    /// # Errors
    /// [`DevnetError`] if the address or the journal cannot be used.
    pub async fn start(config: Config) -> Result<Self, DevnetError> {
        let node = Node::new(open(&config)?)?;
        let failed = |source| DevnetError::Listen {
            listen: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let app = Router::new()
            .route("/", post(serve))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::new(Mutex::new(node)));
        let server = tokio::spawn(async move {
            let serving = axum::serve(listener, app).with_graceful_shutdown(async {
                let _ = stopped.await;
            });
            if let Err(error) = serving.await {
                tracing::error!(%error, "the server failed");
            }
        });
        Ok(Self {
            address,
            stop: Some(stop),
            server,
        })
    }

    /// Where the server listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The URL that clients use.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops accepting connections. What was answered is in the journal.
    pub fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        // Idle keep-alive connections would hold a graceful end up for ever.
        self.server.abort();
    }
}

fn open(config: &Config) -> Result<Journal, DevnetError> {
    let genesis = Entry::Genesis {
        chain_id: config.chain_id,
        timestamp: rpc::seconds_since_epoch(),
        funded: config.funded.clone(),
    };
    let Some(path) = &config.journal else {
        return Ok(Journal::in_memory(genesis));
    };
    let journal = Journal::open(path, genesis)?;
    let got = journal.replay()?.0.chain_id();
    if got != config.chain_id {
        let path = path.clone();
        return Err(DevnetError::OtherChain {
            path,
            got,
            expected: config.chain_id,
        });
    }
    Ok(journal)
}

async fn serve(State(node): State<Arc<Mutex<Node>>>, body: Bytes) -> impl IntoResponse {
    // Execution takes milliseconds, but not on the threads that serve the sockets.
    let answer = tokio::task::spawn_blocking(move || {
        let mut node = node.lock().unwrap_or_else(PoisonError::into_inner);
        rpc::answer(&mut node, &body).to_string()
    });
    let body = answer.await.unwrap_or_else(|_| {
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"internal error"}}"#.into()
    });
    ([(CONTENT_TYPE, "application/json")], body)
}

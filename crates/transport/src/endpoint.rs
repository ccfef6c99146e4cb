//! A UDP socket from which connections go out, and on which they come in.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use convoke_protocol::identity::{Wallet, keccak};
use convoke_protocol::ids::Address;
use quinn::{EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;

use crate::connection::Connection;
use crate::error::{TransportError, close};
use crate::handshake::{prove_as_client, prove_as_server};
use crate::limits::Limits;
use crate::tls;

/// One node's end of all of its connections; clones share it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    quic: quinn::Endpoint,
    wallet: Arc<Wallet>,
    limits: Arc<Limits>,
}

impl Endpoint {
    /// An endpoint that accepts connections on `listen` and can dial, too.
    ///
    /// # Errors
    /// [`TransportError::Setup`] if the address is taken or not ours. Needs a tokio runtime.
    pub fn server(
        wallet: Wallet,
        listen: SocketAddr,
        limits: Limits,
    ) -> Result<Self, TransportError> {
        let mut config = tls::server_config()?;
        config
            .transport_config(transport(&limits)?)
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES_MAX);
        let failed = |error: std::io::Error| TransportError::Setup(format!("{listen}: {error}"));
        let socket = std::net::UdpSocket::bind(listen).map_err(failed)?;
        let runtime = Arc::new(quinn::TokioRuntime);
        let quic = quinn::Endpoint::new(lasting(&wallet), Some(config), socket, runtime)
            .map_err(failed)?;
        Self::with_client(quic, wallet, limits)
    }

    /// An endpoint that only dials.
    ///
    /// # Errors
    /// [`TransportError::Setup`]. Needs a tokio runtime.
    pub fn client(wallet: Wallet, limits: Limits) -> Result<Self, TransportError> {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let quic = quinn::Endpoint::client(any)
            .map_err(|error| TransportError::Setup(error.to_string()))?;
        Self::with_client(quic, wallet, limits)
    }

    fn with_client(
        mut quic: quinn::Endpoint,
        wallet: Wallet,
        limits: Limits,
    ) -> Result<Self, TransportError> {
        let mut config = tls::client_config()?;
        config.transport_config(transport(&limits)?);
        quic.set_default_client_config(config);
        Ok(Self {
            quic,
            wallet: Arc::new(wallet),
            limits: Arc::new(limits),
        })
    }

    /// The address that this end proves.
    #[must_use]
    pub fn address(&self) -> Address {
        self.wallet.address()
    }

    /// The socket's address, with the port that was chosen if 0 was asked for.
    ///
    /// # Errors
    /// [`TransportError::Setup`] if the socket is gone.
    pub fn local_addr(&self) -> Result<SocketAddr, TransportError> {
        self.quic
            .local_addr()
            .map_err(|error| TransportError::Setup(error.to_string()))
    }

    /// Connects once, and proves both identities. With `expected`, only to that address.
    ///
    /// # Errors
    /// Errors of the network, of the peer's identity, and of its refusal of ours.
    pub async fn connect(
        &self,
        to: SocketAddr,
        expected: Option<Address>,
    ) -> Result<Connection, TransportError> {
        let connecting = self
            .quic
            .connect(to, tls::SERVER_NAME)
            .map_err(|error| TransportError::Setup(error.to_string()))?;
        let quic = tokio::time::timeout(self.limits.handshake_timeout, connecting)
            .await
            .map_err(|_| TransportError::Lost("no answer in time".into()))??;
        let proven = prove_as_client(&quic, &self.wallet, expected, &self.limits).await?;
        Ok(Connection::new(
            quic,
            self.wallet.clone(),
            self.limits.clone(),
            proven,
        ))
    }

    /// Connects to HOST:PORT, and tries again with jittered back-off while that may help. The
    /// name is resolved anew at each attempt.
    ///
    /// # Errors
    /// As [`Endpoint::connect`]; what may heal only after `retries_max` attempts.
    pub async fn connect_with_retry(
        &self,
        to: &str,
        expected: Option<Address>,
    ) -> Result<Connection, TransportError> {
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(self.limits.retry_pause_max)
            .with_jitter();
        let backoff = match self.limits.retries_max {
            Some(retries) => backoff.with_max_times(retries),
            None => backoff.without_max_times(),
        };
        let attempt = || async { self.connect(resolve(to).await?, expected).await };
        attempt
            .retry(backoff)
            .sleep(tokio::time::sleep)
            .when(TransportError::retryable)
            .notify(|error, after| tracing::debug!(%error, ?after, to, "not connected"))
            .await
    }

    /// The next incoming connection, not proven yet; `None` once the endpoint is closed.
    pub async fn accept(&self) -> Option<Incoming> {
        loop {
            let incoming = self.quic.accept().await?;
            let (open, max) = (self.quic.open_connections(), self.limits.connections_max);
            if open >= max {
                incoming.refuse();
                continue;
            }
            // Under load, senders must show that they receive at the address that they give.
            if open >= max / 2 && incoming.may_retry() {
                // It cannot fail: see the condition.
                let _ = incoming.retry();
                continue;
            }
            return Some(Incoming {
                incoming,
                endpoint: self.clone(),
            });
        }
    }

    /// Closes all connections, tells the peers why, and waits until they have heard or a
    /// second has passed.
    pub async fn close(&self, reason: &str) {
        self.quic.close(close::DONE, reason.as_bytes());
        let _ = tokio::time::timeout(Duration::from_secs(1), self.quic.wait_idle()).await;
    }
}

/// A connection that has not proven its identity. Prove it on a task of its own, so that a
/// slow peer holds nobody up.
#[derive(Debug)]
pub struct Incoming {
    incoming: quinn::Incoming,
    endpoint: Endpoint,
}

impl Incoming {
    /// Where it comes from.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Completes the TLS handshake, and proves both identities.
    ///
    /// # Errors
    /// As [`Endpoint::connect`].
    pub async fn handshake(self) -> Result<Connection, TransportError> {
        let Endpoint { wallet, limits, .. } = self.endpoint;
        let handshake = async {
            let quic = self.incoming.await?;
            let proven = prove_as_server(&quic, &wallet, &limits).await?;
            Ok(Connection::new(
                quic,
                wallet.clone(),
                limits.clone(),
                proven,
            ))
        };
        // TLS and proof together: a peer that stalls in either is given up.
        match tokio::time::timeout(2 * limits.handshake_timeout, handshake).await {
            Ok(outcome) => outcome,
            Err(_) => Err(TransportError::IdentityTimeout),
        }
    }
}

/// Streams of one connection, at most, whatever the limits say.
const STREAMS_MAX: u32 = 1_024;

/// Connections that wait to be accepted, at most.
const INCOMING_MAX: usize = 1_024;

/// Bytes kept for each of them, at most: a TLS client's first flight fits many times.
const INCOMING_BYTES_MAX: u64 = 64 << 10;

/// Keys that a restarted node has again: peers of the process before it are then told at once
/// that their connections are gone (RFC 9000, 10.3), where they would wait for the idle timeout.
fn lasting(wallet: &Wallet) -> EndpointConfig {
    let secret = wallet.secret_bytes();
    let reset_key = keccak(&[b"convoke.reset.v1", &secret]);
    let id_key = keccak(&[b"convoke.connection-id.v1", &secret]);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id_key.0[..8]);
    let id_key = u64::from_be_bytes(bytes);
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset_key.0)));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));
    config
}

async fn resolve(to: &str) -> Result<SocketAddr, TransportError> {
    let failed = |reason: String| TransportError::Resolve {
        address: to.to_owned(),
        reason,
    };
    let mut addresses = tokio::net::lookup_host(to)
        .await
        .map_err(|error| failed(error.to_string()))?;
    // The dialling socket is IPv4.
    addresses
        .find(SocketAddr::is_ipv4)
        .ok_or_else(|| failed("it has no IPv4 address".into()))
}

fn transport(limits: &Limits) -> Result<Arc<TransportConfig>, TransportError> {
    let idle = IdleTimeout::try_from(limits.idle_timeout)
        .map_err(|error| TransportError::Setup(error.to_string()))?;
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(limits.keep_alive))
        // One for messages, the others for blobs.
        .max_concurrent_bidi_streams(VarInt::from_u32(
            limits
                .blobs_in_flight_max
                .saturating_add(1)
                .min(STREAMS_MAX),
        ))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(limits.stream_window_bytes))
        .receive_window(VarInt::from_u32(limits.connection_window_bytes))
        .send_window(u64::from(limits.connection_window_bytes))
        .datagram_receive_buffer_size(None);
    Ok(Arc::new(config))
}

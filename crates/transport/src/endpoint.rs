//! A UDP socket from which connections go out, and on which they come in.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use convoke_protocol::identity::{Wallet, keccak};
use convoke_protocol::ids::Address;
use quinn::congestion::CubicConfig;
use quinn::{
    EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TokioRuntime, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;

use crate::connection::Connection;
use crate::error::{TransportError, close};
use crate::handshake::{prove_as_client, prove_as_server};
use crate::limits::Limits;
use crate::socket::{self, DATAGRAM_BYTES_MAX};
use crate::tls;

/// One node's end of all of its connections; clones share it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    quic: quinn::Endpoint,
    wallet: Arc<Wallet>,
    limits: Arc<Limits>,
    client: Configs<quinn::ClientConfig>,
    server: Option<Configs<Arc<quinn::ServerConfig>>>,
}

/// What differs by the way to the peer.
#[derive(Debug, Clone)]
struct Configs<T> {
    loopback: T,
    network: T,
}

impl<T> Configs<T> {
    fn towards(&self, peer: SocketAddr) -> &T {
        if peer.ip().is_loopback() {
            &self.loopback
        } else {
            &self.network
        }
    }
}

/// The way to a peer.
#[derive(Debug, Clone, Copy)]
enum Path {
    /// Within this machine, which takes datagrams of up to 64 KiB.
    Loopback,
    /// A network: datagrams as large as discovery finds, up to the jumbo frames of data centres.
    Network,
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
        let mut network = tls::server_config()?;
        network
            .transport_config(transport(&limits, Path::Network)?)
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES_MAX);
        let mut loopback = network.clone();
        loopback.transport_config(transport(&limits, Path::Loopback)?);
        let server = Configs {
            loopback: Arc::new(loopback),
            network: Arc::new(network.clone()),
        };
        let failed = |error: std::io::Error| TransportError::Setup(format!("{listen}: {error}"));
        let quic = bind(lasting(&wallet), Some(network), listen).map_err(failed)?;
        Self::with_client(quic, Some(server), wallet, limits)
    }

    /// An endpoint that only dials.
    ///
    /// # Errors
    /// [`TransportError::Setup`]. Needs a tokio runtime.
    pub fn client(wallet: Wallet, limits: Limits) -> Result<Self, TransportError> {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let quic = bind(EndpointConfig::default(), None, any)
            .map_err(|error| TransportError::Setup(error.to_string()))?;
        Self::with_client(quic, None, wallet, limits)
    }

    fn with_client(
        quic: quinn::Endpoint,
        server: Option<Configs<Arc<quinn::ServerConfig>>>,
        wallet: Wallet,
        limits: Limits,
    ) -> Result<Self, TransportError> {
        let mut network = tls::client_config()?;
        network.transport_config(transport(&limits, Path::Network)?);
        let mut loopback = network.clone();
        loopback.transport_config(transport(&limits, Path::Loopback)?);
        Ok(Self {
            quic,
            wallet: Arc::new(wallet),
            limits: Arc::new(limits),
            client: Configs { loopback, network },
            server,
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
            .connect_with(self.client.towards(to).clone(), to, tls::SERVER_NAME)
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
        let Endpoint {
            wallet,
            limits,
            server,
            ..
        } = self.endpoint;
        let config = server.map(|server| server.towards(self.incoming.remote_address()).clone());
        let handshake = async {
            let quic = match config {
                Some(config) => self.incoming.accept_with(config)?.await?,
                None => self.incoming.await?,
            };
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

/// Largest UDP payload that is tried on networks: an Ethernet frame of 9,000 bytes, less the
/// headers of IPv6 and UDP. What a path does not carry is lost on the first hop, and found out by
/// a few lost probes (RFC 8899).
const JUMBO_BYTES: u16 = 9_000 - 40 - 8;

/// Largest UDP payload that is tried within this machine: the kernel takes two at a time, and a
/// connection keeps a buffer for one of them while it is idle.
const LOOPBACK_BYTES: u16 = DATAGRAM_BYTES_MAX / 2;

/// Bytes in flight within this machine at first. Probes for the size of datagrams count, and what
/// does not fit beside one waits until it is acknowledged: even the word that a connection closes.
const LOOPBACK_WINDOW_BYTES: u64 = 1 << 20;

const _: () = assert!(LOOPBACK_WINDOW_BYTES > 4 * LOOPBACK_BYTES as u64);

/// An endpoint on a socket of its own, which takes datagrams of any size.
fn bind(
    mut config: EndpointConfig,
    server: Option<quinn::ServerConfig>,
    listen: SocketAddr,
) -> std::io::Result<quinn::Endpoint> {
    config
        .max_udp_payload_size(DATAGRAM_BYTES_MAX)
        .map_err(std::io::Error::other)?;
    let socket = socket::wrap(std::net::UdpSocket::bind(listen)?)?;
    quinn::Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))
}

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

fn transport(limits: &Limits, path: Path) -> Result<Arc<TransportConfig>, TransportError> {
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
    let mut discovery = MtuDiscoveryConfig::default();
    match path {
        Path::Loopback => {
            discovery.upper_bound(LOOPBACK_BYTES);
            let mut congestion = CubicConfig::default();
            congestion.initial_window(LOOPBACK_WINDOW_BYTES);
            config.congestion_controller_factory(Arc::new(congestion));
        }
        Path::Network => {
            discovery.upper_bound(JUMBO_BYTES);
        }
    }
    config.mtu_discovery_config(Some(discovery));
    Ok(Arc::new(config))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn datagrams_grow_on_loopback() {
        let wallet = |byte| Wallet::from_bytes(&[byte; 32]).unwrap();
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Endpoint::server(wallet(1), loopback, Limits::default()).unwrap();
        let client = Endpoint::client(wallet(2), Limits::default()).unwrap();
        let to = server.local_addr().unwrap();
        let accept = async { server.accept().await.unwrap().handshake().await };
        let (dialled, accepted) = tokio::join!(client.connect(to, None), accept);
        let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
        let (mut sender, _keep) = dialled.messages().unwrap();
        let (_keep_too, mut receiver) = accepted.messages().unwrap();
        // Discovery goes on while packets go to and fro; each message takes it further.
        let grown = async {
            while dialled.quic.stats().path.current_mtu < LOOPBACK_BYTES - 20 {
                sender.send(&1u8).await.unwrap();
                assert_eq!(receiver.recv::<u8>().await.unwrap(), Some(1));
            }
        };
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, grown).await.unwrap();
    }

    #[test]
    fn the_way_is_known_by_the_address() {
        let configs = Configs {
            loopback: Path::Loopback,
            network: Path::Network,
        };
        for (peer, loopback) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("10.0.0.1:1", false),
            ("203.0.113.7:1", false),
        ] {
            let path = configs.towards(peer.parse().unwrap());
            assert_eq!(matches!(path, Path::Loopback), loopback, "{peer}");
        }
    }
}

//! Two nodes on loopback, and raw QUIC peers that do not behave as nodes do.

#![allow(dead_code)] // Each test binary uses its own part.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use convoke_protocol::identity::{Wallet, keccak};
use convoke_protocol::ids::{Address, BlobHash, Digest};
use convoke_transport::{ALPN, BlobPolicy, BlobSink, BlobStore, Connection, Endpoint, Limits};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{RecvStream, SendStream};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tempfile::TempDir;
use tokio::sync::mpsc;

pub(crate) const CLIENT: u8 = 0;
pub(crate) const SERVER: u8 = 1;

/// Ends a test that would hang.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work)
        .await
        .expect("the test hangs")
}

pub(crate) fn wallet(byte: u8) -> Wallet {
    Wallet::from_bytes(&[byte; 32]).unwrap()
}

pub(crate) fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Limits that give up on silent peers soon.
pub(crate) fn hasty() -> Limits {
    Limits {
        handshake_timeout: Duration::from_millis(300),
        blob_stall_timeout: Duration::from_millis(300),
        ..Limits::default()
    }
}

pub(crate) fn server(limits: Limits) -> Endpoint {
    Endpoint::server(wallet(1), loopback(), limits).unwrap()
}

pub(crate) fn client(limits: Limits) -> Endpoint {
    Endpoint::client(wallet(2), limits).unwrap()
}

/// A proven connection: the client's end, and the server's.
pub(crate) async fn join(client: &Endpoint, server: &Endpoint) -> (Connection, Connection) {
    let to = server.local_addr().unwrap();
    let accept = async { server.accept().await.unwrap().handshake().await };
    let (dialled, accepted) = tokio::join!(client.connect(to, Some(server.address())), accept);
    (dialled.unwrap(), accepted.unwrap())
}

pub(crate) async fn pair() -> (Connection, Connection) {
    join(&client(Limits::default()), &server(Limits::default())).await
}

/// Bytes in which no two chunks are alike.
pub(crate) fn content(length: usize) -> Vec<u8> {
    let words = (0u64..).flat_map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    words.take(length).collect()
}

pub(crate) struct Folder {
    pub(crate) store: BlobStore,
    dir: TempDir,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        Self { store, dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn partial(&self, blob: &BlobHash) -> PathBuf {
        self.dir.path().join("partial").join(blob.to_file_name())
    }

    pub(crate) fn partial_length(&self, blob: &BlobHash) -> u64 {
        self.partial(blob).metadata().map_or(0, |meta| meta.len())
    }
}

/// What a [`Policy`] saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Arriving,
    Written(Address, BlobHash, u64),
}

/// Allows everything, or nothing, and tells what it sees.
#[derive(Clone)]
pub(crate) struct Policy {
    pub(crate) allow: bool,
    pub(crate) seen: mpsc::UnboundedSender<Seen>,
}

impl BlobPolicy for Policy {
    type Sink = Hashing;

    fn sink(&self, _peer: Address, _blob: &BlobHash, _length: u64) -> Hashing {
        Hashing::default()
    }

    fn may_read(&self, _peer: Address, _blob: &BlobHash) -> bool {
        self.allow
    }

    fn may_write(&self, _peer: Address, _blob: &BlobHash, _length: u64) -> Result<(), String> {
        if self.allow {
            Ok(())
        } else {
            Err("not from you".into())
        }
    }

    fn arriving(&self, _peer: Address, _blob: &BlobHash) {
        let _ = self.seen.send(Seen::Arriving);
    }

    fn written(&self, peer: Address, blob: &BlobHash, length: u64, sink: Option<Hashing>) {
        // What is written is what the sink has seen, each byte once and in order.
        if let Some(Hashing(hasher)) = sink {
            assert_eq!(hasher.finalize().as_bytes(), &blob.0);
        }
        let _ = self.seen.send(Seen::Written(peer, *blob, length));
    }
}

/// Hashes again what it is fed.
#[derive(Default)]
pub(crate) struct Hashing(blake3::Hasher);

impl BlobSink for Hashing {
    fn feed(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

/// Serves a store until the connection ends.
pub(crate) fn serve(
    connection: &Connection,
    store: &BlobStore,
    allow: bool,
) -> mpsc::UnboundedReceiver<Seen> {
    let (seen, events) = mpsc::unbounded_channel();
    let (connection, store) = (connection.clone(), store.clone());
    tokio::spawn(async move { connection.serve_blobs(store, Policy { allow, seen }).await });
    events
}

/// A raw QUIC client.
pub(crate) fn raw_client(alpn: &[u8]) -> quinn::Endpoint {
    let mut tls = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let quic = QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = quinn::Endpoint::client(loopback()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(quic)));
    endpoint
}

/// A raw QUIC server with room for `streams` bidirectional streams of the other end.
pub(crate) fn raw_server(alpn: &[u8], streams: u32) -> quinn::Endpoint {
    let certified = rcgen::generate_simple_self_signed(["raw".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key.into())
        .unwrap();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let quic = QuicServerConfig::try_from(tls).unwrap();
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(quic));
    let mut transport = quinn::TransportConfig::default();
    transport.max_concurrent_bidi_streams(streams.into());
    config.transport_config(Arc::new(transport));
    quinn::Endpoint::server(config, loopback()).unwrap()
}

pub(crate) async fn raw_connect(raw: &quinn::Endpoint, server: &Endpoint) -> quinn::Connection {
    let to = server.local_addr().unwrap();
    raw.connect(to, "raw").unwrap().await.unwrap()
}

/// What a side signs; written out again, so that the wire does not change unnoticed.
pub(crate) fn statement(connection: &quinn::Connection, side: u8) -> Digest {
    let mut exporter = [0; 32];
    connection
        .export_keying_material(&mut exporter, b"EXPORTER-convoke-identity-v1", ALPN)
        .unwrap();
    keccak(&[b"convoke.identity.v1", &[side], &exporter])
}

/// Length of a proof on the wire.
pub(crate) const PROOF_BYTES: usize = 2 + 20 + 65;

/// A proof as a side should give it, for the protocol's first version.
pub(crate) fn proof(connection: &quinn::Connection, wallet: &Wallet, side: u8) -> Vec<u8> {
    let signature = wallet.sign_digest(&statement(connection, side));
    [&1u16.to_le_bytes()[..], &wallet.address().0, &signature.0].concat()
}

/// A raw peer that has proven its address to a node, and then does as it likes.
pub(crate) struct Raw {
    pub(crate) quic: quinn::Connection,
    pub(crate) send: SendStream,
    pub(crate) receive: RecvStream,
}

/// A raw client with a wallet of its own, and the node's end.
pub(crate) async fn raw_to_server(server: &Endpoint, byte: u8) -> (Raw, Connection) {
    let dial = async {
        let quic = raw_connect(&raw_client(ALPN), server).await;
        let (mut send, mut receive) = quic.open_bi().await.unwrap();
        send.write_all(&proof(&quic, &wallet(byte), CLIENT))
            .await
            .unwrap();
        receive.read_exact(&mut [0; PROOF_BYTES]).await.unwrap();
        Raw {
            quic,
            send,
            receive,
        }
    };
    let accept = async { server.accept().await.unwrap().handshake().await.unwrap() };
    within(async { tokio::join!(dial, accept) }).await
}

/// A raw server, which proves wallet 1, and the node's end.
pub(crate) async fn client_to_raw(client: &Endpoint, streams: u32) -> (Connection, Raw) {
    let raw = raw_server(ALPN, streams);
    let accept = async {
        let quic = raw.accept().await.unwrap().await.unwrap();
        let (mut send, mut receive) = quic.accept_bi().await.unwrap();
        receive.read_exact(&mut [0; PROOF_BYTES]).await.unwrap();
        send.write_all(&proof(&quic, &wallet(1), SERVER))
            .await
            .unwrap();
        Raw {
            quic,
            send,
            receive,
        }
    };
    let dial = client.connect(raw.local_addr().unwrap(), Some(wallet(1).address()));
    let (connection, raw) = within(async { tokio::join!(dial, accept) }).await;
    (connection.unwrap(), raw)
}

/// The code with which the other end closed the connection.
pub(crate) fn close_code(error: &quinn::ConnectionError) -> Option<u64> {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => Some(close.error_code.into_inner()),
        _ => None,
    }
}

#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

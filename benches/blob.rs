//! A blob of 64 MiB over loopback: ours (hashed at the end, written to disk, synced, receipted)
//! against a plain quinn stream that throws the bytes away, and against a copy in memory.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{Address, BlobHash};
use convoke_transport::{BlobPolicy, BlobStore, Connection, Endpoint, Limits};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use tokio::runtime::Runtime;

const BYTES: usize = 64 << 20;

struct TakeAll;

impl BlobPolicy for TakeAll {
    type Sink = ();

    fn may_read(&self, _: Address, _: &BlobHash) -> bool {
        true
    }

    fn may_write(&self, _: Address, _: &BlobHash, _: u64) -> Result<(), String> {
        Ok(())
    }

    fn arriving(&self, _: Address, _: &BlobHash) {}

    fn sink(&self, _: Address, _: &BlobHash, _: u64) {}

    fn written(&self, _: Address, _: &BlobHash, _: u64, _: Option<()>) {}
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn wallet(byte: u8) -> Wallet {
    Wallet::from_bytes(&[byte; 32]).unwrap()
}

/// A connection of ours to a server that takes every blob into `store`.
async fn ours(store: BlobStore) -> (Connection, Endpoint) {
    let server = Endpoint::server(wallet(1), loopback(), Limits::default()).unwrap();
    let address = server.local_addr().unwrap();
    let accepting = server.clone();
    tokio::spawn(async move {
        let incoming = accepting.accept().await.unwrap();
        let connection = incoming.handshake().await.unwrap();
        connection.serve_blobs(store, TakeAll).await;
    });
    let client = Endpoint::client(wallet(2), Limits::default()).unwrap();
    (client.connect(address, None).await.unwrap(), server)
}

/// A plain quinn connection to a server that reads every stream to its end and answers a byte.
async fn plain() -> (quinn::Connection, quinn::Endpoint) {
    let certified = rcgen::generate_simple_self_signed(["plain".to_owned()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())
        .unwrap();
    let config =
        quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let server = quinn::Endpoint::server(config, loopback()).unwrap();
    let address = server.local_addr().unwrap();
    let accepting = server.clone();
    tokio::spawn(async move {
        let connection = accepting.accept().await.unwrap().await.unwrap();
        while let Ok((mut send, mut receive)) = connection.accept_bi().await {
            while receive.read_chunk(256 << 10, true).await.unwrap().is_some() {}
            send.write_all(&[1]).await.unwrap();
            send.finish().unwrap();
        }
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client = quinn::Endpoint::client(loopback()).unwrap();
    let config = QuicClientConfig::try_from(tls).unwrap();
    client.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
    (
        client.connect(address, "plain").unwrap().await.unwrap(),
        server,
    )
}

fn blob(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let content: Vec<u8> = (0..BYTES).map(|index| (index * 31 % 251) as u8).collect();
    let mut group = c.benchmark_group("64 MiB");
    group.throughput(Throughput::Bytes(BYTES as u64));
    group.sample_size(10).sampling_mode(SamplingMode::Flat);

    group.bench_function("memory copy", |b| b.iter(|| black_box(content.clone())));

    let (connection, _server) = runtime.block_on(plain());
    group.bench_function("plain quinn stream", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let (mut send, mut receive) = connection.open_bi().await.unwrap();
                send.write_all(&content).await.unwrap();
                send.finish().unwrap();
                receive.read_to_end(1).await.unwrap();
            });
        });
    });

    let dir = tempfile::tempdir().unwrap();
    let source = BlobStore::open(&dir.path().join("source")).unwrap();
    let sink = BlobStore::open(&dir.path().join("sink")).unwrap();
    let blob = source.insert_bytes(&content).unwrap();
    let (connection, _server) = runtime.block_on(ours(sink.clone()));
    group.bench_function("push_blob", |b| {
        b.iter(|| {
            sink.remove(&blob).unwrap();
            runtime
                .block_on(connection.push_blob(&blob, &source, |_| {}))
                .unwrap();
        });
    });
    group.finish();
}

criterion_group!(benches, blob);
criterion_main!(benches);

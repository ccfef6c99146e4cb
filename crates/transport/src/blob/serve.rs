//! Serving the other end's fetches and pushes.

use std::sync::Arc;
use std::time::Duration;

use convoke_protocol::ids::{Address, BlobHash};
use quinn::{RecvStream, SendStream};
use tokio::task::{JoinSet, spawn_blocking};

use super::header::{REQUEST_BYTES, Receipt, Request, grant, refuse};
use super::in_time;
use super::partial::{BlobSink, Partial};
use super::receive::{died, receive};
use super::send::send;
use super::store::BlobStore;
use crate::connection::Connection;
use crate::error::{TransportError, close};

/// Who may read and write what. Called on the connection's tasks: answer at once.
pub trait BlobPolicy: Send + Sync + 'static {
    /// Looks at the bytes of a pushed blob while they arrive.
    type Sink: BlobSink;

    /// Whether `peer` may fetch `blob`. What may not be read looks like what is not there.
    fn may_read(&self, peer: Address, blob: &BlobHash) -> bool;

    /// Whether `peer` may push `blob` with `length` bytes.
    ///
    /// # Errors
    /// Why not, in words for the peer.
    fn may_write(&self, peer: Address, blob: &BlobHash, length: u64) -> Result<(), String>;

    /// Some bytes of a pushed blob have come.
    fn arriving(&self, peer: Address, blob: &BlobHash);

    /// What is to look at a blob that `peer` begins, or goes on, to push.
    fn sink(&self, peer: Address, blob: &BlobHash, length: u64) -> Self::Sink;

    /// A pushed blob is whole, verified and durable. The sink has seen all of its bytes; there is
    /// none if the blob was here before.
    fn written(&self, peer: Address, blob: &BlobHash, length: u64, sink: Option<Self::Sink>);
}

impl Connection {
    /// Serves the peer's blob streams until the connection ends.
    pub async fn serve_blobs<P: BlobPolicy>(&self, store: BlobStore, policy: P) {
        let policy = Arc::new(policy);
        // QUIC's limit on open streams bounds how many of these there are.
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                stream = self.quic.accept_bi() => {
                    let Ok((send, receive)) = stream else { return };
                    let server = Server {
                        connection: self.clone(),
                        store: store.clone(),
                        policy: policy.clone(),
                    };
                    streams.spawn(server.serve(send, receive));
                }
                Some(_) = streams.join_next() => {}
            }
        }
    }
}

/// How long a push waits for an earlier one of the same blob to let go of it.
const CLAIM_WAIT: Duration = Duration::from_secs(1);

struct Server<P> {
    connection: Connection,
    store: BlobStore,
    policy: Arc<P>,
}

impl<P: BlobPolicy> Server<P> {
    async fn serve(self, mut answers: SendStream, mut stream: RecvStream) {
        let peer = self.connection.peer();
        let served = self.request(&mut answers, &mut stream).await;
        if let Err(error) = served {
            tracing::debug!(%peer, %error, "blob stream failed");
            let _ = stream.stop(close::PROTOCOL);
        }
    }

    async fn request(
        &self,
        answers: &mut SendStream,
        stream: &mut RecvStream,
    ) -> Result<(), TransportError> {
        let stall = self.connection.limits.blob_stall_timeout;
        let mut bytes = [0; REQUEST_BYTES];
        tokio::time::timeout(stall, stream.read_exact(&mut bytes))
            .await
            .map_err(|_| TransportError::Truncated)??;
        match Request::decode(&bytes) {
            Some(Request::Fetch { blob, offset }) => self.give(blob, offset, answers).await,
            Some(Request::Push { blob, length }) => self.take(blob, length, answers, stream).await,
            None => {
                self.connection
                    .quic
                    .close(close::PROTOCOL, b"unknown kind of stream");
                Ok(())
            }
        }
    }

    async fn give(
        &self,
        blob: BlobHash,
        offset: u64,
        answers: &mut SendStream,
    ) -> Result<(), TransportError> {
        let peer = self.connection.peer();
        let here = self
            .store
            .len(&blob)
            .filter(|_| self.policy.may_read(peer, &blob));
        let Some(length) = here else {
            return refuse(answers, "there is no such blob for you").await;
        };
        let stall = self.connection.limits.blob_stall_timeout;
        in_time(blob, stall, grant(answers, &length.to_le_bytes())).await?;
        send(blob, &self.store, (offset, length), answers, stall, |_| {}).await?;
        let _ = answers.finish();
        Ok(())
    }

    async fn take(
        &self,
        blob: BlobHash,
        length: u64,
        answers: &mut SendStream,
        stream: &mut RecvStream,
    ) -> Result<(), TransportError> {
        let peer = self.connection.peer();
        if let Err(reason) = self.policy.may_write(peer, &blob, length) {
            return refuse(answers, &reason).await;
        }
        let stall = self.connection.limits.blob_stall_timeout;
        let _ = tokio::time::timeout(CLAIM_WAIT, self.store.idle(&blob)).await;
        match self.store.len(&blob) {
            Some(here) if here == length => {
                in_time(blob, stall, grant(answers, &length.to_le_bytes())).await?;
                return self.acknowledge(blob, length, None, answers).await;
            }
            Some(here) => return refuse(answers, &format!("it has {here} bytes")).await,
            None => {}
        }
        let Some(partial) = self.begin(blob, length).await? else {
            return refuse(answers, "it is arriving already").await;
        };
        // A peer that does not take the answer must not keep its claim on the blob.
        in_time(blob, stall, grant(answers, &partial.length().to_le_bytes())).await?;
        let progress = |_| self.policy.arriving(peer, &blob);
        match receive(partial, length, stream, stall, progress).await {
            Ok(sink) => self.acknowledge(blob, length, Some(sink), answers).await,
            Err(error @ TransportError::BlobContent { .. }) => {
                refuse(answers, &error.to_string()).await
            }
            Err(error) => Err(error),
        }
    }

    /// Begins or resumes a blob of `length` bytes; `None` if it is arriving already.
    async fn begin(
        &self,
        blob: BlobHash,
        length: u64,
    ) -> Result<Option<Partial<P::Sink>>, TransportError> {
        let store = self.store.clone();
        let sink = self.policy.sink(self.connection.peer(), &blob, length);
        spawn_blocking(move || Partial::begin(&store, blob, length, sink))
            .await
            .map_err(|error| died(blob, &error))?
    }

    async fn acknowledge(
        &self,
        blob: BlobHash,
        length: u64,
        sink: Option<P::Sink>,
        answers: &mut SendStream,
    ) -> Result<(), TransportError> {
        let peer = self.connection.peer();
        let receipt = Receipt::sign(blob, length, peer, &self.connection.wallet);
        self.policy.written(peer, &blob, length, sink);
        grant(answers, &receipt.signature.0).await?;
        let _ = answers.finish();
        Ok(())
    }
}

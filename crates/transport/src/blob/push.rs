//! Pushing a blob to the other end.

use std::time::Duration;

use convoke_protocol::identity::Signature;
use convoke_protocol::ids::BlobHash;
use quinn::RecvStream;

use super::header::{self, Receipt, Request};
use super::send::send;
use super::store::BlobStore;
use super::{BlobProgress, in_time};
use crate::connection::Connection;
use crate::error::TransportError;

impl Connection {
    /// Sends a blob from the store, from the offset that the peer names, and gives the peer's
    /// signed receipt. Waits while as many requests are under way as the limits allow.
    ///
    /// # Errors
    /// [`TransportError::BlobMissing`], [`TransportError::BlobRefused`] with the peer's reason;
    /// errors of connection and disk. After a broken connection, push again: the rest is sent.
    pub async fn push_blob(
        &self,
        blob: &BlobHash,
        store: &BlobStore,
        progress: impl FnMut(BlobProgress),
    ) -> Result<Receipt, TransportError> {
        let blob = *blob;
        let _turn = self.blob_turn().await?;
        let length = store.len(&blob).ok_or(TransportError::BlobMissing(blob))?;
        let stall = self.limits.blob_stall_timeout;
        let (mut stream, mut answers, offset) = in_time(blob, stall, async {
            let (mut stream, mut answers) = self.quic.open_bi().await?;
            stream
                .write_all(&Request::Push { blob, length }.encode())
                .await?;
            let answer = header::answer::<8>(blob, &mut answers).await?;
            Ok((stream, answers, u64::from_le_bytes(answer)))
        })
        .await?;
        if offset > length {
            let reason = format!("asked for byte {offset} of {length}");
            return Err(TransportError::BlobProtocol { blob, reason });
        }
        send(blob, store, (offset, length), &mut stream, stall, progress).await?;
        let _ = stream.finish();
        let signature = self.receipt(blob, &mut answers, stall).await?;
        let receipt = Receipt {
            blob,
            length,
            sender: self.wallet.address(),
            receiver: self.peer(),
            signature,
        };
        receipt
            .verify()
            .map_err(|error| TransportError::BlobProtocol {
                blob,
                reason: format!("its receipt does not hold: {error}"),
            })?;
        Ok(receipt)
    }

    /// Waits for the receipt. What was written may be in our send buffer still, and take a slow
    /// link longer than the stall timeout: as long as data goes out, nothing has stalled.
    async fn receipt(
        &self,
        blob: BlobHash,
        answers: &mut RecvStream,
        stall: Duration,
    ) -> Result<Signature, TransportError> {
        let mut answer = std::pin::pin!(header::answer::<65>(blob, answers));
        loop {
            let sent = self.quic.stats().frame_tx.stream;
            match tokio::time::timeout(stall, &mut answer).await {
                Ok(signature) => return signature.map(Signature),
                Err(_) if self.quic.stats().frame_tx.stream > sent => {}
                Err(_) => return Err(TransportError::BlobStalled(blob)),
            }
        }
    }
}

//! Pushing a blob to the other end.

use convoke_protocol::identity::Signature;
use convoke_protocol::ids::BlobHash;

use super::BlobProgress;
use super::header::{self, Receipt, Request};
use super::send::send;
use super::store::BlobStore;
use crate::connection::Connection;
use crate::error::TransportError;

impl Connection {
    /// Sends a blob from the store, from the offset that the peer names, and gives the peer's
    /// signed receipt.
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
        let length = store.len(&blob).ok_or(TransportError::BlobMissing(blob))?;
        let stall = self.limits.blob_stall_timeout;
        let stalled = |_| TransportError::BlobStalled(blob);
        let (mut stream, mut answers) = self.quic.open_bi().await?;
        stream
            .write_all(&Request::Push { blob, length }.encode())
            .await?;
        let answer = tokio::time::timeout(stall, header::answer::<8>(blob, &mut answers))
            .await
            .map_err(stalled)??;
        let offset = u64::from_le_bytes(answer);
        if offset > length {
            let reason = format!("asked for byte {offset} of {length}");
            return Err(TransportError::BlobProtocol { blob, reason });
        }
        send(blob, store, offset, length, &mut stream, stall, progress).await?;
        let _ = stream.finish();
        let signature = tokio::time::timeout(stall, header::answer::<65>(blob, &mut answers))
            .await
            .map_err(stalled)??;
        let receipt = Receipt {
            blob,
            length,
            sender: self.wallet.address(),
            receiver: self.peer(),
            signature: Signature(signature),
        };
        receipt
            .verify()
            .map_err(|error| TransportError::BlobProtocol {
                blob,
                reason: format!("its receipt does not hold: {error}"),
            })?;
        Ok(receipt)
    }
}

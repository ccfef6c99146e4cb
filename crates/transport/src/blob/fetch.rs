//! Fetching a blob from the other end.

use convoke_protocol::ids::BlobHash;

use super::BlobProgress;
use super::header::{self, Request};
use super::receive::{died, receive};
use super::store::BlobStore;
use crate::connection::Connection;
use crate::error::TransportError;

impl Connection {
    /// Brings a blob into the store, from where an earlier attempt broke off. One that is here
    /// already is not fetched.
    ///
    /// # Errors
    /// [`TransportError::BlobRefused`] if the peer does not give it,
    /// [`TransportError::BlobProtocol`] if it is longer than `len_max`,
    /// [`TransportError::BlobContent`] if the peer sends something else; errors of connection
    /// and disk.
    pub async fn fetch_blob(
        &self,
        blob: &BlobHash,
        len_max: u64,
        store: &BlobStore,
        progress: impl FnMut(BlobProgress),
    ) -> Result<(), TransportError> {
        let blob = *blob;
        if store.contains(&blob) {
            return Ok(());
        }
        let protocol = |reason: String| TransportError::BlobProtocol { blob, reason };
        let begun = {
            let store = store.clone();
            tokio::task::spawn_blocking(move || store.begin(blob))
                .await
                .map_err(|error| died(blob, &error))??
        };
        let mut partial = begun.ok_or_else(|| protocol("it is arriving already".into()))?;
        let stall = self.limits.blob_stall_timeout;
        let (mut send, mut stream) = self.quic.open_bi().await?;
        let offset = partial.length();
        send.write_all(&Request::Fetch { blob, offset }.encode())
            .await?;
        let _ = send.finish();
        let answer = tokio::time::timeout(stall, header::answer::<8>(blob, &mut stream))
            .await
            .map_err(|_| TransportError::BlobStalled(blob))??;
        let length = u64::from_le_bytes(answer);
        if length > len_max {
            return Err(protocol(format!(
                "it has {length} bytes, at most {len_max} are wanted"
            )));
        }
        if length < offset {
            // What we have is no part of it.
            partial.reset()?;
            return Err(TransportError::Truncated);
        }
        receive(blob, partial, length, &mut stream, stall, progress).await
    }
}

//! Fetching a blob from the other end.

use convoke_protocol::ids::BlobHash;
use tokio::task::spawn_blocking;

use super::header::{self, Request};
use super::partial::Partial;
use super::receive::{died, receive};
use super::store::BlobStore;
use super::{BlobProgress, in_time};
use crate::connection::Connection;
use crate::error::TransportError;

impl Connection {
    /// Brings a blob into the store, from where an earlier attempt broke off. One that is here
    /// already is not fetched. Waits while as many requests are under way as the limits allow.
    ///
    /// # Errors
    /// [`TransportError::BlobRefused`] if the peer does not give it, or it is arriving here
    /// already; [`TransportError::BlobProtocol`] if it is longer than `len_max`,
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
        let _turn = self.blob_turn().await?;
        if store.contains(&blob) {
            return Ok(());
        }
        let begun = {
            let store = store.clone();
            spawn_blocking(move || Partial::begin(&store, blob, u64::MAX, ()))
                .await
                .map_err(|error| died(blob, &error))??
        };
        let Some(partial) = begun else {
            let reason = "it is arriving here already".into();
            return Err(TransportError::BlobRefused { blob, reason });
        };
        let stall = self.limits.blob_stall_timeout;
        let offset = partial.length();
        let (mut stream, length) = in_time(blob, stall, async {
            let (mut send, mut stream) = self.quic.open_bi().await?;
            send.write_all(&Request::Fetch { blob, offset }.encode())
                .await?;
            let _ = send.finish();
            let answer = header::answer::<8>(blob, &mut stream).await?;
            Ok((stream, u64::from_le_bytes(answer)))
        })
        .await?;
        if length > len_max {
            let reason = format!("it has {length} bytes, at most {len_max} are wanted");
            return Err(TransportError::BlobProtocol { blob, reason });
        }
        if length < offset {
            // What we have is no part of it.
            partial.discard()?;
            return Err(TransportError::Truncated);
        }
        receive(partial, length, &mut stream, stall, progress).await
    }
}

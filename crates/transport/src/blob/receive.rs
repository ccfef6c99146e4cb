//! From a stream into the store: the socket on its task, hash and file on a thread, a few
//! chunks between them.

use std::time::Duration;

use bytes::Bytes;
use convoke_protocol::ids::BlobHash;
use quinn::RecvStream;
use tokio::sync::mpsc;

use super::store::Partial;
use super::{BlobProgress, CHUNK_BYTES, CHUNKS_IN_FLIGHT};
use crate::error::TransportError;

/// Receives what is missing of a blob of `length` bytes, verifies it, and makes it whole.
pub(super) async fn receive(
    blob: BlobHash,
    mut partial: Partial,
    length: u64,
    stream: &mut RecvStream,
    stall: Duration,
    mut progress: impl FnMut(BlobProgress),
) -> Result<(), TransportError> {
    let mut done = partial.length();
    let (chunks, mut written) = mpsc::channel::<Bytes>(CHUNKS_IN_FLIGHT);
    let writer = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = written.blocking_recv() {
            partial.write(&chunk)?;
        }
        // Short of its length it stays as it is, to be resumed.
        if partial.length() == length {
            partial.finish().map(|()| true)
        } else {
            Ok(false)
        }
    });
    let arrival = async {
        while done < length {
            let wanted = usize::try_from(length - done)
                .unwrap_or(CHUNK_BYTES)
                .min(CHUNK_BYTES);
            let chunk = tokio::time::timeout(stall, stream.read_chunk(wanted, true))
                .await
                .map_err(|_| TransportError::BlobStalled(blob))??
                .ok_or(TransportError::Truncated)?;
            done += chunk.bytes.len() as u64;
            if chunks.send(chunk.bytes).await.is_err() {
                // The writer has failed, and says why below.
                break;
            }
            progress(BlobProgress { done, length });
        }
        Ok::<(), TransportError>(())
    };
    let arrived = arrival.await;
    drop(chunks);
    let whole = writer.await.map_err(|error| died(blob, &error))??;
    arrived?;
    if whole {
        Ok(())
    } else {
        Err(TransportError::Truncated)
    }
}

pub(super) fn died(blob: BlobHash, error: &tokio::task::JoinError) -> TransportError {
    TransportError::BlobProtocol {
        blob,
        reason: format!("a thread of ours died: {error}"),
    }
}

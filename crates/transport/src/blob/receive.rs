//! From a stream into the store. A chunk is gathered from the socket while the one before it is
//! hashed and written on a thread; no thread waits for the network, so slow peers, however
//! many, take none away from the others.

use std::time::Duration;

use bytes::Bytes;
use convoke_protocol::ids::BlobHash;
use quinn::RecvStream;
use tokio::task::{JoinError, spawn_blocking};

use super::partial::{BlobSink, Partial};
use super::{BlobProgress, CHUNK_BYTES};
use crate::error::TransportError;

/// Receives what is missing of a blob of `length` bytes, verifies it, and makes it whole. Gives
/// the sink, which has seen all of it.
pub(super) async fn receive<S: BlobSink>(
    partial: Partial<S>,
    length: u64,
    stream: &mut RecvStream,
    stall: Duration,
    mut progress: impl FnMut(BlobProgress),
) -> Result<S, TransportError> {
    let blob = partial.blob();
    let mut done = partial.length();
    let mut writing = spawn_blocking(move || Ok(partial));
    while done < length {
        let wanted = usize::try_from(length - done)
            .unwrap_or(CHUNK_BYTES)
            .min(CHUNK_BYTES);
        let mut packets = Vec::new();
        let filled = fill(blob, stream, &mut packets, wanted, stall, |bytes| {
            done += bytes;
            progress(BlobProgress { done, length });
        })
        .await;
        // Also what came before an error is kept, to be resumed.
        let mut partial = writing.await.map_err(|error| died(blob, &error))??;
        writing = spawn_blocking(move || {
            partial.write(&packets)?;
            Ok::<_, TransportError>(partial)
        });
        if let Err(error) = filled {
            // On disk, and the claim released, when the caller hears of it.
            drop(writing.await.map_err(|error| died(blob, &error))??);
            return Err(error);
        }
    }
    let partial = writing.await.map_err(|error| died(blob, &error))??;
    spawn_blocking(move || partial.finish())
        .await
        .map_err(|error| died(blob, &error))?
}

/// Gathers packets of `wanted` bytes in all; after an error those that came before it.
async fn fill(
    blob: BlobHash,
    stream: &mut RecvStream,
    packets: &mut Vec<Bytes>,
    mut wanted: usize,
    stall: Duration,
    mut arrived: impl FnMut(u64),
) -> Result<(), TransportError> {
    while wanted > 0 {
        let next = tokio::time::timeout(stall, stream.read_chunk(wanted, true))
            .await
            .map_err(|_| TransportError::BlobStalled(blob))??
            .ok_or(TransportError::Truncated)?;
        wanted -= next.bytes.len();
        arrived(next.bytes.len() as u64);
        packets.push(next.bytes);
    }
    Ok(())
}

pub(super) fn died(blob: BlobHash, error: &JoinError) -> TransportError {
    TransportError::BlobProtocol {
        blob,
        reason: format!("a thread of ours died: {error}"),
    }
}

//! From the store into a stream. The next chunk is read on a thread while one is sent; no thread
//! waits for the network, so slow peers, however many, take none away from the others.

use std::time::Duration;

use bytes::Bytes;
use convoke_protocol::ids::BlobHash;
use quinn::SendStream;

use super::store::BlobStore;
use super::{BlobProgress, CHUNK_BYTES};
use crate::error::TransportError;

/// Sends a blob of `length` bytes from `offset` on.
pub(super) async fn send(
    blob: BlobHash,
    store: &BlobStore,
    (offset, length): (u64, u64),
    stream: &mut SendStream,
    stall: Duration,
    mut progress: impl FnMut(BlobProgress),
) -> Result<(), TransportError> {
    if offset >= length {
        return Ok(());
    }
    let chunk_bytes = CHUNK_BYTES as u64;
    let mut index = offset / chunk_bytes;
    let mut done = index * chunk_bytes;
    let mut chunk = store.chunk(blob, index, length).await?;
    // Within the chunk, whose length is a usize.
    let _ = chunk.split_to(chunk.len().min((offset - done) as usize));
    done = offset;
    loop {
        index += 1;
        let next = async {
            match index * chunk_bytes < length {
                true => store.chunk(blob, index, length).await.map(Some),
                false => Ok(None),
            }
        };
        let write = write(blob, stream, chunk, stall, |bytes| {
            done += bytes;
            progress(BlobProgress { done, length });
        });
        let (written, next) = tokio::join!(write, next);
        written?;
        match next? {
            Some(next) => chunk = next,
            None => return Ok(()),
        }
    }
}

async fn write(
    blob: BlobHash,
    stream: &mut SendStream,
    mut chunk: Bytes,
    stall: Duration,
    mut sent: impl FnMut(u64),
) -> Result<(), TransportError> {
    while !chunk.is_empty() {
        // Any byte counts: only a peer that takes none at all has stalled.
        let written =
            tokio::time::timeout(stall, stream.write_chunks(std::slice::from_mut(&mut chunk)))
                .await
                .map_err(|_| TransportError::BlobStalled(blob))??;
        sent(written.bytes as u64);
    }
    Ok(())
}

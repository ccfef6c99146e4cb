//! From the store into a stream: the file is read on a thread, a few chunks ahead.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use bytes::Bytes;
use convoke_protocol::ids::BlobHash;
use quinn::SendStream;
use tokio::sync::mpsc;

use super::receive::died;
use super::store::BlobStore;
use super::{BlobProgress, CHUNK_BYTES, CHUNKS_IN_FLIGHT};
use crate::error::TransportError;

/// Sends a blob of `length` bytes from `offset` on.
pub(super) async fn send(
    blob: BlobHash,
    store: &BlobStore,
    offset: u64,
    length: u64,
    stream: &mut SendStream,
    stall: Duration,
    mut progress: impl FnMut(BlobProgress),
) -> Result<(), TransportError> {
    let path = store.path(&blob);
    let (chunks, mut ready) = mpsc::channel::<Bytes>(CHUNKS_IN_FLIGHT);
    let reader = tokio::task::spawn_blocking(move || {
        let read = || -> std::io::Result<()> {
            let mut file = File::open(&path)?;
            file.seek(SeekFrom::Start(offset))?;
            let mut left = length - offset;
            while left > 0 {
                let size = usize::try_from(left)
                    .unwrap_or(CHUNK_BYTES)
                    .min(CHUNK_BYTES);
                let mut chunk = vec![0; size];
                file.read_exact(&mut chunk)?;
                left -= size as u64;
                if chunks.blocking_send(chunk.into()).is_err() {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(TransportError::disk(&path))
    });
    let mut done = offset;
    while let Some(chunk) = ready.recv().await {
        let size = chunk.len() as u64;
        tokio::time::timeout(stall, stream.write_chunk(chunk))
            .await
            .map_err(|_| TransportError::BlobStalled(blob))??;
        done += size;
        progress(BlobProgress { done, length });
    }
    reader.await.map_err(|error| died(blob, &error))??;
    Ok(())
}

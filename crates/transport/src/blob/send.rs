//! From the store into a stream. The next chunk is read on a thread while one is sent; no thread
//! waits for the network, so slow peers, however many, take none away from the others.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use bytes::Bytes;
use convoke_protocol::ids::BlobHash;
use quinn::SendStream;
use tokio::task::{JoinHandle, spawn_blocking};

use super::receive::died;
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
    let path = store.path(&blob);
    let opened = path.clone();
    let mut reading = read(length - offset, move || {
        let mut file = File::open(&opened)?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(file)
    });
    let mut done = offset;
    while done < length {
        let (file, mut chunk) = reading
            .await
            .map_err(|error| died(blob, &error))?
            .map_err(TransportError::disk(&path))?;
        let left = length - done - chunk.len() as u64;
        reading = read(left, move || Ok(file));
        while !chunk.is_empty() {
            // Any byte counts: only a peer that takes none at all has stalled.
            let written =
                tokio::time::timeout(stall, stream.write_chunks(std::slice::from_mut(&mut chunk)))
                    .await
                    .map_err(|_| TransportError::BlobStalled(blob))??;
            done += written.bytes as u64;
            progress(BlobProgress { done, length });
        }
    }
    Ok(())
}

/// Reads the next chunk, of the file's `left` bytes at most, on a thread.
fn read(
    left: u64,
    file: impl FnOnce() -> io::Result<File> + Send + 'static,
) -> JoinHandle<io::Result<(File, Bytes)>> {
    spawn_blocking(move || {
        let mut file = file()?;
        let size = usize::try_from(left)
            .unwrap_or(CHUNK_BYTES)
            .min(CHUNK_BYTES);
        let mut chunk = vec![0; size];
        file.read_exact(&mut chunk)?;
        Ok((file, chunk.into()))
    })
}

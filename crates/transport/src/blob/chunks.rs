//! Chunks of blobs on their way out. Many peers fetch one checkpoint at about the same time: all
//! of them are sent the same memory, which each needs until it has acknowledged it. So memory
//! grows with the chunks that are under way, never with a model's size times the peers.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use convoke_protocol::ids::BlobHash;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::CHUNK_BYTES;
use super::receive::died;
use crate::error::TransportError;

/// Chunks in memory, each as long as somebody sends it, and the last few for those who come next.
#[derive(Default)]
pub(super) struct Chunks(Mutex<Shared>);

#[derive(Default)]
struct Shared {
    live: HashMap<(BlobHash, u64), Weak<Chunk>>,
    recent: VecDeque<Arc<Chunk>>,
}

/// Bytes of a file, read once.
#[derive(Default)]
struct Chunk(OnceCell<Vec<u8>>);

impl Chunks {
    /// Chunk number `index` of a blob of `length` bytes in the file at `path`. Who asks while
    /// another reads it waits for that.
    ///
    /// # Errors
    /// [`TransportError::Disk`].
    pub(super) async fn read(
        &self,
        blob: BlobHash,
        index: u64,
        length: u64,
        path: PathBuf,
    ) -> Result<Bytes, TransportError> {
        let chunk = self.chunk((blob, index));
        let read = async || {
            let start = index * CHUNK_BYTES as u64;
            let size = usize::try_from(length - start).unwrap_or(CHUNK_BYTES);
            let read = spawn_blocking(move || {
                let mut bytes = vec![0; size.min(CHUNK_BYTES)];
                File::open(&path)
                    .and_then(|file| file.read_exact_at(&mut bytes, start))
                    .map_err(TransportError::disk(&path))?;
                Ok::<_, TransportError>(bytes)
            });
            read.await.map_err(|error| died(blob, &error))?
        };
        chunk.0.get_or_try_init(read).await?;
        Ok(Bytes::from_owner(Content(chunk)))
    }

    fn chunk(&self, key: (BlobHash, u64)) -> Arc<Chunk> {
        // A panic elsewhere cannot have left the map half changed: nothing in here panics.
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chunk) = shared.live.get(&key).and_then(Weak::upgrade) {
            return chunk;
        }
        if shared.live.len() == shared.live.capacity() {
            shared.live.retain(|_, chunk| chunk.strong_count() > 0);
        }
        let chunk = Arc::new(Chunk::default());
        shared.live.insert(key, Arc::downgrade(&chunk));
        if shared.recent.len() == RECENT_MAX {
            shared.recent.pop_front();
        }
        shared.recent.push_back(chunk.clone());
        chunk
    }
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunks").finish_non_exhaustive()
    }
}

/// A chunk that has been read.
struct Content(Arc<Chunk>);

impl AsRef<[u8]> for Content {
    fn as_ref(&self) -> &[u8] {
        self.0.0.get().map_or(&[], Vec::as_slice)
    }
}

/// Chunks kept for the next to ask: 4 MiB.
const RECENT_MAX: usize = 16;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_who_send_a_chunk_share_it_and_then_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        let content: Vec<u8> = (0..CHUNK_BYTES * 3 + 7).map(|i| (i / 1000) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let (chunks, length) = (Chunks::default(), content.len() as u64);
        let read = |blob: u8, index| chunks.read(BlobHash([blob; 32]), index, length, path.clone());

        let (one, other) = tokio::join!(read(1, 0), read(1, 0));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.as_ptr(), other.as_ptr(), "read twice");
        assert_eq!(&one[..], &content[..CHUNK_BYTES]);
        let last = read(1, 3).await.unwrap();
        assert_eq!(&last[..], &content[3 * CHUNK_BYTES..]);

        for blob in 2..=RECENT_MAX as u8 + 1 {
            read(blob, 1).await.unwrap();
        }
        assert_eq!(read(1, 0).await.unwrap().as_ptr(), one.as_ptr());
        drop((one, other, last));
        let live = |key| chunks.0.lock().unwrap().live[&key].strong_count();
        assert_eq!(live((BlobHash([1; 32]), 0)), 0, "kept for ever");
        std::fs::remove_file(&path).unwrap();
        assert!(read(1, 0).await.is_err());
        std::fs::write(&path, &content).unwrap();
        assert_eq!(read(1, 0).await.unwrap().len(), CHUNK_BYTES);
    }

    #[tokio::test]
    async fn the_map_of_chunks_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blob");
        std::fs::write(&path, [7; 100]).unwrap();
        let chunks = Chunks::default();
        for blob in 0..1_000u32 {
            let mut name = [0; 32];
            name[..4].copy_from_slice(&blob.to_le_bytes());
            chunks
                .read(BlobHash(name), 0, 100, path.clone())
                .await
                .unwrap();
        }
        assert!(chunks.0.lock().unwrap().live.len() < 4 * RECENT_MAX);
    }
}

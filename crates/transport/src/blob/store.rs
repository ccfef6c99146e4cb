//! A folder of blobs. Whole ones stand under the hex of their hash; what is still arriving
//! stands in `partial/`, and becomes whole by an atomic rename once its content is verified.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use convoke_protocol::ids::BlobHash;
use tokio::sync::Notify;

use super::CHUNK_BYTES;
use super::chunks::Chunks;
use crate::error::TransportError;

/// A folder of blobs; clones share it.
#[derive(Debug, Clone)]
pub struct BlobStore {
    dir: Arc<Path>,
    /// Blobs that are arriving now: one at a time may write each partial file.
    pub(super) arriving: Arc<Arriving>,
    chunks: Arc<Chunks>,
}

/// Which blobs are arriving, and a call to those who wait for one when another has ended.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    blobs: Mutex<BTreeSet<BlobHash>>,
    pub(super) ended: Notify,
}

impl Arriving {
    pub(super) fn blobs(&self) -> MutexGuard<'_, BTreeSet<BlobHash>> {
        // Nothing panics while it is locked.
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlobStore {
    /// Opens a folder, and creates it if need be.
    ///
    /// # Errors
    /// [`TransportError::Disk`].
    pub fn open(dir: &Path) -> Result<Self, TransportError> {
        let partial = dir.join(PARTIAL);
        fs::create_dir_all(&partial).map_err(TransportError::disk(&partial))?;
        Ok(Self {
            dir: dir.into(),
            arriving: Arc::default(),
            chunks: Arc::default(),
        })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a whole blob is, or would be.
    #[must_use]
    pub fn path(&self, blob: &BlobHash) -> PathBuf {
        self.dir.join(blob.to_file_name())
    }

    /// Whether the whole blob is here.
    #[must_use]
    pub fn contains(&self, blob: &BlobHash) -> bool {
        self.path(blob).is_file()
    }

    /// The length of a whole blob in bytes.
    #[must_use]
    pub fn len(&self, blob: &BlobHash) -> Option<u64> {
        self.path(blob)
            .metadata()
            .ok()
            .filter(fs::Metadata::is_file)
            .map(|meta| meta.len())
    }

    /// The content of a whole blob.
    ///
    /// # Errors
    /// [`TransportError::BlobMissing`], [`TransportError::Disk`].
    pub fn read(&self, blob: &BlobHash) -> Result<Vec<u8>, TransportError> {
        let path = self.path(blob);
        match fs::read(&path) {
            Ok(bytes) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(TransportError::BlobMissing(*blob))
            }
            Err(error) => Err(TransportError::disk(&path)(error)),
        }
    }

    /// Adds bytes, durably. Adding what is here already changes nothing.
    ///
    /// # Errors
    /// [`TransportError::Disk`].
    pub fn insert_bytes(&self, bytes: &[u8]) -> Result<BlobHash, TransportError> {
        let blob = BlobHash::of(bytes);
        self.insert_with(|file| file.write_all(bytes).map(|()| blob))
    }

    /// Adds a copy of a file, durably.
    ///
    /// # Errors
    /// [`TransportError::Disk`].
    pub fn insert_file(&self, path: &Path) -> Result<BlobHash, TransportError> {
        let mut source = File::open(path).map_err(TransportError::disk(path))?;
        self.insert_with(|file| {
            let mut hasher = blake3::Hasher::new();
            let mut buffer = vec![0; CHUNK_BYTES];
            loop {
                let read = source.read(&mut buffer)?;
                if read == 0 {
                    return Ok(BlobHash(*hasher.finalize().as_bytes()));
                }
                hasher.update(&buffer[..read]);
                file.write_all(&buffer[..read])?;
            }
        })
    }

    /// Adds what `fill` writes, durably; nothing if it fails.
    ///
    /// # Errors
    /// That of `fill`, or [`TransportError::Disk`].
    pub fn insert_written<E: From<TransportError>>(
        &self,
        fill: impl FnOnce(&mut Hashing<'_>) -> Result<(), E>,
    ) -> Result<BlobHash, E> {
        let mut failed = None;
        let inserted = self.insert_with(|file| {
            let mut writer = Hashing {
                file,
                hasher: blake3::Hasher::new(),
            };
            fill(&mut writer).map_err(|error| {
                failed = Some(error);
                io::Error::other("the blob could not be made")
            })?;
            Ok(BlobHash(*writer.hasher.finalize().as_bytes()))
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(inserted?),
        }
    }

    /// Removes a blob, and what has come of it if it is not whole; one that is not here is no
    /// error. One that is arriving now does not become whole any more.
    ///
    /// # Errors
    /// [`TransportError::Disk`].
    pub fn remove(&self, blob: &BlobHash) -> Result<(), TransportError> {
        for path in [self.partial_path(blob), self.path(blob)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(TransportError::disk(&path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn partial_path(&self, blob: &BlobHash) -> PathBuf {
        self.dir.join(PARTIAL).join(blob.to_file_name())
    }

    fn insert_with(
        &self,
        fill: impl FnOnce(&mut File) -> io::Result<BlobHash>,
    ) -> Result<BlobHash, TransportError> {
        let write = || -> io::Result<BlobHash> {
            let mut file = tempfile::NamedTempFile::new_in(self.dir.join(PARTIAL))?;
            let blob = fill(file.as_file_mut())?;
            file.as_file().sync_all()?;
            file.persist(self.path(&blob))?;
            self.sync_dir()?;
            Ok(blob)
        };
        write().map_err(TransportError::disk(&self.dir))
    }

    /// The rename is durable once the folder is.
    pub(super) fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    /// Waits until the blob is not arriving. The stream of a connection that has just been
    /// replaced takes a moment to let go of it, and its successor must not be refused for that.
    pub(super) async fn idle(&self, blob: &BlobHash) {
        loop {
            let ended = self.arriving.ended.notified();
            if !self.arriving.blobs().contains(blob) {
                return;
            }
            ended.await;
        }
    }

    /// Chunk number `index` of a whole blob of `length` bytes, shared by all who send it now.
    pub(super) async fn chunk(
        &self,
        blob: BlobHash,
        index: u64,
        length: u64,
    ) -> Result<Bytes, TransportError> {
        self.chunks
            .read(blob, index, length, self.path(&blob))
            .await
    }
}

/// A blob that is being made: what is written to it is hashed.
#[derive(Debug)]
pub struct Hashing<'a> {
    file: &'a mut File,
    hasher: blake3::Hasher,
}

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

const PARTIAL: &str = "partial";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, BlobStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        (dir, store)
    }

    #[test]
    fn what_goes_in_comes_out_under_its_hash() {
        let (dir, store) = store();
        let blob = store.insert_bytes(b"content").unwrap();
        assert_eq!(blob, BlobHash::of(b"content"));
        assert_eq!(store.read(&blob).unwrap(), b"content");
        assert_eq!(store.len(&blob), Some(7));
        let file = dir.path().join("copy");
        fs::write(&file, b"content").unwrap();
        assert_eq!(store.insert_file(&file).unwrap(), blob);
        store.remove(&blob).unwrap();
        store.remove(&blob).unwrap();
        assert!(matches!(
            store.read(&blob),
            Err(TransportError::BlobMissing(_))
        ));
    }
}

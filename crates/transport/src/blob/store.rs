//! A folder of blobs. Whole ones stand under the hex of their hash; what is still arriving
//! stands in `partial/`, and becomes whole by an atomic rename once its content is verified.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use convoke_protocol::ids::BlobHash;
use tokio::sync::Notify;

use super::CHUNK_BYTES;
use crate::error::TransportError;

/// A folder of blobs; clones share it.
#[derive(Debug, Clone)]
pub struct BlobStore {
    dir: Arc<Path>,
    /// Blobs that are arriving now: one at a time may write each partial file.
    arriving: Arc<Arriving>,
}

/// Which blobs are arriving, and a call to those who wait for one when another has ended.
#[derive(Debug, Default)]
struct Arriving {
    blobs: Mutex<BTreeSet<BlobHash>>,
    ended: Notify,
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

    fn partial_path(&self, blob: &BlobHash) -> PathBuf {
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
    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    /// Waits until the blob is not arriving. The stream of a connection that has just been
    /// replaced takes a moment to let go of it, and its successor must not be refused for that.
    pub(super) async fn idle(&self, blob: &BlobHash) {
        loop {
            let ended = self.arriving.ended.notified();
            let busy = self
                .arriving
                .blobs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(blob);
            if !busy {
                return;
            }
            ended.await;
        }
    }

    /// Begins or resumes the reception of a blob; `None` if it is arriving already.
    pub(super) fn begin(&self, blob: BlobHash) -> Result<Option<Partial>, TransportError> {
        let Some(claim) = Claim::take(self, blob) else {
            return Ok(None);
        };
        let path = self.partial_path(&blob);
        let resume = || -> io::Result<(File, blake3::Hasher, u64)> {
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .open(&path)?;
            // What is on disk is hashed again: it may be the torn end of a killed process.
            let mut hasher = blake3::Hasher::new();
            let length = io::copy(&mut file, &mut hasher)?;
            Ok((file, hasher, length))
        };
        let (file, hasher, length) = resume().map_err(TransportError::disk(&path))?;
        Ok(Some(Partial {
            store: self.clone(),
            path,
            file,
            hasher,
            length,
            claim,
        }))
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

/// A blob that is arriving.
#[derive(Debug)]
pub(super) struct Partial {
    store: BlobStore,
    path: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    length: u64,
    claim: Claim,
}

impl Partial {
    /// Which blob it will be.
    pub(super) fn blob(&self) -> BlobHash {
        self.claim.blob
    }

    /// Bytes that are there.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Starts over.
    pub(super) fn reset(&mut self) -> Result<(), TransportError> {
        self.file
            .set_len(0)
            .map_err(TransportError::disk(&self.path))?;
        self.hasher = blake3::Hasher::new();
        self.length = 0;
        Ok(())
    }

    /// Appends the next bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), TransportError> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.file
            .write_all(bytes)
            .map_err(TransportError::disk(&self.path))
    }

    /// Makes the blob whole, durably, if its content has its name; else discards it.
    pub(super) fn finish(self) -> Result<(), TransportError> {
        let expected = self.claim.blob;
        let got = BlobHash(*self.hasher.finalize().as_bytes());
        if got != expected {
            fs::remove_file(&self.path).map_err(TransportError::disk(&self.path))?;
            return Err(TransportError::BlobContent { expected, got });
        }
        let keep = || -> io::Result<()> {
            self.file.sync_all()?;
            fs::rename(&self.path, self.store.path(&expected))?;
            self.store.sync_dir()
        };
        keep().map_err(TransportError::disk(&self.path))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Requests that the peer refused leave nothing behind.
        if self.length == 0 {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The right to write one partial file.
#[derive(Debug)]
struct Claim {
    arriving: Arc<Arriving>,
    blob: BlobHash,
}

impl Claim {
    fn take(store: &BlobStore, blob: BlobHash) -> Option<Self> {
        let arriving = store.arriving.clone();
        let fresh = arriving
            .blobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(blob);
        // Lazily: a claim that is made and dropped would release the other one.
        fresh.then(|| Self { arriving, blob })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.arriving
            .blobs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.blob);
        self.arriving.ended.notify_waiters();
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

    #[test]
    fn a_partial_blob_goes_on_where_it_broke_off_and_has_one_writer() {
        let (_dir, store) = store();
        let blob = BlobHash::of(b"hello world");
        let mut first = store.begin(blob).unwrap().unwrap();
        first.write(b"hello").unwrap();
        for _ in 0..2 {
            assert!(store.begin(blob).unwrap().is_none());
        }
        drop(first);
        let mut second = store.begin(blob).unwrap().unwrap();
        assert_eq!(second.length(), 5);
        second.write(b" world").unwrap();
        second.finish().unwrap();
        assert_eq!(store.read(&blob).unwrap(), b"hello world");
    }

    #[test]
    fn removing_a_blob_removes_what_has_come_of_it() {
        let (dir, store) = store();
        let blob = BlobHash::of(b"hello world");
        store.begin(blob).unwrap().unwrap().write(b"hello").unwrap();
        store.remove(&blob).unwrap();
        assert_eq!(store.begin(blob).unwrap().unwrap().length(), 0);
        let left = fs::read_dir(dir.path().join(PARTIAL)).unwrap().count();
        assert_eq!(left, 0, "an empty partial file stays behind");
    }

    #[test]
    fn a_blob_removed_while_it_arrives_does_not_become_whole() {
        let (_dir, store) = store();
        let blob = BlobHash::of(b"hello");
        let mut partial = store.begin(blob).unwrap().unwrap();
        partial.write(b"hello").unwrap();
        store.remove(&blob).unwrap();
        assert!(partial.finish().is_err());
        assert!(!store.contains(&blob));
    }

    #[test]
    fn wrong_content_is_discarded() {
        let (_dir, store) = store();
        let blob = BlobHash::of(b"right");
        let mut partial = store.begin(blob).unwrap().unwrap();
        partial.write(b"wrong").unwrap();
        assert!(matches!(
            partial.finish(),
            Err(TransportError::BlobContent { .. })
        ));
        assert!(!store.contains(&blob));
        assert_eq!(store.begin(blob).unwrap().unwrap().length(), 0);
    }
}

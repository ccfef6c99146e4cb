//! A blob that is arriving: one pass over its bytes writes, hashes and inspects them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};

use bytes::Bytes;
use convoke_protocol::ids::BlobHash;
use tokio::task::spawn_blocking;

use super::CHUNK_BYTES;
use super::store::{Arriving, BlobStore};
use crate::error::TransportError;

/// Looks at the bytes of a pushed blob on their way to the disk, so that what is to be known of
/// it is known when it has come, without another pass over the file. It sees them before it is
/// known whether they have the blob's name. `()` looks at nothing.
pub trait BlobSink: Send + 'static {
    /// Takes the next bytes, of any number; the first call has the first bytes, also if they had
    /// come on an earlier connection. Called on threads that may compute.
    fn feed(&mut self, bytes: &[u8]);
}

impl BlobSink for () {
    fn feed(&mut self, _: &[u8]) {}
}

/// A blob that is arriving.
#[derive(Debug)]
pub(super) struct Partial<S> {
    store: BlobStore,
    path: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    sink: S,
    length: u64,
    /// Memory in which packets are joined, used again and again: hashing is faster in long runs.
    joined: Vec<u8>,
    write_back: WriteBack,
    claim: Claim,
}

impl<S: BlobSink> Partial<S> {
    /// Begins or resumes the reception of a blob; `None` if it is arriving already. What is here
    /// of it is fed to the sink, or discarded if it is longer than `length_max`.
    pub(super) fn begin(
        store: &BlobStore,
        blob: BlobHash,
        length_max: u64,
        mut sink: S,
    ) -> Result<Option<Self>, TransportError> {
        let Some(claim) = Claim::take(store, blob) else {
            return Ok(None);
        };
        let path = store.partial_path(&blob);
        let mut joined = vec![0; CHUNK_BYTES];
        let mut resume = || -> io::Result<(File, blake3::Hasher, u64)> {
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .open(&path)?;
            if file.metadata()?.len() > length_max {
                file.set_len(0)?;
            }
            // What is on disk is hashed again: it may be the torn end of a killed process.
            let (mut hasher, mut length) = (blake3::Hasher::new(), 0);
            loop {
                let read = file.read(&mut joined)?;
                if read == 0 {
                    return Ok((file, hasher, length));
                }
                hasher.update(&joined[..read]);
                sink.feed(&joined[..read]);
                length += read as u64;
            }
        };
        let (file, hasher, length) = resume().map_err(TransportError::disk(&path))?;
        Ok(Some(Self {
            store: store.clone(),
            path,
            file,
            hasher,
            sink,
            length,
            joined,
            write_back: WriteBack::default(),
            claim,
        }))
    }

    /// Which blob it will be.
    pub(super) fn blob(&self) -> BlobHash {
        self.claim.blob
    }

    /// Bytes that are there.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Throws away what has come.
    pub(super) fn discard(self) -> Result<(), TransportError> {
        self.file
            .set_len(0)
            .map_err(TransportError::disk(&self.path))
    }

    /// Appends the next packets. Waits for the disk, and computes.
    pub(super) fn write(&mut self, packets: &[Bytes]) -> Result<(), TransportError> {
        self.joined.clear();
        for packet in packets {
            self.joined.extend_from_slice(packet);
        }
        let bytes = &self.joined[..];
        self.hasher.update(bytes);
        self.sink.feed(bytes);
        self.length += bytes.len() as u64;
        self.file
            .write_all(bytes)
            .map_err(TransportError::disk(&self.path))?;
        self.write_back
            .advance(bytes.len() as u64, &self.file)
            .map_err(TransportError::disk(&self.path))
    }

    /// Makes the blob whole, durably, if its content has its name; else discards it.
    pub(super) fn finish(self) -> Result<S, TransportError> {
        let expected = self.claim.blob;
        let got = BlobHash(*self.hasher.finalize().as_bytes());
        if got != expected {
            fs::remove_file(&self.path).map_err(TransportError::disk(&self.path))?;
            return Err(TransportError::BlobContent { expected, got });
        }
        let keep = || -> io::Result<()> {
            self.write_back.finish()?;
            self.file.sync_all()?;
            fs::rename(&self.path, self.store.path(&expected))?;
            self.store.sync_dir()
        };
        keep().map_err(TransportError::disk(&self.path))?;
        Ok(self.sink)
    }
}

/// Has the disk begin to write while the rest of the blob arrives, where it would otherwise do
/// nothing until the end, and then hold up the receipt.
#[derive(Debug, Default)]
struct WriteBack {
    bytes: u64,
    /// Gets the outcome of the one that is under way: the kernel tells of an error once.
    under_way: Option<Receiver<io::Result<()>>>,
}

impl WriteBack {
    fn advance(&mut self, bytes: u64, file: &File) -> io::Result<()> {
        self.bytes += bytes;
        if self.bytes < WRITE_BACK_BYTES {
            return Ok(());
        }
        match self.under_way.as_ref().map(Receiver::try_recv) {
            Some(Err(TryRecvError::Empty)) => return Ok(()),
            Some(Ok(written)) => written?,
            Some(Err(TryRecvError::Disconnected)) | None => {}
        }
        self.bytes = 0;
        let file = file.try_clone()?;
        let (outcome, under_way) = mpsc::channel();
        spawn_blocking(move || outcome.send(file.sync_data()));
        self.under_way = Some(under_way);
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        let outcome = self.under_way.and_then(|under_way| under_way.recv().ok());
        outcome.unwrap_or(Ok(()))
    }
}

/// Bytes after which the disk is told to begin.
const WRITE_BACK_BYTES: u64 = 8 << 20;

/// The right to write one partial file.
#[derive(Debug)]
struct Claim {
    arriving: Arc<Arriving>,
    blob: BlobHash,
    path: PathBuf,
}

impl Claim {
    fn take(store: &BlobStore, blob: BlobHash) -> Option<Self> {
        let (arriving, path) = (store.arriving.clone(), store.partial_path(&blob));
        let fresh = arriving.blobs().insert(blob);
        // Lazily: a claim that is made and dropped would release the other one.
        fresh.then(|| Self {
            arriving,
            blob,
            path,
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Requests that the peer refused leave nothing behind.
        if self.path.metadata().is_ok_and(|meta| meta.len() == 0) {
            let _ = fs::remove_file(&self.path);
        }
        self.arriving.blobs().remove(&self.blob);
        self.arriving.ended.notify_waiters();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, BlobStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = BlobStore::open(dir.path()).unwrap();
        (dir, store)
    }

    /// Keeps what it is fed.
    #[derive(Debug, Default)]
    struct Fed(Vec<u8>);

    impl BlobSink for Fed {
        fn feed(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
    }

    fn begin(store: &BlobStore, blob: BlobHash) -> Result<Option<Partial<Fed>>, TransportError> {
        Partial::begin(store, blob, u64::MAX, Fed::default())
    }

    #[test]
    fn a_partial_blob_goes_on_where_it_broke_off_and_has_one_writer() {
        let (_dir, store) = store();
        let blob = BlobHash::of(b"hello world");
        let mut first = begin(&store, blob).unwrap().unwrap();
        first.write(&[Bytes::from_static(b"hello")]).unwrap();
        for _ in 0..2 {
            assert!(begin(&store, blob).unwrap().is_none());
        }
        drop(first);
        let mut second = begin(&store, blob).unwrap().unwrap();
        assert_eq!(second.length(), 5);
        second.write(&[Bytes::from_static(b" world")]).unwrap();
        let sink = second.finish().unwrap();
        assert_eq!(sink.0, b"hello world", "the sink sees what had come before");
        assert_eq!(store.read(&blob).unwrap(), b"hello world");
    }

    #[test]
    fn removing_a_blob_removes_what_has_come_of_it() {
        let (dir, store) = store();
        let blob = BlobHash::of(b"hello world");
        begin(&store, blob)
            .unwrap()
            .unwrap()
            .write(&[Bytes::from_static(b"hello")])
            .unwrap();
        store.remove(&blob).unwrap();
        assert_eq!(begin(&store, blob).unwrap().unwrap().length(), 0);
        let left = fs::read_dir(dir.path().join("partial")).unwrap().count();
        assert_eq!(left, 0, "an empty partial file stays behind");
    }

    #[test]
    fn a_blob_removed_while_it_arrives_does_not_become_whole() {
        let (_dir, store) = store();
        let blob = BlobHash::of(b"hello");
        let mut partial = begin(&store, blob).unwrap().unwrap();
        partial.write(&[Bytes::from_static(b"hello")]).unwrap();
        store.remove(&blob).unwrap();
        assert!(partial.finish().is_err());
        assert!(!store.contains(&blob));
    }

    #[test]
    fn wrong_content_is_discarded() {
        let (_dir, store) = store();
        let blob = BlobHash::of(b"right");
        let mut partial = begin(&store, blob).unwrap().unwrap();
        partial.write(&[Bytes::from_static(b"wrong")]).unwrap();
        assert!(matches!(
            partial.finish(),
            Err(TransportError::BlobContent { .. })
        ));
        assert!(!store.contains(&blob));
        assert_eq!(begin(&store, blob).unwrap().unwrap().length(), 0);
    }
}

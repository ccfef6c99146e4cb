//! Deltas among the blobs. Where the task has a codec, a delta's blob is its encoding; what is
//! compared and averaged is a safetensors file beside it, decoded once when the delta arrives.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use convoke_compress::{Codec, CompressError, EncodedFile, EncodingError};
use convoke_protocol::ids::BlobHash;
use convoke_protocol::refusal::Refusal;
use convoke_protocol::task::CompressionSpec;
use convoke_sketch::{DeltaStats, Inspector, Layout, TensorFile, inspect};
use convoke_transport::BlobStore;

use crate::error::AggregatorError;

/// How the names of decoded files end. No blob's name does, so nobody can ask for them.
const DECODED: &str = ".decoded";

/// The deltas of one task.
#[derive(Debug, Clone)]
pub(super) struct Deltas {
    blobs: BlobStore,
    layout: Arc<Layout>,
    /// Of the initial checkpoint's file: decoded deltas get the same.
    header: Arc<[u8]>,
    codec: Option<Codec>,
}

impl Deltas {
    /// Those of a model like the checkpoint `initial`, which is among the blobs. Removes what a
    /// killed process left.
    ///
    /// # Errors
    /// If the checkpoint or the folder cannot be read.
    pub(super) fn open(
        blobs: BlobStore,
        initial: &BlobHash,
        compression: &CompressionSpec,
    ) -> Result<Self, AggregatorError> {
        let file = TensorFile::open(&blobs.path(initial))?;
        remove_leftovers(&blobs)?;
        Ok(Self {
            layout: Arc::new(file.layout().clone()),
            header: file.header().into(),
            blobs,
            codec: Codec::of_updates(compression),
        })
    }

    /// Length of every delta's blob in bytes.
    pub(super) fn blob_bytes(&self) -> u64 {
        match self.codec {
            None => self.layout.file_bytes(),
            Some(codec) => codec.encoded_bytes(self.layout.values()),
        }
    }

    /// Names and shapes of the model's tensors.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What measures a delta of so many bytes while it arrives; nothing for an encoded one.
    pub(super) fn inspector(&self, length: u64) -> Option<Inspector> {
        match self.codec {
            None => Some(Inspector::new(self.layout.clone(), length)),
            Some(_) => None,
        }
    }

    /// Measures a delta that has arrived, decoded if need be. The outer error is ours, the inner
    /// one the trainer's.
    pub(super) fn inspect(
        &self,
        delta: &BlobHash,
    ) -> Result<Result<DeltaStats, Refusal>, AggregatorError> {
        match self.values_of(delta) {
            Ok(path) => Ok(inspect(&path, &self.layout)?),
            Err(AggregatorError::Compress(CompressError::Encoding(error))) => {
                Ok(Err(refusal_of(&error)))
            }
            Err(error) => Err(error),
        }
    }

    /// The safetensors file of a delta that has arrived. It is decoded anew if it is not there any
    /// more.
    ///
    /// # Errors
    /// [`CompressError::Encoding`] if the trainer sent no encoding; else our disk's.
    pub(super) fn values_of(&self, delta: &BlobHash) -> Result<PathBuf, AggregatorError> {
        let path = self.blobs.path(delta);
        let Some(codec) = self.codec else {
            return Ok(path);
        };
        let decoded = self.decoded_path(delta);
        if !decoded.is_file() {
            let encoded = EncodedFile::open_like(&path, codec, self.layout.values())?;
            encoded.unpack(&self.header, &decoded)?;
        }
        Ok(decoded)
    }

    /// Removes deltas of rounds that are over.
    pub(super) fn discard(&self, deltas: &BTreeSet<BlobHash>) {
        for delta in deltas {
            if let Err(error) = self.remove(delta) {
                tracing::warn!(%error, "a delta could not be removed");
            }
        }
    }

    /// Removes a delta, and what was decoded of it.
    fn remove(&self, delta: &BlobHash) -> Result<(), AggregatorError> {
        // In this order: a file without its blob would stay for ever.
        remove(&self.decoded_path(delta))?;
        Ok(self.blobs.remove(delta)?)
    }

    fn decoded_path(&self, delta: &BlobHash) -> PathBuf {
        let name = format!("{}{DECODED}", delta.to_file_name());
        self.blobs.dir().join(name)
    }
}

/// What a trainer is told of bytes that are no encoding.
fn refusal_of(error: &EncodingError) -> Refusal {
    match error {
        EncodingError::Length { got, expected } => Refusal::DeltaLength {
            got: *got,
            expected: *expected,
        },
        other => Refusal::Encoding(other.to_string()),
    }
}

/// Removes files that were not finished, and decoded ones whose blobs are gone.
fn remove_leftovers(blobs: &BlobStore) -> Result<(), AggregatorError> {
    let io = AggregatorError::file(blobs.dir());
    for entry in std::fs::read_dir(blobs.dir()).map_err(&io)? {
        let path = entry.map_err(&io)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_orphan = name
            .strip_suffix(DECODED)
            .is_some_and(|blob| !blobs.dir().join(blob).is_file());
        if is_orphan || name.starts_with(EncodedFile::TEMPORARY) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// A file that is not there is no error.
fn remove(path: &Path) -> Result<(), AggregatorError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(AggregatorError::file(path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_protocol::task::CodecKind;
    use convoke_sketch::measure;

    use super::*;
    use crate::testing::{model, normal};

    const VALUES: usize = 9_000;

    struct Bench {
        _folder: tempfile::TempDir,
        blobs: BlobStore,
        initial: BlobHash,
        compression: CompressionSpec,
        codec: Option<Codec>,
    }

    impl Bench {
        fn of(update: CodecKind) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let blobs = BlobStore::open(folder.path()).unwrap();
            let compression = CompressionSpec {
                update,
                ..CompressionSpec::default()
            };
            Self {
                initial: blobs.insert_bytes(&model(&normal(1, VALUES))).unwrap(),
                codec: Codec::of_updates(&compression),
                compression,
                _folder: folder,
                blobs,
            }
        }

        fn open(&self) -> Deltas {
            Deltas::open(self.blobs.clone(), &self.initial, &self.compression).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.blobs.dir()).unwrap();
            let name = |entry: std::io::Result<std::fs::DirEntry>| {
                entry.unwrap().file_name().into_string().unwrap()
            };
            let mut names: Vec<String> = entries.map(name).filter(|n| n != "partial").collect();
            names.sort();
            names
        }
    }

    #[test]
    fn an_encoded_delta_is_measured_by_what_is_decoded() {
        let bench = Bench::of(CodecKind::TopK);
        let (deltas, codec) = (bench.open(), bench.codec.unwrap());
        let bytes = codec.encode(&normal(2, VALUES));
        let delta = bench.blobs.insert_bytes(&bytes).unwrap();
        assert_eq!(deltas.blob_bytes(), bytes.len() as u64);
        let mut values = vec![0.0; VALUES];
        codec.decode(&bytes, &mut values).unwrap();
        let expected = measure(&values[..]).unwrap().unwrap();
        assert_eq!(deltas.inspect(&delta).unwrap().unwrap(), expected);
        let path = deltas.values_of(&delta).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), model(&values));
        // As after a restart, by somebody who took the decoded file away.
        std::fs::remove_file(&path).unwrap();
        assert_eq!(bench.open().values_of(&delta).unwrap(), path);
        deltas.remove(&delta).unwrap();
        assert_eq!(bench.names(), [bench.initial.to_file_name()]);
    }

    #[test]
    fn a_delta_that_travels_whole_is_its_own_file() {
        let bench = Bench::of(CodecKind::None);
        let deltas = bench.open();
        let bytes = model(&normal(2, VALUES));
        let delta = bench.blobs.insert_bytes(&bytes).unwrap();
        assert_eq!(deltas.blob_bytes(), bytes.len() as u64);
        assert_eq!(deltas.values_of(&delta).unwrap(), bench.blobs.path(&delta));
        deltas.inspect(&delta).unwrap().unwrap();
    }

    #[test]
    fn what_is_no_encoding_is_refused_by_name() {
        let bench = Bench::of(CodecKind::Int8);
        let deltas = bench.open();
        let sound = bench.codec.unwrap().encode(&normal(2, VALUES));
        let refused = |bytes: &[u8]| {
            let delta = bench.blobs.insert_bytes(bytes).unwrap();
            deltas.inspect(&delta).unwrap().unwrap_err().code()
        };
        let mut flawed = sound.clone();
        flawed[24..28].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(refused(&flawed), "encoding");
        let mut other = sound.clone();
        other[6] = 1;
        assert_eq!(refused(&other), "encoding");
        assert_eq!(refused(&sound[..sound.len() - 1]), "delta_length");
        assert!(!bench.names().iter().any(|name| name.starts_with('.')));
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let bench = Bench::of(CodecKind::Bf16);
        let deltas = bench.open();
        let bytes = bench.codec.unwrap().encode(&normal(2, VALUES));
        let delta = bench.blobs.insert_bytes(&bytes).unwrap();
        deltas.values_of(&delta).unwrap();
        std::fs::write(bench.blobs.dir().join(".dense-torn"), b"half").unwrap();
        bench.open();
        assert_eq!(bench.names().len(), 3);
        std::fs::remove_file(bench.blobs.path(&delta)).unwrap();
        bench.open();
        assert_eq!(bench.names(), [bench.initial.to_file_name()]);
    }
}

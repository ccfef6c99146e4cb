//! Files that are written and hashed chunk by chunk, and get their names when they are whole.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use convoke_protocol::ids::BlobHash;
use convoke_sketch::file_bytes;
use tempfile::NamedTempFile;

use crate::error::AggregatorError;

/// How the names of files begin that are not finished.
const TEMPORARY: &str = ".step-";

/// A safetensors file on its way.
pub(crate) struct Output {
    file: NamedTempFile,
    hasher: blake3::Hasher,
}

impl Output {
    /// With the header of another file of the same layout.
    pub(crate) fn create(dir: &Path, header: &[u8]) -> Result<Self, AggregatorError> {
        let mut output = Self {
            file: temporary(dir)?,
            hasher: blake3::Hasher::new(),
        };
        output.write_bytes(header)?;
        Ok(output)
    }

    pub(crate) fn write(&mut self, values: &[f32]) -> Result<(), AggregatorError> {
        self.write_bytes(&file_bytes(values))
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), AggregatorError> {
        self.hasher.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(AggregatorError::file(self.file.path()))
    }

    /// The file's hash, once nothing more is written.
    pub(crate) fn hash(&self) -> BlobHash {
        BlobHash(*self.hasher.finalize().as_bytes())
    }

    /// Gives the file its hash for a name.
    pub(crate) fn persist(self, dir: &Path) -> Result<(), AggregatorError> {
        let path = dir.join(self.hash().to_file_name());
        persist(self.file, &path)
    }
}

/// Writes a small file, whole or not at all.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), AggregatorError> {
    let mut file = temporary(folder_of(path))?;
    file.write_all(bytes)
        .map_err(AggregatorError::file(file.path()))?;
    persist(file, path)
}

/// Removes what a step that was killed has left half-written. One step is taken at a time.
pub(super) fn remove_leftovers(dir: &Path) -> Result<(), AggregatorError> {
    remove_files(dir, |name| name.starts_with(TEMPORARY.as_bytes()))
}

/// Removes the files of such names.
pub(super) fn remove_files(
    dir: &Path,
    named: impl Fn(&[u8]) -> bool,
) -> Result<(), AggregatorError> {
    let io = AggregatorError::file(dir);
    for entry in dir.read_dir().map_err(&io)? {
        let entry = entry.map_err(&io)?;
        if named(entry.file_name().as_encoded_bytes()) {
            std::fs::remove_file(entry.path()).map_err(&io)?;
        }
    }
    Ok(())
}

fn temporary(dir: &Path) -> Result<NamedTempFile, AggregatorError> {
    tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempfile_in(dir)
        .map_err(AggregatorError::file(dir))
}

/// Syncs a file, gives it its name, and syncs the folder that has it.
fn persist(file: NamedTempFile, path: &Path) -> Result<(), AggregatorError> {
    let io = AggregatorError::file(path);
    file.as_file().sync_all().map_err(&io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    File::open(folder_of(path))
        .and_then(|folder| folder.sync_all())
        .map_err(io)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

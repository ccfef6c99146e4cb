//! Which blobs belong to which checkpoint: a file beside it that names them, one hash a line.

use std::path::{Path, PathBuf};

use convoke_protocol::ids::BlobHash;

use super::output::write_whole;
use crate::error::AggregatorError;

/// A kind of what belongs to a checkpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Belonging(&'static str);

impl Belonging {
    /// The moments of the server optimizer, in its order.
    pub(crate) const STATES: Self = Self("states");
    /// The server's control variate.
    pub(crate) const CONTROL: Self = Self("control");
    /// The exact model behind it, where checkpoints are encoded.
    pub(crate) const EXACT: Self = Self("exact");

    /// What is named; nothing if no file is there.
    pub(crate) fn of(
        self,
        dir: &Path,
        checkpoint: &BlobHash,
    ) -> Result<Vec<BlobHash>, AggregatorError> {
        let path = self.path(dir, checkpoint);
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text.map_err(AggregatorError::file(&path))?,
        };
        let names = text
            .lines()
            .map(|line| line.parse().map_err(std::io::Error::other));
        let names: Result<_, _> = names.collect();
        names.map_err(AggregatorError::file(&path))
    }

    /// Names what is on disk already: whoever sees the name finds it.
    pub(crate) fn name(
        self,
        dir: &Path,
        checkpoint: &BlobHash,
        blobs: &[BlobHash],
    ) -> Result<(), AggregatorError> {
        let lines: Vec<String> = blobs.iter().map(BlobHash::to_string).collect();
        write_whole(&self.path(dir, checkpoint), lines.join("\n").as_bytes())
    }

    fn path(self, dir: &Path, checkpoint: &BlobHash) -> PathBuf {
        dir.join(format!("{}.{}", checkpoint.to_file_name(), self.0))
    }
}

/// The moments that belong to a checkpoint, in the optimizer's order: names of blobs beside it.
/// None before the first step, and of an optimizer that remembers nothing.
///
/// # Errors
/// If what is there cannot be read.
pub fn states_of(dir: &Path, checkpoint: &BlobHash) -> Result<Vec<BlobHash>, AggregatorError> {
    Belonging::STATES.of(dir, checkpoint)
}

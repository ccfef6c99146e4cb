//! Which moments of the server optimizer belong to which checkpoint: a file beside it that names
//! them, one hash a line.

use std::path::{Path, PathBuf};

use convoke_protocol::ids::BlobHash;

use super::output::write_whole;
use crate::error::AggregatorError;

/// The moments that belong to a checkpoint, in the optimizer's order: names of blobs beside it.
/// None before the first step, and of an optimizer that remembers nothing.
///
/// # Errors
/// If what is there cannot be read.
pub fn states_of(dir: &Path, checkpoint: &BlobHash) -> Result<Vec<BlobHash>, AggregatorError> {
    let path = path(dir, checkpoint);
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

/// Says which moments belong to a checkpoint. They are on disk before the checkpoint is: whoever
/// sees that finds them, too.
pub(super) fn name_states(
    dir: &Path,
    checkpoint: &BlobHash,
    moments: &[BlobHash],
) -> Result<(), AggregatorError> {
    let lines: Vec<String> = moments.iter().map(BlobHash::to_string).collect();
    write_whole(&path(dir, checkpoint), lines.join("\n").as_bytes())
}

fn path(dir: &Path, checkpoint: &BlobHash) -> PathBuf {
    dir.join(format!("{}.states", checkpoint.to_file_name()))
}

//! What goes wrong with checkpoints, deltas and their sketches.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file cannot be read or sketched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SketchError {
    /// Our disk: a file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Our configuration, or a peer's blob: not a safetensors file of f32 tensors, or not of the
    /// shapes expected.
    #[error("{} is not a model of f32 tensors: {reason}", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Sums over so many values might not fit their integers.
    #[error(
        "{values} values, a sketch takes at most {}",
        crate::projection::VALUES_MAX
    )]
    TooLong {
        /// How many there are.
        values: u64,
    },
    /// Our call: a delta has no such chunk.
    #[error("there is no chunk {index}, the delta has {count}")]
    NoChunk {
        /// Which was asked for, from 0.
        index: u64,
        /// How many there are.
        count: u64,
    },
}

impl SketchError {
    /// Names the file in an IO error.
    pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

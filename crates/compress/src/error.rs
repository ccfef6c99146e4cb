//! What is wrong with an encoding, and what goes wrong around it.

use std::io;
use std::path::{Path, PathBuf};

use convoke_sketch::SketchError;

/// The sender's fault: bytes that are no encoding of so many values by this codec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodingError {
    /// Bytes are missing or left over.
    #[error("an encoding of {got} bytes, {expected} are due")]
    Length {
        /// Bytes there are.
        got: u64,
        /// Bytes that the codec makes of so many values.
        expected: u64,
    },
    /// Another codec, version, number of values or block size.
    #[error("the encoding's header is not that of the codec, version and length that are due")]
    Header,
    /// A block that no encoder makes.
    #[error("block {block} of the encoding: {flaw}")]
    Block {
        /// Which, from 0.
        block: u64,
        /// What is wrong with it.
        flaw: Flaw,
    },
}

/// What no encoder makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// A value or scale is NaN, infinite, negative, or so large that values might overflow.
    #[error("a value or its scale is out of range")]
    Range,
    /// Places must rise, and lie within the block.
    #[error("the places of its values do not rise, or lie outside of it")]
    Places,
}

/// Our disk's fault, or the sender's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompressError {
    /// Our disk.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Our disk, or whoever else is written to.
    #[error("cannot write: {0}")]
    Write(io::Error),
    /// Values that are to be encoded cannot be read.
    #[error(transparent)]
    Sketch(#[from] SketchError),
    /// The sender's fault.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
}

impl CompressError {
    /// Names the file in an IO error.
    pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

//! What is wrong with a ceremony.

use std::path::PathBuf;

use super::Phase;
use crate::error::ProofError;

/// Why a transcript is refused.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// The secrets of this phase are still 1.
    #[error("nobody contributed to phase {0:?}")]
    NobodyContributed(Phase),
    /// The powers are sealed.
    #[error("the first phase is over")]
    AlreadySealed,
    /// A phase takes no more contributions.
    #[error("a phase has {} contributions at most", super::CONTRIBUTIONS_MAX)]
    TooMany,
    /// A contribution does not know its secrets, or does not follow on the one before.
    #[error("contribution {index} of phase {phase:?}: {fault}")]
    Contribution {
        /// The phase.
        phase: Phase,
        /// Its place, from 0.
        index: usize,
        /// What is wrong.
        fault: &'static str,
    },
    /// The powers are not those of one τ, or not those of the last contribution.
    #[error("the powers are wrong: {0}")]
    Powers(&'static str),
    /// The key is not what the circuit and the powers make it.
    #[error("the key is wrong: {0}")]
    Key(&'static str),
    /// A file is damaged, of another circuit, or cannot be read or written.
    #[error("ceremony file {path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The circuit cannot be written down.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

//! What the audit of sketches speaks of, in our types.

use std::fmt;

use convoke_protocol::ids::{Address, Digest, RoundId, TaskId};
use serde::{Deserialize, Serialize};

use crate::ResultSubmission;

/// What the contract found to be false.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SketchFault {
    /// Nothing.
    None,
    /// The update is of another task, round or base.
    Foreign,
    /// The header's norm is none.
    Norm,
    /// A chunk has not the length that its place asks for.
    Chunk,
    /// Sums have not their length.
    Sums,
    /// Sums are not those before and the chunk's projection.
    Step,
    /// The delta is larger than its header says.
    Energy,
    /// The commitment is not to the sketch that follows from the sums.
    Commitment,
    /// Leaves of the two trees disagree on the number of chunks.
    Counts,
    /// Something asked for was not shown.
    Silence,
}

impl SketchFault {
    const ALL: [Self; 10] = [
        Self::None,
        Self::Foreign,
        Self::Norm,
        Self::Chunk,
        Self::Sums,
        Self::Step,
        Self::Energy,
        Self::Commitment,
        Self::Counts,
        Self::Silence,
    ];

    pub(crate) fn of_chain(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for SketchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "nothing",
            Self::Foreign => "an update of another task, round or base",
            Self::Norm => "a norm that is none",
            Self::Chunk => "a chunk of a wrong length",
            Self::Sums => "sums of a wrong length",
            Self::Step => "sums that do not follow from those before",
            Self::Energy => "a delta larger than its header says",
            Self::Commitment => "a commitment to another sketch",
            Self::Counts => "trees that disagree on the number of chunks",
            Self::Silence => "no answer in time",
        })
    }
}

/// What an aggregator can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditPart {
    /// The header of an update.
    Header,
    /// A chunk of its delta.
    Chunk,
    /// The sums up to and with a chunk.
    Sums,
}

impl AuditPart {
    const ALL: [Self; 3] = [Self::Header, Self::Chunk, Self::Sums];

    pub(crate) fn of_chain(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    pub(crate) fn on_chain(self) -> u8 {
        match self {
            Self::Header => 0,
            Self::Chunk => 1,
            Self::Sums => 2,
        }
    }
}

impl fmt::Display for AuditPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Header => "header",
            Self::Chunk => "chunk",
            Self::Sums => "sums",
        })
    }
}

/// Bytes under one of the two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// A chunk as in the file, or sums of 1,056 bytes.
    pub bytes: Vec<u8>,
    /// Siblings of the leaf, lowest first.
    pub proof: Vec<Digest>,
}

/// One chunk of a delta with the sums before and after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SketchOpening {
    /// The chunk's place, from 0.
    pub index: u64,
    /// Number of chunks.
    pub count: u64,
    /// The chunk, under the root in the update's header.
    pub chunk: Opened,
    /// The sums before it; none of the first chunk.
    pub before: Option<Opened>,
    /// The sums with it.
    pub after: Opened,
}

/// One leaf of either tree, without what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLeaf {
    /// Which tree: [`AuditPart::Chunk`] or [`AuditPart::Sums`].
    pub part: AuditPart,
    /// Its place, from 0.
    pub index: u64,
    /// Number of chunks that it names.
    pub count: u64,
    /// keccak-256 of the chunk or of the sums.
    pub content: Digest,
    /// Siblings, lowest first.
    pub proof: Vec<Digest>,
}

/// One update in the result that an aggregator submitted.
#[derive(Debug, Clone, Copy)]
pub struct AuditEntry<'a> {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundId,
    /// Place of the update, from 0.
    pub slot: u64,
    /// As [`crate::Chain::submission`] gives it.
    pub submission: &'a ResultSubmission,
}

/// What an aggregator has been asked to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AuditDemand {
    /// Who paid the bond.
    pub demander: Address,
    /// Until when it may be answered, in Unix seconds.
    pub due: u64,
    /// What is asked for.
    pub part: AuditPart,
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundId,
    /// The attempt.
    pub attempt: u16,
    /// Of the chunk or sums, from 0.
    pub index: u64,
    /// Who must have signed the header; nobody if the chain knows who committed to it.
    pub trainer: Option<Address>,
    /// The update's hash, or the root of the tree.
    pub root: Digest,
}

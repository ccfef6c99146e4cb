//! What can go wrong in an aggregator, and whose fault it is. A peer's fault is no error here:
//! it is a [`convoke_protocol::refusal::Refusal`] or a fault of the round.

use std::io;
use std::path::{Path, PathBuf};

use convoke_client::ChainError;
use convoke_compress::CompressError;
use convoke_proofs::error::ProofError;
use convoke_protocol::codec::CodecError;
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, RoundId, TaskId};
use convoke_protocol::task::TaskFileError;
use convoke_sketch::SketchError;
use convoke_transport::TransportError;

/// Everything that ends an aggregator, or a step of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AggregatorError {
    /// Our disk: a file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Our disk: a checkpoint or delta cannot be read, or is not one any more.
    #[error(transparent)]
    Sketch(#[from] SketchError),
    /// Our disk: a delta cannot be decoded any more.
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// Our configuration, or our bug: a round cannot be proven.
    #[error("cannot prove the round: {0}")]
    Proof(#[from] ProofError),
    /// The deployment's administrators have named a verifier that this version does not know.
    #[error("the chain's proof verifier {verifier} is of no kind that this version can prove for")]
    UnknownVerifier {
        /// The contract.
        verifier: Address,
    },
    /// Our configuration: the keys for proofs are not those that the chain verifies with.
    #[error(
        "no keys in {} for the chain's verifier of {slots} updates, which is of circuit {circuit}: {reason}",
        folder.display()
    )]
    NoKeys {
        /// Where they were looked for.
        folder: PathBuf,
        /// Updates that the circuit has room for.
        slots: u16,
        /// Hash of the circuit.
        circuit: Digest,
        /// What is wrong.
        reason: String,
    },
    /// The task's creator chose a split that the chain would never pay.
    #[error(
        "task {task} splits by rank, which cannot be proven, and this chain pays against proofs only"
    )]
    SplitNotProven {
        /// The task.
        task: TaskId,
    },
    /// Our configuration: no circuit on chain is large enough.
    #[error(
        "rounds of task {task} may have {needed} trainers, the chain verifies proofs for at most {most}"
    )]
    TooManyTrainers {
        /// The task.
        task: TaskId,
        /// Trainers of a round at most.
        needed: u32,
        /// Room of the largest circuit.
        most: u16,
    },
    /// Our bug: the round machine and the proof disagree on the pay.
    #[error("round {0}: what is to be paid is not what can be proven")]
    OtherPayouts(RoundId),
    /// Our configuration: the step leaves the range of f32.
    #[error(
        "the new checkpoint's value {index} would be {value}; lower aggregation.server_lr or server_momentum"
    )]
    Diverged {
        /// Index of the first such value in the flat checkpoint.
        index: u64,
        /// The value.
        value: f32,
    },
    /// Our configuration: no such rule.
    #[error("there is no aggregation rule {name:?}; known are {known}")]
    UnknownRule {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Our disk: the database fails.
    #[error("database {}: {source}", path.display())]
    Database {
        /// Which file.
        path: PathBuf,
        /// What SQLite says.
        source: sqlx::Error,
    },
    /// Our disk: a row is not what this program writes.
    #[error("database {}: {reason}", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Our configuration: the folder was written by a newer program.
    #[error("database {} has version {got}, this program knows versions up to {known}", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// The version found.
        got: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// Our configuration: two aggregators on one folder.
    #[error("folder {} is in use by another aggregator", path.display())]
    InUse {
        /// Which folder.
        path: PathBuf,
    },
    /// Our configuration: the folder holds another task.
    #[error(
        "folder {} belongs to another task (its set-up is {got}, this task's is {expected}); give each task a folder of its own",
        path.display()
    )]
    OtherTask {
        /// Which folder.
        path: PathBuf,
        /// Digest of the set-up that it was made for.
        got: Digest,
        /// Digest of this task's set-up.
        expected: Digest,
    },
    /// The chain refused, or cannot be reached.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The blob store, or the address to listen on.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Our disk: an event in the log is not what this program writes.
    #[error("the event log: {0}")]
    Codec(#[from] CodecError),
    /// Our disk, or our bug: an event that was accepted once is refused in the replay.
    #[error("the event log does not replay: {0}")]
    Log(String),
    /// The task on chain is not one that this version understands.
    #[error("the file of task {task} is not usable: {source}")]
    TaskFile {
        /// The task.
        task: TaskId,
        /// What is wrong with it.
        source: TaskFileError,
    },
    /// Our configuration: the task names another aggregator.
    #[error(
        "task {task} names the aggregator {named}, this wallet is {ours}: use the wallet that the task names"
    )]
    NotTheAggregator {
        /// The task.
        task: TaskId,
        /// Whom it names.
        named: Address,
        /// Who we are.
        ours: Address,
    },
    /// Nothing is staked, or too little to open rounds.
    #[error(
        "the aggregator of task {task} has staked {got}, {needed} base units are needed: \
         run `convoke stake deposit --task {task} --role aggregator` first"
    )]
    Stake {
        /// The task.
        task: TaskId,
        /// Staked now.
        got: Amount,
        /// Least stake.
        needed: Amount,
    },
    /// The deployment's administrators have named no proof verifier yet.
    #[error(
        "nobody has set a proof verifier on this chain, so it takes no results: \
         ask who deployed the contracts"
    )]
    NoProofVerifier,
    /// The task's creator left out the initial checkpoint.
    #[error("the task file names no initial checkpoint: create tasks with `convoke task create`")]
    NoInitialCheckpoint,
    /// Our configuration: the first start needs the file.
    #[error("the initial checkpoint {expected} is not here yet: pass its file with --initial")]
    InitialMissing {
        /// The hash that the task names.
        expected: BlobHash,
    },
    /// Our configuration: another file than the task's.
    #[error("{} has the hash {got}, the task names the initial checkpoint {expected}", file.display())]
    InitialMismatch {
        /// The file given.
        file: PathBuf,
        /// Its hash.
        got: BlobHash,
        /// The hash that the task names.
        expected: BlobHash,
    },
    /// Our bug: a computation panicked.
    #[error("a computation died: {0}")]
    Job(String),
}

impl AggregatorError {
    /// Names the file in an IO error.
    pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

//! What nodes and the aggregator say to each other. Every message is bounded by the codec;
//! weights travel as blobs.
//!
//! ```text
//! node                                aggregator
//!  Hello{task, role}         ───────▶
//!                            ◀───────  Welcome | Rejected
//!                            ◀───────  Train            (trainers, when a round opens)
//!  Progress                  ───────▶
//!  Update(signed header)     ───────▶
//!                            ◀───────  SendDelta | UpdateStored | UpdateRefused
//!  [delta as a blob]         ═══════▶
//!                            ◀───────  Sketch           (trainers, when the seed is drawn)
//!  Sketch(signed claim)      ───────▶
//!                            ◀───────  Score            (validators)
//!  CommitScores              ───────▶
//!                            ◀───────  Reveal
//!  RevealScores              ───────▶
//!                            ◀───────  Evaluate         (validators, in the end)
//!                            ◀───────  Notice           (everybody, all the time)
//! ```
//!
//! Validators commit and reveal on chain as well, by themselves; the order to reveal comes once
//! the chain lets them.

use serde::{Deserialize, Serialize};

use crate::factors::SignedReveal;
use crate::ids::{Address, Amount, BlobHash, Digest, Role, RoundId, TaskId};
use crate::refusal::Refusal;
use crate::scores::ScoreSheet;
use crate::sketch::{Norm, SignedSketch};
use crate::update::SignedUpdate;

/// The version of these messages; it is part of the connection's ALPN name.
pub const PROTOCOL_VERSION: u16 = 1;

/// Round reports that a newcomer is sent at most.
pub const HISTORY_MAX: usize = 64;

/// From a node to the aggregator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeMessage {
    /// The first message: what the node wants to be.
    Hello {
        /// The task it knows of.
        task: TaskId,
        /// The role it has staked for.
        role: Role,
    },
    /// A trainer's sign of life: it renews the round's deadline.
    Progress {
        /// The round.
        round: RoundId,
        /// Optimizer steps done.
        step: u32,
        /// Steps in all.
        steps: u32,
    },
    /// A trainer's update; the delta follows when it is asked for.
    Update(SignedUpdate),
    /// A trainer's sketch, once the seed is known.
    Sketch(SignedSketch),
    /// A validator's commitment to its scores.
    CommitScores {
        /// The round.
        round: RoundId,
        /// See [`crate::scores::commitment`].
        commitment: Digest,
    },
    /// The scores behind a commitment.
    RevealScores {
        /// The scores.
        sheet: ScoreSheet,
        /// The commitment's salt.
        salt: [u8; 32],
        /// The factors that the validator made of them for the chain.
        reveal: SignedReveal,
    },
    /// "My machine failed": the sender sits this round out, and nobody else is blamed.
    MachineFailed {
        /// The round.
        round: RoundId,
        /// Why, for the log; cut at 200 characters.
        reason: String,
    },
}

/// From the aggregator to a node.
// They are read and written one by one.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AggregatorMessage {
    /// The node takes part.
    Welcome {
        /// The round under way.
        round: RoundId,
        /// Reports of the latest rounds, oldest first, at most [`HISTORY_MAX`].
        history: Vec<RoundReport>,
    },
    /// The node does not, and why; the connection ends.
    Rejected {
        /// What to do about it.
        reason: String,
    },
    /// To one node: do something.
    Order(Order),
    /// To everybody: what happened.
    Notice(Notice),
    /// A message was refused without consequences for the round.
    Fault {
        /// What was wrong with it.
        reason: String,
    },
}

/// What the aggregator wants of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Train on this checkpoint and send an update.
    Train {
        /// The round.
        round: RoundId,
        /// The checkpoint's blob.
        base: BlobHash,
        /// The server's control variate that belongs to it, a blob of the same layout; nothing if
        /// the task has none, and zeros before the first step.
        control: Option<BlobHash>,
    },
    /// The header is accepted: send the delta now.
    SendDelta {
        /// The round.
        round: RoundId,
        /// The delta that was announced.
        delta: BlobHash,
    },
    /// The delta has arrived and is sound.
    UpdateStored {
        /// The round.
        round: RoundId,
    },
    /// The update is refused.
    UpdateRefused {
        /// The round.
        round: RoundId,
        /// Why.
        refusal: Refusal,
    },
    /// The seed is drawn: say what the sketch of the update is.
    Sketch {
        /// The round.
        round: RoundId,
        /// How often the chain has opened the round, from 1.
        attempt: u16,
        /// The delta that is meant.
        delta: BlobHash,
        /// The seed, as the chain has it.
        seed: Digest,
        /// The round's clipping norm.
        clip_norm: Norm,
    },
    /// Score these candidates against this checkpoint, and commit.
    Score {
        /// The round.
        round: RoundId,
        /// How often the chain has opened the round, from 1.
        attempt: u16,
        /// The checkpoint's blob.
        base: BlobHash,
        /// Updates that were committed to on chain in all: a factor is owed for each.
        updates: u16,
        /// The candidates, in the order that the sheet must have.
        candidates: Vec<Candidate>,
    },
    /// All have committed: reveal.
    Reveal {
        /// The round.
        round: RoundId,
    },
    /// All rounds are settled: say on chain how much of what vests is released.
    Evaluate {
        /// The closing round on chain, one above the task's last.
        round: RoundId,
        /// The checkpoint that the task started from.
        initial: BlobHash,
        /// The one that it led to.
        checkpoint: BlobHash,
    },
}

/// An update that passed the filter, with the weight it would have in the average.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Whose it is.
    pub trainer: Address,
    /// The delta's blob.
    pub delta: BlobHash,
    /// Its length in bytes.
    pub delta_bytes: u64,
    /// Its weight in the average: examples claimed, capped by the task and, in a buffered task,
    /// discounted: [`crate::task::AggregationSpec::weight`].
    pub num_examples: u64,
    /// The delta is scaled by this many millionths, so that no norm exceeds the median norm.
    pub clip_ppm: u32,
    /// max(0, ⟨sᵢ, Σ kept s⟩) over the sketches: its share of the step's energy.
    pub alignment: u64,
    /// Its place among the updates that were committed to on chain, from 0.
    pub index: u16,
}

/// The names of a round's phases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseName {
    /// Waiting for enough nodes, then drawing the cohort.
    Open,
    /// Trainers train and send.
    Train,
    /// The aggregator checks the updates against each other.
    Filter,
    /// Validators score what is left.
    Validate,
    /// The step is taken.
    Commit,
    /// The result goes to the contract.
    Settle,
    /// All rounds are settled.
    Finished,
    /// The task is given up; what is left in escrow is refunded.
    Failed,
}

impl std::fmt::Display for PhaseName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Open => "open",
            Self::Train => "train",
            Self::Filter => "filter",
            Self::Validate => "validate",
            Self::Commit => "commit",
            Self::Settle => "settle",
            Self::Finished => "finished",
            Self::Failed => "failed",
        })
    }
}

/// What everybody may know as it happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// A node came or went.
    Membership {
        /// Trainers connected now.
        trainers: u32,
        /// Validators connected now.
        validators: u32,
    },
    /// A phase began.
    PhaseBegan {
        /// The round.
        round: RoundId,
        /// How often the round has been tried, from 1.
        attempt: u32,
        /// The phase.
        phase: PhaseName,
        /// The round's cohort, once drawn.
        cohort: Vec<Address>,
    },
    /// A trainer is at work.
    TrainerProgressed {
        /// The round.
        round: RoundId,
        /// Who.
        trainer: Address,
        /// Steps done.
        step: u32,
        /// Steps in all.
        steps: u32,
    },
    /// A sound update is in.
    UpdateStored {
        /// The round.
        round: RoundId,
        /// Whose.
        trainer: Address,
        /// What it claims to have trained on.
        num_examples: u64,
        /// The training loss it claims, millionths of a nat.
        train_loss_micros: u64,
    },
    /// An update was refused.
    UpdateRefused {
        /// The round.
        round: RoundId,
        /// Whose.
        trainer: Address,
        /// Why.
        refusal: Refusal,
    },
    /// A validator committed to its scores.
    ScoresCommitted {
        /// The round.
        round: RoundId,
        /// Who.
        validator: Address,
    },
    /// A validator revealed its scores.
    ScoresRevealed {
        /// The round.
        round: RoundId,
        /// Who.
        validator: Address,
    },
    /// A validator's machine failed; it sits the round out.
    ValidatorFailed {
        /// The round.
        round: RoundId,
        /// Who.
        validator: Address,
    },
    /// The checkpoint of a round exists.
    RoundCommitted(Box<RoundReport>),
    /// The contract holds the round's result.
    RoundSettled {
        /// The round.
        round: RoundId,
        /// Sum of the trainers' payouts.
        total: Amount,
        /// The blob of [`crate::record::RoundRecord`].
        record: BlobHash,
    },
    /// A round is tried again.
    RoundRetried {
        /// The round.
        round: RoundId,
        /// Why.
        reason: String,
    },
    /// All rounds are settled and the task is closed: pay can be claimed.
    TaskFinished {
        /// The final checkpoint.
        checkpoint: BlobHash,
    },
    /// The task is given up.
    TaskFailed {
        /// Why.
        reason: String,
    },
}

/// One round, as it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundReport {
    /// The round.
    pub round: RoundId,
    /// The checkpoint that it started from.
    pub base: BlobHash,
    /// The checkpoint that it led to.
    pub checkpoint: BlobHash,
    /// The server optimizer's moments that belong to it, in the optimizer's order.
    pub states: Vec<BlobHash>,
    /// The server's control variate that belongs to it, if the task has one: [`crate::control`].
    pub control: Option<BlobHash>,
    /// How the checkpoint was encoded, if the task wants that.
    pub broadcast: Option<Box<Broadcast>>,
    /// [`crate::record::RoundRecord`], once the contract has the result.
    pub record: Option<BlobHash>,
    /// The validators' median loss of the base, millionths of a nat; 0 without validators.
    pub base_loss_micros: u64,
    /// The validators' median accuracy of the base, millionths.
    pub base_accuracy_ppm: u32,
    /// Updates that are in the average.
    pub kept: Vec<Kept>,
    /// Updates that are not, and why.
    pub refused: Vec<(Address, Refusal)>,
    /// Members of the cohort that sent nothing in time; in a buffered task those of them that
    /// were not at work either.
    pub absent: Vec<Address>,
    /// Validators that revealed.
    pub validators: Vec<Address>,
}

/// A checkpoint for nodes that have its base: the base and what the task's codec left of
/// exact − base. What it took is in the next round's difference again: the exact model goes on
/// from the exact one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broadcast {
    /// The encoded difference.
    pub patch: BlobHash,
    /// What the step led to.
    pub exact: BlobHash,
}

/// An update in the average.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Whose.
    pub trainer: Address,
    /// Its weight, as [`Candidate::num_examples`].
    pub num_examples: u64,
    /// Agreement with the other kept updates.
    pub alignment: u64,
    /// The validators' combined held-out gain, millionths of a nat.
    pub gain_micros: i64,
    /// The validators' combined cosine with their reference steps, millionths.
    pub cosine_ppm: i32,
    /// The factor it is paid by, in ten-thousandths: the median of those that the chain has, see
    /// [`crate::factors::FACTOR_ONE`].
    pub factor: u16,
}

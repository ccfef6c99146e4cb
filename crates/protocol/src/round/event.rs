//! What can happen to a round. Every accepted event is logged by the driver.

use serde::{Deserialize, Serialize};

use crate::factors::{ChainReveal, SignedReveal};
use crate::ids::{Address, Amount, BlobHash, Digest, Role};
use crate::message::Broadcast;
use crate::record::Share;
use crate::refusal::Refusal;
use crate::scores::ScoreSheet;
use crate::sketch::{Norm, SignedSketch, Sketched};
use crate::update::SignedUpdate;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// The driver came back after a stop: nobody is blamed for silence meanwhile.
    Restarted,
    /// A node is connected, its identity proven and its stake looked up.
    Joined {
        /// Who.
        address: Address,
        /// As what.
        role: Role,
        /// Its stake in this task.
        stake: Amount,
    },
    /// A node's connection is gone.
    Left {
        /// Who.
        address: Address,
    },
    /// Answer to [`super::Effect::DrawSeed`].
    SeedDrawn {
        /// A hash that nobody could choose.
        seed: Digest,
    },
    /// Answer to [`super::Effect::OpenRound`].
    RoundOpened {
        /// How often the chain has opened this round.
        attempt: u16,
        /// What the round may pay.
        pool: Amount,
    },
    /// The chain has failed the attempt, whose time had run out: the round is tried again.
    RoundLost {
        /// Why.
        reason: String,
    },
    /// The task has ended on chain before its last round.
    TaskLost {
        /// Why.
        reason: String,
    },
    /// A trainer has done some work, or a part of its delta has arrived.
    Progressed {
        /// Who.
        trainer: Address,
        /// Steps done.
        step: u32,
        /// Steps in all.
        steps: u32,
    },
    /// A trainer announces its update. The signature is checked here.
    UpdateAnnounced(SignedUpdate),
    /// A delta has arrived whole, and its tensors are sound.
    DeltaStored {
        /// Whose.
        trainer: Address,
        /// Which.
        delta: BlobHash,
    },
    /// A delta has arrived and is not sound.
    DeltaRefused {
        /// Whose.
        trainer: Address,
        /// Which.
        delta: BlobHash,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// Answer to [`super::Effect::Seal`]: the chain holds the updates' root and has drawn the seed.
    Sealed {
        /// The seed of the sketches.
        seed: Digest,
        /// Updates that trainers committed to on chain themselves, in the chain's order: trainer,
        /// and what it committed to.
        own_updates: Vec<(Address, Digest)>,
    },
    /// A trainer says what its sketch is. The signature is checked here.
    SketchClaimed(SignedSketch),
    /// Answer to [`super::Effect::Filter`]: one verdict for each update, in the same order.
    Filtered {
        /// The verdicts.
        verdicts: Vec<Verdict>,
    },
    /// A validator commits to its scores.
    ScoresCommitted {
        /// Who.
        validator: Address,
        /// To what.
        commitment: Digest,
    },
    /// A validator reveals its scores.
    ScoresRevealed {
        /// Who.
        validator: Address,
        /// The scores.
        sheet: ScoreSheet,
        /// The commitment's salt.
        salt: [u8; 32],
        /// Its factors for the chain. The signature is checked here, and the log keeps it.
        reveal: SignedReveal,
    },
    /// Answer to [`super::Effect::OpenReveal`].
    RevealOpened,
    /// Answer to [`super::Effect::ReadScores`].
    ScoresRead {
        /// Every validator that committed on chain, in the chain's order.
        scores: Vec<ChainReveal>,
    },
    /// A validator's own machine failed.
    ValidatorFailed {
        /// Who.
        validator: Address,
    },
    /// Answer to [`super::Effect::Aggregate`].
    Aggregated {
        /// The new checkpoint.
        checkpoint: BlobHash,
        /// The server optimizer's moments that belong to it, in the optimizer's order.
        states: Vec<BlobHash>,
        /// The server's control variate that belongs to it, if the task has one.
        control: Option<BlobHash>,
        /// How the checkpoint was encoded, if it was.
        broadcast: Option<Broadcast>,
        /// What the step has of each kept update, in their order; nothing if the rule takes values
        /// apart, so that there are no such shares.
        shares: Vec<Share>,
        /// See [`crate::record::Dossier::noise`].
        noise: Norm,
    },
    /// Answer to [`super::Effect::SubmitResult`].
    ResultRecorded {
        /// The blob of [`crate::record::RoundRecord`].
        record: BlobHash,
    },
    /// Answer to [`super::Effect::CloseTask`]: validators evaluate the outcome now.
    ClosingBegan,
    /// Answer to [`super::Effect::CloseTask`] and [`super::Effect::AwaitClosing`].
    TaskClosed,
}

/// What the filter says of one update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whose.
    pub trainer: Address,
    /// What its sketch is; nothing if its trainer's claim is another.
    pub sketched: Option<Sketched>,
    /// Millionths that the delta is scaled by.
    pub clip_ppm: u32,
    /// Agreement with the other kept updates; 0 for refused ones.
    pub alignment: u64,
    /// Why it is refused, or `None` if it is kept.
    pub refusal: Option<Refusal>,
}

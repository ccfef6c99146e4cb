//! What the machine wants done.

use crate::control::ControlStep;
use crate::ids::{Address, Amount, BlobHash, Digest, RoundId};
use crate::message::{Broadcast, Candidate, Notice, Order};
use crate::record::Dossier;
use crate::sketch::{Norm, SignedSketch};

/// One thing for the driver to do. Those that name an event in return are idempotent: after a
/// restart they may be demanded again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send to one node, if it is connected; else it asks again when it rejoins.
    Tell {
        /// The node.
        to: Address,
        /// What it should do.
        order: Order,
    },
    /// Send to every node.
    Announce(Notice),
    /// Take a seed that nobody could choose (a block's hash); answer [`super::Event::SeedDrawn`].
    DrawSeed,
    /// Open the round on chain, and first end what is left of an earlier attempt; answer
    /// [`super::Event::RoundOpened`].
    OpenRound {
        /// The round.
        round: RoundId,
        /// Attempts up to this one are spent; 0 if there was none.
        after: u16,
        /// The checkpoint that the trainers start from.
        base: BlobHash,
        /// The trainers, in the order drawn.
        cohort: Vec<Address>,
    },
    /// Commit to the updates on chain, and let it draw a seed; answer [`super::Event::Sealed`], or
    /// [`super::Event::RoundLost`].
    Seal {
        /// The round.
        round: RoundId,
        /// The attempt on chain.
        attempt: u16,
        /// Every update that arrived or was refused, in the order of their announcement: its
        /// trainer, and the struct hash of its header.
        committed: Vec<(Address, Digest)>,
    },
    /// Compare the deltas with each other; answer [`super::Event::Filtered`].
    Filter {
        /// The round.
        round: RoundId,
        /// The attempt on chain.
        attempt: u16,
        /// The seed of the sketches.
        seed: Digest,
        /// The round's clipping norm.
        clip_norm: Norm,
        /// Stored updates in the order of their commitment.
        updates: Vec<Comparand>,
    },
    /// Wait until validators may reveal on chain; answer [`super::Event::RevealOpened`], or
    /// [`super::Event::RoundLost`].
    OpenReveal {
        /// The round.
        round: RoundId,
        /// The attempt on chain.
        attempt: u16,
    },
    /// Wait until the chain takes no more reveals, and read them; answer
    /// [`super::Event::ScoresRead`], or [`super::Event::RoundLost`].
    ReadScores {
        /// The round.
        round: RoundId,
        /// The attempt on chain.
        attempt: u16,
    },
    /// Take the step from `base`; answer [`super::Event::Aggregated`].
    Aggregate {
        /// The round.
        round: RoundId,
        /// The checkpoint to step from.
        base: BlobHash,
        /// What goes into the average; nothing leaves the checkpoint as it is.
        kept: Vec<Candidate>,
        /// How the server's control variate moves, if the task has one.
        control: Option<ControlStep>,
    },
    /// Put the result on chain, once; answer [`super::Event::ResultRecorded`], or
    /// [`super::Event::RoundLost`].
    SubmitResult {
        /// The round.
        round: RoundId,
        /// The attempt on chain.
        attempt: u16,
        /// The checkpoint that the round started from.
        base: BlobHash,
        /// The new one.
        checkpoint: BlobHash,
        /// The server optimizer's moments that belong to it.
        states: Vec<BlobHash>,
        /// How the checkpoint was encoded, if it was.
        broadcast: Option<Broadcast>,
        /// All that is known of the updates: what the proof is made of.
        dossier: Box<Dossier>,
        /// The trainers' payouts: leaves of the payout tree, in order.
        payouts: Vec<(Address, Amount)>,
        /// The combined factor of each update.
        factors: Vec<u16>,
        /// What they are the medians of, in the chain's order of validators.
        reveals: Vec<Vec<u16>>,
    },
    /// End the task on chain and have the rest refunded; answer [`super::Event::TaskClosed`], or
    /// [`super::Event::ClosingBegan`] if validators are to evaluate the outcome first.
    CloseTask,
    /// Wait for the end of the closing evaluation, and have the rest refunded; answer
    /// [`super::Event::TaskClosed`].
    AwaitClosing,
}

/// An update to be compared with the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparand {
    /// The update; alignment and clip are not set yet.
    pub candidate: Candidate,
    /// Its norm, as it was signed and checked.
    pub norm: Norm,
    /// What its trainer claims its sketch to be, if it did so in time.
    pub claim: Option<SignedSketch>,
}

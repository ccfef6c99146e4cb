//! What the machine wants done.

use crate::ids::{Address, BlobHash, RoundId};
use crate::message::{Candidate, Notice, Order};
use crate::payout::Payout;

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
    /// Compare these deltas with each other; answer [`super::Event::Filtered`].
    Filter {
        /// Stored updates in the order of their commitments; alignment and clip are not set yet.
        updates: Vec<Candidate>,
    },
    /// Take the step from `base`; answer [`super::Event::Aggregated`].
    Aggregate {
        /// The round.
        round: RoundId,
        /// The checkpoint to step from.
        base: BlobHash,
        /// What goes into the average; nothing leaves the checkpoint as it is.
        kept: Vec<Candidate>,
    },
    /// Put the result on chain, once; answer [`super::Event::ResultRecorded`].
    SubmitResult {
        /// The round.
        round: RoundId,
        /// The new checkpoint.
        checkpoint: BlobHash,
        /// Leaves of the payout tree, in order.
        payouts: Vec<Payout>,
    },
    /// End the task on chain and have the rest refunded; answer [`super::Event::TaskClosed`].
    CloseTask,
}

//! What a trainer tells whoever shows it.

use std::sync::Arc;

use convoke_models::DeviceInfo;
use convoke_protocol::ids::{Address, Amount, BlobHash, RoundId};
use convoke_protocol::refusal::Refusal;

/// How a trainer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The task is over, and pay is claimed if that was wanted.
    Finished,
    /// The task was given up, and why.
    Failed(String),
    /// Asked to stop.
    Stopped,
}

/// What happens, for whoever shows it.
#[derive(Debug, Clone, PartialEq)]
pub enum TrainerEvent {
    /// The device is open.
    Computing {
        /// What it is.
        device: DeviceInfo,
    },
    /// A file of the task's base weights is on its way.
    Fetching {
        /// Its name.
        file: String,
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all; of a file whose length is not known, the most that is accepted.
        of: u64,
    },
    /// The aggregator has proven its address and welcomed us.
    Connected {
        /// The aggregator.
        aggregator: Address,
    },
    /// The connection broke; it is dialled again.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// Our work is wanted.
    RoundOpened {
        /// The round.
        round: RoundId,
        /// Where it starts.
        base: BlobHash,
    },
    /// One optimizer step is done.
    Training {
        /// The round.
        round: RoundId,
        /// Steps done.
        step: u32,
        /// Steps in all.
        steps: u32,
        /// Loss of this step's batch.
        loss: f32,
    },
    /// The signed update is on its way.
    Sent {
        /// The round.
        round: RoundId,
    },
    /// The aggregator has the delta, and it is sound.
    Stored {
        /// The round.
        round: RoundId,
    },
    /// The update is refused.
    Refused {
        /// The round.
        round: RoundId,
        /// Why.
        refusal: Refusal,
    },
    /// The contract holds the round's result.
    Settled {
        /// The round.
        round: RoundId,
    },
    /// Pay was claimed.
    Claimed {
        /// What was paid at once.
        amount: Amount,
    },
    /// The task is over.
    Finished,
}

/// Hears of events.
pub type Listener = Arc<dyn Fn(TrainerEvent) + Send + Sync>;

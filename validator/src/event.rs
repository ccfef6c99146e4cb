//! What a validator tells whoever shows it.

use std::sync::Arc;

use convoke_models::DeviceInfo;
use convoke_protocol::ids::{Address, Amount, RoundId};

use crate::scoring::Effort;

/// What happens, for whoever shows it.
#[derive(Debug, Clone, PartialEq)]
pub enum ValidatorEvent {
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
    /// Scoring goes on.
    Scoring {
        /// The round.
        round: RoundId,
        /// Measurements done.
        done: usize,
        /// Measurements in all.
        of: usize,
    },
    /// The round's updates are valued by coalitions of them, and what it took.
    Valued(RoundId, Effort),
    /// The scores are committed to.
    Committed {
        /// The round.
        round: RoundId,
    },
    /// The scores are revealed.
    Revealed {
        /// The round.
        round: RoundId,
    },
    /// Our machine failed; we sit the round out.
    MachineFailed {
        /// The round.
        round: RoundId,
        /// Why.
        reason: String,
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
pub type Listener = Arc<dyn Fn(ValidatorEvent) + Send + Sync>;

//! What the service's one task takes from all others.

use convoke_protocol::ids::Address;
use convoke_protocol::round::Event;

use super::access::Delivery;
use super::peers::PeerEvent;
use crate::error::AggregatorError;

/// Anything that happens to the service.
pub(super) enum Input {
    Peer(PeerEvent),
    /// A background job answers the machine.
    Answer(Event),
    /// A background job failed in a way that trying again cannot mend.
    Broken(AggregatorError),
    /// A delta has arrived whole.
    Delivered(Delivery),
    /// Part of a delta has arrived.
    Arriving {
        trainer: Address,
    },
}

//! What must hold for whatever bytes a peer sends.

use convoke_protocol::codec::{decode, encode};
use convoke_protocol::message::{AggregatorMessage, NodeMessage};
use convoke_protocol::round::Event;

/// Decodes the bytes as everything that is read from a wire or from the log. Bytes that are a
/// message are its only encoding.
///
/// # Panics
/// If that does not hold.
pub(crate) fn decode_message(data: &[u8]) {
    if let Ok(message) = decode::<NodeMessage>(data) {
        assert_eq!(encode(&message).as_deref(), Ok(data));
    }
    if let Ok(message) = decode::<AggregatorMessage>(data) {
        assert_eq!(encode(&message).as_deref(), Ok(data));
        // Texts for people are made of what peers sent.
        let _ = format!("{message:?}");
    }
    if let Ok(event) = decode::<Event>(data) {
        assert_eq!(encode(&event).as_deref(), Ok(data));
    }
}

//! The wire format, in one place: bincode 2 behind limits.
//!
//! bincode is complete but no longer maintained. Nothing outside this file names it, and the
//! encodings of all messages are frozen in `fixtures/`, so it can be replaced here.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest encoded message, in bytes. Weights travel as blobs, never as messages.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("message has {got} bytes, at most {MESSAGE_BYTES_MAX} are allowed")]
    TooLong {
        /// Length offered.
        got: usize,
    },
    /// Cut short, of an unknown kind, or with a length that its bytes cannot hold.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// Bytes follow the end of the message.
    #[error("{0} bytes follow the end of the message")]
    Trailing(usize),
}

/// Fixed-width little-endian integers: simple to freeze, simple to write in another language.
const CONFIG: Configuration<LittleEndian, Fixint, Limit<MESSAGE_BYTES_MAX>> =
    bincode::config::standard()
        .with_fixed_int_encoding()
        .with_limit::<MESSAGE_BYTES_MAX>();

/// Encodes a message.
///
/// # Errors
/// [`CodecError::TooLong`] if it would not be accepted by the other side.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(message, CONFIG)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLong { got: bytes.len() });
    }
    Ok(bytes)
}

/// Decodes a message. Memory use is bounded by [`MESSAGE_BYTES_MAX`], whatever the bytes claim.
///
/// # Errors
/// Any [`CodecError`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(CodecError::TooLong { got: bytes.len() });
    }
    let (message, read) = bincode::serde::decode_from_slice(bytes, CONFIG)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    if read < bytes.len() {
        return Err(CodecError::Trailing(bytes.len() - read));
    }
    Ok(message)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn trailing_bytes_and_short_messages_are_refused() {
        let mut bytes = encode(&(1u32, "text".to_owned())).unwrap();
        assert_eq!(decode::<(u32, String)>(&bytes).unwrap().0, 1);
        bytes.push(0);
        assert_eq!(
            decode::<(u32, String)>(&bytes),
            Err(CodecError::Trailing(1))
        );
        assert!(matches!(
            decode::<(u32, String)>(&bytes[..bytes.len() - 2]),
            Err(CodecError::Malformed(_))
        ));
    }

    #[test]
    fn a_length_that_the_bytes_cannot_hold_is_refused_without_allocating_it() {
        let bytes = u64::MAX.to_le_bytes();
        assert!(matches!(
            decode::<Vec<u8>>(&bytes),
            Err(CodecError::Malformed(_))
        ));
        let bytes = (MESSAGE_BYTES_MAX as u64 - 9).to_le_bytes();
        assert!(matches!(
            decode::<Vec<[u64; 4]>>(&bytes),
            Err(CodecError::Malformed(_))
        ));
    }

    #[test]
    fn too_long_is_refused_on_both_sides() {
        let long = vec![0u8; MESSAGE_BYTES_MAX + 1];
        assert!(encode(&long).is_err());
        assert_eq!(
            decode::<Vec<u8>>(&long),
            Err(CodecError::TooLong {
                got: MESSAGE_BYTES_MAX + 1
            })
        );
    }
}

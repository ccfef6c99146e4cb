//! The first bytes of an encoding. A receiver knows what they must be, so they are compared, not
//! parsed: there is nothing in them that could be hostile.
//!
//! ```text
//! 0   "CVKZ"
//! 4   version, u16
//! 6   codec, u16: 1 bf16, 2 int8, 3 top_k, 4 dct_sign
//! 8   values, u64
//! 16  values in a block, u32
//! 20  values kept of a full block, u32
//! ```
//!
//! All numbers are little-endian.

/// Length of the header in bytes.
pub const HEADER_BYTES: usize = 24;

/// Version of the form that this program writes and reads.
pub const VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"CVKZ";

/// The header of an encoding of so many values.
pub(crate) fn header(codec: u16, values: u64, block: u32, kept: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
    bytes[6..8].copy_from_slice(&codec.to_le_bytes());
    bytes[8..16].copy_from_slice(&values.to_le_bytes());
    bytes[16..20].copy_from_slice(&block.to_le_bytes());
    bytes[20..].copy_from_slice(&kept.to_le_bytes());
    bytes
}

/// The number of values that a header speaks of, whatever else it says.
pub(crate) fn values_of(header: &[u8; HEADER_BYTES]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&header[8..16]);
    u64::from_le_bytes(bytes)
}

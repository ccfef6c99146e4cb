//! Blobs: files named by the BLAKE3 hash of their content, sent on streams of their own.
//!
//! ```text
//! fetch:  FETCH hash offset  ───▶            push:  PUSH hash length  ───▶
//!                   ◀───  OK length                         ◀───  OK offset
//!                   ◀═══  bytes from offset         bytes from offset ═══▶
//!                                                           ◀───  OK receipt
//! ```
//! In the place of OK stands REFUSED with a reason. The receiver hashes while bytes arrive and
//! discards what does not have the name that it was sent under. What broke off stays as a
//! partial file, and goes on from its length.

mod chunks;
mod fetch;
mod header;
mod partial;
mod push;
mod receive;
mod send;
mod serve;
mod store;

use std::time::Duration;

use convoke_protocol::ids::BlobHash;

pub use self::header::Receipt;
pub use self::partial::BlobSink;
pub use self::serve::BlobPolicy;
pub use self::store::{BlobStore, Hashing};
use crate::error::TransportError;

/// How far a blob has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobProgress {
    /// Bytes that are there, those of earlier attempts included.
    pub done: u64,
    /// Bytes in all.
    pub length: u64,
}

/// Bytes handled at a time between socket, hash and file.
const CHUNK_BYTES: usize = 256 << 10;

/// Gives up what the peer holds up for too long.
async fn in_time<T>(
    blob: BlobHash,
    stall: Duration,
    work: impl Future<Output = Result<T, TransportError>>,
) -> Result<T, TransportError> {
    tokio::time::timeout(stall, work)
        .await
        .unwrap_or(Err(TransportError::BlobStalled(blob)))
}

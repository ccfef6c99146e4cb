//! Every limit of a connection, in one place.

use std::time::Duration;

/// Bounds on time, memory and numbers. The defaults suit loopback and the open internet.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The proof of identity must be done within this time; default 10 s.
    pub handshake_timeout: Duration,
    /// A connection without any packet for so long is dead; default 20 s.
    pub idle_timeout: Duration,
    /// An empty packet is sent after so long without another; default 5 s.
    pub keep_alive: Duration,
    /// A blob whose next bytes do not come for so long is given up; default 20 s. There is no
    /// limit on the whole time: slow links may take as long as they go on.
    pub blob_stall_timeout: Duration,
    /// Blobs in flight on one connection in each direction, at most; default 8.
    pub blobs_in_flight_max: u32,
    /// Bytes received and not read yet on one stream, at most; default 8 MiB.
    pub stream_window_bytes: u32,
    /// Bytes received and not read yet on one connection, at most; default 16 MiB. This bounds
    /// the memory that a peer can take.
    pub connection_window_bytes: u32,
    /// Connections accepted at one time; default 4,096.
    pub connections_max: usize,
    /// Longest pause between two attempts to connect; default 10 s.
    pub retry_pause_max: Duration,
    /// Attempts to connect before giving up; default without end.
    pub retries_max: Option<usize>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(20),
            keep_alive: Duration::from_secs(5),
            blob_stall_timeout: Duration::from_secs(20),
            blobs_in_flight_max: 8,
            stream_window_bytes: 8 << 20,
            connection_window_bytes: 16 << 20,
            connections_max: 4_096,
            retry_pause_max: Duration::from_secs(10),
            retries_max: None,
        }
    }
}

//! Errors, by whose fault they are.

use std::io;
use std::path::PathBuf;

use convoke_protocol::codec::CodecError;
use convoke_protocol::ids::{Address, BlobHash};

/// Why a connection, a message or a blob failed.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Local: the endpoint could not be set up.
    #[error("cannot open a QUIC endpoint: {0}")]
    Setup(String),
    /// Local: the name does not resolve.
    #[error("cannot resolve {address:?}: {reason}")]
    Resolve {
        /// HOST:PORT as given.
        address: String,
        /// What the resolver says.
        reason: String,
    },
    /// The network: unreachable, timed out, broken.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The connection is closed, here or there.
    #[error("the connection is closed")]
    Closed,
    /// The peer closed the connection and said why.
    #[error("closed by the peer: {0}")]
    ClosedByPeer(String),
    /// The peer is incompatible: it speaks another protocol or version.
    #[error("the peer does not speak {ours}: {reason}")]
    Incompatible {
        /// Our ALPN name.
        ours: &'static str,
        /// What was said.
        reason: String,
    },
    /// The peer did not prove an address in time.
    #[error("the peer did not prove its address in time")]
    IdentityTimeout,
    /// The peer's proof of its address does not hold.
    #[error("the peer's proof of its address does not hold: {0}")]
    Identity(String),
    /// The peer proved another address than it should have.
    #[error("the peer is {got}, expected {expected}")]
    WrongPeer {
        /// The address that it proved.
        got: Address,
        /// The address that was wanted.
        expected: Address,
    },
    /// The peer refused our proof of our address.
    #[error("the peer refused our identity: {0}")]
    IdentityRefused(String),
    /// The peer's message breaks the codec or its limits.
    #[error("malformed message: {0}")]
    Message(#[from] CodecError),
    /// The peer's message was cut short.
    #[error("the stream ended within a message")]
    Truncated,
    /// The messages of this connection are in use already: our bug.
    #[error("the message stream is taken already")]
    MessagesTaken,
    /// The peer refused a blob.
    #[error("blob {blob} refused: {reason}")]
    BlobRefused {
        /// Which blob.
        blob: BlobHash,
        /// Why.
        reason: String,
    },
    /// The peer sent other content than it named; what had come is discarded.
    #[error("blob {expected} has the content of {got}")]
    BlobContent {
        /// The name asked for.
        expected: BlobHash,
        /// The hash of what came.
        got: BlobHash,
    },
    /// The peer broke the blob protocol.
    #[error("blob {blob}: {reason}")]
    BlobProtocol {
        /// Which blob.
        blob: BlobHash,
        /// What it did.
        reason: String,
    },
    /// No bytes came for too long.
    #[error("blob {0} stalled")]
    BlobStalled(BlobHash),
    /// Local: a blob that should be here is not.
    #[error("blob {0} is not in the store")]
    BlobMissing(BlobHash),
    /// Local: the disk refused.
    #[error("{path}: {source}")]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl TransportError {
    /// Whether the same thing may succeed over a new connection.
    #[must_use]
    pub fn retryable(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Lost(_)
            | Self::Closed
            | Self::ClosedByPeer(_)
            | Self::IdentityTimeout
            | Self::Truncated
            | Self::BlobStalled(_)
            | Self::BlobContent { .. }
            | Self::BlobRefused { .. } => true,
            Self::Setup(_)
            | Self::Incompatible { .. }
            | Self::Identity(_)
            | Self::WrongPeer { .. }
            | Self::IdentityRefused(_)
            | Self::Message(_)
            | Self::MessagesTaken
            | Self::BlobProtocol { .. }
            | Self::BlobMissing(_)
            | Self::Disk { .. } => false,
        }
    }

    pub(crate) fn disk(path: &std::path::Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Disk {
            path: path.to_path_buf(),
            source,
        }
    }
}

/// Application close codes of QUIC connections.
pub(crate) mod close {
    use quinn::VarInt;

    /// An orderly end.
    pub(crate) const DONE: VarInt = VarInt::from_u32(0);
    /// The proof of identity was refused.
    pub(crate) const IDENTITY: VarInt = VarInt::from_u32(1);
    /// No proof came in time.
    pub(crate) const IDENTITY_TIMEOUT: VarInt = VarInt::from_u32(2);
    /// A stream of an unknown kind.
    pub(crate) const PROTOCOL: VarInt = VarInt::from_u32(3);
    /// Another version of the protocol is needed.
    pub(crate) const VERSION: VarInt = VarInt::from_u32(4);
}

/// TLS alert `no_application_protocol`, as QUIC carries it.
const ALERT_NO_ALPN: u8 = 0x78;

impl From<quinn::ConnectionError> for TransportError {
    fn from(error: quinn::ConnectionError) -> Self {
        use quinn::ConnectionError as E;
        let text = printable(error.to_string().as_bytes());
        match error {
            E::ApplicationClosed(frame) => {
                let reason = printable(&frame.reason);
                match frame.error_code {
                    close::IDENTITY => Self::IdentityRefused(reason),
                    close::IDENTITY_TIMEOUT => Self::IdentityTimeout,
                    close::VERSION => incompatible(reason),
                    _ => Self::ClosedByPeer(reason),
                }
            }
            E::LocallyClosed => Self::Closed,
            E::VersionMismatch => incompatible("no QUIC version in common".into()),
            E::ConnectionClosed(frame)
                if frame.error_code == quinn::TransportErrorCode::crypto(ALERT_NO_ALPN) =>
            {
                incompatible("it knows no protocol that we speak".into())
            }
            E::TransportError(error)
                if error.code == quinn::TransportErrorCode::crypto(ALERT_NO_ALPN) =>
            {
                incompatible("it speaks no protocol that we know".into())
            }
            E::TransportError(_)
            | E::ConnectionClosed(_)
            | E::Reset
            | E::TimedOut
            | E::CidsExhausted => Self::Lost(text),
        }
    }
}

/// A peer's words, fit for a terminal: no control characters, which could rewrite the screen.
pub(crate) fn printable(words: &[u8]) -> String {
    let words = String::from_utf8_lossy(words);
    words.replace(char::is_control, "\u{fffd}")
}

fn incompatible(reason: String) -> TransportError {
    TransportError::Incompatible {
        ours: "convoke/1",
        reason,
    }
}

impl From<quinn::WriteError> for TransportError {
    fn from(error: quinn::WriteError) -> Self {
        match error {
            quinn::WriteError::ConnectionLost(lost) => lost.into(),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<quinn::ReadError> for TransportError {
    fn from(error: quinn::ReadError) -> Self {
        match error {
            quinn::ReadError::ConnectionLost(lost) => lost.into(),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<quinn::ReadExactError> for TransportError {
    fn from(error: quinn::ReadExactError) -> Self {
        match error {
            quinn::ReadExactError::FinishedEarly(_) => Self::Truncated,
            quinn::ReadExactError::ReadError(error) => error.into(),
        }
    }
}

//! QUIC between Convoke nodes. A node is its Ethereum address: both ends of a connection sign
//! the TLS session's exported key material, so there is no certificate authority and nobody in
//! the middle. On a connection run one stream of bounded [messages](framing) and any number of
//! [blobs](blob), named by their BLAKE3 hash, verified, and resumed where they broke off.

pub mod blob;
mod connection;
mod endpoint;
mod error;
pub mod framing;
mod handshake;
mod limits;
mod socket;
mod tls;

pub use self::blob::{BlobPolicy, BlobSink, BlobStore, Receipt};
pub use self::connection::Connection;
pub use self::endpoint::{Endpoint, Incoming};
pub use self::error::TransportError;
pub use self::framing::{Receiver, Sender};
pub use self::handshake::ALPN;
pub use self::limits::Limits;

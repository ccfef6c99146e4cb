//! Messages on the first stream: a length of four bytes, little-endian, then that many bytes.

use std::time::Duration;

use convoke_protocol::codec::{self, CodecError, MESSAGE_BYTES_MAX};
use quinn::{RecvStream, SendStream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::TransportError;

/// Sends messages. QUIC's flow control holds the sender back if the peer does not read.
#[derive(Debug)]
pub struct Sender(pub(crate) SendStream);

impl Sender {
    /// Sends one message. Dropping the future midway breaks the stream.
    ///
    /// # Errors
    /// [`TransportError::Message`] if it is too long; errors of the connection.
    pub async fn send<T: Serialize>(&mut self, message: &T) -> Result<(), TransportError> {
        let body = codec::encode(message)?;
        let mut frame = Vec::with_capacity(4 + body.len());
        // MESSAGE_BYTES_MAX fits: see the assertion below.
        frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
        frame.extend_from_slice(&body);
        Ok(self.0.write_all(&frame).await?)
    }

    /// Ends the stream and waits until the peer has everything, is gone, or has had
    /// [`FINISH_TIMEOUT`] for it.
    pub async fn finish(mut self) {
        if self.0.finish().is_ok() {
            let _ = tokio::time::timeout(FINISH_TIMEOUT, self.0.stopped()).await;
        }
    }
}

/// Receives messages.
#[derive(Debug)]
pub struct Receiver {
    stream: RecvStream,
    /// What has come of the present frame; kept here so that `recv` can be cancelled.
    partial: Vec<u8>,
}

impl Receiver {
    pub(crate) fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            partial: Vec::new(),
        }
    }

    /// The next message; `None` if the peer ended the stream between two. Cancel-safe.
    ///
    /// # Errors
    /// [`TransportError::Message`] for a length above [`MESSAGE_BYTES_MAX`] (refused before
    /// memory is taken) and for bytes that are no such message; [`TransportError::Truncated`];
    /// errors of the connection.
    pub async fn recv<T: DeserializeOwned>(&mut self) -> Result<Option<T>, TransportError> {
        if !self.fill(4).await? {
            return Ok(None);
        }
        let length = u32::from_le_bytes([
            self.partial[0],
            self.partial[1],
            self.partial[2],
            self.partial[3],
        ]) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(CodecError::TooLong { got: length }.into());
        }
        if !self.fill(4 + length).await? {
            return Err(TransportError::Truncated);
        }
        let message = codec::decode(&self.partial[4..]);
        self.partial.clear();
        Ok(Some(message?))
    }

    /// Reads until `want` bytes of the frame are there; false if the stream ended at its start.
    async fn fill(&mut self, want: usize) -> Result<bool, TransportError> {
        while self.partial.len() < want {
            let missing = want - self.partial.len();
            match self.stream.read_chunk(missing, true).await? {
                Some(chunk) => self.partial.extend_from_slice(&chunk.bytes),
                None if self.partial.is_empty() => return Ok(false),
                None => return Err(TransportError::Truncated),
            }
        }
        Ok(true)
    }
}

/// How long [`Sender::finish`] waits for a peer that takes nothing.
pub const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

const _: () = assert!(MESSAGE_BYTES_MAX <= u32::MAX as usize - 4);

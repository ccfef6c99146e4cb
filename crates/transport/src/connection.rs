//! A connection whose two ends have proven their addresses.

use std::sync::{Arc, Mutex, PoisonError};

use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::Address;
use quinn::{RecvStream, SendStream};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::{TransportError, close};
use crate::framing::{Receiver, Sender};
use crate::limits::Limits;

/// A connection; clones share it. It stays open while a clone lives.
#[derive(Debug, Clone)]
pub struct Connection {
    pub(crate) quic: quinn::Connection,
    pub(crate) wallet: Arc<Wallet>,
    pub(crate) limits: Arc<Limits>,
    peer: Address,
    messages: Arc<Mutex<Option<(SendStream, RecvStream)>>>,
    /// Turns for blob requests of ours, as many as the peer has streams for.
    blob_turns: Arc<Semaphore>,
}

impl Connection {
    pub(crate) fn new(
        quic: quinn::Connection,
        wallet: Arc<Wallet>,
        limits: Arc<Limits>,
        (peer, send, receive): (Address, SendStream, RecvStream),
    ) -> Self {
        let messages = Arc::new(Mutex::new(Some((send, receive))));
        let turns = limits.blobs_in_flight_max.max(1);
        let blob_turns = Arc::new(Semaphore::new(turns as usize));
        Self {
            quic,
            wallet,
            limits,
            peer,
            messages,
            blob_turns,
        }
    }

    /// Waits for a turn to request a blob. Having it, a stream opens at once if the peer is
    /// honest, so that the wait for it can be limited.
    pub(crate) async fn blob_turn(&self) -> Result<SemaphorePermit<'_>, TransportError> {
        self.blob_turns
            .acquire()
            .await
            .map_err(|_| TransportError::Closed)
    }

    /// The address that the other end has proven.
    #[must_use]
    pub fn peer(&self) -> Address {
        self.peer
    }

    /// The two halves of the message stream; there is one, so they can be taken once.
    ///
    /// # Errors
    /// [`TransportError::MessagesTaken`] the second time.
    pub fn messages(&self) -> Result<(Sender, Receiver), TransportError> {
        let taken = self
            .messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let (send, receive) = taken.ok_or(TransportError::MessagesTaken)?;
        Ok((Sender(send), Receiver::new(receive)))
    }

    /// Closes the connection; the peer is told why. What is in flight is lost.
    pub fn close(&self, reason: &str) {
        self.quic.close(close::DONE, reason.as_bytes());
    }

    /// Waits until the connection is closed by either end, and says why.
    pub async fn closed(&self) -> TransportError {
        self.quic.closed().await.into()
    }

    /// The smoothed round-trip time.
    #[must_use]
    pub fn round_trip_time(&self) -> std::time::Duration {
        self.quic.rtt()
    }
}

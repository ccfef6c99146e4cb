//! The link to the aggregator: one task that dials, says hello, and dials again with jittered
//! back-off when the connection breaks. What the node has to redo after a break, the
//! aggregator asks for again, so nothing is queued across breaks.

use std::sync::Arc;

use convoke_protocol::ids::{Address, Role, RoundId, TaskId};
use convoke_protocol::message::{AggregatorMessage, NodeMessage, RoundReport};
use convoke_transport::{Connection, Endpoint, Receiver, Sender};
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::error::NodeError;

/// Messages that wait for the node at most; more of them hold the sender back.
const INBOX_MAX: usize = 64;

/// Whom to dial, and as what.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// HOST:PORT of the aggregator; the name is resolved at every attempt.
    pub aggregator: String,
    /// The address that the aggregator must prove, as the task on chain names it.
    pub expected: Address,
    /// The task.
    pub task: TaskId,
    /// The role to say hello with.
    pub role: Role,
}

/// What comes over the link.
// They are handled one by one.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub enum LinkEvent {
    /// Connected, and welcome.
    Connected {
        /// The round under way.
        round: RoundId,
        /// Reports of the latest rounds, oldest first.
        history: Vec<RoundReport>,
    },
    /// A message other than the welcome.
    Message(AggregatorMessage),
    /// The connection broke; the link is dialling again.
    Disconnected {
        /// Why.
        reason: String,
    },
}

/// A connection that heals. Dropping it ends it.
#[derive(Debug)]
pub struct Link {
    events: mpsc::Receiver<Result<LinkEvent, NodeError>>,
    handle: LinkHandle,
    endpoint: Endpoint,
    _stop: DropGuard,
}

/// Sends over a link, from any task.
#[derive(Debug, Clone, Default)]
pub struct LinkHandle {
    line: Arc<Mutex<Option<Line>>>,
}

#[derive(Debug)]
struct Line {
    connection: Connection,
    sender: Sender,
}

impl Link {
    /// Begins to dial.
    #[must_use]
    pub fn open(endpoint: Endpoint, config: LinkConfig) -> Self {
        let (events_tx, events) = mpsc::channel(INBOX_MAX);
        let handle = LinkHandle::default();
        let stop = CancellationToken::new();
        let driver = Driver {
            endpoint: endpoint.clone(),
            config,
            handle: handle.clone(),
            events: events_tx,
        };
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = driver.run() => {}
            }
        });
        Self {
            events,
            handle,
            endpoint,
            _stop: stop.drop_guard(),
        }
    }

    /// The next event. Cancel-safe.
    ///
    /// # Errors
    /// What cannot be mended by dialling again: a wrong identity or version, or a refusal.
    pub async fn next(&mut self) -> Result<LinkEvent, NodeError> {
        let ended = || NodeError::Rejected("the link has ended".into());
        self.events.recv().await.unwrap_or_else(|| Err(ended()))
    }

    /// Says goodbye, so that the aggregator need not wait for a time-out to notice.
    pub async fn close(self) {
        self.endpoint.close("bye").await;
    }

    /// For sending from other tasks.
    #[must_use]
    pub fn handle(&self) -> LinkHandle {
        self.handle.clone()
    }
}

impl LinkHandle {
    /// Sends a message if connected. A message lost in a break is asked for again by the
    /// aggregator, so an error needs no more than a line in the log.
    pub async fn send(&self, message: &NodeMessage) {
        let mut line = self.line.lock().await;
        if let Some(line) = line.as_mut()
            && let Err(error) = line.sender.send(message).await
        {
            tracing::debug!(%error, "message not sent");
        }
    }

    /// The present connection, for blobs.
    pub async fn connection(&self) -> Option<Connection> {
        self.line
            .lock()
            .await
            .as_ref()
            .map(|line| line.connection.clone())
    }
}

struct Driver {
    endpoint: Endpoint,
    config: LinkConfig,
    handle: LinkHandle,
    events: mpsc::Sender<Result<LinkEvent, NodeError>>,
}

impl Driver {
    async fn run(self) {
        loop {
            let ended = match self.session().await {
                Ok(reason) => Ok(LinkEvent::Disconnected { reason }),
                Err(NodeError::Transport(error)) if error.retryable() => {
                    Ok(LinkEvent::Disconnected {
                        reason: error.to_string(),
                    })
                }
                Err(error) => Err(error),
            };
            *self.handle.line.lock().await = None;
            let last = ended.is_err();
            if self.events.send(ended).await.is_err() || last {
                return;
            }
        }
    }

    /// One connection, from the dial to its end; gives the reason of the end.
    async fn session(&self) -> Result<String, NodeError> {
        let config = &self.config;
        let connection = self
            .endpoint
            .connect_with_retry(&config.aggregator, Some(config.expected))
            .await?;
        let (mut sender, mut receiver) = connection.messages()?;
        sender
            .send(&NodeMessage::Hello {
                task: config.task,
                role: config.role,
            })
            .await?;
        let Some((round, history)) = welcome(&mut receiver).await? else {
            return Ok("the aggregator closed the connection".into());
        };
        *self.handle.line.lock().await = Some(Line { connection, sender });
        if self
            .pass(LinkEvent::Connected { round, history })
            .await
            .is_none()
        {
            return Ok("stopped".into());
        }
        loop {
            match receiver.recv().await {
                Ok(Some(message)) => {
                    if self.pass(LinkEvent::Message(message)).await.is_none() {
                        return Ok("stopped".into());
                    }
                }
                Ok(None) => return Ok("the aggregator closed the connection".into()),
                // A connection that was good once may break in any way and is dialled again.
                Err(error) => return Ok(error.to_string()),
            }
        }
    }

    async fn pass(&self, event: LinkEvent) -> Option<()> {
        self.events.send(Ok(event)).await.ok()
    }
}

async fn welcome(
    receiver: &mut Receiver,
) -> Result<Option<(RoundId, Vec<RoundReport>)>, NodeError> {
    match receiver.recv().await {
        Ok(Some(AggregatorMessage::Welcome { round, history })) => Ok(Some((round, history))),
        Ok(Some(AggregatorMessage::Rejected { reason })) => Err(NodeError::Rejected(reason)),
        Ok(_) => Ok(None),
        Err(error) => Err(NodeError::Transport(error)),
    }
}

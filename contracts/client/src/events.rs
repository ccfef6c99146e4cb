//! What happens on the contracts, as a stream that survives disconnects, restarts and
//! reorganizations.
//!
//! ```text
//!  eth_getLogs in bounded ranges ──► buffer ──► next() ──► the caller
//!        ▲                                        │
//!        └── cursor: next block, hashes of blocks seen ◄──┘  (saved by the caller)
//! ```
//!
//! The endpoint is polled: filters and subscriptions live on the server and are gone after a
//! disconnect. Before logs count, the blocks that they were read between must still stand.

mod cursor;
mod kinds;
mod reading;

use std::collections::VecDeque;
use std::time::Duration;

use alloy::rpc::types::{Filter, Log};
use convoke_protocol::ids::Digest;
use serde::Serialize;

pub use cursor::Cursor;
use cursor::Seen;
pub use kinds::{Contract, Event};

use crate::abi::{digest, eth};
use crate::logs::BLOCKS_PER_QUERY_MAX;
use crate::{Chain, ChainError};

/// First wait for a new block; doubled up to the longest while nothing happens.
const POLL_MIN: Duration = Duration::from_millis(25);
const POLL_MAX: Duration = Duration::from_secs(1);

/// One event with its place on the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoggedEvent {
    /// Who emitted it.
    pub contract: Contract,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// Height of the block.
    pub block: u64,
    /// Its hash.
    pub block_hash: Digest,
    /// The transaction's hash.
    pub transaction: Digest,
    /// The event's number in the block, from 0.
    pub log_index: u64,
}

/// What a stream of events tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainEvent {
    /// Something happened.
    Logged(Box<LoggedEvent>),
    /// The chain was reorganized: events of block `from` and later that were told are void, and
    /// what took their place follows.
    Reorged {
        /// The first block that is told anew.
        from: u64,
    },
}

/// Events of the contracts in their order on the chain, each told once.
#[derive(Debug)]
pub struct EventStream {
    chain: Chain,
    confirmations: u64,
    cursor: Cursor,
    /// Read, and not told yet.
    buffer: VecDeque<LoggedEvent>,
    /// The newest block of which everything is told or in the buffer.
    read_to: Option<Seen>,
    /// Blocks in one question; halved when the endpoint finds it too large.
    range: u64,
}

impl Chain {
    /// Events of all contracts from a block on, in order. A block is only read when it has
    /// `confirmations` blocks above it: 0 tells at once what a reorganization may take back.
    #[must_use]
    pub fn events(&self, from_block: u64, confirmations: u64) -> EventStream {
        self.events_from(Cursor::at(from_block), confirmations)
    }

    /// Goes on where [`EventStream::cursor`] stood, without loss or repeats; also with what was
    /// reorganized in between.
    #[must_use]
    pub fn events_from(&self, cursor: Cursor, confirmations: u64) -> EventStream {
        EventStream {
            chain: self.clone(),
            confirmations,
            cursor,
            buffer: VecDeque::new(),
            read_to: None,
            range: BLOCKS_PER_QUERY_MAX,
        }
    }
}

enum Progress {
    Event(ChainEvent),
    /// Something was read, or has to be read again.
    Moved,
    /// There is nothing new.
    Idle,
}

impl EventStream {
    /// The next event. Waits for it, through any disconnect. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What trying again does not mend: [`ChainError::Refused`], [`ChainError::Unexpected`]. The
    /// stream can be asked again.
    pub async fn next(&mut self) -> Result<ChainEvent, ChainError> {
        let mut wait = POLL_MIN;
        loop {
            match self.step().await {
                Ok(Progress::Event(event)) => return Ok(event),
                Ok(Progress::Moved) => {
                    wait = POLL_MIN;
                    continue;
                }
                Ok(Progress::Idle) => {}
                Err(error @ ChainError::Unreachable { .. }) => {
                    tracing::warn!(%error, "events stopped, asking again");
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(POLL_MAX);
        }
    }

    /// The next event, or `None` if there is none now.
    ///
    /// # Errors
    /// As [`EventStream::next`], and [`ChainError::Unreachable`].
    pub async fn next_now(&mut self) -> Result<Option<ChainEvent>, ChainError> {
        loop {
            match self.step().await? {
                Progress::Event(event) => return Ok(Some(event)),
                Progress::Moved => {}
                Progress::Idle => return Ok(None),
            }
        }
    }

    /// Where the stream stands, after the event told last. Save it with the effects of that
    /// event, and [`Chain::events_from`] goes on behind it.
    #[must_use]
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    async fn step(&mut self) -> Result<Progress, ChainError> {
        if let Some(event) = self.told() {
            return Ok(Progress::Event(ChainEvent::Logged(Box::new(event))));
        }
        if !self.newest_stands().await? {
            return self.rewound().await;
        }
        let head = self.chain.latest_block().await?.number;
        let Some(safe) = head.checked_sub(self.confirmations) else {
            return Ok(Progress::Idle);
        };
        let from = self.cursor.next_block();
        if from > safe {
            return Ok(Progress::Idle);
        }
        self.read(from, safe.min(from + self.range - 1)).await
    }

    /// Takes the next event from the buffer.
    fn told(&mut self) -> Option<LoggedEvent> {
        let event = self.buffer.pop_front()?;
        self.cursor
            .tell(event.block, event.block_hash, event.log_index);
        if self.buffer.is_empty() {
            self.close_range();
        }
        Some(event)
    }

    fn close_range(&mut self) {
        if let Some(read_to) = self.read_to.take() {
            self.cursor.pass(read_to);
        }
    }

    async fn read(&mut self, from: u64, to: u64) -> Result<Progress, ChainError> {
        let Some(end) = self.block(to).await? else {
            return Ok(Progress::Idle);
        };
        let logs = match self.chain.logs(&self.filter(from, to)).await {
            // Too many blocks or logs for this endpoint, each of which words that differently.
            Err(ChainError::Refused { reason, .. }) if self.range > 1 => {
                tracing::debug!(reason, range = self.range, "halving the range");
                self.range /= 2;
                return Ok(Progress::Moved);
            }
            logs => logs?,
        };
        // If the last block still stands, so do all below it, and the logs are theirs.
        if self.block(to).await? != Some(end) || !self.newest_stands().await? {
            return Ok(Progress::Idle);
        }
        let mut events = Vec::new();
        for log in logs.iter().filter(|log| !log.removed) {
            events.extend(self.event_of(log)?);
        }
        events.sort_by_key(|event| (event.block, event.log_index));
        events.retain(|event| !self.cursor.has_told(event.block, event.log_index));
        // Nothing is awaited from here on: a dropped future has changed nothing.
        self.range = (self.range * 2).min(BLOCKS_PER_QUERY_MAX);
        self.buffer = events.into();
        self.read_to = Some(end);
        if self.buffer.is_empty() {
            self.close_range();
        }
        Ok(Progress::Moved)
    }

    fn filter(&self, from: u64, to: u64) -> Filter {
        let book = self.chain.book();
        let managers = [
            book.stake_manager,
            book.task_manager,
            book.round_manager,
            book.penalty_manager,
        ];
        let emitters = managers.into_iter().chain(book.sketch_audit);
        Filter::new()
            .address(emitters.map(eth).collect::<Vec<_>>())
            .from_block(from)
            .to_block(to)
    }

    async fn block(&self, number: u64) -> Result<Option<Seen>, ChainError> {
        let number = alloy::eips::BlockId::number(number);
        let block = self.chain.link().block(number).await?;
        Ok(block.map(|block| Seen {
            number: block.number,
            hash: block.hash,
        }))
    }

    async fn newest_stands(&self) -> Result<bool, ChainError> {
        match self.cursor.newest() {
            Some(seen) => Ok(self.block(seen.number).await? == Some(seen)),
            None => Ok(true),
        }
    }

    /// Goes back to the last block that still stands.
    async fn rewound(&mut self) -> Result<Progress, ChainError> {
        // Blocks that stand come before those that do not.
        let (mut standing, mut fallen) = (0, self.cursor.seen().len());
        while standing < fallen {
            let middle = standing + (fallen - standing) / 2;
            let seen = self.cursor.seen()[middle];
            if self.block(seen.number).await? == Some(seen) {
                standing = middle + 1;
            } else {
                fallen = middle;
            }
        }
        self.buffer.clear();
        self.read_to = None;
        let told_from = self.cursor.rewind(standing);
        tracing::info!(
            block = self.cursor.next_block(),
            "the chain was reorganized"
        );
        Ok(match told_from {
            Some(from) => Progress::Event(ChainEvent::Reorged { from }),
            None => Progress::Moved,
        })
    }

    fn event_of(&self, log: &Log) -> Result<Option<LoggedEvent>, ChainError> {
        let Some((contract, event)) = reading::decode(self.chain.book(), &log.inner)? else {
            return Ok(None);
        };
        let place = (
            log.block_number,
            log.block_hash,
            log.transaction_hash,
            log.log_index,
        );
        let (Some(block), Some(hash), Some(transaction), Some(log_index)) = place else {
            return Err(ChainError::Unexpected("a log without its place".to_owned()));
        };
        Ok(Some(LoggedEvent {
            contract,
            event,
            block,
            block_hash: digest(hash),
            transaction: digest(transaction),
            log_index,
        }))
    }
}

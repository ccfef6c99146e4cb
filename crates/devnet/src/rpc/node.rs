//! The chain with its journal and its clock.

use std::time::{SystemTime, UNIX_EPOCH};

use alloy_primitives::{Address, B256, Bytes, U256};

use crate::chain::Chain;
use crate::error::{DevnetError, RpcError};
use crate::journal::{Entry, Journal};

/// Snapshots kept at most; older ones are forgotten.
const SNAPSHOTS_MAX: usize = 64;

pub(crate) struct Node {
    pub(crate) chain: Chain,
    journal: Journal,
    /// Seconds that the chain's clock is ahead of the system's.
    ahead: u64,
    next_timestamp: Option<u64>,
    snapshots: Vec<Snapshot>,
    snapshots_taken: u64,
}

struct Snapshot {
    id: u64,
    entries: usize,
}

impl Node {
    pub(crate) fn new(journal: Journal) -> Result<Self, DevnetError> {
        let (chain, ahead) = journal.replay()?;
        let (next_timestamp, snapshots, snapshots_taken) = (None, Vec::new(), 0);
        Ok(Self {
            chain,
            journal,
            ahead,
            next_timestamp,
            snapshots,
            snapshots_taken,
        })
    }

    /// The time at which the next block would be mined.
    pub(crate) fn now(&self) -> u64 {
        let clock = seconds_since_epoch().saturating_add(self.ahead);
        self.next_timestamp
            .unwrap_or(clock)
            .max(self.chain.timestamp())
    }

    pub(crate) fn send(&mut self, raw: Bytes) -> Result<B256, RpcError> {
        let timestamp = self.now();
        let hash = self.chain.mine(&raw, timestamp)?;
        self.record(Entry::Block {
            timestamp,
            transaction: Some(raw),
        })?;
        self.next_timestamp = None;
        Ok(hash)
    }

    pub(crate) fn mine(&mut self) -> Result<(), RpcError> {
        let timestamp = self.now();
        self.chain.mine_empty(timestamp);
        self.next_timestamp = None;
        self.record(Entry::Block {
            timestamp,
            transaction: None,
        })
    }

    pub(crate) fn set_balance(&mut self, address: Address, balance: U256) -> Result<(), RpcError> {
        self.chain.set_balance(address, balance);
        self.record(Entry::SetBalance { address, balance })
    }

    pub(crate) fn increase_time(&mut self, seconds: u64) -> Result<u64, RpcError> {
        self.ahead = self.ahead.saturating_add(seconds);
        self.record(Entry::Clock { ahead: self.ahead })?;
        Ok(self.ahead)
    }

    pub(crate) fn set_next_timestamp(&mut self, timestamp: u64) -> Result<(), RpcError> {
        if timestamp < self.chain.timestamp() {
            return Err(RpcError::rejected(format!(
                "timestamp {timestamp} lies before the newest block's, {}",
                self.chain.timestamp()
            )));
        }
        self.next_timestamp = Some(timestamp);
        Ok(())
    }

    pub(crate) fn snapshot(&mut self) -> u64 {
        self.snapshots_taken += 1;
        if self.snapshots.len() >= SNAPSHOTS_MAX {
            self.snapshots.remove(0);
        }
        self.snapshots.push(Snapshot {
            id: self.snapshots_taken,
            entries: self.journal.len(),
        });
        self.snapshots_taken
    }

    /// Goes back to a snapshot, which is used up with all later ones; false if there is none.
    pub(crate) fn revert(&mut self, id: u64) -> Result<bool, RpcError> {
        let Some(index) = self.snapshots.iter().position(|snapshot| snapshot.id == id) else {
            return Ok(false);
        };
        let entries = self.snapshots[index].entries;
        self.snapshots.truncate(index);
        self.record(Entry::Reverted { entries })?;
        let (chain, ahead) = self.journal.replay().map_err(|error| internal(&error))?;
        (self.chain, self.ahead, self.next_timestamp) = (chain, ahead, None);
        Ok(true)
    }

    #[cfg(test)]
    pub(super) fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    fn record(&mut self, entry: Entry) -> Result<(), RpcError> {
        let Err(error) = self.journal.append(entry) else {
            return Ok(());
        };
        // The chain is ahead of its journal: back to what a restart would find.
        (self.chain, self.ahead) = self.journal.replay().map_err(|error| internal(&error))?;
        Err(internal(&error))
    }
}

fn internal(error: &DevnetError) -> RpcError {
    tracing::error!(%error, "the journal failed");
    RpcError::new(-32603, error.to_string())
}

pub(crate) fn seconds_since_epoch() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

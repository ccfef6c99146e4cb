//! The journal: one JSON line for all that ever happened, replayed at the start.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use alloy_primitives::{Address, Bytes, U256};
use serde::{Deserialize, Serialize};

use crate::chain::Chain;
use crate::error::DevnetError;

/// One thing that happened. The first is always [`Entry::Genesis`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The beginning.
    Genesis {
        /// EIP-155 chain id.
        chain_id: u64,
        /// Unix seconds.
        timestamp: u64,
        /// Balances in wei.
        funded: Vec<(Address, U256)>,
    },
    /// A block, with a transaction or without.
    Block {
        /// Unix seconds.
        timestamp: u64,
        /// The signed transaction.
        transaction: Option<Bytes>,
    },
    /// A balance set by hand.
    SetBalance {
        /// Whose.
        address: Address,
        /// In wei.
        balance: U256,
    },
    /// The clock was moved: seconds ahead of the system's, in all.
    Clock {
        /// Seconds.
        ahead: u64,
    },
    /// All after the first `entries` entries was undone.
    Reverted {
        /// How many entries are left, the genesis included.
        entries: usize,
    },
}

/// The file, open for appending. Without a file nothing is kept.
#[derive(Debug)]
pub struct Journal {
    file: Option<(PathBuf, File)>,
    entries: Vec<Entry>,
}

impl Journal {
    /// A journal in memory only.
    #[must_use]
    pub fn in_memory(genesis: Entry) -> Self {
        Self {
            file: None,
            entries: vec![genesis],
        }
    }

    /// Opens a journal, or begins one with `genesis`. A torn last line, left by a kill in the
    /// middle of a write whose reply was never sent, is cut off.
    ///
    /// # Errors
    /// [`DevnetError::Journal`], [`DevnetError::Corrupt`].
    pub fn open(path: &Path, genesis: Entry) -> Result<Self, DevnetError> {
        let failed = |source| DevnetError::Journal {
            path: path.to_path_buf(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(failed)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            tracing::warn!(path = %path.display(), "cut off a torn last line");
            file.set_len(whole as u64).map_err(failed)?;
            file.seek(SeekFrom::End(0)).map_err(failed)?;
        }
        let mut journal = Self {
            file: Some((path.to_path_buf(), file)),
            entries: Vec::new(),
        };
        for (index, line) in text[..whole].lines().enumerate() {
            let entry = serde_json::from_str(line).map_err(|error| DevnetError::Corrupt {
                path: path.to_path_buf(),
                line: index + 1,
                reason: error.to_string(),
            })?;
            journal.remember(entry);
        }
        if journal.entries.is_empty() {
            journal.append(genesis)?;
        }
        Ok(journal)
    }

    /// Adds an entry; on disk when this returns.
    ///
    /// # Errors
    /// [`DevnetError::Journal`].
    pub fn append(&mut self, entry: Entry) -> Result<(), DevnetError> {
        if let Some((path, file)) = &mut self.file {
            let mut write = || -> std::io::Result<()> {
                let mut line = serde_json::to_vec(&entry)?;
                line.push(b'\n');
                file.write_all(&line)?;
                file.sync_data()
            };
            write().map_err(|source| DevnetError::Journal {
                path: path.clone(),
                source,
            })?;
        }
        self.remember(entry);
        Ok(())
    }

    /// How many entries count, the genesis included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never: a journal begins with its genesis.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn remember(&mut self, entry: Entry) {
        match entry {
            Entry::Reverted { entries } => self.entries.truncate(entries.max(1)),
            entry => self.entries.push(entry),
        }
    }

    /// Replays everything: the chain, and how far its clock is ahead, in seconds.
    ///
    /// # Errors
    /// [`DevnetError::Corrupt`] if an entry cannot have happened.
    pub fn replay(&self) -> Result<(Chain, u64), DevnetError> {
        let corrupt = |index: usize, reason: String| DevnetError::Corrupt {
            path: self
                .file
                .as_ref()
                .map(|(path, _)| path.clone())
                .unwrap_or_default(),
            line: index + 1,
            reason,
        };
        let Some(Entry::Genesis {
            chain_id,
            timestamp,
            funded,
        }) = self.entries.first()
        else {
            return Err(corrupt(
                0,
                "the journal does not begin with a genesis".into(),
            ));
        };
        let mut chain = Chain::new(*chain_id, *timestamp, funded);
        let mut ahead = 0;
        for (index, entry) in self.entries.iter().enumerate().skip(1) {
            match entry {
                Entry::Block {
                    timestamp,
                    transaction: Some(raw),
                } => {
                    chain
                        .mine(raw, *timestamp)
                        .map_err(|error| corrupt(index, error.to_string()))?;
                }
                Entry::Block {
                    timestamp,
                    transaction: None,
                } => chain.mine_empty(*timestamp),
                Entry::SetBalance { address, balance } => chain.set_balance(*address, *balance),
                Entry::Clock { ahead: seconds } => ahead = *seconds,
                Entry::Genesis { .. } | Entry::Reverted { .. } => {
                    return Err(corrupt(index, "a second genesis".into()));
                }
            }
        }
        Ok((chain, ahead))
    }
}

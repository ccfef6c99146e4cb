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
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        let torn = text.iter().rev().take_while(|byte| **byte != b'\n').count();
        let whole = text.len() - torn;
        if whole < text.len() {
            tracing::warn!(path = %path.display(), "cut off a torn last line");
            file.set_len(whole as u64).map_err(failed)?;
            file.seek(SeekFrom::End(0)).map_err(failed)?;
        }
        let mut journal = Self {
            file: Some((path.to_path_buf(), file)),
            entries: Vec::new(),
        };
        let lines = text[..whole].split_inclusive(|byte| *byte == b'\n');
        for (index, line) in lines.enumerate() {
            let entry = serde_json::from_slice(line).map_err(|error| DevnetError::Corrupt {
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

    /// Adds an entry; on disk when this returns. After an error it is as if nothing was added.
    ///
    /// # Errors
    /// [`DevnetError::Journal`].
    pub fn append(&mut self, entry: Entry) -> Result<(), DevnetError> {
        if let Some((path, file)) = &mut self.file {
            let mut write = || -> std::io::Result<()> {
                let mut line = serde_json::to_vec(&entry)?;
                line.push(b'\n');
                let before = file.metadata()?.len();
                let written = file.write_all(&line).and_then(|()| file.sync_data());
                if written.is_err() {
                    // Half a line in the middle would make all that follows unreadable.
                    file.set_len(before)?;
                }
                written
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

    /// Lets all writes fail from now on.
    #[cfg(test)]
    pub(crate) fn break_file(&mut self) {
        if let Some((path, file)) = &mut self.file {
            *file = File::open(path).expect("the journal is there");
        }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::server::DEFAULT_CHAIN_ID;
    use crate::testing::{
        COUNTER, GENESIS_TIME, address, creation, eip1559, ether, funded, signed,
    };
    use alloy_primitives::TxKind;

    fn genesis() -> Entry {
        Entry::Genesis {
            chain_id: DEFAULT_CHAIN_ID,
            timestamp: GENESIS_TIME,
            funded: funded(),
        }
    }

    fn block(nonce: u64, to: TxKind, input: &[u8]) -> Entry {
        Entry::Block {
            timestamp: GENESIS_TIME + nonce,
            transaction: Some(signed(eip1559(nonce, to, input))),
        }
    }

    fn counter() -> Address {
        address(1).create(0)
    }

    /// A contract, two calls of it, an empty block, a balance, a moved clock.
    fn fill(journal: &mut Journal) {
        for entry in [
            block(0, TxKind::Create, &creation(COUNTER)),
            block(1, TxKind::Call(counter()), b""),
            block(2, TxKind::Call(counter()), b""),
            Entry::Block {
                timestamp: GENESIS_TIME + 9,
                transaction: None,
            },
            Entry::SetBalance {
                address: address(2),
                balance: ether(1),
            },
            Entry::Clock { ahead: 60 },
        ] {
            journal.append(entry).unwrap();
        }
    }

    fn open(path: &Path) -> Journal {
        Journal::open(path, genesis()).unwrap()
    }

    #[test]
    fn a_replay_gives_the_same_hashes_and_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chain");
        let mut journal = open(&path);
        fill(&mut journal);
        let (before, _) = journal.replay().unwrap();
        drop(journal);
        let (after, ahead) = open(&path).replay().unwrap();
        assert_eq!((after.height(), after.hash()), (4, before.hash()));
        assert_eq!(after.storage(counter(), U256::ZERO), U256::from(2));
        assert_eq!(after.account(address(1)), before.account(address(1)));
        assert_eq!(after.account(address(2)).balance, ether(1));
        assert_eq!(ahead, 60);
    }

    #[test]
    fn an_existing_journal_keeps_its_own_genesis() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chain");
        drop(open(&path));
        let other = Entry::Genesis {
            chain_id: 5,
            timestamp: 0,
            funded: Vec::new(),
        };
        let (chain, _) = Journal::open(&path, other).unwrap().replay().unwrap();
        assert_eq!(chain.chain_id(), DEFAULT_CHAIN_ID);
    }

    #[test]
    fn a_torn_last_line_is_cut_off_wherever_it_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chain");
        let mut journal = open(&path);
        fill(&mut journal);
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        let last = whole[..whole.len() - 1]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .unwrap()
            + 1;
        for end in [last, last + 1, whole.len() - 1] {
            std::fs::write(&path, &whole[..end]).unwrap();
            let mut journal = open(&path);
            assert_eq!(journal.len(), 6, "torn at {end}");
            // And goes on as if the last had never been begun.
            journal.append(Entry::Clock { ahead: 5 }).unwrap();
            drop(journal);
            assert_eq!(open(&path).replay().unwrap().1, 5);
        }
        std::fs::write(&path, [&whole[..], &[0xff, 0]].concat()).unwrap();
        assert_eq!(open(&path).len(), 7, "what is torn need not be text");
    }

    #[test]
    fn what_was_reverted_is_gone_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chain");
        let mut journal = open(&path);
        fill(&mut journal);
        journal.append(Entry::Reverted { entries: 3 }).unwrap();
        let again = block(2, TxKind::Call(counter()), b"revert");
        journal.append(again).unwrap();
        drop(journal);
        let (chain, ahead) = open(&path).replay().unwrap();
        assert_eq!((chain.height(), ahead), (3, 0));
        assert_eq!(chain.storage(counter(), U256::ZERO), U256::from(1));
        assert_eq!(chain.account(address(1)).nonce, 3);
    }

    #[test]
    fn damage_is_named_by_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chain");
        let mut journal = open(&path);
        fill(&mut journal);
        drop(journal);
        let whole = std::fs::read_to_string(&path).unwrap();
        let mut lines: Vec<&str> = whole.lines().collect();
        lines[2] = "{}";
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let damaged = Journal::open(&path, genesis()).unwrap_err();
        assert!(
            matches!(damaged, DevnetError::Corrupt { line: 3, .. }),
            "{damaged}"
        );
        // An entry that is left out makes the next one impossible.
        lines.remove(2);
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let impossible = open(&path).replay().unwrap_err();
        assert!(
            matches!(impossible, DevnetError::Corrupt { line: 3, .. }),
            "{impossible}"
        );
    }

    #[test]
    fn an_entry_that_cannot_be_written_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chain");
        let mut journal = open(&path);
        fill(&mut journal);
        journal.break_file();
        let refused = journal.append(Entry::Clock { ahead: 1 });
        assert!(matches!(refused, Err(DevnetError::Journal { .. })));
        assert_eq!(journal.len(), 7);
        assert_eq!(open(&path).len(), 7);
    }
}

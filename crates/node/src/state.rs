//! The state folder of a node: small JSON records written atomically, and a lock, so that two
//! processes never act for one node.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::NodeError;

/// An open state folder; the lock is held until it is dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Opens the folder, creating it if need be.
    ///
    /// # Errors
    /// [`NodeError::State`] if it cannot be created, or if another process uses it.
    pub fn open(path: &Path) -> Result<Self, NodeError> {
        let failed = |reason: String| NodeError::State {
            path: path.to_path_buf(),
            reason,
        };
        fs::create_dir_all(path).map_err(|error| failed(error.to_string()))?;
        let lock = File::create(path.join("lock")).map_err(|error| failed(error.to_string()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_path_buf(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(failed(
                "in use by another process; give each node its own --dir".into(),
            )),
            Err(TryLockError::Error(error)) => Err(failed(error.to_string())),
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a record so that a crash leaves either the old one or the new one.
    ///
    /// # Errors
    /// [`NodeError::State`] if the disk refuses.
    pub fn save<T: Serialize>(&self, name: &str, record: &T) -> Result<(), NodeError> {
        let path = self.path.join(name);
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
            serde_json::to_writer_pretty(&mut file, record)?;
            file.flush()?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            // The rename itself is durable once the folder is.
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|error| NodeError::State {
            path: path.clone(),
            reason: error.to_string(),
        })
    }

    /// Reads a record; `None` if there is none.
    ///
    /// # Errors
    /// [`NodeError::State`] if it cannot be read or is not such a record.
    pub fn load<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, NodeError> {
        let path = self.path.join(name);
        let failed = |reason: String| NodeError::State {
            path: path.clone(),
            reason,
        };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| failed(error.to_string()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_and_a_folder_has_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        assert_eq!(state.load::<u32>("n.json").unwrap(), None);
        state.save("n.json", &7u32).unwrap();
        assert_eq!(state.load::<u32>("n.json").unwrap(), Some(7));
        assert!(state.load::<String>("n.json").is_err());
        assert!(
            StateDir::open(folder.path())
                .unwrap_err()
                .to_string()
                .contains("another process")
        );
        drop(state);
        StateDir::open(folder.path()).unwrap();
    }
}

//! Where a deployment is: a small TOML file that is handed to every node.

use std::path::Path;

use convoke_protocol::ids::Address;
use serde::{Deserialize, Serialize};

use crate::ChainError;

/// The addresses of one deployment, and an endpoint that serves its chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressBook {
    /// EIP-155 chain id: `chain_id = 31337`.
    pub chain_id: u64,
    /// JSON-RPC endpoint: `rpc = "http://127.0.0.1:8545"`.
    pub rpc: String,
    /// The ERC-20 of stakes and rewards.
    pub token: Address,
    /// Holds the stakes.
    pub stake_manager: Address,
    /// Holds tasks and their escrow.
    pub task_manager: Address,
    /// Holds rounds and results.
    pub round_manager: Address,
    /// Checks evidence of faults.
    pub penalty_manager: Address,
    /// The proof verifier set at the deployment, if any; the round manager knows the present one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifier: Option<Address>,
    /// Takes evidence of false sketches; `None` in deployments without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sketch_audit: Option<Address>,
    /// Who administers the contracts, after a delay; `None` if that is not known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timelock: Option<Address>,
    /// The block of the deployment; nothing of ours is in earlier ones.
    pub deployed_block: u64,
}

impl AddressBook {
    /// Reads a book.
    ///
    /// # Errors
    /// [`ChainError::Book`] if the file cannot be read or is no address book.
    pub fn load(path: &Path) -> Result<Self, ChainError> {
        let wrong = |reason: String| ChainError::Book {
            path: path.to_owned(),
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        toml::from_str(&text).map_err(|error| wrong(error.to_string()))
    }

    /// Writes the book. A reader sees the old file or the new one, never a part.
    ///
    /// # Errors
    /// [`ChainError::Book`] if the folder cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ChainError> {
        let wrong = |reason: String| ChainError::Book {
            path: path.to_owned(),
            reason,
        };
        let text = toml::to_string(self).map_err(|error| wrong(error.to_string()))?;
        // The process id keeps two writers from sharing one unfinished file.
        let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
        std::fs::write(&unfinished, text)
            .and_then(|()| std::fs::rename(&unfinished, path))
            .map_err(|error| wrong(error.to_string()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_book_loads_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chain.toml");
        let book = AddressBook {
            chain_id: 31_337,
            rpc: "http://127.0.0.1:8545".to_owned(),
            token: Address([1; 20]),
            stake_manager: Address([2; 20]),
            task_manager: Address([3; 20]),
            round_manager: Address([4; 20]),
            penalty_manager: Address([5; 20]),
            verifier: None,
            sketch_audit: Some(Address([7; 20])),
            timelock: Some(Address([6; 20])),
            deployed_block: 4,
        };
        book.save(&path).unwrap();
        book.save(&path).unwrap();
        assert_eq!(AddressBook::load(&path).unwrap(), book);
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no unfinished file"
        );
    }

    #[test]
    fn the_error_names_file_and_field() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chain.toml");
        std::fs::write(&path, "chain_id = 1\nrcp = \"typo\"\n").unwrap();
        let text = AddressBook::load(&path).unwrap_err().to_string();
        assert!(
            text.contains("chain.toml") && text.contains("rcp"),
            "{text}"
        );
    }
}

//! Errors of the server, and errors as JSON-RPC has them.

use std::path::PathBuf;

use alloy_primitives::Bytes;
use serde::Serialize;

/// What keeps the chain from running.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address asked for.
        listen: std::net::SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The journal cannot be read or written.
    #[error("{path}: {source}")]
    Journal {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The journal is not one, or does not replay.
    #[error("{path}, line {line}: {reason}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The journal belongs to another chain.
    #[error("{path} holds chain {got}, asked for is {expected}")]
    OtherChain {
        /// The file.
        path: PathBuf,
        /// Its chain id.
        got: u64,
        /// The chain id wanted.
        expected: u64,
    },
}

/// A JSON-RPC error object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message} ({code})")]
pub struct RpcError {
    /// The number that clients look at.
    pub code: i64,
    /// The text that people look at, worded as geth does.
    pub message: String,
    /// Revert data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Bytes>,
}

impl RpcError {
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    /// The parameters are not those of the method.
    pub(crate) fn params(message: impl std::fmt::Display) -> Self {
        Self::new(-32602, format!("invalid params: {message}"))
    }

    /// The transaction is not taken.
    pub(crate) fn rejected(message: impl Into<String>) -> Self {
        Self::new(-32000, message)
    }

    /// The call reverted, with what it returned.
    pub(crate) fn reverted(data: Bytes) -> Self {
        let message = match revert_text(&data) {
            Some(text) => format!("execution reverted: {text}"),
            None => "execution reverted".into(),
        };
        Self {
            code: 3,
            message,
            data: Some(data),
        }
    }
}

/// The text of Solidity's `Error(string)`, if that is what it is.
fn revert_text(data: &[u8]) -> Option<String> {
    let body = data.strip_prefix(&[0x08, 0xc3, 0x79, 0xa0])?;
    let length = usize::try_from(u64::from_be_bytes(body.get(56..64)?.try_into().ok()?)).ok()?;
    let text = body.get(64..64usize.checked_add(length)?)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

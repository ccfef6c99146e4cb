//! An Ethereum chain in one process, for development and tests: revm behind JSON-RPC.
//!
//! Every transaction is mined at once, in a block of its own. Real headers, hashes, signatures,
//! gas and logs; what is missing is the state trie (state roots are zero), peers, and consensus.
//! State lives in a journal of what happened, which is replayed at the start.

mod chain;
mod error;
mod journal;
mod rpc;
mod server;
#[cfg(test)]
mod testing;

pub use self::chain::{BLOCK_GAS_LIMIT, Chain, Receipt};
pub use self::error::{DevnetError, RpcError};
pub use self::journal::{Entry, Journal};
pub use self::server::{Config, DEFAULT_CHAIN_ID, Devnet};

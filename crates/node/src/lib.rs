//! What trainers, validators and observers share: the [`link`] to the aggregator, which
//! outlives broken connections; the [`state`] folder, which outlives the process;
//! [`checkpoint`]s, whole or by patches; and [`claims`], by which pay is pulled from the contract.

mod error;

pub mod checkpoint;
pub mod claims;
pub mod link;
pub mod state;
pub mod task;

pub use self::checkpoint::{Patch, Patches, fetch_checkpoint};
pub use self::error::NodeError;
pub use self::link::{Link, LinkConfig, LinkEvent};
pub use self::state::StateDir;
pub use self::task::{TaskContext, terms_of};

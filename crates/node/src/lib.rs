//! What trainers, validators and observers share: the [`link`] to the aggregator, which
//! outlives broken connections; the [`state`] folder, which outlives the process; and
//! [`claims`], by which pay is pulled from the contract.

mod error;

pub mod claims;
pub mod link;
pub mod state;
pub mod task;

pub use self::error::NodeError;
pub use self::link::{Link, LinkConfig, LinkEvent};
pub use self::state::StateDir;
pub use self::task::{TaskContext, terms_of};

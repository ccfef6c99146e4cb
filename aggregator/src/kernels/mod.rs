//! The inner loops of aggregation, on one chunk of every update at a time.

mod gram;
mod select;
mod weighted_sum;

pub use self::gram::Gram;
pub use self::select::{Selection, select};
pub use self::weighted_sum::weighted_sum;

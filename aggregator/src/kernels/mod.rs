//! The inner loops of aggregation, on one chunk of every update at a time.

mod gram;
mod lanes;
mod network;
mod peak;
mod select;
#[cfg(test)]
mod testing;
mod weighted_sum;

pub use self::gram::Gram;
pub use self::peak::fma_peak_flops;
pub use self::select::{Selection, select};
pub use self::weighted_sum::weighted_sum;

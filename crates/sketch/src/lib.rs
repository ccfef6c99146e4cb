//! Checkpoints and deltas on disk, and the seeded sketches that proofs and audits are about.
//!
//! - [`inspect()`] refuses what is no delta of a model, and gives what is signed of one before the
//!   seed is drawn: norm and Merkle root ([`inspect::measure`] does so for values in memory, and
//!   [`Inspector`] for bytes that arrive).
//! - [`sketch()`] gives, once it is drawn, the sums that a delta's values add up to and the root
//!   of the tree over them ([`projection`]); [`quantize`] rounds the sums to a [`Sketch`].
//! - [`opening`] shows to a contract that somebody's sums or sketch are false.
//!
//! Everything after the delta itself is whole numbers: every machine, any number of threads and a
//! contract get the same bits.

pub mod error;
pub mod fixed_point;
pub mod inspect;
mod keccak;
mod kernel;
mod opener;
pub mod opening;
pub mod projection;
mod signs;
pub mod sketch;
pub mod source;
pub mod speed;
pub mod sums;
pub mod tensor_file;
#[cfg(test)]
mod testing;
mod tree;

pub use error::SketchError;
pub use inspect::{DeltaStats, Inspector, inspect, measure};
pub use kernel::SKETCH_LEN;
pub use projection::{Sketched, project, sketch};
pub use sketch::{Sketch, is_under_declared, quantize};
pub use source::{Computed, Source, difference};
pub use sums::Sums;
pub use tensor_file::{ChunkBuffer, Layout, TensorFile, TensorLayout, chunk_range, file_bytes};

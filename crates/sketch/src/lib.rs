//! Checkpoints and deltas on disk, and the seeded sketches that proofs and audits are about.

pub mod error;
pub mod fixed_point;
pub mod inspect;
mod keccak;
mod kernel;
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
pub use inspect::{DeltaStats, inspect, measure};
pub use kernel::SKETCH_LEN;
pub use projection::{Sketched, project, sketch};
pub use sketch::{Sketch, is_under_declared, quantize};
pub use source::{Computed, Source, difference};
pub use sums::Sums;
pub use tensor_file::{ChunkBuffer, Layout, TensorFile, TensorLayout, chunk_range};

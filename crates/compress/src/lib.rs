//! Codecs for long vectors of f32: deltas on their way to the aggregator, and steps from one
//! checkpoint to the next.
//!
//! | codec | bytes of a value | what is lost |
//! |---|---|---|
//! | [`bf16`] | 2 | the lower 16 bits |
//! | [`int8`] | 1.016 | what lies between 255 levels of each 256 values |
//! | [`top_k`] | 4 · share kept | all but the largest values of each 4,096 |
//! | [`dct_sign`] | 2 · share kept + 0.001 | all but the signs of the largest coefficients of each 4,096 |
//!
//! An encoding is a [`header`] of 24 bytes and the blocks. Its length follows from the
//! codec and the number of values alone, so a receiver knows it before the first byte arrives, and
//! knows the decoded size before it allocates. The same values give the same bytes, and the same
//! bytes the same values, on every machine and with any number of threads: only the basic
//! operations of IEEE 754 are used, in a fixed order. So norms, roots and sketches are those of
//! the decoded values, whoever decodes them.
//!
//! What arrives is hostile: see [`Codec::decode`] for what is refused.

pub mod bf16;
mod codec;
mod dct;
pub mod dct_sign;
mod encoded;
mod error;
pub mod header;
pub mod int8;
pub mod patch;
mod scheme;
mod selection;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod top_k;

pub use self::codec::Codec;
pub use self::encoded::{Delta, EncodedFile, wrap};
pub use self::error::{CompressError, EncodingError};

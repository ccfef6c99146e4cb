//! `[compression]`: how deltas and checkpoints travel.

use serde::{Deserialize, Serialize};

use super::TaskFileError;
use super::check::within;

/// `[compression]`: encodings on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompressionSpec {
    /// Of the trainers' deltas: `"none"`, `"bf16"`, `"int8"`, `"top_k"` or `"dct_sign"`.
    pub update: CodecKind,
    /// Share of the values that `"top_k"` and `"dct_sign"` keep, 100 to 500,000 millionths.
    pub keep_ppm: u32,
    /// Whether a trainer adds to a delta what compression took from its last one.
    pub error_feedback: bool,
    /// Of the step from one checkpoint to the next, for nodes that have the last: `"none"` (they
    /// fetch the whole), or as above.
    pub checkpoint: CodecKind,
}

/// How a long vector of f32 is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodecKind {
    /// Four bytes a value: a safetensors file as it is.
    None,
    /// The upper two bytes of each value, rounded to nearest.
    Bf16,
    /// One byte a value, and a scale for each block.
    Int8,
    /// The largest values of each block with their places.
    TopK,
    /// Signs of the largest coefficients of each block's cosine transform (DeMo, DisTrO).
    DctSign,
}

impl Default for CompressionSpec {
    fn default() -> Self {
        Self {
            update: CodecKind::None,
            keep_ppm: 10_000,
            error_feedback: true,
            checkpoint: CodecKind::None,
        }
    }
}

impl CompressionSpec {
    pub(super) fn check(&self) -> Result<(), TaskFileError> {
        within(
            "compression.keep_ppm",
            self.keep_ppm,
            100..=500_000,
            "100 to 500000",
        )
    }
}

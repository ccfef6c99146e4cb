//! `[model]`, `[base]` and `[adapter]`: what is trained, from which weights, and which part of it.

use serde::{Deserialize, Serialize};

use super::TaskFileError;
use super::check::{one_of, within};
use crate::ids::BlobHash;

/// `[model]`: a model by name and its own settings, which the models crate knows and checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// `kind = "cnn"`, for example.
    pub kind: String,
    /// All else in the table: `height = 28`.
    #[serde(flatten)]
    pub config: toml::Table,
}

/// `[base]`: pretrained weights that training starts from. Nobody need trust where they come
/// from: what is fetched must have the hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseSpec {
    /// BLAKE3 of the list of the files' names, lengths and hashes; set by `convoke task create`,
    /// shown by `convoke model fetch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<BlobHash>,
    /// Where the files are, tried in order, 1 to 8 of at most 500 characters each: a folder or
    /// file, `https://...`, or `hf:OWNER/NAME@REVISION` on the Hugging Face hub.
    pub sources: Vec<String>,
}

/// `[adapter]`: only low-rank additions to the base's dense layers are trained and travel (LoRA,
/// Hu et al. 2021, arXiv:2106.09685): y = x W + (alpha / rank) (x A) B.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdapterSpec {
    /// Rank of each addition, 1 to 256.
    pub rank: u32,
    /// Scale of the additions, above 0, at most 1,024.
    pub alpha: f64,
    /// Names of the layers that get one, such as `q_proj`; at most 32. Empty: those that the
    /// model recommends.
    pub targets: Vec<String>,
    /// How the base's dense weights are kept in memory: `"none"`, or quantized as `"q8_0"` or
    /// `"q4_1"` (QLoRA, Dettmers et al. 2023, arXiv:2305.14314).
    pub quantize: String,
}

impl Default for AdapterSpec {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            targets: Vec::new(),
            quantize: "none".into(),
        }
    }
}

impl ModelSpec {
    pub(super) fn check(&self) -> Result<(), TaskFileError> {
        within(
            "model.kind (its length)",
            self.kind.len(),
            1..=32,
            "a model's name",
        )
    }
}

impl BaseSpec {
    pub(super) fn check(&self) -> Result<(), TaskFileError> {
        within(
            "base.sources (their number)",
            self.sources.len(),
            1..=8,
            "1 to 8",
        )?;
        self.sources.iter().try_for_each(|source| {
            within(
                "base.sources (a length)",
                source.chars().count(),
                1..=500,
                "1 to 500 characters",
            )
        })
    }
}

impl AdapterSpec {
    pub(super) fn check(&self) -> Result<(), TaskFileError> {
        within("adapter.rank", self.rank, 1..=256, "1 to 256")?;
        within("adapter.alpha", self.alpha, 1e-3..=1024.0, "0.001 to 1024")?;
        within(
            "adapter.targets (their number)",
            self.targets.len(),
            0..=32,
            "at most 32",
        )?;
        self.targets.iter().try_for_each(|target| {
            within(
                "adapter.targets (a length)",
                target.chars().count(),
                1..=64,
                "1 to 64 characters",
            )
        })?;
        one_of(
            "adapter.quantize",
            &self.quantize,
            &["none", "q8_0", "q4_1"],
            "\"none\", \"q8_0\", \"q4_1\"",
        )
    }
}

//! Low-rank adapters as a task sets them (Hu et al. 2021, arXiv:2106.09685).

use convoke_protocol::task::AdapterSpec;
use serde::{Deserialize, Serialize};

use crate::error::ModelError;

/// What is trained in place of a base's own weights: the table `[adapter]` of a task file, checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterConfig {
    /// Rank of each adapter, 1 to 256.
    pub rank: usize,
    /// The adapter's output is scaled by `alpha / rank`. Above 0, up to 65,536.
    pub alpha: f64,
    /// Names of the dense layers that get an adapter, as Hugging Face names them: a whole name or
    /// its end behind a dot. Empty: those of queries and values.
    #[serde(default)]
    pub targets: Vec<String>,
    /// How frozen weights of dense layers are kept in memory.
    #[serde(default)]
    pub precision: FrozenPrecision,
}

/// How frozen weights are kept while only adapters are trained. All nodes of a task must agree:
/// quantized weights are other weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrozenPrecision {
    /// `"f32"`: 4 bytes a weight.
    #[default]
    F32,
    /// `"stored"`: as the base has them, if it has quantized blocks; else as `"f32"`.
    Stored,
    /// `"q8_0"`: 8.5 bits a weight, in blocks of 32.
    #[serde(rename = "q8_0")]
    Q8_0,
    /// `"q4_1"`: 5 bits a weight, in blocks of 32.
    #[serde(rename = "q4_1")]
    Q4_1,
}

impl AdapterConfig {
    /// The adapter that a task asks for.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn from_spec(spec: &AdapterSpec) -> Result<Self, ModelError> {
        let precision = match spec.quantize.as_str() {
            "none" => FrozenPrecision::F32,
            "q8_0" => FrozenPrecision::Q8_0,
            "q4_1" => FrozenPrecision::Q4_1,
            other => {
                return Err(ModelError::Config {
                    field: "adapter.quantize",
                    got: other.to_owned(),
                    allowed: "none, q8_0 or q4_1",
                });
            }
        };
        let config = Self {
            rank: spec.rank as usize,
            alpha: spec.alpha,
            targets: spec.targets.clone(),
            precision,
        };
        config.check()?;
        Ok(config)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn check(&self) -> Result<(), ModelError> {
        let refused = |field, got: String, allowed| {
            Err(ModelError::Config {
                field,
                got,
                allowed,
            })
        };
        if !(1..=RANK_MAX).contains(&self.rank) {
            return refused("adapter.rank", self.rank.to_string(), "1 to 256");
        }
        if !(self.alpha > 0.0 && self.alpha <= ALPHA_MAX) {
            let allowed = "above 0, up to 65536";
            return refused("adapter.alpha", self.alpha.to_string(), allowed);
        }
        let plain = |target: &String| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._".contains(&b);
            (1..=64).contains(&target.len()) && target.bytes().all(allowed)
        };
        if self.targets.len() > TARGETS_MAX || !self.targets.iter().all(plain) {
            return refused(
                "adapter.targets",
                format!("{:?}", self.targets),
                "up to 64 names of 1 to 64 letters, digits, `_` and `.`",
            );
        }
        Ok(())
    }

    /// The factor of an adapter's output.
    pub fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }

    /// Whether the dense layer of that name, as Hugging Face names it, gets an adapter.
    pub(crate) fn targets(&self, name: &str, defaults: &[&str]) -> bool {
        let matches = |target: &str| {
            name.strip_suffix(target)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if self.targets.is_empty() {
            defaults.iter().any(|target| matches(target))
        } else {
            self.targets.iter().any(|target| matches(target))
        }
    }
}

/// Largest rank.
const RANK_MAX: usize = 256;
/// Largest alpha.
const ALPHA_MAX: f64 = 65_536.0;
/// Most targets.
const TARGETS_MAX: usize = 64;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config() -> AdapterConfig {
        AdapterConfig {
            rank: 8,
            alpha: 16.0,
            targets: vec!["q_proj".into(), "mlp.up_proj".into()],
            precision: FrozenPrecision::F32,
        }
    }

    #[test]
    fn targets_are_whole_names_or_their_ends() {
        let adapter = config();
        assert!(adapter.targets("model.layers.0.self_attn.q_proj", &[]));
        assert!(adapter.targets("model.layers.0.mlp.up_proj", &[]));
        assert!(adapter.targets("q_proj", &[]));
        assert!(!adapter.targets("model.layers.0.self_attn.xq_proj", &[]));
        assert!(!adapter.targets("model.layers.0.self_attn.v_proj", &["v_proj"]));
        let adapter = AdapterConfig {
            targets: Vec::new(),
            ..config()
        };
        assert!(adapter.targets("model.layers.0.self_attn.v_proj", &["v_proj"]));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        config().check().unwrap();
        let all = [
            AdapterConfig {
                rank: 0,
                ..config()
            },
            AdapterConfig {
                rank: 257,
                ..config()
            },
            AdapterConfig {
                alpha: f64::NAN,
                ..config()
            },
            AdapterConfig {
                alpha: 0.0,
                ..config()
            },
            AdapterConfig {
                targets: vec!["../x".into()],
                ..config()
            },
        ];
        for adapter in all {
            assert!(adapter.check().is_err(), "{adapter:?}");
        }
    }

    #[test]
    fn a_task_file_may_leave_out_what_has_a_default() {
        let adapter: AdapterConfig = toml::from_str("rank = 4\nalpha = 8.0").unwrap();
        assert_eq!(adapter.precision, FrozenPrecision::F32);
        assert!(adapter.targets("a.query", &["query"]));
        let text = "rank = 4\nalpha = 8.0\nprecision = \"q4_1\"";
        let adapter: AdapterConfig = toml::from_str(text).unwrap();
        assert_eq!(adapter.precision, FrozenPrecision::Q4_1);
        assert!(toml::from_str::<AdapterConfig>("rank = 4\nalpha = 8.0\ndropout = 0.1").is_err());
    }
}

//! The angles of rotary positions, and how they are stretched for texts longer than those that a
//! model was first trained on.

use std::f64::consts::TAU;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{ModelError, in_range};

/// How rotary angles are stretched, by Hugging Face's names.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScaling {
    /// Every angle is divided (Chen et al. 2023, arXiv:2306.15595).
    Linear {
        /// By this, 1 to 1,024.
        factor: f64,
    },
    /// Slow angles are divided, fast ones stay, those between change over (Grattafiori et al. 2024,
    /// arXiv:2407.21783; Llama 3.1 and later).
    Llama3 {
        /// Slow angles are divided by this, 1 to 1,024.
        factor: f64,
        /// An angle is slow if it turns less often than this in the length of text that the model
        /// was first trained on.
        low_freq_factor: f64,
        /// It is fast if it turns more often than this; above `low_freq_factor`.
        high_freq_factor: f64,
        /// That length of text, in tokens.
        original_max_position_embeddings: u32,
    },
}

impl RopeScaling {
    /// What a `config.json` says, which has it as `rope_parameters` or, before, as `rope_scaling`.
    ///
    /// # Errors
    /// What is not computed here.
    pub(crate) fn from_hugging_face(config: &Value) -> Result<Option<Self>, String> {
        let given = |name| config.get(name).filter(|value| !value.is_null());
        let Some(rope) = given("rope_scaling").or(given("rope_parameters")) else {
            return Ok(None);
        };
        let kind = rope.get("rope_type").or(rope.get("type"));
        let number = |name: &str| {
            let value = rope.get(name).and_then(Value::as_f64);
            value.ok_or_else(|| format!("{name} of the rotary angles is missing"))
        };
        Ok(match kind.and_then(Value::as_str) {
            None | Some("default") => None,
            Some("linear") => Some(Self::Linear {
                factor: number("factor")?,
            }),
            Some("llama3") => Some(Self::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_max_position_embeddings: number("original_max_position_embeddings")?
                    as u32,
            }),
            Some(other) => {
                return Err(format!(
                    "rotary angles scaled by {other:?} are not computed here, those by \"linear\" \
                     and \"llama3\" are"
                ));
            }
        })
    }

    /// What GGUF files write down of Llama 3.1 and later: by how much each angle is divided, slower
    /// and slower ones. The other settings are those that all these models have.
    pub(crate) fn from_divisors(divisors: &[f32], theta: f64) -> Option<Self> {
        let scaling = Self::Llama3 {
            factor: f64::from(*divisors.last()?),
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        scaling.check().ok()?;
        let plain = frequencies(theta, divisors.len(), None);
        let same = plain.iter().zip(divisors).all(|(&frequency, &divisor)| {
            let expected = frequency / scaling.stretched(frequency);
            (f64::from(divisor) / expected - 1.0).abs() < 1e-3
        });
        same.then_some(scaling)
    }

    /// As `config.json` has it.
    pub(crate) fn to_hugging_face(self) -> Value {
        json!(self)
    }

    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let stretch = |factor| {
            in_range(
                "rope_scaling.factor",
                factor,
                (1.0..=1024.0).contains(&factor),
                "1 to 1,024",
            )
        };
        match *self {
            Self::Linear { factor } => stretch(factor),
            Self::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: tokens,
            } => {
                stretch(factor)?;
                let ordered = low > 0.0 && high > low && high <= 1e6;
                let field = "rope_scaling.high_freq_factor";
                in_range(
                    field,
                    high,
                    ordered,
                    "above low_freq_factor, which is above 0",
                )?;
                let field = "rope_scaling.original_max_position_embeddings";
                in_range(
                    field,
                    tokens,
                    (1..=1 << 20).contains(&tokens),
                    "1 to 1,048,576",
                )
            }
        }
    }

    fn stretched(&self, frequency: f64) -> f64 {
        match *self {
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: tokens,
            } => {
                let turns = f64::from(tokens) * frequency / TAU;
                let fast = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                frequency * (fast + (1.0 - fast) / factor)
            }
        }
    }
}

/// By how much the angle of each pair of a head's values grows from one position to the next,
/// fastest first (Su et al. 2021, arXiv:2104.09864): theta^(-i/half), stretched.
pub(crate) fn frequencies(theta: f64, half: usize, scaling: Option<RopeScaling>) -> Vec<f64> {
    let plain = (0..half).map(|i| theta.powf(-(i as f64) / half as f64));
    plain
        .map(|frequency| scaling.map_or(frequency, |scaling| scaling.stretched(frequency)))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LLAMA_3_2: RopeScaling = RopeScaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };

    #[test]
    fn slow_angles_are_divided_and_fast_ones_stay() {
        let plain = frequencies(5e5, 32, None);
        let stretched = frequencies(5e5, 32, Some(LLAMA_3_2));
        for (plain, stretched) in plain.iter().zip(&stretched) {
            let wavelength = TAU / plain;
            if wavelength < 2048.0 {
                assert_eq!(plain, stretched);
            } else if wavelength > 8192.0 {
                assert_eq!(plain / 32.0, *stretched);
            } else {
                assert!(plain > stretched && plain / 32.0 < *stretched);
            }
        }
        let linear = RopeScaling::Linear { factor: 2.0 };
        assert_eq!(frequencies(1e4, 2, Some(linear)), [0.5, 0.005]);
    }

    #[test]
    fn divisors_of_gguf_files_are_recognized() {
        let plain = frequencies(5e5, 32, None);
        let stretched = frequencies(5e5, 32, Some(LLAMA_3_2));
        let divisors = plain.iter().zip(stretched).map(|(a, b)| (a / b) as f32);
        let mut divisors: Vec<f32> = divisors.collect();
        assert_eq!(RopeScaling::from_divisors(&divisors, 5e5), Some(LLAMA_3_2));
        assert_eq!(RopeScaling::from_divisors(&divisors, 1e4), None);
        divisors[17] *= 1.1;
        assert_eq!(RopeScaling::from_divisors(&divisors, 5e5), None);
        assert_eq!(RopeScaling::from_divisors(&[], 5e5), None);
        assert_eq!(RopeScaling::from_divisors(&[f32::NAN], 5e5), None);
    }

    #[test]
    fn what_is_not_computed_is_refused() {
        let of = |rope: Value| RopeScaling::from_hugging_face(&json!({ "rope_scaling": rope }));
        assert_eq!(of(Value::Null), Ok(None));
        assert_eq!(
            of(json!({ "rope_type": "default", "rope_theta": 1e4 })),
            Ok(None)
        );
        let linear = RopeScaling::Linear { factor: 4.0 };
        assert_eq!(
            of(json!({ "type": "linear", "factor": 4.0 })),
            Ok(Some(linear))
        );
        assert_eq!(of(LLAMA_3_2.to_hugging_face()), Ok(Some(LLAMA_3_2)));
        assert!(
            of(json!({ "rope_type": "yarn", "factor": 4.0 }))
                .unwrap_err()
                .contains("yarn")
        );
        assert!(
            of(json!({ "rope_type": "llama3" }))
                .unwrap_err()
                .contains("factor")
        );
        for scaling in [
            RopeScaling::Linear { factor: f64::NAN },
            RopeScaling::Linear { factor: 0.5 },
            RopeScaling::Llama3 {
                factor: 8.0,
                low_freq_factor: 4.0,
                high_freq_factor: 4.0,
                original_max_position_embeddings: 8192,
            },
        ] {
            assert!(scaling.check().is_err(), "{scaling:?}");
        }
    }
}

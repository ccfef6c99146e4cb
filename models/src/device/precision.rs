//! Number formats of matrix products.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Device, FloatDType};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;

/// The number format that matrix products are computed in. Parameters, gradients and optimizer
/// states are f32 always (Micikevicius et al. 2018, arXiv:1710.03740).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with the exponents of f32.
    Bf16,
    /// 16 bits with few exponents: the loss is scaled up, so that small gradients do not vanish.
    F16,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    pub(crate) fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::Bf16 => FloatDType::BF16,
            Self::F16 => FloatDType::F16,
        }
    }
}

/// Those that a device computes in.
pub(super) fn supported(device: &Device) -> Vec<Precision> {
    Precision::ALL
        .into_iter()
        .filter(|precision| device.supports_dtype(precision.dtype()))
        .collect()
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        let found = Self::ALL.into_iter().find(|known| known.name() == name);
        found.ok_or_else(|| ModelError::Config {
            field: "precision",
            got: format!("{name:?}"),
            allowed: "f32, bf16, f16",
        })
    }
}

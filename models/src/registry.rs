//! The models by name, and their settings as a task file has them.

use std::fmt;
use std::str::FromStr;

use convoke_protocol::task::ModelSpec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::arch::cnn::CnnConfig;
use crate::arch::mlp::MlpConfig;
use crate::arch::recommender::RecommenderConfig;
use crate::arch::resnet18::Resnet18Config;
use crate::data::TextConfig;
use crate::error::ModelError;

/// A kind of model, as a task file names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// `"cnn"`: [`Cnn`](crate::arch::cnn::Cnn).
    Cnn,
    /// `"mlp"`: [`Mlp`](crate::arch::mlp::Mlp).
    Mlp,
    /// `"recommender"`: [`Recommender`](crate::arch::recommender::Recommender).
    Recommender,
    /// `"resnet18"`: [`Resnet18`](crate::arch::resnet18::Resnet18).
    Resnet18,
}

impl ModelKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Cnn, Self::Mlp, Self::Recommender, Self::Resnet18];

    /// The name in a task file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cnn => "cnn",
            Self::Mlp => "mlp",
            Self::Recommender => "recommender",
            Self::Resnet18 => "resnet18",
        }
    }

    /// What it is, in a line.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Cnn => "image classifier: two convolutions, then dense layers",
            Self::Mlp => "image classifier: dense layers only",
            Self::Recommender => "recommender of two towers; nothing of users leaves their node",
            Self::Resnet18 => "image classifier: residual network with group normalization",
        }
    }

    /// What it learns from.
    pub fn takes(self) -> Takes {
        match self {
            Self::Cnn | Self::Mlp | Self::Resnet18 => Takes::Images,
            Self::Recommender => Takes::Interactions,
        }
    }

    /// Its settings in a task file, every default written out.
    pub fn defaults(self) -> ModelConfig {
        match self {
            Self::Cnn => ModelConfig::Cnn(CnnConfig::default()),
            Self::Mlp => ModelConfig::Mlp(MlpConfig::default()),
            Self::Recommender => ModelConfig::Recommender(RecommenderConfig::default()),
            Self::Resnet18 => ModelConfig::Resnet18(Resnet18Config::default()),
        }
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ModelKind {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| ModelError::UnknownModel {
                name: name.to_owned(),
                known: Self::ALL.map(Self::name).join(", "),
            })
    }
}

/// The kinds of data that models learn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Takes {
    /// Labelled images, in MNIST layout.
    Images,
    /// Running text or conversations.
    Text,
    /// Labelled texts.
    LabelledText,
    /// Which user took which item.
    Interactions,
}

/// A model's kind and settings.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelConfig {
    /// Of a `cnn`.
    Cnn(CnnConfig),
    /// Of an `mlp`.
    Mlp(MlpConfig),
    /// Of a `recommender`.
    Recommender(RecommenderConfig),
    /// Of a `resnet18`.
    Resnet18(Resnet18Config),
}

impl ModelConfig {
    /// The model that a task file asks for.
    ///
    /// # Errors
    /// [`ModelError::UnknownModel`]; [`ModelError::Settings`] for a setting that is unknown or of
    /// another type; [`ModelError::Config`] for one out of its range.
    pub fn from_spec(spec: &ModelSpec) -> Result<Self, ModelError> {
        let config = match spec.kind.parse()? {
            ModelKind::Cnn => Self::Cnn(settings(spec)?),
            ModelKind::Mlp => Self::Mlp(settings(spec)?),
            ModelKind::Recommender => Self::Recommender(settings(spec)?),
            ModelKind::Resnet18 => Self::Resnet18(settings(spec)?),
        };
        config.check()?;
        Ok(config)
    }

    /// As a task file has it, every default written out.
    pub fn to_spec(&self) -> ModelSpec {
        let config = match self {
            Self::Cnn(config) => toml::Table::try_from(config),
            Self::Mlp(config) => toml::Table::try_from(config),
            Self::Recommender(config) => toml::Table::try_from(config),
            Self::Resnet18(config) => toml::Table::try_from(config),
        };
        ModelSpec {
            kind: self.kind().name().to_owned(),
            config: config.expect("settings are plain tables of small numbers"),
        }
    }

    /// A classifier of images with default settings; nothing for a kind that is none.
    pub fn images(kind: ModelKind, height: usize, width: usize, classes: usize) -> Option<Self> {
        match kind {
            ModelKind::Cnn => Some(Self::Cnn(CnnConfig {
                height,
                width,
                classes,
                ..CnnConfig::default()
            })),
            ModelKind::Mlp => Some(Self::Mlp(MlpConfig {
                height,
                width,
                classes,
                ..MlpConfig::default()
            })),
            ModelKind::Recommender => None,
            ModelKind::Resnet18 => Some(Self::Resnet18(Resnet18Config {
                height,
                width,
                classes,
                ..Resnet18Config::default()
            })),
        }
    }

    /// The kind.
    pub fn kind(&self) -> ModelKind {
        match self {
            Self::Cnn(_) => ModelKind::Cnn,
            Self::Mlp(_) => ModelKind::Mlp,
            Self::Recommender(_) => ModelKind::Recommender,
            Self::Resnet18(_) => ModelKind::Resnet18,
        }
    }

    /// How text becomes sequences, of a model that reads text.
    pub fn text(&self) -> Option<TextConfig> {
        match self {
            Self::Cnn(_) | Self::Mlp(_) | Self::Recommender(_) | Self::Resnet18(_) => None,
        }
    }

    /// Names of the classes, of a classifier of text that has such; else empty.
    pub fn labels(&self) -> &[String] {
        match self {
            Self::Cnn(_) | Self::Mlp(_) | Self::Recommender(_) | Self::Resnet18(_) => &[],
        }
    }

    /// Number of items, of a recommender.
    pub fn items(&self) -> Option<usize> {
        match self {
            Self::Recommender(config) => Some(config.items),
            Self::Cnn(_) | Self::Mlp(_) | Self::Resnet18(_) => None,
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn check(&self) -> Result<(), ModelError> {
        match self {
            Self::Cnn(config) => config.check(),
            Self::Mlp(config) => config.check(),
            Self::Recommender(config) => config.check(),
            Self::Resnet18(config) => config.check(),
        }
    }
}

/// The settings of one kind, from the rest of the table `[model]`.
fn settings<T: DeserializeOwned>(spec: &ModelSpec) -> Result<T, ModelError> {
    let table = toml::Value::Table(spec.config.clone());
    table.try_into().map_err(|error| ModelError::Settings {
        model: spec.kind.clone(),
        reason: error.to_string().trim().to_owned(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_kinds_and_unknown_ones_list_the_known() {
        for kind in ModelKind::ALL {
            assert_eq!(kind.to_string().parse::<ModelKind>().unwrap(), kind);
            assert_eq!(kind.defaults().kind(), kind);
        }
        let error = "vit".parse::<ModelKind>().unwrap_err().to_string();
        assert!(error.starts_with(r#"unknown model "vit", known: cnn, mlp"#));
    }

    #[test]
    fn settings_survive_the_task_file() {
        for kind in ModelKind::ALL {
            let config = kind.defaults();
            config.check().unwrap();
            assert_eq!(ModelConfig::from_spec(&config.to_spec()).unwrap(), config);
        }
    }

    #[test]
    fn a_misspelt_setting_is_named() {
        let mut spec = ModelKind::Cnn.defaults().to_spec();
        spec.config.insert("hight".into(), 28.into());
        let error = ModelConfig::from_spec(&spec).unwrap_err().to_string();
        assert!(error.contains("hight") && error.contains("cnn"), "{error}");
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        let config =
            |height, width, classes| ModelConfig::images(ModelKind::Cnn, height, width, classes);
        config(4, 512, 256).unwrap().check().unwrap();
        for (height, width, classes) in [(3, 28, 10), (28, 513, 10), (28, 28, 1), (28, 28, 257)] {
            assert!(config(height, width, classes).unwrap().check().is_err());
        }
    }
}

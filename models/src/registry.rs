//! The models by name, and their settings as a task file has them.

use std::fmt;
use std::str::FromStr;

use convoke_protocol::task::ModelSpec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::arch::bert::{self, BertConfig};
use crate::arch::cnn::CnnConfig;
use crate::arch::llama::{self, LlamaConfig};
use crate::arch::mlp::MlpConfig;
use crate::arch::recommender::RecommenderConfig;
use crate::arch::resnet18::Resnet18Config;
use crate::arch::transformer::{self, TransformerConfig};
use crate::base::Base;
use crate::data::TextConfig;
use crate::error::ModelError;
use crate::layers::Naming;

/// A kind of model, as a task file names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// `"bert"`: [`Bert`](crate::arch::bert::Bert).
    Bert,
    /// `"cnn"`: [`Cnn`](crate::arch::cnn::Cnn).
    Cnn,
    /// `"llama"`: [`Llama`](crate::arch::llama::Llama).
    Llama,
    /// `"mlp"`: [`Mlp`](crate::arch::mlp::Mlp).
    Mlp,
    /// `"recommender"`: [`Recommender`](crate::arch::recommender::Recommender).
    Recommender,
    /// `"resnet18"`: [`Resnet18`](crate::arch::resnet18::Resnet18).
    Resnet18,
    /// `"transformer"`: [`Transformer`](crate::arch::transformer::Transformer).
    Transformer,
}

impl ModelKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Cnn,
        Self::Mlp,
        Self::Resnet18,
        Self::Transformer,
        Self::Llama,
        Self::Bert,
        Self::Recommender,
    ];

    /// The name in a task file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bert => "bert",
            Self::Cnn => "cnn",
            Self::Llama => "llama",
            Self::Mlp => "mlp",
            Self::Recommender => "recommender",
            Self::Resnet18 => "resnet18",
            Self::Transformer => "transformer",
        }
    }

    /// What it is, in a line.
    pub fn summary(self) -> &'static str {
        match self {
            Self::Bert => "text classifier: encoder such as all-MiniLM-L6-v2",
            Self::Cnn => "image classifier: two convolutions, then dense layers",
            Self::Llama => "language model of the Llama family, such as SmolLM2",
            Self::Mlp => "image classifier: dense layers only",
            Self::Recommender => "recommender of two towers; nothing of users leaves their node",
            Self::Resnet18 => "image classifier: residual network with group normalization",
            Self::Transformer => "language model: small decoder to be trained from scratch",
        }
    }

    /// What it learns from.
    pub fn takes(self) -> Takes {
        match self {
            Self::Cnn | Self::Mlp | Self::Resnet18 => Takes::Images,
            Self::Llama | Self::Transformer => Takes::Text,
            Self::Bert => Takes::LabelledText,
            Self::Recommender => Takes::Interactions,
        }
    }

    /// Its settings in a task file, every default written out.
    pub fn defaults(self) -> ModelConfig {
        match self {
            Self::Bert => ModelConfig::Bert(BertConfig::default()),
            Self::Cnn => ModelConfig::Cnn(CnnConfig::default()),
            Self::Llama => ModelConfig::Llama(LlamaConfig::default()),
            Self::Mlp => ModelConfig::Mlp(MlpConfig::default()),
            Self::Recommender => ModelConfig::Recommender(RecommenderConfig::default()),
            Self::Resnet18 => ModelConfig::Resnet18(Resnet18Config::default()),
            Self::Transformer => ModelConfig::Transformer(TransformerConfig::default()),
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
    /// Of a `bert`.
    Bert(BertConfig),
    /// Of a `cnn`.
    Cnn(CnnConfig),
    /// Of a `llama`.
    Llama(LlamaConfig),
    /// Of an `mlp`.
    Mlp(MlpConfig),
    /// Of a `recommender`.
    Recommender(RecommenderConfig),
    /// Of a `resnet18`.
    Resnet18(Resnet18Config),
    /// Of a `transformer`.
    Transformer(TransformerConfig),
}

impl ModelConfig {
    /// The model that a task file asks for.
    ///
    /// # Errors
    /// [`ModelError::UnknownModel`]; [`ModelError::Settings`] for a setting that is unknown or of
    /// another type; [`ModelError::Config`] for one out of its range.
    pub fn from_spec(spec: &ModelSpec) -> Result<Self, ModelError> {
        let config = match spec.kind.parse()? {
            ModelKind::Bert => Self::Bert(settings(spec)?),
            ModelKind::Cnn => Self::Cnn(settings(spec)?),
            ModelKind::Llama => Self::Llama(settings(spec)?),
            ModelKind::Mlp => Self::Mlp(settings(spec)?),
            ModelKind::Recommender => Self::Recommender(settings(spec)?),
            ModelKind::Resnet18 => Self::Resnet18(settings(spec)?),
            ModelKind::Transformer => Self::Transformer(settings(spec)?),
        };
        config.check()?;
        Ok(config)
    }

    /// The settings of a base; an encoder's for texts of so many classes.
    ///
    /// # Errors
    /// [`ModelError::Settings`] for a base of a kind that no model here computes.
    pub fn of_base(base: &Base, classes: usize) -> Result<Self, ModelError> {
        let config = base.config();
        let kind = config.get("model_type").and_then(serde_json::Value::as_str);
        match kind {
            Some("bert") => BertConfig::from_hugging_face(config, classes).map(Self::Bert),
            Some("gpt2") => TransformerConfig::from_hugging_face(config).map(Self::Transformer),
            _ => LlamaConfig::from_hugging_face(config).map(Self::Llama),
        }
    }

    /// As a task file has it, every default written out.
    pub fn to_spec(&self) -> ModelSpec {
        let config = match self {
            Self::Bert(config) => toml::Table::try_from(config),
            Self::Cnn(config) => toml::Table::try_from(config),
            Self::Llama(config) => toml::Table::try_from(config),
            Self::Mlp(config) => toml::Table::try_from(config),
            Self::Recommender(config) => toml::Table::try_from(config),
            Self::Resnet18(config) => toml::Table::try_from(config),
            Self::Transformer(config) => toml::Table::try_from(config),
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
            ModelKind::Bert
            | ModelKind::Llama
            | ModelKind::Recommender
            | ModelKind::Transformer => None,
            ModelKind::Resnet18 => Some(Self::Resnet18(Resnet18Config {
                height,
                width,
                classes,
                ..Resnet18Config::default()
            })),
        }
    }

    /// Height, width and number of classes, of a classifier of images.
    pub(crate) fn takes_images(&self) -> Option<(usize, usize, usize)> {
        match self {
            Self::Cnn(config) => Some((config.height, config.width, config.classes)),
            Self::Mlp(config) => Some((config.height, config.width, config.classes)),
            Self::Resnet18(config) => Some((config.height, config.width, config.classes)),
            Self::Bert(_) | Self::Llama(_) | Self::Recommender(_) | Self::Transformer(_) => None,
        }
    }

    /// The kind.
    pub fn kind(&self) -> ModelKind {
        match self {
            Self::Bert(_) => ModelKind::Bert,
            Self::Cnn(_) => ModelKind::Cnn,
            Self::Llama(_) => ModelKind::Llama,
            Self::Mlp(_) => ModelKind::Mlp,
            Self::Recommender(_) => ModelKind::Recommender,
            Self::Resnet18(_) => ModelKind::Resnet18,
            Self::Transformer(_) => ModelKind::Transformer,
        }
    }

    /// How text becomes sequences, of a model that reads text.
    pub fn text(&self) -> Option<TextConfig> {
        match self {
            Self::Bert(config) => Some(config.text()),
            Self::Llama(config) => Some(config.text()),
            Self::Transformer(config) => Some(config.text()),
            Self::Cnn(_) | Self::Mlp(_) | Self::Recommender(_) | Self::Resnet18(_) => None,
        }
    }

    /// Names of the classes, of a classifier of text that has such; else empty.
    pub fn labels(&self) -> &[String] {
        match self {
            Self::Bert(config) => &config.labels,
            _ => &[],
        }
    }

    /// Number of tokens, of a model that reads text.
    pub fn vocabulary(&self) -> Option<usize> {
        match self {
            Self::Bert(config) => Some(config.vocab_size),
            Self::Llama(config) => Some(config.vocab_size),
            Self::Transformer(config) => Some(config.vocabulary),
            _ => None,
        }
    }

    /// How a base names its tensors, of a model that can have one.
    pub(crate) fn naming(&self) -> Option<Naming> {
        match self {
            Self::Bert(_) => Some(bert::NAMING),
            Self::Llama(_) => Some(llama::NAMING),
            Self::Transformer(_) => Some(transformer::NAMING),
            _ => None,
        }
    }

    /// Number of items, of a recommender.
    pub fn items(&self) -> Option<usize> {
        match self {
            Self::Recommender(config) => Some(config.items),
            _ => None,
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn check(&self) -> Result<(), ModelError> {
        match self {
            Self::Bert(config) => config.check(),
            Self::Cnn(config) => config.check(),
            Self::Llama(config) => config.check(),
            Self::Mlp(config) => config.check(),
            Self::Recommender(config) => config.check(),
            Self::Resnet18(config) => config.check(),
            Self::Transformer(config) => config.check(),
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

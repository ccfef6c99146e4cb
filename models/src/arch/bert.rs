//! An encoder with a classification head (Devlin et al. 2018, arXiv:1810.04805): learned
//! positions, norms behind each part, GELU. all-MiniLM-L6-v2 is one.

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{INIT_STD, Settings, check_text, merged, positions, split, text_config};
use crate::data::TextConfig;
use crate::error::{ModelError, in_range};
use crate::export::Collector;
use crate::layers::{Builder, Embedding, LayerNorm, Linear, Naming};
use crate::ops::{self, Activation, Mask};

/// Settings of a [`Bert`], by Hugging Face's names where it has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BertConfig {
    /// Number of tokens, 2 to 1,048,576.
    pub vocab_size: usize,
    /// Width of the model, 1 to 16,384; a multiple of `num_attention_heads`.
    pub hidden_size: usize,
    /// Width of the feed-forward layers, 1 to 65,536.
    pub intermediate_size: usize,
    /// Number of blocks, 1 to 256.
    pub num_hidden_layers: usize,
    /// Attention heads of each block, 1 to 256.
    pub num_attention_heads: usize,
    /// Longest sequence in tokens, 1 to 65,536.
    pub max_position_embeddings: usize,
    /// Kinds of segments, of which the first is used; 1 to 16.
    pub type_vocab_size: usize,
    /// Added to the variance by norms, above 0.
    pub layer_norm_eps: f64,
    /// What becomes of a text's positions: `"mean"` or `"first"` of them.
    pub pooling: Pooling,
    /// Number of classes, 2 to 65,536.
    pub classes: usize,
    /// Names of the classes, in order; none if the data have numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Longest text in tokens, 1 to `max_position_embeddings`; what is longer is cut.
    pub sequence_len: usize,
}

/// How a text's positions become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Their mean, as sentence encoders use.
    #[default]
    Mean,
    /// The first, a token that stands for the whole.
    First,
}

impl Default for BertConfig {
    fn default() -> Self {
        Self {
            vocab_size: 257,
            hidden_size: 64,
            intermediate_size: 256,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            max_position_embeddings: 128,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            pooling: Pooling::Mean,
            classes: 2,
            labels: Vec::new(),
            sequence_len: 128,
        }
    }
}

impl BertConfig {
    /// The settings of a base, for texts of so many classes.
    ///
    /// # Errors
    /// [`ModelError::Settings`] if one is missing, or the model has something that this module
    /// does not compute.
    pub fn from_hugging_face(config: &Value, classes: usize) -> Result<Self, ModelError> {
        let settings = Settings::of("bert", config);
        let kind = settings.text("model_type")?;
        settings.require(
            kind == "bert",
            &format!("model_type is {kind:?}, known is bert"),
        )?;
        settings.require(
            settings.text("hidden_act")? == "gelu",
            "hidden_act must be gelu",
        )?;
        let kind = settings
            .text("position_embedding_type")
            .unwrap_or("absolute");
        settings.require(kind == "absolute", "positions must be absolute")?;
        let config = Self {
            vocab_size: settings.size("vocab_size")?,
            hidden_size: settings.size("hidden_size")?,
            intermediate_size: settings.size("intermediate_size")?,
            num_hidden_layers: settings.size("num_hidden_layers")?,
            num_attention_heads: settings.size("num_attention_heads")?,
            max_position_embeddings: settings.size("max_position_embeddings")?,
            type_vocab_size: settings.size("type_vocab_size")?,
            layer_norm_eps: settings.number("layer_norm_eps")?,
            pooling: Pooling::Mean,
            classes,
            labels: Vec::new(),
            sequence_len: 128.min(settings.size("max_position_embeddings")?),
        };
        config.check()?;
        Ok(config)
    }

    /// The settings as `config.json` has them.
    pub(crate) fn to_hugging_face(&self) -> Value {
        serde_json::json!({
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_act": "gelu",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "max_position_embeddings": self.max_position_embeddings,
            "type_vocab_size": self.type_vocab_size,
            "layer_norm_eps": self.layer_norm_eps,
            "torch_dtype": "float32",
        })
    }

    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let vocabulary = (2..=1 << 20).contains(&self.vocab_size);
        in_range("vocab_size", self.vocab_size, vocabulary, "2 to 1,048,576")?;
        let heads = (1..=256).contains(&self.num_attention_heads);
        in_range(
            "num_attention_heads",
            self.num_attention_heads,
            heads,
            "1 to 256",
        )?;
        let width = (1..=16_384).contains(&self.hidden_size)
            && self.hidden_size.is_multiple_of(self.num_attention_heads);
        let allowed = "a multiple of num_attention_heads, 1 to 16,384";
        in_range("hidden_size", self.hidden_size, width, allowed)?;
        let inner = (1..=65_536).contains(&self.intermediate_size);
        in_range(
            "intermediate_size",
            self.intermediate_size,
            inner,
            "1 to 65,536",
        )?;
        let layers = (1..=256).contains(&self.num_hidden_layers);
        in_range(
            "num_hidden_layers",
            self.num_hidden_layers,
            layers,
            "1 to 256",
        )?;
        let positions = (1..=65_536).contains(&self.max_position_embeddings);
        let got = self.max_position_embeddings;
        in_range("max_position_embeddings", got, positions, "1 to 65,536")?;
        let types = (1..=16).contains(&self.type_vocab_size);
        in_range("type_vocab_size", self.type_vocab_size, types, "1 to 16")?;
        let eps = self.layer_norm_eps > 0.0 && self.layer_norm_eps <= 0.1;
        in_range(
            "layer_norm_eps",
            self.layer_norm_eps,
            eps,
            "above 0, at most 0.1",
        )?;
        let classes = (2..=65_536).contains(&self.classes);
        in_range("classes", self.classes, classes, "2 to 65,536")?;
        let labels = self.labels.is_empty() || self.labels.len() == self.classes;
        let got = self.labels.len();
        in_range(
            "labels (their number)",
            got,
            labels,
            "none, or one for each class",
        )?;
        check_text(self.sequence_len, 0, self.max_position_embeddings)
    }

    /// How text becomes sequences.
    pub(crate) fn text(&self) -> TextConfig {
        text_config(self.sequence_len, 0, None)
    }
}

/// Embeddings, blocks, pooling, classifier.
#[derive(Module, Debug)]
pub struct Bert {
    words: Embedding,
    positions: Embedding,
    segments: Embedding,
    norm: LayerNorm,
    layers: Vec<Block>,
    classifier: Linear,
    #[module(skip)]
    pooling: Pooling,
}

impl Bert {
    /// The encoder, with the builder's weights. The classifier is trained also where an adapter
    /// freezes all else.
    ///
    /// # Errors
    /// [`ModelError::Config`]; [`ModelError::Base`] or [`ModelError::File`] if the base lacks a
    /// tensor or has another shape.
    pub fn new(config: &BertConfig, builder: &Builder<'_>) -> Result<Self, ModelError> {
        config.check()?;
        let builder = builder.named(NAMING);
        let width = config.hidden_size;
        let table = |path: &str, rows| builder.embedding(path, [rows, width], INIT_STD);
        let layers = (0..config.num_hidden_layers)
            .map(|layer| Block::new(config, &builder, &format!("layers.{layer}")))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            words: table("words", config.vocab_size)?,
            positions: table("positions", config.max_position_embeddings)?,
            segments: table("segments", config.type_vocab_size)?,
            norm: builder.layer_norm("norm", width, config.layer_norm_eps)?,
            layers,
            classifier: builder.head("classifier", [width, config.classes], INIT_STD)?,
            pooling: config.pooling,
        })
    }

    pub(crate) fn collect(&self, to: &mut Collector) {
        let tables = [
            ("words", &self.words),
            ("positions", &self.positions),
            ("segments", &self.segments),
        ];
        for (name, table) in tables {
            table.collect(name, to);
        }
        self.norm.collect("norm", to);
        for (layer, block) in self.layers.iter().enumerate() {
            block.collect(&format!("layers.{layer}"), to);
        }
        self.classifier.collect("classifier", to);
    }

    /// Logits of each text's classes.
    ///
    /// # Shapes
    /// - ids: `[batch, time]`, at most `max_position_embeddings` long
    /// - lengths: tokens of each text, 1 to time; what follows is padding
    /// - output: `[batch, classes]`
    pub(crate) fn forward(&self, ids: Tensor<2, Int>, lengths: &[usize]) -> Tensor<2> {
        let pooled = self.embeddings(ids, lengths);
        self.classifier.forward(pooled, Activation::Identity)
    }

    /// A vector for each text.
    ///
    /// # Shapes
    /// - ids, lengths: as for [`forward`](Self::forward)
    /// - output: `[batch, hidden_size]`
    pub(crate) fn embeddings(&self, ids: Tensor<2, Int>, lengths: &[usize]) -> Tensor<2> {
        let hidden = self.hidden(ids, lengths);
        let [batch, time, width] = hidden.dims();
        match self.pooling {
            Pooling::First => hidden.narrow(1, 0, 1).reshape([batch, width]),
            Pooling::Mean => {
                let weights = lengths.iter().flat_map(|&length| {
                    (0..time).map(move |at| {
                        if at < length {
                            1.0 / length as f32
                        } else {
                            0.0
                        }
                    })
                });
                let weights = TensorData::new(weights.collect::<Vec<f32>>(), [batch, 1, time]);
                let weights = Tensor::<3>::from_data(weights, &hidden.device());
                weights.matmul(hidden).reshape([batch, width])
            }
        }
    }

    fn hidden(&self, ids: Tensor<2, Int>, lengths: &[usize]) -> Tensor<3> {
        let at = positions(&ids);
        let segments = at.zeros_like();
        let context = self.positions.forward(at) + self.segments.forward(segments);
        let x = self.words.forward(ids) + context;
        let dims = x.dims();
        let full = lengths.iter().all(|&length| length == dims[1]);
        let mask = if full {
            Mask::None
        } else {
            Mask::Lengths(lengths)
        };
        let x = self.norm.forward(merged(x));
        let x = self
            .layers
            .iter()
            .fold(x, |x, layer| layer.forward(x, dims, mask));
        split(x, dims)
    }
}

/// `norm(x + attention(x))`, then `norm(x + feed_forward(x))`.
#[derive(Module, Debug)]
struct Block {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    norm: LayerNorm,
    #[module(skip)]
    heads: usize,
}

impl Block {
    fn new(config: &BertConfig, builder: &Builder<'_>, path: &str) -> Result<Self, ModelError> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let dense =
            |name: &str, shape| builder.linear(&format!("{path}.{name}"), shape, true, INIT_STD);
        let norm = |name: &str| {
            builder.layer_norm(&format!("{path}.{name}"), width, config.layer_norm_eps)
        };
        Ok(Self {
            query: dense("query", [width, width])?,
            key: dense("key", [width, width])?,
            value: dense("value", [width, width])?,
            attention_output: dense("attention_output", [width, width])?,
            attention_norm: norm("attention_norm")?,
            intermediate: dense("intermediate", [width, inner])?,
            output: dense("output", [inner, width])?,
            norm: norm("norm")?,
            heads: config.num_attention_heads,
        })
    }

    fn collect(&self, path: &str, to: &mut Collector) {
        let layers = [
            ("query", &self.query),
            ("key", &self.key),
            ("value", &self.value),
            ("attention_output", &self.attention_output),
            ("intermediate", &self.intermediate),
            ("output", &self.output),
        ];
        for (name, layer) in layers {
            layer.collect(&format!("{path}.{name}"), to);
        }
        self.attention_norm
            .collect(&format!("{path}.attention_norm"), to);
        self.norm.collect(&format!("{path}.norm"), to);
    }

    fn forward(&self, x: Tensor<2>, dims: [usize; 3], mask: Mask<'_>) -> Tensor<2> {
        let project = |layer: &Linear| split(layer.forward(x.clone(), Activation::Identity), dims);
        let (q, k, v) = (
            project(&self.query),
            project(&self.key),
            project(&self.value),
        );
        let y = merged(ops::attention(q, k, v, self.heads, self.heads, mask));
        let y = self.attention_output.forward(y, Activation::Identity);
        let x = self.attention_norm.forward(x + y);
        let y = self.intermediate.forward(x.clone(), Activation::Gelu);
        let y = self.output.forward(y, Activation::Identity);
        self.norm.forward(x + y)
    }
}

/// The names of a [`Bert`]'s tensors in a base.
pub(crate) const NAMING: Naming = Naming {
    to_hugging_face,
    prefix: "bert.",
    class_prefix: "",
    outputs_first: true,
    targets: &["query", "value"],
};

fn to_hugging_face(path: &str) -> String {
    if let Some(rest) = path.strip_prefix("layers.") {
        let Some((layer, rest)) = rest.split_once('.') else {
            return path.to_owned();
        };
        let (part, kind) = rest.split_once('.').unwrap_or((rest, ""));
        let part = match part {
            "query" => "attention.self.query",
            "key" => "attention.self.key",
            "value" => "attention.self.value",
            "attention_output" => "attention.output.dense",
            "attention_norm" => "attention.output.LayerNorm",
            "intermediate" => "intermediate.dense",
            "output" => "output.dense",
            "norm" => "output.LayerNorm",
            other => other,
        };
        let dot = if kind.is_empty() { "" } else { "." };
        return format!("encoder.layer.{layer}.{part}{dot}{kind}");
    }
    for (ours, theirs) in [
        ("words", "embeddings.word_embeddings"),
        ("positions", "embeddings.position_embeddings"),
        ("segments", "embeddings.token_type_embeddings"),
        ("norm", "embeddings.LayerNorm"),
    ] {
        if let Some(rest) = path.strip_prefix(ours) {
            return format!("{theirs}{rest}");
        }
    }
    path.to_owned()
}

//! A small decoder to be trained from scratch, of GPT-2's form (Radford et al. 2019): learned
//! positions, norms before each part, GELU, and the embedding as the head.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{INIT_STD, Settings, check_text, merged, positions, split, text_config};
use crate::data::{ChatTemplate, TextConfig};
use crate::error::{ModelError, in_range};
use crate::export::Collector;
use crate::layers::{Builder, Embedding, LayerNorm, Linear, Naming};
use crate::ops::{self, Activation, Mask};

/// Settings of a [`Transformer`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransformerConfig {
    /// Number of tokens, 2 to 1,048,576; 257 for bytes, which a model without a base reads.
    pub vocabulary: usize,
    /// Longest sequence in tokens, 1 to 65,536.
    pub sequence_len: usize,
    /// Width of the model, 1 to 16,384; a multiple of `heads`.
    pub width: usize,
    /// Number of blocks, 1 to 256.
    pub layers: usize,
    /// Attention heads of each block, 1 to 256.
    pub heads: usize,
    /// Positions from one sequence of a long text to the next, 1 to `sequence_len`; 0 means
    /// `sequence_len`.
    pub stride: usize,
    /// How conversations are written: `"chatml"`, `"llama-3"` or `"plain"`; by the tokenizer's
    /// special tokens if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<ChatTemplate>,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            vocabulary: 257,
            sequence_len: 128,
            width: 128,
            layers: 4,
            heads: 4,
            stride: 0,
            template: None,
        }
    }
}

impl TransformerConfig {
    /// The settings of a base.
    ///
    /// # Errors
    /// [`ModelError::Settings`] if one is missing, or the model has something that this module
    /// does not compute.
    pub fn from_hugging_face(config: &Value) -> Result<Self, ModelError> {
        let settings = Settings::of("transformer", config);
        let kind = settings.text("model_type")?;
        settings.require(
            kind == "gpt2",
            &format!("model_type is {kind:?}, known is gpt2"),
        )?;
        let activation = settings.text("activation_function");
        settings.require(
            activation.is_ok_and(|name| ["gelu_new", "gelu_pytorch_tanh"].contains(&name)),
            "activation_function must be gelu_new",
        )?;
        let width = settings.size("n_embd")?;
        let inner = settings.size("n_inner").unwrap_or(4 * width);
        settings.require(inner == 4 * width, "n_inner must be four times n_embd")?;
        let config = Self {
            vocabulary: settings.size("vocab_size")?,
            sequence_len: settings.size("n_positions")?,
            width,
            layers: settings.size("n_layer")?,
            heads: settings.size("n_head")?,
            ..Self::default()
        };
        config.check()?;
        Ok(config)
    }

    /// The settings as `config.json` has them.
    pub(crate) fn to_hugging_face(&self) -> Value {
        serde_json::json!({
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "activation_function": "gelu_new",
            "layer_norm_epsilon": EPS,
            "vocab_size": self.vocabulary,
            "n_positions": self.sequence_len,
            "n_embd": self.width,
            "n_layer": self.layers,
            "n_head": self.heads,
            "tie_word_embeddings": true,
            "torch_dtype": "float32",
        })
    }

    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let vocabulary = (2..=1 << 20).contains(&self.vocabulary);
        in_range("vocabulary", self.vocabulary, vocabulary, "2 to 1,048,576")?;
        let positions = (1..=65_536).contains(&self.sequence_len);
        in_range("sequence_len", self.sequence_len, positions, "1 to 65,536")?;
        let layers = (1..=256).contains(&self.layers);
        in_range("layers", self.layers, layers, "1 to 256")?;
        let heads = (1..=256).contains(&self.heads);
        in_range("heads", self.heads, heads, "1 to 256")?;
        let width = (1..=16_384).contains(&self.width) && self.width.is_multiple_of(self.heads);
        in_range(
            "width",
            self.width,
            width,
            "a multiple of heads, 1 to 16,384",
        )?;
        check_text(self.sequence_len, self.stride, self.sequence_len)
    }

    /// How text becomes sequences.
    pub(crate) fn text(&self) -> TextConfig {
        text_config(self.sequence_len, self.stride, self.template)
    }
}

/// Embeddings, blocks, norm. Parameters have GPT-2's names without `transformer.` before them.
#[derive(Module, Debug)]
pub struct Transformer {
    wte: Embedding,
    wpe: Embedding,
    h: Vec<Block>,
    ln_f: LayerNorm,
}

impl Transformer {
    /// The decoder, with the builder's weights.
    ///
    /// # Errors
    /// [`ModelError::Config`]; [`ModelError::Base`] or [`ModelError::File`] if the base lacks a
    /// tensor or has another shape.
    pub fn new(config: &TransformerConfig, builder: &Builder<'_>) -> Result<Self, ModelError> {
        config.check()?;
        let builder = builder.named(NAMING);
        let width = config.width;
        let blocks = (0..config.layers)
            .map(|layer| Block::new(config, &builder, &format!("h.{layer}")))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            wte: builder.embedding("wte", [config.vocabulary, width], INIT_STD)?,
            wpe: builder.embedding("wpe", [config.sequence_len, width], INIT_STD)?,
            h: blocks,
            ln_f: builder.layer_norm("ln_f", width, EPS)?,
        })
    }

    pub(crate) fn collect(&self, to: &mut Collector) {
        self.wte.collect("wte", to);
        self.wpe.collect("wpe", to);
        for (layer, block) in self.h.iter().enumerate() {
            block.collect(&format!("h.{layer}"), to);
        }
        self.ln_f.collect("ln_f", to);
    }

    /// What the last block gives for each position, normalized.
    ///
    /// # Shapes
    /// - ids: `[batch, time]`, at most `sequence_len` long
    /// - output: `[batch, time, width]`
    pub(crate) fn hidden(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let positions = self.wpe.forward(positions(&ids));
        let x = self.wte.forward(ids) + positions;
        let dims = x.dims();
        let x = self
            .h
            .iter()
            .fold(merged(x), |x, block| block.forward(x, dims));
        split(self.ln_f.forward(x), dims)
    }

    /// Scores of the next token.
    ///
    /// # Shapes
    /// - hidden: `[rows, width]`
    /// - output: `[rows, vocabulary]`
    pub(crate) fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.wte.logits(hidden)
    }

    /// The head's weights, and whether outputs come first, if [`logits`](Self::logits) is nothing
    /// but a product with them.
    pub(crate) fn head(&self, autodiff: bool) -> Option<(Tensor<2>, bool)> {
        Some((self.wte.head(autodiff)?, true))
    }
}

/// `x + attention(norm(x))`, then `x + feed_forward(norm(x))`.
#[derive(Module, Debug)]
struct Block {
    ln_1: LayerNorm,
    attn: Attention,
    ln_2: LayerNorm,
    mlp: FeedForward,
}

impl Block {
    fn new(
        config: &TransformerConfig,
        builder: &Builder<'_>,
        path: &str,
    ) -> Result<Self, ModelError> {
        let width = config.width;
        let residual_std = INIT_STD / (2.0 * config.layers as f64).sqrt();
        let dense =
            |name: &str, shape, std| builder.linear(&format!("{path}.{name}"), shape, true, std);
        let norm = |name: &str| builder.layer_norm(&format!("{path}.{name}"), width, EPS);
        Ok(Self {
            ln_1: norm("ln_1")?,
            attn: Attention {
                c_attn: dense("attn.c_attn", [width, 3 * width], INIT_STD)?,
                c_proj: dense("attn.c_proj", [width, width], residual_std)?,
                heads: config.heads,
            },
            ln_2: norm("ln_2")?,
            mlp: FeedForward {
                c_fc: dense("mlp.c_fc", [width, 4 * width], INIT_STD)?,
                c_proj: dense("mlp.c_proj", [4 * width, width], residual_std)?,
            },
        })
    }

    fn collect(&self, path: &str, to: &mut Collector) {
        self.ln_1.collect(&format!("{path}.ln_1"), to);
        self.ln_2.collect(&format!("{path}.ln_2"), to);
        let layers = [
            ("attn.c_attn", &self.attn.c_attn),
            ("attn.c_proj", &self.attn.c_proj),
            ("mlp.c_fc", &self.mlp.c_fc),
            ("mlp.c_proj", &self.mlp.c_proj),
        ];
        for (name, layer) in layers {
            layer.collect(&format!("{path}.{name}"), to);
        }
    }

    fn forward(&self, x: Tensor<2>, dims: [usize; 3]) -> Tensor<2> {
        let x = x.clone() + self.attn.forward(self.ln_1.forward(x), dims);
        x.clone() + self.mlp.forward(self.ln_2.forward(x))
    }
}

#[derive(Module, Debug)]
struct Attention {
    /// Queries, keys and values at once.
    c_attn: Linear,
    c_proj: Linear,
    #[module(skip)]
    heads: usize,
}

impl Attention {
    fn forward(&self, x: Tensor<2>, [batch, time, width]: [usize; 3]) -> Tensor<2> {
        let qkv = self.c_attn.forward(x, Activation::Identity);
        let y = ops::attention_of(
            split(qkv, [batch, time, 3 * width]),
            self.heads,
            self.heads,
            Mask::Causal,
        );
        self.c_proj.forward(merged(y), Activation::Identity)
    }
}

#[derive(Module, Debug)]
struct FeedForward {
    c_fc: Linear,
    c_proj: Linear,
}

impl FeedForward {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = self.c_fc.forward(x, Activation::GeluTanh);
        self.c_proj.forward(x, Activation::Identity)
    }
}

/// Added to the variance by norms.
const EPS: f64 = 1e-5;

/// The names of a [`Transformer`]'s tensors in a base; its dense weights are `[inputs, outputs]`.
pub(crate) const NAMING: Naming = Naming {
    to_hugging_face: str::to_owned,
    prefix: "transformer.",
    class_prefix: "transformer.",
    outputs_first: false,
    targets: &["c_attn"],
};

//! A decoder of the Llama family: rotary positions, grouped-query attention, normalization by the
//! root mean square, gated feed-forward layers (Touvron et al. 2023, arXiv:2307.09288). Llama,
//! Mistral, SmolLM and Qwen2 are such.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{INIT_STD, SEQUENCE_LEN, Settings, check_text, merged, split, text_config};
use crate::data::{ChatTemplate, TextConfig};
use crate::error::{ModelError, in_range};
use crate::export::Collector;
use crate::layers::{Builder, Embedding, Linear, Naming, RmsNorm};
use crate::ops::{self, Activation, Mask};
use crate::rope::{RopeScaling, frequencies};

/// Settings of a [`Llama`], by Hugging Face's names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LlamaConfig {
    /// Number of tokens, 2 to 1,048,576.
    pub vocab_size: usize,
    /// Width of the model, 2 to 65,536; a multiple of `num_attention_heads` unless `head_dim` is
    /// set.
    pub hidden_size: usize,
    /// Width of the feed-forward layers, 1 to 262,144.
    pub intermediate_size: usize,
    /// Number of blocks, 1 to 512.
    pub num_hidden_layers: usize,
    /// Heads of queries, 1 to 1,024.
    pub num_attention_heads: usize,
    /// Heads of keys and values; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Values of a head, even; 0 means `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Longest sequence, 1 to 1,048,576 tokens.
    pub max_position_embeddings: usize,
    /// Base of the rotary angles, above 0.
    pub rope_theta: f64,
    /// How the angles are stretched for longer texts; not at all if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_scaling: Option<RopeScaling>,
    /// Added to the mean of squares, above 0.
    pub rms_norm_eps: f64,
    /// Whether the embedding serves as the head, too.
    pub tie_word_embeddings: bool,
    /// Whether queries, keys and values have biases, as in Qwen2.
    pub attention_bias: bool,
    /// Tokens of a sequence in training and evaluation, 1 to `max_position_embeddings`.
    pub sequence_len: usize,
    /// Positions from one sequence of a long text to the next, 1 to `sequence_len`; 0 means
    /// `sequence_len`.
    pub stride: usize,
    /// How conversations are written: `"chatml"`, `"llama-3"` or `"plain"`; by the tokenizer's
    /// special tokens if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<ChatTemplate>,
}

impl Default for LlamaConfig {
    fn default() -> Self {
        Self {
            vocab_size: 257,
            hidden_size: 64,
            intermediate_size: 192,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 0,
            max_position_embeddings: 256,
            rope_theta: 10_000.0,
            rope_scaling: None,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: true,
            attention_bias: false,
            sequence_len: 128,
            stride: 0,
            template: None,
        }
    }
}

impl LlamaConfig {
    /// The settings of a base.
    ///
    /// # Errors
    /// [`ModelError::Settings`] if one is missing, or the model has something that this module
    /// does not compute, such as a sliding window.
    pub fn from_hugging_face(config: &Value) -> Result<Self, ModelError> {
        let settings = Settings::of("llama", config);
        let kind = settings.text("model_type")?;
        settings.require(
            ["llama", "mistral", "qwen2"].contains(&kind),
            &format!("model_type is {kind:?}, known are llama, mistral and qwen2"),
        )?;
        settings.require(
            settings.text("hidden_act")? == "silu",
            "hidden_act must be silu",
        )?;
        let rope = config.get("rope_parameters");
        let scaling =
            RopeScaling::from_hugging_face(config).map_err(|reason| settings.refused(reason))?;
        settings.require(
            !settings.flag("mlp_bias"),
            "biases of feed-forward layers are not computed here",
        )?;
        let window = match kind {
            "qwen2" => settings.flag("use_sliding_window"),
            _ => config.get("sliding_window").is_some_and(|w| !w.is_null()),
        };
        settings.require(!window, "a sliding window is not computed here")?;
        let llama_bias = kind == "llama" && settings.flag("attention_bias");
        settings.require(
            !llama_bias,
            "a bias of the attention's output is not computed here",
        )?;
        let heads = settings.size("num_attention_heads")?;
        let theta = rope
            .and_then(|rope| rope.get("rope_theta"))
            .or(config.get("rope_theta"));
        let config = Self {
            vocab_size: settings.size("vocab_size")?,
            hidden_size: settings.size("hidden_size")?,
            intermediate_size: settings.size("intermediate_size")?,
            num_hidden_layers: settings.size("num_hidden_layers")?,
            num_attention_heads: heads,
            num_key_value_heads: settings.size("num_key_value_heads").unwrap_or(heads),
            head_dim: settings.size("head_dim").unwrap_or(0),
            max_position_embeddings: settings.size("max_position_embeddings")?,
            rope_theta: theta.and_then(Value::as_f64).unwrap_or(10_000.0),
            rope_scaling: scaling,
            rms_norm_eps: settings.number("rms_norm_eps")?,
            tie_word_embeddings: settings.flag("tie_word_embeddings"),
            attention_bias: kind == "qwen2",
            sequence_len: SEQUENCE_LEN.min(settings.size("max_position_embeddings")?),
            stride: 0,
            template: None,
        };
        config.check()?;
        Ok(config)
    }

    /// The settings as `config.json` has them.
    pub(crate) fn to_hugging_face(&self) -> Value {
        let (kind, class) = if self.attention_bias {
            ("qwen2", "Qwen2ForCausalLM")
        } else {
            ("llama", "LlamaForCausalLM")
        };
        let mut settings = serde_json::json!({
            "architectures": [class],
            "model_type": kind,
            "hidden_act": "silu",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.per_head(),
            "max_position_embeddings": self.max_position_embeddings,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_word_embeddings,
            "attention_bias": self.attention_bias,
            "torch_dtype": "float32",
        });
        if let Some(scaling) = self.rope_scaling {
            settings["rope_scaling"] = scaling.to_hugging_face();
        }
        settings
    }

    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let vocabulary = (2..=1 << 20).contains(&self.vocab_size);
        in_range("vocab_size", self.vocab_size, vocabulary, "2 to 1,048,576")?;
        let width = (2..=65_536).contains(&self.hidden_size);
        in_range("hidden_size", self.hidden_size, width, "2 to 65,536")?;
        let inner = (1..=262_144).contains(&self.intermediate_size);
        let got = self.intermediate_size;
        in_range("intermediate_size", got, inner, "1 to 262,144")?;
        let layers = (1..=512).contains(&self.num_hidden_layers);
        in_range(
            "num_hidden_layers",
            self.num_hidden_layers,
            layers,
            "1 to 512",
        )?;
        let heads = (1..=1024).contains(&self.num_attention_heads)
            && (self.head_dim > 0 || self.hidden_size.is_multiple_of(self.num_attention_heads));
        let got = self.num_attention_heads;
        in_range(
            "num_attention_heads",
            got,
            heads,
            "1 to 1,024, a divisor of hidden_size",
        )?;
        let shared = self.num_key_value_heads > 0
            && self
                .num_attention_heads
                .is_multiple_of(self.num_key_value_heads);
        let got = self.num_key_value_heads;
        in_range(
            "num_key_value_heads",
            got,
            shared,
            "a divisor of num_attention_heads",
        )?;
        let even = (2..=4096).contains(&self.per_head()) && self.per_head().is_multiple_of(2);
        in_range("head_dim", self.per_head(), even, "even, 2 to 4,096")?;
        let positions = (1..=1 << 20).contains(&self.max_position_embeddings);
        let got = self.max_position_embeddings;
        in_range("max_position_embeddings", got, positions, "1 to 1,048,576")?;
        let theta = self.rope_theta >= 1.0 && self.rope_theta <= 1e12;
        in_range("rope_theta", self.rope_theta, theta, "1 to 1e12")?;
        self.rope_scaling
            .as_ref()
            .map_or(Ok(()), RopeScaling::check)?;
        let eps = self.rms_norm_eps > 0.0 && self.rms_norm_eps <= 0.1;
        in_range(
            "rms_norm_eps",
            self.rms_norm_eps,
            eps,
            "above 0, at most 0.1",
        )?;
        check_text(self.sequence_len, self.stride, self.max_position_embeddings)
    }

    /// How text becomes sequences.
    pub(crate) fn text(&self) -> TextConfig {
        text_config(self.sequence_len, self.stride, self.template)
    }

    fn frequencies(&self) -> Arc<[f64]> {
        frequencies(self.rope_theta, self.per_head() / 2, self.rope_scaling).into()
    }

    fn per_head(&self) -> usize {
        match self.head_dim {
            0 => self.hidden_size / self.num_attention_heads,
            head_dim => head_dim,
        }
    }
}

/// Embedding, blocks, norm, head. Parameters have Hugging Face's names without `model.` before
/// them; dense weights are `[inputs, outputs]`.
#[derive(Module, Debug)]
pub struct Llama {
    embed_tokens: Embedding,
    layers: Vec<Block>,
    norm: RmsNorm,
    lm_head: Option<Linear>,
}

impl Llama {
    /// The decoder, with the builder's weights.
    ///
    /// # Errors
    /// [`ModelError::Config`]; [`ModelError::Base`] or [`ModelError::File`] if the base lacks a
    /// tensor or has another shape.
    pub fn new(config: &LlamaConfig, builder: &Builder<'_>) -> Result<Self, ModelError> {
        config.check()?;
        let builder = builder.named(NAMING);
        let width = config.hidden_size;
        let shape = [config.vocab_size, width];
        let layers = (0..config.num_hidden_layers)
            .map(|layer| Block::new(config, &builder, &format!("layers.{layer}")))
            .collect::<Result<_, _>>()?;
        let head = || builder.linear("lm_head", [width, config.vocab_size], false, INIT_STD);
        Ok(Self {
            embed_tokens: builder.embedding("embed_tokens", shape, INIT_STD)?,
            layers,
            norm: builder.rms_norm("norm", width, config.rms_norm_eps)?,
            lm_head: (!config.tie_word_embeddings).then(head).transpose()?,
        })
    }

    pub(crate) fn collect(&self, to: &mut Collector) {
        self.embed_tokens.collect("embed_tokens", to);
        for (layer, block) in self.layers.iter().enumerate() {
            block.collect(&format!("layers.{layer}"), to);
        }
        self.norm.collect("norm", to);
        if let Some(head) = &self.lm_head {
            head.collect("lm_head", to);
        }
    }

    /// What the last block gives for each position, normalized.
    ///
    /// # Shapes
    /// - ids: `[batch, time]`
    /// - output: `[batch, time, hidden_size]`
    pub(crate) fn hidden(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        let x = self.embed_tokens.forward(ids);
        let dims = x.dims();
        let x = self
            .layers
            .iter()
            .fold(merged(x), |x, layer| layer.forward(x, dims));
        split(self.norm.forward(x), dims)
    }

    /// Scores of the next token.
    ///
    /// # Shapes
    /// - hidden: `[rows, hidden_size]`
    /// - output: `[rows, vocab_size]`
    pub(crate) fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => head.forward(hidden, Activation::Identity),
            None => self.embed_tokens.logits(hidden),
        }
    }

    /// The head's weights, and whether outputs come first, if [`logits`](Self::logits) is nothing
    /// but a product with them.
    pub(crate) fn head(&self, autodiff: bool) -> Option<(Tensor<2>, bool)> {
        match &self.lm_head {
            Some(head) => Some((head.head(autodiff)?, false)),
            None => Some((self.embed_tokens.head(autodiff)?, true)),
        }
    }
}

/// `x + attention(norm(x))`, then `x + feed_forward(norm(x))`.
#[derive(Module, Debug)]
struct Block {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: FeedForward,
}

impl Block {
    fn new(config: &LlamaConfig, builder: &Builder<'_>, path: &str) -> Result<Self, ModelError> {
        let norm = |name: &str| {
            let path = format!("{path}.{name}");
            builder.rms_norm(&path, config.hidden_size, config.rms_norm_eps)
        };
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            self_attn: Attention::new(config, builder, &format!("{path}.self_attn"))?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp: FeedForward::new(config, builder, &format!("{path}.mlp"))?,
        })
    }

    fn collect(&self, path: &str, to: &mut Collector) {
        let norms = [
            ("input_layernorm", &self.input_layernorm),
            ("post_attention_layernorm", &self.post_attention_layernorm),
        ];
        for (name, norm) in norms {
            norm.collect(&format!("{path}.{name}"), to);
        }
        let (attention, feed_forward) = (&self.self_attn, &self.mlp);
        let layers = [
            ("self_attn.q_proj", &attention.q_proj),
            ("self_attn.k_proj", &attention.k_proj),
            ("self_attn.v_proj", &attention.v_proj),
            ("self_attn.o_proj", &attention.o_proj),
            ("mlp.gate_proj", &feed_forward.gate_proj),
            ("mlp.up_proj", &feed_forward.up_proj),
            ("mlp.down_proj", &feed_forward.down_proj),
        ];
        for (name, layer) in layers {
            layer.collect(&format!("{path}.{name}"), to);
        }
    }

    fn forward(&self, x: Tensor<2>, dims: [usize; 3]) -> Tensor<2> {
        let x = x.clone()
            + self
                .self_attn
                .forward(self.input_layernorm.forward(x), dims);
        x.clone() + self.mlp.forward(self.post_attention_layernorm.forward(x))
    }
}

#[derive(Module, Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    heads_kv: usize,
    #[module(skip)]
    /// Of the rotary angles, one for each pair of a head's values.
    frequencies: Arc<[f64]>,
}

impl Attention {
    fn new(config: &LlamaConfig, builder: &Builder<'_>, path: &str) -> Result<Self, ModelError> {
        let width = config.hidden_size;
        let wide = config.num_attention_heads * config.per_head();
        let narrow = config.num_key_value_heads * config.per_head();
        let dense = |name: &str, shape, bias, std| {
            builder.linear(&format!("{path}.{name}"), shape, bias, std)
        };
        let bias = config.attention_bias;
        Ok(Self {
            q_proj: dense("q_proj", [width, wide], bias, INIT_STD)?,
            k_proj: dense("k_proj", [width, narrow], bias, INIT_STD)?,
            v_proj: dense("v_proj", [width, narrow], bias, INIT_STD)?,
            o_proj: dense("o_proj", [wide, width], false, config.residual_std())?,
            heads: config.num_attention_heads,
            heads_kv: config.num_key_value_heads,
            frequencies: config.frequencies(),
        })
    }

    fn forward(&self, x: Tensor<2>, [batch, time, _]: [usize; 3]) -> Tensor<2> {
        let project = |layer: &Linear, x| {
            let y = layer.forward(x, Activation::Identity);
            let [_, width] = y.dims();
            split(y, [batch, time, width])
        };
        let rotate = |x, heads| ops::rope(x, heads, self.frequencies.clone());
        let q = rotate(project(&self.q_proj, x.clone()), self.heads);
        let k = rotate(project(&self.k_proj, x.clone()), self.heads_kv);
        let v = project(&self.v_proj, x);
        let y = ops::attention(q, k, v, self.heads, self.heads_kv, Mask::Causal);
        self.o_proj.forward(merged(y), Activation::Identity)
    }
}

/// `down(silu(gate(x)) * up(x))`.
#[derive(Module, Debug)]
struct FeedForward {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl FeedForward {
    fn new(config: &LlamaConfig, builder: &Builder<'_>, path: &str) -> Result<Self, ModelError> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let dense =
            |name: &str, shape, std| builder.linear(&format!("{path}.{name}"), shape, false, std);
        Ok(Self {
            gate_proj: dense("gate_proj", [width, inner], INIT_STD)?,
            up_proj: dense("up_proj", [width, inner], INIT_STD)?,
            down_proj: dense("down_proj", [inner, width], config.residual_std())?,
        })
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gate = self.gate_proj.forward(x.clone(), Activation::Identity);
        let up = self.up_proj.forward(x, Activation::Identity);
        self.down_proj
            .forward(ops::swiglu(gate, up), Activation::Identity)
    }
}

impl LlamaConfig {
    /// Smaller for layers that add to the residual stream (Radford et al. 2019).
    fn residual_std(&self) -> f64 {
        INIT_STD / (2.0 * self.num_hidden_layers as f64).sqrt()
    }
}

/// The names of a [`Llama`]'s tensors in a base.
pub(crate) const NAMING: Naming = Naming {
    to_hugging_face: |path| match path.starts_with("lm_head") {
        true => path.to_owned(),
        false => format!("model.{path}"),
    },
    prefix: "",
    class_prefix: "",
    outputs_first: true,
    targets: &["q_proj", "v_proj"],
};

//! Tensors by Hugging Face's names and in its order of rows.

use super::super::Stored;
use super::Head;

/// The model families whose GGUF files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Rows of queries and keys are reordered in these files, so that the values that a rotation
    /// pairs lie side by side.
    Llama {
        heads: usize,
        heads_kv: usize,
    },
    Qwen2,
}

impl Family {
    pub(super) fn of(head: &Head) -> Result<Self, String> {
        let name = head
            .text("general.architecture")
            .ok_or("general.architecture is missing")?;
        let heads = |key: &str| {
            head.integer(key)
                .and_then(|heads| usize::try_from(heads).ok())
                .filter(|heads| (1..=HEADS_MAX).contains(heads))
        };
        match name {
            "llama" => {
                let count = heads("llama.attention.head_count")
                    .ok_or("llama.attention.head_count is missing or out of range")?;
                Ok(Self::Llama {
                    heads: count,
                    heads_kv: heads("llama.attention.head_count_kv").unwrap_or(count),
                })
            }
            "qwen2" => Ok(Self::Qwen2),
            other => Err(format!(
                "architecture \"{other}\", GGUF files are read of llama and qwen2"
            )),
        }
    }

    /// The tensor with its rows in Hugging Face's order.
    pub(super) fn arrange(self, name: &str, stored: Stored) -> Result<Stored, String> {
        match self {
            Self::Llama { heads, .. } if name.contains(".q_proj.") => stored.interleaved(heads),
            Self::Llama { heads_kv, .. } if name.contains(".k_proj.") => {
                stored.interleaved(heads_kv)
            }
            _ => Ok(stored),
        }
    }
}

/// By how much each rotary angle is divided. Hugging Face has a setting in place of it.
pub(crate) const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// Hugging Face's name of a tensor, or none for one that the model does not need.
pub(super) fn to_hugging_face(name: &str) -> Option<String> {
    let whole = match name {
        "token_embd.weight" => Some("model.embed_tokens.weight"),
        "output_norm.weight" => Some("model.norm.weight"),
        "output.weight" => Some("lm_head.weight"),
        ROPE_DIVISORS => Some(ROPE_DIVISORS),
        _ => None,
    };
    if let Some(whole) = whole {
        return Some(whole.to_owned());
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let (part, kind) = rest.rsplit_once('.')?;
    let part = match part {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    };
    matches!(kind, "weight" | "bias").then(|| format!("model.layers.{layer}.{part}.{kind}"))
}

/// Most heads of an attention layer.
const HEADS_MAX: usize = 1 << 10;

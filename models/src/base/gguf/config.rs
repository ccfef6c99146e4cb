//! The model's settings as Hugging Face's `config.json` has them.

use serde_json::{Map, Value, json};

use super::Head;

/// Settings by Hugging Face's names. What is missing is left out: the model's own reading of its
/// settings says so.
pub(crate) fn to_hugging_face(head: &Head) -> Value {
    let family = head.text("general.architecture").unwrap_or_default();
    let key = |name: &str| format!("{family}.{name}");
    let class = match family {
        "qwen2" => "Qwen2ForCausalLM",
        _ => "LlamaForCausalLM",
    };
    let mut config = Map::new();
    config.insert("architectures".into(), json!([class]));
    config.insert("model_type".into(), json!(family));
    config.insert("hidden_act".into(), json!("silu"));
    let tied = !head.tensors.contains_key("lm_head.weight");
    config.insert("tie_word_embeddings".into(), json!(tied));
    for (ours, theirs) in INTEGERS {
        if let Some(value) = head.integer(&key(ours)) {
            config.insert((*theirs).into(), json!(value));
        }
    }
    // A number of 32 bits, written in the file; its shortest decimal form is what was meant.
    let float = |name: &str| {
        head.float(&key(name))
            .and_then(|value| (value as f32).to_string().parse::<f64>().ok())
    };
    if let Some(value) = float("attention.layer_norm_rms_epsilon") {
        config.insert("rms_norm_eps".into(), json!(value));
    }
    let theta = float("rope.freq_base").unwrap_or(10_000.0);
    config.insert("rope_theta".into(), json!(theta));
    if let Some(kind) = head
        .text(&key("rope.scaling.type"))
        .filter(|kind| *kind != "none")
    {
        let factor = float("rope.scaling.factor");
        let scaling = json!({ "rope_type": kind, "factor": factor });
        config.insert("rope_scaling".into(), scaling);
    }
    let biased = head
        .tensors
        .keys()
        .any(|name| name.ends_with("q_proj.bias"));
    config.insert("attention_bias".into(), json!(biased));
    if let Some(embedding) = head.tensors.get("model.embed_tokens.weight") {
        config.insert("vocab_size".into(), json!(embedding.shape[0]));
    }
    for (ours, theirs) in TOKENS {
        if let Some(value) = head.integer(ours) {
            config.insert((*theirs).into(), json!(value));
        }
    }
    Value::Object(config)
}

const INTEGERS: &[(&str, &str)] = &[
    ("embedding_length", "hidden_size"),
    ("feed_forward_length", "intermediate_size"),
    ("block_count", "num_hidden_layers"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("attention.key_length", "head_dim"),
    ("context_length", "max_position_embeddings"),
];

const TOKENS: &[(&str, &str)] = &[
    ("tokenizer.ggml.bos_token_id", "bos_token_id"),
    ("tokenizer.ggml.eos_token_id", "eos_token_id"),
    ("tokenizer.ggml.padding_token_id", "pad_token_id"),
];

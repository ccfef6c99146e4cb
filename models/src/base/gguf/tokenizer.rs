//! The tokenizer inside a GGUF file: byte-level BPE from its vocabulary and merges.

use serde_json::{Map, Value, json};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::{Head, Metadata};

/// The tokenizer of a file.
///
/// # Errors
/// What is missing or not known.
pub(crate) fn tokenizer(head: &Head) -> Result<Tokenizer, String> {
    match head.text("tokenizer.ggml.model") {
        Some("gpt2") => {}
        Some(other) => {
            return Err(format!(
                "tokenizer of kind \"{other}\": only byte-level BPE (\"gpt2\") is read from GGUF; \
                 use the model's safetensors folder"
            ));
        }
        None => return Err("tokenizer.ggml.model is missing".into()),
    }
    let tokens = head
        .texts("tokenizer.ggml.tokens")
        .ok_or("tokenizer.ggml.tokens is missing")?;
    let merges = head
        .texts("tokenizer.ggml.merges")
        .ok_or("tokenizer.ggml.merges is missing")?;
    let vocabulary = (0u32..).zip(tokens).map(|(id, token)| (token.clone(), id));
    let merges = merges
        .iter()
        .map(|merge| {
            // A token may begin with a space only if written as its stand-in.
            let (left, right) = merge.split_once(' ').ok_or("a merge without a space")?;
            Ok((left.to_owned(), right.to_owned()))
        })
        .collect::<Result<Vec<_>, &str>>()?;
    let bpe = BPE::builder()
        .vocab_and_merges(vocabulary.collect::<Vocab>(), merges)
        .build()
        .map_err(|error| error.to_string())?;
    let mut tokenizer = Tokenizer::new(bpe);
    let name = head.text("tokenizer.ggml.pre").unwrap_or("default");
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer(name)?));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let special = special(head, tokens);
    tokenizer.add_special_tokens(&special);
    Ok(tokenizer)
}

/// What `tokenizer_config.json` would say.
pub(crate) fn tokenizer_config(head: &Head) -> Value {
    let mut config = Map::new();
    config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    let tokens = head.texts("tokenizer.ggml.tokens").unwrap_or_default();
    for (ours, theirs) in [
        ("tokenizer.ggml.bos_token_id", "bos_token"),
        ("tokenizer.ggml.eos_token_id", "eos_token"),
        ("tokenizer.ggml.padding_token_id", "pad_token"),
    ] {
        let id = head.integer(ours).and_then(|id| usize::try_from(id).ok());
        if let Some(token) = id.and_then(|id| tokens.get(id)) {
            config.insert(theirs.into(), json!(token));
        }
    }
    if let Some(template) = head.text("tokenizer.chat_template") {
        config.insert("chat_template".into(), json!(template));
    }
    Value::Object(config)
}

/// Tokens that the file marks as control tokens: they stand for themselves in a text.
fn special(head: &Head, tokens: &[String]) -> Vec<AddedToken> {
    let Some(Metadata::Integers(kinds)) = head.metadata.get("tokenizer.ggml.token_type") else {
        return Vec::new();
    };
    let marked = tokens
        .iter()
        .zip(kinds)
        .filter(|(_, kind)| **kind == CONTROL);
    marked
        .map(|(token, _)| AddedToken::from(token.clone(), true).normalized(false))
        .collect()
}

/// How a text is cut before the merges, by the name that llama.cpp gives it.
fn pre_tokenizer(name: &str) -> Result<PreTokenizerWrapper, String> {
    let bytes = |regex| PreTokenizerWrapper::from(ByteLevel::new(false, true, regex));
    let split = |pattern: &str| {
        Split::new(
            SplitPattern::Regex(pattern.to_owned()),
            SplitDelimiterBehavior::Isolated,
            false,
        )
        .map(PreTokenizerWrapper::from)
        .map_err(|error| error.to_string())
    };
    let steps = match name {
        "gpt-2" | "gpt2" | "default" => vec![bytes(true)],
        "smollm" | "starcoder" | "refact" | "command-r" => {
            vec![Digits::new(true).into(), bytes(true)]
        }
        "llama-bpe" | "llama3" | "llama-v3" => vec![split(LLAMA_3)?, bytes(false)],
        "qwen2" | "deepseek-r1-qwen" => vec![split(QWEN_2)?, bytes(false)],
        other => {
            return Err(format!(
                "pre-tokenizer \"{other}\", known are gpt-2, smollm, llama-bpe and qwen2; use the \
                 model's safetensors folder"
            ));
        }
    };
    Ok(Sequence::new(steps).into())
}

/// The kind of control tokens.
const CONTROL: i64 = 3;

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

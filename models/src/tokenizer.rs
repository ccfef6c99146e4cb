//! Text to token ids and back: by a base model's own tokenizer, or byte by byte.
//!
//! A tokenizer comes with the base weights, whose hash the task names; never from a peer. What a
//! text contains is always ordinary text: `<|im_end|>` in somebody's message ends no turn.

use std::fmt;
use std::sync::Arc;

use tokenizers::PostProcessorWrapper;

use crate::error::ModelError;

/// Largest `tokenizer.json`, in bytes.
const JSON_BYTES_MAX: usize = 64 << 20;

/// Turns text into token ids. Cheap to clone.
#[derive(Clone)]
pub struct Tokenizer(Kind);

#[derive(Clone)]
enum Kind {
    /// Each byte is a token; [`BYTES_END`] ends a text.
    Bytes,
    Loaded(Arc<Loaded>),
}

struct Loaded {
    /// Without truncation, padding and post-processing, and blind to special tokens in texts.
    plain: tokenizers::Tokenizer,
    vocabulary: usize,
    /// What the model expects around a text: `[CLS]` and `[SEP]`, or a beginning.
    before: Vec<u32>,
    after: Vec<u32>,
    end: Option<u32>,
}

/// One token of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) id: u32,
    /// Where it ends in the text, in bytes. It covers what lies between the end of the one before
    /// and its own: so all bytes up to the last token are covered once.
    pub(crate) end: usize,
}

impl Tokenizer {
    /// The tokenizer of models made from scratch (`vocabulary = "bytes"`): 256 bytes and an end.
    #[must_use]
    pub fn bytes() -> Self {
        Self(Kind::Bytes)
    }

    /// From the content of a `tokenizer.json`, as the `tokenizers` library writes it.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] for more than 64 MiB and for anything else.
    pub fn from_json(json: &[u8]) -> Result<Self, ModelError> {
        if json.len() > JSON_BYTES_MAX {
            return Err(ModelError::Tokenizer(format!(
                "{} bytes, at most {JSON_BYTES_MAX} are allowed",
                json.len()
            )));
        }
        Self::from_parts(tokenizers::Tokenizer::from_bytes(json).map_err(failed)?)
    }

    /// From a tokenizer that was put together from elsewhere.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] if it has no token or cannot encode a letter.
    pub(crate) fn from_parts(mut plain: tokenizers::Tokenizer) -> Result<Self, ModelError> {
        let largest = plain.get_vocab(true).into_values().max();
        let largest = largest.ok_or_else(|| ModelError::Tokenizer("no tokens".into()))?;
        plain.with_padding(None);
        plain.with_truncation(None).map_err(failed)?;
        plain.set_encode_special_tokens(true);
        let (before, after) = surroundings(&plain)?;
        plain.with_post_processor(None::<PostProcessorWrapper>);
        let end = END_NAMES.iter().find_map(|name| plain.token_to_id(name));
        Ok(Self(Kind::Loaded(Arc::new(Loaded {
            plain,
            vocabulary: largest as usize + 1,
            before,
            after,
            end,
        }))))
    }

    /// Ids are below this.
    pub fn vocabulary(&self) -> usize {
        match &self.0 {
            Kind::Bytes => BYTES_END as usize + 1,
            Kind::Loaded(loaded) => loaded.vocabulary,
        }
    }

    /// The id of a token by its exact text, such as `<|im_end|>`.
    pub fn token(&self, text: &str) -> Option<u32> {
        match &self.0 {
            Kind::Bytes => None,
            Kind::Loaded(loaded) => loaded.plain.token_to_id(text),
        }
    }

    /// The token that ends a text, if there is one.
    pub fn end(&self) -> Option<u32> {
        match &self.0 {
            Kind::Bytes => Some(BYTES_END),
            Kind::Loaded(loaded) => loaded.end,
        }
    }

    /// What a model reads before the first token of a text, so that it is predicted, too: the
    /// beginning that it was made with, else the end of the text before.
    pub fn beginning(&self) -> Option<u32> {
        match &self.0 {
            Kind::Bytes => Some(BYTES_END),
            Kind::Loaded(loaded) => loaded.before.first().copied().or(loaded.end),
        }
    }

    /// Token ids of a text, without anything around it.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        Ok(self
            .pieces(text)?
            .into_iter()
            .map(|piece| piece.id)
            .collect())
    }

    /// Token ids of a text with what an encoder expects around it, cut to at most `length` ids.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`], also if `length` leaves no room for text.
    pub fn encode_whole(&self, text: &str, length: usize) -> Result<Vec<u32>, ModelError> {
        let (before, after): (&[u32], &[u32]) = match &self.0 {
            Kind::Bytes => (&[], &[]),
            Kind::Loaded(loaded) => (&loaded.before, &loaded.after),
        };
        let room = length.saturating_sub(before.len() + after.len());
        if room == 0 {
            return Err(ModelError::Tokenizer(format!(
                "{length} positions leave no room for text"
            )));
        }
        let ids = self.encode(text)?;
        let ids = &ids[..room.min(ids.len())];
        Ok([before, ids, after].concat())
    }

    /// The text of token ids; special tokens and ids that are none are left out.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub fn decode(&self, ids: &[u32]) -> Result<String, ModelError> {
        match &self.0 {
            Kind::Bytes => {
                let bytes: Vec<u8> = ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Kind::Loaded(loaded) => loaded.plain.decode(ids, true).map_err(failed),
        }
    }

    /// The tokens of a text with where they end.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub(crate) fn pieces(&self, text: &str) -> Result<Vec<Piece>, ModelError> {
        let loaded = match &self.0 {
            Kind::Bytes => {
                let piece = |(index, byte): (usize, u8)| Piece {
                    id: u32::from(byte),
                    end: index + 1,
                };
                return Ok(text.bytes().enumerate().map(piece).collect());
            }
            Kind::Loaded(loaded) => loaded,
        };
        let encoding = loaded.plain.encode(text, false).map_err(failed)?;
        // The tokens of a character that is split all name its end; some normalizers go back.
        let mut reached = 0;
        let piece = |(&id, &(_, end)): (&u32, &(usize, usize))| {
            reached = reached.max(end).min(text.len());
            Piece { id, end: reached }
        };
        let ids = encoding.get_ids().iter();
        Ok(ids.zip(encoding.get_offsets()).map(piece).collect())
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokenizer({} ids)", self.vocabulary())
    }
}

/// The id behind the 256 bytes.
const BYTES_END: u32 = 256;

/// Tokens that end a text, in the families we know.
const END_NAMES: [&str; 5] = ["<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[SEP]"];

/// What the post-processor puts before and behind a text.
fn surroundings(tokenizer: &tokenizers::Tokenizer) -> Result<(Vec<u32>, Vec<u32>), ModelError> {
    const PROBE: &str = "a";
    let inner = tokenizer.encode(PROBE, false).map_err(failed)?;
    let whole = tokenizer.encode(PROBE, true).map_err(failed)?;
    let (inner, whole) = (inner.get_ids(), whole.get_ids());
    if inner.is_empty() {
        return Err(ModelError::Tokenizer(format!("no token for {PROBE:?}")));
    }
    let at = whole.windows(inner.len()).position(|ids| ids == inner);
    Ok(at.map_or_else(Default::default, |at| {
        (whole[..at].to_vec(), whole[at + inner.len()..].to_vec())
    }))
}

// By value, as `map_err` gives it.
#[allow(clippy::needless_pass_by_value)]
fn failed(error: tokenizers::Error) -> ModelError {
    ModelError::Tokenizer(error.to_string())
}

/// Small tokenizers for tests.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod samples {
    use serde_json::json;

    use super::Tokenizer;

    /// Byte-level pairs, some merges, the special tokens of `specials`.
    pub(crate) fn byte_pairs(specials: &[&str]) -> Tokenizer {
        // The printable stand-ins that byte-level tokenizers use for bytes.
        let mut letters: Vec<String> = ('!'..='~').map(String::from).collect();
        letters.extend(('\u{a1}'..='\u{ac}').map(String::from));
        letters.extend(('\u{ae}'..='\u{ff}').map(String::from));
        letters.extend(('\u{100}'..='\u{143}').map(String::from));
        assert_eq!(letters.len(), 256);
        letters.extend(["he", "ll", "hell", "hello", "Ġw", "us", "er"].map(String::from));
        let vocabulary: serde_json::Map<_, _> = letters
            .iter()
            .enumerate()
            .map(|(id, letter)| (letter.clone(), json!(id)))
            .collect();
        let added: Vec<_> = specials
            .iter()
            .enumerate()
            .map(|(index, content)| {
                json!({
                    "id": letters.len() + index, "content": content, "special": true,
                    "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                })
            })
            .collect();
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null, "padding": null, "normalizer": null,
            "added_tokens": added,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false,
                "trim_offsets": true, "use_regex": true},
            "post_processor": {"type": "ByteLevel", "add_prefix_space": true,
                "trim_offsets": true, "use_regex": true},
            "decoder": {"type": "ByteLevel", "add_prefix_space": true,
                "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "vocab": vocabulary,
                "merges": ["h e", "l l", "he ll", "hell o", "Ġ w", "u s", "e r"]},
        });
        Tokenizer::from_json(tokenizer.to_string().as_bytes()).unwrap()
    }

    /// Word pieces with `[CLS]` and `[SEP]` around, padded and cut to 4 ids as the file says.
    pub(crate) fn word_pieces() -> Tokenizer {
        let words = [
            "[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "##s", "bad",
        ];
        let vocabulary: serde_json::Map<_, _> = words
            .iter()
            .enumerate()
            .map(|(id, word)| ((*word).to_owned(), json!(id)))
            .collect();
        let added: Vec<_> = words[..4]
            .iter()
            .enumerate()
            .map(|(id, content)| {
                json!({
                    "id": id, "content": content, "special": true, "single_word": false,
                    "lstrip": false, "rstrip": false, "normalized": false,
                })
            })
            .collect();
        let tokenizer = json!({
            "version": "1.0",
            "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst",
                "stride": 0},
            "padding": {"strategy": {"Fixed": 4}, "direction": "Right", "pad_to_multiple_of": null,
                "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
            "added_tokens": added,
            "normalizer": {"type": "BertNormalizer", "clean_text": true,
                "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
            "decoder": null,
            "model": {"type": "WordPiece", "unk_token": "[UNK]",
                "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                "vocab": vocabulary},
        });
        Tokenizer::from_json(tokenizer.to_string().as_bytes()).unwrap()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::samples::{byte_pairs, word_pieces};
    use super::*;

    #[test]
    fn bytes_are_their_own_tokens() {
        let tokenizer = Tokenizer::bytes();
        assert_eq!(tokenizer.encode("aé").unwrap(), [97, 0xc3, 0xa9]);
        assert_eq!(tokenizer.decode(&[97, 0xc3, 0xa9, 256]).unwrap(), "aé");
        assert_eq!((tokenizer.vocabulary(), tokenizer.end()), (257, Some(256)));
    }

    #[test]
    fn tokens_cover_each_byte_once() {
        for text in ["hello world", " hello\n\n", "héllo 😀 w", ""] {
            for tokenizer in [Tokenizer::bytes(), byte_pairs(&["<|endoftext|>"])] {
                let pieces = tokenizer.pieces(text).unwrap();
                assert!(pieces.windows(2).all(|pair| pair[0].end <= pair[1].end));
                assert_eq!(pieces.last().map_or(0, |piece| piece.end), text.len());
                let ids: Vec<u32> = pieces.iter().map(|piece| piece.id).collect();
                assert_eq!(tokenizer.decode(&ids).unwrap(), text);
            }
        }
    }

    #[test]
    fn a_special_token_in_a_text_is_ordinary_text() {
        let tokenizer = byte_pairs(&["<|endoftext|>"]);
        let end = tokenizer.token("<|endoftext|>").unwrap();
        assert_eq!(tokenizer.end(), Some(end));
        let ids = tokenizer.encode("hello<|endoftext|>").unwrap();
        assert!(!ids.contains(&end) && ids.len() == 1 + 13, "{ids:?}");
        let ids = word_pieces().encode("a [SEP] bad").unwrap();
        assert!(!ids.contains(&3), "{ids:?}");
    }

    #[test]
    fn an_encoder_gets_its_tokens_around_the_text_and_nothing_of_the_files_padding() {
        let tokenizer = word_pieces();
        let whole = |text, length| tokenizer.encode_whole(text, length).unwrap();
        assert_eq!(whole("Good", 8), [2, 5, 3]);
        assert_eq!(whole("goods bad a a a a", 64), [2, 5, 6, 7, 4, 4, 4, 4, 3]);
        assert_eq!(whole("goods bad a a a a", 5), [2, 5, 6, 7, 3]);
        assert!(tokenizer.encode_whole("a", 2).is_err());
        assert_eq!(Tokenizer::bytes().encode_whole("abc", 2).unwrap(), [97, 98]);
    }

    #[test]
    fn what_is_no_tokenizer_is_refused() {
        for json in [
            "",
            "{}",
            "[1]",
            r#"{"version": "1.0", "model": {"type": "x"}}"#,
        ] {
            assert!(Tokenizer::from_json(json.as_bytes()).is_err(), "{json}");
        }
    }
}

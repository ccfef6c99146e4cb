//! Text for language models: plain text, documents and conversations.

use std::path::Path;

use rayon::prelude::*;

use super::Part;
use super::chat::{ChatTemplate, Entry};
use super::files::TextFile;
use super::sequences::{Sequences, Token};
use crate::error::ModelError;
use crate::tokenizer::Tokenizer;

/// How text becomes sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextConfig {
    /// Positions of a sequence, 1 to [`SEQUENCE_LEN_MAX`](super::SEQUENCE_LEN_MAX).
    pub sequence_len: usize,
    /// Each sequence of a long document begins so many positions behind the one before, 1 to
    /// `sequence_len`. Smaller strides give predictions more context and cost more; each
    /// prediction counts once.
    pub stride: usize,
    /// How conversations are written; by the tokenizer's special tokens if `None`.
    pub template: Option<ChatTemplate>,
}

impl Sequences {
    /// Reads one part of a folder: `train.txt` or `train.jsonl`, `test.txt` or `test.jsonl`; or a
    /// file. Every line of a JSONL file is a conversation,
    /// `{"system": "…", "conversations": [{"role": "user", "content": "…"}, …]}`, of which the
    /// assistant's tokens count, or a document, `{"text": "…"}`. A `.txt` file is one document.
    ///
    /// A document is read behind the tokenizer's [beginning](Tokenizer::beginning), so that its
    /// first token is predicted, too, and every byte counts once.
    ///
    /// # Errors
    /// [`ModelError::Part`], [`ModelError::File`]; [`ModelError::Line`] and [`ModelError::Field`]
    /// with file, line and field; [`ModelError::Config`] for lengths out of range;
    /// [`ModelError::Tokenizer`]; [`ModelError::Dataset`] for too much text, and for none.
    pub fn open(
        path: &Path,
        part: Part,
        tokenizer: &Tokenizer,
        config: &TextConfig,
    ) -> Result<Self, ModelError> {
        let (file, extension) = TextFile::open(path, part, &["txt", "jsonl"])?;
        read(&file, extension, tokenizer, config)
    }

    /// One document from memory; `name` stands for it in errors.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), without those of the file system.
    pub fn from_text(
        name: &str,
        text: &str,
        tokenizer: &Tokenizer,
        config: &TextConfig,
    ) -> Result<Self, ModelError> {
        let file = TextFile::new(name.to_owned(), text.as_bytes().to_vec())?;
        read(&file, "txt", tokenizer, config)
    }
}

fn read(
    file: &TextFile,
    extension: &str,
    tokenizer: &Tokenizer,
    config: &TextConfig,
) -> Result<Sequences, ModelError> {
    let mut sequences = Sequences::new(config.sequence_len, config.stride)?;
    if extension == "txt" {
        sequences.push(&document(file.text(), tokenizer, false)?)?;
    } else {
        let template = match config.template {
            Some(template) => template,
            None => ChatTemplate::of(tokenizer),
        };
        let writer = template.writer(tokenizer)?;
        let lines: Vec<_> = file.lines().collect::<Result<_, _>>()?;
        // Bounded memory for what is not yet in the set, and all threads at work.
        for lines in lines.chunks(LINES_AT_ONCE) {
            let tokens =
                lines
                    .par_iter()
                    .map(|&(line, json)| match Entry::parse(file, line, json)? {
                        Entry::Conversation(conversation) => writer.tokens(&conversation),
                        Entry::Document(text) => document(&text, tokenizer, true),
                    });
            for tokens in tokens.collect::<Result<Vec<_>, ModelError>>()? {
                sequences.push(&tokens)?;
            }
        }
    }
    if sequences.is_empty() {
        return Err(ModelError::Dataset(format!(
            "{}: nothing to learn from",
            file.name()
        )));
    }
    Ok(sequences)
}

/// The tokens of a document: the beginning, the text, and the end if `ended`.
fn document(text: &str, tokenizer: &Tokenizer, ended: bool) -> Result<Vec<Token>, ModelError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let around = |id, counted| Token {
        id,
        counted,
        bytes: 0,
    };
    let mut tokens: Vec<Token> = Vec::new();
    tokens.extend(tokenizer.beginning().map(|id| around(id, false)));
    let segments: Vec<&str> = Segments(text).collect();
    let pieces: Vec<_> = segments
        .par_iter()
        .map(|segment| tokenizer.pieces(segment))
        .collect::<Result<_, _>>()?;
    for pieces in pieces {
        let mut from = 0;
        tokens.extend(pieces.into_iter().map(|piece| {
            let bytes = (piece.end - from) as u32;
            from = piece.end;
            Token {
                id: piece.id,
                counted: true,
                bytes,
            }
        }));
    }
    if ended {
        tokens.extend(tokenizer.end().map(|id| around(id, true)));
    }
    Ok(tokens)
}

/// Text is tokenized in runs of about so many bytes.
const SEGMENT_BYTES: usize = 1 << 18;

/// Lines of JSON tokenized at a time.
const LINES_AT_ONCE: usize = 1024;

/// Cuts text where no tokenizer joins anything: behind a line break between two characters that
/// are no white space; failing that, between any two characters.
struct Segments<'a>(&'a str);

impl<'a> Iterator for Segments<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0;
        if text.is_empty() {
            return None;
        }
        let cut = if text.len() <= SEGMENT_BYTES {
            text.len()
        } else {
            cut(text)
        };
        let (segment, rest) = text.split_at(cut);
        self.0 = rest;
        Some(segment)
    }
}

fn cut(text: &str) -> usize {
    let bytes = text.as_bytes();
    let alone = |&at: &usize| {
        bytes[at] == b'\n'
            && !bytes[at - 1].is_ascii_whitespace()
            && !bytes[at + 1].is_ascii_whitespace()
    };
    let middle = SEGMENT_BYTES / 2;
    match (middle..SEGMENT_BYTES - 1).rev().find(alone) {
        Some(at) => at + 1,
        None => text.floor_char_boundary(SEGMENT_BYTES),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::tokenizer::samples::byte_pairs;

    fn config(sequence_len: usize) -> TextConfig {
        TextConfig {
            sequence_len,
            stride: sequence_len,
            template: None,
        }
    }

    fn jsonl(text: &str, tokenizer: &Tokenizer) -> Result<Sequences, ModelError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("train.jsonl"), text).unwrap();
        Sequences::open(folder.path(), Part::Train, tokenizer, &config(64))
    }

    #[test]
    fn every_byte_of_a_text_counts_once() {
        let text = "hello hello\nwörld user\n".repeat(30_000);
        for tokenizer in [Tokenizer::bytes(), byte_pairs(&["<|endoftext|>"])] {
            let rows = Sequences::from_text("a", &text, &tokenizer, &config(100)).unwrap();
            assert_eq!(rows.bytes(), text.len());
            let first = rows.row(0).inputs()[0];
            assert_eq!(Some(first), tokenizer.end());
        }
        // Without a token to begin with, the first one has nothing to be predicted from.
        let bare = byte_pairs(&[]);
        let rows = Sequences::from_text("a", &text, &bare, &config(100)).unwrap();
        assert_eq!(rows.bytes(), text.len() - "hello".len());
    }

    #[test]
    fn tokens_do_not_depend_on_where_text_is_cut() {
        let text = "hello user\n\n  world\nhe\n".repeat(2 * SEGMENT_BYTES / 23);
        assert!(Segments(&text).count() > 1);
        let tokenizer = byte_pairs(&["<|endoftext|>"]);
        let tokens = document(&text, &tokenizer, false).unwrap();
        let ids: Vec<u32> = tokens[1..].iter().map(|token| token.id).collect();
        assert_eq!(ids, tokenizer.encode(&text).unwrap());
    }

    #[test]
    fn segments_are_bounded_and_lose_nothing() {
        for text in ["é".repeat(SEGMENT_BYTES), "a\n".repeat(SEGMENT_BYTES)] {
            let segments: Vec<&str> = Segments(&text).collect();
            assert!(
                segments
                    .iter()
                    .all(|segment| segment.len() <= SEGMENT_BYTES)
            );
            assert_eq!(segments.concat(), text);
        }
    }

    #[test]
    fn documents_in_lines_are_ended() {
        let tokenizer = Tokenizer::bytes();
        let rows = jsonl("{\"text\": \"ab\"}\n\n{\"text\": \"c\"}\n", &tokenizer).unwrap();
        assert_eq!(rows.row(0).inputs(), [256, 97, 98]);
        assert_eq!(rows.row(0).targets(), [97, 98, 256]);
        assert_eq!(rows.row(1).targets(), [99, 256]);
        assert_eq!((rows.counted(), rows.bytes()), (5, 3));
    }

    #[test]
    fn bad_lines_are_named_with_file_line_and_field() {
        let cases = [
            ("{\"text\": \"a\"}\nnonsense\n", "train.jsonl:2: not JSON"),
            ("[1]", "train.jsonl:1: no JSON object"),
            ("{\"text\": 7}", "train.jsonl:1: `text` is a number"),
            ("{\"prompt\": \"a\"}", "train.jsonl:1: neither"),
        ];
        for (text, expected) in cases {
            let error = jsonl(text, &Tokenizer::bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn nothing_to_learn_from_is_an_error() {
        assert!(jsonl("\n", &Tokenizer::bytes()).is_err());
        assert!(Sequences::from_text("a", " \n", &Tokenizer::bytes(), &config(8)).is_err());
        let error = Sequences::from_text("a", "b", &Tokenizer::bytes(), &config(0)).unwrap_err();
        assert!(error.to_string().contains("sequence_len"));
    }
}

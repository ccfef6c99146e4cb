//! Conversations: one JSON object a line, written as the base model's family writes them.
//!
//! Templates are a fixed list. A template that comes with a model is a program, and no program of
//! a peer is run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::files::{TextFile, shown};
use super::sequences::Token;
use crate::error::ModelError;
use crate::tokenizer::Tokenizer;

/// Most turns of a conversation.
pub const TURNS_MAX: usize = 4096;

/// How a conversation is written for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChatTemplate {
    /// `"chatml"`: `<|im_start|>role⏎content<|im_end|>⏎` (SmolLM2, Qwen).
    #[serde(rename = "chatml")]
    ChatMl,
    /// `"llama-3"`: `<|start_header_id|>role<|end_header_id|>⏎⏎content<|eot_id|>`, the content
    /// without white space at its ends, all of it behind `<|begin_of_text|>`.
    #[serde(rename = "llama-3")]
    Llama3,
    /// `"plain"`: `role: content⏎`, and the token that ends a text behind the last turn.
    Plain,
}

impl ChatTemplate {
    /// All templates.
    pub const ALL: [Self; 3] = [Self::ChatMl, Self::Llama3, Self::Plain];

    /// The name in a task file.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChatMl => "chatml",
            Self::Llama3 => "llama-3",
            Self::Plain => "plain",
        }
    }

    /// The template whose special tokens the tokenizer has; plain if it has none of them.
    #[must_use]
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let has = |template: &Self| {
            let mut tokens = template.special_tokens().iter();
            tokens.all(|token| tokenizer.token(token).is_some())
        };
        let found = [Self::ChatMl, Self::Llama3].into_iter().find(has);
        found.unwrap_or(Self::Plain)
    }

    fn special_tokens(self) -> &'static [&'static str] {
        match self {
            Self::ChatMl => &["<|im_start|>", "<|im_end|>"],
            Self::Llama3 => &[
                "<|start_header_id|>",
                "<|end_header_id|>",
                "<|eot_id|>",
                "<|begin_of_text|>",
            ],
            Self::Plain => &[],
        }
    }

    /// Prepares to write conversations with this tokenizer.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`] if it lacks a special token of the template.
    pub(crate) fn writer(self, tokenizer: &Tokenizer) -> Result<Writer<'_>, ModelError> {
        let id = |name: &&str| {
            tokenizer.token(name).ok_or_else(|| {
                ModelError::Tokenizer(format!(
                    "no token {name}, which the chat template \"{self}\" needs"
                ))
            })
        };
        Ok(Writer {
            template: self,
            tokenizer,
            specials: self
                .special_tokens()
                .iter()
                .map(id)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl fmt::Display for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ChatTemplate {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        let found = Self::ALL
            .into_iter()
            .find(|template| template.name() == name);
        found.ok_or_else(|| ModelError::Config {
            field: "chat_template",
            got: name.to_owned(),
            allowed: "chatml, llama-3, plain",
        })
    }
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    User,
    Assistant,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// What one says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    role: Role,
    content: String,
}

/// One line of a JSONL file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// `{"system": …, "conversations": […]}`.
    Conversation(Vec<Turn>),
    /// `{"text": …}`.
    Document(String),
}

impl Entry {
    /// Reads a line. Fields that mean nothing to us are passed over.
    ///
    /// # Errors
    /// [`ModelError::Line`], [`ModelError::Field`].
    pub(crate) fn parse(file: &TextFile, line: usize, json: &str) -> Result<Self, ModelError> {
        let object = object(file, line, json)?;
        let Some(conversations) = object.get("conversations") else {
            let Some(text) = object.get("text") else {
                return Err(file.line_error(line, "neither `conversations` nor `text`"));
            };
            return string(file, line, text, || "text".into()).map(Self::Document);
        };
        let Value::Array(turns) = conversations else {
            return Err(file.field_error(line, "conversations", wanted("a list", conversations)));
        };
        if turns.len() > TURNS_MAX {
            let reason = format!("has {} turns, at most {TURNS_MAX} are allowed", turns.len());
            return Err(file.field_error(line, "conversations", reason));
        }
        let mut all = Vec::with_capacity(turns.len() + 1);
        match object.get("system") {
            None | Some(Value::Null) => {}
            Some(system) => {
                let content = string(file, line, system, || "system".into())?;
                if !content.is_empty() {
                    all.push(Turn {
                        role: Role::System,
                        content,
                    });
                }
            }
        }
        for (index, value) in turns.iter().enumerate() {
            all.push(turn(file, line, index, value)?);
        }
        if !all.iter().any(|turn| turn.role == Role::Assistant) {
            let reason = "has no turn of the assistant, so that there is nothing to learn";
            return Err(file.field_error(line, "conversations", reason));
        }
        Ok(Self::Conversation(all))
    }
}

fn turn(file: &TextFile, line: usize, index: usize, value: &Value) -> Result<Turn, ModelError> {
    let path = |field: &str| format!("conversations[{index}]{field}");
    let Value::Object(object) = value else {
        return Err(file.field_error(line, path(""), wanted("an object", value)));
    };
    let field = |name: &str| {
        let path = || path(&format!(".{name}"));
        let value = object
            .get(name)
            .ok_or_else(|| file.field_error(line, path(), "is missing"))?;
        string(file, line, value, path)
    };
    let role = match field("role")?.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => {
            let reason = format!("is {}, known: system, user, assistant", shown(other));
            return Err(file.field_error(line, path(".role"), reason));
        }
    };
    Ok(Turn {
        role,
        content: field("content")?,
    })
}

/// The object that a line holds.
pub(crate) fn object(
    file: &TextFile,
    line: usize,
    json: &str,
) -> Result<serde_json::Map<String, Value>, ModelError> {
    match serde_json::from_str(json) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(file.line_error(line, "no JSON object")),
        Err(error) => {
            let column = error.column();
            // The library counts lines within what it was given, which is one.
            let text = error.to_string();
            let reason = text.split(" at line ").next().unwrap_or_default();
            Err(file.line_error(line, format!("not JSON: {reason} at column {column}")))
        }
    }
}

/// The text of a value.
pub(crate) fn string(
    file: &TextFile,
    line: usize,
    value: &Value,
    field: impl Fn() -> String,
) -> Result<String, ModelError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(file.field_error(line, field(), wanted("text", other))),
    }
}

pub(crate) fn wanted(kind: &str, got: &Value) -> String {
    let got = match got {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("is {got}, not {kind}")
}

/// Writes conversations as tokens.
pub(crate) struct Writer<'a> {
    template: ChatTemplate,
    tokenizer: &'a Tokenizer,
    /// Ids of the template's special tokens, in its order.
    specials: Vec<u32>,
}

impl Writer<'_> {
    /// The tokens of a conversation. Those count that cover what the assistant says, and the one
    /// that ends its turn, which covers no bytes.
    ///
    /// # Errors
    /// [`ModelError::Tokenizer`].
    pub(crate) fn tokens(&self, turns: &[Turn]) -> Result<Vec<Token>, ModelError> {
        let mut tokens = Vec::new();
        if self.template == ChatTemplate::Llama3 {
            tokens.push(special(self.specials[3], false));
        }
        for turn in turns {
            let learned = turn.role == Role::Assistant;
            match self.template {
                ChatTemplate::ChatMl => {
                    tokens.push(special(self.specials[0], false));
                    let head = format!("{}\n", turn.role.name());
                    self.text(&head, &turn.content, "", learned, &mut tokens)?;
                    tokens.push(special(self.specials[1], learned));
                    self.text("\n", "", "", false, &mut tokens)?;
                }
                ChatTemplate::Llama3 => {
                    tokens.push(special(self.specials[0], false));
                    self.text(turn.role.name(), "", "", false, &mut tokens)?;
                    tokens.push(special(self.specials[1], false));
                    self.text("\n\n", turn.content.trim(), "", learned, &mut tokens)?;
                    tokens.push(special(self.specials[2], learned));
                }
                ChatTemplate::Plain => {
                    let head = format!("{}: ", turn.role.name());
                    self.text(&head, &turn.content, "\n", learned, &mut tokens)?;
                }
            }
        }
        if self.template == ChatTemplate::Plain {
            let learned = turns
                .last()
                .is_some_and(|turn| turn.role == Role::Assistant);
            tokens.extend(self.tokenizer.end().map(|id| special(id, learned)));
        }
        Ok(tokens)
    }

    /// `head`, `body` and `tail`, tokenized together. With `learned`, tokens count that cover
    /// anything of the body, with their bytes of it, and those of the tail.
    fn text(
        &self,
        head: &str,
        body: &str,
        tail: &str,
        learned: bool,
        tokens: &mut Vec<Token>,
    ) -> Result<(), ModelError> {
        let text = [head, body, tail].concat();
        let (begin, end) = (head.len(), head.len() + body.len());
        let mut from = 0;
        for piece in self.tokenizer.pieces(&text)? {
            let bytes = piece.end.min(end).saturating_sub(from.max(begin));
            from = piece.end;
            let counted = learned && piece.end > begin;
            tokens.push(Token {
                id: piece.id,
                counted,
                bytes: if counted { bytes as u32 } else { 0 },
            });
        }
        Ok(())
    }
}

fn special(id: u32, counted: bool) -> Token {
    Token {
        id,
        counted,
        bytes: 0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tokenizer::samples::byte_pairs;

    const CHATML: [&str; 3] = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"];

    fn parse(json: &str) -> Result<Entry, ModelError> {
        let file = TextFile::new("c.jsonl".into(), Vec::new()).unwrap();
        Entry::parse(&file, 7, json)
    }

    fn turns(json: &str) -> Vec<Turn> {
        match parse(json).unwrap() {
            Entry::Conversation(turns) => turns,
            Entry::Document(text) => panic!("{text}"),
        }
    }

    const SMALL: &str = r#"{"system": "be", "conversations": [
        {"role": "user", "content": "hello"}, {"role": "assistant", "content": " hello us"}]}"#;

    /// The text of what counts, and of everything, special tokens shown as their ids.
    fn written(template: ChatTemplate, tokenizer: &Tokenizer, json: &str) -> (String, String) {
        let tokens = template.writer(tokenizer).unwrap().tokens(&turns(json));
        let tokens = tokens.unwrap();
        let text = |keep: &dyn Fn(&&Token) -> bool| -> String {
            let show = |token: &Token| {
                let text = tokenizer.decode(&[token.id]).unwrap();
                if text.is_empty() {
                    format!("<{}>", token.id)
                } else {
                    text
                }
            };
            tokens.iter().filter(keep).map(show).collect()
        };
        (text(&|token| token.counted), text(&|_| true))
    }

    #[test]
    fn chatml_is_written_as_its_models_know_it() {
        let tokenizer = byte_pairs(&CHATML);
        assert_eq!(ChatTemplate::of(&tokenizer), ChatTemplate::ChatMl);
        let (counted, all) = written(ChatTemplate::ChatMl, &tokenizer, SMALL);
        assert_eq!(counted, " hello us<264>");
        let expected = "<263>system\nbe<264>\n<263>user\nhello<264>\n\
                        <263>assistant\n hello us<264>\n";
        assert_eq!(all, expected);
    }

    #[test]
    fn llama_3_is_written_as_its_models_know_it() {
        let tokenizer = byte_pairs(&[
            "<|begin_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
        ]);
        assert_eq!(ChatTemplate::of(&tokenizer), ChatTemplate::Llama3);
        let (counted, all) = written(ChatTemplate::Llama3, &tokenizer, SMALL);
        assert_eq!(counted, "hello us<266>");
        let expected = "<263><264>system<265>\n\nbe<266><264>user<265>\n\nhello<266>\
                        <264>assistant<265>\n\nhello us<266>";
        assert_eq!(all, expected);
    }

    #[test]
    fn plain_names_the_roles() {
        let tokenizer = Tokenizer::bytes();
        assert_eq!(ChatTemplate::of(&tokenizer), ChatTemplate::Plain);
        let (counted, all) = written(ChatTemplate::Plain, &tokenizer, SMALL);
        assert_eq!(counted, " hello us\n<256>");
        assert_eq!(all, "system: be\nuser: hello\nassistant:  hello us\n<256>");
    }

    #[test]
    fn what_the_assistant_says_is_covered_byte_by_byte() {
        let says = ["hello", "\n\nhello", " ", "", "wörld <|im_end|> us"];
        for (tokenizer, template) in [
            (byte_pairs(&CHATML), ChatTemplate::ChatMl),
            (Tokenizer::bytes(), ChatTemplate::Plain),
        ] {
            for content in says {
                let turns = [Turn {
                    role: Role::Assistant,
                    content: content.into(),
                }];
                let tokens = template.writer(&tokenizer).unwrap().tokens(&turns).unwrap();
                let bytes: u32 = tokens.iter().map(|token| token.bytes).sum();
                assert_eq!(bytes as usize, content.len(), "{content:?}");
                let ends = tokens
                    .iter()
                    .filter(|token| Some(token.id) == tokenizer.token("<|im_end|>"));
                assert!(ends.count() <= 1);
            }
        }
    }

    #[test]
    fn a_template_needs_its_tokens() {
        let tokenizer = Tokenizer::bytes();
        let error = ChatTemplate::ChatMl.writer(&tokenizer).err().unwrap();
        assert!(error.to_string().contains("<|im_start|>"));
        for template in ChatTemplate::ALL {
            assert_eq!(template.name().parse::<ChatTemplate>().unwrap(), template);
            let json = serde_json::to_value(template).unwrap();
            assert_eq!(json, template.name());
        }
        assert!("jinja".parse::<ChatTemplate>().is_err());
    }

    #[test]
    fn bad_conversations_are_named_with_line_and_field() {
        let long = format!("{{\"conversations\": [{}1]}}", "1,".repeat(TURNS_MAX));
        let cases = [
            (r#"{"conversations": 3}"#, "`conversations` is a number"),
            (r#"{"conversations": []}"#, "no turn of the assistant"),
            (
                r#"{"system": [], "conversations": []}"#,
                "`system` is a list, not text",
            ),
            (
                r#"{"conversations": ["a"]}"#,
                "`conversations[0]` is text, not an object",
            ),
            (
                r#"{"conversations": [{"role": "user", "content": "a"}, {"role": "user"}]}"#,
                "`conversations[1].content` is missing",
            ),
            (
                r#"{"conversations": [{"role": "bot", "content": "a"}]}"#,
                "`conversations[0].role` is \"bot\", known: system, user, assistant",
            ),
            (&long, "has 4097 turns"),
            (
                r#"{"conversations": ["#,
                "not JSON: EOF while parsing a list at column 19",
            ),
        ];
        for (json, expected) in cases {
            let error = parse(json).unwrap_err().to_string();
            assert!(error.starts_with("c.jsonl:7: "), "{error}");
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_empty_or_absent_system_is_none() {
        let assistant = r#""conversations": [{"role": "assistant", "content": "a"}]"#;
        for system in ["", r#""system": null,"#, r#""system": "","#] {
            assert_eq!(turns(&format!("{{{system}{assistant}}}")).len(), 1);
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(line in r#"[\[\]{}",:a-z\\0-9 ]{0,60}"#) {
            let _ = parse(&line);
        }
    }
}

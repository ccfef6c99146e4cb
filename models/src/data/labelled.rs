//! Labelled text for classification.

use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use super::Part;
use super::chat::{object, string, wanted};
use super::delimited::Table;
use super::files::{TextFile, shown};
use crate::error::ModelError;
use crate::tokenizer::Tokenizer;

/// Most classes.
pub const CLASSES_MAX: usize = 65_536;

/// Texts as token ids, with a class each.
#[derive(Clone, PartialEq, Eq)]
pub struct Labelled {
    tokens: Vec<u32>,
    /// Text `i` is `tokens[ends[i - 1]..ends[i]]`.
    ends: Vec<usize>,
    labels: Vec<u32>,
    classes: usize,
}

impl Labelled {
    /// Reads one part of a folder: `train.jsonl` with a `{"text": "…", "label": 2}` a line, or
    /// `train.csv` or `train.tsv` with columns `text` and `label`; `test.…` likewise; or a file.
    ///
    /// A label is one of `names`, or a number below `classes`. All parties of a task must mean the
    /// same by it, so that names are never made up from what a file happens to hold. Each text
    /// becomes at most `length` ids, with those around it that an encoder expects.
    ///
    /// # Errors
    /// [`ModelError::Part`], [`ModelError::File`]; [`ModelError::Line`] and [`ModelError::Field`]
    /// with file, line and field; [`ModelError::Tokenizer`]; [`ModelError::Config`] for classes out
    /// of range; [`ModelError::Dataset`] for too much text, and for none.
    pub fn open(
        path: &Path,
        part: Part,
        tokenizer: &Tokenizer,
        length: usize,
        classes: usize,
        names: &[String],
    ) -> Result<Self, ModelError> {
        if !(2..=CLASSES_MAX).contains(&classes) {
            return Err(ModelError::Config {
                field: "classes",
                got: classes.to_string(),
                allowed: "2 to 65,536",
            });
        }
        if !names.is_empty() && names.len() != classes {
            return Err(ModelError::Config {
                field: "labels",
                got: format!("{} names", names.len()),
                allowed: "as many as there are classes",
            });
        }
        let (file, extension) = TextFile::open(path, part, &["jsonl", "csv", "tsv"])?;
        let known = Known { names, classes };
        let rows = if extension == "jsonl" {
            read_json(&file, &known)?
        } else {
            read_table(&file, extension, &known)?
        };
        if rows.is_empty() {
            return Err(ModelError::Dataset(format!("{}: no text", file.name())));
        }
        let mut set = Self {
            tokens: Vec::new(),
            ends: Vec::with_capacity(rows.len()),
            labels: Vec::with_capacity(rows.len()),
            classes,
        };
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let ids = rows
                .par_iter()
                .map(|(text, _)| tokenizer.encode_whole(text, length))
                .collect::<Result<Vec<_>, _>>()?;
            for (ids, (_, label)) in ids.iter().zip(rows) {
                set.tokens.extend(ids);
                set.ends.push(set.tokens.len());
                set.labels.push(*label);
            }
        }
        Ok(set)
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Number of classes; a set may lack some of them.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The token ids of text `index`; never none for tokenizers with a beginning.
    ///
    /// # Panics
    /// If `index` is not below [`len`](Self::len).
    pub fn text(&self, index: usize) -> &[u32] {
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.tokens[begin..self.ends[index]]
    }

    /// The class of each text.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The largest id of any token; `None` without tokens.
    pub fn id_max(&self) -> Option<u32> {
        self.tokens.iter().copied().max()
    }

    /// Texts of each class, `classes` numbers.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        for &label in &self.labels {
            counts[label as usize] += 1;
        }
        counts
    }

    /// The texts at `indices`, in that order, with the same classes.
    ///
    /// # Panics
    /// If an index is not below [`len`](Self::len).
    #[must_use]
    pub fn subset(&self, indices: &[usize]) -> Self {
        let mut subset = Self {
            tokens: Vec::new(),
            ends: Vec::with_capacity(indices.len()),
            labels: indices.iter().map(|&index| self.labels[index]).collect(),
            classes: self.classes,
        };
        for &index in indices {
            subset.tokens.extend_from_slice(self.text(index));
            subset.ends.push(subset.tokens.len());
        }
        subset
    }
}

impl std::fmt::Debug for Labelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Labelled")
            .field("len", &self.len())
            .field("classes", &self.classes)
            .finish_non_exhaustive()
    }
}

/// Texts tokenized at a time.
const ROWS_AT_ONCE: usize = 4096;

/// The classes of a task.
struct Known<'a> {
    names: &'a [String],
    classes: usize,
}

impl Known<'_> {
    fn label(&self, file: &TextFile, line: usize, text: &str) -> Result<u32, ModelError> {
        let trimmed = text.trim();
        let by_name = self.names.iter().position(|name| name == trimmed);
        let by_number = || trimmed.parse::<usize>().ok().filter(|&n| n < self.classes);
        let found = by_name.or_else(by_number);
        // No truncation: classes are at most CLASSES_MAX.
        found.map(|class| class as u32).ok_or_else(|| {
            let mut known = format!("0 to {}", self.classes - 1);
            if !self.names.is_empty() {
                let some: Vec<&str> = self.names.iter().take(16).map(String::as_str).collect();
                known = format!("{}, or {known}", some.join(", "));
            }
            file.field_error(line, "label", format!("is {}, known: {known}", shown(text)))
        })
    }
}

fn read_json(file: &TextFile, known: &Known<'_>) -> Result<Vec<(String, u32)>, ModelError> {
    let row = |line: Result<(usize, &str), ModelError>| {
        let (line, json) = line?;
        let object = object(file, line, json)?;
        let field = |name: &str| {
            let value = object.get(name);
            value.ok_or_else(|| file.field_error(line, name, "is missing"))
        };
        let text = string(file, line, field("text")?, || "text".into())?;
        let label = match field("label")? {
            Value::Number(number) => number.to_string(),
            Value::String(name) => name.clone(),
            other => {
                let reason = wanted("a number or a name", other);
                return Err(file.field_error(line, "label", reason));
            }
        };
        Ok((text, known.label(file, line, &label)?))
    };
    file.lines().map(row).collect()
}

fn read_table(
    file: &TextFile,
    extension: &str,
    known: &Known<'_>,
) -> Result<Vec<(String, u32)>, ModelError> {
    let table = Table::open(file, extension)?;
    let (text, label) = (table.needed(&["text"])?, table.needed(&["label"])?);
    let row = |record: Result<super::delimited::Record<'_>, ModelError>| {
        let record = record?;
        let class = known.label(file, record.line, &record.fields[label])?;
        Ok((record.fields[text].clone().into_owned(), class))
    };
    table.map(row).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::tokenizer::samples::word_pieces;

    fn open(name: &str, content: &str, names: &[&str]) -> Result<Labelled, ModelError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Labelled::open(&path, Part::Train, &word_pieces(), 6, 2, &names)
    }

    #[test]
    fn all_forms_of_a_set_say_the_same() {
        let json =
            "{\"text\": \"good\", \"label\": 1}\n\n{\"label\": \"ham\", \"text\": \"bad, a\"}";
        let csv = "id,label,text\n7,spam,good\n8,ham,\"bad, a\"\n";
        let tsv = "text\tlabel\ngood\t1\nbad, a\t0\n";
        let names = ["ham", "spam"];
        let set = open("t.jsonl", json, &names).unwrap();
        assert_eq!(set, open("t.csv", csv, &names).unwrap());
        assert_eq!(set, open("t.tsv", tsv, &names).unwrap());
        assert_eq!(set.labels(), [1, 0]);
        assert_eq!(set.text(0), [2, 5, 3]);
        assert_eq!(set.text(1), [2, 7, 1, 4, 3]);
        let turned = set.subset(&[1, 0, 1]);
        assert_eq!(
            (turned.text(1), turned.labels()),
            (set.text(0), &[0, 1, 0][..])
        );
        assert_eq!(turned.class_counts(), [2, 1]);
    }

    #[test]
    fn bad_rows_are_named_with_file_line_and_field() {
        let cases = [
            (
                "t.jsonl",
                "{\"text\": \"a\"}",
                "t.jsonl:1: `label` is missing",
            ),
            (
                "t.jsonl",
                "\n{\"label\": 1}",
                "t.jsonl:2: `text` is missing",
            ),
            (
                "t.jsonl",
                "{\"text\": \"a\", \"label\": [1]}",
                "`label` is a list",
            ),
            (
                "t.jsonl",
                "{\"text\": \"a\", \"label\": 1.5}",
                "`label` is \"1.5\", known: 0 to 1",
            ),
            (
                "t.csv",
                "text,label\na,0\na,2\n",
                "t.csv:3: `label` is \"2\"",
            ),
            ("t.csv", "text,class\na,0\n", "t.csv:1: no column label"),
            ("t.csv", "text,label\n", "no text"),
        ];
        for (name, content, expected) in cases {
            let error = open(name, content, &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = open("t.csv", "text,label\na,-1\n", &["ham", "spam"]).unwrap_err();
        assert!(error.to_string().contains("known: ham, spam, or 0 to 1"));
    }

    #[test]
    fn classes_and_names_must_fit() {
        assert!(open("t.csv", "text,label\na,0\n", &["one"]).is_err());
        let path = Path::new("absent");
        let result = Labelled::open(path, Part::Test, &word_pieces(), 6, 1, &[]);
        assert!(result.unwrap_err().to_string().contains("classes"));
    }
}

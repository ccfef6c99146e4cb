//! GGUF files, versions 2 and 3: one file with metadata, vocabulary and tensors.
//!
//! Tensors and settings are given Hugging Face's names, so that everything behind this module
//! knows one naming only. Families: `llama` (which Mistral, SmolLM and others are written as) and
//! `qwen2`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::encoding::Encoding;
use super::{Stored, refused};
use crate::error::ModelError;

mod config;
mod names;
mod reader;
mod tokenizer;

pub(crate) use config::to_hugging_face as config;
pub(crate) use names::ROPE_DIVISORS;
pub(crate) use tokenizer::{tokenizer, tokenizer_config};

/// A value of the metadata.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Metadata {
    Integer(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    Integers(Vec<i64>),
    /// Arrays that nothing here needs.
    Ignored,
}

/// The head of a file: metadata by name, and where each tensor lies.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) metadata: BTreeMap<String, Metadata>,
    /// By Hugging Face's name.
    pub(crate) tensors: BTreeMap<String, Stored>,
}

impl Head {
    /// Reads the head of a file whose index among the base's files is `index`.
    ///
    /// # Errors
    /// [`ModelError::File`]; [`ModelError::Base`] if it is no GGUF file that this module reads.
    pub(crate) fn read(path: &Path, index: usize) -> Result<Self, ModelError> {
        let failed = |source| ModelError::File {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let reader = reader::Reader::new(BufReader::new(file), length);
        parse(reader, length, index).map_err(|reason| refused(path, reason))
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.metadata.get(name) {
            Some(Metadata::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn texts(&self, name: &str) -> Option<&[String]> {
        match self.metadata.get(name) {
            Some(Metadata::Texts(texts)) => Some(texts),
            _ => None,
        }
    }

    fn integer(&self, name: &str) -> Option<i64> {
        match self.metadata.get(name) {
            Some(&Metadata::Integer(value)) => Some(value),
            _ => None,
        }
    }

    fn float(&self, name: &str) -> Option<f64> {
        match self.metadata.get(name) {
            Some(&Metadata::Float(value)) => Some(value),
            Some(&Metadata::Integer(value)) => Some(value as f64),
            _ => None,
        }
    }
}

fn parse<R: std::io::Read>(
    mut reader: reader::Reader<R>,
    length: u64,
    file: usize,
) -> Result<Head, String> {
    if reader.u32()? != MAGIC {
        return Err("no GGUF file: it begins otherwise".into());
    }
    let version = reader.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!("GGUF of version {version}, known are 2 and 3"));
    }
    let tensors = reader.u64()?;
    let entries = reader.u64()?;
    if tensors > TENSORS_MAX || entries > ENTRIES_MAX {
        return Err(format!(
            "{tensors} tensors and {entries} entries, at most {TENSORS_MAX} and {ENTRIES_MAX}"
        ));
    }
    let mut metadata = BTreeMap::new();
    for _ in 0..entries {
        let name = reader.text()?;
        let kind = reader.u32()?;
        let value = reader
            .value(kind)
            .map_err(|reason| format!("{name}: {reason}"))?;
        if metadata.insert(name.clone(), value).is_some() {
            return Err(format!("{name} stands there twice"));
        }
    }
    let mut head = Head {
        metadata,
        tensors: BTreeMap::new(),
    };
    let infos = (0..tensors)
        .map(|_| Info::read(&mut reader))
        .collect::<Result<Vec<_>, _>>()?;
    let alignment = head.integer("general.alignment").unwrap_or(32);
    let alignment = u64::try_from(alignment)
        .ok()
        .filter(|bytes| bytes.is_power_of_two() && *bytes <= ALIGNMENT_MAX)
        .ok_or_else(|| format!("an alignment of {alignment}"))?;
    let data = reader.position().next_multiple_of(alignment);
    let family = names::Family::of(&head)?;
    for info in infos {
        let Some(name) = names::to_hugging_face(&info.name) else {
            continue;
        };
        let stored = info
            .stored(data, length, file)
            .and_then(|stored| family.arrange(&name, stored))
            .map_err(|reason| format!("{}: {reason}", info.name))?;
        if head.tensors.insert(name, stored).is_some() {
            return Err(format!("{} stands there twice", info.name));
        }
    }
    Ok(head)
}

/// What the head says of a tensor.
struct Info {
    name: String,
    /// Outermost dimension first.
    shape: Vec<usize>,
    kind: u32,
    /// Behind the beginning of the data, in bytes.
    offset: u64,
}

impl Info {
    fn read<R: std::io::Read>(reader: &mut reader::Reader<R>) -> Result<Self, String> {
        let name = reader.text()?;
        let dimensions = reader.u32()?;
        if !(1..=DIMENSIONS_MAX).contains(&dimensions) {
            return Err(format!("{name} has {dimensions} dimensions"));
        }
        let mut shape = (0..dimensions)
            .map(|_| {
                let size = reader.u64()?;
                usize::try_from(size)
                    .ok()
                    .filter(|size| (1..=SIZE_MAX).contains(size))
                    .ok_or_else(|| format!("{name} has a dimension of {size}"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        // The file writes the innermost first.
        shape.reverse();
        Ok(Self {
            name,
            shape,
            kind: reader.u32()?,
            offset: reader.u64()?,
        })
    }

    fn stored(&self, data: u64, length: u64, file: usize) -> Result<Stored, String> {
        let encoding = Encoding::from_gguf(self.kind)
            .ok_or_else(|| format!("values of type {}, which is not known here", self.kind))?;
        let offset = data
            .checked_add(self.offset)
            .ok_or_else(|| format!("an offset of {}", self.offset))?;
        Stored::new(self.shape.clone(), encoding, file, offset, length)
    }
}

/// "GGUF" in little-endian bytes.
const MAGIC: u32 = u32::from_le_bytes(*b"GGUF");
/// Most tensors of a file.
const TENSORS_MAX: u64 = 1 << 16;
/// Most entries of the metadata.
const ENTRIES_MAX: u64 = 1 << 12;
/// Most dimensions of a tensor.
const DIMENSIONS_MAX: u32 = 4;
/// Largest dimension.
const SIZE_MAX: usize = 1 << 28;
/// Largest alignment of the data, in bytes.
const ALIGNMENT_MAX: u64 = 1 << 16;

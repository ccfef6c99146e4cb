//! Base weights: the pretrained model that a task starts from.
//!
//! A base is a folder, either as Hugging Face lays models out (`config.json`, `tokenizer.json`,
//! `model.safetensors` or an index with several files) or with one GGUF file, which holds all
//! three. A task names it by the hash of its [`Manifest`]; [`Cache`] fetches it from a
//! [`BaseSource`] and checks every file before it is used. Tensors are read one at a time, so that
//! opening a base costs no memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::error::ModelError;
use crate::rope::RopeScaling;

mod cache;
mod encoding;
mod gguf;
mod hub;
mod manifest;
mod safetensors;
mod source;

pub use cache::Cache;
pub use encoding::Encoding;
pub(crate) use encoding::{to_q4_1, to_q8_0};
pub use manifest::{BaseFile, Manifest};
pub(crate) use safetensors::SINGLE;
pub use source::{BaseSource, HubRepository};

/// The opened base of a model: settings, tokenizer, and tensors to be read by name.
#[derive(Debug)]
pub struct Base {
    folder: PathBuf,
    config: Value,
    tokenizer: TokenizerSource,
    tokenizer_config: Value,
    files: Vec<(PathBuf, Mutex<File>)>,
    tensors: BTreeMap<String, Stored>,
}

#[derive(Debug)]
enum TokenizerSource {
    None,
    /// The text of `tokenizer.json`.
    File(Vec<u8>),
    /// Boxed: far larger than the others.
    Built(Box<Tokenizer>),
    /// A GGUF file whose tokenizer cannot be built, and why.
    Unknown(String),
}

impl Base {
    /// Opens a folder, or one GGUF file. Reads settings and heads, no weights.
    ///
    /// # Errors
    /// [`ModelError::File`]; [`ModelError::Base`] if the folder holds no model, or a file is
    /// damaged, larger than allowed, or of a kind that is not read.
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        if folder.is_file() {
            return Self::open_gguf(folder, folder.to_owned());
        }
        match gguf_file(folder)? {
            Some(file) => Self::open_gguf(folder, file),
            None => Self::open_safetensors(folder),
        }
    }

    fn open_gguf(folder: &Path, path: PathBuf) -> Result<Self, ModelError> {
        let head = gguf::Head::read(&path, 0)?;
        let config = gguf::config(&head);
        let tokenizer = match gguf::tokenizer(&head) {
            Ok(tokenizer) => TokenizerSource::Built(Box::new(tokenizer)),
            Err(reason) => TokenizerSource::Unknown(reason),
        };
        let mut base = Self {
            folder: folder.to_owned(),
            config,
            tokenizer,
            tokenizer_config: gguf::tokenizer_config(&head),
            files: vec![opened(path)?],
            tensors: head.tensors,
        };
        base.read_rope_divisors()?;
        Ok(base)
    }

    /// Makes a setting of what GGUF files write down as a tensor.
    fn read_rope_divisors(&mut self) -> Result<(), ModelError> {
        let Some(stored) = self.tensors.get(gguf::ROPE_DIVISORS) else {
            return Ok(());
        };
        let shape = stored.shape.clone();
        if shape.iter().product::<usize>() > ROPE_DIVISORS_MAX {
            let reason = format!("{} is {shape:?}", gguf::ROPE_DIVISORS);
            return Err(refused(&self.folder, reason));
        }
        let divisors = self.values(gguf::ROPE_DIVISORS, &shape)?;
        let theta = self.config["rope_theta"].as_f64().unwrap_or_default();
        let scaling = RopeScaling::from_divisors(&divisors, theta).ok_or_else(|| {
            let reason = "its rotary angles are not scaled as Llama 3's are";
            refused(&self.folder, reason)
        })?;
        self.tensors.remove(gguf::ROPE_DIVISORS);
        self.config["rope_scaling"] = scaling.to_hugging_face();
        Ok(())
    }

    fn open_safetensors(folder: &Path) -> Result<Self, ModelError> {
        let path = folder.join(CONFIG);
        let config = serde_json::from_slice(&bounded(&path, CONFIG_BYTES_MAX)?)
            .map_err(|error| refused(&path, error))?;
        let path = folder.join(TOKENIZER);
        let tokenizer = if path.exists() {
            TokenizerSource::File(bounded(&path, TOKENIZER_BYTES_MAX)?)
        } else {
            TokenizerSource::None
        };
        let mut tensors = BTreeMap::new();
        let mut files = Vec::new();
        for path in safetensors::files(folder)? {
            for (name, stored) in safetensors::head(&path, files.len())? {
                if tensors.insert(name.clone(), stored).is_some() {
                    return Err(refused(&path, format!("{name} stands in two files")));
                }
            }
            files.push(opened(path)?);
        }
        Ok(Self {
            folder: folder.to_owned(),
            config,
            tokenizer,
            tokenizer_config: serde_json::json!({ "tokenizer_class": "PreTrainedTokenizerFast" }),
            files,
            tensors,
        })
    }

    /// The folder it was opened from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Settings by the names of Hugging Face's `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The base's own tokenizer.
    ///
    /// # Errors
    /// [`ModelError::Base`] if there is none, or it is damaged or of a kind that is not known.
    pub fn tokenizer(&self) -> Result<Tokenizer, ModelError> {
        match &self.tokenizer {
            TokenizerSource::Built(tokenizer) => Ok(tokenizer.as_ref().clone()),
            TokenizerSource::File(text) => Tokenizer::from_bytes(text)
                .map_err(|error| refused(&self.folder.join(TOKENIZER), error)),
            TokenizerSource::None => Err(refused(&self.folder, "there is no tokenizer.json")),
            TokenizerSource::Unknown(reason) => Err(refused(&self.folder, reason)),
        }
    }

    /// What `tokenizer_config.json` says: the folder's own, or what a GGUF file knows of it.
    ///
    /// # Errors
    /// [`ModelError::File`]; [`ModelError::Base`] if it is damaged.
    pub fn tokenizer_config(&self) -> Result<Value, ModelError> {
        let path = self.folder.join("tokenizer_config.json");
        if path.is_file() {
            let text = bounded(&path, CONFIG_BYTES_MAX)?;
            return serde_json::from_slice(&text).map_err(|error| refused(&path, error));
        }
        Ok(self.tokenizer_config.clone())
    }

    /// Names and shapes of all tensors, ordered by name; outermost dimension first.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], Encoding)> {
        self.tensors
            .iter()
            .map(|(name, stored)| (name.as_str(), stored.shape.as_slice(), stored.encoding))
    }

    /// Whether there is a tensor of that name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Reads a tensor. Costs its bytes in memory.
    ///
    /// # Errors
    /// [`ModelError::Base`] if there is none of that name and shape; [`ModelError::File`].
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<RawTensor, ModelError> {
        let stored = self
            .tensors
            .get(name)
            .ok_or_else(|| refused(&self.folder, format!("there is no tensor {name}")))?;
        if stored.shape != shape {
            return Err(refused(
                &self.folder,
                format!("{name} is {:?}, the model has {shape:?}", stored.shape),
            ));
        }
        let (path, file) = &self.files[stored.file];
        let mut bytes = vec![0; stored.bytes];
        let mut file = file
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(stored.offset))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|source| ModelError::File {
                path: path.clone(),
                source,
            })?;
        let tensor = RawTensor {
            shape: shape.to_vec(),
            encoding: stored.encoding,
            bytes,
        };
        Ok(match stored.interleaved_heads {
            None => tensor,
            Some(heads) => tensor.with_halves(heads),
        })
    }

    /// Reads a tensor as numbers.
    ///
    /// # Errors
    /// As [`read`](Self::read); [`ModelError::Base`] if a value is infinite or not a number.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let values = self.read(name, shape)?.values();
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            let reason = format!("{name} has values that are infinite or not numbers");
            Err(refused(&self.folder, reason))
        }
    }
}

/// A tensor as its file has it, rows in Hugging Face's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawTensor {
    /// Outermost dimension first.
    pub shape: Vec<usize>,
    /// How the values are written.
    pub encoding: Encoding,
    /// The values, row after row.
    pub bytes: Vec<u8>,
}

impl RawTensor {
    /// The values as numbers.
    pub fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.shape.iter().product()];
        self.encoding.decode(&self.bytes, &mut values);
        values
    }

    /// Rows so that a rotation pairs value i of a head with value i + d/2, from rows where the
    /// pairs lie side by side.
    fn with_halves(self, heads: usize) -> Self {
        let rows = self.shape[0];
        let row = self.bytes.len() / rows;
        let per_head = rows / heads;
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for head in 0..heads {
            for half in 0..2 {
                for pair in 0..per_head / 2 {
                    let from = (head * per_head + 2 * pair + half) * row;
                    bytes.extend_from_slice(&self.bytes[from..from + row]);
                }
            }
        }
        Self { bytes, ..self }
    }
}

/// Where a tensor lies; every claim is checked against the file's length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    shape: Vec<usize>,
    encoding: Encoding,
    /// Index among the base's files.
    file: usize,
    offset: u64,
    bytes: usize,
    /// Rows are interleaved for rotary embeddings in so many heads.
    interleaved_heads: Option<usize>,
}

impl Stored {
    fn new(
        shape: Vec<usize>,
        encoding: Encoding,
        file: usize,
        offset: u64,
        file_length: u64,
    ) -> Result<Self, String> {
        let row = shape.last().copied().unwrap_or(1);
        let bytes = encoding
            .bytes(row)
            .and_then(|row| {
                let rows = shape.iter().rev().skip(1);
                rows.copied().try_fold(row, usize::checked_mul)
            })
            .ok_or_else(|| format!("a shape of {shape:?} in {}", encoding.name()))?;
        let end = offset.checked_add(bytes as u64);
        if end.is_none_or(|end| end > file_length) {
            return Err(format!(
                "{bytes} bytes from byte {offset} on, the file has {file_length}"
            ));
        }
        Ok(Self {
            shape,
            encoding,
            file,
            offset,
            bytes,
            interleaved_heads: None,
        })
    }

    /// Notes that rows are interleaved in so many heads, of an even number of rows each.
    fn interleaved(self, heads: usize) -> Result<Self, String> {
        if self.shape[0].is_multiple_of(2 * heads) {
            Ok(Self {
                interleaved_heads: Some(heads),
                ..self
            })
        } else {
            Err(format!("{} rows in {heads} heads", self.shape[0]))
        }
    }
}

/// The one GGUF file of a folder, or none.
fn gguf_file(folder: &Path) -> Result<Option<PathBuf>, ModelError> {
    let failed = |source| ModelError::File {
        path: folder.to_owned(),
        source,
    };
    let mut found = None;
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_gguf = path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
        if is_gguf && found.replace(path).is_some() {
            return Err(refused(folder, "there are several GGUF files"));
        }
    }
    Ok(found)
}

fn opened(path: PathBuf) -> Result<(PathBuf, Mutex<File>), ModelError> {
    match File::open(&path) {
        Ok(file) => Ok((path, Mutex::new(file))),
        Err(source) => Err(ModelError::File { path, source }),
    }
}

/// The whole of a small file.
fn bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ModelError> {
    let failed = |source| ModelError::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(refused(path, format!("more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

pub(crate) fn refused(file: &Path, reason: impl std::fmt::Display) -> ModelError {
    ModelError::Base {
        file: file.display().to_string(),
        reason: reason.to_string(),
    }
}

/// Settings in a folder.
pub(crate) const CONFIG: &str = "config.json";
/// The tokenizer in a folder.
pub(crate) const TOKENIZER: &str = "tokenizer.json";
/// Most bytes of `config.json` and of an index.
const CONFIG_BYTES_MAX: u64 = 1 << 24;
/// Most divisors of rotary angles: half of the widest head.
const ROPE_DIVISORS_MAX: usize = 2048;
/// Most bytes of `tokenizer.json`: vocabularies of 256 thousand tokens take 30 MB.
const TOKENIZER_BYTES_MAX: u64 = 1 << 26;

#[cfg(test)]
mod tests;

//! What a base consists of: every file's name, length and hash. The manifest's own hash names the
//! base in a task.

use std::fs::File;
use std::path::Path;

use convoke_protocol::ids::BlobHash;
use serde::{Deserialize, Serialize};

use super::refused;
use crate::error::ModelError;

/// The files of a base, ordered by name.
///
/// In TOML:
/// ```toml
/// [[files]]
/// name = "model.safetensors"
/// bytes = 90868376
/// blake3 = "…"                 # 64 hexadecimal digits
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Manifest {
    files: Vec<BaseFile>,
}

/// One file of a base.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseFile {
    /// 1 to 128 letters, digits, `.`, `-` and `_`; no path.
    pub name: String,
    /// Length, up to 2^40 bytes.
    pub bytes: u64,
    /// Hash of the content.
    #[serde(with = "hex_hash")]
    pub blake3: blake3::Hash,
}

impl Manifest {
    /// A manifest of these files.
    ///
    /// # Errors
    /// [`ModelError::Base`] if there are none or more than 1,024, two have one name, or a name or
    /// length is not allowed.
    pub fn new(mut files: Vec<BaseFile>) -> Result<Self, ModelError> {
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        check(&files).map_err(|reason| refused(Path::new("manifest"), reason))?;
        Ok(Self { files })
    }

    /// The manifest of one file.
    ///
    /// # Errors
    /// [`ModelError::File`]; [`ModelError::Base`] for a name that is not allowed.
    pub fn of_file(path: &Path) -> Result<Self, ModelError> {
        let name = path.file_name().and_then(|name| name.to_str());
        let (bytes, blake3) = measure(path)?;
        Self::new(vec![BaseFile {
            name: name.unwrap_or_default().to_owned(),
            bytes,
            blake3,
        }])
    }

    /// Reads a folder: the files of a model among those in it. Costs reading them all.
    ///
    /// # Errors
    /// [`ModelError::File`]; [`ModelError::Base`] if it holds no model.
    pub fn of_folder(folder: &Path) -> Result<Self, ModelError> {
        let failed = |source| ModelError::File {
            path: folder.to_owned(),
            source,
        };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(name) = name.to_str().filter(|name| belongs(name)) else {
                continue;
            };
            let (bytes, blake3) = measure(&folder.join(name))?;
            files.push(BaseFile {
                name: name.to_owned(),
                bytes,
                blake3,
            });
        }
        if files.is_empty() {
            return Err(refused(folder, "there is no model"));
        }
        Self::new(files)
    }

    /// The files, ordered by name.
    pub fn files(&self) -> &[BaseFile] {
        &self.files
    }

    /// Length of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The hash that names the base: over a line for each file.
    pub fn id(&self) -> BlobHash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"convoke base 1\n");
        for BaseFile {
            name,
            bytes,
            blake3,
        } in &self.files
        {
            hasher.update(format!("{name} {bytes} {}\n", blake3.to_hex()).as_bytes());
        }
        BlobHash(*hasher.finalize().as_bytes())
    }

    /// The first file that a folder lacks or has otherwise, or none. Reads them all.
    ///
    /// # Errors
    /// [`ModelError::File`] if a file is there and cannot be read.
    pub fn missing_in(&self, folder: &Path) -> Result<Option<&BaseFile>, ModelError> {
        for file in &self.files {
            if !file.is_at(&folder.join(&file.name))? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }
}

impl BaseFile {
    /// Whether the file at `path` is this one: same length, same hash.
    ///
    /// # Errors
    /// [`ModelError::File`] if it is there and cannot be read.
    pub fn is_at(&self, path: &Path) -> Result<bool, ModelError> {
        match path.metadata() {
            Ok(metadata) if metadata.is_file() && metadata.len() == self.bytes => {
                Ok(measure(path)?.1 == self.blake3)
            }
            _ => Ok(false),
        }
    }
}

/// Length and hash of a file.
fn measure(path: &Path) -> Result<(u64, blake3::Hash), ModelError> {
    let failed = |source| ModelError::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(failed)?;
    Ok((hasher.count(), hasher.finalize()))
}

/// Whether a file of that name is part of a model.
pub(super) fn belongs(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "config.json",
        "generation_config.json",
        "model.safetensors.index.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    let weights =
        name.ends_with(".gguf") || (name.starts_with("model") && name.ends_with(".safetensors"));
    check_name(name).is_ok() && (weights || NAMES.contains(&name))
}

/// Checks that a name is one of a plain file.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with('.')
    {
        Ok(())
    } else {
        Err(format!("{name:?} is no file name that is allowed here"))
    }
}

fn check(files: &[BaseFile]) -> Result<(), String> {
    if !(1..=FILES_MAX).contains(&files.len()) {
        return Err(format!("{} files, allowed: 1 to {FILES_MAX}", files.len()));
    }
    for file in files {
        check_name(&file.name)?;
        if file.bytes > FILE_BYTES_MAX {
            return Err(format!("{} has {} bytes", file.name, file.bytes));
        }
    }
    match files.windows(2).find(|pair| pair[0].name >= pair[1].name) {
        None => Ok(()),
        Some(pair) => Err(format!(
            "files must be ordered by name: {} stands before {}",
            pair[0].name, pair[1].name
        )),
    }
}

/// Most files of a base.
const FILES_MAX: usize = 1024;
/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Longest file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 40;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    files: Vec<BaseFile>,
}

impl TryFrom<Unchecked> for Manifest {
    type Error = String;

    fn try_from(unchecked: Unchecked) -> Result<Self, String> {
        check(&unchecked.files)?;
        Ok(Self {
            files: unchecked.files,
        })
    }
}

mod hex_hash {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        hash: &blake3::Hash,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&hash.to_hex())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<blake3::Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        blake3::Hash::from_hex(text).map_err(serde::de::Error::custom)
    }
}

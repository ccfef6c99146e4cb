//! Where a base comes from.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::ModelError;

/// Where the files of a base lie. As text: `hf:owner/name`, `hf:owner/name@revision`,
/// `https://host/folder`, or a folder.
///
/// The hub's address and cache are those of Hugging Face's own tools: `HF_ENDPOINT` and `HF_HOME`
/// are respected, and the token in `HF_TOKEN` or, else, in `HF_HOME` is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BaseSource {
    /// A folder on this machine.
    Folder(PathBuf),
    /// A folder of a web server: a file's address is this, a slash, and its name.
    Url(String),
    /// A repository of the Hugging Face hub.
    Hub(HubRepository),
}

/// One revision of a model on the Hugging Face hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubRepository {
    /// `owner/name`.
    pub name: String,
    /// A branch, tag or commit; `main` unless said otherwise.
    pub revision: String,
}

impl FromStr for BaseSource {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let refused = |allowed| ModelError::Config {
            field: "base source",
            got: text.to_owned(),
            allowed,
        };
        if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(refused("1 to 512 bytes without control characters"));
        }
        if let Some(repository) = text.strip_prefix("hf:") {
            let (name, revision) = repository.split_once('@').unwrap_or((repository, "main"));
            let parts: Vec<&str> = name.split('/').collect();
            let plain = |part: &str| {
                let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
                !part.is_empty() && part.bytes().all(allowed) && !part.starts_with('.')
            };
            let revision_is_plain = revision.split('/').all(plain);
            return if parts.len() == 2 && parts.iter().all(|part| plain(part)) && revision_is_plain
            {
                Ok(Self::Hub(HubRepository {
                    name: name.to_owned(),
                    revision: revision.to_owned(),
                }))
            } else {
                Err(refused("hf:owner/name or hf:owner/name@revision"))
            };
        }
        match text.split_once("://") {
            Some(("https", _)) => Ok(Self::Url(text.trim_end_matches('/').to_owned())),
            Some(("http", rest)) if is_loopback(rest) => {
                Ok(Self::Url(text.trim_end_matches('/').to_owned()))
            }
            Some(_) => Err(refused("https:// addresses, hf:owner/name, or a folder")),
            None => Ok(Self::Folder(PathBuf::from(text))),
        }
    }
}

/// Whether an address without its scheme is on this machine: there nothing can be read on the way.
fn is_loopback(rest: &str) -> bool {
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    ["127.0.0.1", "localhost", "[::1]"].contains(&host)
}

/// Longest text, in bytes.
const TEXT_BYTES_MAX: usize = 512;

impl fmt::Display for BaseSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Url(url) => f.write_str(url),
            Self::Hub(repository) => repository.fmt(f),
        }
    }
}

impl fmt::Display for HubRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}@{}", self.name, self.revision)
    }
}

impl TryFrom<String> for BaseSource {
    type Error = ModelError;

    fn try_from(text: String) -> Result<Self, ModelError> {
        text.parse()
    }
}

impl From<BaseSource> for String {
    fn from(source: BaseSource) -> Self {
        source.to_string()
    }
}

//! Files of the Hugging Face hub, through the cache that its own tools use.

use std::fs;
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Repo, RepoType};

use super::manifest::BaseFile;
use super::source::HubRepository;
use crate::error::ModelError;

/// Which hub is asked, and where its files are kept: the environment's (`HF_ENDPOINT`, `HF_HOME`,
/// `HF_TOKEN`) unless said otherwise.
#[derive(Debug, Clone, Default)]
pub(super) struct Hub {
    other: Option<(String, PathBuf)>,
}

impl Hub {
    pub(super) fn at(endpoint: impl Into<String>, folder: impl Into<PathBuf>) -> Self {
        Self {
            other: Some((endpoint.into(), folder.into())),
        }
    }

    /// The names of all files of a repository.
    pub(super) fn files(&self, repository: &HubRepository) -> Result<Vec<String>, ModelError> {
        let info = self.api(repository)?.repo(repo(repository)).info();
        let files = info
            .map_err(|error| failed(repository, told(&error)))?
            .siblings;
        Ok(files.into_iter().map(|file| file.rfilename).collect())
    }

    /// Puts a file of at most `file.bytes` bytes at `path`. What the cache has is taken, unless it
    /// is another file than `wanted`: a branch may have moved on since.
    pub(super) fn fetch(
        &self,
        repository: &HubRepository,
        file: &BaseFile,
        wanted: Option<&BaseFile>,
        path: &Path,
        progress: &mut dyn FnMut(&BaseFile, u64),
    ) -> Result<(), ModelError> {
        let refused = |reason: String| failed(repository, format!("{}: {reason}", file.name));
        let found = match self.cached(repository, &file.name) {
            Some(found) if wanted.map_or(Ok(true), |wanted| wanted.is_at(&found))? => found,
            _ => {
                let api = self.api(repository)?;
                let remote = api.repo(repo(repository));
                let metadata = api.metadata(&remote.url(&file.name));
                let bytes = metadata.map_err(|error| refused(told(&error)))?.size();
                if bytes as u64 > file.bytes {
                    return Err(refused(format!("{bytes} bytes, expected {}", file.bytes)));
                }
                let report = Report {
                    file,
                    progress,
                    bytes: 0,
                };
                remote
                    .download_with_progress(&file.name, report)
                    .map_err(|error| refused(told(&error)))?
            }
        };
        put(&found, path).map_err(|source| ModelError::File {
            path: path.to_owned(),
            source,
        })
    }

    fn cached(&self, repository: &HubRepository, name: &str) -> Option<PathBuf> {
        let cache = match &self.other {
            Some((_, folder)) => hf_hub::Cache::new(folder.clone()),
            None => hf_hub::Cache::from_env(),
        };
        cache.repo(repo(repository)).get(name)
    }

    fn api(&self, repository: &HubRepository) -> Result<Api, ModelError> {
        let builder = match &self.other {
            Some((endpoint, folder)) => {
                let cache = hf_hub::Cache::new(folder.clone());
                ApiBuilder::from_cache(cache).with_endpoint(endpoint.clone())
            }
            None => match std::env::var("HF_TOKEN") {
                Ok(token) if !token.is_empty() => ApiBuilder::from_env().with_token(Some(token)),
                _ => ApiBuilder::from_env(),
            },
        };
        let built = builder.with_retries(RETRIES).build();
        built.map_err(|error| failed(repository, error))
    }
}

/// Passes progress on.
struct Report<'a> {
    file: &'a BaseFile,
    progress: &'a mut dyn FnMut(&BaseFile, u64),
    bytes: u64,
}

impl Progress for Report<'_> {
    /// Also called when a transfer begins anew, before an update for what is there already.
    fn init(&mut self, _size: usize, _name: &str) {
        self.bytes = 0;
    }

    fn update(&mut self, more: usize) {
        self.bytes += more as u64;
        (self.progress)(self.file, self.bytes);
    }

    fn finish(&mut self) {}
}

/// The hub's cache links to its blobs: link to the blob itself where the disk allows it.
fn put(found: &Path, path: &Path) -> std::io::Result<()> {
    let blob = fs::canonicalize(found)?;
    if path.exists() {
        fs::remove_file(path)?;
    }
    fs::hard_link(&blob, path).or_else(|_| fs::copy(&blob, path).map(drop))
}

fn repo(repository: &HubRepository) -> Repo {
    let HubRepository { name, revision } = repository;
    Repo::with_revision(name.clone(), RepoType::Model, revision.clone())
}

/// What went wrong, and what to do where the hub alone does not say.
fn told(error: &ApiError) -> String {
    match error {
        ApiError::RequestError(cause) if matches!(**cause, ureq::Error::StatusCode(401 | 403)) => {
            format!(
                "{error}; the hub has no such repository, or shows it only to those whom its owner \
                 allows: accept its terms there and log in with `hf auth login`"
            )
        }
        _ => error.to_string(),
    }
}

fn failed(repository: &HubRepository, reason: impl std::fmt::Display) -> ModelError {
    ModelError::Fetch {
        from: repository.to_string(),
        reason: reason.to_string(),
    }
}

/// Attempts beyond the first.
const RETRIES: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_repository_is_told_from_a_missing_file() {
        let status = |code| ApiError::RequestError(Box::new(ureq::Error::StatusCode(code)));
        assert!(told(&status(401)).contains("hf auth login"));
        assert!(!told(&status(404)).contains("hf auth login"));
    }
}

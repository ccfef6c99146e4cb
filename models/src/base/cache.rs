//! Fetching bases, and where they are kept.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use convoke_protocol::ids::BlobHash;

use super::hub::Hub;
use super::manifest::{BaseFile, Manifest, belongs};
use super::source::BaseSource;
use crate::error::ModelError;

/// A folder with a folder for each base, named by its hash. Processes may share it.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
    hub: Hub,
}

impl Cache {
    /// A cache in `folder`, which need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            hub: Hub::default(),
        }
    }

    /// Asks another hub than the environment's for `hf:` sources. `folder` is kept as Hugging
    /// Face's tools keep theirs.
    #[must_use]
    pub fn with_hub(mut self, endpoint: impl Into<String>, folder: impl Into<PathBuf>) -> Self {
        self.hub = Hub::at(endpoint, folder);
        self
    }

    /// The user's cache: `CONVOKE_CACHE`, else `convoke/bases` in `XDG_CACHE_HOME` or in
    /// `~/.cache`.
    pub fn of_user() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(folder) = set("CONVOKE_CACHE") {
            return Self::new(folder);
        }
        let caches = set("XDG_CACHE_HOME").map(PathBuf::from);
        let caches = caches.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
        Self::new(caches.unwrap_or_default().join("convoke").join("bases"))
    }

    /// Where the base of that manifest is or would be.
    pub fn path(&self, manifest: &Manifest) -> PathBuf {
        self.folder.join(manifest.id().to_file_name())
    }

    /// The folder of a base, fetched if need be: every file has been checked against the manifest
    /// when this returns. A source that is a folder and has the right files is used where it is.
    ///
    /// An interrupted fetch goes on where it stopped, with web servers that allow it. `progress`
    /// is told of each part that arrived: the file, its bytes so far.
    ///
    /// # Errors
    /// [`ModelError::File`]; [`ModelError::Fetch`] if the source does not have the files, has
    /// others, or cannot be reached.
    pub fn fetch(
        &self,
        source: &BaseSource,
        manifest: &Manifest,
        progress: &mut dyn FnMut(&BaseFile, u64),
    ) -> Result<PathBuf, ModelError> {
        if let BaseSource::Folder(folder) = source {
            return match manifest.missing_in(folder)? {
                None => Ok(folder.clone()),
                Some(file) => Err(failed(
                    source,
                    format!("{} is missing or another file", file.name),
                )),
            };
        }
        let folder = self.path(manifest);
        fs::create_dir_all(&folder).map_err(|error| file_failed(&folder, error))?;
        // Several nodes on one machine: the first fetches, the others wait and find it.
        let path = folder.join(LOCK);
        let lock = File::create(&path).map_err(|error| file_failed(&path, error))?;
        lock.lock().map_err(|error| file_failed(&path, error))?;
        for file in manifest.files() {
            let path = folder.join(&file.name);
            if !file.is_at(&path)? {
                self.fetch_file(source, file, &path, progress)?;
            }
            progress(file, file.bytes);
        }
        write_manifest(&folder, manifest)?;
        Ok(folder)
    }

    /// The folder, or the one file, of the base of that hash: from the cache, else from the first
    /// source that has it. A web server must have the base's manifest beside its files, as
    /// `convoke-base.toml`, because its folders cannot be listed.
    ///
    /// # Errors
    /// The last source's [`ModelError::Fetch`], [`ModelError::File`] or [`ModelError::Base`].
    pub fn obtain(
        &self,
        sources: &[String],
        hash: BlobHash,
        progress: &mut dyn FnMut(&BaseFile, u64),
    ) -> Result<PathBuf, ModelError> {
        let folder = self.folder.join(hash.to_file_name());
        if let Ok(manifest) = read_manifest(&folder.join(MANIFEST))
            && manifest.id() == hash
            && manifest.missing_in(&folder)?.is_none()
        {
            return Ok(folder);
        }
        let mut last = ModelError::Config {
            field: "base.sources",
            got: "none".into(),
            allowed: "at least one",
        };
        for source in sources {
            let found = source
                .parse()
                .and_then(|source| self.adopt(&source, Some(hash), progress));
            match found {
                Ok((_, folder)) => return Ok(folder),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The manifest and folder of whatever base a source has; of the base of that hash, if one is
    /// given. Without a hash, what comes is trusted as it comes, up to 64 GiB a file.
    ///
    /// # Errors
    /// [`ModelError::File`], [`ModelError::Fetch`], [`ModelError::Base`].
    pub fn adopt(
        &self,
        source: &BaseSource,
        hash: Option<BlobHash>,
        progress: &mut dyn FnMut(&BaseFile, u64),
    ) -> Result<(Manifest, PathBuf), ModelError> {
        let check = |manifest: &Manifest| match hash {
            Some(hash) if manifest.id() != hash => Err(failed(
                source,
                format!("the base there is {}, wanted is {hash}", manifest.id()),
            )),
            _ => Ok(()),
        };
        match source {
            BaseSource::Folder(path) => {
                let manifest = if path.is_file() {
                    Manifest::of_file(path)?
                } else {
                    Manifest::of_folder(path)?
                };
                check(&manifest)?;
                Ok((manifest, path.clone()))
            }
            BaseSource::Url(_) => {
                let staging = self.staging(source)?;
                let path = staging.join(MANIFEST);
                remove(&path)?;
                download(
                    source,
                    &unknown(MANIFEST, MANIFEST_BYTES_MAX),
                    &path,
                    progress,
                )?;
                let manifest = read_manifest(&path)?;
                check(&manifest)?;
                let folder = self.fetch(source, &manifest, progress)?;
                Ok((manifest, folder))
            }
            BaseSource::Hub(repository) => {
                let staging = self.staging(source)?;
                let names = self.hub.files(repository)?;
                for name in names.iter().filter(|name| belongs(name)).take(FILES_MAX) {
                    let file = unknown(name, ADOPTED_BYTES_MAX);
                    self.hub
                        .fetch(repository, &file, None, &staging.join(name), progress)?;
                }
                let manifest = Manifest::of_folder(&staging)?;
                check(&manifest)?;
                let folder = self.keep(&staging, &manifest)?;
                Ok((manifest, folder))
            }
        }
    }

    /// Moves a staged base to its place.
    fn keep(&self, staging: &Path, manifest: &Manifest) -> Result<PathBuf, ModelError> {
        let folder = self.path(manifest);
        fs::create_dir_all(&folder).map_err(|error| file_failed(&folder, error))?;
        for file in manifest.files() {
            let (from, to) = (staging.join(&file.name), folder.join(&file.name));
            fs::rename(&from, &to).map_err(|error| file_failed(&to, error))?;
        }
        write_manifest(&folder, manifest)?;
        Ok(folder)
    }

    /// A folder for what is fetched from a source and not known yet.
    fn staging(&self, source: &BaseSource) -> Result<PathBuf, ModelError> {
        let name = blake3::hash(source.to_string().as_bytes()).to_hex();
        let process = std::process::id();
        let folder = self
            .folder
            .join(format!("fetching-{}-{process}", &name[..16]));
        fs::create_dir_all(&folder).map_err(|error| file_failed(&folder, error))?;
        Ok(folder)
    }

    fn fetch_file(
        &self,
        source: &BaseSource,
        file: &BaseFile,
        path: &Path,
        progress: &mut dyn FnMut(&BaseFile, u64),
    ) -> Result<(), ModelError> {
        let part = path.with_file_name(format!("{}.part", file.name));
        match source {
            BaseSource::Hub(repository) => {
                self.hub
                    .fetch(repository, file, Some(file), &part, progress)?;
            }
            _ => download(source, file, &part, progress)?,
        }
        if !file.is_at(&part)? {
            // The next attempt begins anew.
            fs::remove_file(&part).map_err(|error| file_failed(&part, error))?;
            let reason = format!("{} is another file than the manifest says", file.name);
            return Err(failed(source, reason));
        }
        fs::rename(&part, path).map_err(|error| file_failed(path, error))
    }
}

/// Appends what is still missing of a file to `part`.
fn download(
    source: &BaseSource,
    file: &BaseFile,
    part: &Path,
    progress: &mut dyn FnMut(&BaseFile, u64),
) -> Result<(), ModelError> {
    let url = format!("{source}/{}", file.name);
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match resume(&url, file, part, progress) {
            Ok(()) => return Ok(()),
            // Missing files and lost permissions do not heal.
            Err(error @ Stop::Final(_)) => return Err(failed(source, error)),
            Err(error @ Stop::Retry(_)) => last = Some(error),
        }
    }
    let reason = last.map_or_else(String::new, |stop| stop.to_string());
    Err(failed(source, reason))
}

#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("{0}")]
    Final(String),
    #[error("{0}, after several attempts")]
    Retry(String),
}

fn resume(
    url: &str,
    file: &BaseFile,
    part: &Path,
    progress: &mut dyn FnMut(&BaseFile, u64),
) -> Result<(), Stop> {
    let retry = |error: io::Error| Stop::Retry(format!("{}: {error}", file.name));
    let have = part.metadata().map_or(0, |metadata| metadata.len());
    let have = if have >= file.bytes { 0 } else { have };
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_recv_response(Some(CONNECT_TIMEOUT))
        // At least 64 kB a second, and a minute for the beginning.
        .timeout_recv_body(Some(Duration::from_secs(60 + (file.bytes - have) / 65_536)))
        .build()
        .into();
    let mut request = agent.get(url).header("accept-encoding", "identity");
    if have > 0 {
        request = request.header("range", format!("bytes={have}-"));
    }
    let response = request.call().map_err(|error| match error {
        ureq::Error::StatusCode(status) if (400..500).contains(&status) => {
            Stop::Final(format!("{}: status {status}", file.name))
        }
        other => Stop::Retry(format!("{}: {other}", file.name)),
    })?;
    let resumed = have > 0 && response.status() == 206;
    let mut arrived = if resumed { have } else { 0 };
    let mut target = OpenOptions::new()
        .create(true)
        .write(true)
        .append(resumed)
        .truncate(!resumed)
        .open(part)
        .map_err(retry)?;
    let mut body = response
        .into_body()
        .into_with_config()
        .limit(u64::MAX)
        .reader();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = body.read(&mut buffer).map_err(retry)?;
        if count == 0 {
            break;
        }
        arrived += count as u64;
        if arrived > file.bytes {
            return Err(Stop::Final(format!(
                "{} has more than the {} bytes that are expected",
                file.name, file.bytes
            )));
        }
        target.write_all(&buffer[..count]).map_err(retry)?;
        progress(file, arrived);
    }
    target.sync_all().map_err(retry)
}

/// A file of which only the name is known.
fn unknown(name: &str, bytes: u64) -> BaseFile {
    BaseFile {
        name: name.to_owned(),
        bytes,
        blake3: blake3::Hash::from_bytes([0; 32]),
    }
}

fn remove(path: &Path) -> Result<(), ModelError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_failed(path, error)),
        _ => Ok(()),
    }
}

fn read_manifest(path: &Path) -> Result<Manifest, ModelError> {
    let text = super::bounded(path, MANIFEST_BYTES_MAX)?;
    toml::from_slice(&text).map_err(|error| super::refused(path, error.to_string().trim()))
}

/// Writes a base's manifest into its folder, as [`MANIFEST`].
///
/// # Errors
/// [`ModelError::File`].
pub(crate) fn write_manifest(folder: &Path, manifest: &Manifest) -> Result<(), ModelError> {
    let path = folder.join(MANIFEST);
    let text = toml::to_string(manifest).expect("a manifest is a plain table");
    fs::write(&path, text).map_err(|error| file_failed(&path, error))
}

fn failed(source: &BaseSource, reason: impl std::fmt::Display) -> ModelError {
    ModelError::Fetch {
        from: source.to_string(),
        reason: reason.to_string(),
    }
}

fn file_failed(path: &Path, source: io::Error) -> ModelError {
    ModelError::File {
        path: path.to_owned(),
        source,
    }
}

/// The manifest in a folder.
const MANIFEST: &str = "convoke-base.toml";
/// Longest manifest, in bytes.
const MANIFEST_BYTES_MAX: u64 = 1 << 18;
/// Held while a base is fetched.
const LOCK: &str = ".lock";
/// Attempts at a file before giving up.
const ATTEMPTS: usize = 3;
/// How long a server may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest file that is adopted without a manifest, in bytes.
const ADOPTED_BYTES_MAX: u64 = 1 << 36;
/// Most files that are adopted.
const FILES_MAX: usize = 1024;

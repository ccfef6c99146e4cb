//! Fetching base weights: from folders, web servers and the hub's protocol.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use convoke_models::base::{BaseFile, BaseSource, Cache, Manifest};
use serde_json::json;

/// Files, by name, as a web server has them, and what it was asked for. It answers as the hub does,
/// too: with a list of the files, and with what identifies them.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves files with ranges; the first answer for each name ends after `cut` bytes.
    fn start(files: BTreeMap<String, Vec<u8>>, cut: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/models/x", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        std::thread::spawn(move || {
            let mut cuts = BTreeMap::new();
            for stream in listener.incoming() {
                let cut_of = |name: &str| {
                    let first =
                        !std::mem::replace(cuts.entry(name.to_owned()).or_insert(false), true);
                    cut.filter(|_| first)
                };
                // A client that hangs up is no matter of the server's.
                let _ = answer(stream.unwrap(), &files, &seen, cut_of);
            }
        });
        Self { address, asked }
    }

    fn source(&self) -> BaseSource {
        self.address.parse().unwrap()
    }

    /// A cache that asks this server as its hub.
    fn hub_of(&self, folder: &Path) -> Cache {
        let endpoint = self.address.trim_end_matches("/models/x");
        Cache::new(folder.join("bases")).with_hub(endpoint, folder.join("hub"))
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(
    mut stream: TcpStream,
    files: &BTreeMap<String, Vec<u8>>,
    asked: &Mutex<Vec<String>>,
    cut: impl FnOnce(&str) -> Option<usize>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap()?;
    let (mut begin, mut end) = (0, None);
    for line in lines {
        let line = line?.to_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            let (first, last) = range.split_once('-').unwrap();
            begin = first.parse().unwrap();
            end = last.parse::<usize>().ok();
        }
        if line.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap();
    let name = path.rsplit('/').next().unwrap();
    asked.lock().unwrap().push(format!("{name} from {begin}"));
    let listing = listing(files).into_bytes();
    let found = files.get(name);
    let Some(content) = found.or_else(|| path.starts_with("/api/").then_some(&listing)) else {
        return stream.write_all(
            b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        );
    };
    let body = &content[begin..end.map_or(content.len(), |last| last + 1)];
    let status = if begin > 0 || end.is_some() {
        "206 Partial Content"
    } else {
        "200 OK"
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-range: bytes {begin}-{}/{}\r\n\
         etag: \"{}\"\r\nx-repo-commit: {}\r\nconnection: close\r\n\r\n",
        body.len(),
        begin + body.len(),
        content.len(),
        blake3::hash(content).to_hex(),
        commit(files),
    )?;
    let whole = end.is_none() && found.is_some();
    let cut = if whole { cut(name) } else { None };
    let sent = cut.unwrap_or(body.len()).min(body.len());
    stream.write_all(&body[..sent])
}

/// Names what the repository holds.
fn commit(files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut hasher = blake3::Hasher::new();
    for content in files.values() {
        hasher.update(content);
    }
    hasher.finalize().to_hex()[..40].to_owned()
}

/// What the hub says of a repository.
fn listing(files: &BTreeMap<String, Vec<u8>>) -> String {
    let names = files.keys().map(|name| json!({ "rfilename": name }));
    let readme = json!({ "rfilename": "images/logo.png" });
    let siblings: Vec<_> = names.chain([readme]).collect();
    json!({ "sha": commit(files), "siblings": siblings }).to_string()
}

fn base() -> (BTreeMap<String, Vec<u8>>, Manifest) {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama");
    let mut files = BTreeMap::new();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let content = fs::read(fixture.join(name)).unwrap();
        fs::write(folder.path().join(name), &content).unwrap();
        files.insert(name.to_owned(), content);
    }
    let manifest = Manifest::of_folder(folder.path()).unwrap();
    let text = toml::to_string(&manifest).unwrap();
    files.insert("convoke-base.toml".into(), text.into_bytes());
    (files, manifest)
}

fn fetched(folder: &Path, manifest: &Manifest) -> bool {
    manifest.missing_in(folder).unwrap().is_none()
}

#[test]
fn a_web_folder_is_fetched_once_and_goes_on_where_it_was_cut() {
    let (files, manifest) = base();
    let server = Server::start(files, Some(200));
    let cache = tempfile::tempdir().unwrap();
    let cache = Cache::new(cache.path());
    let mut reports = 0;
    let folder = cache
        .fetch(&server.source(), &manifest, &mut |_, _| reports += 1)
        .unwrap();
    assert!(fetched(&folder, &manifest));
    assert!(reports >= 3);
    let asked = server.asked();
    assert!(
        asked.contains(&"model.safetensors from 200".to_owned()),
        "{asked:?}"
    );
    let again = cache
        .fetch(&server.source(), &manifest, &mut |_, _| ())
        .unwrap();
    assert_eq!(again, folder);
    assert_eq!(server.asked(), asked);
    // A damaged file is fetched anew.
    fs::write(folder.join("config.json"), "{}").unwrap();
    cache
        .fetch(&server.source(), &manifest, &mut |_, _| ())
        .unwrap();
    assert!(fetched(&folder, &manifest));
    assert!(server.asked().len() > asked.len());
}

#[test]
fn a_server_with_other_files_is_refused() {
    let (mut files, manifest) = base();
    files.get_mut("model.safetensors").unwrap()[5000] ^= 1;
    let changed = Server::start(files.clone(), None);
    files.get_mut("model.safetensors").unwrap().extend([0; 100]);
    let longer = Server::start(files.clone(), None);
    files.remove("model.safetensors");
    let missing = Server::start(files, None);
    for (server, reason) in [
        (changed, "another file"),
        (longer, "more than"),
        (missing, "404"),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let cache = Cache::new(cache.path());
        let error = cache
            .fetch(&server.source(), &manifest, &mut |_, _| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_hash_is_obtained_from_the_first_source_that_has_it() {
    let (files, manifest) = base();
    let server = Server::start(files, None);
    let cache_folder = tempfile::tempdir().unwrap();
    let cache = Cache::new(cache_folder.path());
    let empty = tempfile::tempdir().unwrap();
    let sources = [
        empty.path().display().to_string(),
        "not/there".to_owned(),
        server.address.clone(),
    ];
    let folder = cache
        .obtain(&sources, manifest.id(), &mut |_, _| ())
        .unwrap();
    assert!(fetched(&folder, &manifest));
    // From then on no source is needed.
    let again = cache.obtain(&[], manifest.id(), &mut |_, _| ()).unwrap();
    assert_eq!(again, folder);
    let other = convoke_protocol::ids::BlobHash([7; 32]);
    let error = cache
        .obtain(&sources, other, &mut |_, _| ())
        .unwrap_err()
        .to_string();
    assert!(error.contains("wanted is"), "{error}");
}

#[test]
fn a_repository_of_the_hub_is_fetched_once_and_goes_on_where_it_was_cut() {
    let (files, manifest) = base();
    let server = Server::start(files, Some(200));
    let folder = tempfile::tempdir().unwrap();
    let cache = server.hub_of(folder.path());
    let source: BaseSource = "hf:owner/tiny@main".parse().unwrap();
    let mut most = BTreeMap::new();
    let mut report = |file: &BaseFile, bytes: u64| {
        let seen = most.entry(file.name.clone()).or_insert(0);
        *seen = bytes.max(*seen);
    };
    let (adopted, place) = cache.adopt(&source, None, &mut report).unwrap();
    assert_eq!(adopted, manifest);
    assert!(fetched(&place, &manifest));
    for file in manifest.files() {
        assert_eq!(most[&file.name], file.bytes, "{}", file.name);
    }
    let asked = server.asked();
    let resumed = "model.safetensors from 200".to_owned();
    assert!(asked.contains(&resumed), "{asked:?}");
    // Another base cache on this machine finds the files in the hub's.
    let other = server.hub_of(folder.path());
    fs::remove_dir_all(folder.path().join("bases")).unwrap();
    let again = other.fetch(&source, &manifest, &mut |_, _| ()).unwrap();
    assert!(fetched(&again, &manifest));
    assert_eq!(server.asked(), asked);
}

#[test]
fn a_branch_of_the_hub_that_moved_on_is_asked_again() {
    let (files, manifest) = base();
    let mut old = files.clone();
    old.get_mut("model.safetensors").unwrap()[5000] ^= 1;
    let source: BaseSource = "hf:owner/tiny".parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let before = Server::start(old, None);
    let error = before
        .hub_of(folder.path())
        .fetch(&source, &manifest, &mut |_, _| ())
        .unwrap_err()
        .to_string();
    assert!(error.contains("another file"), "{error}");
    let after = Server::start(files, None);
    let cache = after.hub_of(folder.path());
    let place = cache.fetch(&source, &manifest, &mut |_, _| ()).unwrap();
    assert!(fetched(&place, &manifest));
}

#[test]
fn a_hub_without_the_file_or_with_a_longer_one_is_refused() {
    let (mut files, manifest) = base();
    files.get_mut("model.safetensors").unwrap().extend([0; 100]);
    let longer = Server::start(files.clone(), None);
    files.remove("model.safetensors");
    let missing = Server::start(files, None);
    let source: BaseSource = "hf:owner/tiny".parse().unwrap();
    for (server, reason) in [(longer, "expected"), (missing, "404")] {
        let folder = tempfile::tempdir().unwrap();
        let cache = server.hub_of(folder.path());
        let error = cache.fetch(&source, &manifest, &mut |_, _| ()).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_folder_is_used_where_it_is() {
    let (files, manifest) = base();
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in &files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let cache = Cache::new("/nowhere/at/all");
    let source = BaseSource::Folder(folder.path().to_owned());
    let used = cache.fetch(&source, &manifest, &mut |_, _| ()).unwrap();
    assert_eq!(used, PathBuf::from(folder.path()));
    let (adopted, used) = cache.adopt(&source, None, &mut |_, _| ()).unwrap();
    assert_eq!(
        (adopted, used),
        (manifest.clone(), folder.path().to_owned())
    );
    fs::remove_file(folder.path().join("config.json")).unwrap();
    assert!(cache.fetch(&source, &manifest, &mut |_, _| ()).is_err());
}

#[test]
fn manifests_are_checked_when_they_are_read() {
    let (files, manifest) = base();
    let text = String::from_utf8(files["convoke-base.toml"].clone()).unwrap();
    let read = |text: &str| toml::from_str::<Manifest>(text);
    assert_eq!(read(&text).unwrap(), manifest);
    assert_eq!(read(&text).unwrap().id(), manifest.id());
    for (from, to) in [
        ("config.json", "../config.json"),
        ("config.json", "zzz.json"),
        ("config.json", ""),
        ("bytes = ", "bytes = -"),
        ("blake3 = \"", "blake3 = \"x"),
        (
            "[[files]]\nname = \"config.json\"",
            "[[files]]\nmore = 1\nname = \"config.json\"",
        ),
    ] {
        assert!(text.contains(from), "{text}");
        assert!(read(&text.replacen(from, to, 1)).is_err(), "{from} to {to}");
    }
    assert!(read("files = []").is_err());
}

//! The wallets folder: keys by name.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use convoke_protocol::ids::Address;

use super::{KeyFile, Kind};
use crate::failure::usage;

/// Ends the name of an encrypted key file.
const ENCRYPTED: &str = "json";
/// Ends the name of a plain one.
const PLAIN: &str = "key";
/// Longest name of a wallet.
const NAME_CHARS_MAX: usize = 64;

/// A wallet in the folder.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its name: the file's, without its ending.
    pub(crate) name: String,
    /// Its file.
    pub(crate) file: PathBuf,
    /// Encrypted or plain.
    pub(crate) kind: Kind,
    /// Whose key it is; encrypted files need not say so.
    pub(crate) address: Option<Address>,
    /// Why it cannot be used, if it can't.
    pub(crate) trouble: Option<String>,
}

/// Where wallets are if nothing else is said: below the user's data folder.
pub(crate) fn default_folder() -> anyhow::Result<PathBuf> {
    dirs::data_dir()
        .map(|data| data.join("convoke").join("wallets"))
        .context("this system has no data folder: name one with --dir")
}

/// The file of a new wallet.
///
/// # Errors
/// Wrong usage, if the name is no name or is taken.
pub(crate) fn new_file(folder: &Path, name: &str, kind: Kind) -> anyhow::Result<PathBuf> {
    check_name(name)?;
    if let Some(file) = find(folder, name) {
        return Err(usage(format!(
            "there is a wallet {name:?} already: {}",
            file.display()
        )));
    }
    let ending = match kind {
        Kind::Encrypted => ENCRYPTED,
        Kind::Plain => PLAIN,
    };
    Ok(folder.join(format!("{name}.{ending}")))
}

/// The file of a wallet, if there is one of this name.
pub(crate) fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    check_name(name).ok()?;
    [ENCRYPTED, PLAIN]
        .into_iter()
        .map(|ending| folder.join(format!("{name}.{ending}")))
        .find(|file| file.is_file())
}

/// All wallets, by name. A folder that is not there has none.
pub(crate) fn list(folder: &Path) -> anyhow::Result<Vec<Entry>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", folder.display()));
        }
    };
    let mut found = Vec::new();
    for entry in entries {
        let file = entry.context("cannot read the wallets folder")?.path();
        let ending = file.extension().and_then(|ending| ending.to_str());
        let kind = match ending {
            Some(ENCRYPTED) => Kind::Encrypted,
            Some(PLAIN) => Kind::Plain,
            _ => continue,
        };
        let Some(name) = file.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        found.push(look_at(name.to_owned(), &file, kind));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn look_at(name: String, file: &Path, kind: Kind) -> Entry {
    let (kind, address, trouble) = match KeyFile::read(file) {
        Ok(read) => match read.address() {
            Ok(address) => (read.kind(), address, None),
            Err(error) => (read.kind(), None, Some(error.to_string())),
        },
        Err(error) => (kind, None, Some(error.to_string())),
    };
    Entry {
        name,
        file: file.to_owned(),
        kind,
        address,
        trouble,
    }
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.chars().all(fits)
        && !name.starts_with(['.', '-']);
    if is_name {
        Ok(())
    } else {
        Err(usage(format!(
            "{name:?} is no name for a wallet: 1 to {NAME_CHARS_MAX} letters, digits, `-`, `_`, `.`"
        )))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{random, store};
    use super::*;

    #[test]
    fn wallets_are_found_by_name_and_listed_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path();
        assert!(list(&there.join("nothing")).unwrap().is_empty());
        for name in ["b", "a"] {
            let file = new_file(there, name, Kind::Plain).unwrap();
            store(&file, &random().unwrap()).unwrap();
        }
        std::fs::write(there.join("c.json"), "{}").unwrap();
        std::fs::write(there.join("notes.txt"), "").unwrap();
        let names = list(there).unwrap();
        let names: Vec<_> = names
            .iter()
            .map(|entry| (entry.name.as_str(), entry.trouble.is_some()))
            .collect();
        assert_eq!(names, [("a", false), ("b", false), ("c", true)]);
        assert_eq!(find(there, "a"), Some(there.join("a.key")));
        assert_eq!(find(there, "d"), None);
    }

    #[test]
    fn a_name_is_taken_once_whatever_the_kind() {
        let folder = tempfile::tempdir().unwrap();
        let file = new_file(folder.path(), "mine", Kind::Plain).unwrap();
        store(&file, &random().unwrap()).unwrap();
        let error = new_file(folder.path(), "mine", Kind::Encrypted).unwrap_err();
        assert!(error.to_string().contains("already"), "{error}");
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        for name in [
            "",
            "..",
            "../x",
            "a/b",
            ".hidden",
            "-x",
            "a b",
            &"x".repeat(65),
        ] {
            assert!(
                new_file(Path::new("/tmp"), name, Kind::Plain).is_err(),
                "{name}"
            );
            assert_eq!(find(Path::new("/tmp"), name), None);
        }
    }
}

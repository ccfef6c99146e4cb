//! Finding and reading text files of a data set, with bounds on everything.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Part;
use crate::error::ModelError;

/// Most bytes of a text file: 1 GiB.
pub const FILE_BYTES_MAX: u64 = 1 << 30;

/// Most bytes of a record: 4 MiB.
pub const LINE_BYTES_MAX: usize = 4 << 20;

/// A text file in memory, with the name that errors give it.
#[derive(Debug)]
pub(crate) struct TextFile {
    name: String,
    text: String,
}

impl TextFile {
    /// Reads the file of `part` in `folder`, which ends in one of `extensions`; a path to a file
    /// is taken as it is. Returns its extension, too.
    ///
    /// # Errors
    /// [`ModelError::Part`] if there is none or more than one; [`ModelError::Dataset`] for a file
    /// with another extension; those of [`read`](Self::read).
    pub(crate) fn open(
        path: &Path,
        part: Part,
        extensions: &'static [&'static str],
    ) -> Result<(Self, &'static str), ModelError> {
        let (path, extension) = find(path, part, extensions)?;
        Ok((Self::read(&path)?, extension))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`ModelError::File`]; [`ModelError::Dataset`] for more than [`FILE_BYTES_MAX`];
    /// [`ModelError::Line`] for what is not UTF-8.
    pub(crate) fn read(path: &Path) -> Result<Self, ModelError> {
        let failed = |source| ModelError::File {
            path: path.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        // One byte more than allowed, to notice it; the length that the system tells is no limit.
        File::open(path)
            .map_err(failed)?
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        Self::new(path.display().to_string(), bytes)
    }

    /// From bytes in memory. A byte order mark at the beginning is dropped.
    ///
    /// # Errors
    /// Those of [`read`](Self::read).
    pub(crate) fn new(name: String, mut bytes: Vec<u8>) -> Result<Self, ModelError> {
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(ModelError::Dataset(format!(
                "{name} has more than {FILE_BYTES_MAX} bytes"
            )));
        }
        if bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { name, text }),
            Err(error) => {
                let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
                Err(ModelError::Line {
                    file: name,
                    line,
                    reason: "not UTF-8".into(),
                })
            }
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The lines that are not blank, each with its number from 1.
    ///
    /// # Errors
    /// [`ModelError::Line`] for one of more than [`LINE_BYTES_MAX`].
    pub(crate) fn lines(&self) -> impl Iterator<Item = Result<(usize, &str), ModelError>> {
        let numbered = self.text.lines().enumerate();
        numbered
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(index, line)| {
                if line.len() > LINE_BYTES_MAX {
                    return Err(self.line_error(index + 1, too_long(line.len())));
                }
                Ok((index + 1, line))
            })
    }

    pub(crate) fn line_error(&self, line: usize, reason: impl Into<String>) -> ModelError {
        ModelError::Line {
            file: self.name.clone(),
            line,
            reason: reason.into(),
        }
    }

    pub(crate) fn field_error(
        &self,
        line: usize,
        field: impl Into<String>,
        reason: impl Into<String>,
    ) -> ModelError {
        ModelError::Field {
            file: self.name.clone(),
            line,
            field: field.into(),
            reason: reason.into(),
        }
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

pub(crate) fn too_long(bytes: usize) -> String {
    format!("{bytes} bytes, at most {LINE_BYTES_MAX} are allowed")
}

/// A value as an error shows it: short, on one line.
pub(crate) fn shown(value: &str) -> String {
    const CHARS_MAX: usize = 40;
    let mut text: String = value.chars().take(CHARS_MAX).collect();
    if text.len() < value.len() {
        text.push('…');
    }
    format!("{text:?}")
}

fn find(
    path: &Path,
    part: Part,
    extensions: &'static [&'static str],
) -> Result<(PathBuf, &'static str), ModelError> {
    if path.is_file() {
        let extension = path.extension().unwrap_or_default();
        return match extensions.iter().find(|&&known| extension == known) {
            Some(known) => Ok((path.to_owned(), known)),
            None => Err(ModelError::Dataset(format!(
                "{}: unknown extension, known: .{}",
                path.display(),
                extensions.join(", .")
            ))),
        };
    }
    let name = |extension: &&'static str| format!("{}.{extension}", part.stem());
    let found: Vec<_> = extensions
        .iter()
        .map(|extension| (path.join(name(extension)), *extension))
        .filter(|(path, _)| path.is_file())
        .collect();
    let all = |extensions: &[&'static str]| {
        let names: Vec<String> = extensions.iter().map(name).collect();
        names.join(" or ")
    };
    match found.as_slice() {
        [one] => Ok(one.clone()),
        several => Err(ModelError::Part {
            folder: path.to_owned(),
            wanted: all(extensions),
            found: if several.is_empty() {
                "none".into()
            } else {
                let present: Vec<_> = several.iter().map(|(_, extension)| *extension).collect();
                all(&present).replace(" or ", " and ")
            },
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> Result<TextFile, ModelError> {
        TextFile::new("a.txt".into(), bytes.to_vec())
    }

    #[test]
    fn a_part_is_one_file_of_a_known_kind() {
        let folder = tempfile::tempdir().unwrap();
        let open = |part| TextFile::open(folder.path(), part, &["txt", "jsonl"]);
        let none = open(Part::Train).unwrap_err().to_string();
        assert!(none.ends_with("needs one file named train.txt or train.jsonl, it has none"));
        std::fs::write(folder.path().join("train.txt"), "a").unwrap();
        assert_eq!(open(Part::Train).unwrap().1, "txt");
        assert!(open(Part::Test).is_err());
        std::fs::write(folder.path().join("train.jsonl"), "a").unwrap();
        let both = open(Part::Train).unwrap_err().to_string();
        assert!(both.ends_with("it has train.txt and train.jsonl"), "{both}");
    }

    #[test]
    fn a_path_to_a_file_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plays.txt");
        std::fs::write(&path, "a").unwrap();
        assert_eq!(
            TextFile::open(&path, Part::Test, &["txt"])
                .unwrap()
                .0
                .text(),
            "a"
        );
        assert!(TextFile::open(&path, Part::Test, &["jsonl"]).is_err());
    }

    #[test]
    fn what_is_not_utf8_is_named_by_its_line() {
        let error = file(b"one\ntwo\nth\xffree").unwrap_err().to_string();
        assert_eq!(error, "a.txt:3: not UTF-8");
        assert_eq!(file(b"\xef\xbb\xbfone").unwrap().text(), "one");
    }

    #[test]
    fn lines_are_numbered_and_bounded() {
        let text = file(b"one\n\n  \nfour\r\n").unwrap();
        let lines: Vec<_> = text.lines().map(Result::unwrap).collect();
        assert_eq!(lines, [(1, "one"), (4, "four")]);
        let long = file(&[b"x\n".as_slice(), &vec![b'a'; LINE_BYTES_MAX + 1]].concat()).unwrap();
        let error = long.lines().nth(1).unwrap().unwrap_err().to_string();
        assert!(error.starts_with("a.txt:2: 4194305 bytes"), "{error}");
    }

    #[test]
    fn values_are_shown_short_and_on_one_line() {
        assert_eq!(shown("a\nb"), r#""a\nb""#);
        assert!(shown(&"é".repeat(1000)).len() < 100);
    }
}

//! The idx file format of MNIST: a magic number that tells the element type and the number of
//! dimensions, the dimensions as big-endian u32, then bytes. Only byte elements are read.

use std::cmp::Ordering;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};

use super::images::{Images, SIDE_MAX};
use crate::error::ModelError;

/// Most bytes of an idx file after decompression: 1 GiB.
pub const IDX_BYTES_MAX: u64 = 1 << 30;

/// Which of the two sets of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Files named `train.jsonl` and the like; in MNIST layout `train-images-idx3-ubyte`,
    /// `train-labels-idx1-ubyte`.
    Train,
    /// Files named `test.jsonl` and the like; in MNIST layout `t10k-images-idx3-ubyte`,
    /// `t10k-labels-idx1-ubyte`.
    Test,
}

impl Part {
    /// How the names of its files begin, outside of MNIST layout.
    pub fn stem(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Test => "t10k",
        })
    }
}

impl Images {
    /// Reads one part from a folder in MNIST layout.
    ///
    /// Files may end in `.gz`, and have a dot before `idx` instead of a dash. The number of
    /// classes is the largest label plus one.
    ///
    /// # Errors
    /// [`ModelError::FileMissing`], [`ModelError::File`], [`ModelError::Idx`] for a file that is
    /// no idx file, has not the length its header claims or more than [`IDX_BYTES_MAX`], and
    /// [`ModelError::Dataset`] if images and labels differ in number. All name the file.
    pub fn open(folder: &Path, part: Part) -> Result<Self, ModelError> {
        let images = read_file(&find(folder, part, Content::Images)?, Content::Images)?;
        let labels = read_file(&find(folder, part, Content::Labels)?, Content::Labels)?;
        assemble(images, labels)
            .map_err(|error| ModelError::Dataset(format!("{}: {error}", folder.display())))
    }

    /// Reads a set from the bytes of two idx files, each compressed or not.
    ///
    /// # Errors
    /// As [`open`](Self::open), without those of the file system.
    pub fn from_idx(images: &[u8], labels: &[u8]) -> Result<Self, ModelError> {
        let images = decode(images, "in-memory images", Content::Images)?;
        let labels = decode(labels, "in-memory labels", Content::Labels)?;
        assemble(images, labels).map_err(ModelError::Dataset)
    }

    /// Writes the set into `folder` as two compressed files in MNIST layout. The same set gives
    /// the same bytes.
    ///
    /// # Errors
    /// [`ModelError::File`].
    pub fn save(&self, folder: &Path, part: Part) -> Result<(), ModelError> {
        let sizes = [self.len(), self.height(), self.width()];
        write_file(folder, part, Content::Images, &sizes, self.images())?;
        write_file(folder, part, Content::Labels, &[self.len()], self.labels())
    }
}

/// What an idx file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Images,
    Labels,
}

impl Content {
    fn dimensions(self) -> usize {
        match self {
            Self::Images => 3,
            Self::Labels => 1,
        }
    }

    /// Two zero bytes, the code of unsigned bytes, the number of dimensions.
    fn magic(self) -> u32 {
        MAGIC_BYTES | self.dimensions() as u32
    }

    fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Labels => "labels",
        }
    }

    fn file_name(self, part: Part, separator: char) -> String {
        format!(
            "{part}-{}{separator}idx{}-ubyte",
            self.name(),
            self.dimensions()
        )
    }
}

const MAGIC_BYTES: u32 = 0x800;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// An idx file of bytes: its dimensions and its content.
struct Idx {
    sizes: Vec<usize>,
    body: Vec<u8>,
}

fn assemble(images: Idx, labels: Idx) -> Result<Images, String> {
    let (count, height, width) = (images.sizes[0], images.sizes[1], images.sizes[2]);
    if count != labels.body.len() {
        return Err(format!("{count} images, {} labels", labels.body.len()));
    }
    let classes = labels
        .body
        .iter()
        .max()
        .map_or(1, |&max| usize::from(max) + 1);
    Images::new(images.body, height, width, labels.body, classes).map_err(|e| e.to_string())
}

fn find(folder: &Path, part: Part, content: Content) -> Result<PathBuf, ModelError> {
    ['-', '.']
        .into_iter()
        .flat_map(|separator| {
            let name = content.file_name(part, separator);
            [format!("{name}.gz"), name]
        })
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| ModelError::FileMissing {
            folder: folder.to_owned(),
            wanted: content.file_name(part, '-'),
        })
}

fn read_file(path: &Path, content: Content) -> Result<Idx, ModelError> {
    let failed = |source| ModelError::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > IDX_BYTES_MAX {
        return Err(ModelError::Idx {
            file: path.display().to_string(),
            reason: format!("{length} bytes, at most {IDX_BYTES_MAX} are allowed"),
        });
    }
    let mut bytes = Vec::new();
    BufReader::new(file)
        .take(IDX_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    decode(&bytes, &path.display().to_string(), content)
}

/// Decodes an idx file, compressed or not. `file` names it in errors.
fn decode(bytes: &[u8], file: &str, content: Content) -> Result<Idx, ModelError> {
    let result = if bytes.starts_with(&GZIP_MAGIC) {
        parse(GzDecoder::new(bytes), content)
    } else {
        parse(bytes, content)
    };
    result.map_err(|reason| ModelError::Idx {
        file: file.to_owned(),
        reason,
    })
}

/// Parses one idx file to its end. Memory grows with what arrives, not with what the header says.
fn parse(mut reader: impl Read, content: Content) -> Result<Idx, String> {
    let magic = read_u32(&mut reader)?;
    if magic != content.magic() {
        return Err(format!(
            "magic number {magic:#x}, idx {} of bytes begin with {:#x}",
            content.name(),
            content.magic()
        ));
    }
    let mut sizes = Vec::with_capacity(content.dimensions());
    for _ in 0..content.dimensions() {
        sizes.push(read_u32(&mut reader)? as usize);
    }
    if let Some(side) = sizes[1..]
        .iter()
        .find(|side| !(1..=SIDE_MAX).contains(*side))
    {
        return Err(format!(
            "a side of {side} pixels, 1 to {SIDE_MAX} are allowed"
        ));
    }
    // No overflow: below 2^32 * 2^9 * 2^9.
    let expected: u64 = sizes.iter().map(|&size| size as u64).product();
    if expected > IDX_BYTES_MAX {
        return Err(format!(
            "the header claims {expected} bytes, at most {IDX_BYTES_MAX} are allowed"
        ));
    }
    let mut body = Vec::new();
    // One byte more than claimed, to notice what follows.
    reader
        .take(expected + 1)
        .read_to_end(&mut body)
        .map_err(|error| error.to_string())?;
    match (body.len() as u64).cmp(&expected) {
        Ordering::Equal => Ok(Idx { sizes, body }),
        Ordering::Greater => Err(format!(
            "the header claims {expected} bytes, there are more"
        )),
        Ordering::Less => Err(format!(
            "the header claims {expected} bytes, there are {}",
            body.len()
        )),
    }
}

fn read_u32(reader: &mut impl Read) -> Result<u32, String> {
    let mut bytes = [0; 4];
    reader
        .read_exact(&mut bytes)
        .map_err(|error| format!("no complete header: {error}"))?;
    Ok(u32::from_be_bytes(bytes))
}

fn write_file(
    folder: &Path,
    part: Part,
    content: Content,
    sizes: &[usize],
    body: &[u8],
) -> Result<(), ModelError> {
    let path = folder.join(format!("{}.gz", content.file_name(part, '-')));
    let failed = |source| ModelError::File {
        path: path.clone(),
        source,
    };
    let file = BufWriter::new(File::create(&path).map_err(failed)?);
    // Fast: these are shares for local processes, not archives.
    let mut encoder: GzEncoder<_> = GzBuilder::new().mtime(0).write(file, Compression::fast());
    let header = [content.magic()]
        .into_iter()
        .chain(sizes.iter().map(|&size| size as u32));
    for number in header {
        encoder.write_all(&number.to_be_bytes()).map_err(failed)?;
    }
    encoder.write_all(body).map_err(failed)?;
    encoder
        .finish()
        .and_then(|mut file| file.flush())
        .map_err(failed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn small() -> Images {
        Images::new((0..24).collect(), 2, 3, vec![0, 2, 1, 2], 3).unwrap()
    }

    fn idx(content: Content, sizes: &[u32], body: &[u8]) -> Vec<u8> {
        let mut bytes = content.magic().to_be_bytes().to_vec();
        for size in sizes {
            bytes.extend(size.to_be_bytes());
        }
        bytes.extend(body);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn written_files_are_read_back_the_same() {
        let folder = tempfile::tempdir().unwrap();
        small().save(folder.path(), Part::Test).unwrap();
        assert_eq!(Images::open(folder.path(), Part::Test).unwrap(), small());
        let first = std::fs::read(folder.path().join("t10k-images-idx3-ubyte.gz")).unwrap();
        small().save(folder.path(), Part::Test).unwrap();
        let again = std::fs::read(folder.path().join("t10k-images-idx3-ubyte.gz")).unwrap();
        assert_eq!(first, again);
    }

    #[test]
    fn every_way_to_name_the_files_is_accepted() {
        let images = idx(Content::Images, &[4, 2, 3], small().images());
        let labels = idx(Content::Labels, &[4], small().labels());
        for (separator, zipped) in [('-', false), ('-', true), ('.', false), ('.', true)] {
            let folder = tempfile::tempdir().unwrap();
            for (content, bytes) in [(Content::Images, &images), (Content::Labels, &labels)] {
                let name = content.file_name(Part::Train, separator);
                if zipped {
                    std::fs::write(folder.path().join(name + ".gz"), gzip(bytes)).unwrap();
                } else {
                    std::fs::write(folder.path().join(name), bytes).unwrap();
                }
            }
            assert_eq!(Images::open(folder.path(), Part::Train).unwrap(), small());
        }
    }

    #[test]
    fn bytes_in_memory_are_read_compressed_or_not() {
        let images = idx(Content::Images, &[4, 2, 3], small().images());
        let labels = idx(Content::Labels, &[4], small().labels());
        assert_eq!(Images::from_idx(&images, &gzip(&labels)).unwrap(), small());
    }

    #[test]
    fn a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Images::open(folder.path(), Part::Train).unwrap_err();
        assert!(error.to_string().contains("train-images-idx3-ubyte"));
    }

    #[test]
    fn lying_headers_are_refused_and_the_file_is_named() {
        let labels = idx(Content::Labels, &[4], small().labels());
        let cases = [
            (idx(Content::Images, &[u32::MAX, 512, 512], &[]), "at most"),
            (
                idx(Content::Images, &[4, 2, 3], &[0; 23]),
                "claims 24 bytes",
            ),
            (
                idx(Content::Images, &[4, 2, 3], &[0; 25]),
                "claims 24 bytes",
            ),
            (idx(Content::Images, &[4, 2, 513], &[0; 25]), "side of 513"),
            (idx(Content::Images, &[4, 0, 3], &[]), "side of 0"),
            (idx(Content::Labels, &[4], &[0; 4]), "magic number"),
            (vec![0, 0, 8], "no complete header"),
            (
                gzip(&idx(Content::Images, &[1 << 10, 512, 512], &[0; 9])),
                "claims",
            ),
            (gzip(&[0; 99])[..20].to_vec(), "in-memory images"),
        ];
        for (images, expected) in cases {
            let error = Images::from_idx(&images, &labels).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("in-memory images"), "{error}");
        }
    }

    #[test]
    fn numbers_of_images_and_labels_must_agree() {
        let images = idx(Content::Images, &[4, 2, 3], small().images());
        let labels = idx(Content::Labels, &[3], &small().labels()[..3]);
        let error = Images::from_idx(&images, &labels).unwrap_err().to_string();
        assert!(error.contains("4 images, 3 labels"), "{error}");
    }

    #[test]
    fn the_committed_share_is_balanced() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/fashion-mnist");
        for (part, per_class) in [(Part::Train, 1200), (Part::Test, 200)] {
            let data = Images::open(&folder, part).unwrap();
            assert_eq!((data.height(), data.width()), (28, 28));
            assert_eq!(data.class_counts(), [per_class; 10]);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(
            images in proptest::collection::vec(any::<u8>(), 0..200),
            labels in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = Images::from_idx(&images, &labels);
            let _ = Images::from_idx(&gzip(&images), &gzip(&labels));
        }

        #[test]
        fn a_broken_file_never_becomes_a_different_size(
            position in 0usize..40, value in any::<u8>(), cut in 0usize..41,
        ) {
            let mut images = idx(Content::Images, &[4, 2, 3], small().images());
            images[position] = value;
            images.truncate(cut);
            let labels = idx(Content::Labels, &[4], small().labels());
            if let Ok(data) = Images::from_idx(&images, &labels) {
                prop_assert_eq!(data.images().len(), 24);
            }
        }
    }
}

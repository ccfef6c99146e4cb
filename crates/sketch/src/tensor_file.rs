//! Checkpoints and deltas on disk: safetensors files of little-endian f32 tensors, read by
//! chunks so that memory does not grow with the model.

use std::borrow::Cow;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use safetensors::tensor::{Dtype, Metadata};

use crate::error::SketchError;

/// Values read at once by [`TensorFile::map_parts`]. Floating-point sums over a file are taken
/// part by part, so this number is part of what makes them the same on every machine.
pub const PART_VALUES: usize = 1 << 16;

/// The longest safetensors header that is read, in bytes.
pub const HEADER_BYTES_MAX: u64 = 1 << 20;

/// Names and shapes of a model's tensors, in the order of their data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<TensorLayout>,
    values: u64,
    file_bytes: u64,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorLayout {
    /// Its name.
    pub name: String,
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
}

impl Layout {
    /// The layout of the checkpoint at `path`.
    ///
    /// # Errors
    /// If it cannot be read or is not a safetensors file of f32 tensors.
    pub fn of(path: &Path) -> Result<Self, SketchError> {
        Ok(TensorFile::open(path)?.layout)
    }

    /// The tensors, in the order of their data.
    #[must_use]
    pub fn tensors(&self) -> &[TensorLayout] {
        &self.tensors
    }

    /// Number of parameters.
    #[must_use]
    pub fn values(&self) -> u64 {
        self.values
    }

    /// Length of the whole file in bytes, header included.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// What is different in `other`, in words, or `None` if names, shapes and order are the same.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        let (expected, got) = (&self.tensors, &other.tensors);
        if expected.len() != got.len() {
            return Some(format!("{} tensors, not {}", got.len(), expected.len()));
        }
        expected
            .iter()
            .zip(got)
            .find(|(expected, got)| expected != got)
            .map(|(expected, got)| format!("{got} in place of {expected}"))
    }
}

impl std::fmt::Display for TensorLayout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A peer may have chosen them: they are cut, and escaped.
        let name: String = self.name.chars().take(80).collect();
        let axes = &self.shape[..self.shape.len().min(8)];
        write!(f, "{name:?} {axes:?}")
    }
}

/// An open checkpoint or delta.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: File,
    /// The length field and the JSON after it.
    header: Vec<u8>,
    layout: Layout,
}

impl TensorFile {
    /// Opens the file and reads its header.
    ///
    /// # Errors
    /// [`SketchError::Malformed`] if it is not a whole safetensors file of f32 tensors with
    /// a header of at most [`HEADER_BYTES_MAX`]; [`SketchError::File`] if it cannot be read.
    pub fn open(path: &Path) -> Result<Self, SketchError> {
        let io = SketchError::file(path);
        let malformed = |reason: String| SketchError::Malformed {
            path: path.to_owned(),
            reason: harmless(&reason),
        };
        let file = File::open(path).map_err(&io)?;
        let file_bytes = file.metadata().map_err(&io)?.len();
        let header_bytes = header_bytes(&file, file_bytes)
            .map_err(&io)?
            .map_err(malformed)?;
        let mut header = vec![0; header_bytes];
        file.read_exact_at(&mut header, 0).map_err(&io)?;
        let layout = parse(&header, file_bytes).map_err(malformed)?;
        let path = path.to_owned();
        Ok(Self {
            path,
            file,
            header,
            layout,
        })
    }

    /// Opens a file that must have this layout.
    ///
    /// # Errors
    /// As [`TensorFile::open`], and [`SketchError::Malformed`] if names or shapes differ.
    pub fn open_like(path: &Path, layout: &Layout) -> Result<Self, SketchError> {
        let file = Self::open(path)?;
        file.expect_layout(layout)?;
        Ok(file)
    }

    /// [`SketchError::Malformed`] if names or shapes differ from these.
    pub(crate) fn expect_layout(&self, layout: &Layout) -> Result<(), SketchError> {
        match layout.difference(&self.layout) {
            None => Ok(()),
            Some(reason) => Err(SketchError::Malformed {
                path: self.path.clone(),
                reason,
            }),
        }
    }

    /// Names and shapes.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The first bytes of the file, up to the data: another file with the same header has the
    /// same layout.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Reads the values of `range` into `buffer`.
    ///
    /// # Errors
    /// If the file cannot be read or is shorter than it was.
    pub fn read<'a>(
        &self,
        range: Range<u64>,
        buffer: &'a mut ChunkBuffer,
    ) -> Result<&'a mut [f32], SketchError> {
        let offset = self.header.len() as u64 + 4 * range.start;
        // Callers ask for chunks, whose length is a usize.
        let count = (range.end - range.start) as usize;
        let values = &mut buffer.0;
        values.resize(count, 0.0);
        self.file
            .read_exact_at(bytemuck::cast_slice_mut(values), offset)
            .map_err(SketchError::file(&self.path))?;
        from_file_order(values);
        Ok(values)
    }

    /// Maps every part of [`PART_VALUES`], in parallel; results are in the order of the file.
    /// `map` is given the index of the part's first value. Memory is one part a thread, and the
    /// results.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn map_parts<T: Send>(
        &self,
        map: impl Fn(u64, &[f32]) -> T + Sync,
    ) -> Result<Vec<T>, SketchError> {
        (0..self.layout.values.div_ceil(PART_VALUES as u64))
            .into_par_iter()
            .map_init(ChunkBuffer::default, |buffer, part| {
                let range = chunk_range(part, PART_VALUES, self.layout.values);
                let first = range.start;
                Ok(map(first, self.read(range, buffer)?))
            })
            .collect()
    }
}

/// The values of chunk number `chunk` out of `values` in all, if a chunk has `chunk_values`.
#[must_use]
pub fn chunk_range(chunk: u64, chunk_values: usize, values: u64) -> Range<u64> {
    let start = chunk * chunk_values as u64;
    start..values.min(start + chunk_values as u64)
}

/// Memory for one chunk, used again and again.
#[derive(Debug, Default)]
pub struct ChunkBuffer(Vec<f32>);

impl ChunkBuffer {
    /// The memory, empty, for a [`Source`](crate::Source) to put its values in.
    pub fn cleared(&mut self) -> &mut Vec<f32> {
        self.0.clear();
        &mut self.0
    }
}

/// Makes values of what was copied bytewise from a file.
pub(crate) fn from_file_order(values: &mut [f32]) {
    if cfg!(target_endian = "big") {
        for value in values {
            *value = f32::from_bits(u32::from_le(value.to_bits()));
        }
    }
}

/// The bytes that values have in a file: little-endian.
#[must_use]
pub fn file_bytes(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        Cow::Owned(values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }
}

/// Length of the header, its length field included.
fn header_bytes(file: &File, file_bytes: u64) -> std::io::Result<Result<usize, String>> {
    let mut length = [0; LENGTH_BYTES as usize];
    if file_bytes >= LENGTH_BYTES {
        file.read_exact_at(&mut length, 0)?;
    }
    Ok(checked_header_bytes(length, file_bytes))
}

/// As the length field of a file of `file_bytes` has it.
fn checked_header_bytes(
    length: [u8; LENGTH_BYTES as usize],
    file_bytes: u64,
) -> Result<usize, String> {
    if file_bytes < LENGTH_BYTES {
        return Err(format!("{file_bytes} bytes are no safetensors file"));
    }
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES_MAX.min(file_bytes - LENGTH_BYTES) {
        return Err(format!(
            "a header of {length} bytes, at most {HEADER_BYTES_MAX} and no more than the file"
        ));
    }
    Ok((LENGTH_BYTES + length) as usize)
}

/// The header of a file that comes piece by piece.
#[derive(Debug, Default)]
pub(crate) struct HeaderStream(Vec<u8>);

impl HeaderStream {
    /// Takes bytes of a file of `file_bytes` off the front of `bytes`; the layout once the header
    /// is whole, or in words why there is none. Keeps at most the header, which is bounded.
    pub(crate) fn feed(
        &mut self,
        bytes: &mut &[u8],
        file_bytes: u64,
    ) -> Result<Option<Layout>, String> {
        let Some(length) = self.fill(bytes, LENGTH_BYTES as usize) else {
            return Ok(None);
        };
        let mut field = [0; LENGTH_BYTES as usize];
        field.copy_from_slice(length);
        let of_peer = |reason: String| harmless(&reason);
        let length = checked_header_bytes(field, file_bytes).map_err(of_peer)?;
        match self.fill(bytes, length) {
            Some(header) => parse(header, file_bytes).map(Some).map_err(of_peer),
            None => Ok(None),
        }
    }

    /// The first `wanted` bytes of the file, once they have come.
    fn fill(&mut self, bytes: &mut &[u8], wanted: usize) -> Option<&[u8]> {
        let missing = wanted.saturating_sub(self.0.len()).min(bytes.len());
        let (taken, rest) = bytes.split_at(missing);
        self.0.extend_from_slice(taken);
        *bytes = rest;
        self.0.get(..wanted)
    }
}

fn parse(header: &[u8], file_bytes: u64) -> Result<Layout, String> {
    let json = &header[LENGTH_BYTES as usize..];
    // Offsets without gaps or overlaps, and lengths that fit the shapes, are checked in here.
    let metadata: Metadata = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let data_bytes = file_bytes - header.len() as u64;
    if metadata.data_len() as u64 != data_bytes {
        return Err(format!(
            "the header describes {} bytes of data, the file has {data_bytes}",
            metadata.data_len()
        ));
    }
    let mut tensors = Vec::new();
    for name in metadata.offset_keys() {
        let info = metadata
            .info(&name)
            .ok_or("a tensor without a description")?;
        let shape = info.shape.clone();
        let tensor = TensorLayout { name, shape };
        if info.dtype != Dtype::F32 {
            return Err(format!("{tensor} is of type {:?}, not F32", info.dtype));
        }
        tensors.push(tensor);
    }
    Ok(Layout {
        tensors,
        values: data_bytes / 4,
        file_bytes,
    })
}

/// Cuts a text that may have a peer's words in it, and takes control characters out: it is
/// sent on to everybody.
fn harmless(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { '?' } else { c });
    printable.take(REASON_CHARS_MAX).collect()
}

/// Longest reason given for a file that cannot be read as a model.
const REASON_CHARS_MAX: usize = 300;

/// A safetensors file begins with the length of its JSON header as a u64.
const LENGTH_BYTES: u64 = 8;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::{model, normal, put};

    const LONG: usize = 2 * PART_VALUES + 37;

    #[test]
    fn values_come_back_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let values = normal(3, LONG);
        let file = TensorFile::open(&put(dir.path(), &model(&values)).1).unwrap();
        assert_eq!(file.layout().values(), LONG as u64);
        let names: Vec<_> = file.layout().tensors().iter().map(|t| &t.name).collect();
        assert_eq!(names, ["bias", "weight"]);
        let chunks = file.map_parts(|first, chunk| (first, chunk.to_vec()));
        let mut read = Vec::new();
        for (first, chunk) in chunks.unwrap() {
            assert_eq!(first, read.len() as u64);
            read.extend(chunk);
        }
        assert_eq!(read, values);
    }

    #[test]
    fn other_files_are_refused() {
        assert_eq!(
            harmless(&"\u{1b}".repeat(999)),
            "?".repeat(REASON_CHARS_MAX)
        );
        let dir = tempfile::tempdir().unwrap();
        let short = put(dir.path(), b"seven b").1;
        let error = TensorFile::open(&short).unwrap_err();
        assert!(matches!(error, SketchError::Malformed { .. }), "{error}");
        let missing = TensorFile::open(&dir.path().join("none")).unwrap_err();
        assert!(missing.to_string().contains("none"), "{missing}");
    }
}

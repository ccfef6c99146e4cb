//! Checkpoints and deltas on disk: safetensors files of little-endian f32 tensors, read by
//! chunks so that memory does not grow with the model.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use convoke_protocol::refusal::Refusal;
use rayon::prelude::*;
use safetensors::tensor::{Dtype, Metadata};

use crate::error::AggregatorError;

/// Values read at once. Sums over a file are taken chunk by chunk, so this number is part of
/// what makes them the same on every machine.
pub const CHUNK_VALUES: usize = 1 << 16;

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
    pub fn of(path: &Path) -> Result<Self, AggregatorError> {
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

    /// Number of chunks of [`CHUNK_VALUES`]; the last one may be shorter.
    fn chunks(&self) -> u64 {
        self.values.div_ceil(CHUNK_VALUES as u64)
    }

    /// What is different in `other`, in words, or `None` if names, shapes and order are the same.
    fn difference(&self, other: &Self) -> Option<String> {
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
        // A peer chose the name: it is cut and escaped.
        let name: String = self.name.chars().take(80).collect();
        let axes = &self.shape[..self.shape.len().min(8)];
        write!(f, "{name:?} {axes:?}")
    }
}

/// What [`inspect`] finds in a sound delta.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeltaStats {
    /// Its Euclidean norm.
    pub norm: f64,
}

/// Checks that the file at `path` is a delta of a model of this layout, and measures it, in one
/// pass over the file. The outer error is ours, the inner one the trainer's.
///
/// # Errors
/// If the file cannot be read.
pub fn inspect(
    path: &Path,
    layout: &Layout,
) -> Result<Result<DeltaStats, Refusal>, AggregatorError> {
    let got = std::fs::metadata(path)
        .map_err(AggregatorError::file(path))?
        .len();
    if got != layout.file_bytes {
        let expected = layout.file_bytes;
        return Ok(Err(Refusal::DeltaLength { got, expected }));
    }
    let file = match TensorFile::open(path) {
        Ok(file) => file,
        Err(AggregatorError::Malformed { reason, .. }) => return Ok(Err(Refusal::Layout(reason))),
        Err(error) => return Err(error),
    };
    if let Some(difference) = layout.difference(&file.layout) {
        return Ok(Err(Refusal::Layout(difference)));
    }
    let sums = file.map_chunks(|first, values| match sum_of_squares(values) {
        sum if sum.is_finite() => Ok(sum),
        _ => Err(not_finite(first, values)),
    })?;
    let total = sums.into_iter().sum::<Result<f64, Refusal>>();
    Ok(total.map(|sum| DeltaStats { norm: sum.sqrt() }))
}

/// In f64, where the square of no finite f32 overflows; not finite if a value is not.
fn sum_of_squares(values: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let mut blocks = values.chunks_exact(8);
    for block in &mut blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane += f64::from(*value) * f64::from(*value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(blocks.remainder()) {
        *lane += f64::from(*value) * f64::from(*value);
    }
    lanes.iter().sum()
}

fn not_finite(first: u64, values: &[f32]) -> Refusal {
    let found = values.iter().zip(first..).find(|(v, _)| !v.is_finite());
    let (value, index) = found.map_or((f32::NAN, first), |(v, i)| (*v, i));
    Refusal::NotFinite {
        index,
        value: value.to_string(),
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
    /// [`AggregatorError::Malformed`] if it is not a whole safetensors file of f32 tensors with
    /// a header of at most [`HEADER_BYTES_MAX`]; [`AggregatorError::File`] if it cannot be read.
    pub fn open(path: &Path) -> Result<Self, AggregatorError> {
        let io = AggregatorError::file(path);
        let malformed = |reason| AggregatorError::Malformed {
            path: path.to_owned(),
            reason,
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
    /// As [`TensorFile::open`], and [`AggregatorError::Malformed`] if names or shapes differ.
    pub fn open_like(path: &Path, layout: &Layout) -> Result<Self, AggregatorError> {
        let file = Self::open(path)?;
        match layout.difference(&file.layout) {
            None => Ok(file),
            Some(reason) => Err(AggregatorError::Malformed {
                path: path.to_owned(),
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
    ) -> Result<&'a mut [f32], AggregatorError> {
        let offset = self.header.len() as u64 + 4 * range.start;
        // Callers ask for chunks, whose length is a usize.
        let count = (range.end - range.start) as usize;
        buffer.bytes.resize(4 * count, 0);
        self.file
            .read_exact_at(&mut buffer.bytes, offset)
            .map_err(AggregatorError::file(&self.path))?;
        buffer.values.clear();
        let (words, _) = buffer.bytes.as_chunks::<4>();
        buffer
            .values
            .extend(words.iter().map(|word| f32::from_le_bytes(*word)));
        Ok(&mut buffer.values)
    }

    /// Maps every chunk of [`CHUNK_VALUES`], in parallel; results are in the order of the file.
    /// `map` is given the index of the chunk's first value.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn map_chunks<T: Send>(
        &self,
        map: impl Fn(u64, &[f32]) -> T + Sync,
    ) -> Result<Vec<T>, AggregatorError> {
        (0..self.layout.chunks())
            .into_par_iter()
            .map_init(ChunkBuffer::default, |buffer, chunk| {
                let range = chunk_range(chunk, CHUNK_VALUES, self.layout.values);
                let first = range.start;
                Ok(map(first, self.read(range, buffer)?))
            })
            .collect()
    }
}

/// The values of chunk number `chunk` out of `values` in all.
pub(crate) fn chunk_range(chunk: u64, chunk_values: usize, values: u64) -> Range<u64> {
    let start = chunk * chunk_values as u64;
    start..values.min(start + chunk_values as u64)
}

/// Memory for one chunk, used again and again.
#[derive(Debug, Default)]
pub struct ChunkBuffer {
    bytes: Vec<u8>,
    values: Vec<f32>,
}

/// Length of the header, its length field included.
fn header_bytes(file: &File, file_bytes: u64) -> std::io::Result<Result<usize, String>> {
    if file_bytes < LENGTH_BYTES {
        return Ok(Err(format!("{file_bytes} bytes are no safetensors file")));
    }
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_exact_at(&mut length, 0)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES_MAX.min(file_bytes - LENGTH_BYTES) {
        return Ok(Err(format!(
            "a header of {length} bytes, at most {HEADER_BYTES_MAX} and no more than the file"
        )));
    }
    Ok(Ok((LENGTH_BYTES + length) as usize))
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

/// A safetensors file begins with the length of its JSON header as a u64.
const LENGTH_BYTES: u64 = 8;

//! What is said of a delta when it is signed, and looked at when it arrives.

use std::path::Path;

use convoke_protocol::ids::Digest;
use convoke_protocol::refusal::Refusal;
use convoke_protocol::sketch::{CHUNK_VALUES, Norm, chunk_leaf};
use rayon::prelude::*;

use crate::error::SketchError;
use crate::projection::chunk_count;
use crate::source::Source;
use crate::tensor_file::{ChunkBuffer, Layout, PART_VALUES, TensorFile, chunk_range, file_bytes};
use crate::tree::{RootStream, root};

/// What [`inspect`] finds in a sound delta: two fields of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaStats {
    /// Its Euclidean norm.
    pub norm: Norm,
    /// Root of the tree over its chunks; all zeros if it has none.
    pub root: Digest,
}

/// Checks that the file at `path` is a delta of a model of this layout, and measures it, in one
/// pass over the file. The outer error is ours, the inner one the trainer's.
///
/// # Errors
/// If the file cannot be read.
pub fn inspect(path: &Path, layout: &Layout) -> Result<Result<DeltaStats, Refusal>, SketchError> {
    let got = std::fs::metadata(path)
        .map_err(SketchError::file(path))?
        .len();
    if got != layout.file_bytes() {
        let expected = layout.file_bytes();
        return Ok(Err(Refusal::DeltaLength { got, expected }));
    }
    let file = match TensorFile::open(path) {
        Ok(file) => file,
        Err(SketchError::Malformed { reason, .. }) => return Ok(Err(Refusal::Layout(reason))),
        Err(error) => return Err(error),
    };
    if let Some(difference) = layout.difference(file.layout()) {
        return Ok(Err(Refusal::Layout(difference)));
    }
    measure(&file)
}

/// Measures a delta in a file or in memory, in one pass and in parallel, in memory that does not
/// grow with it. The same values give the same on every machine. The outer error is ours, the
/// inner one the delta's: [`Refusal::NotFinite`].
///
/// # Errors
/// If it cannot be read.
pub fn measure(
    source: &(impl Source + ?Sized),
) -> Result<Result<DeltaStats, Refusal>, SketchError> {
    let values = source.count();
    let chunks = chunk_count(values);
    let parts: Vec<_> = (0..values.div_ceil(PART_VALUES as u64))
        .into_par_iter()
        .map_init(ChunkBuffer::default, |buffer, part| {
            let range = chunk_range(part, PART_VALUES, values);
            let first = range.start;
            let values = source.get(range, buffer)?;
            Ok(measure_part(first, values, chunks))
        })
        .collect::<Result<_, SketchError>>()?;
    let (mut squares, mut tree) = (0.0, RootStream::default());
    for part in parts {
        match part {
            Ok((sum, root)) => {
                squares += sum;
                tree.push(root);
            }
            Err(refusal) => return Ok(Err(refusal)),
        }
    }
    let norm = declared(squares.sqrt());
    let root = tree.root();
    Ok(Ok(DeltaStats { norm, root }))
}

/// A norm that is not zero stays so: the smallest that can be said is no lie of a smaller one.
fn declared(norm: f64) -> Norm {
    match Norm::of(norm) {
        Norm::ZERO if norm > 0.0 => Norm::of(f64::from(f32::MIN_POSITIVE)),
        rounded => rounded,
    }
}

fn measure_part(first: u64, values: &[f32], chunks: u64) -> Result<(f64, Digest), Refusal> {
    let sum = sum_of_squares(values);
    if !sum.is_finite() {
        return Err(not_finite(first, values));
    }
    let index = first / CHUNK_VALUES as u64;
    let leaf = |(index, chunk)| chunk_leaf(index, chunks, &file_bytes(chunk));
    let leaves = (index..).zip(values.chunks(CHUNK_VALUES)).map(leaf);
    Ok((sum, root(leaves.collect())))
}

/// In f64, where the square of no finite f32 overflows; not finite if a value is not.
fn sum_of_squares(values: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let (blocks, rest) = values.as_chunks::<8>();
    for block in blocks.iter().map(|b| &b[..]).chain([rest]) {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane += f64::from(*value) * f64::from(*value);
        }
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

/// Parts are subtrees.
const _: () = assert!(PART_VALUES.is_multiple_of(CHUNK_VALUES));
const _: () = assert!((PART_VALUES / CHUNK_VALUES).is_power_of_two());

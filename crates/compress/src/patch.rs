//! Checkpoints as what lies between them and earlier ones, encoded.
//!
//! What a node makes of a patch is defined bit by bit, so it is compared by hash with the
//! checkpoint that it is to be.

use std::io::Write;

use convoke_sketch::tensor_file::{PART_VALUES, file_bytes};
use convoke_sketch::{ChunkBuffer, Source, TensorFile, chunk_range, difference};
use rayon::prelude::*;

use crate::codec::Codec;
use crate::encoded::EncodedFile;
use crate::error::CompressError;

/// Writes the encoding of `to` − `from`, each difference rounded to f32.
///
/// # Errors
/// If a file cannot be read, their layouts differ, or `out` fails.
pub fn make(
    codec: Codec,
    from: &TensorFile,
    to: &TensorFile,
    out: &mut impl Write,
) -> Result<(), CompressError> {
    codec.encode_to(&difference(to, from)?, out)
}

/// Writes a safetensors file like `from` with `patch` added to its values, each sum rounded to
/// f32. Memory is a few parts a thread.
///
/// # Errors
/// If a file cannot be read, the patch is no encoding of so many values, or `out` fails.
pub fn apply(
    from: &TensorFile,
    patch: &EncodedFile,
    out: &mut impl Write,
) -> Result<(), CompressError> {
    patch.expect_count(from.layout().values())?;
    out.write_all(from.header()).map_err(CompressError::Write)?;
    let values = from.layout().values();
    let parts = values.div_ceil(PART_VALUES as u64);
    let batch = 4 * rayon::current_num_threads() as u64;
    for first in (0..parts).step_by(batch as usize) {
        let sums = (first..parts.min(first + batch))
            .into_par_iter()
            .map_init(Default::default, |(left, right), part| {
                let range = chunk_range(part, PART_VALUES, values);
                add(from, patch, range, left, right)
            })
            .collect::<Result<Vec<_>, CompressError>>()?;
        for sums in sums {
            out.write_all(&file_bytes(&sums))
                .map_err(CompressError::Write)?;
        }
    }
    Ok(())
}

fn add(
    from: &TensorFile,
    patch: &EncodedFile,
    range: std::ops::Range<u64>,
    left: &mut ChunkBuffer,
    right: &mut ChunkBuffer,
) -> Result<Vec<f32>, CompressError> {
    let from = from.read(range.clone(), left)?;
    let patch = patch.get(range, right)?;
    Ok(from.iter().zip(patch).map(|(x, d)| x + d).collect())
}

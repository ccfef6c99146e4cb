//! How fast sketches are on this machine, beside what its memory can do at most.

use std::convert::Infallible;
use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use convoke_protocol::ids::Digest;
use convoke_protocol::sketch::Norm;
use rayon::prelude::*;

use crate::error::SketchError;
use crate::inspect::measure;
use crate::projection::{project, sketch};
use crate::source::Source;
use crate::tensor_file::{ChunkBuffer, PART_VALUES, TensorFile, chunk_range};

/// Seconds that passes over one delta took, the best of several, all with the same threads and in
/// the same run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SketchSpeed {
    /// Values of the delta, of four bytes each.
    pub parameters: u64,
    /// Threads used.
    pub threads: usize,
    /// [`sketch`]: projection, sums and their tree, of a file in the page cache.
    pub sketch_seconds: f64,
    /// [`project`] of the same file: without the tree.
    pub project_seconds: f64,
    /// [`measure`] of the same file: finiteness, norm and the tree over the chunks.
    pub inspect_seconds: f64,
    /// Baseline: reading the same file in the same way, and adding up its values.
    pub file_read_seconds: f64,
    /// Baseline: adding up as many words in memory as the delta has bytes, out of a buffer of
    /// [`BUFFER_BYTES`] that no cache holds.
    pub memory_read_seconds: f64,
}

impl SketchSpeed {
    /// 10⁹ bytes of delta a second, for one of the times above.
    #[must_use]
    pub fn gigabytes_per_second(&self, seconds: f64) -> f64 {
        4.0 * self.parameters as f64 / seconds / 1e9
    }

    /// The share of the memory's bandwidth that one of the times above stands for.
    #[must_use]
    pub fn share_of_memory(&self, seconds: f64) -> f64 {
        self.memory_read_seconds / seconds
    }
}

/// Size of the buffer by which the memory's bandwidth is measured.
pub const BUFFER_BYTES: usize = 512 << 20;

/// Measures a delta of `parameters` values, in a temporary file in `folder`, `passes` times
/// (at least once) after one pass that does not count.
///
/// # Errors
/// If the file cannot be written or read.
pub fn measure_speed(
    folder: &Path,
    parameters: u64,
    passes: usize,
) -> Result<SketchSpeed, SketchError> {
    let temporary = tempfile::NamedTempFile::new_in(folder).map_err(SketchError::file(folder))?;
    let path = temporary.path();
    write_delta(temporary.as_file(), parameters).map_err(SketchError::file(path))?;
    let file = TensorFile::open(path)?;
    let (seed, clip) = (Digest([7; 32]), Norm::of((parameters as f64).sqrt()));
    let speed = SketchSpeed {
        parameters,
        threads: rayon::current_num_threads(),
        file_read_seconds: best(passes, || add_up(&file))?,
        sketch_seconds: best(passes, || sketch(&file, &seed, clip))?,
        project_seconds: best(passes, || project(&file, &seed, clip))?,
        inspect_seconds: best(passes, || measure(&file))?,
        memory_read_seconds: memory_seconds(passes, 4.0 * parameters as f64),
    };
    Ok(speed)
}

/// Seconds of the fastest of `passes` (at least one), after one that does not count.
///
/// # Errors
/// The first of a pass.
pub fn best<T, E>(passes: usize, mut pass: impl FnMut() -> Result<T, E>) -> Result<f64, E> {
    black_box(pass()?);
    let mut best = f64::INFINITY;
    for _ in 0..passes.max(1) {
        let start = Instant::now();
        black_box(pass()?);
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn add_up(source: &impl Source) -> Result<u64, SketchError> {
    let values = source.count();
    (0..values.div_ceil(PART_VALUES as u64))
        .into_par_iter()
        .map_init(ChunkBuffer::default, |buffer, part| {
            let values = source.get(chunk_range(part, PART_VALUES, values), buffer)?;
            Ok(values.iter().map(|v| u64::from(v.to_bits())).sum::<u64>())
        })
        .try_reduce(|| 0, |a, b| Ok(a.wrapping_add(b)))
}

/// Seconds in which all threads together read so many bytes of memory, the best of `passes`: they
/// add up a buffer of [`BUFFER_BYTES`].
pub fn memory_seconds(passes: usize, bytes: f64) -> f64 {
    let buffer: Vec<u64> = (0..BUFFER_BYTES as u64 / 8).collect();
    let add_up = |words: &[u64]| words.iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
    let pass = || {
        let parts = black_box(&buffer).par_chunks(1 << 17);
        Ok::<_, Infallible>(parts.map(add_up).reduce(|| 0, u64::wrapping_add))
    };
    let Ok(seconds) = best(passes, pass);
    seconds * bytes / BUFFER_BYTES as f64
}

/// A safetensors file of one tensor. The values are of about the size 1; which they are is of no
/// consequence for the time.
fn write_delta(file: &File, parameters: u64) -> std::io::Result<()> {
    let bytes = 4 * parameters;
    let header = format!(
        r#"{{"delta":{{"dtype":"F32","shape":[{parameters}],"data_offsets":[0,{bytes}]}}}}"#
    );
    let mut writer = BufWriter::new(file);
    writer.write_all(&(header.len() as u64).to_le_bytes())?;
    writer.write_all(header.as_bytes())?;
    for index in 0..parameters as u32 {
        // Weyl's sequence in [−1, 1).
        let value = f64::from(index.wrapping_mul(0x9e37_79b9) as i32) / f64::from(1u32 << 31);
        writer.write_all(&(value as f32).to_le_bytes())?;
    }
    writer.flush()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_a_sound_delta() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("delta");
        write_delta(&File::create(&path).unwrap(), 5_000).unwrap();
        let file = TensorFile::open(&path).unwrap();
        assert_eq!(file.layout().values(), 5_000);
        let stats = measure(&file).unwrap().unwrap();
        // Uniform in [−1, 1): the mean square is a third.
        let expected = (5_000f64 / 3.0).sqrt();
        assert!((stats.norm.value() / expected - 1.0).abs() < 0.02);
    }

    #[test]
    fn shares_and_rates_are_of_one_delta() {
        let speed = SketchSpeed {
            parameters: 10_000_000,
            threads: 2,
            sketch_seconds: 0.008,
            project_seconds: 0.004,
            inspect_seconds: 0.02,
            file_read_seconds: 0.005,
            memory_read_seconds: 0.002,
        };
        assert_eq!(speed.gigabytes_per_second(speed.sketch_seconds), 5.0);
        assert_eq!(speed.share_of_memory(speed.sketch_seconds), 0.25);
        assert_eq!(speed.share_of_memory(speed.project_seconds), 0.5);
    }
}

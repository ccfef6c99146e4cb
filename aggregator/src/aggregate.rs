//! One step of the model: base and kept deltas in, new checkpoint out, chunk by chunk.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use convoke_protocol::ids::BlobHash;
use convoke_protocol::message::Candidate;
use rayon::prelude::*;
use tempfile::NamedTempFile;

use crate::delta_file::{ChunkBuffer, TensorFile, chunk_range};
use crate::error::AggregatorError;
use crate::filter::CLIP_ONE_PPM;
use crate::rules::AggregationRule;
use crate::server_optimizer::SgdMomentum;

/// Values of each file in memory at once, for each thread. No sum runs across values, so this
/// number does not show in the result.
const CHUNK_VALUES: usize = 1 << 14;

/// What a step is made of.
pub struct Step<'a> {
    /// The checkpoint to step from.
    pub base: BlobHash,
    /// Where it is.
    pub base_path: &'a Path,
    /// What goes into the average, with the paths of the deltas.
    pub kept: &'a [(Candidate, PathBuf)],
    /// Makes one delta of them.
    pub rule: &'a dyn AggregationRule,
    /// Applies it.
    pub optimizer: SgdMomentum,
    /// Where the new checkpoint goes, under its hash in hex, and the momentum beside it.
    pub out_dir: &'a Path,
}

/// Takes the step: hash and path of the new checkpoint, which is on disk when this returns.
///
/// Taking the same step again gives the same bytes, whatever the number of threads: the
/// momentum is kept by the hash of the checkpoint it belongs to. Without updates the base is
/// the result. Memory is 2¹⁴ values × updates for each thread, whatever the model.
///
/// # Errors
/// If a file cannot be read or written, has another layout than the base, or the new
/// checkpoint would not be finite.
pub fn aggregate_step(step: &Step<'_>) -> Result<(BlobHash, PathBuf), AggregatorError> {
    if step.kept.is_empty() {
        return Ok((step.base, step.base_path.to_owned()));
    }
    let inputs = Inputs::open(step)?;
    let header = inputs.base.header();
    let mut checkpoint = Output::create(step.out_dir, header)?;
    let mut momentum = match step.optimizer.has_state() {
        true => Some(Output::create(step.out_dir, header)?),
        false => None,
    };
    let chunks = inputs.base.layout().values().div_ceil(CHUNK_VALUES as u64);
    // Chunks are computed in parallel, but hashed and written in their order.
    let batch = 4 * rayon::current_num_threads() as u64;
    for first in (0..chunks).step_by(batch as usize) {
        let computed: Vec<Computed> = (first..chunks.min(first + batch))
            .into_par_iter()
            .map_init(Buffers::default, |buffers, chunk| {
                inputs.compute(chunk, step, buffers)
            })
            .collect::<Result<_, _>>()?;
        for chunk in &computed {
            checkpoint.write(&chunk.values)?;
            if let Some(momentum) = &mut momentum {
                momentum.write(&chunk.momentum)?;
            }
        }
    }
    let (hash, checkpoint) = checkpoint.finish()?;
    if let Some(momentum) = momentum.filter(|_| hash != step.base) {
        // Before the checkpoint: whoever sees that finds its momentum too.
        let (_, file) = momentum.finish()?;
        persist(file, &momentum_path(step.out_dir, &hash))?;
    }
    let path = step.out_dir.join(hash.to_file_name());
    persist(checkpoint, &path)?;
    Ok((hash, path))
}

/// Where the momentum that belongs to a checkpoint is kept. It may go when the checkpoint after
/// it is settled.
#[must_use]
pub fn momentum_path(dir: &Path, checkpoint: &BlobHash) -> PathBuf {
    dir.join(format!("{}.momentum", checkpoint.to_file_name()))
}

/// The files of a step.
struct Inputs {
    base: TensorFile,
    deltas: Vec<TensorFile>,
    /// What each delta is scaled by.
    clips: Vec<f32>,
    weights: Vec<f64>,
    /// Of the base; none before the first step.
    momentum: Option<TensorFile>,
}

impl Inputs {
    fn open(step: &Step<'_>) -> Result<Self, AggregatorError> {
        let base = TensorFile::open(step.base_path)?;
        let open = |path: &Path| TensorFile::open_like(path, base.layout());
        let deltas = step
            .kept
            .iter()
            .map(|(_, path)| open(path))
            .collect::<Result<_, _>>()?;
        let momentum = momentum_path(step.out_dir, &step.base);
        let momentum = match step.optimizer.has_state() && momentum.exists() {
            true => Some(open(&momentum)?),
            false => None,
        };
        let clip = |c: &Candidate| (f64::from(c.clip_ppm) / f64::from(CLIP_ONE_PPM)) as f32;
        let candidates = || step.kept.iter().map(|(candidate, _)| candidate);
        Ok(Self {
            deltas,
            clips: candidates().map(clip).collect(),
            weights: candidates().map(|c| c.num_examples as f64).collect(),
            momentum,
            base,
        })
    }

    fn compute(
        &self,
        chunk: u64,
        step: &Step<'_>,
        buffers: &mut Buffers,
    ) -> Result<Computed, AggregatorError> {
        let range = chunk_range(chunk, CHUNK_VALUES, self.base.layout().values());
        let delta = self.delta(range.clone(), step.rule, buffers)?;
        let buffer = &mut buffers.state;
        let mut momentum = match &self.momentum {
            Some(file) => file.read(range.clone(), buffer)?.to_vec(),
            None => vec![0.0; delta.len()],
        };
        let mut values = self.base.read(range.clone(), buffer)?.to_vec();
        step.optimizer.step(&mut values, &mut momentum, &delta);
        if let Some((value, index)) = values
            .iter()
            .zip(range.start..)
            .find(|(v, _)| !v.is_finite())
        {
            let value = *value;
            return Err(AggregatorError::Diverged { index, value });
        }
        Ok(Computed { values, momentum })
    }

    /// The aggregated delta of one range.
    fn delta(
        &self,
        range: std::ops::Range<u64>,
        rule: &dyn AggregationRule,
        buffers: &mut Buffers,
    ) -> Result<Vec<f32>, AggregatorError> {
        buffers
            .deltas
            .resize_with(self.deltas.len(), ChunkBuffer::default);
        let mut rows = Vec::with_capacity(self.deltas.len());
        for ((file, clip), buffer) in self.deltas.iter().zip(&self.clips).zip(&mut buffers.deltas) {
            let row = file.read(range.clone(), buffer)?;
            if *clip != 1.0 {
                row.iter_mut().for_each(|value| *value *= clip);
            }
            rows.push(&*row);
        }
        let mut out = vec![0.0; (range.end - range.start) as usize];
        rule.aggregate(&rows, &self.weights, &mut out);
        Ok(out)
    }
}

/// Memory of one thread.
#[derive(Default)]
struct Buffers {
    deltas: Vec<ChunkBuffer>,
    state: ChunkBuffer,
}

/// One chunk of the result.
struct Computed {
    values: Vec<f32>,
    momentum: Vec<f32>,
}

/// A file being written and hashed.
struct Output {
    file: NamedTempFile,
    hasher: blake3::Hasher,
    bytes: Vec<u8>,
}

impl Output {
    fn create(dir: &Path, header: &[u8]) -> Result<Self, AggregatorError> {
        let file = NamedTempFile::new_in(dir).map_err(AggregatorError::file(dir))?;
        let mut output = Self {
            file,
            hasher: blake3::Hasher::new(),
            bytes: header.to_vec(),
        };
        output.flush()?;
        Ok(output)
    }

    fn write(&mut self, values: &[f32]) -> Result<(), AggregatorError> {
        self.bytes.clear();
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.bytes.extend(bytes);
        self.flush()
    }

    fn flush(&mut self) -> Result<(), AggregatorError> {
        self.hasher.update(&self.bytes);
        self.file
            .write_all(&self.bytes)
            .map_err(AggregatorError::file(self.file.path()))
    }

    fn finish(self) -> Result<(BlobHash, NamedTempFile), AggregatorError> {
        self.file
            .as_file()
            .sync_all()
            .map_err(AggregatorError::file(self.file.path()))?;
        Ok((BlobHash(*self.hasher.finalize().as_bytes()), self.file))
    }
}

/// Gives a synced file its name, and syncs the folder that has it.
fn persist(file: NamedTempFile, path: &Path) -> Result<(), AggregatorError> {
    let io = AggregatorError::file(path);
    file.persist(path).map_err(|error| io(error.error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io)
}

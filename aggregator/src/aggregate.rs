//! One step of the model: base and kept deltas in, new checkpoint out, chunk by chunk.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use convoke_protocol::ids::BlobHash;
use convoke_protocol::message::Candidate;
use convoke_sketch::{ChunkBuffer, TensorFile, chunk_range};
use rayon::prelude::*;
use tempfile::NamedTempFile;

use crate::error::AggregatorError;
use crate::filter::CLIP_ONE_PPM;
use crate::rules::AggregationRule;
use crate::server_optimizer::SgdMomentum;

/// Values of each file in memory at once, for each thread. No sum runs across values, so this
/// number does not show in the result.
const CHUNK_VALUES: usize = 1 << 14;

/// How the names of files begin that are not finished.
const TEMPORARY: &str = ".step-";

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
    /// Where the new checkpoint and the momentum go, each under its hash in hex.
    pub out_dir: &'a Path,
}

/// What a step led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stepped {
    /// The new checkpoint.
    pub checkpoint: BlobHash,
    /// Where it is.
    pub path: PathBuf,
    /// The momentum that belongs to it, if there is any.
    pub state: Option<BlobHash>,
}

/// Takes the step; its files are on disk when this returns.
///
/// Taking the same step again gives the same bytes, whatever the number of threads: which momentum
/// belongs to a checkpoint is kept by the checkpoint's hash. Without updates the base is the result. Memory is 2¹⁴ values × updates for each thread, whatever the model.
///
/// # Errors
/// If a file cannot be read or written, has another layout than the base, or the new
/// checkpoint would not be finite.
pub fn aggregate_step(step: &Step<'_>) -> Result<Stepped, AggregatorError> {
    if step.kept.is_empty() {
        return Ok(Stepped {
            checkpoint: step.base,
            path: step.base_path.to_owned(),
            state: state_of(step.out_dir, &step.base)?,
        });
    }
    remove_leftovers(step.out_dir)?;
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
        let (state, file) = momentum.finish()?;
        persist(file, &step.out_dir.join(state.to_file_name()))?;
        let mut name = temporary(step.out_dir)?;
        name.write_all(state.to_string().as_bytes())
            .map_err(AggregatorError::file(name.path()))?;
        persist(name, &name_path(step.out_dir, &hash, MOMENTUM))?;
    }
    let path = step.out_dir.join(hash.to_file_name());
    persist(checkpoint, &path)?;
    Ok(Stepped {
        checkpoint: hash,
        path,
        state: state_of(step.out_dir, &hash)?,
    })
}

/// The momentum that belongs to a checkpoint, if there is any: the name of a blob beside it.
///
/// # Errors
/// If what is there cannot be read.
pub fn state_of(dir: &Path, checkpoint: &BlobHash) -> Result<Option<BlobHash>, AggregatorError> {
    named(&name_path(dir, checkpoint, MOMENTUM))
}

/// The blob that a file names, if there is one.
pub(crate) fn named(path: &Path) -> Result<Option<BlobHash>, AggregatorError> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(AggregatorError::file(path))?,
    };
    let name = text.parse().map_err(std::io::Error::other);
    name.map(Some).map_err(AggregatorError::file(path))
}

/// The file that names what belongs to a checkpoint.
pub(crate) fn name_path(dir: &Path, checkpoint: &BlobHash, ending: &str) -> PathBuf {
    dir.join(format!("{}.{ending}", checkpoint.to_file_name()))
}

/// How the file ends that names a checkpoint's momentum.
const MOMENTUM: &str = "momentum";

pub(crate) fn temporary(dir: &Path) -> Result<NamedTempFile, AggregatorError> {
    tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempfile_in(dir)
        .map_err(AggregatorError::file(dir))
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
        let state = match step.optimizer.has_state() {
            true => state_of(step.out_dir, &step.base)?,
            false => None,
        };
        let momentum = match state {
            Some(state) => Some(open(&step.out_dir.join(state.to_file_name()))?),
            None => None,
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
pub(crate) struct Output {
    file: NamedTempFile,
    hasher: blake3::Hasher,
    bytes: Vec<u8>,
}

impl Output {
    pub(crate) fn create(dir: &Path, header: &[u8]) -> Result<Self, AggregatorError> {
        let mut output = Self {
            file: temporary(dir)?,
            hasher: blake3::Hasher::new(),
            bytes: header.to_vec(),
        };
        output.flush()?;
        Ok(output)
    }

    pub(crate) fn write(&mut self, values: &[f32]) -> Result<(), AggregatorError> {
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

    pub(crate) fn finish(self) -> Result<(BlobHash, NamedTempFile), AggregatorError> {
        self.file
            .as_file()
            .sync_all()
            .map_err(AggregatorError::file(self.file.path()))?;
        Ok((BlobHash(*self.hasher.finalize().as_bytes()), self.file))
    }
}

/// Removes what a step that was killed has left half-written. One step is taken at a time.
fn remove_leftovers(dir: &Path) -> Result<(), AggregatorError> {
    let io = AggregatorError::file(dir);
    for entry in dir.read_dir().map_err(&io)? {
        let entry = entry.map_err(&io)?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(TEMPORARY.as_bytes())
        {
            std::fs::remove_file(entry.path()).map_err(&io)?;
        }
    }
    Ok(())
}

/// Gives a synced file its name, and syncs the folder that has it.
pub(crate) fn persist(file: NamedTempFile, path: &Path) -> Result<(), AggregatorError> {
    let io = AggregatorError::file(path);
    file.persist(path).map_err(|error| io(error.error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_sketch::Layout;

    use super::*;
    use crate::rules::{CoordinateMedian, FedAvg, all};
    use crate::testing::{model, normal, put, update};

    /// More than one batch of chunks for a few threads, and a short last chunk.
    const VALUES: usize = 17 * CHUNK_VALUES + 11;

    const ADD: SgdMomentum = SgdMomentum {
        server_lr: 1.0,
        momentum: 0.0,
    };

    const HEAVY: SgdMomentum = SgdMomentum {
        server_lr: 0.5,
        momentum: 0.9,
    };

    fn values(path: &Path) -> Vec<f32> {
        let file = TensorFile::open(path).unwrap();
        file.map_parts(|_, chunk| chunk.to_vec()).unwrap().concat()
    }

    struct Bench {
        dir: tempfile::TempDir,
        base: (BlobHash, PathBuf),
        kept: Vec<(Candidate, PathBuf)>,
    }

    impl Bench {
        fn of(values: usize, trainers: u8) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let base = put(dir.path(), &model(&normal(1, values)));
            let delta = |id: u8| normal(10 + u64::from(id), values);
            let kept = (0..trainers).map(|id| update(dir.path(), id, &delta(id)));
            let kept = kept.collect();
            Self { dir, base, kept }
        }

        fn step<'a>(&'a self, rule: &'a dyn AggregationRule, optimizer: SgdMomentum) -> Step<'a> {
            Step {
                base: self.base.0,
                base_path: &self.base.1,
                kept: &self.kept,
                rule,
                optimizer,
                out_dir: self.dir.path(),
            }
        }

        fn file_names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.dir.path()).unwrap();
            let name = |entry: std::io::Result<std::fs::DirEntry>| {
                entry.unwrap().file_name().into_string().unwrap()
            };
            entries.map(name).collect()
        }
    }

    #[test]
    fn the_step_is_the_weighted_mean_of_the_clipped_deltas() {
        let mut bench = Bench::of(VALUES, 3);
        for (index, (candidate, _)) in bench.kept.iter_mut().enumerate() {
            candidate.num_examples = 100 * (index as u64 + 1);
            candidate.clip_ppm = 1_000_000 - 250_000 * index as u32;
        }
        let Stepped {
            checkpoint: hash,
            path,
            state,
        } = aggregate_step(&bench.step(&FedAvg, ADD)).unwrap();
        assert_eq!(state, None);
        let (new, base) = (values(&path), values(&bench.base.1));
        let deltas: Vec<_> = bench.kept.iter().map(|(_, path)| values(path)).collect();
        for (index, new) in new.iter().enumerate() {
            let terms = [(1.0, 1.0), (2.0, 0.75), (3.0, 0.5)].iter().zip(&deltas);
            let step: f64 = terms
                .map(|((w, clip), d)| w * clip * f64::from(d[index]) / 6.0)
                .sum();
            let expected = f64::from(base[index]) + step;
            assert!((f64::from(*new) - expected).abs() < 1e-6, "{index}");
        }
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(hash, BlobHash::of(&bytes));
        assert_eq!(path, bench.dir.path().join(hash.to_file_name()));
        // Header and length of the base; nothing half-written is left behind.
        assert_eq!(bytes.len(), std::fs::read(&bench.base.1).unwrap().len());
        assert_eq!(
            Layout::of(&path).unwrap(),
            Layout::of(&bench.base.1).unwrap()
        );
        assert_eq!(bench.file_names().len(), 5);
    }

    #[test]
    fn same_bytes_whatever_the_number_of_threads() {
        let bench = Bench::of(VALUES, 5);
        for rule in all() {
            let hash = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                let step = bench.step(rule, HEAVY);
                pool.unwrap()
                    .install(|| aggregate_step(&step).unwrap().checkpoint)
            };
            let one = hash(1);
            assert_eq!(one, hash(2), "{}", rule.name());
            assert_eq!(one, hash(3), "{}", rule.name());
        }
    }

    #[test]
    fn without_updates_the_base_stays() {
        let bench = Bench::of(100, 0);
        let result = aggregate_step(&bench.step(&FedAvg, HEAVY)).unwrap();
        assert_eq!((result.checkpoint, result.path), bench.base);
        assert_eq!(bench.file_names().len(), 1);
    }

    #[test]
    fn a_step_taken_again_is_the_same_and_momentum_goes_on_from_it() {
        let mut bench = Bench::of(300, 2);
        let first = aggregate_step(&bench.step(&FedAvg, HEAVY)).unwrap();
        assert_eq!(first, aggregate_step(&bench.step(&FedAvg, HEAVY)).unwrap());
        let state =
            |stepped: &Stepped| bench.dir.path().join(stepped.state.unwrap().to_file_name());
        let (before, after) = (values(&bench.base.1), values(&first.path));
        for ((x, v), y) in before.iter().zip(values(&state(&first))).zip(&after) {
            assert_eq!((f64::from(*x) + HEAVY.server_lr * f64::from(v)) as f32, *y);
        }
        let next = (first.checkpoint, first.path.clone());
        let base = std::mem::replace(&mut bench.base, next);
        let second = aggregate_step(&bench.step(&FedAvg, HEAVY)).unwrap();
        assert_eq!(second, aggregate_step(&bench.step(&FedAvg, HEAVY)).unwrap());
        // Equal deltas twice: v = d, then 1.9 d.
        let (base, first, second) = (values(&base.1), values(&first.path), values(&second.path));
        for ((base, first), second) in base.iter().zip(&first).zip(&second) {
            assert!((1.9 * (first - base) - (second - first)).abs() < 1e-5);
        }
    }

    #[test]
    fn what_a_killed_step_left_is_removed() {
        let bench = Bench::of(100, 1);
        std::fs::write(bench.dir.path().join(".step-torn"), b"half").unwrap();
        aggregate_step(&bench.step(&FedAvg, ADD)).unwrap();
        assert!(!bench.file_names().contains(&".step-torn".to_owned()));
    }

    #[test]
    fn a_delta_of_another_model_is_an_error() {
        let mut bench = Bench::of(100, 2);
        bench.kept[1] = update(bench.dir.path(), 9, &normal(3, 101));
        let error = aggregate_step(&bench.step(&CoordinateMedian, ADD)).unwrap_err();
        assert!(matches!(error, AggregatorError::Sketch(_)), "{error}");
        assert_eq!(bench.file_names().len(), 4);
    }

    #[test]
    fn a_step_beyond_f32_is_an_error_and_leaves_nothing() {
        let mut bench = Bench::of(100, 0);
        let mut delta = normal(3, 100);
        delta[42] = f32::MAX;
        bench.kept = vec![update(bench.dir.path(), 1, &delta)];
        let optimizer = SgdMomentum {
            server_lr: 2.0,
            ..ADD
        };
        let error = aggregate_step(&bench.step(&FedAvg, optimizer)).unwrap_err();
        assert!(
            matches!(error, AggregatorError::Diverged { index: 42, .. }),
            "{error}"
        );
        assert_eq!(bench.file_names().len(), 2);
    }
}

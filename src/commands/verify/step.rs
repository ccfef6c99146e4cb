//! The step, from its two ends: the checkpoint follows from the base and the server optimizer's
//! moments before and after, exactly; and the delta that those moments say there was is the linear
//! combination of the kept deltas that the record says, by the linearity of sketches:
//!
//! ```text
//! sketch(Δ) = Σ shareᵢ · clipᵢ · sketch(deltaᵢ) + sketch(noise)
//! ```
//!
//! within what rounding to bytes, to whole numbers and to f32 can do. Nobody needs the deltas. That
//! the shares are those of the rule is another check ([`super::again`]).

use std::ops::Range;
use std::path::PathBuf;

use convoke_aggregator::aggregate::Noise;
use convoke_aggregator::filter::CLIP_ONE_PPM;
use convoke_aggregator::rules::{self, AggregationRule};
use convoke_aggregator::server_optimizer::{self, ServerOptimizer};
use convoke_protocol::ids::Digest;
use convoke_protocol::record::{RecordedUpdate, RoundRecord};
use convoke_protocol::sketch::{Norm, SKETCH_LEN};
use convoke_protocol::task::AggregationSpec;
use convoke_sketch::{ChunkBuffer, Computed, SketchError, Source, TensorFile, project};

use super::report::Check;

/// Values in memory at once.
const CHUNK_VALUES: u64 = 1 << 16;
/// A lane with a value of this magnitude may have been clamped.
const CLAMPED: u8 = 127;
/// With fewer lanes that were not clamped a wrong step could pass.
const LANES_MIN: usize = 16;
/// Rounding that is larger hides too much: honest sketches have values of about 32.
const TOLERANCE_MAX: f64 = 16.0;
/// Standard deviations of rounding that are allowed.
const SIGMAS: f64 = 6.0;

/// Where the files of a step are, if they are to be had.
#[derive(Debug, Default)]
pub(crate) struct StepFiles {
    /// The checkpoint that the round started from.
    pub(crate) base: Option<PathBuf>,
    /// The one that it led to.
    pub(crate) checkpoint: Option<PathBuf>,
    /// The server optimizer's moments that belong to the base; nothing if one of them is missing.
    pub(crate) before: Option<Vec<PathBuf>>,
    /// Those that belong to the checkpoint.
    pub(crate) after: Option<Vec<PathBuf>>,
}

/// Checks the step of a round whose record was found to be true otherwise.
pub(crate) fn check_step(
    record: &RoundRecord,
    settings: &AggregationSpec,
    files: &StepFiles,
) -> Vec<Check> {
    let kept = kept(record);
    if kept.is_empty() {
        let found = match record.checkpoint == record.base {
            true => Ok(()),
            false => Err("nothing was kept, and the checkpoint is another one".to_owned()),
        };
        return vec![Check::of(
            STEP,
            "nothing was kept, and nothing changed".into(),
            found,
        )];
    }
    let (Some(base), Some(checkpoint)) = (&files.base, &files.checkpoint) else {
        return not_checkable(
            "base or checkpoint are not to be had: name the aggregator, or a folder that has them",
        );
    };
    let optimizer = server_optimizer::of(settings);
    let step = Step {
        record,
        kept: &kept,
        optimizer: &*optimizer,
        settings,
    };
    let checked = || -> Result<Vec<Check>, SketchError> {
        let base = TensorFile::open(base)?;
        let checkpoint = TensorFile::open_like(checkpoint, base.layout())?;
        if !optimizer.remembers() {
            let sum = Check::not_checkable(
                SUM,
                "without moments the step is what lies between base and checkpoint; the next check says whether it is right",
            );
            return Ok(vec![sum, step.without_moments(&base, &checkpoint)?]);
        }
        let (Some(before), Some(after)) = (&files.before, &files.after) else {
            return Ok(not_checkable(
                "the server optimizer's moments are not to be had",
            ));
        };
        let open = |paths: &[PathBuf]| -> Result<Vec<TensorFile>, SketchError> {
            let open = |path: &PathBuf| TensorFile::open_like(path, base.layout());
            paths.iter().map(open).collect()
        };
        let moments = Moments {
            initial: optimizer.initial(),
            before: open(before)?,
            after: open(after)?,
        };
        if let Some(wrong) = moments.wrong_number() {
            return Ok(vec![Check::fails(SUM, wrong)]);
        }
        let exact = step.replay(&base, &checkpoint, &moments)?;
        Ok(vec![exact, step.with_moments(&moments)?])
    };
    checked().unwrap_or_else(|error| vec![Check::fails(STEP, error.to_string())])
}

const SUM: &str = "checkpoint";
const STEP: &str = "step";

fn not_checkable(why: &str) -> Vec<Check> {
    [SUM, STEP]
        .map(|name| Check::not_checkable(name, why))
        .into()
}

/// The updates that the step is made of, in their order.
pub(crate) fn kept(record: &RoundRecord) -> Vec<&RecordedUpdate> {
    let updates = record.dossier.updates.iter();
    updates.filter(|entry| entry.weight > 0).collect()
}

/// The server optimizer's moments around a step.
struct Moments<'a> {
    initial: &'a [f32],
    /// None before the first step.
    before: Vec<TensorFile>,
    after: Vec<TensorFile>,
}

impl Moments<'_> {
    fn wrong_number(&self) -> Option<String> {
        let (due, before, after) = (self.initial.len(), self.before.len(), self.after.len());
        let right = after == due && (before == due || before == 0);
        (!right).then(|| format!("{before} moments before and {after} after, not {due}"))
    }

    /// The moment of this index before the step.
    fn read_before<'a>(
        &self,
        index: usize,
        range: &Range<u64>,
        buffer: &'a mut ChunkBuffer,
    ) -> Result<&'a [f32], SketchError> {
        match self.before.get(index) {
            Some(file) => file.read(range.clone(), buffer).map(|values| &*values),
            None => {
                let initial = self.initial[index];
                let fill = |range: Range<u64>, values: &mut Vec<f32>| {
                    values.resize((range.end - range.start) as usize, initial);
                    Ok(())
                };
                Computed::new(range.end, fill)
                    .copy(range.clone(), buffer)
                    .map(|values| &*values)
            }
        }
    }
}

struct Step<'a> {
    record: &'a RoundRecord,
    kept: &'a [&'a RecordedUpdate],
    optimizer: &'a dyn ServerOptimizer,
    settings: &'a AggregationSpec,
}

impl Step<'_> {
    /// Checkpoint and all moments but the first, as the aggregator rounds them.
    fn replay(
        &self,
        base: &TensorFile,
        checkpoint: &TensorFile,
        moments: &Moments<'_>,
    ) -> Result<Check, SketchError> {
        let count = moments.initial.len();
        let mut befores: Vec<ChunkBuffer> = (0..count).map(|_| ChunkBuffer::default()).collect();
        let [mut left, mut right] = [(); 2].map(|()| ChunkBuffer::default());
        for range in ranges(base.layout().values()) {
            let mut x = base.read(range.clone(), &mut left)?.to_vec();
            let first = moments.after[0].read(range.clone(), &mut right)?.to_vec();
            let before = befores.iter_mut().enumerate();
            let before = before.map(|(index, buffer)| moments.read_before(index, &range, buffer));
            let before: Vec<&[f32]> = before.collect::<Result<_, _>>()?;
            let mut due = vec![vec![0.0; x.len()]; count];
            self.optimizer.replay(&before, &first, &mut x, &mut due);
            let files = std::iter::once(checkpoint).chain(&moments.after);
            let named = std::iter::once("the checkpoint").chain(std::iter::repeat("a moment"));
            for ((file, due), name) in files.zip(std::iter::once(&x).chain(&due)).zip(named) {
                let got = file.read(range.clone(), &mut left)?;
                let mut pairs = due.iter().zip(&*got).zip(range.start..);
                if let Some(((due, got), index)) =
                    pairs.find(|((due, got), _)| due.to_bits() != got.to_bits())
                {
                    let why = format!("value {index} of {name} is {got} instead of {due}");
                    return Ok(Check::fails(SUM, why));
                }
            }
        }
        let why = "follows from the base and the server optimizer's moments, bit by bit";
        Ok(Check::holds(SUM, why))
    }

    /// The delta is what the first moments say.
    fn with_moments(&self, moments: &Moments<'_>) -> Result<Check, SketchError> {
        let values = moments.after[0].layout().values();
        let fill = |range: Range<u64>, delta: &mut Vec<f32>| {
            let (mut left, mut right) = (ChunkBuffer::default(), ChunkBuffer::default());
            let before = moments.read_before(0, &range, &mut left)?;
            let after = moments.after[0].read(range, &mut right)?;
            self.optimizer.delta(before, after, delta);
            Ok(())
        };
        let rounded = self.optimizer.gain() * rounding_of(&moments.after[0])?.sqrt();
        self.compare(&Computed::new(values, fill), rounded)
    }

    /// Without moments the delta is the difference of both checkpoints, and as inexact as they are.
    fn without_moments(
        &self,
        base: &TensorFile,
        checkpoint: &TensorFile,
    ) -> Result<Check, SketchError> {
        let lr = self.settings.server_lr;
        let fill = |range: Range<u64>, step: &mut Vec<f32>| {
            let (mut left, mut right) = (ChunkBuffer::default(), ChunkBuffer::default());
            let new = checkpoint.read(range.clone(), &mut left)?;
            let old = base.read(range, &mut right)?;
            let pairs = new.iter().zip(&*old);
            step.extend(pairs.map(|(n, o)| ((f64::from(*n) - f64::from(*o)) / lr) as f32));
            Ok(())
        };
        let rounded = rounding_of(checkpoint)?.sqrt() / lr;
        self.compare(&Computed::new(base.layout().values(), fill), rounded)
    }

    fn drawn(&self) -> (Digest, Norm) {
        (self.record.dossier.seed, self.record.dossier.clip_norm)
    }

    /// `rounded` is the length of what rounding to f32 did to `delta`.
    fn compare(&self, delta: &impl Source, rounded: f64) -> Result<Check, SketchError> {
        let rule = &self.settings.rule;
        if !rules::by_name(rule).is_ok_and(AggregationRule::is_linear) {
            let why = format!(
                "the rule {rule} takes values apart: only sums can be checked by their sketches"
            );
            return Ok(Check::not_checkable(STEP, why));
        }
        let (seed, clip) = self.drawn();
        if clip == Norm::ZERO {
            let why = "all deltas are zero, so are their sketches";
            return Ok(Check::not_checkable(STEP, why));
        }
        let noise = self.noise(delta.count())?;
        let step = lanes(delta, &seed, clip)?;
        let step: [f64; SKETCH_LEN] = std::array::from_fn(|i| step[i] - noise[i]);
        // Delta and noise are made whole numbers of.
        let whole = whole_number_error(delta.count() as f64, clip) * 2f64.sqrt();
        let sigma = whole.hypot(rounded * UNIT / clip.value());
        Ok(self.compare_lanes(&step, sigma))
    }

    /// What the rule's noise has in a sketch.
    fn noise(&self, values: u64) -> Result<[f64; SKETCH_LEN], SketchError> {
        let norm = self.record.dossier.noise;
        if norm == Norm::ZERO {
            return Ok([0.0; SKETCH_LEN]);
        }
        let noise = Noise::of(norm, values, Noise::seed(&self.record.step_ends().0));
        let fill = |range: Range<u64>, out: &mut Vec<f32>| {
            out.resize((range.end - range.start) as usize, 0.0);
            noise.add(range.start, out);
            Ok(())
        };
        let (seed, clip) = self.drawn();
        lanes(&Computed::new(values, fill), &seed, clip)
    }

    /// `step` in units of sketches; `sigma` is what rounding does to a lane of it.
    fn compare_lanes(&self, step: &[f64; SKETCH_LEN], sigma: f64) -> Check {
        let Some(terms) = self.terms() else {
            return Check::fails(STEP, "an update has a weight and no sketch");
        };
        let tolerance = terms.iter().map(|t| t.share * 0.5).sum::<f64>() + SIGMAS * sigma + 0.01;
        if tolerance > TOLERANCE_MAX {
            return Check::not_checkable(
                STEP,
                "the step is lost in the rounding of the checkpoints",
            );
        }
        let usable = |lane: &usize| {
            terms
                .iter()
                .all(|t| t.sketch[*lane].unsigned_abs() < CLAMPED)
        };
        let usable: Vec<usize> = (0..SKETCH_LEN).filter(usable).collect();
        if usable.len() < LANES_MIN {
            return Check::not_checkable(STEP, "too many values of the sketches were clamped");
        }
        let worst = usable.iter().map(|lane| {
            let due: f64 = terms
                .iter()
                .map(|t| t.share * f64::from(t.sketch[*lane]))
                .sum();
            (step[*lane] - due).abs()
        });
        let worst = worst.fold(0.0, f64::max);
        // Written so that what is no number fails.
        if worst <= tolerance {
            let skipped = match SKETCH_LEN - usable.len() {
                0 => String::new(),
                clamped => format!("; {clamped} clamped lanes left out"),
            };
            let why = format!(
                "is the recorded sum of the kept deltas: off by {worst:.3} of {tolerance:.3} at most{skipped}"
            );
            return Check::holds(STEP, why);
        }
        let why = format!(
            "is not the recorded sum of the kept deltas: a lane is off by {worst:.1}, rounding explains {tolerance:.1}"
        );
        Check::fails(STEP, why)
    }

    /// What each kept update adds; `None` if one has no sketch.
    fn terms(&self) -> Option<Vec<Term<'_>>> {
        let clip = self.drawn().1;
        let term = |entry: &&'_ RecordedUpdate| {
            let norm = entry.update.header.delta_norm.max(clip);
            let scaled = f64::from(entry.clip_ppm) / f64::from(CLIP_ONE_PPM);
            entry.share.value() * scaled * (norm.value() / clip.value())
        };
        self.kept
            .iter()
            .map(|entry| {
                let sketch = &entry.sketched.as_ref()?.sketch.0;
                Some(Term {
                    share: term(entry),
                    sketch,
                })
            })
            .collect()
    }
}

struct Term<'a> {
    /// Of a sketch's unit, in units of the clipping norm's.
    share: f64,
    sketch: &'a [i8; SKETCH_LEN],
}

/// Sketches count in 32nds of the clipping norm.
const UNIT: f64 = 32.0;

/// The projection in the sketches' unit, not rounded.
fn lanes(
    source: &impl Source,
    seed: &Digest,
    clip: Norm,
) -> Result<[f64; SKETCH_LEN], SketchError> {
    let sums = project(source, seed, clip)?;
    // 128 P / Q of the quantization, with the clipping norm for Q.
    let unit = 128.0 / f64::from(clip.mantissa().max(1));
    Ok(sums.lanes.map(|lane| lane as f64 * unit))
}

/// What cutting values off at whole numbers does to a lane: errors below 1, of mean square ⅓.
fn whole_number_error(values: f64, clip: Norm) -> f64 {
    128.0 / f64::from(clip.mantissa().max(1)) * (values / 3.0).sqrt()
}

/// The sum of the mean squares of what rounding to f32 did to each value.
fn rounding_of(file: &TensorFile) -> Result<f64, SketchError> {
    let mut buffer = ChunkBuffer::default();
    let mut sum = 0.0;
    for range in ranges(file.layout().values()) {
        for value in &*file.read(range, &mut buffer)? {
            // Half a unit in the last place at most.
            let half = f64::from(value.abs()) * f64::from(f32::EPSILON) / 2.0;
            sum += half * half / 3.0;
        }
    }
    Ok(sum)
}

/// All values, in pieces that fit in memory.
pub(super) fn ranges(values: u64) -> impl Iterator<Item = Range<u64>> {
    (0..values.div_ceil(CHUNK_VALUES)).map(move |chunk| {
        let first = chunk * CHUNK_VALUES;
        first..values.min(first + CHUNK_VALUES)
    })
}

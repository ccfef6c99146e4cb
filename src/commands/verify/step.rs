//! The step, from its two ends: the checkpoint is the base and the server optimizer's step, exactly;
//! and that step is the weighted mean of the kept deltas, by the linearity of sketches:
//!
//! ```text
//! sketch(v after) = momentum · sketch(v before) + Σ wᵢ · clipᵢ · sketch(deltaᵢ) / Σ wᵢ
//! ```
//!
//! within what rounding to bytes, to whole numbers and to f32 can do. Nobody needs the deltas.

use std::ops::Range;
use std::path::Path;

use convoke_aggregator::filter::CLIP_ONE_PPM;
use convoke_protocol::ids::{BlobHash, Digest};
use convoke_protocol::record::{RecordedUpdate, RoundRecord};
use convoke_protocol::sketch::{Norm, SKETCH_LEN};
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
pub(crate) struct StepFiles<'a> {
    /// The checkpoint that the round started from.
    pub(crate) base: Option<&'a Path>,
    /// The one that it led to.
    pub(crate) checkpoint: Option<&'a Path>,
    /// The momentum that belongs to the base.
    pub(crate) before: Option<&'a Path>,
    /// The momentum that belongs to the checkpoint.
    pub(crate) after: Option<&'a Path>,
}

/// Checks the step of a round whose record was found to be true otherwise. `rule` is the task's.
pub(crate) fn check_step(
    record: &RoundRecord,
    rule: &str,
    momentum: f64,
    server_lr: f64,
    files: &StepFiles<'_>,
) -> Vec<Check> {
    let kept: Vec<_> = record
        .dossier
        .updates
        .iter()
        .filter(|e| e.weight > 0)
        .collect();
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
    let (Some(base), Some(checkpoint)) = (files.base, files.checkpoint) else {
        let why =
            "base or checkpoint are not to be had: name the aggregator, or a folder that has them";
        return vec![
            Check::not_checkable(SUM, why),
            Check::not_checkable(STEP, why),
        ];
    };
    let step = Step {
        record,
        kept: &kept,
        momentum,
        server_lr,
    };
    let checked = || -> Result<Vec<Check>, SketchError> {
        let base = TensorFile::open(base)?;
        let checkpoint = TensorFile::open_like(checkpoint, base.layout())?;
        if momentum == 0.0 {
            let sum = Check::not_checkable(
                SUM,
                "without momentum the step is what lies between base and checkpoint; the next check says whether it is right",
            );
            return Ok(vec![sum, step.without_state(&base, &checkpoint, rule)?]);
        }
        let Some(after) = files.after else {
            let why = "the server optimizer's state is not to be had";
            return Ok(vec![
                Check::not_checkable(SUM, why),
                Check::not_checkable(STEP, why),
            ]);
        };
        let after = TensorFile::open_like(after, base.layout())?;
        let sum = step.exact_sum(&base, &checkpoint, &after)?;
        let before = match (record.step.state_before, files.before) {
            (None, _) => None,
            (Some(_), Some(path)) => Some(TensorFile::open_like(path, base.layout())?),
            (Some(_), None) => {
                let why = "the server optimizer's state before the round is not to be had";
                return Ok(vec![sum, Check::not_checkable(STEP, why)]);
            }
        };
        Ok(vec![sum, step.with_state(&after, before.as_ref(), rule)?])
    };
    checked().unwrap_or_else(|error| vec![Check::fails(STEP, error.to_string())])
}

const SUM: &str = "checkpoint";
const STEP: &str = "step";

struct Step<'a> {
    record: &'a RoundRecord,
    kept: &'a [&'a RecordedUpdate],
    momentum: f64,
    server_lr: f64,
}

impl Step<'_> {
    /// x after = x before + lr · v, as the aggregator rounds it.
    fn exact_sum(
        &self,
        base: &TensorFile,
        checkpoint: &TensorFile,
        after: &TensorFile,
    ) -> Result<Check, SketchError> {
        let mut buffers = [(); 3].map(|()| ChunkBuffer::default());
        let values = base.layout().values();
        for range in ranges(values) {
            let [first, second, third] = &mut buffers;
            let base = base.read(range.clone(), first)?;
            let checkpoint = checkpoint.read(range.clone(), second)?;
            let after = after.read(range.clone(), third)?;
            let rows = base
                .iter()
                .zip(&*checkpoint)
                .zip(&*after)
                .zip(range.start..);
            for (((x, y), v), index) in rows {
                let due = (f64::from(*x) + self.server_lr * f64::from(*v)) as f32;
                if due.to_bits() != y.to_bits() {
                    let why = format!("value {index} is {y} instead of {due}");
                    return Ok(Check::fails(SUM, why));
                }
            }
        }
        let why = format!(
            "is the base and {} times the optimizer's state, bit by bit",
            self.server_lr
        );
        Ok(Check::holds(SUM, why))
    }

    fn with_state(
        &self,
        after: &TensorFile,
        before: Option<&TensorFile>,
        rule: &str,
    ) -> Result<Check, SketchError> {
        let (seed, clip) = self.drawn();
        let after_lanes = lanes(after, &seed, clip)?;
        let before_lanes = match before {
            Some(before) => lanes(before, &seed, clip)?,
            None => [0.0; SKETCH_LEN],
        };
        let step = std::array::from_fn(|i| after_lanes[i] - self.momentum * before_lanes[i]);
        // Three terms are made whole numbers of.
        let values = after.layout().values() as f64;
        Ok(self.compare(&step, whole_number_error(values, clip) * 3f64.sqrt(), rule))
    }

    /// Without a state the step is the difference of both checkpoints, and as inexact as they are.
    fn without_state(
        &self,
        base: &TensorFile,
        checkpoint: &TensorFile,
        rule: &str,
    ) -> Result<Check, SketchError> {
        let (seed, clip) = self.drawn();
        let values = base.layout().values();
        let fill = |range: Range<u64>, step: &mut Vec<f32>| {
            let (mut left, mut right) = (ChunkBuffer::default(), ChunkBuffer::default());
            let new = checkpoint.read(range.clone(), &mut left)?;
            let old = base.read(range, &mut right)?;
            let pairs = new.iter().zip(&*old);
            step.extend(
                pairs.map(|(n, o)| ((f64::from(*n) - f64::from(*o)) / self.server_lr) as f32),
            );
            Ok(())
        };
        let lanes = lanes(&Computed::new(values, fill), &seed, clip)?;
        let whole = whole_number_error(values as f64, clip) * 2f64.sqrt();
        let rounded = rounding_of(checkpoint)?.sqrt() / self.server_lr * UNIT / clip.value();
        Ok(self.compare(&lanes, whole.hypot(rounded), rule))
    }

    fn drawn(&self) -> (Digest, Norm) {
        (self.record.dossier.seed, self.record.dossier.clip_norm)
    }

    /// `step` in units of sketches; `sigma` is what rounding does to a lane of it.
    fn compare(&self, step: &[f64; SKETCH_LEN], sigma: f64, rule: &str) -> Check {
        if rule != "fedavg" {
            let why = format!(
                "the rule {rule} takes values apart: only means can be checked by their sketches"
            );
            return Check::not_checkable(STEP, why);
        }
        if self.drawn().1 == Norm::ZERO {
            return Check::not_checkable(STEP, "all deltas are zero, so are their sketches");
        }
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
                "is the weighted mean of the kept deltas: off by {worst:.3} of {tolerance:.3} at most{skipped}"
            );
            return Check::holds(STEP, why);
        }
        let why = format!(
            "is not the weighted mean of the kept deltas: a lane is off by {worst:.1}, rounding explains {tolerance:.1}"
        );
        Check::fails(STEP, why)
    }

    /// What each kept update adds; `None` if one has no sketch.
    fn terms(&self) -> Option<Vec<Term<'_>>> {
        let clip = self.drawn().1;
        let total: f64 = self.kept.iter().map(|entry| entry.weight as f64).sum();
        let term = |entry: &&'_ RecordedUpdate| {
            let norm = entry.update.header.delta_norm.max(clip);
            let scaled = f64::from(entry.clip_ppm) / f64::from(CLIP_ONE_PPM);
            let share = entry.weight as f64 / total * scaled * (norm.value() / clip.value());
            Some(share)
        };
        self.kept
            .iter()
            .map(|entry| {
                let sketch = &entry.sketched.as_ref()?.sketch.0;
                Some(Term {
                    share: term(entry)?,
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

/// The blobs that a step is checked by.
pub(crate) fn blobs_of(record: &RoundRecord) -> Vec<BlobHash> {
    let states = [record.step.state_before, record.step.state_after];
    let checkpoints = [record.base, record.checkpoint];
    checkpoints
        .into_iter()
        .chain(states.into_iter().flatten())
        .collect()
}

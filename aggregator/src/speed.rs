//! How fast updates are aggregated on this machine, beside what binds it.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufWriter, Write as _};
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use convoke_protocol::ids::{Address, BlobHash};
use convoke_protocol::message::Candidate;
use convoke_protocol::task::AggregationSpec;
use convoke_sketch::{ChunkBuffer, Computed, SketchError, Source, TensorFile, chunk_range};
use rayon::prelude::*;

use crate::aggregate::history::Histories;
use crate::aggregate::{Mixer, MixerBuffers, Updates, decide};
use crate::error::AggregatorError;
use crate::filter::CLIP_ONE_PPM;
use crate::kernels::fma_peak_flops;
use crate::rules::{AggregationRule, Combination, Needs};

/// What is measured.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// The rule that aggregates them.
    pub rule: &'a dyn AggregationRule,
    /// The task's settings of it.
    pub settings: &'a AggregationSpec,
    /// N, at least 1, at most 65,535.
    pub updates: u16,
    /// D: values of each update, of four bytes each.
    pub parameters: u64,
    /// Where they are.
    pub input: Input,
    /// Passes that count, of which the fastest is taken; 0 for a single one without one before it.
    pub passes: usize,
}

/// Where updates are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// In memory: 4 N D bytes of it.
    Memory,
    /// In files of the temporary folder, and of the page cache if that has room for them.
    Files,
    /// Nowhere: made anew whenever they are read, which is all that "reading" is then.
    Generated,
}

/// The figures: seconds are the best of several, all with the same threads and in the same run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AggregationSpeed {
    /// Threads used.
    pub threads: usize,
    /// From updates to the aggregated delta: both passes if there are two. Server optimizer, hash and
    /// file of the new checkpoint come on top.
    pub seconds: f64,
    /// The first pass and the decision; next to nothing for rules that need no pass before.
    pub decide_seconds: f64,
    /// Baseline: reading all updates once, and adding up their words.
    pub read_seconds: f64,
    /// Bytes of all updates.
    pub input_bytes: u64,
    /// Bytes that the rule reads: some are read twice, and some not again.
    pub read_bytes: u64,
    /// Operations that all inner products take, if the rule needs them; else 0.
    pub product_flops: f64,
    /// [`fma_peak_flops`].
    pub fma_peak_flops: f64,
}

impl AggregationSpeed {
    /// Bytes of all updates a second.
    #[must_use]
    pub fn input_rate(&self) -> f64 {
        self.input_bytes as f64 / self.seconds
    }

    /// Bytes that can be read in a second.
    #[must_use]
    pub fn read_bandwidth(&self) -> f64 {
        self.input_bytes as f64 / self.read_seconds
    }

    /// The share of the read bandwidth that the rule reaches, passes taken together as one.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.read_seconds / self.seconds
    }

    /// The share of the peak at which inner products are computed; 0 without any.
    #[must_use]
    pub fn fma_ratio(&self) -> f64 {
        self.product_flops / self.decide_seconds / self.fma_peak_flops
    }

    /// The least time that the same work could take: each pass by what binds it, products by the
    /// processor's peak or memory, and all else by memory.
    #[must_use]
    pub fn limit_seconds(&self) -> f64 {
        let second = |bytes: f64| bytes / self.read_bandwidth();
        if self.product_flops == 0.0 {
            return second(self.read_bytes as f64);
        }
        let products = self.product_flops / self.fma_peak_flops;
        let mixed = (self.read_bytes - self.input_bytes) as f64;
        products.max(self.read_seconds) + second(mixed)
    }
}

/// Measures it in the thread pool that it is called in. Memory is that of the input, and what an
/// aggregation takes.
///
/// # Errors
/// If files cannot be written or read.
pub fn measure_speed(work: &Work<'_>) -> Result<AggregationSpeed, AggregatorError> {
    let folder = tempfile::tempdir().map_err(AggregatorError::file(&std::env::temp_dir()))?;
    let sources = (0..work.updates)
        .map(|update| work.source(update, folder.path()))
        .collect::<Result<Vec<_>, _>>()?;
    let candidates: Vec<Candidate> = (0..work.updates).map(candidate).collect();
    let updates = candidates
        .iter()
        .zip(sources.iter().map(|source| &**source));
    let updates = Updates::new(updates);
    let read = || -> Result<(), AggregatorError> {
        for source in &sources {
            black_box(add_up(&**source)?);
        }
        Ok(())
    };
    // The baseline before and after, so that it is of the same minute as what it is compared with.
    let mut read_seconds = best(work.passes, read)?;
    let fma_peak_flops = fma_peak_flops();
    let (mut seconds, mut decide_seconds, mut read_bytes) = (f64::INFINITY, f64::INFINITY, 0);
    let mut pass = || {
        let start = Instant::now();
        let combination = work.decide(&updates, folder.path())?;
        let decided = start.elapsed().as_secs_f64();
        black_box(mix(&updates, &combination)?);
        let total = start.elapsed().as_secs_f64();
        if total < seconds {
            (seconds, decide_seconds) = (total, decided);
        }
        read_bytes = work.read_bytes(&combination);
        Ok(())
    };
    best(work.passes, &mut pass)?;
    if work.passes > 0 {
        read_seconds = read_seconds.min(best(work.passes, read)?);
    }
    Ok(AggregationSpeed {
        threads: rayon::current_num_threads(),
        seconds,
        decide_seconds,
        read_seconds,
        input_bytes: work.input_bytes(),
        read_bytes,
        product_flops: work.product_flops(),
        fma_peak_flops,
    })
}

impl Work<'_> {
    fn input_bytes(&self) -> u64 {
        4 * u64::from(self.updates) * self.parameters
    }

    fn read_bytes(&self, combination: &Combination) -> u64 {
        let mixed = match combination {
            Combination::Sum { shares, .. } => {
                shares.iter().filter(|share| share.value() > 0.0).count()
            }
            Combination::Select { rows, .. } => rows.len(),
        };
        let before = u64::from(self.rule.needs().passes() - 1) * self.input_bytes();
        before + 4 * mixed as u64 * self.parameters
    }

    fn product_flops(&self) -> f64 {
        let updates = f64::from(self.updates);
        match self.rule.needs() {
            Needs::Products | Needs::HalvedProducts => {
                updates * (updates + 1.0) * self.parameters as f64
            }
            _ => 0.0,
        }
    }

    fn decide(&self, updates: &Updates<'_>, dir: &Path) -> Result<Combination, AggregatorError> {
        let mut histories = match self.rule.needs() {
            Needs::Histories => Some(Histories::open(dir, &BlobHash([0; 32]))?),
            _ => None,
        };
        decide(updates, self.rule, self.settings, histories.as_mut())
    }

    fn source(&self, update: u16, dir: &Path) -> Result<Box<dyn Source>, AggregatorError> {
        let generated = Computed::new(self.parameters, move |range, values: &mut Vec<f32>| {
            generate(update, range, values);
            Ok(())
        });
        Ok(match self.input {
            Input::Generated => Box::new(generated),
            Input::Memory => {
                let mut values = Vec::with_capacity(self.parameters as usize);
                generate(update, 0..self.parameters, &mut values);
                Box::new(Held(values))
            }
            Input::Files => {
                let path = dir.join(update.to_string());
                let written = write_update(&path, update, self.parameters);
                written.map_err(AggregatorError::file(&path))?;
                Box::new(TensorFile::open(&path)?)
            }
        })
    }
}

/// Weyl's sequence in [−1, 1), from another start for each update.
fn generate(update: u16, range: Range<u64>, values: &mut Vec<f32>) {
    let start = u32::from(update).wrapping_mul(0x85eb_ca6b);
    // Values of a long model repeat themselves.
    let value = |index: u64| (index as u32).wrapping_mul(0x9e37_79b9).wrapping_add(start) as i32;
    values.extend(range.map(|index| value(index) as f32 / (1u32 << 31) as f32));
}

/// A safetensors file of one tensor.
fn write_update(path: &Path, update: u16, parameters: u64) -> std::io::Result<()> {
    let mut writer = BufWriter::new(File::create(path)?);
    let bytes = 4 * parameters;
    let header = format!(
        r#"{{"delta":{{"dtype":"F32","shape":[{parameters}],"data_offsets":[0,{bytes}]}}}}"#
    );
    writer.write_all(&(header.len() as u64).to_le_bytes())?;
    writer.write_all(header.as_bytes())?;
    let mut values = Vec::new();
    for chunk in 0..parameters.div_ceil(READ_VALUES as u64) {
        values.clear();
        generate(
            update,
            chunk_range(chunk, READ_VALUES, parameters),
            &mut values,
        );
        for value in &values {
            writer.write_all(&value.to_le_bytes())?;
        }
    }
    writer.flush()
}

/// Values in memory.
struct Held(Vec<f32>);

impl Source for Held {
    fn count(&self) -> u64 {
        self.0.len() as u64
    }

    fn get<'a>(
        &'a self,
        range: Range<u64>,
        buffer: &'a mut ChunkBuffer,
    ) -> Result<&'a [f32], SketchError> {
        Source::get(&self.0[..], range, buffer)
    }

    fn copy<'a>(
        &self,
        range: Range<u64>,
        buffer: &'a mut ChunkBuffer,
    ) -> Result<&'a mut [f32], SketchError> {
        Source::copy(&self.0[..], range, buffer)
    }
}

/// Every update is from another trainer, of the same weight, and not clipped.
fn candidate(update: u16) -> Candidate {
    let [a, b] = update.to_be_bytes();
    let mut trainer = Address([0; 20]);
    trainer.0[..2].copy_from_slice(&[a, b]);
    Candidate {
        trainer,
        delta: BlobHash([a ^ b; 32]),
        delta_bytes: 0,
        num_examples: 1_000,
        clip_ppm: CLIP_ONE_PPM,
        alignment: 0,
        index: update,
    }
}

/// The second pass; what it makes is thrown away, but for its bits.
fn mix(updates: &Updates<'_>, combination: &Combination) -> Result<u32, SketchError> {
    let mixer = Mixer::new(updates, combination, [0; 32]);
    let (chunk_values, values) = (mixer.chunk_values(), updates.values());
    let memory = || (MixerBuffers::default(), vec![0.0; chunk_values]);
    (0..values.div_ceil(chunk_values as u64))
        .into_par_iter()
        .map_init(memory, |(buffers, out), chunk| {
            let range = chunk_range(chunk, chunk_values, values);
            let out = &mut out[..(range.end - range.start) as usize];
            mixer.mix(range, buffers, out)?;
            Ok(bits(out))
        })
        .try_reduce(|| 0, |a, b| Ok(a.wrapping_add(b)))
}

fn add_up(source: &dyn Source) -> Result<u32, SketchError> {
    let values = source.count();
    (0..values.div_ceil(READ_VALUES as u64))
        .into_par_iter()
        .map_init(ChunkBuffer::default, |buffer, chunk| {
            let range = chunk_range(chunk, READ_VALUES, values);
            Ok(bits(source.get(range, buffer)?))
        })
        .try_reduce(|| 0, |a, b| Ok(a.wrapping_add(b)))
}

fn bits(values: &[f32]) -> u32 {
    let bits = values.iter().map(|value| value.to_bits());
    bits.fold(0, u32::wrapping_add)
}

/// Seconds of the fastest pass, after one that does not count.
fn best(
    passes: usize,
    mut pass: impl FnMut() -> Result<(), AggregatorError>,
) -> Result<f64, AggregatorError> {
    if passes > 0 {
        pass()?;
    }
    let mut best = f64::INFINITY;
    for _ in 0..passes.max(1) {
        let start = Instant::now();
        pass()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Values read at once by the baseline: long runs, which memory likes best.
const READ_VALUES: usize = 1 << 16;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rules::all;

    fn work<'a>(
        rule: &'a dyn AggregationRule,
        settings: &'a AggregationSpec,
        input: Input,
    ) -> Work<'a> {
        Work {
            rule,
            settings,
            updates: 5,
            parameters: 70_001,
            input,
            passes: 0,
        }
    }

    #[test]
    fn every_rule_is_measured() {
        let settings = AggregationSpec::default();
        for rule in all() {
            let speed = measure_speed(&work(rule, &settings, Input::Generated)).unwrap();
            assert_eq!(speed.input_bytes, 4 * 5 * 70_001);
            let passes = u64::from(rule.needs().passes());
            assert!(
                speed.read_bytes >= (passes - 1) * speed.input_bytes,
                "{}",
                rule.name()
            );
            assert!(
                speed.read_bytes <= passes * speed.input_bytes,
                "{}",
                rule.name()
            );
            assert!(speed.seconds > speed.decide_seconds, "{}", rule.name());
            assert!(speed.limit_seconds() > 0.0);
        }
    }

    #[test]
    fn all_inputs_have_the_same_values() {
        let settings = AggregationSpec::default();
        let dir = tempfile::tempdir().unwrap();
        let sums = [Input::Generated, Input::Memory, Input::Files].map(|input| {
            let source = work(all()[0], &settings, input).source(3, dir.path());
            add_up(&*source.unwrap()).unwrap()
        });
        assert_eq!(sums, [sums[0]; 3]);
    }

    #[test]
    fn limits_are_what_binds() {
        let linear = AggregationSpeed {
            threads: 2,
            seconds: 0.05,
            decide_seconds: 0.0,
            read_seconds: 0.04,
            input_bytes: 1_000,
            read_bytes: 1_000,
            product_flops: 0.0,
            fma_peak_flops: 1e11,
        };
        assert!((linear.ratio() - 0.8).abs() < 1e-12);
        assert_eq!(linear.limit_seconds(), 0.04);
        let geometric = AggregationSpeed {
            decide_seconds: 0.2,
            read_bytes: 1_500,
            product_flops: 1e10,
            ..linear
        };
        assert!((geometric.fma_ratio() - 0.5).abs() < 1e-12);
        assert!((geometric.limit_seconds() - 0.12).abs() < 1e-12);
    }
}

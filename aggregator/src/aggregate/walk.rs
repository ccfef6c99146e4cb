//! The second pass with what follows it: delta, server optimizer, checkpoint.

use std::ops::Range;
use std::path::Path;

use convoke_sketch::{ChunkBuffer, TensorFile};

use super::mixer::{Mixer, MixerBuffers};
use super::output::Output;
use super::stream::{Chunk, in_order};
use crate::error::AggregatorError;
use crate::server_optimizer::ServerOptimizer;

/// A way from one checkpoint to the next.
pub struct Walk<'a> {
    /// Where it begins.
    pub base: &'a TensorFile,
    /// The server optimizer's moments that belong to that; none before the first step.
    pub moments: &'a [TensorFile],
    /// The aggregated delta, of a model of the same layout.
    pub mixer: &'a Mixer<'a>,
    /// Takes the step.
    pub optimizer: &'a dyn ServerOptimizer,
}

/// A thread's memory.
#[derive(Default)]
struct Scratch {
    mixer: MixerBuffers,
    delta: Vec<f32>,
    read: ChunkBuffer,
}

impl Walk<'_> {
    /// Gives `take` all chunks of the new checkpoint, in order, each with those of the moments that
    /// belong to it.
    ///
    /// # Errors
    /// If a file cannot be read, if a value would not be finite, and those of `take`.
    pub fn run(
        &self,
        take: impl FnMut(&Chunk) -> Result<(), AggregatorError> + Send,
    ) -> Result<(), AggregatorError> {
        let values = self.base.layout().values();
        let compute =
            |range, scratch: &mut Scratch, chunk: &mut Chunk| self.compute(range, scratch, chunk);
        in_order(values, self.mixer.chunk_values(), compute, take)
    }

    /// Writes the checkpoint and then the moments that are to be remembered.
    pub(super) fn write(&self, dir: &Path) -> Result<Vec<Output>, AggregatorError> {
        let moments = match self.optimizer.remembers() {
            true => self.optimizer.initial().len(),
            false => 0,
        };
        let create = |_| Output::create(dir, self.base.header());
        let mut outputs: Vec<Output> = (0..=moments).map(create).collect::<Result<_, _>>()?;
        self.run(|chunk| {
            let mut pairs = outputs.iter_mut().zip(chunk);
            pairs.try_for_each(|(output, values)| output.write(values))
        })?;
        Ok(outputs)
    }

    fn compute(
        &self,
        range: Range<u64>,
        scratch: &mut Scratch,
        chunk: &mut Chunk,
    ) -> Result<(), AggregatorError> {
        let initial = self.optimizer.initial();
        let length = (range.end - range.start) as usize;
        scratch.delta.resize(length, 0.0);
        self.mixer
            .mix(range.clone(), &mut scratch.mixer, &mut scratch.delta)?;
        chunk.resize_with(1 + initial.len(), Vec::new);
        let (x, moments) = chunk.split_first_mut().unwrap_or_else(|| unreachable!());
        fill(x, self.base.read(range.clone(), &mut scratch.read)?);
        for (index, moment) in moments.iter_mut().enumerate() {
            match self.moments.get(index) {
                Some(file) => fill(moment, file.read(range.clone(), &mut scratch.read)?),
                None => {
                    moment.clear();
                    moment.resize(length, initial[index]);
                }
            }
        }
        self.optimizer.step(&scratch.delta, x, moments);
        for values in chunk {
            expect_finite(range.start, values)?;
        }
        Ok(())
    }
}

fn fill(memory: &mut Vec<f32>, values: &[f32]) {
    memory.clear();
    memory.extend_from_slice(values);
}

fn expect_finite(first: u64, values: &[f32]) -> Result<(), AggregatorError> {
    let mut values = values.iter().zip(first..);
    match values.find(|(value, _)| !value.is_finite()) {
        None => Ok(()),
        Some((value, index)) => Err(AggregatorError::Diverged {
            index,
            value: *value,
        }),
    }
}

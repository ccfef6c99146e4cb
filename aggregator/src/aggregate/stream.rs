//! Chunks computed by all threads, and taken in their order by one.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use convoke_sketch::chunk_range;
use rayon::prelude::*;

/// The values of one chunk of every output.
pub(super) type Chunk = Vec<Vec<f32>>;

/// Calls `compute(range, scratch, chunk)` for each run of `chunk_values` of `values` values, on all
/// threads, and `take(chunk)` with what it left in the chunk, in order. While one batch is taken the
/// next one is computed. Memory is eight chunks a thread, and a scratch for each.
///
/// # Errors
/// The first of either that occurs; some of the chunks were taken then.
pub(super) fn in_order<S: Default + Send, E: Send>(
    values: u64,
    chunk_values: usize,
    compute: impl Fn(Range<u64>, &mut S, &mut Chunk) -> Result<(), E> + Sync,
    mut take: impl FnMut(&Chunk) -> Result<(), E> + Send,
) -> Result<(), E> {
    let chunks = values.div_ceil(chunk_values as u64);
    let batch = CHUNKS_PER_THREAD * rayon::current_num_threads() as u64;
    let scratches = Pool::default();
    let fill = |first: u64, batch: &mut Vec<Chunk>| {
        let chunks = batch.par_iter_mut().enumerate();
        chunks.try_for_each(|(index, chunk)| {
            let range = chunk_range(first + index as u64, chunk_values, values);
            scratches.with(|scratch| compute(range, scratch, chunk))
        })
    };
    let mut computed: Vec<Chunk> = Vec::new();
    let mut next: Vec<Chunk> = Vec::new();
    for first in (0..chunks).step_by(batch as usize) {
        next.resize_with((chunks - first).min(batch) as usize, Chunk::default);
        let (filled, taken) = rayon::join(
            || fill(first, &mut next),
            || computed.iter().try_for_each(&mut take),
        );
        taken.and(filled)?;
        std::mem::swap(&mut computed, &mut next);
    }
    computed.iter().try_for_each(take)
}

/// Memory that threads use one after the other, the one that was used last first: it is still in a
/// cache.
struct Pool<T>(Mutex<Vec<T>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Default> Pool<T> {
    fn with<R>(&self, run: impl FnOnce(&mut T) -> R) -> R {
        // What is in here means nothing, so that a panic elsewhere cannot have broken it.
        let pool = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = pool().pop();
        let mut item = taken.unwrap_or_default();
        let result = run(&mut item);
        pool().push(item);
        result
    }
}

/// Enough that no thread waits for another's last chunk for long.
const CHUNKS_PER_THREAD: u64 = 4;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_is_taken_once_and_in_order() {
        for values in [0, 1, 9, 10, 11, 1_234] {
            let mut taken = Vec::new();
            let compute = |range: Range<u64>, _: &mut (), chunk: &mut Chunk| {
                chunk.resize_with(1, Vec::new);
                chunk[0].clear();
                chunk[0].extend(range.map(|value| value as f32));
                Ok::<(), ()>(())
            };
            let take = |chunk: &Chunk| {
                taken.extend_from_slice(&chunk[0]);
                Ok(())
            };
            in_order(values, 10, compute, take).unwrap();
            let expected: Vec<f32> = (0..values).map(|value| value as f32).collect();
            assert_eq!(taken, expected);
        }
    }

    #[test]
    fn an_error_of_either_side_ends_it() {
        let broken = |range: Range<u64>, _: &mut (), _: &mut Chunk| match range.start {
            500 => Err("computed"),
            _ => Ok(()),
        };
        assert_eq!(in_order(1_000, 10, broken, |_| Ok(())), Err("computed"));
        let fine = |_: Range<u64>, _: &mut (), _: &mut Chunk| Ok(());
        assert_eq!(in_order(1_000, 10, fine, |_| Err("taken")), Err("taken"));
    }
}

//! The first pass: what a rule must know of the deltas.

use convoke_sketch::{SketchError, chunk_range};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use rayon::prelude::*;

use super::history::{BUCKETS, Projection};
use super::updates::{Rows, Updates};
use crate::kernels::Gram;
use crate::rules::{Evidence, Geometry, Needs, SignCounts};

/// Gathers what is needed, but for histories: those of [`project`] are a part of it. Sums are taken
/// in an order that does not depend on the number of threads, of values before clipping.
pub(super) fn survey(updates: &Updates<'_>, needs: Needs) -> Result<Evidence, SketchError> {
    let count = updates.count();
    Ok(match needs {
        Needs::Nothing | Needs::Histories => Evidence::default(),
        Needs::Norms => norms(updates, gather(updates, || Columns::new(count, false))?),
        Needs::NormsAndSigns => norms(updates, gather(updates, || Columns::new(count, true))?),
        Needs::Products => {
            let products = Geometry::of(&gather(updates, || Gram::new(count))?, updates.clips());
            Evidence {
                norms: products.norms(),
                products,
                ..Evidence::default()
            }
        }
        Needs::HalvedProducts => {
            let seed = halves_seed(updates);
            let halves = gather(updates, || Halves::new(count, seed))?.grams;
            Evidence {
                halves: halves.map(|gram| Geometry::of(&gram, updates.clips())),
                ..Evidence::default()
            }
        }
    })
}

/// Every delta, clipped, in random projection.
pub(super) fn project(
    updates: &Updates<'_>,
    projection: &Projection,
) -> Result<Vec<Vec<f64>>, SketchError> {
    let projected = gather(updates, || Projected::new(updates.count(), projection))?;
    let mut sums = projected.sums;
    for (sums, clip) in sums.iter_mut().zip(updates.clips()) {
        sums.iter_mut().for_each(|sum| *sum *= clip);
    }
    Ok(sums)
}

fn norms(updates: &Updates<'_>, columns: Columns) -> Evidence {
    let clipped = columns.squares.iter().zip(updates.clips());
    Evidence {
        norms: clipped.map(|(square, clip)| clip * square.sqrt()).collect(),
        signs: columns.signs,
        ..Evidence::default()
    }
}

/// Something that is added up over all values.
trait Tally: Send {
    /// Adds the values from `first` on, a row an update.
    fn add(&mut self, first: u64, rows: &[&[f32]]);

    /// Adds what another one has added up.
    fn merge(&mut self, other: &Self);
}

/// Adds up groups of chunks on all threads, and then the groups in their order.
fn gather<T: Tally>(updates: &Updates<'_>, new: impl Fn() -> T + Sync) -> Result<T, SketchError> {
    let chunk_values = Updates::chunk_values(updates.count());
    let (values, chunks_per_group) = (updates.values(), GROUP_VALUES / chunk_values as u64);
    let groups = values.div_ceil(GROUP_VALUES);
    let of_group = |group: u64, rows: &mut Rows| {
        let mut tally = new();
        let first = group * chunks_per_group;
        for chunk in first..first + chunks_per_group {
            let range = chunk_range(chunk, chunk_values, values);
            if range.is_empty() {
                break;
            }
            let deltas = (0..updates.count()).map(|index| updates.delta(index));
            tally.add(range.start, &rows.read(deltas, &range)?);
        }
        Ok(tally)
    };
    let mut total = new();
    let batch = GROUPS_PER_THREAD * rayon::current_num_threads() as u64;
    for first in (0..groups).step_by(batch as usize) {
        let tallies: Vec<T> = (first..groups.min(first + batch))
            .into_par_iter()
            .map_init(Rows::default, |rows, group| of_group(group, rows))
            .collect::<Result<_, _>>()?;
        tallies.iter().for_each(|tally| total.merge(tally));
    }
    Ok(total)
}

/// Values whose sums are added up by one thread. A multiple of every chunk.
const GROUP_VALUES: u64 = 1 << 18;
/// Enough that no thread waits for another's last group for long.
const GROUPS_PER_THREAD: u64 = 4;

impl Tally for Gram {
    fn add(&mut self, _first: u64, rows: &[&[f32]]) {
        Self::add(self, rows);
    }

    fn merge(&mut self, other: &Self) {
        Self::merge(self, other);
    }
}

/// Squares and signs of each update by itself.
struct Columns {
    squares: Vec<f64>,
    /// Of no update if they are not asked for.
    signs: Vec<SignCounts>,
}

impl Columns {
    fn new(count: usize, with_signs: bool) -> Self {
        let signs = if with_signs { count } else { 0 };
        Self {
            squares: vec![0.0; count],
            signs: vec![SignCounts::default(); signs],
        }
    }
}

impl Tally for Columns {
    fn add(&mut self, _first: u64, rows: &[&[f32]]) {
        for (square, row) in self.squares.iter_mut().zip(rows) {
            *square += sum_of_squares(row);
        }
        for (signs, row) in self.signs.iter_mut().zip(rows) {
            let count = |is: fn(&f32) -> bool| -> u64 {
                // A run's count fits in 32 bits, which are counted eight at a time.
                row.iter()
                    .map(|value| u32::from(is(value)))
                    .sum::<u32>()
                    .into()
            };
            signs.positive += count(|value| *value > 0.0);
            signs.negative += count(|value| *value < 0.0);
            signs.values += row.len() as u64;
        }
    }

    fn merge(&mut self, other: &Self) {
        for (square, other) in self.squares.iter_mut().zip(&other.squares) {
            *square += other;
        }
        for (signs, other) in self.signs.iter_mut().zip(&other.signs) {
            signs.positive += other.positive;
            signs.negative += other.negative;
            signs.values += other.values;
        }
    }
}

/// In f64, where the square of no f32 overflows, and in as many sums as fill the registers.
fn sum_of_squares(row: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 16];
    let (blocks, rest) = row.as_chunks::<16>();
    for block in blocks.iter().map(|block| &block[..]).chain([rest]) {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane += f64::from(*value) * f64::from(*value);
        }
    }
    lanes.iter().sum()
}

fn halves_seed(updates: &Updates<'_>) -> [u8; 32] {
    updates.seed("convoke 2026-11 halves of a model's values")
}

/// Inner products of two halves of the values.
struct Halves {
    grams: [Gram; 2],
    /// A bit of it for each run of values says which half that is in.
    random: ChaCha8Rng,
    /// The rows of each half, gathered.
    gathered: [Vec<Vec<f32>>; 2],
}

impl Halves {
    fn new(count: usize, seed: [u8; 32]) -> Self {
        Self {
            grams: [(); 2].map(|()| Gram::new(count)),
            random: ChaCha8Rng::from_seed(seed),
            gathered: [(); 2].map(|()| vec![Vec::new(); count]),
        }
    }

    /// The halves that 64 runs are in, a bit for each.
    fn word(&mut self, index: u64) -> u64 {
        self.random.set_word_pos(2 * u128::from(index));
        self.random.next_u64()
    }
}

impl Tally for Halves {
    fn add(&mut self, first: u64, rows: &[&[f32]]) {
        self.gathered.iter_mut().flatten().for_each(Vec::clear);
        let values = rows.first().map_or(0, |row| row.len());
        for start in (0..values).step_by(WORD_VALUES) {
            let word = self.word((first + start as u64) / WORD_VALUES as u64);
            for (index, row) in rows.iter().enumerate() {
                let of_word = &row[start..values.min(start + WORD_VALUES)];
                for (bit, run) in of_word.chunks(RUN_VALUES).enumerate() {
                    let half = (word >> bit & 1) as usize;
                    self.gathered[half][index].extend_from_slice(run);
                }
            }
        }
        for (gram, gathered) in self.grams.iter_mut().zip(&self.gathered) {
            let rows: Vec<&[f32]> = gathered.iter().map(Vec::as_slice).collect();
            gram.add(&rows);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (gram, other) in self.grams.iter_mut().zip(&other.grams) {
            gram.merge(other);
        }
    }
}

/// Which of its halves each value is in.
#[cfg(test)]
pub(crate) fn halves(updates: &Updates<'_>) -> Vec<usize> {
    let mut halves = Halves::new(0, halves_seed(updates));
    let half = |value: u64| {
        let run = value / RUN_VALUES as u64;
        (halves.word(run / 64) >> (run % 64) & 1) as usize
    };
    (0..updates.values()).map(half).collect()
}

/// Values that are in one half together: a line of the cache.
const RUN_VALUES: usize = 16;
/// Values that 64 random bits are for.
const WORD_VALUES: usize = 64 * RUN_VALUES;

/// The random projections of all updates.
struct Projected<'a> {
    projection: &'a Projection,
    sums: Vec<Vec<f64>>,
}

impl<'a> Projected<'a> {
    fn new(count: usize, projection: &'a Projection) -> Self {
        let sums = vec![vec![0.0; BUCKETS]; count];
        Self { projection, sums }
    }
}

impl Tally for Projected<'_> {
    fn add(&mut self, first: u64, rows: &[&[f32]]) {
        self.projection.add(first, rows, &mut self.sums);
    }

    fn merge(&mut self, other: &Self) {
        for (sums, other) in self.sums.iter_mut().zip(&other.sums) {
            for (sum, other) in sums.iter_mut().zip(other) {
                *sum += other;
            }
        }
    }
}

// A word's values never lie in two chunks.
const _: () = assert!(super::updates::CHUNK_VALUES_MIN.is_multiple_of(WORD_VALUES));
const _: () = assert!(GROUP_VALUES.is_multiple_of(super::updates::CHUNK_VALUES_MAX as u64));

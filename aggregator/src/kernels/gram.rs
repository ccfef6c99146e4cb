//! All inner products of the updates, in one pass over them.
//!
//! Rows are multiplied with rows in tiles, whose sums are held in registers. Products are added up
//! by fused operations in f32, but only [`STEPS`] of them in each of [`LANES`] lanes; those sums
//! are added up in f64. So a product's error is at most 128 · 2⁻²⁴ < 10⁻⁵ of Σ |a b|, and in
//! practice, where roundings are as often up as down, less than 10⁻⁷ of |xᵢ| |xⱼ|. A squared
//! distance is a difference of products: its error is of that size, too, relative to the squared
//! norms and not to itself, which tells updates apart down to an angle of about 10⁻³.

use super::lanes::{LANES, Lanes, OnLanes, run_on_lanes};

/// The lower triangle of Gᵢⱼ = ⟨xᵢ, xⱼ⟩, added up chunk by chunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Gram {
    count: usize,
    /// Rows 0..N of lengths 1..=N.
    sums: Vec<f64>,
}

impl Gram {
    /// Of `count` updates without values.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self {
            count,
            sums: vec![0.0; count * (count + 1) / 2],
        }
    }

    /// N.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Adds one chunk of every update; as the sums of one call are rounded once, chunks are best
    /// longer than a few thousand values. The same bits on every machine; those with fused
    /// multiplication and addition are much faster.
    ///
    /// # Shapes
    /// `rows`: N × C. O(N² C / 2): from about N = 20 on it is the processor that binds, not memory.
    ///
    /// # Panics
    /// If there are not N rows of one length.
    pub fn add(&mut self, rows: &[&[f32]]) {
        assert_eq!(rows.len(), self.count, "one row an update");
        let columns = rows.first().map_or(0, |row| row.len());
        assert!(rows.iter().all(|row| row.len() == columns), "equal lengths");
        let tiles = tiles(self.count);
        let mut lanes = vec![[0.0; 4]; tiles.iter().map(Tile::products).sum()];
        let mut ends = vec![[0.0; RUN]; self.count];
        run_on_lanes(Loops {
            rows,
            tiles: &tiles,
            lanes: &mut lanes,
            ends: &mut ends,
        });
        let mut lanes = lanes.iter();
        for ((i, j), [a, b, c, d]) in tiles.iter().flat_map(Tile::pairs).zip(&mut lanes) {
            let sum = (a + b) + (c + d);
            // Products of values beyond 10¹⁹ do not fit in f32, and would let one update of such
            // values spoil what is known of all others.
            self.sums[index((i, j))] += match sum.is_finite() {
                true => sum,
                false => product_in_f64(rows[i], rows[j]),
            };
        }
    }

    /// Adds what another one has added up. In a fixed order of chunks the result is the same
    /// whatever the number of threads.
    pub fn merge(&mut self, other: &Self) {
        for (sum, other) in self.sums.iter_mut().zip(&other.sums) {
            *sum += other;
        }
    }

    /// ⟨xᵢ, xⱼ⟩.
    #[must_use]
    pub fn product(&self, i: usize, j: usize) -> f64 {
        self.sums[index((i, j))]
    }

    /// |xᵢ − xⱼ|², at least 0.
    #[must_use]
    pub fn distance_squared(&self, i: usize, j: usize) -> f64 {
        (self.product(i, i) + self.product(j, j) - 2.0 * self.product(i, j)).max(0.0)
    }
}

fn product_in_f64(a: &[f32], b: &[f32]) -> f64 {
    let terms = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
    terms.sum()
}

/// Where ⟨xᵢ, xⱼ⟩ is.
fn index((i, j): (usize, usize)) -> usize {
    let (i, j) = (i.max(j), i.min(j));
    i * (i + 1) / 2 + j
}

/// Values whose products are added up in f32.
const RUN: usize = LANES * STEPS;
/// Products that are added to a lane one after the other.
const STEPS: usize = 128;

type Run = [f32; RUN];

/// Products of rows that are computed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tile {
    /// Of `rows` rows from `first` on with each other.
    Triangle { first: usize, rows: usize },
    /// Of `height` rows from `top` on with `width` from `left` on.
    Rectangle {
        top: usize,
        height: usize,
        left: usize,
        width: usize,
    },
}

impl Tile {
    fn products(&self) -> usize {
        match *self {
            Self::Triangle { rows, .. } => rows * (rows + 1) / 2,
            Self::Rectangle { height, width, .. } => height * width,
        }
    }

    /// In the order in which they are computed.
    fn pairs(&self) -> Vec<(usize, usize)> {
        match *self {
            Self::Triangle { first, rows } => (first..first + rows)
                .flat_map(|i| (first..=i).map(move |j| (i, j)))
                .collect(),
            Self::Rectangle {
                top,
                height,
                left,
                width,
            } => (top..top + height)
                .flat_map(|i| (left..left + width).map(move |j| (i, j)))
                .collect(),
        }
    }
}

/// Every pair of `count` rows once. Twelve sums, three rows and a fourth's value are what sixteen
/// registers hold; eight sums are as many as are needed for two fused operations a cycle.
fn tiles(count: usize) -> Vec<Tile> {
    let mut tiles = Vec::new();
    for first in (0..count).step_by(4) {
        let rows = (count - first).min(4);
        let mut done = 0;
        while done < first {
            // `first` is a multiple of four.
            let (height, width) = match (rows, first - done) {
                (4, 2 | 4) => (4, 2),
                (4, _) => (4, 3),
                (1, 8..) => (1, 8),
                (rows, _) => (rows, 4),
            };
            tiles.push(match rows {
                4 => Tile::Rectangle {
                    top: first,
                    height,
                    left: done,
                    width,
                },
                // The taller side first: its rows don't stay in registers.
                _ => Tile::Rectangle {
                    top: done,
                    height: width,
                    left: first,
                    width: height,
                },
            });
            done += width;
        }
        tiles.push(Tile::Triangle { first, rows });
    }
    tiles
}

struct Loops<'a> {
    rows: &'a [&'a [f32]],
    tiles: &'a [Tile],
    /// Four sums for each product, tile by tile.
    lanes: &'a mut [[f64; 4]],
    /// Room for the last values of each row, and the zeros that make a whole run of them.
    ends: &'a mut [Run],
}

impl OnLanes for Loops<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let columns = self.rows.first().map_or(0, |row| row.len());
        let mut runs = Vec::with_capacity(self.rows.len());
        for number in 0..columns / RUN {
            runs.clear();
            runs.extend(
                self.rows
                    .iter()
                    .map(|row| &row.as_chunks::<RUN>().0[number]),
            );
            multiply(lanes, &runs, self.tiles, self.lanes);
        }
        if !columns.is_multiple_of(RUN) {
            for (end, row) in self.ends.iter_mut().zip(self.rows) {
                let rest = row.as_chunks::<RUN>().1;
                end[..rest.len()].copy_from_slice(rest);
            }
            let runs: Vec<&Run> = self.ends.iter().collect();
            multiply(lanes, &runs, self.tiles, self.lanes);
        }
    }
}

#[inline(always)]
fn multiply<L: Lanes>(l: L, runs: &[&Run], tiles: &[Tile], mut lanes: &mut [[f64; 4]]) {
    for tile in tiles {
        let (sums, rest) = std::mem::take(&mut lanes).split_at_mut(tile.products());
        lanes = rest;
        match *tile {
            Tile::Triangle { first, rows } => match rows {
                4 => triangle::<4, 10, _>(l, &runs[first..], sums),
                3 => triangle::<3, 6, _>(l, &runs[first..], sums),
                2 => triangle::<2, 3, _>(l, &runs[first..], sums),
                _ => triangle::<1, 1, _>(l, &runs[first..], sums),
            },
            Tile::Rectangle {
                top,
                height,
                left,
                width,
            } => {
                let (a, b) = (&runs[top..], &runs[left..]);
                match (height, width) {
                    (4, 3) => rectangle::<4, 3, _>(l, a, b, sums),
                    (4, 2) => rectangle::<4, 2, _>(l, a, b, sums),
                    (8, 1) => rectangle::<8, 1, _>(l, a, b, sums),
                    _ => rectangle::<4, 1, _>(l, a, b, sums),
                }
            }
        }
    }
}

#[inline(always)]
fn rectangle<const H: usize, const W: usize, L: Lanes>(
    l: L,
    a: &[&Run],
    b: &[&Run],
    lanes: &mut [[f64; 4]],
) {
    let a: [&Run; H] = std::array::from_fn(|row| a[row]);
    let b: [&Run; W] = std::array::from_fn(|row| b[row]);
    let mut sums = [[l.load(&[0.0; LANES]); W]; H];
    for step in 0..STEPS {
        let b = b.map(|run| l.load(&run.as_chunks::<LANES>().0[step]));
        for row in 0..H {
            let a = l.load(&a[row].as_chunks::<LANES>().0[step]);
            for column in 0..W {
                sums[row][column] = l.mul_add(a, b[column], sums[row][column]);
            }
        }
    }
    for (sums, lanes) in sums.as_flattened().iter().zip(lanes) {
        add_lanes(lanes, &l.store(*sums));
    }
}

/// `P` = `H` (`H` + 1) / 2.
#[inline(always)]
fn triangle<const H: usize, const P: usize, L: Lanes>(l: L, runs: &[&Run], lanes: &mut [[f64; 4]]) {
    let runs: [&Run; H] = std::array::from_fn(|row| runs[row]);
    let mut sums = [l.load(&[0.0; LANES]); P];
    for step in 0..STEPS {
        let values = runs.map(|run| l.load(&run.as_chunks::<LANES>().0[step]));
        for row in 0..H {
            for column in 0..=row {
                let sum = &mut sums[row * (row + 1) / 2 + column];
                *sum = l.mul_add(values[row], values[column], *sum);
            }
        }
    }
    for (sums, lanes) in sums.iter().zip(lanes) {
        add_lanes(lanes, &l.store(*sums));
    }
}

#[inline(always)]
fn add_lanes(lanes: &mut [f64; 4], sums: &[f32; LANES]) {
    let (low, high) = sums.split_at(4);
    for ((lane, low), high) in lanes.iter_mut().zip(low).zip(high) {
        *lane += f64::from(*low) + f64::from(*high);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kernels::testing::{rows, slices};

    #[test]
    fn tiles_are_every_pair_once() {
        for count in 0..=70 {
            let mut pairs: Vec<_> = tiles(count)
                .iter()
                .flat_map(Tile::pairs)
                .map(index)
                .collect();
            assert_eq!(
                pairs.len(),
                tiles(count).iter().map(Tile::products).sum::<usize>()
            );
            pairs.sort_unstable();
            assert!(pairs.into_iter().eq(0..count * (count + 1) / 2), "{count}");
        }
    }

    fn check(rows: &[Vec<f32>], got: &Gram) {
        for (i, a) in rows.iter().enumerate() {
            for (j, b) in rows.iter().enumerate() {
                let terms = || a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
                let (sum, size): (f64, f64) = (terms().sum(), terms().map(f64::abs).sum());
                let error = (got.product(i, j) - sum).abs();
                assert!(
                    error <= 1e-6 * size,
                    "{} {i} {j}: {error} of {size}",
                    rows.len()
                );
            }
        }
    }

    #[test]
    fn agrees_with_the_naive_twin_for_every_number_of_rows() {
        for count in 0..=70 {
            let rows = rows(count as u64, count, RUN + 300);
            let mut gram = Gram::new(count);
            gram.add(&slices(&rows));
            assert_eq!(gram.count(), count);
            check(&rows, &gram);
        }
    }

    #[test]
    fn chunks_of_any_length_add_up() {
        let rows = rows(1, 7, 3 * RUN + 18);
        let mut gram = Gram::new(7);
        let mut other = Gram::new(7);
        let part = |range: std::ops::Range<usize>| -> Vec<&[f32]> {
            rows.iter().map(|row| &row[range.clone()]).collect()
        };
        gram.add(&part(0..1));
        gram.add(&part(1..1));
        gram.add(&part(1..2 * RUN + 5));
        other.add(&part(2 * RUN + 5..3 * RUN + 18));
        gram.merge(&other);
        check(&rows, &gram);
    }

    #[test]
    fn distances_of_equals_are_zero_and_large_values_stay_finite() {
        let mut rows = rows(2, 5, 1000);
        rows[3] = rows[1].clone();
        let mut gram = Gram::new(5);
        gram.add(&slices(&rows));
        assert_eq!(gram.distance_squared(1, 3), 0.0);
        let apart: f64 = rows[0]
            .iter()
            .zip(&rows[4])
            .map(|(a, b)| f64::from(a - b).powi(2))
            .sum();
        assert!((gram.distance_squared(0, 4) / apart - 1.0).abs() < 1e-5);
        // What overflows f32 does not overflow f64, and spoils nothing else.
        let mut huge = Gram::new(3);
        huge.add(&[&[f32::MAX; 3], &[-f32::MAX; 3], &[1.0; 3]]);
        let square = 3.0 * f64::from(f32::MAX).powi(2);
        assert_eq!([huge.product(0, 0), huge.product(1, 0)], [square, -square]);
        assert_eq!(huge.product(2, 2), 3.0);
    }

    #[test]
    fn machines_without_such_instructions_get_the_same_bits() {
        let rows = rows(4, 11, 2 * RUN + 9);
        let rows = slices(&rows);
        let tiles = tiles(11);
        let run = |portable: bool| {
            let mut lanes = vec![[0.0; 4]; 66];
            let mut ends = vec![[0.0; RUN]; 11];
            let loops = Loops {
                rows: &rows,
                tiles: &tiles,
                lanes: &mut lanes,
                ends: &mut ends,
            };
            match portable {
                true => loops.run(crate::kernels::lanes::Portable),
                false => run_on_lanes(loops),
            }
            lanes
        };
        assert_eq!(run(true), run(false));
    }
}

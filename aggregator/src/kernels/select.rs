//! Statistics of order, value by value.
//!
//! Columns are sorted many at once by the networks of [`network`](super::network). The median of
//! two sorted runs takes no merge: with p + q = r the lower ones of each pair (a_p, b_q) are the
//! r + 1 lowest of both runs, and the highest of those is the value of rank r.

use super::lanes::{LANES, Lanes, OnLanes, run_on_lanes};
use super::network::{Comparator, RUN_ROWS, merge, prune, sort_run};

/// What becomes of the N values that the updates have for one parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// The middle one; the mean of the two middle ones of an even number.
    Median,
    /// The mean without the `trim` lowest and the `trim` highest; 2 `trim` < N.
    TrimmedMean {
        /// Left out at each end.
        trim: usize,
    },
    /// The mean of the `keep` that are nearest to the median; 1 ≤ `keep` ≤ N. Of equally near ones
    /// the lower are kept.
    MeanAroundMedian {
        /// Values that are averaged.
        keep: usize,
    },
}

/// Reduces every column of `rows` to one value. Values are finite; the order of the rows is of no
/// consequence. Sums are taken in f64, in the order of the sorted values; a zero is +0.
///
/// # Shapes
/// `rows`: N × C, N ≥ 1; `out`: C. O(N log² N) a column.
///
/// # Panics
/// If there are no rows, the lengths differ, or the selection leaves no value.
pub fn select(rows: &[&[f32]], selection: Selection, out: &mut [f32]) {
    assert!(!rows.is_empty(), "nothing to select from");
    for row in rows {
        assert_eq!(row.len(), out.len(), "rows are as long as the result");
    }
    match selection {
        Selection::Median => (),
        Selection::TrimmedMean { trim } => assert!(2 * trim < rows.len(), "nothing is left"),
        Selection::MeanAroundMedian { keep } => {
            assert!((1..=rows.len()).contains(&keep), "{keep} of {}", rows.len());
        }
    }
    run_on_lanes(Loops {
        rows,
        out,
        plan: &Plan::new(rows.len(), selection),
        tile: &mut vec![[0.0; COLUMNS]; rows.len()],
        ends: &mut vec![[0.0; COLUMNS]; rows.len()],
    });
}

/// Columns that are sorted at once: four registers, to make up for reading a list.
const COLUMNS: usize = 4 * LANES;

/// Values of one row, or of one rank.
type Row = [f32; COLUMNS];

/// What is to be done with every tile.
#[derive(Debug)]
struct Plan {
    /// Rows up to which each run goes.
    run_ends: Vec<usize>,
    /// Merges of the sorted runs.
    comparators: Vec<Comparator>,
    result: Reduction,
}

/// The last step, of rows in their order.
#[derive(Debug)]
enum Reduction {
    /// The mean of them.
    Mean(Vec<usize>),
    /// The values of ranks `rank` and, if there is an even number, `rank` + 1 of two sorted runs.
    MedianOfTwo {
        a: Vec<usize>,
        b: Vec<usize>,
        rank: usize,
        even: bool,
    },
    /// The mean of `keep` neighbours around the median.
    Around { sorted: Vec<usize>, keep: usize },
}

impl Plan {
    fn new(rows: usize, selection: Selection) -> Self {
        let count = rows.div_ceil(RUN_ROWS);
        let ends: Vec<usize> = (1..=count).map(|run| run * rows / count).collect();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        let runs: Vec<Vec<usize>> = starts.zip(&ends).map(|(a, b)| (a..*b).collect()).collect();
        let mut comparators = Vec::new();
        let result = match selection {
            Selection::Median if count > 1 => {
                let (a, b) = runs.split_at(count / 2);
                let (a, b) = (
                    merge_all(a, &mut comparators),
                    merge_all(b, &mut comparators),
                );
                let (rank, even) = ((rows - 1) / 2, rows.is_multiple_of(2));
                Reduction::MedianOfTwo { a, b, rank, even }
            }
            Selection::Median => Reduction::Mean(((rows - 1) / 2..=rows / 2).collect()),
            Selection::TrimmedMean { trim } => {
                let sorted = merge_all(&runs, &mut comparators);
                let kept = sorted[trim..rows - trim].to_vec();
                prune(&mut comparators, &kept, rows);
                Reduction::Mean(kept)
            }
            Selection::MeanAroundMedian { keep } => {
                let sorted = merge_all(&runs, &mut comparators);
                Reduction::Around { sorted, keep }
            }
        };
        Self {
            run_ends: ends,
            comparators,
            result,
        }
    }
}

fn merge_all(runs: &[Vec<usize>], comparators: &mut Vec<Comparator>) -> Vec<usize> {
    match runs {
        [] => Vec::new(),
        [run] => run.clone(),
        runs => {
            let (a, b) = runs.split_at(runs.len() / 2);
            let (a, b) = (merge_all(a, comparators), merge_all(b, comparators));
            merge(&a, &b, comparators)
        }
    }
}

struct Loops<'a> {
    rows: &'a [&'a [f32]],
    out: &'a mut [f32],
    plan: &'a Plan,
    tile: &'a mut [Row],
    /// Room for the last columns.
    ends: &'a mut [Row],
}

impl OnLanes for Loops<'_> {
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (whole, rest) = self.out.as_chunks_mut::<COLUMNS>();
        for (number, out) in whole.iter_mut().enumerate() {
            let row = |index: usize| &self.rows[index].as_chunks::<COLUMNS>().0[number];
            *out = reduce_tile(l, self.plan, row, self.tile);
        }
        if !rest.is_empty() {
            for (end, row) in self.ends.iter_mut().zip(self.rows) {
                end[..rest.len()].copy_from_slice(row.as_chunks::<COLUMNS>().1);
            }
            let ends = &*self.ends;
            let out = reduce_tile(l, self.plan, |index| &ends[index], self.tile);
            rest.copy_from_slice(&out[..rest.len()]);
        }
    }
}

#[inline(always)]
fn reduce_tile<'a, L: Lanes>(
    l: L,
    plan: &Plan,
    row: impl Fn(usize) -> &'a Row,
    tile: &mut [Row],
) -> Row {
    let mut start = 0;
    for end in &plan.run_ends {
        load_run(l, start, *end - start, &row, &mut tile[start..*end]);
        start = *end;
    }
    for Comparator { low, high } in &plan.comparators {
        if let Ok([low, high]) = tile.get_disjoint_mut([*low, *high]) {
            sort_rows(l, low, high);
        }
    }
    match &plan.result {
        Reduction::Mean(rows) => mean(tile, rows),
        Reduction::MedianOfTwo { a, b, rank, even } => median_of_two(l, tile, (a, b), *rank, *even),
        Reduction::Around { sorted, keep } => mean_around(tile, sorted, *keep),
    }
}

/// Sorts `count` rows from `first` on into `tile`.
#[inline(always)]
fn load_run<'a, L: Lanes>(
    l: L,
    first: usize,
    count: usize,
    row: impl Fn(usize) -> &'a Row,
    tile: &mut [Row],
) {
    macro_rules! by_count {
        ($($n:literal)*) => {
            match count {
                $($n => {
                    let rows: [&Row; $n] = std::array::from_fn(|index| row(first + index));
                    load_rows::<$n, L>(l, &rows, tile);
                })*
                _ => unreachable!("runs have 1 to {RUN_ROWS} rows"),
            }
        };
    }
    by_count!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
}

#[inline(always)]
fn load_rows<const N: usize, L: Lanes>(l: L, rows: &[&Row; N], tile: &mut [Row]) {
    for part in 0..COLUMNS / LANES {
        let mut v = [l.load(&[0.0; LANES]); RUN_ROWS];
        for (v, row) in v.iter_mut().zip(rows) {
            *v = l.load(&row.as_chunks::<LANES>().0[part]);
        }
        sort_run::<N, L>(l, &mut v);
        for (v, row) in v.iter().take(N).zip(&mut *tile) {
            row.as_chunks_mut::<LANES>().0[part] = l.store(*v);
        }
    }
}

#[inline(always)]
fn sort_rows<L: Lanes>(l: L, low: &mut Row, high: &mut Row) {
    let (low, high) = (
        low.as_chunks_mut::<LANES>().0,
        high.as_chunks_mut::<LANES>().0,
    );
    for (low, high) in low.iter_mut().zip(high) {
        let (a, b) = l.sort(l.load(low), l.load(high));
        (*low, *high) = (l.store(a), l.store(b));
    }
}

#[inline(always)]
fn median_of_two<L: Lanes>(
    l: L,
    tile: &[Row],
    (a, b): (&[usize], &[usize]),
    rank: usize,
    even: bool,
) -> Row {
    let mut out = [0.0; COLUMNS];
    for (part, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let load =
            |rows: &[usize], index: usize| l.load(&tile[rows[index]].as_chunks::<LANES>().0[part]);
        let mut low = l.load(&[f32::NEG_INFINITY; LANES]);
        let mut high = l.load(&[f32::INFINITY; LANES]);
        for p in 0..=rank {
            let q = rank - p;
            let pair = match (p < a.len(), q < b.len()) {
                (true, true) => l.sort(load(a, p), load(b, q)),
                // The other one is past the end of its run: +∞.
                (true, false) => (load(a, p), high),
                (false, true) => (load(b, q), high),
                (false, false) => (low, high),
            };
            low = l.sort(low, pair.0).1;
            high = l.sort(high, pair.1).0;
        }
        // The value of the next rank may also be next in a run of which all before it are lower.
        for run in [a, b] {
            if rank + 1 < run.len() {
                high = l.sort(high, load(run, rank + 1)).0;
            }
        }
        let (low, high) = (l.store(low), l.store(high));
        for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
            let high = if even { high } else { low };
            // A sum with +0 is never -0, which else would depend on the order of the rows.
            *out = (0.5 * (f64::from(low) + f64::from(high)) + 0.0) as f32;
        }
    }
    out
}

#[inline(always)]
fn mean(tile: &[Row], rows: &[usize]) -> Row {
    let mut sums = [0.0f64; COLUMNS];
    for row in rows {
        for (sum, value) in sums.iter_mut().zip(&tile[*row]) {
            *sum += f64::from(*value);
        }
    }
    let count = rows.len() as f64;
    sums.map(|sum| (sum / count) as f32)
}

/// The nearest ones are neighbours in the order. A window of them moves up as long as the value that
/// it leaves is farther from the median than the one that it gains, and never again after that.
#[inline(always)]
fn mean_around(tile: &[Row], sorted: &[usize], keep: usize) -> Row {
    let middle = mean_of_middle(tile, sorted);
    let mut start = [0.0f64; COLUMNS];
    for (left, gained) in sorted.iter().zip(&sorted[keep..]) {
        let (left, gained) = (&tile[*left], &tile[*gained]);
        for column in 0..COLUMNS {
            let below = middle[column] - f64::from(left[column]);
            let above = f64::from(gained[column]) - middle[column];
            start[column] += if below > above { 1.0 } else { 0.0 };
        }
    }
    let mut sums = [0.0f64; COLUMNS];
    for (index, row) in sorted.iter().enumerate() {
        let (row, index) = (&tile[*row], index as f64);
        for column in 0..COLUMNS {
            let offset = index - start[column];
            let is_kept = (offset >= 0.0) & (offset < keep as f64);
            sums[column] += if is_kept { f64::from(row[column]) } else { 0.0 };
        }
    }
    sums.map(|sum| (sum / keep as f64) as f32)
}

/// The median, not rounded if it lies between two values.
#[inline(always)]
fn mean_of_middle(tile: &[Row], sorted: &[usize]) -> [f64; COLUMNS] {
    let (low, high) = ((sorted.len() - 1) / 2, sorted.len() / 2);
    let (low, high) = (&tile[sorted[low]], &tile[sorted[high]]);
    let mut middle = [0.0; COLUMNS];
    for ((middle, low), high) in middle.iter_mut().zip(low).zip(high) {
        *middle = 0.5 * (f64::from(*low) + f64::from(*high));
    }
    middle
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kernels::testing::{rows, slices};

    /// Of one column, in f64.
    fn naive(mut column: Vec<f32>, selection: Selection) -> f32 {
        column.sort_by(f32::total_cmp);
        let sorted: Vec<f64> = column.into_iter().map(f64::from).collect();
        let count = sorted.len();
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let middle = mean(&sorted[(count - 1) / 2..=count / 2]);
        let mean = match selection {
            Selection::Median => middle,
            Selection::TrimmedMean { trim } => mean(&sorted[trim..count - trim]),
            Selection::MeanAroundMedian { keep } => {
                // Leaves out the farther end, one at a time.
                let mut window = &sorted[..];
                while window.len() > keep {
                    let (low, high) = (window[0], window[window.len() - 1]);
                    window = match middle - low > high - middle {
                        true => &window[1..],
                        false => &window[..window.len() - 1],
                    };
                }
                mean(window)
            }
        };
        (mean + 0.0) as f32
    }

    fn check(rows: &[Vec<f32>], selection: Selection) {
        let mut out = vec![f32::NAN; rows[0].len()];
        select(&slices(rows), selection, &mut out);
        for (index, out) in out.iter().enumerate() {
            let column = rows.iter().map(|row| row[index]).collect();
            let expected = naive(column, selection);
            let place = (rows.len(), index, selection);
            assert_eq!(
                out.to_bits(),
                expected.to_bits(),
                "{place:?}: {out} {expected}"
            );
        }
    }

    fn selections(count: usize) -> Vec<Selection> {
        let mut all = vec![Selection::Median];
        for trim in [0, 1, count / 5, (count - 1) / 2] {
            all.extend((2 * trim < count).then_some(Selection::TrimmedMean { trim }));
        }
        for keep in [1, count.div_ceil(3), count / 2 + 1, count] {
            all.push(Selection::MeanAroundMedian { keep });
        }
        all
    }

    #[test]
    fn agrees_with_the_naive_twin_for_every_number_of_rows_to_the_bit() {
        for count in (1..=70).chain([127, 128, 129, 255, 256]) {
            for selection in selections(count) {
                check(&rows(count as u64, count, 37), selection);
            }
        }
    }

    #[test]
    fn any_length_will_do() {
        for length in [0, 1, 7, 31, 32, 33, 64, 100] {
            for selection in selections(21) {
                check(&rows(3, 21, length), selection);
            }
        }
    }

    /// Values of which many are equal, zeros of both signs, the largest and the smallest.
    #[test]
    fn ties_and_extremes_are_what_the_naive_twin_makes_of_them() {
        let values = [
            f32::MAX,
            f32::MIN,
            0.0,
            -0.0,
            1.0,
            -1.0,
            f32::MIN_POSITIVE,
            f32::from_bits(1),
        ];
        for count in [1, 2, 5, 16, 17, 32, 33, 50] {
            let pick = |v: &f32| values[(v.to_bits() >> 7) as usize % values.len()];
            let rows: Vec<Vec<f32>> = rows(9, count, 65)
                .iter()
                .map(|row| row.iter().map(pick).collect())
                .collect();
            for selection in selections(count) {
                check(&rows, selection);
            }
        }
    }

    #[test]
    fn the_order_of_the_rows_is_irrelevant_to_the_bit() {
        for count in [6, 19, 40] {
            let rows = rows(5, count, 33);
            for selection in selections(count) {
                let mut backwards = rows.clone();
                backwards.reverse();
                backwards.rotate_left(2);
                let (mut a, mut b) = ([0.0; 33], [0.0; 33]);
                select(&slices(&rows), selection, &mut a);
                select(&slices(&backwards), selection, &mut b);
                assert_eq!(a, b);
            }
        }
    }

    #[test]
    #[should_panic(expected = "nothing is left")]
    fn a_selection_that_leaves_nothing_is_our_bug() {
        select(
            &[&[1.0], &[2.0]],
            Selection::TrimmedMean { trim: 1 },
            &mut [0.0],
        );
    }
}

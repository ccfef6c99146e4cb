//! Weighted sums of updates.

use pulp::{Arch, NullaryFnOnce};

/// out\[j\] = Σᵢ shares\[i\] · rows\[i\]\[j\], summed in f64 in the order of the rows, rounded once.
/// The same bits on every machine: no fused operations, no reordering. Without rows, zeros.
///
/// # Shapes
/// `rows`: N × C; `shares`: N; `out`: C. O(N C): the memory's bandwidth is what binds.
///
/// # Panics
/// If the lengths differ.
pub fn weighted_sum(rows: &[&[f32]], shares: &[f64], out: &mut [f32]) {
    assert_eq!(rows.len(), shares.len(), "one share a row");
    for row in rows {
        assert_eq!(row.len(), out.len(), "rows are as long as the result");
    }
    let mut sums = [0.0; TILE];
    let sums = &mut sums[..];
    Arch::new().dispatch(Loops {
        rows,
        shares,
        out,
        sums,
    });
}

/// Columns whose sums stay in the caches next to the processor. Shorter tiles jump from row to row
/// so often that the memory cannot keep up: 512 reach half the bandwidth.
const TILE: usize = 4096;

/// Not a closure: the compiler does not inline those into code for other instructions.
struct Loops<'a> {
    rows: &'a [&'a [f32]],
    shares: &'a [f64],
    out: &'a mut [f32],
    sums: &'a mut [f64],
}

impl NullaryFnOnce for Loops<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (tile, out) in self.out.chunks_mut(TILE).enumerate() {
            let sums = &mut self.sums[..out.len()];
            sums.fill(0.0);
            let (first, rows, shares) = (tile * TILE, self.rows, self.shares);
            let (rows, shares) = add_groups::<8>(first, rows, shares, sums);
            let (rows, shares) = add_groups::<4>(first, rows, shares, sums);
            let (rows, shares) = add_groups::<2>(first, rows, shares, sums);
            add_groups::<1>(first, rows, shares, sums);
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = *sum as f32;
            }
        }
    }
}

/// Adds as many groups of `G` rows as there are, and returns the rows that are left. Sums are
/// loaded and stored once a group, which costs as much as the rows themselves if done for each.
#[inline(always)]
fn add_groups<'a, const G: usize>(
    first: usize,
    rows: &'a [&'a [f32]],
    shares: &'a [f64],
    sums: &mut [f64],
) -> (&'a [&'a [f32]], &'a [f64]) {
    let (groups, rows_left) = rows.as_chunks::<G>();
    let (group_shares, shares_left) = shares.as_chunks::<G>();
    for (rows, shares) in groups.iter().zip(group_shares) {
        let rows = rows.map(|row| &row[first..first + sums.len()]);
        for (index, sum) in sums.iter_mut().enumerate() {
            let mut added = *sum;
            for (row, share) in rows.iter().zip(shares) {
                added += share * f64::from(row[index]);
            }
            *sum = added;
        }
    }
    (rows_left, shares_left)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kernels::testing::{rows, slices};

    #[test]
    fn agrees_with_the_naive_twin_to_the_bit() {
        for count in 0..=70 {
            for length in [1, 9, 100, TILE + 3] {
                if count % 7 != 0 && length > TILE {
                    continue;
                }
                let rows = rows(count as u64, count, length);
                let shares: Vec<f64> = (0..count).map(|i| 0.3 - 0.01 * i as f64).collect();
                let mut out = vec![f32::NAN; length];
                weighted_sum(&slices(&rows), &shares, &mut out);
                for (index, out) in out.iter().enumerate() {
                    let mut sum = 0.0;
                    for (row, share) in rows.iter().zip(&shares) {
                        sum += share * f64::from(row[index]);
                    }
                    assert_eq!(out.to_bits(), (sum as f32).to_bits(), "{count} {index}");
                }
            }
        }
    }

    #[test]
    fn the_largest_values_do_not_overflow_on_the_way() {
        let mut out = [0.0];
        let rows: [&[f32]; 3] = [&[f32::MAX]; 3];
        weighted_sum(&rows, &[1.0, 1.0, -1.0], &mut out);
        assert_eq!(out, [f32::MAX]);
    }
}

//! Sorting the values of all trainers, coordinate by coordinate, with a sorting network:
//! the same comparisons whatever the data, so that many coordinates are sorted at once.

/// Coordinates sorted at once.
pub(super) const LANES: usize = 64;

/// One row a trainer.
pub(super) type Tile = Vec<[f32; LANES]>;

/// Calls `reduce(sorted rows, out)` for each run of up to [`LANES`] coordinates, with the
/// comparators of [`network`]. Lanes past the end of the chunk hold zeros.
pub(super) fn for_each_sorted(
    rows: &[&[f32]],
    out: &mut [f32],
    reduce: impl Fn(&[[f32; LANES]]) -> [f32; LANES],
) {
    let comparators = network(rows.len());
    let mut tile: Tile = vec![[0.0; LANES]; rows.len()];
    for (index, out) in out.chunks_mut(LANES).enumerate() {
        let start = index * LANES;
        for (lane, row) in tile.iter_mut().zip(rows) {
            lane[..out.len()].copy_from_slice(&row[start..start + out.len()]);
        }
        sort(&mut tile, &comparators);
        let reduced = reduce(&tile);
        out.copy_from_slice(&reduced[..out.len()]);
    }
}

/// Batcher's odd-even mergesort for any number of rows (Knuth, volume 3, algorithm 5.2.2M):
/// pairs (i, j), i < j, to be put in order one after the other; O(N log² N) of them.
pub(super) fn network(rows: usize) -> Vec<(usize, usize)> {
    let mut comparators = Vec::new();
    let mut p = 1;
    while p < rows {
        let mut k = p;
        while k >= 1 {
            for j in (k % p..rows.saturating_sub(k)).step_by(2 * k) {
                let pairs = (j..j + k.min(rows - j - k)).map(|i| (i, i + k));
                comparators.extend(pairs.filter(|(i, l)| i / (2 * p) == l / (2 * p)));
            }
            k /= 2;
        }
        p *= 2;
    }
    comparators
}

fn sort(tile: &mut Tile, comparators: &[(usize, usize)]) {
    for (low, high) in comparators {
        let (head, tail) = tile.split_at_mut(*high);
        for (a, b) in head[*low].iter_mut().zip(&mut tail[0]) {
            // Selections, not `min` and `max`: what those make of -0 and +0 is left open.
            let swap = *b < *a;
            (*a, *b) = if swap { (*b, *a) } else { (*a, *b) };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The zero-one principle: a network that sorts all sequences of zeros and ones sorts all.
    #[test]
    fn every_small_network_sorts() {
        for rows in 0..=12usize {
            for bits in 0..1u32 << rows {
                let lane = |row: usize| [f32::from(u8::from(bits >> row & 1 == 1)); LANES];
                let mut tile: Tile = (0..rows).map(lane).collect();
                sort(&mut tile, &network(rows));
                assert!(tile.is_sorted_by(|a, b| a[0] <= b[0]), "{rows} {bits:b}");
            }
        }
    }

    proptest! {
        #[test]
        fn sorts_as_the_library_does(values in prop::collection::vec(-1e30f32..1e30, 0..70)) {
            let mut tile: Tile = values.iter().map(|v| [*v; LANES]).collect();
            sort(&mut tile, &network(values.len()));
            let mut expected = values;
            expected.sort_by(f32::total_cmp);
            let got: Vec<f32> = tile.iter().map(|row| row[LANES - 1]).collect();
            prop_assert_eq!(got, expected);
        }
    }
}

//! Sorting networks: the same comparisons whatever the data, so that many columns are sorted at
//! once.
//!
//! Runs of up to [`RUN_ROWS`] rows are sorted in registers, by the network of 60 comparators that
//! M. W. Green found for sixteen (Knuth, volume 3, section 5.3.4). Runs are then merged by
//! Batcher's odd-even merge, for any two lengths: comparators in a list, without those that reach
//! no rank that is asked for.

use super::lanes::Lanes;

/// Rows that are sorted in registers.
pub(super) const RUN_ROWS: usize = 16;

/// Sorts the first `N` ≤ 16 of the rows. The network for fewer than sixteen is that for sixteen
/// without the comparators that touch others: those would have held +∞ and stayed in place.
#[inline(always)]
pub(super) fn sort_run<const N: usize, L: Lanes>(l: L, v: &mut [L::Vector; RUN_ROWS]) {
    macro_rules! comparators {
        ($($a:literal $b:literal),* $(,)?) => {
            $(if $b < N {
                (v[$a], v[$b]) = l.sort(v[$a], v[$b]);
            })*
        };
    }
    comparators!(
        0 1, 2 3, 4 5, 6 7, 8 9, 10 11, 12 13, 14 15,
        0 2, 1 3, 4 6, 5 7, 8 10, 9 11, 12 14, 13 15,
        0 4, 1 5, 2 6, 3 7, 8 12, 9 13, 10 14, 11 15,
        0 8, 1 9, 2 10, 3 11, 4 12, 5 13, 6 14, 7 15,
        5 10, 6 9, 3 12, 13 14, 4 8, 7 11, 1 2,
        1 4, 7 13, 2 8, 11 14, 5 6, 9 10,
        2 4, 11 13, 3 8, 7 12,
        6 8, 10 12, 3 5, 7 9,
        3 4, 5 6, 7 8, 9 10, 11 12,
        6 7, 8 9,
    );
}

/// Two rows to be put in order, the lower values into `low`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Comparator {
    pub(super) low: usize,
    pub(super) high: usize,
}

/// Merges sorted lists of rows into one; returns them in their order.
pub(super) fn merge(a: &[usize], b: &[usize], comparators: &mut Vec<Comparator>) -> Vec<usize> {
    if a.is_empty() || b.is_empty() {
        return [a, b].concat();
    }
    if let ([low], [high]) = (a, b) {
        let (low, high) = (*low, *high);
        comparators.push(Comparator { low, high });
        return vec![low, high];
    }
    let every_other = |rows: &[usize], from| rows.iter().skip(from).step_by(2).copied().collect();
    let part = |from| -> (Vec<usize>, Vec<usize>) { (every_other(a, from), every_other(b, from)) };
    let ((a, b), (c, d)) = (part(0), part(1));
    let even = merge(&a, &b, comparators);
    let odd = merge(&c, &d, comparators);
    // The odd ones lag behind by none to two: each belongs before or after the next even one.
    let mut sorted = vec![even[0]];
    let mut even = even[1..].iter();
    for odd in odd {
        sorted.push(odd);
        if let Some(even) = even.next() {
            let (low, high) = (odd, *even);
            comparators.push(Comparator { low, high });
            sorted.push(high);
        }
    }
    sorted.extend(even);
    sorted
}

/// Leaves out what no row in `needed` depends on.
pub(super) fn prune(comparators: &mut Vec<Comparator>, needed: &[usize], rows: usize) {
    let mut is_needed = vec![false; rows];
    for row in needed {
        is_needed[*row] = true;
    }
    let mut kept: Vec<Comparator> = Vec::new();
    for comparator in comparators.iter().rev() {
        let Comparator { low, high } = *comparator;
        if is_needed[low] || is_needed[high] {
            (is_needed[low], is_needed[high]) = (true, true);
            kept.push(*comparator);
        }
    }
    kept.reverse();
    *comparators = kept;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(values: &mut [u8], comparators: &[Comparator]) {
        for Comparator { low, high } in comparators {
            if values[*high] < values[*low] {
                values.swap(*low, *high);
            }
        }
    }

    /// The zero-one principle: what merges all runs of zeros and ones merges all runs.
    #[test]
    fn runs_of_any_two_lengths_are_merged() {
        for (m, n) in (0..24).flat_map(|m| (0..24).map(move |n| (m, n))) {
            let (a, b): (Vec<_>, Vec<_>) = ((0..m).collect(), (m..m + n).collect());
            let mut comparators = Vec::new();
            let sorted = merge(&a, &b, &mut comparators);
            for (i, j) in (0..=m).flat_map(|i| (0..=n).map(move |j| (i, j))) {
                let value = |row| u8::from(if row < m { row >= i } else { row - m >= j });
                let mut values: Vec<u8> = (0..m + n).map(value).collect();
                run(&mut values, &comparators);
                assert!(
                    sorted.is_sorted_by_key(|row| values[*row]),
                    "{m} {n} {i} {j}"
                );
            }
        }
    }

    #[test]
    fn merging_takes_as_many_comparators_as_batcher_says() {
        let mut comparators = Vec::new();
        let sorted = merge(
            &(0..16).collect::<Vec<_>>(),
            &(16..32).collect::<Vec<_>>(),
            &mut comparators,
        );
        assert_eq!(comparators.len(), 65);
        // The lowest of all takes one, and each rank no more than a path of comparators to it.
        let mut lowest = comparators.clone();
        prune(&mut lowest, &sorted[..1], 32);
        assert_eq!(lowest, [Comparator { low: 0, high: 16 }]);
        let mut values: Vec<u8> = (0..16)
            .map(|i| 2 * i)
            .chain((0..16).map(|i| 3 * i))
            .collect();
        let mut all = values.clone();
        all.sort_unstable();
        prune(&mut comparators, &sorted[12..20], 32);
        assert!(comparators.len() < 65);
        run(&mut values, &comparators);
        let kept: Vec<u8> = sorted[12..20].iter().map(|row| values[*row]).collect();
        assert_eq!(kept, all[12..20]);
    }
}

//! Groups of updates that are near to one another, by hierarchical clustering.

use super::{Cohort, Geometry};

/// 1 − cosine of every pair, 0 to 2.
pub(super) fn cosine_distance(geometry: &Geometry) -> impl Fn(usize, usize) -> f64 + '_ {
    |i, j| 1.0 - geometry.cosine(i, j)
}

/// Single linkage: joins the nearest first, until more than half of all are joined; these. Ascending.
/// O(N² log N).
pub(super) fn first_majority(count: usize, distance: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    let pairs = (0..count).flat_map(|i| (0..i).map(move |j| (i, j)));
    let mut pairs: Vec<(f64, usize, usize)> = pairs.map(|(i, j)| (distance(i, j), i, j)).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut group: Vec<usize> = (0..count).collect();
    // Pairs that are equally far apart are joined at once: no order decides between them.
    for equal in pairs.chunk_by(|a, b| a.0 == b.0) {
        for (_, i, j) in equal {
            let (from, to) = (group[*i], group[*j]);
            group
                .iter_mut()
                .filter(|g| **g == from)
                .for_each(|g| *g = to);
        }
        let majority = (0..count).find(|g| members(&group, *g).len() > count / 2);
        if let Some(majority) = majority {
            return members(&group, majority);
        }
    }
    (0..count).collect()
}

/// Average linkage to two groups, of which the larger one; of two of one size the one with the
/// lowest address. Ascending. O(N³).
pub(super) fn larger_of_two(
    cohort: &Cohort<'_>,
    distance: impl Fn(usize, usize) -> f64,
) -> Vec<usize> {
    let mut groups: Vec<Vec<usize>> = (0..cohort.count()).map(|index| vec![index]).collect();
    // Sums of the distances between members of two groups.
    let row = |i: usize| (0..cohort.count()).map(|j| distance(i, j)).collect();
    let mut sums: Vec<Vec<f64>> = (0..cohort.count()).map(row).collect();
    while groups.len() > 2 {
        let (a, b) = nearest(&groups, &sums);
        // The later one goes first: the place of the other stays.
        let (moved, of_moved) = (groups.swap_remove(a), sums.swap_remove(a));
        for row in &mut sums {
            let of_pair = row.swap_remove(a);
            row[b] += of_pair;
        }
        let last = groups.len();
        for (index, sum) in sums[b].iter_mut().enumerate() {
            // What was last has taken the place of the group that moved.
            let before = if index == a { last } else { index };
            if index != b {
                *sum += of_moved[before];
            }
        }
        groups[b].extend(moved);
    }
    let lowest = |group: &[usize]| group.iter().map(|index| cohort.trainers[*index]).min();
    let largest = groups.into_iter().max_by(|a, b| {
        let size = a.len().cmp(&b.len());
        size.then_with(|| lowest(b).cmp(&lowest(a)))
    });
    let mut largest = largest.unwrap_or_default();
    largest.sort_unstable();
    largest
}

/// The two groups with the least mean distance, the later one first.
fn nearest(groups: &[Vec<usize>], sums: &[Vec<f64>]) -> (usize, usize) {
    let mean = |(i, j): (usize, usize)| sums[i][j] / (groups[i].len() * groups[j].len()) as f64;
    let pairs = (0..groups.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
    let nearest = pairs.min_by(|a, b| mean(*a).total_cmp(&mean(*b)));
    nearest.unwrap_or_default()
}

fn members(group: &[usize], of: usize) -> Vec<usize> {
    (0..group.len())
        .filter(|index| group[*index] == of)
        .collect()
}

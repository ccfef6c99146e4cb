//! Statistics of order, value by value.

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
    /// The mean of the `keep` that are nearest to the median; 1 ≤ `keep` ≤ N.
    MeanAroundMedian {
        /// Values that are averaged.
        keep: usize,
    },
}

/// Reduces every column of `rows` to one value. Values are finite; the order of the rows is of no
/// consequence. Sums are taken in f64, in the order of the sorted values.
///
/// # Shapes
/// `rows`: N × C, N ≥ 1; `out`: C.
pub fn select(rows: &[&[f32]], selection: Selection, out: &mut [f32]) {
    let mut column = vec![0.0f32; rows.len()];
    for (index, out) in out.iter_mut().enumerate() {
        for (value, row) in column.iter_mut().zip(rows) {
            *value = row[index];
        }
        column.sort_by(f32::total_cmp);
        *out = reduce(&column, selection);
    }
}

/// Of a sorted column.
fn reduce(sorted: &[f32], selection: Selection) -> f32 {
    let count = sorted.len();
    let mean = |values: &[f32]| {
        let sum: f64 = values.iter().map(|v| f64::from(*v)).sum();
        (sum / values.len() as f64) as f32
    };
    let middle = &sorted[(count - 1) / 2..=count / 2];
    match selection {
        Selection::Median => mean(middle),
        Selection::TrimmedMean { trim } => mean(&sorted[trim..count - trim]),
        Selection::MeanAroundMedian { keep } => {
            // The nearest ones are neighbours in the order: the window whose farther end is nearest.
            let median = f64::from(mean(middle));
            let reach = |first: usize| {
                let (low, high) = (
                    f64::from(sorted[first]),
                    f64::from(sorted[first + keep - 1]),
                );
                (median - low).max(high - median)
            };
            let first = (0..=count - keep).min_by(|a, b| reach(*a).total_cmp(&reach(*b)));
            let first = first.unwrap_or(0);
            mean(&sorted[first..first + keep])
        }
    }
}

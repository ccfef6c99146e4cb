//! Weighted sums of updates.

/// out[j] = Σᵢ shares[i] · rows[i][j], summed in f64 in the order of the rows, rounded once. The
/// same bits on every machine: no fused operations.
///
/// # Shapes
/// `rows`: N × C; `shares`: N; `out`: C. O(N C).
pub fn weighted_sum(rows: &[&[f32]], shares: &[f64], out: &mut [f32]) {
    for (index, out) in out.iter_mut().enumerate() {
        let terms = rows.iter().zip(shares);
        *out = terms
            .map(|(row, share)| share * f64::from(row[index]))
            .sum::<f64>() as f32;
    }
}

//! All inner products of the updates, in one pass over them.

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

    /// Adds one chunk of every update. O(N² C) / 2.
    pub fn add(&mut self, rows: &[&[f32]]) {
        for i in 0..self.count {
            for j in 0..=i {
                let terms = rows[i].iter().zip(rows[j]);
                let sum: f64 = terms.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                self.sums[i * (i + 1) / 2 + j] += sum;
            }
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
        let (i, j) = (i.max(j), i.min(j));
        self.sums[i * (i + 1) / 2 + j]
    }

    /// |xᵢ − xⱼ|², at least 0.
    #[must_use]
    pub fn distance_squared(&self, i: usize, j: usize) -> f64 {
        (self.product(i, i) + self.product(j, j) - 2.0 * self.product(i, j)).max(0.0)
    }
}

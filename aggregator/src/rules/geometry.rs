//! The span of the deltas: lengths, distances and angles of their linear combinations, from their
//! inner products alone.
//!
//! A point of the span is its coefficients: x = Σᵢ sᵢ xᵢ. Then ⟨x, xⱼ⟩ = (G s)ⱼ and |x|² = sᵀ G s.

use crate::kernels::Gram;

/// All inner products of N vectors.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Geometry {
    count: usize,
    /// N × N, symmetric.
    products: Vec<f64>,
}

impl Geometry {
    /// Of vectors that are `scales` times those that `gram` was added up of.
    #[must_use]
    pub fn of(gram: &Gram, scales: &[f64]) -> Self {
        Self::from_fn(gram.count(), |i, j| {
            scales[i] * scales[j] * gram.product(i, j)
        })
    }

    /// With these products; `product(i, j)` is asked for i ≥ j.
    #[must_use]
    pub fn from_fn(count: usize, product: impl Fn(usize, usize) -> f64) -> Self {
        let mut products = vec![0.0; count * count];
        for i in 0..count {
            for j in 0..=i {
                let product = product(i, j);
                products[i * count + j] = product;
                products[j * count + i] = product;
            }
        }
        Self { count, products }
    }

    /// N.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// ⟨xᵢ, xⱼ⟩.
    #[must_use]
    pub fn product(&self, i: usize, j: usize) -> f64 {
        self.products[i * self.count + j]
    }

    /// |xᵢ|.
    #[must_use]
    pub fn norm(&self, i: usize) -> f64 {
        self.product(i, i).max(0.0).sqrt()
    }

    /// |xᵢ| of every i.
    #[must_use]
    pub fn norms(&self) -> Vec<f64> {
        (0..self.count).map(|i| self.norm(i)).collect()
    }

    /// |xᵢ − xⱼ|². Errors of the inner products, of some 10⁻⁷ of the larger square, do not cancel.
    #[must_use]
    pub fn distance_squared(&self, i: usize, j: usize) -> f64 {
        let squares = self.product(i, i) + self.product(j, j);
        (squares - 2.0 * self.product(i, j)).max(0.0)
    }

    /// The cosine of the angle between two vectors, -1 to 1; 0 if one of them is zero.
    #[must_use]
    pub fn cosine(&self, i: usize, j: usize) -> f64 {
        let lengths = self.norm(i) * self.norm(j);
        match lengths > 0.0 {
            true => (self.product(i, j) / lengths).clamp(-1.0, 1.0),
            false => 0.0,
        }
    }

    /// |xⱼ − Σᵢ sᵢ xᵢ| of every j. O(N²).
    #[must_use]
    pub fn distances_from(&self, coefficients: &[f64]) -> Vec<f64> {
        let projections: Vec<f64> = self.products_with(coefficients);
        let terms = projections.iter().zip(coefficients);
        let square: f64 = terms.map(|(product, s)| product * s).sum();
        let distance = |(j, product): (usize, &f64)| {
            let squared = square + self.product(j, j) - 2.0 * product;
            squared.max(0.0).sqrt()
        };
        projections.iter().enumerate().map(distance).collect()
    }

    /// ⟨Σᵢ sᵢ xᵢ, xⱼ⟩ of every j. O(N²).
    #[must_use]
    pub fn products_with(&self, coefficients: &[f64]) -> Vec<f64> {
        let product = |row: &[f64]| row.iter().zip(coefficients).map(|(g, s)| g * s).sum();
        // An empty span has no rows; a row of no length is no chunk size.
        self.products
            .chunks(self.count.max(1))
            .map(product)
            .collect()
    }

    /// Of the vectors less their mean.
    #[must_use]
    pub fn centered(&self) -> Self {
        let count = self.count as f64;
        let means = self.products_with(&vec![1.0 / count; self.count]);
        let mean_squared = means.iter().sum::<f64>() / count;
        Self::from_fn(self.count, |i, j| {
            self.product(i, j) - means[i] - means[j] + mean_squared
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::normal;

    const VALUES: usize = 50;

    fn vectors() -> Vec<Vec<f32>> {
        (0..4).map(|seed| normal(seed, VALUES)).collect()
    }

    fn geometry(rows: &[Vec<f32>]) -> Geometry {
        let mut gram = Gram::new(rows.len());
        let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        gram.add(&slices);
        Geometry::of(&gram, &vec![1.0; rows.len()])
    }

    fn length(values: impl Iterator<Item = f64>) -> f64 {
        values.map(|v| v * v).sum::<f64>().sqrt()
    }

    #[test]
    fn points_of_the_span_are_as_far_apart_as_their_coordinates_say() {
        let rows = vectors();
        let coefficients = [0.5, 0.25, 0.0, 2.0];
        let point = |index: usize| -> f64 {
            let terms = rows.iter().zip(coefficients);
            terms.map(|(row, s)| s * f64::from(row[index])).sum()
        };
        let geometry = geometry(&rows);
        for (j, distance) in geometry.distances_from(&coefficients).iter().enumerate() {
            let direct = length((0..VALUES).map(|v| f64::from(rows[j][v]) - point(v)));
            assert!((distance - direct).abs() < 1e-6 * direct, "{j}");
            let between = length((0..VALUES).map(|v| f64::from(rows[j][v] - rows[0][v])));
            assert!((geometry.distance_squared(j, 0).sqrt() - between).abs() < 1e-5);
        }
        assert!((geometry.cosine(1, 1) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn scaled_and_centered_as_their_vectors_would_be() {
        let mut rows = vectors();
        let mut gram = Gram::new(4);
        let slices: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        gram.add(&slices);
        let scaled = Geometry::of(&gram, &[2.0, 1.0, 1.0, 0.0]);
        assert_eq!(scaled.product(0, 1), 2.0 * gram.product(0, 1));
        assert_eq!((scaled.norm(3), scaled.cosine(3, 0)), (0.0, 0.0));
        let centered = geometry(&rows).centered();
        for index in 0..VALUES {
            let mean = rows.iter().map(|row| row[index]).sum::<f32>() / 4.0;
            rows.iter_mut().for_each(|row| row[index] -= mean);
        }
        let expected = geometry(&rows);
        for i in 0..4 {
            for j in 0..4 {
                assert!((centered.product(i, j) - expected.product(i, j)).abs() < 1e-4);
            }
        }
    }
}

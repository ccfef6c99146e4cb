//! Where candidates go: their cosines with each other and with the reference step.

use convoke_models::Parameters;
use convoke_protocol::scores::Score;

/// Cosines of the candidates with each other and with the reference.
pub(super) struct Directions {
    /// With the reference.
    reference: Vec<f64>,
    /// Sums of squared cosines with the other candidates.
    others: Vec<f64>,
    /// Number of parameters.
    dimension: f64,
}

impl Directions {
    pub(super) fn compare(deltas: &[Option<Parameters>], reference: &Parameters) -> Self {
        let values = |delta: &Option<Parameters>| delta.as_ref().map(|d| d.values().to_vec());
        let deltas: Vec<Vec<f32>> = deltas
            .iter()
            .map(|delta| values(delta).unwrap_or_default())
            .collect();
        let squared = |i: usize, j: usize| cosine(&deltas[i], &deltas[j]).powi(2);
        let mut others = vec![0.0; deltas.len()];
        for i in 0..deltas.len() {
            for j in i + 1..deltas.len() {
                let squared = squared(i, j);
                others[i] += squared;
                others[j] += squared;
            }
        }
        let reference_cosines = deltas
            .iter()
            .map(|delta| cosine(delta, reference.values()))
            .collect();
        Self {
            reference: reference_cosines,
            others,
            dimension: reference.len() as f64,
        }
    }

    /// The score of candidate `index` with a held-out gain in nats, its value being its cosine.
    /// Casts saturate.
    pub(super) fn score(&self, index: usize, gain: f64) -> Score {
        let cosine = self.reference[index];
        let related = self.others[index] + cosine.powi(2);
        let relatedness = self.dimension * related / self.others.len() as f64;
        let cosine_ppm = (cosine * 1e6) as i32;
        Score {
            gain_micros: (gain * 1e6) as i64,
            cosine_ppm,
            relatedness_milli: (relatedness * 1e3) as u32,
            value_nanos: 1_000 * i64::from(cosine_ppm),
        }
    }
}

/// Cosine of two vectors, in -1..=1; 0 if either is zero.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    let norms = (aa * bb).sqrt();
    if norms > 0.0 {
        (ab / norms).clamp(-1.0, 1.0)
    } else {
        0.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_models::TensorSpec;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    fn parameters(values: &[f32]) -> Parameters {
        let layout = vec![TensorSpec {
            name: "w".into(),
            shape: vec![values.len()],
        }];
        Parameters::new(layout, values.to_vec()).unwrap()
    }

    #[test]
    fn relatedness_is_one_for_noise_and_more_for_what_agrees() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        let mut noise = || {
            (0..4_000)
                .map(|_| rng.random_range(-1.0f32..1.0))
                .collect::<Vec<_>>()
        };
        let common = noise();
        let near = |noise: Vec<f32>| {
            let mixed: Vec<_> = noise
                .iter()
                .zip(&common)
                .map(|(n, c)| n + 0.5 * c)
                .collect();
            Some(parameters(&mixed))
        };
        let deltas = [
            near(noise()),
            near(noise()),
            near(noise()),
            Some(parameters(&noise())),
        ];
        let directions = Directions::compare(&deltas, &parameters(&common));
        let scores: Vec<_> = (0..4).map(|index| directions.score(index, 0.0)).collect();
        assert!(
            scores[..3]
                .iter()
                .all(|s| s.relatedness_milli > 100_000 && s.cosine_ppm > 300_000)
        );
        assert!(
            scores[3].relatedness_milli < 4_000,
            "{}",
            scores[3].relatedness_milli
        );
    }

    #[test]
    fn the_cosine_is_that_of_the_textbook_and_zero_for_nothing() {
        assert!((cosine(&[1.0, 0.0], &[2.0, 0.0]) - 1.0).abs() < 1e-12);
        assert!((cosine(&[1.0, 0.0], &[-3.0, 0.0]) + 1.0).abs() < 1e-12);
        assert!(cosine(&[1.0, 0.0], &[0.0, 5.0]).abs() < 1e-12);
        assert!((cosine(&[0.0; 3], &[1.0; 3])).abs() < 1e-12);
    }
}

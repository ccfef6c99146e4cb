//! The model: least squares. Small, convex, and with real gradients, so that deltas agree,
//! held-out losses fall, and adversaries do harm.

use convoke_protocol::ids::BlobHash;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, StandardNormal};

/// Parameters of the model.
pub(super) const DIMENSIONS: usize = 32;

const EXAMPLES: usize = 64;
const STEPS: usize = 5;
const CLIENT_LR: f64 = 0.05;
const LABEL_NOISE: f64 = 0.1;

/// One node's own examples of the one linear truth.
#[derive(Debug, Clone)]
pub(super) struct Examples {
    rows: Vec<([f64; DIMENSIONS], f64)>,
}

impl Examples {
    /// Nodes with other numbers have other examples.
    pub(super) fn of_node(seed: u64, node: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut normal = |stream: Option<u64>| -> f64 {
            if let Some(stream) = stream {
                rng.set_stream(stream);
            }
            StandardNormal.sample(&mut rng)
        };
        normal(Some(0));
        let truth: Vec<f64> = (0..DIMENSIONS).map(|_| normal(None)).collect();
        normal(Some(node + 1));
        let rows = (0..EXAMPLES).map(|_| {
            let row: [f64; DIMENSIONS] = std::array::from_fn(|_| normal(None));
            let label = row.iter().zip(&truth).map(|(x, w)| x * w).sum::<f64>();
            (row, label + LABEL_NOISE * normal(None))
        });
        let rows = rows.collect();
        Self { rows }
    }

    /// Mean squared error.
    pub(super) fn loss(&self, model: &[f32]) -> f64 {
        let errors = self.rows.iter().map(|row| error(row, model).powi(2));
        errors.sum::<f64>() / self.rows.len() as f64
    }

    /// Some steps of descent from `base`: local minus global parameters.
    pub(super) fn train(&self, base: &[f32]) -> Vec<f32> {
        let mut local = base.to_vec();
        for _ in 0..STEPS {
            let errors: Vec<f64> = self.rows.iter().map(|row| error(row, &local)).collect();
            for (index, parameter) in local.iter_mut().enumerate() {
                let slope: f64 = self
                    .rows
                    .iter()
                    .zip(&errors)
                    .map(|(row, error)| row.0[index] * error)
                    .sum();
                *parameter -= (CLIENT_LR * slope / self.rows.len() as f64) as f32;
            }
        }
        local.iter().zip(base).map(|(l, b)| l - b).collect()
    }

    pub(super) fn count(&self) -> u64 {
        self.rows.len() as u64
    }
}

fn error(row: &([f64; DIMENSIONS], f64), model: &[f32]) -> f64 {
    let predicted: f64 = row
        .0
        .iter()
        .zip(model)
        .map(|(x, w)| x * f64::from(*w))
        .sum();
    predicted - row.1
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

pub(super) fn norm(a: &[f32]) -> f64 {
    dot(a, a).sqrt()
}

pub(super) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    dot(a, b) / (norm(a) * norm(b)).max(f64::MIN_POSITIVE)
}

/// `model + factor · delta`.
pub(super) fn plus(model: &[f32], factor: f64, delta: &[f32]) -> Vec<f32> {
    let step = |(m, d): (&f32, &f32)| (f64::from(*m) + factor * f64::from(*d)) as f32;
    model.iter().zip(delta).map(step).collect()
}

/// The values' name as a blob.
pub(super) fn blob(values: &[f32]) -> BlobHash {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    BlobHash::of(&bytes)
}

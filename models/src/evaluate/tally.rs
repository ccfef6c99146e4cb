//! Sums over the predictions of a data set, batch by batch in order.

use super::Evaluation;

/// What was seen of a data set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Sum of the losses, in nats.
    loss: f64,
    /// Predictions that were right.
    correct: usize,
    /// Predictions in all.
    units: usize,
}

impl Tally {
    /// Adds a classifier's logits, `[batch, classes]`, and what was right.
    pub(crate) fn classes(&mut self, logits: &[f32], classes: usize, labels: &[u32]) {
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            self.loss += cross_entropy(row, label as usize);
            self.correct += usize::from(is_largest(row, label as usize));
            self.units += 1;
        }
    }

    /// The means.
    pub(crate) fn evaluation(&self) -> Evaluation {
        let units = self.units.max(1) as f64;
        Evaluation {
            loss: self.loss / units,
            accuracy: self.correct as f64 / units,
            num_examples: self.units,
        }
    }
}

/// log Σ exp(z) - z[label], shifted by the maximum so that nothing overflows.
fn cross_entropy(logits: &[f32], label: usize) -> f64 {
    if logits.iter().any(|logit| !logit.is_finite()) {
        return f64::INFINITY;
    }
    let max = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|&logit| (f64::from(logit) - max).exp())
        .sum();
    max + sum.ln() - f64::from(logits[label])
}

/// Whether `logits[label]` is above all others. A tie is no answer: a model that says the same
/// for every class must not be right about one of them.
fn is_largest(logits: &[f32], label: usize) -> bool {
    logits[label].is_finite()
        && logits
            .iter()
            .enumerate()
            .all(|(class, &logit)| class == label || logit < logits[label])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_is_the_textbook_formula() {
        let logits = [0.5f32, -1.0, 2.0];
        let sum: f64 = logits.iter().map(|&z| f64::from(z).exp()).sum();
        let naive = -(f64::from(logits[1]).exp() / sum).ln();
        assert!((cross_entropy(&logits, 1) - naive).abs() < 1e-12);
        assert!(cross_entropy(&[1e30, -1e30], 0) < 1e-12);
        assert!(cross_entropy(&[1e30, -1e30], 1).is_finite());
    }
}

//! What a method came to, over rounds and validators.

use convoke_protocol::factors::{ChainReveal, agreement_bps_down, medians};
use convoke_protocol::ids::{Address, Amount};
use convoke_valuation::rank_correlation::{kendall, spearman};
use serde::Serialize;

use super::Finding;

/// Sums over rounds and validators.
#[derive(Debug)]
pub(super) struct Tally {
    method: &'static str,
    count: f64,
    values: Vec<f64>,
    spearman: f64,
    kendall: f64,
    evaluations: f64,
    permutations: f64,
    seconds: f64,
    agreement: f64,
}

/// Means over rounds and validators.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    method: &'static str,
    /// Rank correlation with the exact Shapley values, −1 to 1.
    spearman: f64,
    /// The same as Kendall's τ-b.
    kendall: f64,
    /// Coalitions whose held-out loss was evaluated.
    evaluations: f64,
    /// Orders of the updates that were followed.
    permutations: f64,
    seconds: f64,
    /// How well the validators' factors agree with their medians: that part of its pay a validator
    /// gets, 0 to 1.
    agreement: f64,
}

impl Tally {
    pub(super) fn new(method: &'static str) -> Self {
        Self {
            method,
            count: 0.0,
            values: Vec::new(),
            spearman: 0.0,
            kendall: 0.0,
            evaluations: 0.0,
            permutations: 0.0,
            seconds: 0.0,
            agreement: 0.0,
        }
    }

    /// Adds what the method and the exact one found in a round, validator by validator.
    pub(super) fn add(&mut self, found: &[&Finding], exact: &[&Finding]) {
        let reveal = |finding: &&Finding| ChainReveal {
            validator: Address::ZERO,
            weight: Amount(1),
            factors: Some(finding.factors.clone()),
        };
        let reveals: Vec<ChainReveal> = found.iter().map(reveal).collect();
        let medians = medians(&reveals, found.first().map_or(0, |f| f.factors.len()));
        for (finding, exact) in found.iter().zip(exact) {
            let (values, truth) = (rounded(&finding.values), rounded(&exact.values));
            self.count += 1.0;
            self.spearman += spearman(&values, &truth);
            self.kendall += kendall(&values, &truth);
            self.evaluations += f64::from(finding.evaluations);
            self.permutations += f64::from(finding.permutations);
            self.seconds += finding.seconds;
            self.agreement += f64::from(agreement_bps_down(&finding.factors, &medians)) / 1e4;
            self.values.resize(finding.values.len(), 0.0);
            for (sum, value) in self.values.iter_mut().zip(&finding.values) {
                *sum += value;
            }
        }
    }

    /// The mean value of each trainer.
    pub(super) fn mean_values(&self) -> impl Iterator<Item = f64> {
        self.values.iter().map(|sum| sum / self.count)
    }

    pub(super) fn figures(&self) -> Figures {
        let mean = |sum: f64| sum / self.count;
        Figures {
            method: self.method,
            spearman: mean(self.spearman),
            kendall: mean(self.kendall),
            evaluations: mean(self.evaluations),
            permutations: mean(self.permutations),
            seconds: mean(self.seconds),
            agreement: mean(self.agreement),
        }
    }
}

impl Figures {
    /// The cells of a table.
    pub(super) fn row(&self) -> [String; 7] {
        [
            self.method.to_owned(),
            format!("{:.3}", self.spearman),
            format!("{:.3}", self.kendall),
            format!("{:.1}", self.evaluations),
            format!("{:.1}", self.permutations),
            format!("{:.3}", self.seconds),
            format!("{:.3}", self.agreement),
        ]
    }
}

/// Differences below a millionth, of a nat for losses, are rounding and no order.
fn rounded(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| (value * 1e6).round()).collect()
}

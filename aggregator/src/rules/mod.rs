//! Aggregation rules: many deltas become one. One rule a file.
//!
//! Every rule here works value by value, so that it can be applied to chunks of the deltas.

mod coordinate_median;
mod fedavg;
mod sorting;
mod trimmed_mean;

pub use self::coordinate_median::CoordinateMedian;
pub use self::fedavg::FedAvg;
pub use self::trimmed_mean::TrimmedMean;
use crate::error::AggregatorError;

/// Makes one delta of many.
pub trait AggregationRule: Send + Sync {
    /// The name in task files.
    fn name(&self) -> &'static str;

    /// One line on what the rule is for.
    fn summary(&self) -> &'static str;

    /// Aggregates one chunk.
    ///
    /// # Shapes
    /// `rows`: N ≥ 1 deltas × C values, finite, already clipped; `weights`: N, the examples
    /// trained on; `out`: C. The order of the trainers changes the result by rounding at most.
    fn aggregate(&self, rows: &[&[f32]], weights: &[f64], out: &mut [f32]);
}

/// Every rule.
#[must_use]
pub fn all() -> [&'static dyn AggregationRule; 3] {
    [&FedAvg, &CoordinateMedian, &TrimmedMean::DEFAULT]
}

/// The rule of this name.
///
/// # Errors
/// [`AggregatorError::UnknownRule`], which lists the names there are.
pub fn by_name(name: &str) -> Result<&'static dyn AggregationRule, AggregatorError> {
    let rules = all();
    let found = rules.iter().find(|rule| rule.name() == name);
    found.copied().ok_or_else(|| AggregatorError::UnknownRule {
        name: name.to_owned(),
        known: rules.map(AggregationRule::name).join(", "),
    })
}

#[cfg(test)]
mod properties;

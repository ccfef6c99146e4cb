//! Aggregation rules: many deltas become one. One rule a file.
//!
//! A rule never sees a delta. It is told what it asked to know of them ([`Needs`], gathered in one
//! pass), and says what becomes of them ([`Combination`], carried out chunk by chunk in another).
//! That is enough for every rule here: whatever their papers do with distances, clusters, centers
//! and directions happens within the span of the N deltas, and there N × N inner products say all.
//! Deciding costs O(N³) at most, and nothing that grows with the model.
//!
//! Weights: `fedavg` and `norm_clipping` weigh deltas by their (capped) number of examples. Examples
//! are a trainer's claim, so that rules which are to withstand liars count every delta alike.
//!
//! f, the number of attackers that a rule is to withstand, is ⌊`attackers_bps` · N / 10⁴⌋. A rule
//! that needs more updates than there are for this f uses the largest f that it can.

mod bulyan;
mod centered_clipping;
mod clipped_clustering;
mod clipping;
mod clusters;
mod cohort;
mod combination;
mod coordinate_median;
mod dnc;
mod fedavg;
mod flame;
mod fltrust;
mod foolsgold;
mod geometric_median;
mod geometry;
mod krum;
mod multi_krum;
mod norm_clipping;
mod signguard;
mod trimmed_mean;

pub use self::bulyan::Bulyan;
pub use self::centered_clipping::CenteredClipping;
pub use self::clipped_clustering::ClippedClustering;
pub use self::cohort::{Cohort, Evidence, Needs, SignCounts};
pub use self::combination::Combination;
pub use self::coordinate_median::CoordinateMedian;
pub use self::dnc::DivideAndConquer;
pub use self::fedavg::FedAvg;
pub use self::flame::Flame;
pub use self::fltrust::FlTrust;
pub use self::foolsgold::FoolsGold;
pub use self::geometric_median::GeometricMedian;
pub use self::geometry::Geometry;
pub use self::krum::Krum;
pub use self::multi_krum::MultiKrum;
pub use self::norm_clipping::NormClipping;
pub use self::signguard::SignGuard;
pub use self::trimmed_mean::TrimmedMean;
use crate::error::AggregatorError;

/// Makes one delta of many.
pub trait AggregationRule: Send + Sync {
    /// The name in task files.
    fn name(&self) -> &'static str;

    /// One line on what the rule is for.
    fn summary(&self) -> &'static str;

    /// Share of hostile updates that it withstands, in words for a table.
    fn breakdown(&self) -> &'static str;

    /// What it must know of the deltas.
    fn needs(&self) -> Needs;

    /// Whether the result is a weighted sum of the deltas, so that its sketch follows from theirs.
    fn is_linear(&self) -> bool {
        true
    }

    /// What becomes of them. `cohort` has at least one update, and the evidence that is needed; the
    /// order of the updates changes the result by rounding at most.
    fn combine(&self, cohort: &Cohort<'_>) -> Combination;
}

/// Every rule.
#[must_use]
pub fn all() -> [&'static dyn AggregationRule; 15] {
    [
        &FedAvg,
        &CoordinateMedian,
        &TrimmedMean,
        &Krum,
        &MultiKrum,
        &Bulyan,
        &GeometricMedian,
        &CenteredClipping,
        &NormClipping,
        &FoolsGold,
        &DivideAndConquer,
        &SignGuard,
        &ClippedClustering,
        &Flame,
        &FlTrust,
    ]
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
#[cfg(test)]
mod twins;

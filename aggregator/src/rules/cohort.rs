//! What rules go by.

use convoke_protocol::ids::Address;
use convoke_protocol::task::AggregationSpec;

use super::geometry::Geometry;

/// What a rule must know of the deltas. Anything but nothing takes a pass over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Their norms.
    Norms,
    /// Norms, and how many values of each are positive, zero and negative.
    NormsAndSigns,
    /// All inner products.
    Products,
    /// All inner products, of two halves of the values that nobody could foresee.
    HalvedProducts,
    /// What their trainers have sent since the task began, in random projection.
    Histories,
}

impl Needs {
    /// Passes over the deltas, the one that combines them included.
    #[must_use]
    pub fn passes(self) -> u8 {
        match self {
            Self::Nothing => 1,
            _ => 2,
        }
    }
}

/// What is known of the deltas, all of it after clipping. What the rule does not need is empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Euclidean norms; known with the inner products, too.
    pub norms: Vec<f64>,
    /// Values by sign.
    pub signs: Vec<SignCounts>,
    /// Inner products of the deltas.
    pub products: Geometry,
    /// Inner products of the deltas' halves.
    pub halves: [Geometry; 2],
    /// Inner products of the trainers' histories, these deltas included.
    pub histories: Geometry,
}

/// Values of one delta by sign.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SignCounts {
    /// Above zero.
    pub positive: u64,
    /// Below zero.
    pub negative: u64,
    /// All of them.
    pub values: u64,
}

/// The updates of a round as a rule sees them.
#[derive(Debug, Clone, Copy)]
pub struct Cohort<'a> {
    /// Who sent each update; each once.
    pub trainers: &'a [Address],
    /// Examples that each was trained on.
    pub weights: &'a [f64],
    /// The task's settings.
    pub settings: &'a AggregationSpec,
    /// What is known of the deltas.
    pub evidence: &'a Evidence,
}

impl Cohort<'_> {
    /// N, at least 1.
    #[must_use]
    pub fn count(&self) -> usize {
        self.trainers.len()
    }

    /// f: how many of them may be hostile, below N / 2.
    #[must_use]
    pub fn attackers(&self) -> usize {
        self.count() * usize::from(self.settings.attackers_bps) / 10_000
    }

    /// The length that rules which clip do so at: `clip_factor` times the median norm.
    #[must_use]
    pub fn clip_norm(&self) -> f64 {
        self.settings.clip_factor * median(&self.evidence.norms)
    }
}

/// The middle one; of an even number the lower of the two, which is one that somebody has.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len().saturating_sub(1) / 2;
    sorted.get(middle).copied().unwrap_or_default()
}

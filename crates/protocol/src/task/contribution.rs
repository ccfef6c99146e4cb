//! `[contribution]`: what validators measure of each update.

use serde::{Deserialize, Serialize};

use super::TaskFileError;
use super::check::within;

/// `[contribution]`: the method by which validators find the factor that an update is paid by, on
/// top of its proven alignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContributionSpec {
    /// `"direction"`, `"alignment"`, `"gain"`, `"leave_one_out"`, `"tmc_shapley"` or
    /// `"gtg_shapley"`.
    pub method: ScoreMethod,
    /// A validator evaluates at most so many coalitions in a round, 1 to 1,000,000, but never
    /// fewer than updates and one: else some would not be measured at all.
    pub evaluations_max: u32,
}

/// What an update's factor is made of; `docs/contribution.md` compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreMethod {
    /// Its cosine with the validator's own step on held-out data.
    Direction,
    /// Nothing but its agreement with the other updates, which is proven.
    Alignment,
    /// What it alone takes off the held-out loss.
    Gain,
    /// By how much held-out loss is higher with the average of the others.
    LeaveOneOut,
    /// Its Shapley value by truncated Monte-Carlo sampling (Ghorbani and Zou 2019,
    /// arXiv:1904.02868).
    TmcShapley,
    /// Its Shapley value by guided truncation (Liu et al. 2022, arXiv:2109.02053).
    GtgShapley,
}

impl Default for ContributionSpec {
    fn default() -> Self {
        Self {
            method: ScoreMethod::Direction,
            evaluations_max: 1_000,
        }
    }
}

impl ContributionSpec {
    pub(super) fn check(&self) -> Result<(), TaskFileError> {
        within(
            "contribution.evaluations_max",
            self.evaluations_max,
            1..=1_000_000,
            "1 to 1000000",
        )
    }
}

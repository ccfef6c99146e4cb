//! What the modes of rounds come to: staleness, weights, and which settings go together.

use super::check::within;
use super::{AggregationMode, AggregationSpec, ServerOptimizerKind, TaskFileError, TaskSpec};

/// What one example weighs in a buffered task if its update's base is the round's own. Weights are
/// whole numbers, so that everybody finds the same; a power of two keeps them away from ties.
pub const EXAMPLE_WEIGHT: u64 = 1 << 16;

impl AggregationSpec {
    /// Sound updates that end a round at once; nothing where rounds wait for their cohort.
    #[must_use]
    pub fn buffer(&self) -> Option<u32> {
        (self.mode == AggregationMode::Buffered).then_some(self.buffer_size)
    }

    /// Rounds that the base of an update may lie back: 0 unless updates are buffered.
    #[must_use]
    pub fn staleness_limit(&self) -> u32 {
        self.buffer().map_or(0, |_| self.staleness_max)
    }

    /// The weight of an update in its round's average: the examples that it claims, capped. In a
    /// buffered task, whose updates' bases may lie `staleness` rounds back, times
    ///
    /// ```text
    /// max(1, ⌊EXAMPLE_WEIGHT · (1 + staleness)^-staleness_power⌉)
    /// ```
    ///
    /// the polynomial discount of FedBuff (Nguyen et al. 2022, arXiv:2106.06639). At most 10^9 ·
    /// 2^16, which f64 holds exactly.
    #[must_use]
    pub fn weight(&self, num_examples: u64, staleness: u32) -> u64 {
        let examples = num_examples.min(self.num_examples_max);
        if self.buffer().is_none() {
            return examples;
        }
        let discount = (1.0 + f64::from(staleness)).powf(-self.staleness_power);
        // Between 0 and EXAMPLE_WEIGHT, whatever the power.
        let example = (EXAMPLE_WEIGHT as f64 * discount).round() as u64;
        examples * example.max(1)
    }
}

impl TaskSpec {
    /// Settings of different tables that exclude each other.
    pub(super) fn check_modes(&self) -> Result<(), TaskFileError> {
        let aggregation = &self.aggregation;
        if let Some(buffer) = aggregation.buffer() {
            within(
                "aggregation.buffer_size",
                buffer,
                self.cohort.updates_min..=256,
                "at least cohort.updates_min",
            )?;
        }
        let plain = aggregation.server_optimizer == ServerOptimizerKind::Sgd
            && aggregation.server_momentum == 0.0
            && aggregation.mode == AggregationMode::Sync;
        if self.training.control_variates && !plain {
            return Err(TaskFileError::Range {
                field: "training.control_variates",
                got: "true".into(),
                allowed: "false, or mode = \"sync\" and server_optimizer = \"sgd\" with \
                          server_momentum = 0",
            });
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SMALL: &str = "name = \"t\"\n[model]\nkind = \"mlp\"\n";

    fn buffered(more: &str) -> Result<TaskSpec, TaskFileError> {
        TaskSpec::parse(&format!(
            "{SMALL}[aggregation]\nmode = \"buffered\"\n{more}\n"
        ))
    }

    #[test]
    fn examples_weigh_less_the_older_their_base() {
        let spec = buffered("num_examples_max = 100").unwrap().aggregation;
        assert_eq!(spec.weight(7, 0), 7 * EXAMPLE_WEIGHT);
        assert_eq!(spec.weight(7, 3), 7 * EXAMPLE_WEIGHT / 2);
        assert_eq!(spec.weight(1_000, 0), 100 * EXAMPLE_WEIGHT);
        let even = buffered("staleness_power = 0.0").unwrap().aggregation;
        assert_eq!(even.weight(7, 100), 7 * EXAMPLE_WEIGHT);
        let steep = buffered("staleness_power = 4.0").unwrap().aggregation;
        assert_eq!(steep.weight(7, 100), 7, "never nothing");
    }

    #[test]
    fn where_rounds_wait_for_their_cohort_examples_are_the_weight() {
        let spec = TaskSpec::parse(SMALL).unwrap().aggregation;
        assert_eq!((spec.weight(7, 0), spec.weight(20_000, 0)), (7, 10_000));
        assert_eq!((spec.buffer(), spec.staleness_limit()), (None, 0));
        let spec = buffered("").unwrap().aggregation;
        assert_eq!((spec.buffer(), spec.staleness_limit()), (Some(10), 4));
    }

    #[test]
    fn settings_that_exclude_each_other_are_named() {
        let refused = |text: &str| TaskSpec::parse(text).unwrap_err().to_string();
        let few = "[cohort]\ntrainers_min = 9\nupdates_min = 4\n[aggregation]\n\
                   mode = \"buffered\"\nbuffer_size = 3\n";
        let error = refused(&format!("{SMALL}{few}"));
        assert!(error.contains("buffer_size"), "{error}");
        let scaffold = format!("{SMALL}[training]\nmomentum = 0.0\ncontrol_variates = true\n");
        TaskSpec::parse(&scaffold).unwrap();
        for other in [
            "mode = \"buffered\"",
            "server_optimizer = \"adam\"",
            "server_momentum = 0.5",
        ] {
            let error = refused(&format!("{scaffold}[aggregation]\n{other}\n"));
            assert!(error.contains("control_variates"), "{error}");
        }
    }
}

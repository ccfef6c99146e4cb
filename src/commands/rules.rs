//! `convoke rules`: what a task can choose for its aggregation.

use convoke_aggregator::rules;
use convoke_aggregator::server_optimizer;
use serde_json::json;

use crate::output::{self, Format};

/// Prints every aggregation rule and every server optimizer.
pub(crate) fn run(format: Format) -> anyhow::Result<()> {
    let rules = rules::all();
    let optimizers = server_optimizer::all();
    let value = json!({
        "rules": rules.map(|rule| json!({
            "name": rule.name(),
            "summary": rule.summary(),
            "breakdown_point": rule.breakdown(),
            "passes": rule.needs().passes(),
            "linear": rule.is_linear(),
        })),
        "server_optimizers": optimizers.map(|(name, summary)| json!({
            "name": name,
            "summary": summary,
        })),
    });
    format.print(&value, || {
        let mut of_rules = output::table(["rule", "withstands", "passes", "what it does"]);
        for rule in rules {
            of_rules.add_row([
                rule.name(),
                rule.breakdown(),
                &rule.needs().passes().to_string(),
                rule.summary(),
            ]);
        }
        let mut of_optimizers = output::table(["server_optimizer", "what it does"]);
        for (name, summary) in optimizers {
            of_optimizers.add_row([name, summary]);
        }
        format!("{of_rules}\n\n{of_optimizers}")
    })
}

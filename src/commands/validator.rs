//! `convoke validator`: scores updates on held-out data, round by round.

use std::sync::Arc;

use anyhow::bail;
use clap::Args;
use convoke_validator::service::{self, Config, Ended, ValidatorEvent};
use serde_json::{Value, json};

use crate::commands::trainer::{NodeArgs, claimed, computing};
use crate::money::Unit;
use crate::output::Format;
use crate::progress::Progress;
use crate::shutdown;

/// Arguments of `validator`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  convoke validator --aggregator example.org:4433 --task 3 --data ./held-out --key mine\n\n\
                  The data must be such that no trainer has seen it (its t10k files are read)."
)]
pub(crate) struct ValidatorArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Commit to scores but never reveal them, for tests of a federation
    #[arg(long, hide = true)]
    withhold: bool,
}

/// Runs the command.
pub(crate) async fn run(args: ValidatorArgs, format: Format) -> anyhow::Result<()> {
    let node = args.node;
    let stop = node.parent.token();
    let token = node.token().await?;
    let config = Config {
        wallet: node.key.wallet()?,
        chain: node.chain.book()?,
        task: node.task,
        aggregator: node.aggregator,
        data: node.data,
        dir: node
            .dir
            .unwrap_or_else(|| format!("convoke-validator-{}", node.task).into()),
        device: node.compute.device,
        precision: node.compute.precision,
        threads: node.compute.threads,
        claim: !node.no_claim,
        withhold: args.withhold,
    };
    let progress = Progress::new(format);
    let listener = Arc::new(move |event: ValidatorEvent| tell(&progress, &token, &event));
    let running = service::run(config, listener, stop.clone());
    // Whatever it is doing, it stops: what it was doing is done again after a restart.
    let ended = tokio::select! {
        ended = running => ended,
        () = stop.cancelled() => Ok(Ended::Stopped),
    };
    shutdown::farewell().await;
    match ended? {
        Ended::Finished | Ended::Stopped => Ok(()),
        Ended::Failed(reason) => bail!("task {} failed: {reason}", node.task),
    }
}

fn tell(progress: &Progress, token: &Unit, event: &ValidatorEvent) {
    match event {
        ValidatorEvent::Scoring { round, done, of } => {
            return progress.step(&format!("round {round}: scoring"), *done as u64, *of as u64);
        }
        ValidatorEvent::Fetching { file, bytes, of } => {
            return progress.step(&format!("fetching {file}"), *bytes, *of);
        }
        ValidatorEvent::Connected { .. } | ValidatorEvent::Disconnected { .. } => {}
        _ => progress.clear(),
    }
    let (value, text) = described(token, event);
    progress.event(&value, &text);
}

fn described(token: &Unit, event: &ValidatorEvent) -> (Value, String) {
    match event {
        ValidatorEvent::Computing { device } => computing(device),
        ValidatorEvent::Fetching { file, bytes, of } => (
            json!({ "event": "fetching", "file": file, "bytes": bytes, "of": of }),
            format!("fetching {file}: {bytes} of {of} bytes"),
        ),
        ValidatorEvent::Connected { aggregator } => (
            json!({ "event": "connected", "aggregator": aggregator }),
            format!("connected to the aggregator {aggregator}"),
        ),
        ValidatorEvent::Disconnected { reason } => (
            json!({ "event": "disconnected", "reason": reason }),
            format!("connection lost, dialling again: {reason}"),
        ),
        ValidatorEvent::Scoring { round, done, of } => (
            json!({ "event": "scoring", "round": round, "done": done, "of": of }),
            format!("round {round}: scored {done} of {of}"),
        ),
        ValidatorEvent::Valued(round, effort) => {
            let (evaluations, permutations) = (effort.evaluations, effort.permutations);
            (
                json!({ "event": "valued", "round": round, "evaluations": evaluations, "permutations": permutations }),
                format!(
                    "round {round}: valued by {evaluations} coalitions, {permutations} orders of the updates"
                ),
            )
        }
        ValidatorEvent::Committed { round } => (
            json!({ "event": "committed", "round": round }),
            format!("round {round}: committed to the scores"),
        ),
        ValidatorEvent::Revealed { round } => (
            json!({ "event": "revealed", "round": round }),
            format!("round {round}: scores revealed"),
        ),
        ValidatorEvent::MachineFailed { round, reason } => (
            json!({ "event": "machine_failed", "round": round, "reason": reason }),
            format!("round {round}: this machine failed: {reason}"),
        ),
        ValidatorEvent::Claimed { amount } => claimed(token, *amount),
        ValidatorEvent::Finished => (json!({ "event": "finished" }), "the task is over".into()),
    }
}

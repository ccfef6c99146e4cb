//! `convoke aggregator`: holds the rounds of one task together.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use convoke_aggregator::service::{self, Config, Ended};
use convoke_client::Chain;
use convoke_node::claims::claim_pay;
use convoke_protocol::ids::{Amount, TaskId};
use serde_json::json;

use crate::cli::{self, ChainArgs};
use crate::keys::KeyArgs;
use crate::output::Format;
use crate::proof_keys::ProofKeyArgs;
use crate::session::Ledger;
use crate::shutdown::ParentArgs;

/// Arguments of `aggregator`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  convoke aggregator --task 3 --initial mnist-initial.safetensors --listen 0.0.0.0:4433 --key aggregator\n\n\
                  Killed at any moment and started again, it goes on with the same round."
)]
pub(crate) struct AggregatorArgs {
    /// The task; its creator named this key's address as the aggregator
    #[arg(long, value_parser = cli::task_id)]
    task: TaskId,
    /// Where nodes connect (UDP); port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:4433")]
    listen: SocketAddr,
    /// The task's initial checkpoint; needed at the first start only
    #[arg(long, value_name = "FILE")]
    initial: Option<PathBuf>,
    /// State and checkpoints [default: convoke-aggregator-TASK]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    proof_keys: ProofKeyArgs,
    /// Leave pay unclaimed at the end
    #[arg(long)]
    no_claim: bool,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    chain: ChainArgs,
    #[command(flatten)]
    parent: ParentArgs,
}

/// Runs the command.
pub(crate) async fn run(args: AggregatorArgs, format: Format) -> anyhow::Result<()> {
    let shutdown = args.parent.token();
    let wallet = args.key.wallet()?;
    let book = args.chain.book()?;
    let dir = args
        .dir
        .unwrap_or_else(|| format!("convoke-aggregator-{}", args.task).into());
    let config = Config {
        wallet: wallet.clone(),
        chain: book.clone(),
        task: args.task,
        listen: args.listen,
        dir,
        initial: args.initial,
        keys: args.proof_keys.folder()?,
    };
    let listening = |address: SocketAddr| {
        let event = json!({ "event": "listening", "address": address.to_string() });
        // Without standard output nobody waits for the line.
        let _ = format.event(&event, &format!("listening on {address}"));
    };
    let task = args.task;
    match service::run(config, listening, shutdown).await? {
        Ended::Stopped => format.event(
            &json!({ "event": "stopped" }),
            "stopped; start again to go on",
        ),
        Ended::Failed(reason) => bail!("task {task} failed: {reason}"),
        Ended::Finished => {
            let ledger = Ledger::of(Chain::connect(&book, Some(&wallet)).await?).await?;
            let chain = &ledger.chain;
            let paid = if args.no_claim {
                Amount::ZERO
            } else {
                claim_pay(chain, task, wallet.address())
                    .await
                    .context("cannot claim the aggregator's pay")?
            };
            let mut event = json!({ "event": "finished" });
            ledger.token.put(&mut event, "claimed", paid);
            let paid = ledger.token.exact(paid);
            format.event(&event, &format!("task {task} is finished; claimed {paid}"))
        }
    }
}

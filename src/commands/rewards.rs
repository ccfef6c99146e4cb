//! `convoke rewards`: pay, seen and claimed.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use convoke_node::claims::claim_pay;
use convoke_protocol::ids::{Address, Amount, RoundId, TaskId};
use serde_json::json;

use crate::cli::{self, ChainArgs};
use crate::failure::{HintExt as _, usage};
use crate::keys::KeyArgs;
use crate::live::observer;
use crate::money;
use crate::output::Format;
use crate::shutdown;

/// Shows, claims.
#[derive(Debug, Subcommand)]
pub(crate) enum RewardsCommand {
    /// Show what an account has claimed and has vesting in a task
    #[command(after_help = "Example:\n  convoke rewards show --task 3 --account 0x…")]
    Show(ShowArgs),
    /// Claim the pay of all settled rounds, or release what has vested
    #[command(
        after_help = "Examples:\n  convoke rewards claim --task 3 --aggregator HOST:PORT --key my.key\n  \
                      convoke rewards claim --task 3 --vested --key my.key"
    )]
    Claim(ClaimArgs),
}

/// Arguments of `rewards show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The task
    #[arg(long, value_parser = cli::task_id)]
    task: TaskId,
    /// Whose pay
    #[arg(long, value_name = "ADDRESS")]
    account: Address,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Arguments of `rewards claim`.
#[derive(Debug, Args)]
pub(crate) struct ClaimArgs {
    /// The task
    #[arg(long, value_parser = cli::task_id)]
    task: TaskId,
    /// Where the aggregator listens: it has the payouts that the proofs are made of
    #[arg(long, value_name = "HOST:PORT")]
    aggregator: Option<String>,
    /// Release what has vested since the end of the task
    #[arg(long)]
    vested: bool,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Runs the command.
pub(crate) async fn run(command: RewardsCommand, format: Format) -> anyhow::Result<()> {
    match command {
        RewardsCommand::Show(args) => show(args, format).await,
        RewardsCommand::Claim(args) => claim(args, format).await,
    }
}

async fn show(args: ShowArgs, format: Format) -> anyhow::Result<()> {
    let chain = args.chain.connect(None).await?;
    let record = chain.task(args.task).await?;
    let mut claimed = Vec::new();
    for round in (1..=record.rounds_settled).map(RoundId) {
        if chain.claimed(args.task, round, args.account).await? {
            claimed.push(round);
        }
    }
    let vesting = chain.vesting_of(args.task, args.account).await?;
    let value = json!({
        "task": args.task,
        "account": args.account,
        "rounds_settled": record.rounds_settled,
        "rounds_claimed": claimed,
        "vesting": vesting,
    });
    format.print(&value, || {
        format!(
            "claimed in {} of {} settled rounds; {} tokens vesting",
            claimed.len(),
            record.rounds_settled,
            money::exact(vesting)
        )
    })
}

async fn claim(args: ClaimArgs, format: Format) -> anyhow::Result<()> {
    if args.aggregator.is_none() && !args.vested {
        return Err(usage(
            "nothing to claim: give --aggregator HOST:PORT, --vested, or both",
        ));
    }
    let wallet = args.key.wallet()?;
    let account = wallet.address();
    let chain = args.chain.connect(Some(&wallet)).await?;
    let mut claimed = Amount::ZERO;
    if let Some(aggregator) = args.aggregator {
        let mut link = observer::dial(&chain, args.task, aggregator).await?;
        claimed = claim_pay(&mut link, &chain, args.task, account)
            .await
            .context("cannot claim")?;
        drop(link);
        shutdown::farewell().await;
    }
    let mut released = Amount::ZERO;
    if args.vested {
        released = chain
            .release_vested(args.task, account)
            .await
            .context("cannot release what vests")
            .hint("`convoke task show` says when the task ended; vesting runs from there")?;
    }
    let value =
        json!({ "task": args.task, "account": account, "claimed": claimed, "released": released });
    format.print(&value, || {
        format!(
            "claimed {} tokens, released {} tokens that had vested",
            money::exact(claimed),
            money::exact(released)
        )
    })
}

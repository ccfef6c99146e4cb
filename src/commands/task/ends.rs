//! Money into a task and out of it: `fund`, `cancel`, `refund`, and `tick`.

use anyhow::{Context as _, anyhow};
use clap::Args;
use convoke_client::{Chain, TaskState};
use convoke_protocol::ids::{Amount, TaskId};
use serde_json::json;

use crate::address::checksummed;
use crate::failure::{HintExt as _, usage};
use crate::money::{self, Decimal};
use crate::output::Format;
use crate::session::{Deed, SenderArgs, Session};
use crate::{cli, times};

/// Arguments of `task fund`.
#[derive(Debug, Args)]
pub(crate) struct FundArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Tokens to add
    #[arg(long, value_name = "TOKENS", value_parser = money::parse)]
    amount: Decimal,
}

/// A task, and who acts on it.
#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// The task
    #[arg(value_parser = cli::task_id)]
    task: TaskId,
    #[command(flatten)]
    sender: SenderArgs,
}

/// Runs `task fund`.
pub(crate) async fn fund(args: FundArgs, format: Format) -> anyhow::Result<()> {
    let task = args.one.task;
    if args.amount.is_zero() {
        return Err(usage("--amount is nothing"));
    }
    let session = args.one.sender.open(format).await?;
    let token = &session.ledger.token;
    let amount = token.amount(&args.amount)?;
    let what = format!("add {} to task {task}", token.exact(amount));
    let done = session.send(Deed::taking(what, amount), |chain| async move {
        chain.fund(task, amount).await
    });
    let Some(round_pool) = done.await? else {
        return Ok(());
    };
    let mut value = json!({ "task": task });
    token.put(&mut value, "added", amount);
    token.put(&mut value, "round_pool", round_pool);
    format.print(&session.ledger.object(value), || {
        format!(
            "{} were added to task {task}; each further round can pay {} now",
            token.exact(amount),
            token.exact(round_pool)
        )
    })
}

/// Runs `task cancel`.
pub(crate) async fn cancel(args: OneArgs, format: Format) -> anyhow::Result<()> {
    let task = args.task;
    let session = args.sender.open(format).await?;
    let what = format!("cancel task {task}");
    let done = session.send(
        Deed::new(what),
        |chain| async move { chain.cancel(task).await },
    );
    match done.await? {
        None => Ok(()),
        Some(refunded) => tell_refund(&session, task, refunded, "was cancelled before").await,
    }
}

/// Runs `task refund`.
pub(crate) async fn run_refund(args: OneArgs, format: Format) -> anyhow::Result<()> {
    let task = args.task;
    let session = args.sender.open(format).await?;
    if !session.ledger.chain.task(task).await?.state.has_ended() && !end(&session, task).await? {
        return Ok(());
    }
    let what = format!("refund what is left of task {task}");
    let done = session.send(
        Deed::new(what),
        |chain| async move { chain.refund(task).await },
    );
    match done.await? {
        None => Ok(()),
        Some(refunded) => tell_refund(&session, task, refunded, "has nothing left to refund").await,
    }
}

/// Ends a task whose time has run out, or whose rounds are all settled. Gives whether to go on.
async fn end(session: &Session, task: TaskId) -> anyhow::Result<bool> {
    let chain = &session.ledger.chain;
    let what = format!("end task {task}, whose time has run out");
    let moved = session.send(
        Deed::new(what),
        |chain| async move { chain.tick(task).await },
    );
    if moved.await?.is_none() {
        return Ok(false);
    }
    let record = chain.task(task).await?;
    if record.state.has_ended() {
        return Ok(true);
    }
    if record.state == TaskState::Closing {
        return Err(anyhow!("task {task} waits for its closing evaluation"))
            .hint("its validators have their time to say how much of what vests is released; try again later");
    }
    let terms = chain.terms(task).await?;
    let ends_at = record.last_progress_at + u64::from(terms.round_timeout_seconds);
    let due = times::due(ends_at, session.ledger.now().await?);
    Err(anyhow!("task {task} is still active")).hint(format!(
        "unless a result comes, anybody can end it from {due} on"
    ))
}

/// Runs `task tick`.
pub(crate) async fn tick(args: OneArgs, format: Format) -> anyhow::Result<()> {
    let task = args.task;
    let session = args.sender.open(format).await?;
    let what = format!("move task {task} on");
    let done = session.send(
        Deed::new(what),
        |chain| async move { chain.tick(task).await },
    );
    let Some(moved) = done.await? else {
        return Ok(());
    };
    let state = session.ledger.chain.task(task).await?.state;
    let value = json!({ "task": task, "moved": moved, "state": state.to_string() });
    format.print(&value, || {
        if moved {
            format!("task {task} was moved on; it is {state}")
        } else {
            format!("nothing of task {task} has timed out; it is {state}")
        }
    })
}

async fn tell_refund(
    session: &Session,
    task: TaskId,
    refunded: Amount,
    nothing: &str,
) -> anyhow::Result<()> {
    let (ledger, token) = (&session.ledger, &session.ledger.token);
    let creator = ledger.chain.task(task).await?.creator;
    let mut value = json!({ "task": task, "creator": creator });
    token.put(&mut value, "refunded", refunded);
    session
        .format
        .print(&ledger.object(value), || match refunded {
            Amount::ZERO => format!("task {task} {nothing}"),
            refunded => format!(
                "{} went back to {}",
                token.exact(refunded),
                checksummed(creator)
            ),
        })
}

/// Sends the creator what no round was allotted.
pub(crate) async fn refund(chain: &Chain, task: TaskId) -> anyhow::Result<Amount> {
    chain
        .refund(task)
        .await
        .context("cannot refund the rest of the escrow")
}

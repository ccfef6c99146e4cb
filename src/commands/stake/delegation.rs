//! Delegation: backing somebody else's stake, and what they keep of its rewards.

use anyhow::anyhow;
use clap::Args;
use convoke_client::{DelegationRecord, Shares};
use convoke_protocol::ids::{Address, Amount, TaskId};
use serde_json::json;

use super::{Wait, nothing_yet};
use crate::address::{self, checksummed};
use crate::failure::HintExt as _;
use crate::money::{self, Decimal};
use crate::output::Format;
use crate::session::{Deed, SenderArgs, Session};
use crate::{cli, times};

/// Basis points in a whole.
const BPS: u16 = 10_000;

/// Arguments of `stake delegate`.
#[derive(Debug, Args)]
pub(crate) struct DelegateArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Tokens to delegate
    #[arg(long, value_name = "TOKENS", value_parser = money::parse)]
    amount: Decimal,
}

/// Arguments of `stake undelegate`.
#[derive(Debug, Args)]
pub(crate) struct UndelegateArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Tokens to request back [default: everything]
    #[arg(long, value_name = "TOKENS", value_parser = money::parse)]
    amount: Option<Decimal>,
}

/// One delegation.
#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// The task
    #[arg(long, value_parser = cli::task_id)]
    task: TaskId,
    /// The trainer or validator
    #[arg(long, value_name = "ADDRESS", value_parser = address::parse)]
    operator: Address,
    #[command(flatten)]
    sender: SenderArgs,
}

/// Arguments of `stake commission`.
#[derive(Debug, Args)]
pub(crate) struct CommissionArgs {
    /// The task
    #[arg(long, value_parser = cli::task_id)]
    task: TaskId,
    /// What you keep, in basis points: 500 is 5 %
    #[arg(long, value_name = "BPS", value_parser = clap::value_parser!(u16).range(0..=i64::from(BPS)))]
    bps: u16,
    #[command(flatten)]
    sender: SenderArgs,
}

/// Runs `stake delegate`.
pub(crate) async fn delegate(args: DelegateArgs, format: Format) -> anyhow::Result<()> {
    let OneArgs {
        task,
        operator,
        sender,
    } = args.one;
    let session = sender.open(format).await?;
    let token = &session.ledger.token;
    let amount = token.amount(&args.amount)?;
    let shown = checksummed(operator);
    let what = format!("delegate {} to {shown} in task {task}", token.exact(amount));
    let done = session.send(Deed::taking(what, amount), |chain| async move {
        chain.delegate(task, operator, amount).await
    });
    let Some(active_at) = done.await? else {
        return Ok(());
    };
    let now = session.ledger.now().await?;
    let mut value = json!({
        "task": task,
        "operator": operator,
        "account": session.account,
        "active_at": active_at,
    });
    token.put(&mut value, "delegated", amount);
    format.print(&session.ledger.object(value), || {
        format!(
            "{} are delegated to {shown}; they join its pool by `convoke stake activate`, from {} on",
            token.exact(amount),
            times::due(active_at, now)
        )
    })
}

/// Runs `stake activate`.
pub(crate) async fn activate(args: OneArgs, format: Format) -> anyhow::Result<()> {
    let (task, operator) = (args.task, args.operator);
    let session = args.sender.open(format).await?;
    let account = session.account;
    let record = delegation(&session, task, operator).await?;
    let now = session.ledger.now().await?;
    let shown = checksummed(operator);
    match record.active_at {
        _ if record.pending == Amount::ZERO => {
            return Err(anyhow!("no delegation to {shown} waits to join its pool"));
        }
        Some(at) if at > now => {
            let due = times::due(at, now);
            return Err(anyhow!(
                "the warm-up is not over: it can join from {due} on"
            ));
        }
        _ => {}
    }
    let token = &session.ledger.token;
    let pending = token.exact(record.pending);
    let what = format!("let {pending} join the pool of {shown} in task {task}");
    let done = session.send(Deed::new(what), |chain| async move {
        chain.activate_delegation(task, operator, account).await
    });
    if done.await?.is_none() {
        return Ok(());
    }
    let mut value = json!({ "task": task, "operator": operator, "account": account });
    token.put(&mut value, "activated", record.pending);
    format.print(&session.ledger.object(value), || {
        format!("{pending} back {shown} now, and earn a share of its pay")
    })
}

/// Runs `stake undelegate`.
pub(crate) async fn undelegate(args: UndelegateArgs, format: Format) -> anyhow::Result<()> {
    let OneArgs {
        task,
        operator,
        sender,
    } = args.one;
    let session = sender.open(format).await?;
    let token = &session.ledger.token;
    let record = delegation(&session, task, operator).await?;
    let now = session.ledger.now().await?;
    let wanted = args
        .amount
        .map(|amount| token.amount(&amount))
        .transpose()?;
    match Step::of(&record, wanted, now) {
        Step::Pay => pay(&session, task, operator, record.unbonding).await,
        Step::Cancel => cancel(&session, task, operator, &record).await,
        Step::Request(amount) => request(&session, task, operator, &record, amount).await,
        Step::Wait(at) => Err(nothing_yet(&session, record.unbonding, at, now)),
        Step::Nothing => {
            let (account, operator) = (session.name(), checksummed(operator));
            Err(anyhow!(
                "{account} has nothing delegated to {operator} in task {task}"
            ))
        }
    }
}

/// What `undelegate` does next.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Pays what has unbonded.
    Pay,
    /// Takes back what has not joined the pool.
    Cancel,
    /// Requests so much back from the pool.
    Request(Amount),
    /// Nothing before then, in Unix seconds.
    Wait(u64),
    /// There is nothing.
    Nothing,
}

impl Step {
    fn of(record: &DelegationRecord, wanted: Option<Amount>, now: u64) -> Self {
        let whole_pending = wanted.is_none_or(|wanted| wanted == record.pending);
        match Wait::of(record.unbonding, record.available_at, now) {
            Wait::Over => Self::Pay,
            _ if record.pending > Amount::ZERO && whole_pending => Self::Cancel,
            Wait::Until(at) if wanted.is_none() => Self::Wait(at),
            _ if record.active > Amount::ZERO => Self::Request(wanted.unwrap_or(record.active)),
            Wait::Until(at) => Self::Wait(at),
            Wait::None => Self::Nothing,
        }
    }
}

async fn pay(
    session: &Session,
    task: TaskId,
    operator: Address,
    unbonded: Amount,
) -> anyhow::Result<()> {
    let unbonded = session.ledger.token.exact(unbonded);
    let shown = checksummed(operator);
    let what = format!("withdraw the {unbonded} that have unbonded from {shown} in task {task}");
    let done = session.send(Deed::new(what), |chain| async move {
        chain.withdraw_delegation(task, operator).await
    });
    tell_back(session, task, operator, done.await?)
}

async fn cancel(
    session: &Session,
    task: TaskId,
    operator: Address,
    record: &DelegationRecord,
) -> anyhow::Result<()> {
    let pending = session.ledger.token.exact(record.pending);
    let shown = checksummed(operator);
    let what = format!("take back {pending} that have not joined the pool of {shown} yet");
    let done = session.send(Deed::new(what), |chain| async move {
        chain.cancel_delegation(task, operator).await
    });
    tell_back(session, task, operator, done.await?)
}

async fn request(
    session: &Session,
    task: TaskId,
    operator: Address,
    record: &DelegationRecord,
    amount: Amount,
) -> anyhow::Result<()> {
    let token = &session.ledger.token;
    if amount > record.active {
        let (asked, active) = (token.exact(amount), token.exact(record.active));
        return Err(anyhow!("{asked} are asked for, {active} are in the pool"))
            .hint("`convoke stake status --operator ADDRESS` shows the delegation");
    }
    let shares = shares_of(record, amount);
    let what = format!(
        "request {} back from {} in task {task}",
        token.exact(amount),
        checksummed(operator)
    );
    let done = session.send(Deed::new(what), |chain| async move {
        chain.undelegate(task, operator, shares).await
    });
    let Some((unbonding, available_at)) = done.await? else {
        return Ok(());
    };
    let now = session.ledger.now().await?;
    let mut value = json!({
        "task": task,
        "operator": operator,
        "account": session.account,
        "available_at": available_at,
    });
    token.put(&mut value, "requested", unbonding);
    session.format.print(&session.ledger.object(value), || {
        let due = times::due(available_at, now);
        let unbonding = token.exact(unbonding);
        format!("{unbonding} are requested back; run this again to be paid, from {due} on")
    })
}

/// Says what came back; nothing of a rehearsal.
fn tell_back(
    session: &Session,
    task: TaskId,
    operator: Address,
    paid: Option<Amount>,
) -> anyhow::Result<()> {
    let Some(paid) = paid else {
        return Ok(());
    };
    let token = &session.ledger.token;
    let mut value = json!({ "task": task, "operator": operator, "account": session.account });
    token.put(&mut value, "withdrawn", paid);
    session.format.print(&session.ledger.object(value), || {
        format!("{} are back at {}", token.exact(paid), session.name())
    })
}

/// Runs `stake commission`.
pub(crate) async fn commission(args: CommissionArgs, format: Format) -> anyhow::Result<()> {
    let (task, bps) = (args.task, args.bps);
    let session = args.sender.open(format).await?;
    let what = format!("set the commission in task {task} to {}", percent(bps));
    let done = session.send(Deed::new(what), |chain| async move {
        chain.set_commission(task, bps).await
    });
    let Some(from) = done.await? else {
        return Ok(());
    };
    let now = session.ledger.now().await?;
    let value =
        json!({ "task": task, "account": session.account, "commission_bps": bps, "from": from });
    format.print(&value, || {
        let rate = percent(bps);
        if from > now {
            format!(
                "the commission rises to {rate} at {}",
                times::due(from, now)
            )
        } else {
            format!("the commission is {rate} now")
        }
    })
}

/// A delegation of the session's account.
async fn delegation(
    session: &Session,
    task: TaskId,
    operator: Address,
) -> anyhow::Result<DelegationRecord> {
    let chain = &session.ledger.chain;
    Ok(chain.delegation(task, operator, session.account).await?)
}

/// The shares that are worth `amount`, rounded down; all of them for all that they are worth.
fn shares_of(record: &DelegationRecord, amount: Amount) -> Shares {
    /// Fine enough for any amount that somebody types.
    const PARTS: u64 = 10u64.pow(18);
    if amount >= record.active {
        return record.shares;
    }
    let part = Amount(amount.0).share_down(u128::from(PARTS), record.active.0);
    let part = u64::try_from(part.0).unwrap_or(PARTS);
    record.shares.share_down(part, PARTS)
}

/// `5 %`, `2.5 %`, `0.25 %`.
pub(crate) fn percent(bps: u16) -> String {
    let (whole, rest) = (bps / 100, bps % 100);
    match rest {
        0 => format!("{whole} %"),
        rest if rest % 10 == 0 => format!("{whole}.{} %", rest / 10),
        rest => format!("{whole}.{rest:02} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(active: u128, unbonding: u128, pending: u128) -> DelegationRecord {
        DelegationRecord {
            shares: Shares::default(),
            active: Amount(active),
            unbonding: Amount(unbonding),
            rewards: Amount::ZERO,
            pending: Amount(pending),
            active_at: None,
            available_at: Some(100),
            locked_by: None,
        }
    }

    #[test]
    fn the_next_step_is_what_can_be_done_now() {
        let step = |record: &DelegationRecord, wanted: Option<u128>, now| {
            Step::of(record, wanted.map(Amount), now)
        };
        assert_eq!(step(&record(9, 5, 3), None, 100), Step::Pay);
        assert_eq!(step(&record(9, 5, 3), None, 99), Step::Cancel);
        assert_eq!(step(&record(9, 0, 3), Some(3), 99), Step::Cancel);
        assert_eq!(
            step(&record(9, 0, 3), Some(4), 99),
            Step::Request(Amount(4))
        );
        assert_eq!(step(&record(9, 5, 0), None, 99), Step::Wait(100));
        assert_eq!(
            step(&record(9, 5, 0), Some(4), 99),
            Step::Request(Amount(4))
        );
        assert_eq!(step(&record(9, 0, 0), None, 99), Step::Request(Amount(9)));
        assert_eq!(step(&record(0, 0, 0), None, 99), Step::Nothing);
    }

    #[test]
    fn rates_are_shown_in_percent() {
        assert_eq!(
            [0, 25, 250, 500, 10_000].map(percent),
            ["0 %", "0.25 %", "2.5 %", "5 %", "100 %"]
        );
    }
}

//! `convoke stake`: what backs a node's word, of its own and of those who trust it.

mod delegation;
mod status;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use convoke_client::{Chain, StakeMinimums};
use convoke_protocol::ids::{Amount, Role, TaskId};
use serde_json::json;

use crate::cli;
use crate::failure::{HintExt as _, usage};
use crate::money::{self, Decimal};
use crate::output::Format;
use crate::session::{Deed, SenderArgs, Session};
use crate::times;

pub(crate) use self::delegation::percent;

/// Deposits, withdraws, delegates, looks.
#[derive(Debug, Subcommand)]
pub(crate) enum StakeCommand {
    /// Stake tokens for a role in a task
    #[command(
        after_help = "Examples:\n  convoke stake deposit --task 3 --role trainer --key mine\n  \
                      convoke stake deposit --task 3 --role trainer --amount 250 --key mine --dry-run"
    )]
    Deposit(DepositArgs),
    /// Take stake back: first a request, then, after the unbonding time, the payment
    #[command(
        after_help = "Example, to be run twice:\n  convoke stake withdraw --task 3 --key mine\n\n\
                      What is requested back stops counting at once, and can still be slashed until it is paid."
    )]
    Withdraw(WithdrawArgs),
    /// Back a trainer or validator with your tokens, for a share of its pay
    #[command(
        after_help = "Example:\n  convoke stake delegate --task 3 --operator 0x… --amount 100 --key mine\n\n\
                      It begins to earn, and to be at risk, when the warm-up is over: see `convoke stake activate`."
    )]
    Delegate(delegation::DelegateArgs),
    /// Let a delegation join its operator's pool, once its warm-up is over; anyone may
    #[command(after_help = "Example:\n  convoke stake activate --task 3 --operator 0x… --key mine")]
    Activate(delegation::OneArgs),
    /// Take a delegation back: first a request, then, after the unbonding time, the payment
    #[command(
        after_help = "Example, to be run twice:\n  convoke stake undelegate --task 3 --operator 0x… --key mine\n\n\
                      What has not joined the pool yet comes back at once."
    )]
    Undelegate(delegation::UndelegateArgs),
    /// Set what you keep of your delegators' rewards
    #[command(
        after_help = "Example, for 5 %:\n  convoke stake commission --task 3 --bps 500 --key mine\n\n\
                      A lower one holds at once, a higher one after the notice period of the deployment."
    )]
    Commission(delegation::CommissionArgs),
    /// Show a stake, what is delegated to it, and a delegation
    #[command(
        after_help = "Examples:\n  convoke stake status --task 3 --account 0x…\n  \
                      convoke stake status --task 3 --account 0x… --operator 0x…"
    )]
    Status(status::StatusArgs),
}

/// A role that stakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StakedRole {
    /// Trains.
    Trainer,
    /// Scores.
    Validator,
    /// Holds rounds together.
    Aggregator,
}

impl From<StakedRole> for Role {
    fn from(role: StakedRole) -> Self {
        match role {
            StakedRole::Trainer => Self::Trainer,
            StakedRole::Validator => Self::Validator,
            StakedRole::Aggregator => Self::Aggregator,
        }
    }
}

/// Arguments of `stake deposit`.
#[derive(Debug, Args)]
pub(crate) struct DepositArgs {
    /// The task
    #[arg(long, value_parser = cli::task_id)]
    task: TaskId,
    /// The role
    #[arg(long, value_enum)]
    role: StakedRole,
    /// Tokens to stake [default: what the task asks for, less what is staked already]
    #[arg(long, value_name = "TOKENS", value_parser = money::parse)]
    amount: Option<Decimal>,
    #[command(flatten)]
    sender: SenderArgs,
}

/// Arguments of `stake withdraw`.
#[derive(Debug, Args)]
pub(crate) struct WithdrawArgs {
    /// The task
    #[arg(long, value_parser = cli::task_id)]
    task: TaskId,
    /// Tokens to request back [default: everything]
    #[arg(long, value_name = "TOKENS", value_parser = money::parse)]
    amount: Option<Decimal>,
    #[command(flatten)]
    sender: SenderArgs,
}

/// Runs the command.
pub(crate) async fn run(command: StakeCommand, format: Format) -> anyhow::Result<()> {
    match command {
        StakeCommand::Deposit(args) => run_deposit(args, format).await,
        StakeCommand::Withdraw(args) => withdraw(args, format).await,
        StakeCommand::Delegate(args) => delegation::delegate(args, format).await,
        StakeCommand::Activate(args) => delegation::activate(args, format).await,
        StakeCommand::Undelegate(args) => delegation::undelegate(args, format).await,
        StakeCommand::Commission(args) => delegation::commission(args, format).await,
        StakeCommand::Status(args) => status::run(args, format).await,
    }
}

async fn run_deposit(args: DepositArgs, format: Format) -> anyhow::Result<()> {
    let session = args.sender.open(format).await?;
    let (chain, token) = (&session.ledger.chain, &session.ledger.token);
    let (task, role, account) = (args.task, Role::from(args.role), session.account);
    let staked = chain.stake(task, account).await?;
    let staked = staked.map_or(Amount::ZERO, |record| record.amount);
    let amount = match &args.amount {
        Some(amount) => token.amount(amount)?,
        None => {
            let least = least_stake(&chain.terms(task).await?.stakes_min, role);
            Amount(least.0.saturating_sub(staked.0))
        }
    };
    if amount == Amount::ZERO {
        return Err(usage(match staked {
            Amount::ZERO => format!("task {task} asks for no stake of a {role}"),
            staked => format!(
                "{} has staked {} already, all that task {task} asks for",
                session.name(),
                token.exact(staked)
            ),
        }))
        .hint("--amount TOKENS stakes all the same");
    }
    let what = format!("stake {} as {role} of task {task}", token.exact(amount));
    let done = session
        .send(Deed::taking(what, amount), |chain| async move {
            chain.deposit_stake(task, role, amount).await
        })
        .await?;
    if done.is_none() {
        return Ok(());
    }
    let sum = Amount(staked.0.saturating_add(amount.0));
    let mut value = json!({ "task": task, "account": account, "role": role });
    token.put(&mut value, "deposited", amount);
    token.put(&mut value, "staked", sum);
    format.print(&session.ledger.object(value), || {
        let sum = token.exact(sum);
        format!(
            "{} has staked {sum} as {role} of task {task}",
            session.name()
        )
    })
}

async fn withdraw(args: WithdrawArgs, format: Format) -> anyhow::Result<()> {
    let session = args.sender.open(format).await?;
    let (ledger, task) = (&session.ledger, args.task);
    let token = &ledger.token;
    let record = ledger
        .chain
        .stake(task, session.account)
        .await?
        .with_context(|| format!("{} has no stake in task {task}", session.name()))?;
    let now = ledger.now().await?;
    let wait = Wait::of(record.unbonding, record.available_at, now);
    let wanted = args
        .amount
        .as_ref()
        .map(|amount| token.amount(amount))
        .transpose()?;
    match (wait, wanted) {
        (Wait::Over, _) => {
            let unbonded = token.exact(record.unbonding);
            let what = format!("withdraw the {unbonded} that have unbonded from task {task}");
            let paid = session.send(Deed::new(what), |chain| async move {
                chain.withdraw_stake(task).await
            });
            match paid.await? {
                Some(paid) => tell_paid(&session, task, paid, record.amount),
                None => Ok(()),
            }
        }
        (Wait::Until(at), None) => Err(nothing_yet(&session, record.unbonding, at, now)),
        _ => {
            request(
                &session,
                task,
                wanted.unwrap_or(record.amount),
                record.amount,
            )
            .await
        }
    }
}

async fn request(
    session: &Session,
    task: TaskId,
    amount: Amount,
    staked: Amount,
) -> anyhow::Result<()> {
    let (ledger, account) = (&session.ledger, session.account);
    let token = &ledger.token;
    if amount > staked {
        let (asked, staked) = (token.exact(amount), token.exact(staked));
        return Err(anyhow!(
            "{asked} are asked for, {} has staked {staked}",
            session.name()
        ));
    }
    let what = format!("request {} back from task {task}", token.exact(amount));
    let asked = session.send(Deed::new(what), |chain| async move {
        chain.request_withdrawal(task, amount).await
    });
    let Some(available_at) = asked.await? else {
        return Ok(());
    };
    let now = ledger.now().await?;
    let mut value = json!({ "task": task, "account": account, "available_at": available_at });
    token.put(&mut value, "requested", amount);
    session.format.print(&ledger.object(value), || {
        let (amount, due) = (token.exact(amount), times::due(available_at, now));
        format!("{amount} are requested back; run this again to be paid, from {due} on")
    })
}

fn tell_paid(session: &Session, task: TaskId, paid: Amount, left: Amount) -> anyhow::Result<()> {
    let token = &session.ledger.token;
    let mut value = json!({ "task": task, "account": session.account });
    token.put(&mut value, "withdrawn", paid);
    token.put(&mut value, "staked", left);
    session.format.print(&session.ledger.object(value), || {
        let mut text = format!("{} are back at {}", token.exact(paid), session.name());
        if left > Amount::ZERO {
            let left = token.exact(left);
            text += &format!("\n{left} are still staked; run this again to request them back");
        }
        text
    })
}

/// How long what was requested back has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Nothing was requested.
    None,
    /// Unix seconds.
    Until(u64),
    /// It can be paid.
    Over,
}

impl Wait {
    fn of(unbonding: Amount, available_at: Option<u64>, now: u64) -> Self {
        match available_at {
            _ if unbonding == Amount::ZERO => Self::None,
            Some(at) if at > now => Self::Until(at),
            _ => Self::Over,
        }
    }
}

/// The answer to who comes back too early.
fn nothing_yet(session: &Session, unbonding: Amount, at: u64, now: u64) -> anyhow::Error {
    let unbonding = session.ledger.token.exact(unbonding);
    let due = times::due(at, now);
    let error = anyhow!("nothing can be paid yet: {unbonding} are unbonding until {due}");
    let hint = "run this again then; --amount requests more, and restarts the wait for all of it";
    crate::failure::hinted(error, hint)
}

/// Stakes `amount` of the connection's wallet.
pub(crate) async fn deposit(
    chain: &Chain,
    task: TaskId,
    role: Role,
    amount: Amount,
) -> anyhow::Result<()> {
    chain
        .deposit_stake(task, role, amount)
        .await
        .with_context(|| format!("cannot stake as {role} of task {task}"))
}

/// What a task asks of a role.
pub(crate) fn least_stake(least: &StakeMinimums, role: Role) -> Amount {
    match role {
        Role::Trainer => least.trainer,
        Role::Validator => least.validator,
        Role::Aggregator => least.aggregator,
        Role::Observer => Amount::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_requested_waits_until_its_time() {
        assert_eq!(Wait::of(Amount::ZERO, Some(9), 5), Wait::None);
        assert_eq!(Wait::of(Amount(1), Some(9), 5), Wait::Until(9));
        assert_eq!(Wait::of(Amount(1), Some(9), 9), Wait::Over);
    }
}

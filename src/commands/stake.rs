//! `convoke stake`: what backs a node's word.

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use convoke_client::{Chain, TaskRecord};
use convoke_protocol::ids::{Address, Amount, Role, TaskId};
use serde_json::json;

use crate::cli::{self, ChainArgs};
use crate::failure::usage;
use crate::keys::KeyArgs;
use crate::money;
use crate::output::Format;

/// Deposits, withdraws, looks.
#[derive(Debug, Subcommand)]
pub(crate) enum StakeCommand {
    /// Stake tokens for a role in a task
    #[command(
        after_help = "Example:\n  convoke stake deposit --task 3 --role trainer --key my.key"
    )]
    Deposit(DepositArgs),
    /// Take stake back, once the task has ended: first a request, then, after the unbonding time, the payment
    #[command(
        after_help = "Example, run it twice:\n  convoke stake withdraw --task 3 --key my.key"
    )]
    Withdraw(WithdrawArgs),
    /// Show a stake
    #[command(after_help = "Example:\n  convoke stake status --task 3 --account 0x…")]
    Status(StatusArgs),
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
    /// Tokens to stake; what the task asks for if not given
    #[arg(long, value_name = "TOKENS", value_parser = money::parse)]
    amount: Option<Amount>,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Arguments of `stake withdraw`.
#[derive(Debug, Args)]
pub(crate) struct WithdrawArgs {
    /// The task
    #[arg(long, value_parser = cli::task_id)]
    task: TaskId,
    /// Tokens to take back; everything if not given
    #[arg(long, value_name = "TOKENS", value_parser = money::parse)]
    amount: Option<Amount>,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Arguments of `stake status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The task
    #[arg(long, value_parser = cli::task_id)]
    task: TaskId,
    /// Whose stake
    #[arg(long, value_name = "ADDRESS")]
    account: Address,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Runs the command.
pub(crate) async fn run(command: StakeCommand, format: Format) -> anyhow::Result<()> {
    match command {
        StakeCommand::Deposit(args) => run_deposit(args, format).await,
        StakeCommand::Withdraw(args) => withdraw(args, format).await,
        StakeCommand::Status(args) => status(args, format).await,
    }
}

async fn run_deposit(args: DepositArgs, format: Format) -> anyhow::Result<()> {
    let wallet = args.key.wallet()?;
    let chain = args.chain.connect(Some(&wallet)).await?;
    let role = Role::from(args.role);
    let amount = match args.amount {
        Some(amount) => amount,
        None => least_stake(&chain.task(args.task).await?, role),
    };
    if amount == Amount::ZERO {
        return Err(usage(format!(
            "task {} asks for no stake of a {role}; give --amount to stake all the same",
            args.task
        )));
    }
    deposit(&chain, args.task, role, amount).await?;
    let account = wallet.address();
    let value = json!({ "task": args.task, "account": account, "role": role, "amount": amount });
    format.print(&value, || {
        format!(
            "{account} has staked {} tokens as {role} of task {}",
            money::exact(amount),
            args.task
        )
    })
}

async fn withdraw(args: WithdrawArgs, format: Format) -> anyhow::Result<()> {
    let wallet = args.key.wallet()?;
    let account = wallet.address();
    let chain = args.chain.connect(Some(&wallet)).await?;
    let record = chain
        .stake_record(args.task, account)
        .await?
        .with_context(|| format!("{account} has no stake in task {}", args.task))?;
    if record.unbonding > Amount::ZERO {
        let paid = chain
            .withdraw_stake(args.task)
            .await
            .context("cannot withdraw the stake")?;
        let value = json!({ "task": args.task, "account": account, "withdrawn": paid });
        return format.print(&value, || {
            format!("{} tokens are back at {account}", money::exact(paid))
        });
    }
    let amount = args.amount.unwrap_or(record.amount);
    let available_at = chain
        .request_withdrawal(args.task, amount)
        .await
        .context("cannot request the stake back")?;
    let value = json!({ "task": args.task, "account": account, "requested": amount, "available_at": available_at });
    format.print(&value, || {
        format!(
            "{} tokens are requested back; run this again after Unix time {available_at} to be paid",
            money::exact(amount)
        )
    })
}

async fn status(args: StatusArgs, format: Format) -> anyhow::Result<()> {
    let chain = args.chain.connect(None).await?;
    let record = chain.stake_record(args.task, args.account).await?;
    let value = json!({
        "task": args.task,
        "account": args.account,
        "role": record.map(|record| record.role),
        "amount": record.map_or(Amount::ZERO, |record| record.amount),
        "unbonding": record.map_or(Amount::ZERO, |record| record.unbonding),
        "available_at": record.and_then(|record| record.available_at),
    });
    format.print(&value, || match record {
        None => format!("{} has no stake in task {}", args.account, args.task),
        Some(record) => {
            let mut text = format!("{} tokens as {}", money::exact(record.amount), record.role);
            if let Some(at) = record.available_at {
                let unbonding = money::exact(record.unbonding);
                text += &format!("\n{unbonding} tokens unbonding until Unix time {at}");
            }
            text
        }
    })
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
        .with_context(|| {
            format!(
                "cannot stake {} tokens as {role} of task {task}",
                money::exact(amount)
            )
        })
}

/// What a task asks of a role.
pub(crate) fn least_stake(task: &TaskRecord, role: Role) -> Amount {
    match role {
        Role::Trainer => task.stakes_min.trainer,
        Role::Validator => task.stakes_min.validator,
        Role::Aggregator => task.stakes_min.aggregator,
        Role::Observer => Amount::ZERO,
    }
}

//! `convoke task`: post a training job and look after it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use convoke_client::{Chain, NewTask, StakeMinimums, TaskRecord, TaskState};
use convoke_models::{ModelConfig, Parameters};
use convoke_protocol::ids::{Address, Amount, BlobHash, TaskId};
use convoke_protocol::task::TaskSpec;
use serde_json::json;

use crate::cli::{self, ChainArgs};
use crate::failure::HintExt as _;
use crate::keys::KeyArgs;
use crate::money;
use crate::output::{self, Format};

/// Posts, lists, shows, refunds.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Post a task and put its reward into escrow
    #[command(
        after_help = "Example:\n  convoke task create task.toml --aggregator 0x… --key creator.key\n\n\
                      The smallest task.toml:\n  name = \"fashion-mnist\"\n  [model]\n  kind = \"cnn\"\n  \
                      [reward]\n  pool = \"1000000000000000000000\""
    )]
    Create(CreateArgs),
    /// List the newest tasks
    List(ListArgs),
    /// Show one task, its money and its file
    #[command(after_help = "Example:\n  convoke task show 3")]
    Show(OneArgs),
    /// Send what no round was allotted back to the creator; ends a timed-out task first
    #[command(after_help = "Example:\n  convoke task refund 3 --key any.key")]
    Refund(RefundArgs),
}

/// Arguments of `task create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The task file (TOML)
    file: PathBuf,
    /// Who will hold the rounds together
    #[arg(long, value_name = "ADDRESS")]
    aggregator: Address,
    /// The checkpoint to start from; drawn with the task's seed if not given
    #[arg(long, value_name = "FILE")]
    initial: Option<PathBuf>,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Arguments of `task list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    chain: ChainArgs,
}

/// Arguments of `task show`.
#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    /// The task
    #[arg(value_parser = cli::task_id)]
    task: TaskId,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Arguments of `task refund`.
#[derive(Debug, Args)]
pub(crate) struct RefundArgs {
    /// The task
    #[arg(value_parser = cli::task_id)]
    task: TaskId,
    #[command(flatten)]
    key: KeyArgs,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Runs the command.
pub(crate) async fn run(command: TaskCommand, format: Format) -> anyhow::Result<()> {
    match command {
        TaskCommand::Create(args) => run_create(args, format).await,
        TaskCommand::List(args) => list(args, format).await,
        TaskCommand::Show(args) => show(args, format).await,
        TaskCommand::Refund(args) => run_refund(args, format).await,
    }
}

async fn run_create(args: CreateArgs, format: Format) -> anyhow::Result<()> {
    let shown = args.file.display();
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("cannot read the task file {shown}"))?;
    let mut spec = TaskSpec::parse(&text).with_context(|| format!("task file {shown}"))?;
    let initial = match args.initial {
        Some(file) => adopt_initial(&mut spec, &file).map(|()| file)?,
        None => draw_initial(&mut spec, Path::new(""))?,
    };
    let wallet = args.key.wallet()?;
    let chain = args.chain.connect(Some(&wallet)).await?;
    let task = create(&chain, &spec, args.aggregator).await?;
    let value = json!({ "task": task, "initial": initial, "initial_hash": spec.initial, "reward": spec.reward.pool });
    format.print(&value, || {
        next_steps(task, &spec, args.aggregator, &initial)
    })
}

/// What was done, and what is to be done now, by whom.
fn next_steps(task: TaskId, spec: &TaskSpec, aggregator: Address, initial: &Path) -> String {
    let stake = |role: &str, key: &str, least: Amount| match least {
        Amount::ZERO => String::new(),
        _ => format!("\n  convoke stake deposit --task {task} --role {role} --key {key}"),
    };
    let mut text = format!(
        "task {task}: {} tokens in escrow, {} rounds\n\nnext, at the aggregator {aggregator}:",
        money::exact(spec.reward.pool),
        spec.rounds
    );
    text += &stake("aggregator", "AGGREGATOR.key", spec.stake.aggregator);
    text += &format!(
        "\n  convoke aggregator --task {task} --initial {} --key AGGREGATOR.key",
        initial.display()
    );
    for (role, least) in [
        ("trainer", spec.stake.trainer),
        ("validator", spec.stake.validator),
    ] {
        text += &format!("\n\nthen, at each {role}:");
        text += &stake(role, "MY.key", least);
        text += &format!(
            "\n  convoke {role} --aggregator HOST:PORT --task {task} --data DIR --key MY.key"
        );
    }
    text
}

async fn list(args: ListArgs, format: Format) -> anyhow::Result<()> {
    let chain = args.chain.connect(None).await?;
    let tasks = chain.tasks().await?;
    let values: Vec<_> = tasks
        .iter()
        .map(|(id, record)| record_json(*id, record))
        .collect();
    format.print(&values, || {
        if tasks.is_empty() {
            return "no tasks yet; post one with `convoke task create`".into();
        }
        let mut table =
            output::table(["task", "state", "rounds", "reward", "creator", "aggregator"]);
        for (id, record) in &tasks {
            table.add_row([
                id.to_string(),
                record.state.to_string(),
                format!("{}/{}", record.rounds_settled, record.rounds),
                money::short(record.reward),
                record.creator.short(),
                record.aggregator.short(),
            ]);
        }
        table.to_string()
    })
}

async fn show(args: OneArgs, format: Format) -> anyhow::Result<()> {
    let chain = args.chain.connect(None).await?;
    let record = chain.task(args.task).await?;
    let file = chain.task_file(args.task).await?;
    let mut value = record_json(args.task, &record);
    value["file"] = json!(file);
    format.print(&value, || {
        let b = &record.balances;
        format!(
            "task        {}\nstate       {}, {} of {} rounds settled\ncreator     {}\naggregator  {}\n\
             escrow      {} tokens = paid {} + refunded {} + vesting {} + unclaimed {}\n\n{file}",
            args.task,
            record.state,
            record.rounds_settled,
            record.rounds,
            record.creator,
            record.aggregator,
            money::exact(b.reward),
            money::exact(b.paid),
            money::exact(b.refunded),
            money::exact(b.vesting),
            money::exact(b.unclaimed),
        )
    })
}

async fn run_refund(args: RefundArgs, format: Format) -> anyhow::Result<()> {
    let wallet = args.key.wallet()?;
    let chain = args.chain.connect(Some(&wallet)).await?;
    let record = chain.task(args.task).await?;
    if record.state == TaskState::Active {
        let timeout = record.round_timeout_seconds;
        chain
            .abort(args.task)
            .await
            .context("the task is still active")
            .hint(format!(
                "it can be ended {timeout} s after its last result, not before"
            ))?;
    }
    let refunded = refund(&chain, args.task).await?;
    let value = json!({ "task": args.task, "refunded": refunded, "creator": record.creator });
    format.print(&value, || match refunded {
        Amount::ZERO => format!("nothing of task {} was left to refund", args.task),
        refunded => format!(
            "{} tokens went back to {}",
            money::exact(refunded),
            record.creator
        ),
    })
}

/// Posts a task whose initial checkpoint is set.
pub(crate) async fn create(
    chain: &Chain,
    spec: &TaskSpec,
    aggregator: Address,
) -> anyhow::Result<TaskId> {
    let file = spec.to_toml()?;
    let task = NewTask {
        aggregator,
        reward: spec.reward.pool,
        rounds: spec.rounds,
        stakes_min: StakeMinimums {
            trainer: spec.stake.trainer,
            validator: spec.stake.validator,
            aggregator: spec.stake.aggregator,
        },
        vesting_bps: spec.reward.vesting_bps,
        dispute_window_seconds: spec.reward.dispute_window_s,
        round_timeout_seconds: spec.reward.round_timeout_s,
        vesting_seconds: spec.reward.vesting_s,
    };
    chain
        .create_task(&task, &file)
        .await
        .context("cannot post the task")
}

/// Sends the creator what no round was allotted.
pub(crate) async fn refund(chain: &Chain, task: TaskId) -> anyhow::Result<Amount> {
    chain
        .refund(task)
        .await
        .context("cannot refund the rest of the escrow")
}

/// Draws the initial checkpoint with the task's seed, writes it into `folder`, and notes its
/// hash in the task.
pub(crate) fn draw_initial(spec: &mut TaskSpec, folder: &Path) -> anyhow::Result<PathBuf> {
    let model = ModelConfig::from_spec(&spec.model)?;
    let bytes = convoke_models::initial(&model, spec.seed)?.to_safetensors();
    let path = folder.join(format!("{}-initial.safetensors", file_stem(&spec.name)));
    std::fs::write(&path, &bytes)
        .with_context(|| format!("cannot write the initial checkpoint {}", path.display()))?;
    spec.initial = Some(BlobHash::of(&bytes));
    Ok(path)
}

/// Takes a checkpoint that exists, after a look at whether it is one of the task's model.
fn adopt_initial(spec: &mut TaskSpec, file: &Path) -> anyhow::Result<()> {
    let shown = file.display();
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    let layout = convoke_models::layout(&ModelConfig::from_spec(&spec.model)?)?;
    Parameters::from_safetensors(&bytes, Some(&layout))
        .with_context(|| format!("{shown} is no checkpoint of the task's model"))?;
    spec.initial = Some(BlobHash::of(&bytes));
    Ok(())
}

/// A task's name as part of a file name.
fn file_stem(name: &str) -> String {
    let safe = |c: char| {
        if c.is_alphanumeric() || c == '-' || c == '_' {
            c
        } else {
            '-'
        }
    };
    name.chars().map(safe).collect()
}

fn record_json(task: TaskId, record: &TaskRecord) -> serde_json::Value {
    let balances = &record.balances;
    json!({
        "task": task,
        "state": record.state.to_string(),
        "creator": record.creator,
        "aggregator": record.aggregator,
        "rounds": record.rounds,
        "rounds_settled": record.rounds_settled,
        "reward": balances.reward,
        "paid": balances.paid,
        "refunded": balances.refunded,
        "vesting": balances.vesting,
        "unclaimed": balances.unclaimed,
        "ended_at": record.ended_at,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn spec() -> TaskSpec {
        TaskSpec::parse("name = \"a b/../c\"\nseed = 7\n[model]\nkind = \"cnn\"\n").unwrap()
    }

    #[test]
    fn a_drawn_checkpoint_is_named_and_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec();
        let path = draw_initial(&mut spec, folder.path()).unwrap();
        assert_eq!(path.file_name().unwrap(), "a-b----c-initial.safetensors");
        assert_eq!(
            spec.initial,
            Some(BlobHash::of(&std::fs::read(&path).unwrap()))
        );
        let drawn = spec.initial.take();
        adopt_initial(&mut spec, &path).unwrap();
        assert_eq!(spec.initial, drawn);
    }

    #[test]
    fn the_next_steps_ask_for_stake_only_where_it_is_needed() {
        let mut spec = spec();
        spec.stake.validator = Amount(1);
        let text = next_steps(TaskId(3), &spec, Address::ZERO, Path::new("a.safetensors"));
        assert!(
            text.contains("--role validator") && !text.contains("--role trainer"),
            "{text}"
        );
        assert!(
            text.contains("convoke trainer --aggregator HOST:PORT --task 3"),
            "{text}"
        );
    }

    #[test]
    fn a_checkpoint_of_another_model_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = draw_initial(&mut spec(), folder.path()).unwrap();
        let mut mlp = TaskSpec::parse("name = \"x\"\n[model]\nkind = \"mlp\"\n").unwrap();
        let text = adopt_initial(&mut mlp, &path).unwrap_err().to_string();
        assert!(text.contains("no checkpoint of the task's model"), "{text}");
    }
}

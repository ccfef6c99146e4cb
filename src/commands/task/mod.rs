//! `convoke task`: post a training job and look after it.

mod ends;
pub(crate) mod file;
mod show;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use convoke_client::{Chain, ProofCircuits};
use convoke_models::{Model, Parameters};
use convoke_node::terms_of;
use convoke_protocol::ids::{Address, Amount, BlobHash, TaskId};
use convoke_protocol::task::{SplitKind, TaskSpec};
use serde_json::json;

pub(crate) use self::file::TaskFile;
use crate::address;
use crate::commands::model;
use crate::failure::{HintExt as _, usage};
use crate::money::{self, Decimal, Unit};
use crate::output::Format;
use crate::session::{Deed, SenderArgs};

pub(crate) use self::ends::refund;

/// Writes, posts, lists, shows, funds, ends.
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Write an example of a task file, with every field, its range and its default
    #[command(
        after_help = "Examples:\n  convoke task init\n  convoke task init mnist.toml --name mnist --reward 1000"
    )]
    Init(InitArgs),
    /// Post a task and put its reward into escrow
    #[command(
        after_help = "Examples:\n  convoke task create task.toml --aggregator 0x… --key creator --dry-run\n  \
                      convoke task create task.toml --aggregator 0x… --key creator\n\n\
                      `convoke task init` writes a task file to begin with."
    )]
    Create(CreateArgs),
    /// List the newest tasks
    #[command(after_help = "Example:\n  convoke task list --format json")]
    List(show::ListArgs),
    /// Show one task: terms, money, file
    #[command(
        after_help = "Examples:\n  convoke task show 3\n  convoke task show 3 --file > again.toml"
    )]
    Show(show::ShowArgs),
    /// Add to the reward of a task; the rounds to come share it
    #[command(after_help = "Example:\n  convoke task fund 3 --amount 500 --key creator")]
    Fund(ends::FundArgs),
    /// Take a task back, before its first round
    #[command(after_help = "Example:\n  convoke task cancel 3 --key creator")]
    Cancel(ends::OneArgs),
    /// Send what nobody earned back to the creator; ends a task first whose time has run out
    #[command(after_help = "Example, with any key:\n  convoke task refund 3 --key mine")]
    Refund(ends::OneArgs),
    /// Move a task on whose aggregator or validators are silent: closes stages that have timed out
    #[command(after_help = "Example, with any key:\n  convoke task tick 3 --key mine")]
    Tick(ends::OneArgs),
}

/// Arguments of `task init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The file to write; it must not exist
    #[arg(default_value = "task.toml")]
    file: PathBuf,
    /// The task's name
    #[arg(long)]
    name: Option<String>,
    /// Its reward
    #[arg(long, value_name = "TOKENS", value_parser = money::parse)]
    reward: Option<Decimal>,
}

/// Arguments of `task create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The task file (TOML)
    file: PathBuf,
    /// Who will hold the rounds together
    #[arg(long, value_name = "ADDRESS", value_parser = address::parse)]
    aggregator: Address,
    /// The checkpoint to start from; drawn with the task's seed if not given
    #[arg(long, value_name = "FILE")]
    initial: Option<PathBuf>,
    #[command(flatten)]
    sender: SenderArgs,
}

/// Runs the command.
pub(crate) async fn run(command: TaskCommand, format: Format) -> anyhow::Result<()> {
    match command {
        TaskCommand::Init(args) => init(&args, format),
        TaskCommand::Create(args) => run_create(args, format).await,
        TaskCommand::List(args) => show::list(args, format).await,
        TaskCommand::Show(args) => show::show(args, format).await,
        TaskCommand::Fund(args) => ends::fund(args, format).await,
        TaskCommand::Cancel(args) => ends::cancel(args, format).await,
        TaskCommand::Refund(args) => ends::run_refund(args, format).await,
        TaskCommand::Tick(args) => ends::tick(args, format).await,
    }
}

/// The example that `task init` writes.
const EXAMPLE: &str = include_str!("example.toml");

fn init(args: &InitArgs, format: Format) -> anyhow::Result<()> {
    let shown = args.file.display();
    if args.file.exists() {
        return Err(usage(format!("{shown} exists"))).hint("name another file");
    }
    let mut text = EXAMPLE.to_owned();
    if let Some(name) = &args.name {
        text = file::with_value(&text, "name", &toml::Value::from(name.as_str()).to_string());
    }
    if let Some(reward) = &args.reward {
        text = file::with_value(&text, "reward.pool", &reward.to_string());
    }
    std::fs::write(&args.file, text).with_context(|| format!("cannot write {shown}"))?;
    TaskFile::read(&args.file)?.check()?;
    format.print(&json!({ "file": args.file }), || {
        format!(
            "{shown} is a task file with every field, its range and its default\n\
             next: edit it, then `convoke task create {shown} --aggregator ADDRESS --dry-run`"
        )
    })
}

async fn run_create(args: CreateArgs, format: Format) -> anyhow::Result<()> {
    let file = TaskFile::read(&args.file)?;
    // Before a password is asked for.
    file.check()?;
    let session = args.sender.open(format).await?;
    let (ledger, aggregator) = (&session.ledger, args.aggregator);
    let token = &ledger.token;
    let mut spec = file.spec(token)?;
    check_provable(&ledger.chain, &spec).await?;
    let model = model::open(&mut spec, format)?;
    let initial = match args.initial {
        Some(file) => adopt_initial(&mut spec, &model, &file).map(|()| file)?,
        None if session.only_rehearses() => name_initial(&mut spec, &model)?.0,
        None => draw_initial(&mut spec, &model, Path::new(""))?,
    };
    let reward = spec.reward.pool;
    let (terms, text) = (terms_of(&spec, aggregator), spec.to_toml()?);
    let what = format!(
        "post the task {:?} with {} in escrow",
        spec.name,
        token.exact(reward)
    );
    let created = session.send(Deed::taking(what, reward), |chain| async move {
        chain.create_task(&terms, &text).await
    });
    let Some(task) = created.await? else {
        return Ok(());
    };
    let mut value = json!({
        "task": task,
        "aggregator": aggregator,
        "initial": initial,
        "initial_hash": spec.initial,
    });
    token.put(&mut value, "reward", reward);
    format.print(&ledger.object(value), || {
        next_steps(task, &spec, token, aggregator, &initial)
    })
}

/// Refuses a task whose rounds the chain could never pay: without a proof nothing is paid.
async fn check_provable(chain: &Chain, spec: &TaskSpec) -> anyhow::Result<()> {
    let ProofCircuits::Circuits { circuits, .. } = chain.proof_circuits().await? else {
        return Ok(());
    };
    if spec.reward.split == SplitKind::Rank {
        return Err(usage(
            "this chain pays against proofs, and a split by rank cannot be proven",
        ))
        .hint("set `reward.split = \"score\"`");
    }
    let most = circuits.iter().map(|c| c.slots).max().unwrap_or_default();
    if spec.cohort.trainers_max > u32::from(most) {
        return Err(usage(format!(
            "this chain verifies proofs of rounds with at most {most} trainers, `cohort.trainers_max` is {}",
            spec.cohort.trainers_max
        )))
        .hint(format!("set `cohort.trainers_max = {most}` or less"));
    }
    Ok(())
}

/// What was done, and what is to be done now, by whom.
fn next_steps(
    task: TaskId,
    spec: &TaskSpec,
    token: &Unit,
    aggregator: Address,
    initial: &Path,
) -> String {
    let stake = |role: &str, key: &str, least: Amount| match least {
        Amount::ZERO => String::new(),
        _ => format!("\n  convoke stake deposit --task {task} --role {role} --key {key}"),
    };
    let mut text = format!(
        "task {task}: {} in escrow for {} rounds\n\nnext, at the aggregator {}:",
        token.exact(spec.reward.pool),
        spec.rounds,
        address::checksummed(aggregator)
    );
    text += &stake("aggregator", "AGGREGATOR", spec.stake.aggregator);
    text += &format!(
        "\n  convoke aggregator --task {task} --initial {} --key AGGREGATOR",
        initial.display()
    );
    for (role, least) in [
        ("trainer", spec.stake.trainer),
        ("validator", spec.stake.validator),
    ] {
        if role == "validator" && spec.cohort.validators_min == 0 {
            continue;
        }
        text += &format!("\n\nthen, at each {role}:");
        text += &stake(role, "MINE", least);
        text += &format!(
            "\n  convoke {role} --aggregator HOST:PORT --task {task} --data DIR --key MINE"
        );
    }
    text
}

/// A task's file with amounts in tokens, as its creator would write it.
pub(crate) fn in_tokens(spec: &TaskSpec, token: &Unit) -> anyhow::Result<String> {
    Ok(file::to_tokens(&spec.to_toml()?, token))
}

/// Posts a task whose initial checkpoint is set.
pub(crate) async fn create(
    chain: &Chain,
    spec: &TaskSpec,
    aggregator: Address,
) -> anyhow::Result<TaskId> {
    let (terms, file) = (terms_of(spec, aggregator), spec.to_toml()?);
    chain
        .create_task(&terms, &file)
        .await
        .context("cannot post the task")
}

/// Draws the initial checkpoint with the task's seed, writes it into `folder`, and notes its
/// hash in the task.
pub(crate) fn draw_initial(
    spec: &mut TaskSpec,
    model: &Model,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let (name, bytes) = name_initial(spec, model)?;
    let path = folder.join(name);
    std::fs::write(&path, &bytes)
        .with_context(|| format!("cannot write the initial checkpoint {}", path.display()))?;
    Ok(path)
}

/// Draws the initial checkpoint without writing it; gives its file's name and its bytes.
fn name_initial(spec: &mut TaskSpec, model: &Model) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    let bytes = model.initial(spec.seed)?.to_safetensors();
    spec.initial = Some(BlobHash::of(&bytes));
    let name = format!("{}-initial.safetensors", file_stem(&spec.name));
    Ok((name.into(), bytes))
}

/// Takes a checkpoint that exists, after a look at whether it is one of the task's model.
fn adopt_initial(spec: &mut TaskSpec, model: &Model, file: &Path) -> anyhow::Result<()> {
    let shown = file.display();
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    Parameters::from_safetensors(&bytes, Some(model.layout()))
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_models::ModelConfig;
    use convoke_protocol::task::{AdapterSpec, BaseSpec};

    use super::*;

    fn spec() -> TaskSpec {
        TaskSpec::parse("name = \"a b/../c\"\nseed = 7\n[model]\nkind = \"cnn\"\n").unwrap()
    }

    fn init_args(file: &Path) -> InitArgs {
        InitArgs {
            file: file.to_owned(),
            name: None,
            reward: None,
        }
    }

    #[test]
    fn the_example_parses_to_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("task.toml");
        init(&init_args(&path), Format::Text).unwrap();
        let written = TaskFile::read(&path)
            .unwrap()
            .spec(&Unit::default())
            .unwrap();
        let mut least = TaskSpec::parse("name = \"example\"\n[model]\nkind = \"cnn\"\n").unwrap();
        // A model's own defaults are its module's.
        let model = |spec: &TaskSpec| ModelConfig::from_spec(&spec.model).unwrap();
        assert_eq!(model(&written), model(&least));
        least.model = written.model.clone();
        assert_eq!(written, least);
        assert!(
            init(&init_args(&path), Format::Text).is_err(),
            "written over"
        );
    }

    #[test]
    fn the_example_names_every_field() {
        // A field that has no default is in the text of a spec only if it is set.
        let mut spec = spec();
        spec.training.steps_max = Some(1);
        spec.training.micro_batch_size = Some(1);
        spec.training.gradient_norm_max = Some(1.0);
        spec.adapter = Some(AdapterSpec::default());
        spec.base = Some(BaseSpec {
            hash: Some(BlobHash([0; 32])),
            sources: vec!["hf:a/b".into()],
        });
        let all: toml::Table = spec.to_toml().unwrap().parse().unwrap();
        let names = |table: &toml::Table| table.keys().cloned().collect::<Vec<_>>();
        let mut expected = names(&all);
        for table in all.values().filter_map(toml::Value::as_table) {
            expected.extend(names(table));
        }
        for field in expected {
            let written = [
                format!("\n{field} = "),
                format!("\n# {field} = "),
                format!("\n[{field}]\n"),
                format!("\n# [{field}]\n"),
            ];
            assert!(
                written.iter().any(|line| EXAMPLE.contains(line)),
                "{field} is missing"
            );
        }
    }

    #[test]
    fn the_example_takes_a_name_and_a_reward() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        let args = InitArgs {
            name: Some("a \"quoted\" name".into()),
            reward: Some(money::parse("1,000.5").unwrap()),
            ..init_args(&path)
        };
        init(&args, Format::Text).unwrap();
        let spec = TaskFile::read(&path)
            .unwrap()
            .spec(&Unit::default())
            .unwrap();
        assert_eq!(spec.name, "a \"quoted\" name");
        assert_eq!(
            spec.reward.pool,
            Amount(money::tokens(1_000).0 + money::tokens(1).0 / 2)
        );
    }

    #[test]
    fn a_drawn_checkpoint_is_named_and_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let mut spec = spec();
        let model = Model::of_task(&spec).unwrap();
        let path = draw_initial(&mut spec, &model, folder.path()).unwrap();
        assert_eq!(path.file_name().unwrap(), "a-b----c-initial.safetensors");
        assert_eq!(
            spec.initial,
            Some(BlobHash::of(&std::fs::read(&path).unwrap()))
        );
        let drawn = spec.initial.take();
        adopt_initial(&mut spec, &model, &path).unwrap();
        assert_eq!(spec.initial, drawn);
    }

    #[test]
    fn the_next_steps_ask_for_stake_only_where_it_is_needed() {
        let spec = spec();
        let file = Path::new("a.safetensors");
        let text = next_steps(TaskId(3), &spec, &Unit::default(), Address::ZERO, file);
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
        let model = Model::of_task(&spec()).unwrap();
        let path = draw_initial(&mut spec(), &model, folder.path()).unwrap();
        let mut mlp = TaskSpec::parse("name = \"x\"\n[model]\nkind = \"mlp\"\n").unwrap();
        let model = Model::of_task(&mlp).unwrap();
        let text = adopt_initial(&mut mlp, &model, &path);
        let text = text.unwrap_err().to_string();
        assert!(text.contains("no checkpoint of the task's model"), "{text}");
    }
}

//! `convoke trainer`: trains on private data, one signed update a round.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use convoke_models::DeviceInfo;
use convoke_protocol::ids::{Amount, RoundId, TaskId};
use convoke_sim::{Adversary, Persona};
use convoke_trainer::service::{self, Conduct, Config, Ended, TrainerEvent};
use serde_json::{Value, json};

use crate::cli::{self, ChainArgs};
use crate::device::{DeviceArgs, described as device_described};
use crate::failure::usage;
use crate::keys::KeyArgs;
use crate::money::Unit;
use crate::output::Format;
use crate::progress::Progress;
use crate::session::Ledger;
use crate::shutdown::{self, ParentArgs};

/// Arguments of `trainer`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  convoke trainer --aggregator example.org:4433 --task 3 --data ./mine --key mine\n\n\
                  The data stays here: only the change that it makes to the model is sent."
)]
pub(crate) struct TrainerArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Keep a training under way every so many seconds, to go on from there after a restart; 0:
    /// after each step
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    snapshot_every: u32,
    /// Play an adversary, for tests of a federation
    #[arg(long, hide = true, value_name = "NAME")]
    persona: Option<String>,
    /// Seed of the adversary
    #[arg(long, hide = true, value_name = "SEED", default_value_t = 0)]
    persona_seed: u64,
}

/// What trainers and validators have in common.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// Where the aggregator listens
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) aggregator: String,
    /// The task
    #[arg(long, value_parser = cli::task_id)]
    pub(crate) task: TaskId,
    /// Your data in the form that the model takes: a folder with idx files in MNIST layout, or with
    /// train.txt, train.jsonl, train.csv, ...; docs/training.md says more
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// State folder, of one node [default: convoke-ROLE-TASK]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) compute: DeviceArgs,
    /// Leave pay unclaimed at the end
    #[arg(long)]
    pub(crate) no_claim: bool,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) chain: ChainArgs,
    #[command(flatten)]
    pub(crate) parent: ParentArgs,
}

impl NodeArgs {
    /// What the task pays in.
    pub(crate) async fn token(&self) -> anyhow::Result<Unit> {
        let chain = self.chain.connect(None).await?;
        Ok(Ledger::of(chain).await?.token)
    }
}

/// The event of pay that arrived.
pub(crate) fn claimed(token: &Unit, amount: Amount) -> (Value, String) {
    let mut value = json!({ "event": "claimed" });
    token.put(&mut value, "amount", amount);
    (value, format!("claimed {}", token.exact(amount)))
}

/// The event of a device that was opened.
pub(crate) fn computing(device: &DeviceInfo) -> (Value, String) {
    (
        json!({ "event": "computing", "device": device }),
        format!("computing on {}", device_described(device)),
    )
}

/// Runs the command.
pub(crate) async fn run(args: TrainerArgs, format: Format) -> anyhow::Result<()> {
    crate::memory::keep_freed();
    let conduct = args
        .persona
        .as_deref()
        .map(|name| play(name, args.persona_seed))
        .transpose()?;
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
            .unwrap_or_else(|| format!("convoke-trainer-{}", node.task).into()),
        device: node.compute.device,
        precision: node.compute.precision,
        threads: node.compute.threads,
        snapshot_every: Duration::from_secs(args.snapshot_every.into()),
        claim: !node.no_claim,
    };
    let progress = Progress::new(format);
    let listener = Arc::new(move |event: TrainerEvent| tell(&progress, &token, &event));
    let running = service::run(config, conduct, listener, stop.clone());
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

fn tell(progress: &Progress, token: &Unit, event: &TrainerEvent) {
    match event {
        TrainerEvent::Training {
            round,
            step,
            steps,
            loss,
        } => {
            let label = format!("round {round}: training, loss {loss:.3}");
            return progress.step(&label, u64::from(*step), u64::from(*steps));
        }
        TrainerEvent::Fetching { file, bytes, of } => {
            return progress.step(&format!("fetching {file}"), *bytes, *of);
        }
        TrainerEvent::Connected { .. } | TrainerEvent::Disconnected { .. } => {}
        _ => progress.clear(),
    }
    let (value, text) = described(token, event);
    progress.event(&value, &text);
}

fn described(token: &Unit, event: &TrainerEvent) -> (Value, String) {
    match event {
        TrainerEvent::Computing { device } => computing(device),
        TrainerEvent::Fetching { file, bytes, of } => (
            json!({ "event": "fetching", "file": file, "bytes": bytes, "of": of }),
            format!("fetching {file}: {bytes} of {of} bytes"),
        ),
        TrainerEvent::Connected { aggregator } => (
            json!({ "event": "connected", "aggregator": aggregator }),
            format!("connected to the aggregator {aggregator}"),
        ),
        TrainerEvent::Disconnected { reason } => (
            json!({ "event": "disconnected", "reason": reason }),
            format!("connection lost, dialling again: {reason}"),
        ),
        TrainerEvent::RoundOpened { round, base } => (
            json!({ "event": "round_opened", "round": round, "base": base }),
            format!("round {round}: training"),
        ),
        TrainerEvent::Training {
            round,
            step,
            steps,
            loss,
        } => (
            json!({ "event": "training", "round": round, "step": step, "steps": steps, "loss": loss }),
            format!("round {round}: step {step} of {steps}, loss {loss:.3}"),
        ),
        TrainerEvent::Sent { round } => (
            json!({ "event": "sent", "round": round }),
            format!("round {round}: update signed and sent"),
        ),
        TrainerEvent::Stored { round } => (
            json!({ "event": "stored", "round": round }),
            format!("round {round}: update is in"),
        ),
        TrainerEvent::Refused { round, refusal } => (
            json!({ "event": "refused", "round": round, "code": refusal.code(), "reason": refusal.to_string() }),
            format!("round {round}: update refused: {refusal}"),
        ),
        TrainerEvent::Settled { round } => (
            json!({ "event": "settled", "round": round }),
            format!("round {round}: settled on chain"),
        ),
        TrainerEvent::Claimed { amount } => claimed(token, *amount),
        TrainerEvent::Finished => (json!({ "event": "finished" }), "the task is over".into()),
    }
}

/// A trainer that corrupts its deltas as the named adversary does.
struct Playing(Box<dyn Adversary>);

impl Conduct for Playing {
    fn corrupt(&mut self, round: RoundId, delta: &mut [f32]) {
        self.0.corrupt(round, delta);
    }

    fn lies(&self, round: RoundId) -> bool {
        self.0.forges_sketch(round)
    }
}

fn play(name: &str, seed: u64) -> anyhow::Result<Box<dyn Conduct>> {
    let persona: Persona = name
        .parse()
        .map_err(|error| usage(format!("--persona: {error}")))?;
    let adversary = persona
        .adversary(seed)
        .context("--persona: honest is the default")?;
    Ok(Box::new(Playing(adversary)))
}

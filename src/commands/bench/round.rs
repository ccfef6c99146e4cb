//! `convoke bench round`: the whole of a round except training.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use convoke_node::{Link, LinkEvent};
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{BlobHash, Role, TaskId};
use convoke_protocol::message::{AggregatorMessage, NodeMessage, Notice, Order};
use convoke_protocol::payout::PayoutDomain;
use convoke_protocol::update::{SignedUpdate, UpdateHeader};
use convoke_trainer::sketching::{self, Question};
use convoke_transport::BlobStore;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use tokio::task::JoinSet;

use super::loopback;
use super::stage::{AGGREGATOR, Stage, tensor};
use super::usage::Usage;
use crate::keys;
use crate::output::Format;
use crate::processes::Processes;

/// A round that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(600);

/// Arguments of `bench round`.
#[derive(Debug, Args)]
pub(crate) struct RoundArgs {
    /// Parameters of the model
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    parameters: usize,
    /// Trainers that take part
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    trainers: u32,
    /// Rounds measured, after one that is not
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
}

/// The figures, means over the rounds measured.
#[derive(Debug, Serialize)]
struct Figures {
    parameters: usize,
    trainers: u32,
    rounds: u32,
    /// From one round's result on chain to the next.
    seconds_per_round: f64,
    /// Checkpoints down and deltas up.
    bytes_per_round: u64,
    /// What a bare TCP connection within this machine moves, measured in this run.
    loopback_bytes_per_s: f64,
    /// What the bytes of a round take at that rate: no round can be shorter.
    loopback_seconds: f64,
    /// A round's seconds in multiples of that.
    times_loopback: f64,
    /// Of the aggregator, for each round.
    cpu_seconds: f64,
    /// Of the aggregator, over its whole life.
    peak_rss_bytes: u64,
}

/// Runs the command.
pub(crate) async fn run(args: &RoundArgs, format: Format) -> anyhow::Result<()> {
    let figures = measure(args).await?;
    format.print(&figures, || {
        let rate = figures.bytes_per_round as f64 / figures.seconds_per_round / 1e6;
        format!(
            "{} parameters, {} trainers, {} rounds\n\
             {:.3} s a round, {:.1} MB moved in it ({rate:.0} MB/s)\n\
             a bare TCP connection: {:.0} MB/s, {:.3} s for as much: a round takes {:.1} times that\n\
             aggregator: {:.3} s of processor a round, {:.1} MB resident at most",
            figures.parameters,
            figures.trainers,
            figures.rounds,
            figures.seconds_per_round,
            figures.bytes_per_round as f64 / 1e6,
            figures.loopback_bytes_per_s / 1e6,
            figures.loopback_seconds,
            figures.times_loopback,
            figures.cpu_seconds,
            figures.peak_rss_bytes as f64 / 1e6,
        )
    })
}

async fn measure(args: &RoundArgs) -> anyhow::Result<Figures> {
    let dir = tempfile::tempdir().context("cannot create a temporary folder")?;
    let stage = Stage::prepare(dir.path(), args.parameters, |spec| {
        spec.rounds = args.rounds + 1;
        spec.cohort.trainers_min = args.trainers;
        spec.cohort.trainers_max = args.trainers.max(64);
        spec.cohort.validators_min = 0;
    })
    .await?;
    let mut processes = Processes::new(dir.path().join("logs"))?;
    let address = stage.start_aggregator(&mut processes, dir.path()).await?;
    let process = processes
        .id(AGGREGATOR)
        .context("the aggregator has ended")?;
    let mut trainers = JoinSet::new();
    for number in 0..args.trainers {
        let trainer = Trainer::new(&stage, args, number, &address, dir.path())?;
        trainers.spawn(trainer.run());
    }
    let mut observer = stage.link(keys::random()?, &address, Role::Observer)?;
    let measured = async {
        settled(&mut observer).await?;
        let (begun, before) = (Instant::now(), Usage::of(process)?);
        for _ in 0..args.rounds {
            settled(&mut observer).await?;
        }
        anyhow::Ok((begun.elapsed(), before, Usage::of(process)?))
    };
    let measured = tokio::time::timeout(PATIENCE * (args.rounds + 1), measured);
    let (elapsed, before, after) = tokio::select! {
        measured = measured => measured.context("the rounds take too long")??,
        Some(ended) = trainers.join_next() => {
            ended.context("a trainer panicked")??;
            bail!("a trainer left before the end");
        }
        ended = processes.next_exit() => bail!("the {} left before the end", ended?),
    };
    processes.stop().await;
    let limit = tokio::task::spawn_blocking(loopback::bytes_per_second).await??;
    let rounds = f64::from(args.rounds);
    let seconds_per_round = elapsed.as_secs_f64() / rounds;
    let bytes_per_round = 2 * u64::from(args.trainers) * stage.checkpoint_bytes;
    let loopback_seconds = bytes_per_round as f64 / limit;
    Ok(Figures {
        parameters: args.parameters,
        trainers: args.trainers,
        rounds: args.rounds,
        seconds_per_round,
        bytes_per_round,
        loopback_bytes_per_s: limit,
        loopback_seconds,
        times_loopback: seconds_per_round / loopback_seconds,
        cpu_seconds: (after.cpu_seconds - before.cpu_seconds) / rounds,
        peak_rss_bytes: after.peak_rss_bytes,
    })
}

/// Does everything that a trainer does, but train.
struct Trainer {
    task: TaskId,
    domain: PayoutDomain,
    wallet: Wallet,
    link: Link,
    blobs: BlobStore,
    delta: BlobHash,
    delta_bytes: u64,
    /// What was sent last.
    update: Option<SignedUpdate>,
}

impl Trainer {
    /// One with a delta that is mostly everybody's and partly its own.
    fn new(
        stage: &Stage,
        args: &RoundArgs,
        number: u32,
        address: &str,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let wallet = keys::random()?;
        let mut own = ChaCha8Rng::seed_from_u64(u64::from(number) + 1);
        let mut common = ChaCha8Rng::seed_from_u64(0);
        let mut value = || common.random_range(-1.0f32..1.0) + own.random_range(-0.5..0.5);
        let delta = tensor((0..args.parameters).map(|_| value()).collect())?;
        let blobs = BlobStore::open(&dir.join(format!("trainer-{number}")))?;
        Ok(Self {
            task: stage.task,
            domain: stage.domain,
            link: stage.link(wallet.clone(), address, Role::Trainer)?,
            delta: blobs.insert_bytes(&delta)?,
            delta_bytes: delta.len() as u64,
            blobs,
            wallet,
            update: None,
        })
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let handle = self.link.handle();
        loop {
            let LinkEvent::Message(message) = self.link.next().await? else {
                continue;
            };
            let connection = handle
                .connection()
                .await
                .context("the connection is gone")?;
            match message {
                AggregatorMessage::Order(Order::Train { round, base, .. }) => {
                    connection
                        .fetch_blob(&base, self.delta_bytes, &self.blobs, |_| {})
                        .await?;
                    // Only the newest checkpoint is of use.
                    self.blobs.remove(&base)?;
                    let stats = sketching::stats(&self.blobs, &self.delta, None)?;
                    let header = UpdateHeader {
                        task: self.task,
                        round,
                        base,
                        delta: self.delta,
                        delta_root: stats.root,
                        delta_bytes: self.delta_bytes,
                        delta_norm: stats.norm,
                        num_examples: 1_000,
                        train_loss_micros: 0,
                    };
                    let update = header.sign(&self.domain, &self.wallet);
                    handle.send(&NodeMessage::Update(update.clone())).await;
                    self.update = Some(update);
                }
                AggregatorMessage::Order(Order::Sketch {
                    round,
                    attempt,
                    seed,
                    clip_norm,
                    ..
                }) => {
                    let update = self.update.as_ref().context("asked before the update")?;
                    let question = Question {
                        round,
                        attempt,
                        seed,
                        clip_norm,
                    };
                    let claim =
                        sketching::claim(&self.blobs, None, &self.domain, update, &question)?;
                    let signed = claim.sign(&self.domain, &self.wallet);
                    handle.send(&NodeMessage::Sketch(signed)).await;
                }
                AggregatorMessage::Order(Order::SendDelta { delta, .. }) => {
                    connection.push_blob(&delta, &self.blobs, |_| {}).await?;
                }
                AggregatorMessage::Notice(Notice::TaskFailed { reason }) => bail!("{reason}"),
                _ => {}
            }
        }
    }
}

/// Waits until the next round's result is on chain.
async fn settled(observer: &mut Link) -> anyhow::Result<()> {
    loop {
        match observer.next().await? {
            LinkEvent::Message(AggregatorMessage::Notice(Notice::RoundSettled { .. })) => {
                return Ok(());
            }
            LinkEvent::Message(AggregatorMessage::Notice(Notice::TaskFailed { reason })) => {
                bail!("the task failed: {reason}")
            }
            _ => {}
        }
    }
}

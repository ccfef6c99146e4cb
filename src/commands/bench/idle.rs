//! `convoke bench idle`: what nodes cost the aggregator that are enrolled and do nothing.

use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use convoke_node::LinkEvent;
use convoke_protocol::ids::Role;
use convoke_protocol::message::{AggregatorMessage, Notice};
use serde::Serialize;
use tokio::task::JoinSet;

use super::stage::{AGGREGATOR, Stage};
use super::usage::Usage;
use crate::keys;
use crate::output::Format;
use crate::processes::Processes;

/// Nodes that dial at one time.
const DIALLING_MAX: u32 = 16;
/// All nodes must be enrolled within this time.
const PATIENCE: Duration = Duration::from_secs(300);
/// What a handshake leaves to be done is over after so long: the search for the path's MTU, and
/// the first keep-alives.
const SETTLING: Duration = Duration::from_secs(10);
/// Parameters of the model, which nobody fetches.
const PARAMETERS: usize = 1_000;

/// Arguments of `bench idle`.
#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    /// Trainers that are enrolled and wait for a round
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=4_000))]
    nodes: u32,
    /// Time over which the processor's use is measured
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
}

/// The figures, of the aggregator's process.
#[derive(Debug, Serialize)]
struct Figures {
    nodes: u32,
    /// Resident before the first node dialled.
    rss_before_bytes: u64,
    /// Resident with all of them idle.
    rss_idle_bytes: u64,
    bytes_per_node: u64,
    /// Over which the processor's use was measured.
    seconds: u64,
    /// Time on processors in it.
    cpu_seconds: f64,
    /// That as a share of one processor.
    cpu_share: f64,
}

/// Runs the command.
pub(crate) async fn run(args: &IdleArgs, format: Format) -> anyhow::Result<()> {
    let figures = measure(args).await?;
    format.print(&figures, || {
        format!(
            "{} idle nodes: {:.1} MB resident before, {:.1} MB with them, {:.1} kB each\n\
             {:.2} s of processor in {} s: {:.2}% of one",
            figures.nodes,
            figures.rss_before_bytes as f64 / 1e6,
            figures.rss_idle_bytes as f64 / 1e6,
            figures.bytes_per_node as f64 / 1e3,
            figures.cpu_seconds,
            figures.seconds,
            100.0 * figures.cpu_share,
        )
    })
}

async fn measure(args: &IdleArgs) -> anyhow::Result<Figures> {
    let dir = tempfile::tempdir().context("cannot create a temporary folder")?;
    // No validator comes, so that no round opens.
    let stage = Stage::prepare(dir.path(), PARAMETERS, |spec| {
        spec.cohort.validators_min = 1;
        spec.timing.open_timeout_s = OPEN_TIMEOUT_S;
    })
    .await?;
    let mut processes = Processes::new(dir.path().join("logs"))?;
    let address = stage.start_aggregator(&mut processes, dir.path()).await?;
    let process = processes
        .id(AGGREGATOR)
        .context("the aggregator has ended")?;
    let before = Usage::of(process)?;
    let measured = async {
        let nodes = tokio::time::timeout(PATIENCE, enroll(&stage, &address, args.nodes));
        let mut nodes = nodes.await.context("the nodes take too long to enroll")??;
        let rest = async {
            tokio::time::sleep(SETTLING).await;
            let idle = Usage::of(process)?;
            tokio::time::sleep(Duration::from_secs(args.seconds)).await;
            anyhow::Ok((idle, Usage::of(process)?))
        };
        tokio::select! {
            measured = rest => measured,
            Some(left) = nodes.join_next() => {
                left.context("a node panicked")??;
                bail!("a node left before the end");
            }
        }
    };
    let (idle, after) = tokio::select! {
        measured = measured => measured?,
        ended = processes.next_exit() => bail!("the {} left before the end", ended?),
    };
    let cpu_seconds = after.cpu_seconds - idle.cpu_seconds;
    let grown = after.rss_bytes.saturating_sub(before.rss_bytes);
    Ok(Figures {
        nodes: args.nodes,
        rss_before_bytes: before.rss_bytes,
        rss_idle_bytes: after.rss_bytes,
        bytes_per_node: grown / u64::from(args.nodes),
        seconds: args.seconds,
        cpu_seconds,
        cpu_share: cpu_seconds / args.seconds as f64,
    })
}

/// Connects all nodes; each goes on to listen in a task of its own.
async fn enroll(
    stage: &Stage,
    address: &str,
    nodes: u32,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut listening = JoinSet::new();
    let mut dialling = JoinSet::new();
    for _ in 0..nodes {
        let mut link = stage.link(keys::random()?, address, Role::Trainer)?;
        dialling.spawn(async move {
            loop {
                if let LinkEvent::Connected { .. } = link.next().await? {
                    return anyhow::Ok(link);
                }
            }
        });
        if dialling.len() < DIALLING_MAX as usize {
            continue;
        }
        if let Some(connected) = dialling.join_next().await {
            listening.spawn(listen(connected??));
        }
    }
    while let Some(connected) = dialling.join_next().await {
        listening.spawn(listen(connected??));
    }
    Ok(listening)
}

async fn listen(mut link: convoke_node::Link) -> anyhow::Result<()> {
    loop {
        match link.next().await? {
            LinkEvent::Message(AggregatorMessage::Notice(Notice::TaskFailed { reason })) => {
                bail!("the task failed: {reason}")
            }
            LinkEvent::Disconnected { reason } => bail!("disconnected: {reason}"),
            _ => {}
        }
    }
}

/// Longer than the benchmark may take, in seconds.
const OPEN_TIMEOUT_S: u32 = 24 * 3_600;

//! The rounds, from an observer's seat: what the aggregator announces, what each checkpoint is
//! worth on examples that nobody else has, and whether all processes are well.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use convoke_models::{ComputeDevice, DeviceChoice, Evaluator, Model, Parameters};
use convoke_node::LinkEvent;
use convoke_node::link::LinkHandle;
use convoke_protocol::ids::BlobHash;
use convoke_protocol::message::{AggregatorMessage, Notice, RoundReport};
use convoke_transport::BlobStore;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::plan::Plan;
use super::setup::Stage;
use crate::failure::hinted;
use crate::live::board::{Board, Measured, Over};
use crate::live::{FRAME, View, observer};
use crate::processes::Processes;

/// Largest checkpoint that is fetched, in bytes.
const CHECKPOINT_BYTES_MAX: u64 = 1 << 30;
/// A checkpoint that does not come is asked for so often,
const FETCH_TRIES_MAX: u32 = 50;
/// with this pause.
const FETCH_PAUSE: Duration = Duration::from_millis(200);

/// What came of watching.
#[derive(Debug)]
pub(crate) struct Watched {
    /// The final checkpoint's hash.
    pub(crate) checkpoint: BlobHash,
}

/// Watches to the end: all rounds settled, all checkpoints measured, every trainer, validator
/// and the aggregator paid and gone. Writes the final model.
pub(crate) async fn watch(
    plan: &Plan,
    stage: &Stage,
    processes: &mut Processes,
    view: &mut View,
    board: &mut Board,
    started: Instant,
) -> anyhow::Result<Watched> {
    let mut link = observer::dial(&stage.chain, stage.task, stage.aggregator.clone()).await?;
    let blobs = BlobStore::open(&plan.out.join("nodes").join("observer"))?;
    let initial = std::fs::read(&stage.initial).context("cannot read the initial checkpoint")?;
    blobs.insert_bytes(&initial)?;
    let (orders, mut measures) = start_measuring(stage, blobs.clone(), link.handle())?;
    orders.send((0, BlobHash::of(&initial))).await?;

    let mut last = None;
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let nodes = stage.cast.trainers.iter().chain(&stage.cast.validators);
        let alone = nodes
            .clone()
            .all(|player| !processes.is_running(&player.name));
        let measured = board.measured.len() > board.rounds as usize;
        if board.over == Some(Over::Finished) && alone && measured {
            break;
        }
        tokio::select! {
            _ = frames.tick() => {
                board.elapsed = started.elapsed();
                view.draw(board)?;
            }
            event = link.next() => match event.context("the observer's link failed")? {
                LinkEvent::Connected { round, history } => {
                    for report in &history {
                        order(&orders, board, report, &mut last)?;
                    }
                    board.catch_up(round, history);
                }
                LinkEvent::Disconnected { reason } => {
                    view.remark(board, &format!("connection lost, dialling again: {reason}"))?;
                }
                LinkEvent::Message(AggregatorMessage::Notice(notice)) => {
                    if let Notice::RoundCommitted(report) = &notice {
                        order(&orders, board, report, &mut last)?;
                    }
                    board.hear(&notice);
                    take_note(board, &notice);
                    view.notice(board, &notice)?;
                }
                LinkEvent::Message(_) => {}
            },
            Some(measure) = measures.recv() => {
                let (round, measured) = measure?;
                board.measured.insert(round, measured);
                if let View::Lines(lines) = view {
                    lines.measured(round, measured)?;
                }
            }
            exit = processes.next_exit() => {
                let name = exit?;
                tracing::debug!(name, "a node has finished");
            }
        }
        if let Some(Over::Failed(reason)) = &board.over {
            let log = processes.log("aggregator");
            return Err(hinted(
                anyhow!("the task failed: {reason}"),
                format!("the aggregator's log is in {}", log.display()),
            ));
        }
    }
    let checkpoint = last.context("no round was committed")?;
    plan.write("model.safetensors", blobs.read(&checkpoint)?)?;
    // The aggregator leaves when nobody is connected any more: we go first.
    if let Some(connection) = link.handle().connection().await {
        connection.close("seen enough");
    }
    drop(link);
    while processes.is_running(&stage.cast.aggregator.name) {
        tokio::select! {
            _ = frames.tick() => {
                board.elapsed = started.elapsed();
                view.draw(board)?;
            }
            exit = processes.next_exit() => drop(exit?),
        }
    }
    Ok(Watched { checkpoint })
}

/// A line for the screen's foot.
fn take_note(board: &mut Board, notice: &Notice) {
    board.news = match notice {
        Notice::UpdateRefused {
            round,
            trainer,
            refusal,
        } => {
            format!(
                "round {round}: refused {}: {refusal}",
                board.name_of(*trainer)
            )
        }
        Notice::RoundCommitted(report) => format!(
            "round {}: kept {}, refused {}",
            report.round,
            report.kept.len(),
            report.refused.len()
        ),
        Notice::RoundRetried { round, reason } => format!("round {round}: tried again: {reason}"),
        Notice::TaskFinished { .. } => "all rounds are settled; everybody claims pay".into(),
        _ => return,
    };
}

type Order = (u32, BlobHash);
type Measure = anyhow::Result<(u32, Measured)>;

/// Has a round's checkpoint measured, once.
fn order(
    orders: &mpsc::Sender<Order>,
    board: &Board,
    report: &RoundReport,
    last: &mut Option<BlobHash>,
) -> anyhow::Result<()> {
    if board.reports.contains_key(&report.round) {
        return Ok(());
    }
    *last = Some(report.checkpoint);
    orders
        .try_send((report.round.0, report.checkpoint))
        .map_err(|_| anyhow!("checkpoints come faster than they can be measured"))
}

/// A task that fetches and measures checkpoints in the order in which they are asked for.
fn start_measuring(
    stage: &Stage,
    blobs: BlobStore,
    handle: LinkHandle,
) -> anyhow::Result<(mpsc::Sender<Order>, mpsc::Receiver<Measure>)> {
    let model = stage.model.clone();
    let device: ComputeDevice = DeviceChoice::Cpu.open()?;
    let evaluator = Evaluator::new(&model, &device, &stage.held_back)?;
    let (orders_tx, mut orders) = mpsc::channel::<Order>(1_024);
    let (measures_tx, measures) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Some((round, checkpoint)) = orders.recv().await {
            let measure = measure(&model, &evaluator, &blobs, &handle, checkpoint).await;
            let failed = measure.is_err();
            let measure = measure.map(|measured| (round, measured));
            if measures_tx.send(measure).await.is_err() || failed {
                return;
            }
        }
    });
    Ok((orders_tx, measures))
}

async fn measure(
    model: &Model,
    evaluator: &Evaluator,
    blobs: &BlobStore,
    handle: &LinkHandle,
    checkpoint: BlobHash,
) -> anyhow::Result<Measured> {
    fetch(blobs, handle, checkpoint).await?;
    let bytes = blobs.read(&checkpoint)?;
    let parameters = Parameters::from_safetensors(&bytes, Some(model.layout()))?;
    let evaluator = evaluator.clone();
    let evaluation = tokio::task::spawn_blocking(move || evaluator.evaluate(&parameters))
        .await
        .context("measuring broke off")??;
    Ok(Measured {
        accuracy: evaluation.accuracy,
        loss: evaluation.loss,
        bits_per_byte: evaluation.bits_per_byte,
    })
}

async fn fetch(blobs: &BlobStore, handle: &LinkHandle, checkpoint: BlobHash) -> anyhow::Result<()> {
    for _ in 0..FETCH_TRIES_MAX {
        if blobs.contains(&checkpoint) {
            return Ok(());
        }
        let Some(connection) = handle.connection().await else {
            tokio::time::sleep(FETCH_PAUSE).await;
            continue;
        };
        match connection
            .fetch_blob(&checkpoint, CHECKPOINT_BYTES_MAX, blobs, |_| {})
            .await
        {
            Ok(_) => return Ok(()),
            Err(error) if error.retryable() => {
                tracing::debug!(%error, "the checkpoint did not arrive");
                tokio::time::sleep(FETCH_PAUSE).await;
            }
            Err(error) => return Err(error).context("cannot fetch a checkpoint"),
        }
    }
    bail!("checkpoint {checkpoint} cannot be fetched from the aggregator")
}

//! `convoke watch`: a task, live, for anybody.

use anyhow::bail;
use clap::Args;
use convoke_node::LinkEvent;
use convoke_protocol::ids::TaskId;
use convoke_protocol::message::{AggregatorMessage, Notice, RoundReport};
use convoke_protocol::task::TaskSpec;
use tokio::time::{Instant, MissedTickBehavior};

use crate::cli::{self, ChainArgs};
use crate::live::board::{Board, Measured, Over};
use crate::live::{FRAME, View, observer};
use crate::output::Format;
use crate::session::Ledger;
use crate::shutdown;

/// Arguments of `watch`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  convoke watch --aggregator example.org:4433 --task 3\n\n\
                  At a terminal a live view (q quits); otherwise lines, with --format json one object a line."
)]
pub(crate) struct WatchArgs {
    /// Where the aggregator listens
    #[arg(long, value_name = "HOST:PORT")]
    aggregator: String,
    /// The task
    #[arg(long, value_parser = cli::task_id)]
    task: TaskId,
    #[command(flatten)]
    chain: ChainArgs,
}

/// Runs the command.
pub(crate) async fn run(args: WatchArgs, format: Format) -> anyhow::Result<()> {
    let quit = shutdown::on_signals();
    let ledger = Ledger::of(args.chain.connect(None).await?).await?;
    let chain = &ledger.chain;
    let spec = TaskSpec::parse(&chain.task_file(args.task).await?)?;
    let mut board = Board::new(&spec.name, spec.rounds, chain.book().chain_id);
    board.task = Some(args.task);
    board.token = ledger.token.clone();
    board.footer = format!("aggregator at {}", args.aggregator);
    let mut link = observer::dial(chain, args.task, args.aggregator).await?;
    let mut view = View::open(format, &quit)?;
    let started = Instant::now();
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while board.over.is_none() {
        tokio::select! {
            () = quit.cancelled() => break,
            _ = frames.tick() => {
                board.elapsed = started.elapsed();
                view.draw(&board)?;
            }
            event = link.next() => match event? {
                LinkEvent::Connected { round, history } => {
                    for report in &history {
                        measure(&mut board, report);
                    }
                    board.catch_up(round, history);
                    view.remark(&mut board, "connected")?;
                }
                LinkEvent::Disconnected { reason } => {
                    view.remark(&mut board, &format!("connection lost, dialling again: {reason}"))?;
                }
                LinkEvent::Message(AggregatorMessage::Notice(notice)) => {
                    if let Notice::RoundCommitted(report) = &notice {
                        measure(&mut board, report);
                    }
                    board.hear(&notice);
                    view.notice(&board, &notice)?;
                }
                LinkEvent::Message(_) => {}
            }
        }
    }
    drop((view, link));
    shutdown::farewell().await;
    match board.over {
        Some(Over::Failed(reason)) => bail!("task {} failed: {reason}", args.task),
        _ => Ok(()),
    }
}

/// A watcher has no data: what validators found of a round's base is the quality of the
/// checkpoint before.
fn measure(board: &mut Board, report: &RoundReport) {
    if report.base_loss_micros > 0 {
        let measured = Measured {
            accuracy: f64::from(report.base_accuracy_ppm) / 1e6,
            loss: report.base_loss_micros as f64 / 1e6,
            bits_per_byte: None,
        };
        board
            .measured
            .insert(report.round.0.saturating_sub(1), measured);
    }
}

//! `convoke demo`: a whole federation on this machine, as separate processes of this program.
//! It is a script of the other commands: what they do, it does, and nothing else.
//!
//! ```text
//! plan ──▶ setup: data, devnet, contracts, stakes, task ──▶ watching: rounds, to the end
//!                                                              │
//! summary, report, model card ◀── settlement: claims, refund ◀─┘
//! ```

mod card;
mod cast;
mod plan;
mod rehearsal;
mod report;
mod settlement;
mod setup;
mod summary;
mod watching;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use convoke_protocol::task::{CodecKind, CompressionSpec};

use self::plan::Plan;
use self::summary::Results;
use crate::cli;
use crate::failure::Interrupted;
use crate::live::View;
use crate::live::board::Board;
use crate::live::lines::Lines;
use crate::output::{self, Format};
use crate::processes::Processes;
use crate::shutdown;

/// Arguments of `demo`, as typed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  convoke demo\n  convoke demo --rounds 3 --trainers 4 --adversaries noise=1\n  \
                  convoke demo --data ./fashion-mnist --format json\n  \
                  convoke demo --task task.toml --data ./parties\n\n\
                  It deploys the contracts on a chain of its own, so it needs no key and costs nothing."
)]
pub(crate) struct DemoArgs {
    /// Rehearse this task instead of the demonstration's own; --data then holds a folder for each
    /// party: trainer-1, …, validator-1, …, held-back
    #[arg(long, value_name = "FILE", requires = "data", conflicts_with_all = ["trainers", "validators", "alpha", "rule", "compress", "compress_checkpoints", "keep_ppm"])]
    pub(crate) task: Option<PathBuf>,
    /// Trainers, adversaries included
    #[arg(long, value_name = "N", default_value_t = 6)]
    pub(crate) trainers: u32,
    /// Validators
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) validators: u32,
    /// Rounds [default: 10, or those of --task]
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<u32>,
    /// Adversaries among the trainers, by name and number; `none` for none [default:
    /// sign_flipper=1,noise=1, or none with --task]
    #[arg(long, value_name = "NAME=N,…")]
    pub(crate) adversaries: Option<String>,
    /// Label skew between the trainers: 0.1 gives each few classes, `inf` all alike
    #[arg(long, default_value_t = 0.5)]
    pub(crate) alpha: f64,
    /// Seed of split, model, keys and adversaries
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
    /// Aggregation rule: fedavg, coordinate_median, trimmed_mean
    #[arg(long, value_name = "NAME", default_value = "fedavg")]
    pub(crate) rule: String,
    /// Codec of updates: none, bf16, int8, top_k, dct_sign
    #[arg(long, value_name = "CODEC", default_value = "none", value_parser = cli::codec)]
    pub(crate) compress: CodecKind,
    /// Codec of the steps between checkpoints, likewise
    #[arg(long, value_name = "CODEC", default_value = "none", value_parser = cli::codec)]
    pub(crate) compress_checkpoints: CodecKind,
    /// Share of the values that top_k and dct_sign keep, in millionths
    #[arg(long, value_name = "PPM", default_value_t = CompressionSpec::default().keep_ppm)]
    pub(crate) keep_ppm: u32,
    /// Folder with idx files in MNIST layout, .gz or not [default: a share of Fashion-MNIST inside this program]
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<PathBuf>,
    /// Folder for results and logs; new or empty [default: convoke-demo, or convoke-demo-2, …]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Runs the command.
pub(crate) async fn run(args: DemoArgs, format: Format) -> anyhow::Result<()> {
    let started = Instant::now();
    let plan = Plan::check(args)?;
    let quit = shutdown::on_signals();
    let mut view = match format {
        Format::Json => View::Lines(Lines::beside_result()),
        Format::Text => View::open(format, &quit)?,
    };
    let mut processes = Processes::new(plan.out.join("logs"))?;
    let played = tokio::select! {
        () = quit.cancelled() => Err(Interrupted.into()),
        played = play(&plan, &mut processes, &mut view, started) => played,
    };
    processes.stop().await;
    // The screen goes first: what is printed next stays on the terminal.
    drop(view);
    let results = played?;
    conclude(&plan, &results, format)
}

/// From nothing to everybody paid.
async fn play(
    plan: &Plan,
    processes: &mut Processes,
    view: &mut View,
    started: Instant,
) -> anyhow::Result<Results> {
    let mut board = Board::new(&plan.name, plan.rounds, 0);
    board.footer = format!("logs in {}", plan.out.join("logs").display());
    let stage = setup::prepare(plan, processes, view, &mut board).await?;
    let watched = watching::watch(plan, &stage, processes, view, &mut board, started).await?;
    view.remark(
        &mut board,
        "everybody has claimed; refunding what no round was allotted",
    )?;
    let money = settlement::settle(&stage).await?;
    Ok(Results::new(
        plan,
        &stage,
        board,
        money,
        &watched,
        started.elapsed(),
    ))
}

/// Writes the files and prints the results.
fn conclude(plan: &Plan, results: &Results, format: Format) -> anyhow::Result<()> {
    let summary = results.summary();
    plan.write(
        "summary.json",
        format!("{}\n", serde_json::to_string_pretty(&summary)?),
    )?;
    plan.write("MODEL_CARD.md", card::markdown(plan, results))?;
    plan.write("report.html", report::html(plan, results))?;
    match format {
        Format::Json => output::line(&serde_json::to_string(&summary)?),
        Format::Text => output::line(&results.to_text()),
    }
}

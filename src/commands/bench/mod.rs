//! `convoke bench`: whole-process benchmarks, with the figures that the documentation quotes.

mod idle;
mod loopback;
mod prove;
mod round;
mod sketch;
mod stage;
mod usage;

use clap::Subcommand;

use crate::output::Format;

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Rounds of an aggregator whose trainers don't train: time, bytes, processor, memory
    #[command(
        after_help = "Example:\n  convoke bench round --parameters 10000000 --trainers 16 --format json\n\n\
                      The aggregator is a process of its own; chain and trainers run in this one, on the same machine.\nThe chain takes any proof, so that none is made: `convoke bench prove` measures those."
    )]
    Round(round::RoundArgs),
    /// Nodes that are enrolled and idle: the aggregator's memory for each, and processor
    #[command(after_help = "Example:\n  convoke bench idle --nodes 1000 --format json")]
    Idle(idle::IdleArgs),
    /// The proof of a full round: constraints, key, seconds, memory
    #[command(after_help = "Example:\n  convoke bench prove --trainers 64 --format json")]
    Prove(prove::ProveArgs),
    /// Sketches of a delta: seconds, and their share of what the memory can do
    #[command(after_help = "Example:\n  convoke bench sketch --parameters 10000000 --format json")]
    Sketch(sketch::SketchArgs),
}

/// Runs the command.
pub(crate) async fn run(command: BenchCommand, format: Format) -> anyhow::Result<()> {
    match command {
        BenchCommand::Round(args) => round::run(&args, format).await,
        BenchCommand::Idle(args) => idle::run(&args, format).await,
        BenchCommand::Prove(args) => prove::run(&args, format).await,
        BenchCommand::Sketch(args) => sketch::run(&args, format).await,
    }
}

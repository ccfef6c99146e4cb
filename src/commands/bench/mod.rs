//! `convoke bench`: whole-process benchmarks, with the figures that the documentation quotes.

mod round;
mod usage;

use clap::Subcommand;

use crate::output::Format;

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Rounds of an aggregator whose trainers don't train: time, bytes, processor, memory
    #[command(
        after_help = "Example:\n  convoke bench round --parameters 10000000 --trainers 16 --format json\n\n\
                      The aggregator is a process of its own; chain and trainers run in this one, on the same machine."
    )]
    Round(round::RoundArgs),
}

/// Runs the command.
pub(crate) async fn run(command: BenchCommand, format: Format) -> anyhow::Result<()> {
    match command {
        BenchCommand::Round(args) => round::run(&args, format).await,
    }
}

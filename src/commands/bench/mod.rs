//! `convoke bench`: whole-process benchmarks, with the figures that the documentation quotes.

mod aggregate;
mod compress;
mod contribution;
mod idle;
mod loopback;
mod prove;
mod round;
mod sketch;
mod stage;
mod train;
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
    /// Methods of valuing updates against exact Shapley values: order, evaluations, seconds
    #[command(
        after_help = "Example:\n  convoke bench contribution --players 8 --format json\n\n\
                      Real updates on the demo's images, of trainers of different quality."
    )]
    Contribution(contribution::ContributionArgs),
    /// Nodes that are enrolled and idle: the aggregator's memory for each, and processor
    #[command(after_help = "Example:\n  convoke bench idle --nodes 1000 --format json")]
    Idle(idle::IdleArgs),
    /// The proof of a full round: constraints, key, seconds, memory
    #[command(after_help = "Example:\n  convoke bench prove --trainers 64 --format json")]
    Prove(prove::ProveArgs),
    /// A codec of updates: bytes, seconds, and what is lost
    #[command(
        after_help = "Example:\n  convoke bench compress --codec top_k --parameters 10000000 --format json"
    )]
    Compress(compress::CompressArgs),
    /// Sketches of a delta: seconds, and their share of what the memory can do
    #[command(after_help = "Example:\n  convoke bench sketch --parameters 10000000 --format json")]
    Sketch(sketch::SketchArgs),
    /// Aggregation of many updates: seconds, and their share of what memory and processor can do
    #[command(
        after_help = "Example:\n  convoke bench aggregate --rule trimmed_mean --updates 32 --parameters 10000000 --format json"
    )]
    Aggregate(aggregate::AggregateArgs),
    /// Training steps of a model: examples or tokens a second, and their share of what the
    /// processor can multiply
    #[command(
        after_help = "Example:\n  convoke bench train --model cnn --device cpu --threads 2 --format json\n\n\
                      On made-up examples that are in memory already. `benches/peers/train.py` runs the same in PyTorch."
    )]
    Train(train::TrainArgs),
}

/// Runs the command.
pub(crate) async fn run(command: BenchCommand, format: Format) -> anyhow::Result<()> {
    match command {
        BenchCommand::Round(args) => round::run(&args, format).await,
        BenchCommand::Contribution(args) => contribution::run(args, format).await,
        BenchCommand::Idle(args) => idle::run(&args, format).await,
        BenchCommand::Prove(args) => prove::run(&args, format).await,
        BenchCommand::Compress(args) => compress::run(&args, format).await,
        BenchCommand::Sketch(args) => sketch::run(&args, format).await,
        BenchCommand::Aggregate(args) => aggregate::run(&args, format).await,
        BenchCommand::Train(args) => train::run(&args, format).await,
    }
}

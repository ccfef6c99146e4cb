//! One file a command. A command turns its arguments into a checked configuration, runs, and
//! prints what came of it.

pub(crate) mod aggregator;
pub(crate) mod bench;
pub(crate) mod chain;
pub(crate) mod data;
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod devnet;
pub(crate) mod evaluate;
pub(crate) mod model;
pub(crate) mod proofs;
pub(crate) mod rewards;
pub(crate) mod rules;
pub(crate) mod stake;
pub(crate) mod task;
pub(crate) mod train;
pub(crate) mod trainer;
pub(crate) mod validator;
pub(crate) mod verify;
pub(crate) mod wallet;
pub(crate) mod watch;

use anyhow::Context as _;

use crate::cli::{Cli, Command};

/// Runs the command.
pub(crate) fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(dispatch(cli));
    // A training thread may be in the middle of a step: nothing waits for it.
    runtime.shutdown_background();
    result
}

async fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let format = cli.format;
    match cli.command {
        Command::Demo(args) => demo::run(args, format).await,
        Command::Devnet(args) => devnet::run(args, format).await,
        Command::Aggregator(args) => aggregator::run(args, format).await,
        Command::Trainer(args) => trainer::run(args, format).await,
        Command::Validator(args) => validator::run(args, format).await,
        Command::Watch(args) => watch::run(args, format).await,
        Command::Task(command) => task::run(command, format).await,
        Command::Stake(command) => stake::run(command, format).await,
        Command::Rewards(command) => rewards::run(command, format).await,
        Command::Wallet(command) => wallet::run(command, format),
        Command::Chain(command) => chain::run(command, format).await,
        Command::Devices => devices::run(format),
        Command::Rules => rules::run(format),
        Command::Proofs(command) => proofs::run(command, format),
        Command::Verify(args) => verify::run(args, format).await,
        Command::Data(command) => data::run(&command, format),
        Command::Bench(command) => bench::run(command, format).await,
        Command::Model(command) => model::run(&command, format),
        Command::Train(args) => train::run(&args, format),
        Command::Evaluate(args) => evaluate::run(&args, format),
    }
}

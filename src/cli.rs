//! The command line as it is typed; each command checks its own arguments.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use convoke_client::{AddressBook, Chain};
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::TaskId;
use convoke_protocol::task::CodecKind;
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;

use crate::commands::{
    aggregator, bench, chain, data, demo, devnet, evaluate, model, proofs, rewards, stake, task,
    train, trainer, validator, verify, wallet, watch,
};
use crate::output::Format;

/// Federated learning that pays its trainers: train one model together, score every
/// contribution, settle on a chain.
#[derive(Debug, Parser)]
#[command(
    name = "convoke",
    version,
    propagate_version = true,
    after_help = "See it work, on this machine and without any key or chain:\n  convoke demo\n\n\
                  Take part in task 3 as a trainer:\n  convoke wallet new mine\n  \
                  convoke stake deposit --task 3 --role trainer --key mine\n  \
                  convoke trainer --aggregator HOST:PORT --task 3 --data ./mine --key mine"
)]
pub(crate) struct Cli {
    /// What to run
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Form of standard output
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// What is logged to standard error, such as `info` or `warn,convoke_trainer=debug`
    #[arg(long, global = true, value_name = "FILTER", env = "CONVOKE_LOG")]
    pub(crate) log: Option<String>,
}

/// Roles run until the task ends; everything else is done at once.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole federation on this machine: chain, aggregator, trainers, validators
    Demo(demo::DemoArgs),
    /// Run an embedded chain for development
    Devnet(devnet::DevnetArgs),
    /// Hold the rounds of one task together
    Aggregator(aggregator::AggregatorArgs),
    /// Train on private data and get paid for it
    Trainer(trainer::TrainerArgs),
    /// Score updates on held-out data and get paid for it
    Validator(validator::ValidatorArgs),
    /// Watch a task live
    Watch(watch::WatchArgs),
    /// Write, post and look after tasks
    #[command(subcommand)]
    Task(task::TaskCommand),
    /// Stake tokens for a role, delegate them, take them back
    #[command(subcommand)]
    Stake(stake::StakeCommand),
    /// See and claim pay
    #[command(subcommand)]
    Rewards(rewards::RewardsCommand),
    /// Make, take in and look at keys
    #[command(subcommand)]
    Wallet(wallet::WalletCommand),
    /// Deploy the contracts, send tokens, look at the chain
    #[command(subcommand)]
    Chain(chain::ChainCommand),
    /// Make and list the keys that rounds are proven with
    #[command(subcommand)]
    Proofs(proofs::ProofsCommand),
    /// List what there is to compute on
    #[command(after_help = "Example:\n  convoke devices --format json")]
    Devices,
    /// List the aggregation rules and server optimizers that a task can choose
    #[command(after_help = "Example:\n  convoke rules --format json")]
    Rules,
    /// Check a round from public data alone: proof, pay, sketches, step
    Verify(verify::VerifyArgs),
    /// Prepare data sets
    #[command(subcommand)]
    Data(data::DataCommand),
    /// Fetch base weights, look at them, and give models away
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Train a task's model on your own data, here alone, to see what it learns
    Train(train::TrainArgs),
    /// Measure a checkpoint on a data set
    Evaluate(evaluate::EvaluateArgs),
    /// Measure this program on this machine
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

/// Which deployment.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChainArgs {
    /// Address book: where the contracts are
    #[arg(
        id = "chain",
        long = "chain",
        value_name = "FILE",
        env = "CONVOKE_CHAIN",
        default_value = "convoke-chain.toml"
    )]
    pub(crate) file: PathBuf,
}

impl ChainArgs {
    /// The address book.
    pub(crate) fn book(&self) -> anyhow::Result<AddressBook> {
        Ok(AddressBook::load(&self.file)?)
    }

    /// A connection; without a wallet it only reads.
    pub(crate) async fn connect(&self, wallet: Option<&Wallet>) -> anyhow::Result<Chain> {
        let book = self.book()?;
        Chain::connect(&book, wallet)
            .await
            .with_context(|| format!("cannot use the chain at {}", book.rpc))
    }
}

/// Reads a task's number.
pub(crate) fn task_id(text: &str) -> Result<TaskId, String> {
    text.parse()
        .map(TaskId)
        .map_err(|_| "a task is named by its number, such as 3".to_owned())
}

/// Parses the name of a codec, as a task file has it.
pub(crate) fn codec(text: &str) -> Result<CodecKind, String> {
    CodecKind::deserialize(text.into_deserializer())
        .map_err(|error: serde::de::value::Error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_may_stand_behind_the_command() {
        let cli = Cli::try_parse_from(["convoke", "demo", "--format", "json", "--trainers", "4"]);
        let cli = cli.unwrap();
        assert_eq!(cli.format, Format::Json);
        let Command::Demo(demo) = cli.command else {
            panic!("{:?}", cli.command)
        };
        assert_eq!(demo.trainers, 4);
    }

    #[test]
    fn no_command_takes_a_secret_as_an_argument() {
        let wallet = [
            "convoke", "stake", "status", "--task", "1", "--secret", "00",
        ];
        assert!(Cli::try_parse_from(wallet).is_err());
    }
}

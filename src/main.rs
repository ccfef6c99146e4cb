//! `convoke`: federated learning that pays its trainers, from the command line.
//!
//! Arguments become a checked configuration, which runs one role or one transaction. Exit
//! codes: 0 done, 1 failed, 2 wrong usage, 3 a verification found something false, 130 interrupted.

mod address;
mod cli;
mod commands;
mod device;
mod failure;
mod keys;
mod live;
mod money;
mod output;
mod presets;
mod processes;
mod progress;
mod proof_keys;
mod session;
mod shutdown;
mod times;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = output::start_logging(cli.log.as_deref()) {
        return failure::report(&error);
    }
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

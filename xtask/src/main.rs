//! Developer commands: `cargo xtask <command>`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::Parser;

/// Developer commands of Convoke.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Xtask {
    /// Installs what the tests need and runs them all: Rust, Solidity, whole system.
    Test {
        /// Only tests whose names contain this (Rust tests).
        filter: Option<String>,
    },
    /// Recompiles the contracts and rewrites the committed artefacts.
    Contracts,
    /// Rewrites the frozen wire fixtures. A change of them is a change of the protocol.
    Bless,
}

fn main() -> anyhow::Result<()> {
    match Xtask::parse() {
        Xtask::Test { filter } => test(filter.as_deref()),
        Xtask::Contracts => {
            install_contract_tools()?;
            run(node("npm").args(["run", "build"]))
        }
        Xtask::Bless => {
            let args = ["test", "--locked", "--package", "convoke-protocol"];
            run(cargo().args(args).env("CONVOKE_BLESS", "1"))
        }
    }
}

fn test(filter: Option<&str>) -> anyhow::Result<()> {
    install_contract_tools()?;
    run(node("npx").args(["forge", "test", "--offline"]))?;
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--locked"]);
    run(tests.args(filter))
}

/// Compiler, test runner and a second chain for the contracts, as pinned in the lock file.
fn install_contract_tools() -> anyhow::Result<()> {
    if Command::new("npm").arg("--version").output().is_err() {
        install_node()?;
    }
    let installed = contracts().join("node_modules/.package-lock.json");
    let wanted = contracts().join("package-lock.json");
    if is_newer(&installed, &wanted) {
        return Ok(());
    }
    run(node("npm").args(["ci", "--no-audit", "--no-fund"]))
}

/// Node.js runs the Solidity compiler. On Debian and its kin it can be installed from here.
fn install_node() -> anyhow::Result<()> {
    let hint = "Node.js 18 or newer is needed for the contract tests: install `nodejs` and `npm`";
    if Command::new("apt-get").arg("--version").output().is_err() {
        bail!("{hint}");
    }
    run(Command::new("apt-get").args(["install", "--yes", "nodejs", "npm"])).context(hint)
}

fn is_newer(file: &Path, than: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|meta| meta.modified());
    match (modified(file), modified(than)) {
        (Ok(file), Ok(than)) => file >= than,
        _ => false,
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed: {status}");
    }
    Ok(())
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

fn node(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(contracts());
    command
}

fn contracts() -> PathBuf {
    root().join("contracts")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(1)
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

//! Developer commands: `cargo xtask <command>`.

mod tools;

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
    /// Static analysis of the contracts with Slither; any finding is an error.
    Slither,
    /// Compares wgpu with the CPU, on Mesa's software Vulkan where there is no GPU. Compiles for
    /// twenty minutes on two cores, and computes for seconds.
    TestWgpu,
    /// Type-checks the CUDA backend and the tests of GPUs; needs neither a GPU nor CUDA.
    CheckCuda,
    /// Rewrites the frozen wire fixtures. A change of them is a change of the protocol.
    Bless,
}

fn main() -> anyhow::Result<()> {
    match Xtask::parse() {
        Xtask::Test { filter } => test(filter.as_deref()),
        Xtask::Contracts => {
            tools::install_contract_tools()?;
            run(node("npm").args(["run", "build"]))
        }
        Xtask::Slither => {
            tools::install_contract_tools()?;
            slither()
        }
        Xtask::TestWgpu => test_wgpu(),
        Xtask::CheckCuda => check_cuda(),
        Xtask::Bless => {
            let args = ["test", "--locked", "--package", "convoke-protocol"];
            run(cargo().args(args).env("CONVOKE_BLESS", "1"))
        }
    }
}

fn test(filter: Option<&str>) -> anyhow::Result<()> {
    tools::install_contract_tools()?;
    run(node("npx").args(["forge", "test", "--offline"]))?;
    slither()?;
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--locked"]).args(filter);
    tests.env("CONVOKE_PYTHON", tools::install_transformers()?);
    tests.env("CONVOKE_TEST_WEIGHTS", tools::install_weights()?);
    run(&mut tests)
}

fn test_wgpu() -> anyhow::Result<()> {
    if !Path::new("/usr/share/vulkan/icd.d").is_dir() {
        let hint = "a Vulkan driver is needed: install `mesa-vulkan-drivers`, or your GPU's";
        tools::install_packages(&["mesa-vulkan-drivers"], hint)?;
    }
    let arguments = [
        "test",
        "--locked",
        "--package",
        "convoke-models",
        "--features",
        "wgpu",
        "--test",
        "gpu",
        "--",
        "--nocapture",
    ];
    // Trying out every variant of every kernel would take hours in software.
    run(cargo()
        .args(arguments)
        .env("CUBECL_AUTOTUNE_LEVEL", "minimal"))
}

fn check_cuda() -> anyhow::Result<()> {
    let arguments = [
        "check",
        "--locked",
        "--package",
        "convoke-models",
        "--features",
        "cuda",
        "--lib",
        "--test",
        "gpu",
    ];
    // Otherwise a build script fetches LLVM, which a type check does not need. Other build scripts
    // look at the variable, too: what they made for all else is left alone.
    let target = root().join("target").join("check-cuda");
    run(cargo()
        .args(arguments)
        .arg("--target-dir")
        .arg(target)
        .env("DOCS_RS", "1"))
}

/// Findings that stay are explained beside the code that they are about.
fn slither() -> anyhow::Result<()> {
    let program = tools::install_slither()?;
    // It asks forge to compile, through the compiler that everything else uses.
    let mut path = vec![contracts().join("node_modules/.bin")];
    path.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    run(Command::new(program)
        .current_dir(contracts())
        .env("PATH", std::env::join_paths(path)?)
        .arg("."))
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

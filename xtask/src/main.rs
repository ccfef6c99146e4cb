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
    /// Static analysis of the contracts with Slither; any finding is an error.
    Slither,
    /// Compares wgpu with the CPU, on Mesa's software Vulkan where there is no GPU. Compiles for half
    /// an hour, and computes for minutes.
    TestWgpu,
    /// Type-checks the CUDA backend; needs neither a GPU nor CUDA.
    CheckCuda,
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
        Xtask::Slither => {
            install_contract_tools()?;
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
    install_contract_tools()?;
    run(node("npx").args(["forge", "test", "--offline"]))?;
    slither()?;
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--locked"]);
    run(tests.args(filter))
}

fn test_wgpu() -> anyhow::Result<()> {
    if !Path::new("/usr/share/vulkan/icd.d").is_dir() {
        let hint = "a Vulkan driver is needed: install `mesa-vulkan-drivers`, or your GPU's";
        install_packages(&["mesa-vulkan-drivers"], hint)?;
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

/// Findings that stay are explained beside the code that they are about.
fn slither() -> anyhow::Result<()> {
    let program = install_slither()?;
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

/// Slither in an environment of its own, as pinned in the requirements.
fn install_slither() -> anyhow::Result<PathBuf> {
    let environment = contracts().join(".venv");
    let (program, stamp) = (
        environment.join("bin/slither"),
        environment.join("pyvenv.cfg"),
    );
    let wanted = contracts().join("tools/requirements.txt");
    if program.exists() && is_newer(&stamp, &wanted) {
        return Ok(program);
    }
    let hint = "Slither needs Python 3.9 or newer with its venv module: install `python3-venv`";
    let make = || {
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&environment))
    };
    if make().is_err() {
        install_packages(&["python3", "python3-venv"], hint)?;
        make().context(hint)?;
    }
    run(Command::new(environment.join("bin/pip"))
        .args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(&wanted))?;
    Ok(program)
}

/// Node.js runs the Solidity compiler.
fn install_node() -> anyhow::Result<()> {
    let hint = "Node.js 18 or newer is needed for the contract tests: install `nodejs` and `npm`";
    install_packages(&["nodejs", "npm"], hint)
}

/// On Debian and its kin packages can be installed from here; elsewhere `hint` says what to do.
fn install_packages(packages: &[&str], hint: &'static str) -> anyhow::Result<()> {
    if Command::new("apt-get").arg("--version").output().is_err() {
        bail!("{hint}");
    }
    run(Command::new("apt-get")
        .args(["install", "--yes"])
        .args(packages))
    .context(hint)
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

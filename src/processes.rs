//! Child processes of this very program, each with a log of its own. None outlives its parent:
//! they are stopped at the end, killed if they do not listen, and stop by themselves when their
//! standard input ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;

use crate::failure::hinted;

/// A child that listens on something says so within this time.
const LISTENING_TIMEOUT: Duration = Duration::from_secs(30);
/// A child told to stop has so long before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// Lines of a log that are quoted when its process died.
const TAIL_LINES: usize = 12;

/// The children.
pub(crate) struct Processes {
    logs: PathBuf,
    running: BTreeMap<String, Running>,
    exits: JoinSet<(String, std::io::Result<ExitStatus>)>,
}

/// A child.
struct Running {
    /// As long as it is held, the child goes on.
    _stdin: ChildStdin,
    id: u32,
}

impl Processes {
    /// No children yet; logs go into `logs`.
    pub(crate) fn new(logs: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        Ok(Self {
            logs,
            running: BTreeMap::new(),
            exits: JoinSet::new(),
        })
    }

    /// Starts `convoke ARGUMENTS`, everything it says going to its log.
    pub(crate) fn start(&mut self, name: &str, arguments: Vec<OsString>) -> anyhow::Result<()> {
        let log = self.log_file(name)?;
        let copy = log.try_clone().context("cannot share a log file")?;
        let child = self.spawn(name, arguments, Stdio::from(copy), log)?;
        self.keep(name, child)
    }

    /// Starts `convoke ARGUMENTS` and waits until it listens; gives its address.
    pub(crate) async fn start_listening(
        &mut self,
        name: &str,
        arguments: Vec<OsString>,
    ) -> anyhow::Result<String> {
        let log = self.log_file(name)?;
        let mut child = self.spawn(name, arguments, Stdio::piped(), log)?;
        let stdout = child
            .stdout
            .take()
            .context("a child without standard output")?;
        self.keep(name, child)?;
        match tokio::time::timeout(LISTENING_TIMEOUT, listening(stdout)).await {
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(self.death(name, "ended before it was listening")),
            Err(_) => Err(self.death(name, "does not listen")),
        }
    }

    /// Waits for the next child to end, and gives its name.
    ///
    /// # Errors
    /// If it ended badly, with the end of its log.
    pub(crate) async fn next_exit(&mut self) -> anyhow::Result<String> {
        let Some(exit) = self.exits.join_next().await else {
            return std::future::pending().await;
        };
        let (name, status) = exit.context("a child is not watched any more")?;
        self.running.remove(&name);
        match status {
            Ok(status) if status.success() => Ok(name),
            Ok(status) => Err(self.death(&name, &format!("died ({status})"))),
            Err(error) => bail!("cannot wait for {name}: {error}"),
        }
    }

    /// The system's number of a running child.
    pub(crate) fn id(&self, name: &str) -> Option<u32> {
        self.running.get(name).map(|child| child.id)
    }

    /// Whether a child is running.
    pub(crate) fn is_running(&self, name: &str) -> bool {
        self.running.contains_key(name)
    }

    /// Stops all children: asks first, then kills.
    pub(crate) async fn stop(&mut self) {
        self.running.clear();
        let all = async { while self.exits.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, all).await.is_err() {
            // Dropping the tasks drops the children, which kills them.
            self.exits.shutdown().await;
        }
    }

    /// The log of a child.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    fn log_file(&self, name: &str) -> anyhow::Result<File> {
        let path = self.log(name);
        File::create(&path).with_context(|| format!("cannot create {}", path.display()))
    }

    fn spawn(
        &self,
        name: &str,
        arguments: Vec<OsString>,
        stdout: Stdio,
        stderr: File,
    ) -> anyhow::Result<Child> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        Command::new(program)
            .args(arguments)
            .args(["--format", "json", "--log", "info", "--stop-with-stdin"])
            .stdin(Stdio::piped())
            .stdout(stdout)
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start the process of {name}"))
    }

    fn keep(&mut self, name: &str, mut child: Child) -> anyhow::Result<()> {
        let stdin = child
            .stdin
            .take()
            .context("a child without standard input")?;
        let id = child.id().context("a child without a number")?;
        let running = Running { _stdin: stdin, id };
        self.running.insert(name.to_owned(), running);
        let name = name.to_owned();
        self.exits.spawn(async move { (name, child.wait().await) });
        Ok(())
    }

    /// An error that quotes the end of the child's log.
    fn death(&self, name: &str, what: &str) -> anyhow::Error {
        let path = self.log(name);
        let error = match tail(&path) {
            tail if tail.is_empty() => anyhow::anyhow!("{name} {what} and left no log"),
            tail => anyhow::anyhow!("{name} {what}; the end of its log:\n{tail}"),
        };
        hinted(error, format!("all of its log is in {}", path.display()))
    }
}

/// The address of the first `listening` event; the rest of the output is read and dropped, so
/// that the child never blocks on a full pipe.
async fn listening(stdout: ChildStdout) -> Option<String> {
    let mut lines = BufReader::new(stdout).lines();
    let address = loop {
        let line = lines.next_line().await.ok()??;
        if let Some(address) = address_of(&line) {
            break address;
        }
    };
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Some(address)
}

fn address_of(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line).ok()?;
    let is_listening = event.get("event")? == "listening";
    is_listening
        .then(|| event.get("address")?.as_str().map(str::to_owned))
        .flatten()
}

fn tail(path: &Path) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    let quoted: Vec<String> = lines[from..]
        .iter()
        .map(|line| format!("  {line}"))
        .collect();
    quoted.join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_a_listening_event_has_an_address() {
        let line = r#"{"event":"listening","address":"127.0.0.1:4000"}"#;
        assert_eq!(address_of(line).as_deref(), Some("127.0.0.1:4000"));
        assert_eq!(address_of(r#"{"event":"stopped"}"#), None);
        assert_eq!(address_of("listening on 127.0.0.1:4000"), None);
    }

    #[test]
    fn a_tail_is_the_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        assert_eq!(tail(&path), "");
        let text: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        fs::write(&path, text.join("\n")).unwrap();
        assert_eq!(tail(&path).lines().count(), TAIL_LINES);
        assert!(tail(&path).ends_with("39"));
    }
}

//! When to stop: Ctrl-C, SIGTERM, or, for a child of the demo, the end of standard input.

use std::io::Read as _;
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

/// Stopping with a parent.
#[derive(Debug, Args)]
pub(crate) struct ParentArgs {
    /// Stop when standard input ends, that is, when the parent process is gone
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

impl ParentArgs {
    /// A token that is cancelled by signals, and by the end of standard input if asked for.
    pub(crate) fn token(&self) -> CancellationToken {
        let token = on_signals();
        if self.stop_with_stdin {
            let token = token.clone();
            // A thread of its own: a blocked read of standard input would keep the runtime alive.
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                let mut stdin = std::io::stdin().lock();
                while matches!(stdin.read(&mut buffer), Ok(1..)) {}
                token.cancel();
            });
        }
        token
    }
}

/// Connections say goodbye from tasks of their own, after their owner has let go of them. Without
/// this pause the process would be gone first, and the other end would wait for a time-out.
const FAREWELL: Duration = Duration::from_millis(100);

/// Waits until goodbyes are said.
pub(crate) async fn farewell() {
    tokio::time::sleep(FAREWELL).await;
}

/// A token that Ctrl-C and SIGTERM cancel. A second Ctrl-C ends the process at once.
pub(crate) fn on_signals() -> CancellationToken {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        signalled().await;
        cancelled.cancel();
        signalled().await;
        std::process::exit(130);
    });
    token
}

#[cfg(unix)]
async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

#[cfg(not(unix))]
async fn signalled() {
    drop(tokio::signal::ctrl_c().await);
}

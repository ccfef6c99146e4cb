//! Time, as the service reads it. The state machine itself has no clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use convoke_protocol::ids::{Millis, RoundId};
use convoke_protocol::message::PhaseName;
use tokio::time::Instant;

/// Milliseconds since the Unix epoch.
pub(super) fn now() -> Millis {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

/// Returns at the instant, or never if there is none.
pub(super) async fn until(deadline: Option<Millis>) {
    match deadline {
        // A millisecond late, so that the tick finds the deadline reached.
        Some(at) => {
            tokio::time::sleep(Duration::from_millis(at.0.saturating_sub(now().0) + 1)).await;
        }
        None => std::future::pending().await,
    }
}

/// Returns at the instant, or never if there is none.
pub(super) async fn until_instant(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// In builds with debug assertions: waits for ever in the phase named by `CONVOKE_PAUSE_AT`
/// (`filter:2` is the filter phase of round 2), so that a test can kill the process in it.
pub(super) async fn pause_for_tests(round: RoundId, phase: PhaseName) {
    if cfg!(debug_assertions)
        && std::env::var("CONVOKE_PAUSE_AT").is_ok_and(|at| at == format!("{phase}:{round}"))
    {
        tracing::warn!(%phase, round = round.0, "paused for a test");
        std::future::pending::<()>().await;
    }
}

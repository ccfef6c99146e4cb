//! Patience with the chain.

use std::time::Duration;

use crate::ChainError;
use backon::{ExponentialBuilder, Retryable as _};

/// Tries until the chain answers and its windows have closed: every tenth of a second at
/// first, every half minute in the end, for as long as it takes.
///
/// # Errors
/// What the chain refuses for good.
pub async fn patiently<T, F: Future<Output = Result<T, ChainError>>>(
    call: impl FnMut() -> F,
) -> Result<T, ChainError> {
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(30))
        .with_jitter()
        .without_max_times();
    call.retry(backoff)
        .sleep(tokio::time::sleep)
        .when(ChainError::retryable)
        .notify(|error, after| tracing::warn!(%error, ?after, "the chain is asked again"))
        .await
}

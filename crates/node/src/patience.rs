//! Patience with the chain.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use convoke_client::ChainError;

/// Tries until the chain answers and its windows have closed: every quarter of a second at
/// first, every half minute in the end, for as long as it takes.
///
/// # Errors
/// What the chain refuses for good.
pub async fn patiently<T, F: Future<Output = Result<T, ChainError>>>(
    call: impl FnMut() -> F,
) -> Result<T, ChainError> {
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(30))
        .with_jitter()
        .without_max_times();
    call.retry(backoff)
        .sleep(tokio::time::sleep)
        .when(ChainError::retryable)
        .notify(|error, after| tracing::info!(%error, ?after, "the chain is asked again"))
        .await
}

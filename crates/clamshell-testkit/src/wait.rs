//! Waiting for a condition, with a deadline that tells what was seen last.

use std::{fmt::Debug, future::Future, time::Duration};

/// Asks `look` until it gives a value; panics with what it saw last when `limit` is over.
///
/// # Panics
/// When the condition does not come true in time.
pub async fn eventually<T, S, F>(what: &str, limit: Duration, mut look: F) -> T
where
    S: Debug,
    F: AsyncFnMut() -> Result<T, S>,
{
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) => {
                assert!(
                    tokio::time::Instant::now() < deadline,
                    "{what}: not within {limit:?}; last seen: {seen:?}"
                );
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Awaits a future that must end within `limit`.
///
/// # Panics
/// When it does not.
pub async fn within<F: Future>(what: &str, limit: Duration, future: F) -> F::Output {
    match tokio::time::timeout(limit, future).await {
        Ok(output) => output,
        Err(_) => unreachable!("{what}: not within {limit:?}"),
    }
}

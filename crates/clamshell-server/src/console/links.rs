//! One-time links: how they are looked up.
//!
//! A link has 256 random bits, so nobody guesses one and nobody is locked out for trying. Whoever tries takes turns with
//! others, in the order in which they came: a program that tries without end makes a person wait for milliseconds and the
//! store for nothing else.

use std::time::Duration;

use clamshell_store::Store;
use tokio::sync::Semaphore;

use super::{ConsoleError, hash_of};
use crate::http::ApiError;

/// Looked up at once; the store has more readers than that.
const AT_ONCE_MAX: usize = 2;

/// Others wait so long for their turn.
const TURN_PATIENCE: Duration = Duration::from_secs(10);

/// The turns.
#[derive(Debug)]
pub(crate) struct Links(Semaphore);

impl Default for Links {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE_MAX))
    }
}

impl Links {
    /// Whom a link would sign in.
    ///
    /// # Errors
    /// [`ConsoleError::Busy`], and of the store.
    pub(crate) async fn user(
        &self,
        store: &Store,
        link: &str,
        now_ms: u64,
    ) -> Result<Option<String>, ApiError> {
        let Some(hash) = hash_of(link) else { return Ok(None) };
        let _turn = self.turn().await?;
        Ok(store.console_link_user(&hash, now_ms).await?)
    }

    /// The same, and the link is used up.
    ///
    /// # Errors
    /// As [`Links::user`].
    pub(crate) async fn take(
        &self,
        store: &Store,
        link: &str,
        now_ms: u64,
    ) -> Result<Option<String>, ApiError> {
        let Some(hash) = hash_of(link) else { return Ok(None) };
        let _turn = self.turn().await?;
        Ok(store.take_console_link(&hash, now_ms).await?)
    }

    async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, ConsoleError> {
        let turn = tokio::time::timeout(TURN_PATIENCE, self.0.acquire()).await;
        turn.map_err(|_| ConsoleError::Busy)?.map_err(|_| ConsoleError::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_first_is_looked_up_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db")).await.unwrap();
        let links = Links::default();
        let token = crate::console::new_token(&clamshell_domain::SystemEntropy);
        let hash = hash_of(&token).unwrap();
        assert!(store.insert_console_link(&hash, "root", 10, 0).await.unwrap());
        let turns = (links.turn().await.unwrap(), links.turn().await.unwrap());
        assert_eq!(links.user(&store, "no link", 5).await.unwrap(), None, "costs nothing");
        // One goes, and who waits is next.
        let waiting = links.take(&store, &token, 5);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(turns.0);
        assert!(links.0.try_acquire().is_err(), "nobody overtakes");
        assert_eq!(waiting.await.unwrap().as_deref(), Some("root"));
        assert_eq!(links.user(&store, &token, 5).await.unwrap(), None);
    }
}

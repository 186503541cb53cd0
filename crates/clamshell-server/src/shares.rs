//! Connections that were opened by share links: each ends when its link is over, is removed, or is not backed by its maker
//! any more.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clamshell_store::ShareRecord;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{app::App, http};

/// Links that are over are removed from the store at most so late.
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// Links in use. Bounded by the links there are; those that are over go by themselves.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    used: Mutex<HashMap<String, Used>>,
    opened: Notify,
}

#[derive(Debug)]
struct Used {
    share: Arc<ShareRecord>,
    ended: CancellationToken,
}

impl Shares {
    /// A connection of this link: cancelled when it ends. The caller looks *afterwards* whether the link is still there.
    pub(crate) fn open(&self, share: &Arc<ShareRecord>) -> CancellationToken {
        let mut used = self.lock();
        let entry = used
            .entry(share.share_id.clone())
            .or_insert_with(|| Used { share: Arc::clone(share), ended: CancellationToken::new() });
        self.opened.notify_one();
        entry.ended.child_token()
    }

    /// Ends all connections of a link.
    pub(crate) fn close(&self, share_id: &str) {
        if let Some(used) = self.lock().remove(share_id) {
            used.ended.cancel();
        }
    }

    /// Ends those that are over, and gives the end of the next one.
    fn close_over(&self, now_ms: u64) -> Option<u64> {
        let mut used = self.lock();
        used.retain(|_, used| {
            let lives = used.share.expires_at_ms > now_ms;
            if !lives {
                used.ended.cancel();
            }
            lives
        });
        used.values().map(|used| used.share.expires_at_ms).min()
    }

    fn all(&self) -> Vec<Arc<ShareRecord>> {
        self.lock().values().map(|used| Arc::clone(&used.share)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Used>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends what is over until the server shuts down.
pub(crate) async fn keep_tidy(app: Arc<App>) {
    let mut policies = app.store.watch_changes();
    loop {
        let now_ms = app.now_ms();
        let next = app.shares.close_over(now_ms);
        if let Err(error) = app.store.remove_expired_shares(now_ms).await {
            tracing::warn!(error = http::chain(&error), "share links that are over stay");
        }
        let wait = next.map_or(TIDY_EVERY, |end| Duration::from_millis(end.saturating_sub(now_ms)));
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(wait.min(TIDY_EVERY)) => {}
            () = app.shares.opened.notified() => {}
            Ok(()) = policies.changed() => close_unbacked(&app).await,
        }
    }
}

/// Policies, users or runtimes have changed: a link does not outlive the rights of its maker, nor its session.
async fn close_unbacked(app: &Arc<App>) {
    for share in app.shares.all() {
        match http::is_backed(app, &share).await {
            Ok(true) => {}
            Ok(false) => app.shares.close(&share.share_id),
            Err(error) => {
                tracing::warn!(error = http::chain(&error), "rights behind a share link are not known")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamshell_domain::{
        EndpointName, RuntimeId, RuntimeName, SessionId, SessionKey, ShellId, SystemEntropy,
    };
    use clamshell_store::ShareAccess;

    fn share(share_id: &str, expires_at_ms: u64) -> Arc<ShareRecord> {
        Arc::new(ShareRecord {
            share_id: share_id.to_owned(),
            key: SessionKey {
                runtime_id: RuntimeId::generate(&RuntimeName::parse("one").unwrap(), &SystemEntropy),
                endpoint: EndpointName::default_endpoint(),
                session_id: SessionId::parse("s".repeat(40)).unwrap(),
            },
            shell_id: ShellId::parse("build").unwrap(),
            access: ShareAccess::Watch,
            made_by: "root".to_owned(),
            created_at_ms: 0,
            expires_at_ms,
        })
    }

    #[test]
    fn connections_end_with_their_link() {
        let shares = Shares::default();
        let (soon, late) = (share("soon", 10), share("late", 20));
        let (one, two, other) = (shares.open(&soon), shares.open(&soon), shares.open(&late));
        let ended = |all: [&CancellationToken; 3]| all.map(CancellationToken::is_cancelled);
        assert_eq!(shares.close_over(9), Some(10));
        assert_eq!(ended([&one, &two, &other]), [false; 3]);
        assert_eq!(shares.close_over(10), Some(20));
        assert_eq!(ended([&one, &two, &other]), [true, true, false]);
        shares.close("late");
        assert!(other.is_cancelled());
        assert_eq!(shares.close_over(0), None);
    }
}

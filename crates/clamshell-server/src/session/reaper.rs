//! What the time does to sessions: idle, maximum lifetime, removal of forgotten storage.

use std::{collections::HashMap, sync::Arc, time::Duration};

use clamshell_domain::{Phase, SessionKey};

use super::{Registry, StopError};

/// How often the clock is looked at. Timers of sessions count in minutes.
const TICK: Duration = Duration::from_secs(1);

/// Activity is written to the store at most so often per session: after a crash an idle timer may run this much
/// short, never long.
const TOUCH_MS: u64 = 10_000;

impl Registry {
    /// Runs until the server shuts down, then writes down the newest activity once more. Has the disk watched and accounts
    /// kept, too.
    pub(crate) async fn reap(self: Arc<Self>) {
        self.tasks.spawn(Arc::clone(&self).watch_disk());
        self.tasks.spawn(Arc::clone(&self).keep_accounts());
        let mut touched: HashMap<SessionKey, u64> = HashMap::new();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.shutdown.cancelled() => {
                    self.touch(&mut touched, 0).await;
                    return;
                }
            }
            self.look_once();
            self.touch(&mut touched, TOUCH_MS).await;
        }
    }

    fn look_once(self: &Arc<Self>) {
        let now_ms = self.now_ms();
        for session in self.list() {
            let (due, record) = {
                let state = session.lock();
                (state.lifecycle.due(now_ms), state.record.clone())
            };
            if let Some(reason) = due {
                let registry = Arc::clone(self);
                self.tasks.spawn(async move {
                    match registry.stop(&session, reason).await {
                        Ok(()) => tracing::info!(session = %session.key().session_id, ?reason, "session stopped"),
                        Err(StopError::Conflict | StopError::NotRunning) => {}
                        Err(error) => tracing::error!(session = %session.key().session_id, %error, "session did not stop"),
                    }
                });
            } else if record.phase == Phase::Stopped
                && now_ms > record.last_activity_at_ms.saturating_add(self.storage_retention_ms)
            {
                let registry = Arc::clone(self);
                self.tasks.spawn(async move {
                    match registry.remove(&session).await {
                        Ok(()) => {
                            tracing::info!(session = %session.key().session_id, "storage of a forgotten session removed");
                        }
                        Err(StopError::Conflict | StopError::NotRunning) => {}
                        Err(error) => tracing::error!(session = %session.key().session_id, %error, "session was not removed"),
                    }
                });
            }
        }
    }

    async fn touch(&self, touched: &mut HashMap<SessionKey, u64>, after_ms: u64) {
        let mut batch = Vec::new();
        for session in self.list() {
            let last = session.record().last_activity_at_ms;
            let known = touched.get(session.key()).copied().unwrap_or(0);
            if last > known.saturating_add(after_ms) {
                batch.push((session.key().clone(), last));
            }
        }
        if batch.is_empty() {
            return;
        }
        if let Err(error) = self.store.touch_sessions(&batch).await {
            tracing::warn!(%error, "activity could not be written");
            return;
        }
        touched.extend(batch);
        let live: std::collections::HashSet<_> =
            self.list().iter().map(|session| session.key().clone()).collect();
        touched.retain(|key, _| live.contains(key));
    }

    /// What is left to live for a stopped session's storage, milliseconds since 1970.
    pub(crate) fn storage_removed_at_ms(&self, last_activity_ms: u64) -> u64 {
        last_activity_ms.saturating_add(self.storage_retention_ms)
    }
}

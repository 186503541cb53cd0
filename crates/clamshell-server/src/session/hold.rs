//! Calls that come while their session is being made, or ends by itself, wait for it a little.
//!
//! AWS answers them with RetryableConflictException at once, and so does this server when it takes longer: a caller with few
//! retries would use them all up on one start. Who meets a stop that somebody asked for is told at once.

use std::{sync::Arc, time::Duration};

use clamshell_domain::{Phase, Runtime, SessionKey, StopReason};
use tokio::time::Instant;

use super::{Call, CallError, Registry, Session};

/// How long a call waits: most sessions are made in far less, and clients wait longer than that between two retries.
const HOLD: Duration = Duration::from_secs(2);

/// How often a session is looked for whose row is being written at this moment.
const LOOK: Duration = Duration::from_millis(10);

impl Registry {
    /// A call that needs the session's compute: makes session and compute when they are missing. While they are being
    /// made the first caller waits for as long as it takes and the others for [`HOLD`].
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn call(
        self: &Arc<Self>,
        key: SessionKey,
        runtime: Arc<Runtime>,
    ) -> Result<Call, CallError> {
        let deadline = Instant::now() + HOLD;
        loop {
            match self.call_now(&key, &runtime).await {
                Err(CallError::Conflict) if self.was_made(&key, deadline).await => {}
                answer => return answer,
            }
        }
    }

    /// Waits until a session is not being made any more. `false` when that does not happen in time, or when it is
    /// something else that conflicts.
    async fn was_made(&self, key: &SessionKey, deadline: Instant) -> bool {
        let wait = async {
            match self.get(key) {
                Some(session) if session.is_being_made() => session.made().await,
                Some(session) if session.ends_by_itself() => session.ended().await,
                // Its row is being written, or the answer is out of date by now. Never at full speed.
                _ => tokio::time::sleep(LOOK).await,
            }
            let is_stopped = |session: &Arc<Session>| session.lock().lifecycle.phase() == Phase::Stopping;
            self.get(key).is_none_or(|session| !is_stopped(&session) || session.ends_by_itself())
        };
        tokio::select! {
            made = tokio::time::timeout_at(deadline, wait) => made.unwrap_or(false),
            () = self.shutdown.cancelled() => false,
        }
    }
}

impl Session {
    fn is_being_made(&self) -> bool {
        self.lock().lifecycle.phase() == Phase::Provisioning
    }

    /// Its compute is being taken away without anybody having asked for it: its agent or its sandbox ended, a moment ago
    /// perhaps, when the reason is not noted yet.
    fn ends_by_itself(&self) -> bool {
        let state = self.lock();
        let by_itself = matches!(
            state.record.stop_reason,
            None | Some(StopReason::AgentExited | StopReason::Unhealthy | StopReason::Lost)
        );
        state.lifecycle.phase() == Phase::Stopping && by_itself
    }

    /// Resolves once nothing of the compute is left; then the next caller makes a new one.
    async fn ended(&self) {
        let mut changes = self.changed.subscribe();
        while self.ends_by_itself() && changes.changed().await.is_ok() {}
    }

    /// Resolves once it runs, or could not be made; then the next caller tries again.
    async fn made(&self) {
        let mut changes = self.changed.subscribe();
        while self.is_being_made() && changes.changed().await.is_ok() {}
    }
}

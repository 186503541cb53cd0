//! What happens to sessions when their runtime changes or goes: all of them are removed, or lose their workspace.

use std::{sync::Arc, time::Duration};

use clamshell_domain::{Artifact, EndpointName, Phase, RuntimeId};

use super::{CallError, Registry, Session, StopError, registry::private_folder};

/// Sessions removed at once: ending one waits for its programs, removing its files for the disk.
const REMOVE_AT_ONCE: usize = 16;

/// How long sessions that are just being made or ended are waited for: longer than either takes.
const REMOVE_WITHIN: Duration = Duration::from_secs(60);

/// How often such a session is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Registry {
    /// Stops and removes every session of a runtime, or of one endpoint of it, with their storage.
    ///
    /// # Errors
    /// What is in the way, for the log.
    pub(crate) async fn remove_all(
        self: &Arc<Self>,
        runtime_id: &RuntimeId,
        endpoint: Option<&EndpointName>,
    ) -> Result<(), String> {
        let is_meant = |session: &Arc<Session>| {
            let key = session.key();
            key.runtime_id == *runtime_id && endpoint.is_none_or(|endpoint| *endpoint == key.endpoint)
        };
        let sessions: Vec<_> = self.list().into_iter().filter(is_meant).collect();
        for group in sessions.chunks(REMOVE_AT_ONCE) {
            let removed = group.iter().map(|session| self.remove_patiently(session));
            futures_util::future::try_join_all(removed).await?;
        }
        Ok(())
    }

    async fn remove_patiently(self: &Arc<Self>, session: &Arc<Session>) -> Result<(), String> {
        let deadline = tokio::time::Instant::now() + REMOVE_WITHIN;
        loop {
            match self.remove(session).await {
                Ok(()) => return Ok(()),
                // Somebody else removed it.
                Err(_) if self.get(session.key()).is_none() => return Ok(()),
                Err(StopError::Conflict) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// What all sessions, and the one made ahead, are or were last made of.
    pub(crate) fn artifacts(&self) -> Vec<Artifact> {
        let sessions = self.list().into_iter().map(|session| session.runtime().artifact.clone());
        sessions.chain(self.standby_artifact()).collect()
    }

    /// Whether a session has a compute of this version, or is about to.
    pub(crate) fn has_compute_of(&self, runtime_id: &RuntimeId, version: u32) -> bool {
        self.list().iter().any(|session| {
            let record = session.record();
            record.key.runtime_id == *runtime_id
                && record.phase != Phase::Stopped
                && session.runtime().version == version
        })
    }

    /// Takes the workspace away from a session that is about to start with another version than it had, unless the
    /// configuration keeps it. Before the row says so: after a crash it is done again.
    pub(super) fn wipe_for_new_version(&self, session: &Session) -> Result<(), CallError> {
        let (storage_id, is_new_version) = {
            let state = session.lock();
            (state.record.storage_id.clone(), state.record.runtime_version != state.runtime.version)
        };
        if self.keep_workspace || !is_new_version {
            return Ok(());
        }
        // One rename, so that it is there whole or not at all; the driver empties the trash.
        let target = self.trash_dir.join(format!("{storage_id}-workspace-{}", self.now_ms()));
        let moved = private_folder(&self.trash_dir)
            .and_then(|()| std::fs::rename(session.folder().join("workspace"), target));
        match moved {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(CallError::StartFailed { reason: format!("old workspace: {error}") })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

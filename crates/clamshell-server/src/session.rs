//! Sessions: one [`Session`] per (runtime, endpoint, session id), found through the [`Registry`].
//!
//! The life cycle is `clamshell_domain::Lifecycle`; this module feeds it and does what it says. Steps that take time
//! (making and ending a sandbox) run in tasks of their own, so that a client that hangs up half-way
//! leaves nothing half-done. The row in the store is written before anybody is told.

mod accounting;
mod agent;
mod claims;
mod credentials;
mod disk;
mod hold;
mod nameless;
mod provision;
mod reaper;
mod registry;
mod removal;
mod shells;
mod standby;
pub(crate) mod tree;
mod write_back;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};

use clamshell_domain::{
    IdRange, Lifecycle, Phase, Region, Runtime, Sandbox, SandboxDriver, SandboxSpec, SessionKey,
    SessionRecord, SessionUsage, StorageId, UsageMeter,
};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use agent::{AgentAnswer, AgentBody, AgentError, AgentHandle, missing_network};
pub(crate) use claims::{Claim, ClaimError, Writer};
pub(crate) use disk::room as disk_room;
pub(crate) use registry::{Registry, RegistryParts};
pub(crate) use shells::{ShellEnd, ShellState, ShellView};

use crate::{events::Hints, guest::GuestAddress};

/// Names of shells beyond which those of shells that are gone are forgotten: a sandbox keeps fewer ended shells.
const TITLES_MANY: usize = 64;

/// Names of shells beyond which a new shell gets none: a sandbox may not say which ones are gone.
const TITLES_MAX: usize = 1024;

/// A call cannot be served by a session.
#[derive(Debug, Error)]
pub(crate) enum CallError {
    /// It is being made or ended.
    #[error("session operation in progress")]
    Conflict,
    /// Its compute did not come up.
    #[error("session could not be started: {reason}")]
    StartFailed {
        /// For logs; `image` problems are the caller's to mend.
        reason: String,
    },
    /// No ids or storage for one more session.
    #[error("no room for another session")]
    Quota,
    /// The store refused.
    #[error("session could not be stored")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The server is shutting down.
    #[error("server is shutting down")]
    ShuttingDown,
}

/// A session cannot be stopped or removed.
#[derive(Debug, Error)]
pub(crate) enum StopError {
    /// No such session, or nothing of it runs.
    #[error("session is not running")]
    NotRunning,
    /// It is being made or ended.
    #[error("session operation in progress")]
    Conflict,
    /// The sandbox did not go away.
    #[error("session could not be stopped: {reason}")]
    Failed {
        /// Why.
        reason: String,
    },
}

/// A live compute.
#[derive(Debug, Clone)]
pub(crate) struct Compute {
    /// The sandbox.
    pub(crate) sandbox: Arc<Sandbox>,
    /// Its guest.
    pub(crate) guest: GuestAddress,
    /// What its image puts into the environment of commands.
    pub(crate) environment: Arc<Vec<(String, String)>>,
    /// The agent that it hosts, if its runtime has one.
    pub(crate) agent: Option<Arc<agent::Agent>>,
    /// Cancelled when the compute ends; what hangs on it closes.
    pub(crate) ended: CancellationToken,
}

struct State {
    lifecycle: Lifecycle,
    record: SessionRecord,
    runtime: Arc<Runtime>,
    compute: Option<Compute>,
    /// Counts computes, so that a call of an old one never counts for a new one.
    generation: u64,
    /// Adds up what its computes use.
    meter: UsageMeter,
    /// As it was read or written last.
    stored_usage: SessionUsage,
    /// What anybody is told.
    told_usage: SessionUsage,
    account: accounting::Account,
}

/// One session. Its state is behind one lock that is never held across an await.
pub(crate) struct Session {
    key: SessionKey,
    session_dir: PathBuf,
    driver: Arc<dyn SandboxDriver>,
    state: Mutex<State>,
    /// Counts changes; waiters look again after each.
    changed: watch::Sender<u64>,
    claims: claims::Claims,
    /// Names that people gave to shells, as stored. Only shells that are there get one.
    titles: Mutex<BTreeMap<String, String>>,
    hints: Hints,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Session {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Its name.
    pub(crate) fn key(&self) -> &SessionKey {
        &self.key
    }

    /// The row as it is now, with activity up to date.
    pub(crate) fn record(&self) -> SessionRecord {
        let state = self.lock();
        let mut record = state.record.clone();
        // A row read at start says more than a life cycle that has not been told yet.
        record.phase = match state.lifecycle.phase() {
            Phase::Stopped => record.phase,
            phase => phase,
        };
        record.last_activity_at_ms = record.last_activity_at_ms.max(state.lifecycle.last_activity_ms());
        record
    }

    /// The row as it was read or written last.
    fn record_as_stored(&self) -> SessionRecord {
        self.lock().record.clone()
    }

    /// The runtime version that its present or latest compute has.
    pub(crate) fn runtime(&self) -> Arc<Runtime> {
        Arc::clone(&self.lock().runtime)
    }

    /// Calls being served, and when it idles out and ends, milliseconds since 1970.
    pub(crate) fn timers(&self) -> (u32, u64, u64) {
        let state = self.lock();
        (state.lifecycle.calls(), state.lifecycle.idles_at_ms(), state.lifecycle.ends_at_ms())
    }

    /// The live compute, if there is one. Asking keeps nothing alive.
    pub(crate) fn compute(&self) -> Option<Compute> {
        self.lock().compute.clone()
    }

    /// Driver of its sandbox.
    pub(crate) fn driver(&self) -> &Arc<dyn SandboxDriver> {
        &self.driver
    }

    /// Something counted as activity happened.
    pub(crate) fn activity(&self, now_ms: u64) {
        self.lock().lifecycle.activity(now_ms);
    }

    /// Which AWS client holds which shell.
    pub(crate) fn claims(&self) -> &claims::Claims {
        &self.claims
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &PathBuf {
        &self.session_dir
    }

    /// What a person called a shell.
    pub(crate) fn title(&self, shell_id: &str) -> Option<String> {
        self.lock_titles().get(shell_id).cloned()
    }

    /// Takes over a title that was stored.
    pub(crate) fn set_title(&self, shell_id: &str, title: Option<&str>) {
        let mut titles = self.lock_titles();
        match title {
            Some(title) => drop(titles.insert(shell_id.to_owned(), title.to_owned())),
            None => drop(titles.remove(shell_id)),
        }
    }

    /// Calls a shell that was just started by its runtime and a number, unless it has a name. Gives the new one.
    pub(crate) fn name_new(&self, shell_id: &str, runtime_name: &str) -> Option<String> {
        let mut titles = self.lock_titles();
        if titles.contains_key(shell_id) || titles.len() >= TITLES_MAX {
            return None;
        }
        let taken: Vec<&String> = titles.values().collect();
        let title = clamshell_store::default_title(runtime_name, &taken);
        titles.insert(shell_id.to_owned(), title.clone());
        Some(title)
    }

    /// Shells that have a name, if these are so many that most of the shells must be gone.
    pub(crate) fn too_many_titled(&self) -> Vec<String> {
        let titles = self.lock_titles();
        if titles.len() > TITLES_MANY { titles.keys().cloned().collect() } else { Vec::new() }
    }

    fn lock_titles(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.titles.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn note_change(&self) {
        self.hints.session(&self.key);
        self.changed.send_modify(|count| *count += 1);
    }
}

/// A call in flight: keeps the session from idling until it is dropped.
#[derive(Debug)]
pub(crate) struct Call {
    session: Arc<Session>,
    registry: Arc<Registry>,
    generation: u64,
    /// The compute that serves it.
    pub(crate) compute: Compute,
}

impl Call {
    /// The session.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Tells that something counted as activity happened.
    pub(crate) fn activity(&self) {
        self.session.activity(self.registry.now_ms());
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let now_ms = self.registry.now_ms();
        let mut state = self.session.lock();
        if state.generation == self.generation {
            state.lifecycle.call_ended(now_ms);
        }
    }
}

fn sandbox_spec(
    storage_id: &StorageId,
    id_range: u32,
    runtime: &Runtime,
    sessions_dir: &std::path::Path,
    region: &Region,
) -> SandboxSpec {
    SandboxSpec {
        storage_id: storage_id.clone(),
        session_dir: sessions_dir.join(storage_id.as_str()),
        artifact: runtime.artifact.clone(),
        id_range: IdRange(id_range),
        limits: runtime.limits,
        region: region.to_string(),
        instance_id: format!("ai-{storage_id}"),
        environment: runtime.environment.clone(),
        mounts: Vec::new(),
    }
}

/// Whether the compute ended because its maximum lifetime was over.
pub(crate) fn is_lifetime_end(session: &Session) -> bool {
    session.lock().record.stop_reason == Some(clamshell_domain::StopReason::MaxLifetime)
}

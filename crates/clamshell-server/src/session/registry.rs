//! Finds, makes, stops and removes sessions.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use clamshell_domain::{
    AccountId, CallDecision, Clock, Entropy, Lifecycle, Phase, Region, Runtime, SandboxDriver, SandboxSpec,
    SessionKey, SessionRecord, SessionUsage, StopDecision, StopReason, StorageId, UsageMeter,
};
use clamshell_store::{CreateSessionError, SessionFilter, Store, StoreError};
use tokio::sync::{oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Call, CallError, Session, State, StopError, accounting::Account, claims::Claims, sandbox_spec,
    standby::StandbySlot,
};
use crate::{events::Hints, file_systems::FileSystems, logs::Logs, roles::RoleIssuer};

/// Sandboxes looked for at once when the server starts: finding one is a few file reads.
const FIND_AT_ONCE: usize = 16;

/// All sessions of this server.
pub(crate) struct Registry {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) region: Region,
    pub(super) account_id: AccountId,
    /// Base URL of the server, known once it listens.
    pub(crate) endpoint: OnceLock<String>,
    pub(super) logs: Arc<Logs>,
    pub(super) tasks: TaskTracker,
    pub(super) shutdown: CancellationToken,
    pub(super) storage_retention_ms: u64,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) sessions_dir: PathBuf,
    pub(super) standby: StandbySlot,
    pub(super) standby_wanted: bool,
    pub(super) file_systems: FileSystems,
    pub(super) roles: RoleIssuer,
    pub(super) keep_workspace: bool,
    hints: Hints,
    drivers: HashMap<String, Arc<dyn SandboxDriver>>,
    default_driver: String,
    pub(super) trash_dir: PathBuf,
    /// Held by whoever writes what sessions use.
    pub(super) accounts: tokio::sync::Mutex<()>,
    sessions: Mutex<HashMap<SessionKey, Arc<Session>>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("sessions_dir", &self.sessions_dir).finish_non_exhaustive()
    }
}

/// What a registry is made of.
pub(crate) struct RegistryParts {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) region: Region,
    pub(crate) account_id: AccountId,
    pub(crate) logs: Arc<Logs>,
    pub(crate) drivers: HashMap<String, Arc<dyn SandboxDriver>>,
    pub(crate) default_driver: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) storage_retention_ms: u64,
    /// Whether a sandbox is made ahead.
    pub(crate) standby: bool,
    /// What sessions show beside their own folders.
    pub(crate) file_systems: FileSystems,
    /// Makes credentials of execution roles.
    pub(crate) roles: RoleIssuer,
    /// Whether a workspace outlives a change of its session's version.
    pub(crate) keep_workspace: bool,
    /// For those who watch.
    pub(crate) hints: Hints,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl Registry {
    /// Takes up every session of the store: those whose sandbox still lives go on, the others are
    /// written down as stopped.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn load(parts: RegistryParts) -> Result<Arc<Self>, StoreError> {
        let records = parts.store.list_sessions(&SessionFilter::default()).await?;
        let registry = Arc::new(Self {
            store: parts.store,
            clock: parts.clock,
            region: parts.region,
            account_id: parts.account_id,
            endpoint: OnceLock::new(),
            logs: parts.logs,
            tasks: parts.tasks,
            shutdown: parts.shutdown,
            storage_retention_ms: parts.storage_retention_ms,
            entropy: parts.entropy,
            drivers: parts.drivers,
            default_driver: parts.default_driver,
            sessions_dir: parts.data_dir.join("sessions"),
            standby: StandbySlot::default(),
            standby_wanted: parts.standby,
            file_systems: parts.file_systems,
            roles: parts.roles,
            keep_workspace: parts.keep_workspace,
            hints: parts.hints,
            trash_dir: parts.data_dir.join("trash"),
            accounts: tokio::sync::Mutex::default(),
            sessions: Mutex::new(HashMap::with_capacity(records.len())),
        });
        let left = registry.store.list_standbys().await?;
        if !left.is_empty() {
            registry.tasks.spawn(Arc::clone(&registry).sweep_standbys(left));
        }
        let mut usages: HashMap<StorageId, SessionUsage> =
            registry.store.list_session_usages().await?.into_iter().collect();
        let mut runtimes: HashMap<(String, u32), Arc<Runtime>> = HashMap::new();
        let mut unfinished = Vec::new();
        for record in records {
            let version = (record.key.runtime_id.to_string(), record.runtime_version);
            let runtime = match runtimes.get(&version) {
                Some(runtime) => Arc::clone(runtime),
                None => {
                    let id = &record.key.runtime_id;
                    let found = match registry.store.runtime(id, Some(record.runtime_version)).await? {
                        Some(found) => Some(found),
                        // Its version was deleted while it was stopped.
                        None => registry.store.runtime(id, None).await?,
                    };
                    let Some(found) = found else {
                        tracing::warn!(session = %record.key.session_id, "session of an unknown runtime version is left alone");
                        continue;
                    };
                    let found = Arc::new(found);
                    runtimes.insert(version, Arc::clone(&found));
                    found
                }
            };
            let phase = record.phase;
            let usage = usages.remove(&record.storage_id).unwrap_or_default();
            let Some(session) = registry.adopt_with(record, runtime, usage) else { continue };
            if phase != Phase::Stopped {
                unfinished.push(session);
            }
        }
        for (key, shell_id, title) in registry.store.list_shell_titles().await? {
            if let Some(session) = registry.get(&key) {
                session.set_title(shell_id.as_str(), Some(&title));
            }
        }
        for group in unfinished.chunks(FIND_AT_ONCE) {
            let found = group.iter().map(|session| registry.recover(session));
            futures_util::future::join_all(found).await;
        }
        // A sandbox may show a copy that the configuration does not name any more.
        let shows_copies = registry.list().iter().any(|session| {
            let hosting = session.runtime().hosting.clone();
            session.record().phase != Phase::Stopped
                && hosting.is_some_and(|hosting| FileSystems::are_foreign(&hosting.file_systems))
        });
        if !shows_copies {
            registry.file_systems.remove_unneeded();
        }
        Ok(registry)
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The session of this name, if it was ever made.
    pub(crate) fn get(&self, key: &SessionKey) -> Option<Arc<Session>> {
        self.map().get(key).cloned()
    }

    /// All of them, oldest first.
    pub(crate) fn list(&self) -> Vec<Arc<Session>> {
        let mut sessions: Vec<_> = self.map().values().cloned().collect();
        sessions.sort_by_cached_key(|session| {
            let record = session.record();
            (record.created_at_ms, record.storage_id)
        });
        sessions
    }

    /// All of them, in no order.
    pub(super) fn list_unordered(&self) -> Vec<Arc<Session>> {
        self.map().values().cloned().collect()
    }

    /// Drivers by name.
    pub(crate) fn drivers(&self) -> &HashMap<String, Arc<dyn SandboxDriver>> {
        &self.drivers
    }

    /// As [`Registry::call`], but of callers that come while the compute is being made the first one waits and the others
    /// get [`CallError::Conflict`] at once.
    pub(super) async fn call_now(
        self: &Arc<Self>,
        key: &SessionKey,
        runtime: &Arc<Runtime>,
    ) -> Result<Call, CallError> {
        if self.shutdown.is_cancelled() {
            return Err(CallError::ShuttingDown);
        }
        let known = self.get(key);
        if let Some(session) = &known
            && let Some(call) = self.enter(session, runtime)?
        {
            return Ok(call);
        }
        // In a task of its own, so that a caller that hangs up half-way leaves no session half-made: the compute stays, and
        // the call that nobody takes ends when it is dropped.
        let (registry, key, runtime) = (Arc::clone(self), key.clone(), Arc::clone(runtime));
        let made = self.tasks.spawn(async move {
            let session = match known {
                Some(session) => session,
                None => {
                    let started = registry.start_from_standby(&key, &runtime).await;
                    registry.prepare_standby(&runtime);
                    if let Some(call) = started? {
                        return Ok(call);
                    }
                    let session = registry.make(key, &runtime).await?;
                    if let Some(call) = registry.enter(&session, &runtime)? {
                        return Ok(call);
                    }
                    session
                }
            };
            registry.provision(&session).await?;
            let state = session.lock();
            let compute = state.compute.clone().ok_or(CallError::Conflict)?;
            let generation = state.generation;
            drop(state);
            Ok(Call { session, registry, generation, compute })
        });
        made.await.unwrap_or(Err(CallError::ShuttingDown))
    }

    /// Counts a call; `None` when its compute must be made first.
    pub(super) fn enter(
        self: &Arc<Self>,
        session: &Arc<Session>,
        runtime: &Arc<Runtime>,
    ) -> Result<Option<Call>, CallError> {
        let mut state = session.lock();
        match state.lifecycle.call(self.now_ms()) {
            CallDecision::Conflict => Err(CallError::Conflict),
            CallDecision::Proceed => {
                let compute = state.compute.clone().ok_or(CallError::Conflict)?;
                let generation = state.generation;
                let (session, registry) = (Arc::clone(session), Arc::clone(self));
                Ok(Some(Call { session, registry, generation, compute }))
            }
            CallDecision::Provision => {
                state.lifecycle.reset_configuration(runtime.lifecycle);
                state.runtime = Arc::clone(runtime);
                Ok(None)
            }
        }
    }

    /// Ends the compute of a session and returns when it is gone.
    ///
    /// # Errors
    /// [`StopError`].
    pub(crate) async fn stop(
        self: &Arc<Self>,
        session: &Arc<Session>,
        reason: StopReason,
    ) -> Result<(), StopError> {
        match session.lock().lifecycle.stop() {
            StopDecision::NotRunning => return Err(StopError::NotRunning),
            StopDecision::Conflict => return Err(StopError::Conflict),
            StopDecision::Stop => {}
        }
        let (told, result) = oneshot::channel();
        let registry = Arc::clone(self);
        let session = Arc::clone(session);
        self.tasks.spawn(async move {
            let _ = told.send(registry.end_compute(&session, reason).await);
        });
        result
            .await
            .unwrap_or_else(|_| Err(StopError::Failed { reason: "server is shutting down".to_owned() }))
    }

    /// Ends the compute, if there is one, and removes the session with all its storage.
    ///
    /// # Errors
    /// [`StopError::Conflict`], [`StopError::Failed`].
    pub(crate) async fn remove(self: &Arc<Self>, session: &Arc<Session>) -> Result<(), StopError> {
        let (registry, session) = (Arc::clone(self), Arc::clone(session));
        // In a task of its own: a caller that hangs up half-way must not leave a session that is being removed for ever.
        let removed = self.tasks.spawn(async move { registry.remove_whole(&session).await });
        removed
            .await
            .unwrap_or_else(|_| Err(StopError::Failed { reason: "server is shutting down".to_owned() }))
    }

    async fn remove_whole(self: &Arc<Self>, session: &Arc<Session>) -> Result<(), StopError> {
        match self.stop(session, StopReason::Requested).await {
            Ok(()) | Err(StopError::NotRunning) => {}
            Err(error) => return Err(error),
        }
        // From here on a new call with this id makes a new session.
        {
            let mut state = session.lock();
            if state.lifecycle.phase() != Phase::Stopped {
                return Err(StopError::Conflict);
            }
            state.lifecycle.retire();
        }
        let removed = self.remove_storage(session).await;
        if removed.is_err() {
            session.lock().lifecycle.stopped_now();
        }
        removed
    }

    async fn remove_storage(&self, session: &Arc<Session>) -> Result<(), StopError> {
        let failed = |reason: String| StopError::Failed { reason };
        self.remove_files(&self.spec(session), &session.driver).await.map_err(failed)?;
        self.store.remove_session(session.key()).await.map_err(|error| failed(error.to_string()))?;
        self.map().remove(session.key());
        session.note_change();
        Ok(())
    }

    /// Ends whatever lives in a session folder and removes all of it.
    pub(super) async fn remove_files(
        &self,
        spec: &SandboxSpec,
        driver: &Arc<dyn SandboxDriver>,
    ) -> Result<(), String> {
        driver.destroy(spec).await.map_err(|error| error.to_string())?;
        // One rename, so that a crash leaves either all of it or none; the driver empties the trash.
        // The time keeps it apart from what an earlier removal, that failed after this step, may have left there.
        let target = self.trash_dir.join(format!("{}-all-{}", spec.storage_id, self.now_ms()));
        let moved =
            private_folder(&self.trash_dir).and_then(|()| std::fs::rename(&spec.session_dir, &target));
        match moved {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.to_string()),
            Ok(()) | Err(_) => {}
        }
        driver.destroy(spec).await.map(drop).map_err(|error| error.to_string())
    }

    pub(super) fn spec(&self, session: &Session) -> SandboxSpec {
        let state = session.lock();
        let record = &state.record;
        sandbox_spec(&record.storage_id, record.id_range, &state.runtime, &self.sessions_dir, &self.region)
    }

    /// Who makes the sandboxes of a version.
    pub(super) fn driver_name<'a>(&'a self, runtime: &'a Runtime) -> &'a str {
        runtime.driver.as_ref().unwrap_or(&self.default_driver)
    }

    pub(super) fn driver(&self, name: &str) -> Option<Arc<dyn SandboxDriver>> {
        self.drivers.get(name).cloned()
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<SessionKey, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn make(&self, key: SessionKey, runtime: &Arc<Runtime>) -> Result<Arc<Session>, CallError> {
        let storage_id = StorageId::generate(&*self.entropy);
        let driver = self.driver_name(runtime);
        let made = self.store.create_session(&key, &storage_id, self.now_ms(), runtime.version, driver).await;
        let record = match made {
            Ok(record) => record,
            // Somebody else made it a moment ago and is about to provision it.
            Err(CreateSessionError::AlreadyExists) => return self.get(&key).ok_or(CallError::Conflict),
            Err(CreateSessionError::RangesExhausted { .. }) => return Err(CallError::Quota),
            Err(error) => return Err(CallError::Store(Box::new(error))),
        };
        let unknown = || CallError::StartFailed { reason: format!("no driver `{driver}` on this server") };
        self.adopt(record, Arc::clone(runtime)).ok_or_else(unknown)
    }

    /// A session that was just made.
    pub(super) fn adopt(&self, record: SessionRecord, runtime: Arc<Runtime>) -> Option<Arc<Session>> {
        let usage = SessionUsage::new(record.created_at_ms);
        self.adopt_with(record, runtime, usage)
    }

    fn adopt_with(
        &self,
        record: SessionRecord,
        runtime: Arc<Runtime>,
        usage: SessionUsage,
    ) -> Option<Arc<Session>> {
        let Some(driver) = self.drivers.get(&record.driver) else {
            tracing::error!(session = %record.key.session_id, driver = record.driver, "session needs a driver that this server does not have");
            return None;
        };
        let session = Arc::new(Session {
            key: record.key.clone(),
            session_dir: self.sessions_dir.join(record.storage_id.as_str()),
            driver: Arc::clone(driver),
            state: Mutex::new(State {
                lifecycle: Lifecycle::stopped(runtime.lifecycle),
                record,
                runtime,
                compute: None,
                generation: 0,
                meter: UsageMeter::new(usage),
                stored_usage: usage,
                told_usage: SessionUsage { cpu_seen_us: 0, ..usage },
                account: Account::default(),
            }),
            changed: watch::Sender::new(0),
            claims: Claims::default(),
            titles: Mutex::default(),
            hints: self.hints.clone(),
        });
        self.map().insert(session.key.clone(), Arc::clone(&session));
        session.note_change();
        Some(session)
    }
}

/// Makes a folder that only we can enter.
pub(super) fn private_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

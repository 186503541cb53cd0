//! The standby: a sandbox made ahead, so that a new session need not wait for one.
//!
//! After a session of a runtime version has started, one more sandbox of that version is made and waits without a
//! name. The next new session of the version takes it with one write to the store. There is one standby in all; the
//! version that was asked for last has it. It has its storage and its private range of user ids from the start and
//! nobody else ever had them, so a session that takes it is like any other.
//!
//! A standby is a promise to nobody: where it is missing, or has died, the session makes its own sandbox. A server
//! that is killed leaves one behind, and the next one takes it away.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clamshell_domain::{
    Artifact, Runtime, RuntimeId, Sandbox, SandboxDriver, SandboxSpec, SessionKey, StorageId,
};
use clamshell_store::{CreateSessionError, Standby};

use super::{Call, CallError, Compute, Registry, registry::private_folder, sandbox_spec};
use crate::{file_systems::FileSystems, guest::GuestAddress};

/// How long after a session's start the next standby is made: by then a short first command is over. Made at once, it
/// competed with that command for the processors and cost more than it saved.
const MAKE_AFTER: Duration = Duration::from_millis(15);

/// The place of the standby.
#[derive(Default)]
pub(super) struct StandbySlot {
    ready: Mutex<Option<Ready>>,
    making: AtomicBool,
}

struct Ready {
    standby: Standby,
    runtime: Arc<Runtime>,
    sandbox: Sandbox,
    environment: Vec<(String, String)>,
}

impl StandbySlot {
    fn take_if(&self, wanted: impl FnOnce(&Ready) -> bool) -> Option<Ready> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.as_ref().is_some_and(wanted) { ready.take() } else { None }
    }
}

impl Registry {
    /// Makes a session of the standby. `None` when there is none of this version, or it is of no use; then the
    /// session is made in the usual way.
    pub(super) async fn start_from_standby(
        self: &Arc<Self>,
        key: &SessionKey,
        runtime: &Arc<Runtime>,
    ) -> Result<Option<Call>, CallError> {
        let Some(ready) = self.standby.take_if(|ready| is_of(&ready.runtime, runtime)) else {
            return Ok(None);
        };
        let spec = self.standby_spec(&ready.standby, &ready.runtime);
        let Some(driver) = self.driver(&ready.standby.driver) else { return Ok(None) };
        // Nobody watched over it.
        if driver.find(&spec).await.as_ref() != Some(&ready.sandbox) {
            self.discard(&ready.standby, &spec, &driver).await;
            return Ok(None);
        }
        let record = match self.store.claim_standby(&ready.standby, key, self.now_ms()).await {
            Ok(record) => record,
            Err(error) => {
                self.discard(&ready.standby, &spec, &driver).await;
                return match error {
                    CreateSessionError::AlreadyExists => Ok(None),
                    error => Err(CallError::Store(Box::new(error))),
                };
            }
        };
        let Some(session) = self.adopt(record, Arc::clone(runtime)) else { return Ok(None) };
        if let Some(call) = self.enter(&session, runtime)? {
            return Ok(Some(call));
        }
        self.running(&session, ready.sandbox, ready.environment, None);
        let state = session.lock();
        let compute: Compute = state.compute.clone().ok_or(CallError::Conflict)?;
        let generation = state.generation;
        drop(state);
        Ok(Some(Call { session, registry: Arc::clone(self), generation, compute }))
    }

    /// Has the next standby made, of the version that was asked for now. Returns at once.
    pub(super) fn prepare_standby(self: &Arc<Self>, runtime: &Arc<Runtime>) {
        // What it would show may be gone or older when a session takes it.
        let hosting = runtime.hosting.as_ref();
        if hosting.is_some_and(|hosting| FileSystems::are_foreign(&hosting.file_systems)) {
            return;
        }
        if !self.standby_wanted || self.standby.making.swap(true, Ordering::AcqRel) {
            return;
        }
        let (registry, runtime) = (Arc::clone(self), Arc::clone(runtime));
        self.tasks.spawn(async move {
            let shutdown = registry.shutdown.clone();
            let late = shutdown.run_until_cancelled(tokio::time::sleep(MAKE_AFTER)).await.is_none();
            if !late {
                registry.replace_standby(&runtime).await;
            }
            registry.standby.making.store(false, Ordering::Release);
        });
    }

    async fn replace_standby(&self, runtime: &Arc<Runtime>) {
        let other = self.standby.take_if(|ready| !is_of(&ready.runtime, runtime));
        if let Some(other) = other {
            self.discard_ready(other).await;
        }
        if self.standby.ready.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return;
        }
        match self.make_standby(runtime).await {
            Ok(ready) => {
                let unwanted = {
                    let mut slot = self.standby.ready.lock().unwrap_or_else(PoisonError::into_inner);
                    // Nobody comes to take it any more.
                    if self.shutdown.is_cancelled() { Some(ready) } else { slot.replace(ready) }
                };
                if let Some(unwanted) = unwanted {
                    self.discard_ready(unwanted).await;
                }
            }
            // The next session finds out for itself, and tells its caller.
            Err(error) => tracing::debug!(%error, "no standby"),
        }
    }

    async fn make_standby(&self, runtime: &Arc<Runtime>) -> Result<Ready, CallError> {
        let name = self.driver_name(runtime).to_owned();
        let driver = self
            .driver(&name)
            .ok_or_else(|| CallError::StartFailed { reason: format!("no driver `{name}` on this server") })?;
        let storage_id = StorageId::generate(&*self.entropy);
        let standby = self
            .store
            .create_standby(&runtime.runtime_id, runtime.version, &storage_id, &name, self.now_ms())
            .await
            .map_err(|error| CallError::Store(Box::new(error)))?;
        let mut spec = self.standby_spec(&standby, runtime);
        spec.mounts = self.mounts(runtime).await?;
        let made = match private_folder(&spec.session_dir) {
            Ok(()) => driver.create(&spec).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match made {
            Ok(sandbox) if GuestAddress::in_folder(&spec.session_dir.join("run")).is_ok() => {
                let environment = driver.image_environment(&runtime.artifact).await;
                Ok(Ready { standby, runtime: Arc::clone(runtime), sandbox, environment })
            }
            made => {
                self.discard(&standby, &spec, &driver).await;
                let reason = made.err().unwrap_or_else(|| "its folder vanished".to_owned());
                Err(CallError::StartFailed { reason })
            }
        }
    }

    /// Ends the standby, for instance because the server ends.
    pub(crate) async fn end_standby(&self) {
        if let Some(ready) = self.standby.take_if(|_| true) {
            self.discard_ready(ready).await;
        }
    }

    /// What the standby is made of, if there is one.
    pub(super) fn standby_artifact(&self) -> Option<Artifact> {
        let ready = self.standby.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.as_ref().map(|ready| ready.runtime.artifact.clone())
    }

    /// Ends the standby if it is of this runtime, and of this version if one is given.
    pub(crate) async fn end_standby_of(&self, runtime_id: &RuntimeId, version: Option<u32>) {
        let is_meant = |ready: &Ready| {
            ready.runtime.runtime_id == *runtime_id && version.is_none_or(|it| it == ready.runtime.version)
        };
        if let Some(ready) = self.standby.take_if(is_meant) {
            self.discard_ready(ready).await;
        }
    }

    /// Takes away what a server that was killed has left waiting.
    pub(super) async fn sweep_standbys(self: Arc<Self>, left: Vec<Standby>) {
        for standby in left {
            let Some(driver) = self.driver(&standby.driver) else { continue };
            // Only names matter for ending one, so any runtime will do.
            let runtime = match self.store.runtime(&standby.runtime_id, Some(standby.runtime_version)).await {
                Ok(None) => self.store.runtime(&standby.runtime_id, None).await,
                found => found,
            };
            let Ok(Some(runtime)) = runtime else { continue };
            let spec = self.standby_spec(&standby, &runtime);
            self.discard(&standby, &spec, &driver).await;
        }
    }

    async fn discard_ready(&self, ready: Ready) {
        if let Some(driver) = self.driver(&ready.standby.driver) {
            let spec = self.standby_spec(&ready.standby, &ready.runtime);
            self.discard(&ready.standby, &spec, &driver).await;
        }
    }

    async fn discard(&self, standby: &Standby, spec: &SandboxSpec, driver: &Arc<dyn SandboxDriver>) {
        let removed = async {
            self.remove_files(spec, driver).await?;
            self.store.remove_standby(&standby.storage_id).await.map_err(|error| error.to_string())
        };
        if let Err(reason) = removed.await {
            // Its row stays, so the next start tries again.
            tracing::warn!(storage_id = %standby.storage_id, reason, "a sandbox made ahead stays");
        }
    }

    fn standby_spec(&self, standby: &Standby, runtime: &Runtime) -> SandboxSpec {
        sandbox_spec(&standby.storage_id, standby.id_range, runtime, &self.sessions_dir, &self.region)
    }
}

/// Whether a session of `wanted` may have what was made for `made`. Versions never change.
fn is_of(made: &Runtime, wanted: &Runtime) -> bool {
    (&made.runtime_id, made.version) == (&wanted.runtime_id, wanted.version)
}

//! The steps that take time: making a compute, ending it, taking it up again after a server start.

use std::{sync::Arc, time::Duration};

use clamshell_domain::{CreateSandboxError, Lifecycle, MountSpec, Phase, Runtime, Sandbox, StopReason};
use clamshell_protocol::Request;
use tokio_util::sync::CancellationToken;

use super::{
    CallError, Compute, Registry, Session, StopError,
    accounting::Account,
    agent::{self, Agent, AgentParts},
    registry::private_folder,
};
use crate::guest::GuestAddress;

/// What programs get between SIGTERM and SIGKILL when their session stops; AWS takes up to 15 s, a
/// caller of StopRuntimeSession waits for it.
const STOP_GRACE_MS: u64 = 2_000;

/// How long the guest may take beyond the grace before it is killed with everything in it.
const STOP_PATIENCE: Duration = Duration::from_millis(STOP_GRACE_MS + 3_000);

impl Registry {
    /// Makes the compute of a session whose life cycle is in [`Phase::Provisioning`].
    pub(super) async fn provision(self: &Arc<Self>, session: &Arc<Session>) -> Result<(), CallError> {
        let outcome = self.make_compute(session).await;
        match outcome {
            Ok(sandbox) => {
                let environment = self.image_environment(session).await;
                self.running(session, sandbox, environment, None);
                // Recovery finds a running sandbox by itself, so the caller need not wait for this row.
                let registry = Arc::clone(self);
                let session = Arc::clone(session);
                self.tasks.spawn(async move { registry.save(&session).await });
                Ok(())
            }
            Err(error) => {
                {
                    let mut state = session.lock();
                    state.lifecycle.provision_failed();
                    state.record.phase = Phase::Stopped;
                    state.record.stopped_at_ms = Some(self.now_ms());
                    state.record.stop_reason = Some(StopReason::StartFailed);
                }
                session.note_change();
                tracing::warn!(session = %session.key().session_id, error = %error, "session did not start");
                let log = self.logs.of_session(session.key(), &session.record().storage_id);
                log.note(error.to_string());
                self.save(session).await;
                Err(error)
            }
        }
    }

    async fn make_compute(&self, session: &Arc<Session>) -> Result<Sandbox, CallError> {
        self.wipe_for_new_version(session)?;
        let changed = {
            let mut state = session.lock();
            let changed = state.record.phase != Phase::Provisioning;
            state.record.phase = Phase::Provisioning;
            state.record.runtime_version = state.runtime.version;
            changed
        };
        if changed {
            session.note_change();
            let record = session.record();
            self.store.update_session(&record).await.map_err(|error| CallError::Store(Box::new(error)))?;
        }
        let mut spec = self.spec(session);
        spec.mounts = self.mounts(&session.runtime()).await?;
        private_folder(&spec.session_dir)
            .map_err(|error| CallError::StartFailed { reason: format!("session folder: {error}") })?;
        session.driver.create(&spec).await.map_err(|error| match error {
            CreateSandboxError::Image { .. }
            | CreateSandboxError::Setup { .. }
            | CreateSandboxError::Timeout { .. } => CallError::StartFailed { reason: error.to_string() },
        })
    }

    /// What a session of this version shows beside its own folder.
    pub(super) async fn mounts(&self, runtime: &Runtime) -> Result<Vec<MountSpec>, CallError> {
        let Some(hosting) = &runtime.hosting else { return Ok(Vec::new()) };
        let mounts = self.file_systems.mounts(&hosting.file_systems).await;
        mounts.map_err(|error| CallError::StartFailed { reason: crate::http::chain(&error) })
    }

    async fn image_environment(&self, session: &Session) -> Vec<(String, String)> {
        session.driver.image_environment(&session.runtime().artifact).await
    }

    /// Takes a live sandbox as the session's compute and watches over it.
    pub(super) fn running(
        self: &Arc<Self>,
        session: &Arc<Session>,
        sandbox: Sandbox,
        environment: Vec<(String, String)>,
        since: Option<(u64, u64)>,
    ) {
        let guest = match GuestAddress::in_folder(&session.folder().join("run")) {
            Ok(guest) => guest,
            Err(error) => {
                tracing::error!(session = %session.key().session_id, %error, "run folder vanished");
                session.lock().lifecycle.stopped_now();
                return;
            }
        };
        let ended = CancellationToken::new();
        let runtime = session.runtime();
        let hosting = runtime.hosting.as_ref().filter(|_| runtime.artifact.may_host_agent());
        let agent = hosting.map(|hosting| {
            Arc::new(Agent::new(AgentParts {
                hosting,
                start_limit: agent::start_limit(&runtime),
                guest: guest.clone(),
                log: self.logs.of_session(session.key(), &session.record().storage_id),
                ended: ended.clone(),
                is_old: since.is_some(),
            }))
        });
        let environment = Arc::new(environment);
        let compute = Compute { sandbox: Arc::new(sandbox), guest, environment, agent, ended };
        let now_ms = self.now_ms();
        let generation = {
            let mut state = session.lock();
            match since {
                None => {
                    state.meter.starts(now_ms);
                    state.account = Account::opened(now_ms);
                    state.lifecycle.provisioned(now_ms);
                    state.record.started_at_ms = Some(now_ms);
                }
                Some((started_at_ms, last_activity_ms)) => {
                    let configuration = state.lifecycle.configuration();
                    state.lifecycle = Lifecycle::running(configuration, started_at_ms, last_activity_ms);
                }
            }
            state.record.phase = Phase::Running;
            state.record.stop_reason = None;
            state.record.stopped_at_ms = None;
            state.compute = Some(compute.clone());
            state.generation += 1;
            state.generation
        };
        session.note_change();
        self.host_agent(session, &compute, generation);
        let registry = Arc::clone(self);
        let session = Arc::clone(session);
        self.tasks.spawn(async move {
            // Whether its use can be counted at all.
            registry.account_for(&session).await;
            let shutdown = registry.shutdown.clone();
            tokio::select! {
                () = session.driver.wait(&compute.sandbox) => {
                    tracing::warn!(session = %session.key().session_id, "sandbox ended on its own");
                    registry.end_of_generation(&session, generation, StopReason::Lost).await;
                }
                // An asked-for stop, or the server's end: the sandbox is not ours to watch any more.
                () = compute.ended.cancelled() => {}
                () = shutdown.cancelled() => {}
            }
        });
    }

    /// Ends this compute of a session, unless it is ended already.
    pub(super) async fn end_of_generation(
        self: &Arc<Self>,
        session: &Arc<Session>,
        generation: u64,
        reason: StopReason,
    ) {
        let decision = {
            let mut state = session.lock();
            // News of an old sandbox must not end the one that came after it.
            if state.generation != generation {
                return;
            }
            state.lifecycle.stop()
        };
        if decision == clamshell_domain::StopDecision::Stop
            && let Err(error) = self.end_compute(session, reason).await
        {
            tracing::error!(session = %session.key().session_id, %error, "leftovers of a sandbox remain");
        }
    }

    /// Ends the compute of a session whose life cycle is in [`Phase::Stopping`].
    pub(super) async fn end_compute(
        &self,
        session: &Arc<Session>,
        reason: StopReason,
    ) -> Result<(), StopError> {
        // Memory has no counter that could be read afterwards.
        session.look_at_use(self.now_ms()).await;
        let compute = {
            let mut state = session.lock();
            state.record.stop_reason = Some(reason);
            state.record.phase = Phase::Stopping;
            state.compute.take()
        };
        session.note_change();
        self.save(session).await;
        if let Some(compute) = compute {
            compute.ended.cancel();
            // Whoever fills the disk would go on for as long as it has to say goodbye.
            if !matches!(reason, StopReason::Lost | StopReason::DiskLimit) {
                let asked = compute.guest.ask(Request::Shutdown { grace_ms: STOP_GRACE_MS });
                match tokio::time::timeout(STOP_PATIENCE, asked).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "guest did not shut down politely"),
                    Err(_) => tracing::debug!("guest took too long to shut down"),
                }
            }
        }
        let destroyed = session.driver.destroy(&self.spec(session)).await;
        // Before a new compute may start.
        if let Ok(cpu_usage_us) = &destroyed {
            self.account_for_end(session, *cpu_usage_us).await;
        }
        {
            let mut state = session.lock();
            state.lifecycle.stopped_now();
            // Else it stays written down as being stopped, so that the next start of the server ends what is left.
            if destroyed.is_ok() {
                state.record.phase = Phase::Stopped;
                state.record.stopped_at_ms = Some(self.now_ms());
            }
        }
        self.save(session).await;
        session.note_change();
        self.write_back(session).await;
        destroyed.map(drop).map_err(|error| StopError::Failed { reason: error.to_string() })
    }

    /// After a server start: the session's row says that something was going on.
    pub(super) async fn recover(self: &Arc<Self>, session: &Arc<Session>) {
        let record = session.record_as_stored();
        let spec = self.spec(session);
        // Afterwards nothing is left of a sandbox that has ended.
        let cpu_usage_us = session.driver.cpu_usage_us(&spec).await;
        let found = session.driver.find(&spec).await;
        match found {
            Some(sandbox) if record.phase != Phase::Stopping => {
                let started = record.started_at_ms.unwrap_or(record.last_activity_at_ms);
                let environment = self.image_environment(session).await;
                self.running(session, sandbox, environment, Some((started, record.last_activity_at_ms)));
            }
            found => {
                let mut last = cpu_usage_us;
                if found.is_some() {
                    match session.driver.destroy(&spec).await {
                        Ok(cpu_usage_us) => last = cpu_usage_us.or(last),
                        Err(error) => {
                            tracing::error!(session = %session.key().session_id, %error, "leftovers of a sandbox remain");
                        }
                    }
                }
                self.account_for_loss(session, last).await;
                let mut state = session.lock();
                if record.phase != Phase::Stopping {
                    state.record.stop_reason = Some(StopReason::Lost);
                }
                state.record.phase = Phase::Stopped;
                state.record.stopped_at_ms = Some(self.now_ms());
                drop(state);
                session.note_change();
            }
        }
        self.save(session).await;
    }

    /// Writes the row; a failure is logged, because recovery mends it at the next start.
    pub(super) async fn save(&self, session: &Session) {
        let record = session.record();
        if let Err(error) = self.store.update_session(&record).await {
            tracing::error!(session = %session.key().session_id, %error, "session row could not be written");
        }
    }
}

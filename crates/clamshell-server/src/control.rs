//! Finishes what the control plane began: versions are made ready, and what is to be deleted is taken apart.
//!
//! What is to be done stands in the store (CREATING, UPDATING, DELETING), so a server that is killed in the middle goes on
//! where it was; every step may be done twice. One task looks for such rows whenever it is woken, and now and then by
//! itself, and has a job for each.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use clamshell_domain::{Artifact, Endpoint, ResourceStatus, Runtime, RuntimeId};
use clamshell_sandbox::image::{CollectError, ImageError, ImageStore};
use clamshell_store::{ChangeRuntimeError, StoreError, Unfinished};
use thiserror::Error;
use tokio::{
    sync::{Mutex, MutexGuard, Notify},
    task::{Id, JoinSet},
};

use crate::{app::App, http};

/// How often rows are looked for without being woken: only what failed waits for it.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Jobs at once. Most wait for a registry; what is beyond waits for its turn.
const JOBS_MAX: usize = 16;

/// A job that failed is tried again after this long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A deletion is given up after so many tries, which together take a minute and more; then a caller may ask again.
const DELETE_TRIES_MAX: u32 = 5;

/// How often expired answers are forgotten, and images that nothing needs any more removed.
const TIDY_EVERY_MS: u64 = 3_600_000;

/// Listings of the versions for one removal of images: in an hour there are quiet moments.
const LISTINGS_MAX: usize = 3;

/// What handlers of the control plane share with the reconciler.
#[derive(Debug, Default)]
pub(crate) struct Control {
    turn: Mutex<()>,
    wake: Notify,
}

impl Control {
    /// Waits until nobody else changes runtimes, endpoints, tags or policies. Holders take milliseconds.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Says that there is something to finish.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }
}

/// What a job is about; there is one job of each at a time.
type JobKey = (RuntimeId, Option<String>);

/// A step failed; it is tried again.
#[derive(Debug, Error)]
enum JobError {
    #[error("the store failed")]
    Store(#[from] StoreError),
    #[error("the store refused a change")]
    Change(#[from] ChangeRuntimeError),
}

/// Runs until the server shuts down.
pub(crate) async fn reconcile(app: Arc<App>) {
    let mut jobs: JoinSet<()> = JoinSet::new();
    let mut keys: HashMap<Id, JobKey> = HashMap::new();
    let mut tidied_at_ms = 0;
    loop {
        start_jobs(&app, &mut jobs, &mut keys).await;
        let now_ms = app.now_ms();
        if now_ms.saturating_sub(tidied_at_ms) >= TIDY_EVERY_MS {
            tidied_at_ms = now_ms;
            let app = Arc::clone(&app);
            jobs.spawn(async move { tidy(&app, now_ms).await });
        }
        tokio::select! {
            // Jobs are dropped half-way: the next server does them again.
            () = app.shutdown.cancelled() => return,
            () = app.control.wake.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            Some(ended) = jobs.join_next_with_id(), if !jobs.is_empty() => {
                let id = match &ended {
                    Ok((id, ())) => *id,
                    Err(error) => {
                        tracing::error!(%error, "a job of the control plane broke off");
                        error.id()
                    }
                };
                keys.remove(&id);
            }
        }
    }
}

/// Forgets what is old, and removes images that neither a version nor a session needs.
async fn tidy(app: &App, now_ms: u64) {
    if let Err(error) = app.store.forget_answers(now_ms.saturating_sub(http::ANSWER_MS)).await {
        tracing::warn!(error = http::chain(&error), "expired answers stay");
    }
    // Nobody waits for this: what a job pulls keeps the collector out, and a change of versions makes it look again.
    for _ in 0..LISTINGS_MAX {
        let changes = app.store.changes();
        let versions = match app.store.list_all_versions().await {
            Ok(versions) => versions,
            Err(error) => return tracing::warn!(error = http::chain(&error), "unneeded images stay"),
        };
        let live: Vec<Artifact> = versions.into_iter().map(|record| record.runtime.artifact).collect();
        let sessions = app.registry.artifacts();
        let (images, store) = (Arc::clone(&app.images), app.store.clone());
        let collected = tokio::task::spawn_blocking(move || {
            images.collect(&live, &sessions, || store.changes() == changes, now_ms)
        });
        match collected.await {
            Ok(Ok(collected)) => return tracing::debug!(?collected, "unneeded images removed"),
            Ok(Err(CollectError::Outdated)) => {}
            Ok(Err(error)) => return tracing::debug!(error = http::chain(&error), "unneeded images stay"),
            Err(error) => return tracing::warn!(%error, "unneeded images stay"),
        }
    }
    tracing::debug!("unneeded images stay: versions change all the time");
}

async fn start_jobs(app: &Arc<App>, jobs: &mut JoinSet<()>, keys: &mut HashMap<Id, JobKey>) {
    let (runtimes, endpoints) = match unfinished(app).await {
        Ok(found) => found,
        Err(error) => {
            return tracing::error!(error = http::chain(&error), "unfinished changes are not known");
        }
    };
    let mut busy: HashSet<JobKey> = keys.values().cloned().collect();
    for unfinished in runtimes {
        let runtime_id = match &unfinished {
            Unfinished::Version { runtime_id, .. } | Unfinished::Deletion { runtime_id } => runtime_id,
        };
        let key = (runtime_id.clone(), None);
        if jobs.len() >= JOBS_MAX || !busy.insert(key.clone()) {
            continue;
        }
        let app = Arc::clone(app);
        let handle = jobs.spawn(async move {
            let done = match &unfinished {
                Unfinished::Version { runtime_id, version } => make_ready(&app, runtime_id, *version).await,
                Unfinished::Deletion { runtime_id } => delete_runtime(&app, runtime_id).await,
            };
            settle(done).await;
        });
        keys.insert(handle.id(), key);
    }
    for endpoint in endpoints {
        let key = (endpoint.runtime_id.clone(), Some(endpoint.name.to_string()));
        if jobs.len() >= JOBS_MAX || !busy.insert(key.clone()) {
            continue;
        }
        let app = Arc::clone(app);
        let handle = jobs.spawn(async move {
            let done = if endpoint.status == ResourceStatus::Deleting {
                delete_endpoint(&app, endpoint).await
            } else {
                move_endpoint(&app, endpoint).await
            };
            settle(done).await;
        });
        keys.insert(handle.id(), key);
    }
}

async fn unfinished(app: &App) -> Result<(Vec<Unfinished>, Vec<Endpoint>), StoreError> {
    Ok((app.store.unfinished_runtimes().await?, app.store.unfinished_endpoints().await?))
}

/// A job that failed ends later, so that it is not tried again at full speed.
async fn settle(done: Result<(), JobError>) {
    if let Err(error) = done {
        tracing::warn!(error = http::chain(&error), "a change of the control plane waits");
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Pulls or checks the artifact of a version, and says how it came out.
async fn make_ready(app: &App, runtime_id: &RuntimeId, version: u32) -> Result<(), JobError> {
    let Some(runtime) = app.store.runtime(runtime_id, Some(version)).await? else { return Ok(()) };
    let made = prepare(&app.images, &runtime).await;
    let _turn = app.control.turn().await;
    let (outcome, reason) = match made {
        Ok(artifact) => (Some(artifact), String::new()),
        Err(error) => (None, http::chain(&error)),
    };
    let outcome = outcome.as_ref().ok_or(reason.as_str());
    match app.store.finish_version(&runtime, outcome, app.now_ms()).await {
        Ok(status) => {
            tracing::info!(runtime = %runtime_id, version, status = status.as_str(), reason, "runtime version");
            Ok(())
        }
        // Somebody was faster.
        Err(ChangeRuntimeError::OtherState) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn prepare(images: &Arc<ImageStore>, runtime: &Runtime) -> Result<Artifact, ImageError> {
    let pinned = images.pin(&runtime.artifact, None).await?;
    if matches!(pinned, Artifact::Host | Artifact::Directory { .. } | Artifact::Oci { .. }) {
        let (images, artifact) = (Arc::clone(images), pinned.clone());
        let prepared = tokio::task::spawn_blocking(move || images.prepare(&artifact).map(drop)).await;
        prepared
            .unwrap_or_else(|_| Err(ImageError::NotAnImage { reason: "reading it broke off".to_owned() }))?;
    }
    Ok(pinned)
}

/// Ends everything that hangs on a runtime, then removes it.
async fn delete_runtime(app: &App, runtime_id: &RuntimeId) -> Result<(), JobError> {
    let arn = app.runtime_arn(runtime_id).to_string();
    for attempt in 0..DELETE_TRIES_MAX {
        tokio::time::sleep(RETRY_AFTER * attempt).await;
        app.registry.end_standby_of(runtime_id, None).await;
        if let Err(reason) = app.registry.remove_all(runtime_id, None).await {
            tracing::warn!(runtime = %runtime_id, reason, attempt, "sessions of a deleted runtime remain");
            continue;
        }
        let _turn = app.control.turn().await;
        // The store refuses while a session is left: one may have come in after those above were listed.
        match app.store.delete_runtime(runtime_id, &arn).await {
            Ok(()) => {
                tracing::info!(runtime = %runtime_id, "runtime deleted");
                return Ok(());
            }
            Err(error) => {
                tracing::warn!(runtime = %runtime_id, error = http::chain(&error), attempt, "a deleted runtime remains");
            }
        }
    }
    let _turn = app.control.turn().await;
    let reason = "Not all sessions could be ended. The server's log says why; delete again to go on.";
    app.store.fail_runtime_deletion(runtime_id, reason, app.now_ms()).await?;
    Ok(())
}

/// Points an endpoint to its target, if that is of use.
async fn move_endpoint(app: &App, endpoint: Endpoint) -> Result<(), JobError> {
    let _turn = app.control.turn().await;
    let target = app.store.runtime_version(&endpoint.runtime_id, Some(endpoint.target_version)).await?;
    let now_ms = app.now_ms();
    let moved = if target.is_some_and(|target| target.status == ResourceStatus::Ready) {
        Endpoint {
            version: endpoint.target_version,
            status: ResourceStatus::Ready,
            updated_at_ms: now_ms,
            ..endpoint
        }
    } else {
        let failed = if endpoint.has_live_version() {
            ResourceStatus::UpdateFailed
        } else {
            ResourceStatus::CreateFailed
        };
        let reason = format!("Version {} is not ready.", endpoint.target_version);
        Endpoint {
            target_version: endpoint.version,
            status: failed,
            failure_reason: Some(reason),
            updated_at_ms: now_ms,
            ..endpoint
        }
    };
    app.store.update_endpoint(&moved, None).await?;
    Ok(())
}

/// Ends the sessions of an endpoint, then removes it.
async fn delete_endpoint(app: &App, endpoint: Endpoint) -> Result<(), JobError> {
    let arn = app.runtime_arn(&endpoint.runtime_id).with_endpoint(endpoint.name.as_str()).to_string();
    for attempt in 0..DELETE_TRIES_MAX {
        tokio::time::sleep(RETRY_AFTER * attempt).await;
        if let Err(reason) = app.registry.remove_all(&endpoint.runtime_id, Some(&endpoint.name)).await {
            tracing::warn!(endpoint = arn, reason, attempt, "sessions of a deleted endpoint remain");
            continue;
        }
        let turn = app.control.turn().await;
        app.store.delete_endpoint(&endpoint.runtime_id, &endpoint.name, &arn).await?;
        drop(turn);
        // One may have been called in the very moment; nobody can call it now.
        if let Err(reason) = app.registry.remove_all(&endpoint.runtime_id, Some(&endpoint.name)).await {
            tracing::warn!(endpoint = arn, reason, "a session of a deleted endpoint remains");
        }
        return Ok(());
    }
    let _turn = app.control.turn().await;
    let failed = Endpoint {
        status: ResourceStatus::DeleteFailed,
        failure_reason: Some("Not all sessions could be ended. Delete again to go on.".to_owned()),
        updated_at_ms: app.now_ms(),
        ..endpoint
    };
    app.store.update_endpoint(&failed, None).await?;
    Ok(())
}

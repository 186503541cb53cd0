//! Runtimes and their versions in the control plane (`runtime.md` 4).
//!
//! A handler checks a change, writes it down as begun together with its answer, and wakes the reconciler, which does
//! the rest. Changes come one at a time, in turns of [`crate::control::Control`], so that what was checked still holds
//! when it is written.

mod definition;
mod rules;
mod view;

use bytes::Bytes;
use clamshell_domain::{ResourceStatus, Runtime, RuntimeId, RuntimeName};
use clamshell_identity::policy::PrincipalKind;
use clamshell_store::{ChangeRuntimeError, InsertRuntimeError, VersionRecord};
use clamshell_wire::{AwsError, Timestamp, generated::control as api};
use http::Response;

pub(super) use self::view::{endpoint, endpoint_item};
use self::{
    definition::{Definition, VersionName},
    view::{detail, item, status, workload_identity},
};
use super::{
    ApiError, ApiRequest, ControlError,
    idempotency::{Once, answer},
    pages::page,
    response::Body,
};
use crate::{app::App, config::LocalImages};

/// Runtimes of an account (`runtime.md` section 10).
const RUNTIMES_MAX: usize = 1000;
/// Versions of a runtime.
const VERSIONS_MAX: usize = 1000;

/// CreateAgentRuntime.
pub(super) async fn create(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::CreateAgentRuntimeRequest = request.input(body)?;
    let app = request.app;
    let allow_local = may_name_local_images(&request);
    let once = Once::new(&input, input.client_token.as_deref())?;
    let name = RuntimeName::parse(input.agent_runtime_name.as_str())
        .map_err(|error| AwsError::invalid_field("agentRuntimeName", &error.to_string()))?;
    let tags = input.tags.clone().unwrap_or_default();
    let _turn = app.control.turn().await;
    if let Some(earlier) = once.answered(app).await? {
        return Ok(earlier);
    }
    let now_ms = app.now_ms();
    let version = VersionName {
        runtime_id: RuntimeId::generate(&name, &*app.entropy),
        name: name.clone(),
        version: 1,
        now_ms,
    };
    let runtime = Definition::from(input).into_runtime(version, &app.config, allow_local, None)?;
    let known = app.store.list_runtimes().await?;
    if known.iter().any(|other| other.name == name) {
        return Err(ControlError::NameTaken { name }.into());
    }
    if known.len() >= RUNTIMES_MAX {
        return Err(ControlError::Quota { what: "agent runtimes", most: RUNTIMES_MAX }.into());
    }
    let arn = app.runtime_arn(&runtime.runtime_id).to_string();
    let output = api::CreateAgentRuntimeResponse {
        agent_runtime_arn: arn.clone(),
        agent_runtime_id: runtime.runtime_id.to_string(),
        agent_runtime_version: runtime.version.to_string(),
        created_at: Timestamp::from_ms(now_ms),
        status: api::AgentRuntimeStatus::Creating,
        workload_identity_details: Some(workload_identity(app, &runtime)),
    };
    let receipt = once.receipt(&output, now_ms);
    app.store.create_runtime(&runtime, &arn, &tags, receipt.as_ref()).await.map_err(|error| -> ApiError {
        match error {
            InsertRuntimeError::NameTaken { name } => ControlError::NameTaken { name }.into(),
            InsertRuntimeError::Store(error) => error.into(),
            InsertRuntimeError::NotFirstVersion { .. } => ApiError::Internal("not the first version"),
        }
    })?;
    app.control.wake();
    Ok(answer(&output))
}

/// GetAgentRuntime.
pub(super) async fn get(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::GetAgentRuntimeRequest = request.input(body)?;
    let id = runtime_id(&input.agent_runtime_id)?;
    let version = input.agent_runtime_version.as_deref().map(version_number).transpose()?;
    let found = request.app.store.runtime_version(&id, version).await?;
    let found = found.ok_or_else(|| not_found(&id, version))?;
    Ok(answer(&detail(request.app, &found)))
}

/// UpdateAgentRuntime: a new version that replaces all of the last one.
pub(super) async fn update(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::UpdateAgentRuntimeRequest = request.input(body)?;
    let app = request.app;
    let allow_local = may_name_local_images(&request);
    let once = Once::new(&input, input.client_token.as_deref())?;
    let id = runtime_id(&input.agent_runtime_id)?;
    let _turn = app.control.turn().await;
    if let Some(earlier) = once.answered(app).await? {
        return Ok(earlier);
    }
    let latest = changeable(app, &id).await?;
    if latest.status == ResourceStatus::DeleteFailed {
        return Err(ControlError::BeingDeleted.into());
    }
    let versions = app.store.list_versions(&id).await?.len();
    let now_ms = app.now_ms();
    let version = VersionName {
        runtime_id: id.clone(),
        name: latest.runtime.name.clone(),
        version: latest.number_max.saturating_add(1),
        now_ms,
    };
    let platform = latest.runtime.hosting.as_ref().and_then(Definition::of);
    let platform = platform.and_then(|definition| definition.platform_version);
    let runtime = Definition::from(input).into_runtime(version, &app.config, allow_local, platform)?;
    if versions >= VERSIONS_MAX {
        return Err(ControlError::Quota { what: "versions of an agent runtime", most: VERSIONS_MAX }.into());
    }
    let output = api::UpdateAgentRuntimeResponse {
        agent_runtime_arn: app.runtime_arn(&id).to_string(),
        agent_runtime_id: id.to_string(),
        agent_runtime_version: runtime.version.to_string(),
        created_at: Timestamp::from_ms(latest.runtime_created_at_ms),
        last_updated_at: Timestamp::from_ms(now_ms),
        status: api::AgentRuntimeStatus::Updating,
        workload_identity_details: Some(workload_identity(app, &runtime)),
    };
    let receipt = once.receipt(&output, now_ms);
    app.store.update_runtime(&runtime, receipt.as_ref()).await.map_err(changed)?;
    app.control.wake();
    Ok(answer(&output))
}

/// DeleteAgentRuntime: all of it, or one version.
pub(super) async fn delete(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::DeleteAgentRuntimeRequest = request.input(body)?;
    let app = request.app;
    let once = Once::new(&input, input.client_token.as_deref())?;
    let id = runtime_id(&input.agent_runtime_id)?;
    let version = input.agent_runtime_version.as_deref().map(version_number).transpose()?;
    let _turn = app.control.turn().await;
    if let Some(earlier) = once.answered(app).await? {
        return Ok(earlier);
    }
    let latest = changeable(app, &id).await?;
    let output = api::DeleteAgentRuntimeResponse {
        agent_runtime_id: Some(id.to_string()),
        agent_runtime_version: version.map(|version| version.to_string()),
        status: api::AgentRuntimeStatus::Deleting,
    };
    let now_ms = app.now_ms();
    let receipt = once.receipt(&output, now_ms);
    match version {
        None => {
            app.store.begin_runtime_deletion(&id, now_ms, receipt.as_ref()).await.map_err(changed)?;
            app.control.wake();
        }
        Some(version) => {
            if latest.status == ResourceStatus::DeleteFailed {
                return Err(ControlError::BeingDeleted.into());
            }
            deletable_version(app, &id, version).await?;
            app.registry.end_standby_of(&id, Some(version)).await;
            app.store.delete_version(&id, version, receipt.as_ref()).await.map_err(changed)?;
        }
    }
    Ok(answer(&output))
}

/// ListAgentRuntimes, newest first.
pub(super) async fn list(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::ListAgentRuntimesRequest = request.input(body)?;
    let all = request.app.store.list_runtime_versions().await?;
    let place =
        |record: &VersionRecord| (record.runtime_created_at_ms, record.runtime.runtime_id.to_string());
    let (found, next_token) = page(all, input.max_results, input.next_token.as_deref(), place)?;
    let agent_runtimes = found.iter().map(|record| item(request.app, record)).collect();
    Ok(answer(&api::ListAgentRuntimesResponse { agent_runtimes, next_token }))
}

/// A runtime as lists have it.
pub(super) fn summary(app: &App, record: &VersionRecord) -> serde_json::Value {
    serde_json::to_value(item(app, record)).expect("our shapes have string keys")
}

/// ListAgentRuntimeVersions, newest first.
pub(super) async fn list_versions(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::ListAgentRuntimeVersionsRequest = request.input(body)?;
    let id = runtime_id(&input.agent_runtime_id)?;
    let all = request.app.store.list_versions(&id).await?;
    if all.is_empty() {
        return Err(not_found(&id, None));
    }
    let place = |record: &VersionRecord| (u64::from(record.runtime.version), String::new());
    let (found, next_token) = page(all, input.max_results, input.next_token.as_deref(), place)?;
    let agent_runtimes = found.iter().map(|record| item(request.app, record)).collect();
    Ok(answer(&api::ListAgentRuntimeVersionsResponse { agent_runtimes, next_token }))
}

/// The latest version of a runtime that may be changed now.
async fn changeable(app: &App, id: &RuntimeId) -> Result<VersionRecord, ApiError> {
    let latest = app.store.runtime_version(id, None).await?.ok_or_else(|| not_found(id, None))?;
    if is_declared(app, &latest.runtime) {
        return Err(ControlError::Declared { name: latest.runtime.name.clone() }.into());
    }
    if latest.status.is_in_progress() {
        return Err(ControlError::InProgress { what: "agent runtime", status: latest.status }.into());
    }
    Ok(latest)
}

fn may_name_local_images(request: &ApiRequest<'_>) -> bool {
    let is_root = request.caller.as_ref().is_some_and(|caller| caller.principal.kind == PrincipalKind::Root);
    match request.app.config.local_images {
        LocalImages::Nobody => false,
        LocalImages::Root => is_root,
        LocalImages::Anybody => true,
    }
}

/// Whether the configuration says what a runtime is: then a change by a call would be undone by the next start.
fn is_declared(app: &App, runtime: &Runtime) -> bool {
    runtime.name.as_str() == crate::server::DEFAULT_RUNTIME
        || app.config.runtimes.iter().any(|declared| declared.name == runtime.name)
}

async fn deletable_version(app: &App, id: &RuntimeId, version: u32) -> Result<(), ApiError> {
    let versions = app.store.list_versions(id).await?;
    if !versions.iter().any(|record| record.runtime.version == version) {
        return Err(not_found(id, Some(version)));
    }
    if versions.len() == 1 {
        return Err(ControlError::OnlyVersion.into());
    }
    let endpoints = app.store.list_endpoints(id).await?;
    if let Some(endpoint) =
        endpoints.into_iter().find(|it| it.version == version || it.target_version == version)
    {
        return Err(ControlError::VersionHasEndpoint { version, endpoint: endpoint.name }.into());
    }
    if app.registry.has_compute_of(id, version) {
        return Err(ControlError::VersionHasSessions { version }.into());
    }
    Ok(())
}

fn changed(error: ChangeRuntimeError) -> ApiError {
    match error {
        ChangeRuntimeError::OtherState => ControlError::Changed.into(),
        ChangeRuntimeError::Store(error) => error.into(),
    }
}

/// The number in a version that the model lets pass.
pub(super) fn version_number(text: &str) -> Result<u32, ApiError> {
    text.parse().map_err(|_| {
        AwsError::invalid_field(
            "agentRuntimeVersion",
            "Member must satisfy regular expression pattern: ([1-9][0-9]{0,4})",
        )
        .into()
    })
}

/// The id in a text that the model lets pass.
pub(super) fn runtime_id(text: &str) -> Result<RuntimeId, ApiError> {
    RuntimeId::parse(text).map_err(|_| {
        let rule =
            "Member must satisfy regular expression pattern: [a-zA-Z][a-zA-Z0-9_]{0,99}-[a-zA-Z0-9]{10}";
        AwsError::invalid_field("agentRuntimeId", rule).into()
    })
}

/// No such runtime, or not this version of it.
pub(super) fn not_found(id: &RuntimeId, version: Option<u32>) -> ApiError {
    match version {
        None => ApiError::RuntimeNotFound { runtime: id.to_string(), qualifier: "DEFAULT".to_owned() },
        Some(version) => ControlError::VersionNotFound { version }.into(),
    }
}

/// Whether this version of a runtime may be pointed to.
pub(super) async fn ready_version(app: &App, id: &RuntimeId, version: u32) -> Result<(), ApiError> {
    let found = app.store.runtime_version(id, Some(version)).await?;
    let found = found.ok_or_else(|| not_found(id, Some(version)))?;
    match found.status {
        ResourceStatus::Ready => Ok(()),
        other => Err(ControlError::VersionNotReady { version, status: status(other).as_str() }.into()),
    }
}

//! Endpoints of runtimes in the control plane (`runtime.md` 4.5, 4.6).

use bytes::Bytes;
use clamshell_domain::{Endpoint, EndpointName, ResourceStatus, RuntimeId};
use clamshell_wire::{AwsError, Timestamp, generated::control as api};
use http::Response;

use super::{
    ApiError, ApiRequest, ControlError,
    idempotency::{Once, answer},
    pages::page,
    response::Body,
    runtimes,
};
use crate::app::App;

/// Endpoints of a runtime (`runtime.md` section 10), `DEFAULT` among them.
const ENDPOINTS_MAX: usize = 10;

/// CreateAgentRuntimeEndpoint.
pub(super) async fn create(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::CreateAgentRuntimeEndpointRequest = request.input(body)?;
    let app = request.app;
    let once = Once::new(&input, input.client_token.as_deref())?;
    let id = runtimes::runtime_id(&input.agent_runtime_id)?;
    let name = endpoint_name("name", &input.name)?;
    let asked = input.agent_runtime_version.as_deref().map(runtimes::version_number).transpose()?;
    let _turn = app.control.turn().await;
    if let Some(earlier) = once.answered(app).await? {
        return Ok(earlier);
    }
    let latest = app.store.runtime_version(&id, None).await?;
    let latest = latest.ok_or_else(|| runtimes::not_found(&id, None))?;
    if matches!(latest.status, ResourceStatus::Deleting | ResourceStatus::DeleteFailed) {
        return Err(ControlError::BeingDeleted.into());
    }
    if latest.status.is_in_progress() {
        return Err(ControlError::InProgress { what: "agent runtime", status: latest.status }.into());
    }
    let known = app.store.list_endpoints(&id).await?;
    if known.iter().any(|other| other.name == name) {
        return Err(ControlError::EndpointNameTaken { name }.into());
    }
    let version = asked.unwrap_or(latest.runtime.version);
    runtimes::ready_version(app, &id, version).await?;
    if known.len() >= ENDPOINTS_MAX {
        return Err(ControlError::Quota { what: "endpoints of an agent runtime", most: ENDPOINTS_MAX }.into());
    }
    let now_ms = app.now_ms();
    let endpoint = Endpoint {
        endpoint_id: RuntimeId::generate_for_endpoint(&name, &*app.entropy).to_string(),
        runtime_id: id.clone(),
        name: name.clone(),
        description: input.description.clone(),
        status: ResourceStatus::Creating,
        failure_reason: None,
        version,
        target_version: version,
        created_at_ms: now_ms,
        updated_at_ms: now_ms,
    };
    let arn = app.runtime_arn(&id);
    let endpoint_arn = arn.with_endpoint(name.as_str()).to_string();
    let output = api::CreateAgentRuntimeEndpointResponse {
        agent_runtime_arn: arn.to_string(),
        agent_runtime_endpoint_arn: endpoint_arn.clone(),
        agent_runtime_id: Some(id.to_string()),
        created_at: Timestamp::from_ms(now_ms),
        endpoint_name: Some(name.to_string()),
        status: api::AgentRuntimeEndpointStatus::Creating,
        target_version: version.to_string(),
    };
    let tags = input.tags.unwrap_or_default();
    let receipt = once.receipt(&output, now_ms);
    app.store.create_endpoint(&endpoint, &endpoint_arn, &tags, receipt.as_ref()).await?;
    app.control.wake();
    Ok(answer(&output))
}

/// GetAgentRuntimeEndpoint.
pub(super) async fn get(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::GetAgentRuntimeEndpointRequest = request.input(body)?;
    let id = runtimes::runtime_id(&input.agent_runtime_id)?;
    let name = endpoint_name("endpointName", &input.endpoint_name)?;
    let endpoint = find(request.app, &id, &name).await?;
    Ok(answer(&runtimes::endpoint(request.app, &endpoint)))
}

/// UpdateAgentRuntimeEndpoint. What is not given stays.
pub(super) async fn update(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::UpdateAgentRuntimeEndpointRequest = request.input(body)?;
    let app = request.app;
    let once = Once::new(&input, input.client_token.as_deref())?;
    let id = runtimes::runtime_id(&input.agent_runtime_id)?;
    let name = endpoint_name("endpointName", &input.endpoint_name)?;
    let asked = input.agent_runtime_version.as_deref().map(runtimes::version_number).transpose()?;
    let _turn = app.control.turn().await;
    if let Some(earlier) = once.answered(app).await? {
        return Ok(earlier);
    }
    let mut endpoint = changeable(app, &id, &name).await?;
    if endpoint.status == ResourceStatus::DeleteFailed {
        return Err(ControlError::BeingDeleted.into());
    }
    let is_default = name == EndpointName::default_endpoint();
    if let Some(version) = asked {
        if is_default && version != endpoint.version {
            return Err(ControlError::DefaultFollows.into());
        }
        runtimes::ready_version(app, &id, version).await?;
        endpoint.target_version = version;
    }
    let now_ms = app.now_ms();
    endpoint.updated_at_ms = now_ms;
    endpoint.description = input.description.clone().or(endpoint.description);
    if !is_default {
        endpoint.status =
            if endpoint.has_live_version() { ResourceStatus::Updating } else { ResourceStatus::Creating };
        endpoint.failure_reason = None;
    }
    let shown = runtimes::endpoint(app, &endpoint);
    let output = api::UpdateAgentRuntimeEndpointResponse {
        agent_runtime_arn: shown.agent_runtime_arn,
        agent_runtime_endpoint_arn: shown.agent_runtime_endpoint_arn,
        created_at: shown.created_at,
        last_updated_at: shown.last_updated_at,
        live_version: shown.live_version,
        status: shown.status,
        target_version: shown.target_version,
    };
    let receipt = once.receipt(&output, now_ms);
    app.store.update_endpoint(&endpoint, receipt.as_ref()).await?;
    app.control.wake();
    Ok(answer(&output))
}

/// DeleteAgentRuntimeEndpoint.
pub(super) async fn delete(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::DeleteAgentRuntimeEndpointRequest = request.input(body)?;
    let app = request.app;
    let once = Once::new(&input, input.client_token.as_deref())?;
    let id = runtimes::runtime_id(&input.agent_runtime_id)?;
    let name = endpoint_name("endpointName", &input.endpoint_name)?;
    let _turn = app.control.turn().await;
    if let Some(earlier) = once.answered(app).await? {
        return Ok(earlier);
    }
    let mut endpoint = changeable(app, &id, &name).await?;
    if name == EndpointName::default_endpoint() {
        return Err(ControlError::DefaultStays.into());
    }
    let now_ms = app.now_ms();
    endpoint.status = ResourceStatus::Deleting;
    endpoint.failure_reason = None;
    endpoint.updated_at_ms = now_ms;
    let output = api::DeleteAgentRuntimeEndpointResponse {
        agent_runtime_id: Some(id.to_string()),
        endpoint_name: Some(name.to_string()),
        status: api::AgentRuntimeEndpointStatus::Deleting,
    };
    let receipt = once.receipt(&output, now_ms);
    app.store.update_endpoint(&endpoint, receipt.as_ref()).await?;
    app.control.wake();
    Ok(answer(&output))
}

/// ListAgentRuntimeEndpoints, newest first.
pub(super) async fn list(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::ListAgentRuntimeEndpointsRequest = request.input(body)?;
    let id = runtimes::runtime_id(&input.agent_runtime_id)?;
    let all = request.app.store.list_endpoints(&id).await?;
    if all.is_empty() {
        return Err(runtimes::not_found(&id, None));
    }
    let place = |endpoint: &Endpoint| (endpoint.created_at_ms, endpoint.name.to_string());
    let (found, next_token) = page(all, input.max_results, input.next_token.as_deref(), place)?;
    let runtime_endpoints =
        found.iter().map(|endpoint| runtimes::endpoint_item(request.app, endpoint)).collect();
    Ok(answer(&api::ListAgentRuntimeEndpointsResponse { next_token, runtime_endpoints }))
}

fn endpoint_name(field: &str, text: &str) -> Result<EndpointName, ApiError> {
    EndpointName::parse(text).map_err(|_| {
        let rule = "Member must satisfy regular expression pattern: [a-zA-Z][a-zA-Z0-9_]{0,47}";
        AwsError::invalid_field(field, rule).into()
    })
}

async fn find(app: &App, id: &RuntimeId, name: &EndpointName) -> Result<Endpoint, ApiError> {
    app.store
        .endpoint(id, name)
        .await?
        .ok_or_else(|| ApiError::RuntimeNotFound { runtime: id.to_string(), qualifier: name.to_string() })
}

/// An endpoint that may be changed now.
async fn changeable(app: &App, id: &RuntimeId, name: &EndpointName) -> Result<Endpoint, ApiError> {
    let endpoint = find(app, id, name).await?;
    let runtime = app.store.runtime_version(id, None).await?;
    if runtime.is_some_and(|it| matches!(it.status, ResourceStatus::Deleting | ResourceStatus::DeleteFailed))
    {
        return Err(ControlError::BeingDeleted.into());
    }
    if endpoint.status.is_in_progress() {
        return Err(ControlError::InProgress { what: "endpoint", status: endpoint.status }.into());
    }
    Ok(endpoint)
}

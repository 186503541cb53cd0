//! What the control plane tells about runtimes and endpoints: Get and List (`runtime.md` 4.5).

use clamshell_domain::{Artifact, Endpoint, EndpointName, NetworkMode, Runtime, RuntimeId};
use clamshell_wire::AwsError;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{
    ApiError, ApiRequest,
    pages::page,
    response::{self, Body},
};
use crate::{app::App, time::rfc3339};

/// GetAgentRuntime.
pub(super) async fn get(request: ApiRequest<'_>) -> Result<Response<Body>, ApiError> {
    let query = request.query()?;
    let id = runtime_id(&request)?;
    let version = match clamshell_wire::query::find(&query, "version") {
        None => None,
        Some(text) => Some(version_number(text).ok_or_else(|| {
            AwsError::invalid_field(
                "agentRuntimeVersion",
                "Member must satisfy regular expression pattern: ([1-9][0-9]{0,4})",
            )
        })?),
    };
    let runtime = request.app.store.runtime(&id, version).await?.ok_or_else(|| not_found(&id))?;
    Ok(response::json(StatusCode::OK, &detail(request.app, &runtime)))
}

/// ListAgentRuntimes, newest first.
pub(super) async fn list(request: ApiRequest<'_>) -> Result<Response<Body>, ApiError> {
    let query = request.query()?;
    let mut runtimes = request.app.store.list_runtimes().await?;
    runtimes.reverse();
    let (runtimes, token) = page(runtimes, &query, |runtime| runtime.runtime_id.to_string())?;
    let items = runtimes.iter().map(|runtime| item(request.app, runtime)).collect();
    Ok(listed("agentRuntimes", items, token))
}

/// ListAgentRuntimeVersions, newest first.
pub(super) async fn list_versions(request: ApiRequest<'_>) -> Result<Response<Body>, ApiError> {
    let query = request.query()?;
    let id = runtime_id(&request)?;
    let latest = request.app.store.runtime(&id, None).await?.ok_or_else(|| not_found(&id))?;
    let (versions, token) = page((1..=latest.version).rev().collect(), &query, ToString::to_string)?;
    let mut items = Vec::with_capacity(versions.len());
    for version in versions {
        let runtime = request.app.store.runtime(&id, Some(version)).await?;
        items.extend(runtime.map(|runtime| item(request.app, &runtime)));
    }
    Ok(listed("agentRuntimes", items, token))
}

fn listed(member: &str, items: Vec<Value>, token: Option<String>) -> Response<Body> {
    let mut value = json!({ member: items });
    if let Some(token) = token {
        value["nextToken"] = json!(token);
    }
    response::json(StatusCode::OK, &value)
}

/// GetAgentRuntimeEndpoint.
pub(super) async fn get_endpoint(request: ApiRequest<'_>) -> Result<Response<Body>, ApiError> {
    let id = runtime_id(&request)?;
    let name = EndpointName::parse(request.params.endpoint_name.as_str()).map_err(|_| {
        let rule = "Member must satisfy regular expression pattern: [a-zA-Z][a-zA-Z0-9_]{0,47}";
        AwsError::invalid_field("endpointName", rule)
    })?;
    let endpoint =
        request.app.store.endpoint(&id, &name).await?.ok_or_else(|| ApiError::RuntimeNotFound {
            runtime: id.to_string(),
            qualifier: name.to_string(),
        })?;
    Ok(response::json(StatusCode::OK, &endpoint_item(request.app, &endpoint)))
}

/// ListAgentRuntimeEndpoints.
pub(super) async fn list_endpoints(request: ApiRequest<'_>) -> Result<Response<Body>, ApiError> {
    let query = request.query()?;
    let id = runtime_id(&request)?;
    let endpoints = request.app.store.list_endpoints(&id).await?;
    if endpoints.is_empty() {
        return Err(not_found(&id));
    }
    let (endpoints, token) = page(endpoints, &query, |endpoint| endpoint.name.to_string())?;
    let items = endpoints.iter().map(|endpoint| endpoint_item(request.app, endpoint)).collect();
    Ok(listed("runtimeEndpoints", items, token))
}

/// `[1-9][0-9]{0,4}`: `parse` alone would take a sign and zeros in front.
fn version_number(text: &str) -> Option<u32> {
    let plain = (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain && !text.starts_with('0'))
}

fn runtime_id(request: &ApiRequest<'_>) -> Result<RuntimeId, ApiError> {
    RuntimeId::parse(request.params.runtime.as_str()).map_err(|_| {
        let rule =
            "Member must satisfy regular expression pattern: [a-zA-Z][a-zA-Z0-9_]{0,99}-[a-zA-Z0-9]{10}";
        AwsError::invalid_field("agentRuntimeId", rule).into()
    })
}

fn not_found(id: &RuntimeId) -> ApiError {
    ApiError::RuntimeNotFound { runtime: id.to_string(), qualifier: "DEFAULT".to_owned() }
}

fn item(app: &App, runtime: &Runtime) -> Value {
    json!({
        "agentRuntimeArn": app.runtime_arn(&runtime.runtime_id).to_string(),
        "agentRuntimeId": runtime.runtime_id,
        "agentRuntimeVersion": runtime.version.to_string(),
        "agentRuntimeName": runtime.name,
        "description": runtime.description,
        "lastUpdatedAt": rfc3339(runtime.created_at_ms),
        "status": "READY",
    })
}

fn detail(app: &App, runtime: &Runtime) -> Value {
    let mut value = item(app, runtime);
    value["createdAt"] = json!(rfc3339(runtime.created_at_ms));
    value["roleArn"] = json!(format!("arn:aws:iam::{}:role/clamshell-none", app.account_id));
    value["networkConfiguration"] = json!({ "networkMode": match runtime.network {
        // The model knows PUBLIC and VPC; a session without network is told in the extension API.
        NetworkMode::Sandbox | NetworkMode::Public => "PUBLIC",
    } });
    value["lifecycleConfiguration"] = json!({
        "idleRuntimeSessionTimeout": runtime.lifecycle.idle_timeout_s,
        "maxLifetime": runtime.lifecycle.max_lifetime_s,
    });
    value["agentRuntimeArtifact"] = artifact(&runtime.artifact);
    value["environmentVariables"] = json!(runtime.environment);
    value["metadataConfiguration"] = json!({ "requireMMDSV2": true });
    value["protocolConfiguration"] = json!({ "serverProtocol": "HTTP" });
    value
}

fn artifact(artifact: &Artifact) -> Value {
    let container = |uri: String| json!({ "containerConfiguration": { "containerUri": uri } });
    match artifact {
        Artifact::Host => container("host".to_owned()),
        Artifact::Directory { path } => container(format!("dir:{}", path.display())),
        Artifact::Oci { path, .. } => container(format!("oci:{}", path.display())),
        Artifact::Image { reference, .. } => container(reference.clone()),
        Artifact::Code { location, runtime, entry_point, .. } => {
            let mut object = json!({ "bucket": location.bucket, "prefix": location.key });
            if let Some(version) = &location.version_id {
                object["versionId"] = json!(version);
            }
            json!({ "codeConfiguration": {
                "code": { "s3": object },
                "runtime": runtime.as_str(),
                "entryPoint": entry_point,
            } })
        }
    }
}

fn endpoint_item(app: &App, endpoint: &Endpoint) -> Value {
    let arn = app.runtime_arn(&endpoint.runtime_id);
    json!({
        "name": endpoint.name,
        "id": format!("{}-{}", endpoint.name, endpoint.runtime_id.as_str().rsplit('-').next().unwrap_or_default()),
        "agentRuntimeEndpointArn": arn.with_endpoint(endpoint.name.as_str()).to_string(),
        "agentRuntimeArn": arn.to_string(),
        "status": "READY",
        "createdAt": rfc3339(endpoint.created_at_ms),
        "lastUpdatedAt": rfc3339(endpoint.updated_at_ms),
        "liveVersion": endpoint.version.to_string(),
        "targetVersion": endpoint.version.to_string(),
    })
}

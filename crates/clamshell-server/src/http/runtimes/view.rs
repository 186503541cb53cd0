//! Runtimes and endpoints as the API shows them (`runtime.md` 4.5).

use clamshell_domain::{Artifact, Endpoint, Hosting, ResourceStatus, Runtime, ServerProtocol};
use clamshell_store::VersionRecord;
use clamshell_wire::{Timestamp, generated::control as api};

use super::definition::Definition;
use crate::app::App;

/// An entry of the lists of runtimes and versions.
pub(super) fn item(app: &App, record: &VersionRecord) -> api::AgentRuntime {
    let runtime = &record.runtime;
    api::AgentRuntime {
        agent_runtime_arn: app.runtime_arn(&runtime.runtime_id).to_string(),
        agent_runtime_id: runtime.runtime_id.to_string(),
        agent_runtime_name: runtime.name.to_string(),
        agent_runtime_version: runtime.version.to_string(),
        description: runtime.description.clone(),
        last_updated_at: Timestamp::from_ms(record.updated_at_ms),
        status: status(record.status),
    }
}

/// Everything of a version.
pub(super) fn detail(app: &App, record: &VersionRecord) -> api::GetAgentRuntimeResponse {
    let runtime = &record.runtime;
    let definition = runtime.hosting.as_ref().and_then(Definition::of);
    let definition = definition.unwrap_or_else(|| declared(app, runtime));
    let seconds = |seconds: u64| i32::try_from(seconds).ok();
    api::GetAgentRuntimeResponse {
        agent_runtime_arn: app.runtime_arn(&runtime.runtime_id).to_string(),
        agent_runtime_artifact: Some(definition.agent_runtime_artifact),
        agent_runtime_id: runtime.runtime_id.to_string(),
        agent_runtime_name: runtime.name.to_string(),
        agent_runtime_version: runtime.version.to_string(),
        allowed_ports: definition.allowed_ports,
        authorizer_configuration: definition.authorizer_configuration,
        capacity_provider_configuration: None,
        created_at: Timestamp::from_ms(record.runtime_created_at_ms),
        description: (!runtime.description.is_empty()).then(|| runtime.description.clone()),
        environment_variables: (!runtime.environment.is_empty()).then(|| runtime.environment.clone()),
        failure_reason: record.failure_reason.clone(),
        filesystem_configurations: definition.filesystem_configurations,
        hooks_configuration: definition.hooks_configuration,
        last_updated_at: Timestamp::from_ms(record.updated_at_ms),
        lifecycle_configuration: api::LifecycleConfiguration {
            idle_runtime_session_timeout: seconds(runtime.lifecycle.idle_timeout_s),
            max_lifetime: seconds(runtime.lifecycle.max_lifetime_s),
        },
        metadata_configuration: definition.metadata_configuration,
        network_configuration: definition.network_configuration,
        platform_version: definition.platform_version,
        protocol_configuration: definition.protocol_configuration,
        request_header_configuration: definition.request_header_configuration,
        resource_configurations: definition.resource_configurations,
        role_arn: definition.role_arn,
        status: status(record.status),
        workload_identity_details: Some(workload_identity(app, runtime)),
    }
}

/// A version that the configuration declares, as if a call had made it.
fn declared(app: &App, runtime: &Runtime) -> Definition {
    let hosting = runtime.hosting.as_ref();
    let no_role = || format!("arn:aws:iam::{}:role/clamshell-none", app.account_id);
    let protocol = hosting.map_or(api::ServerProtocol::Http, |hosting| server_protocol(hosting.protocol));
    Definition::minimal(
        artifact(&runtime.artifact),
        hosting.map_or_else(no_role, |hosting: &Hosting| hosting.role_arn.clone()),
        protocol,
        runtime.network,
    )
}

fn server_protocol(protocol: ServerProtocol) -> api::ServerProtocol {
    match protocol {
        ServerProtocol::Http => api::ServerProtocol::Http,
        ServerProtocol::Mcp => api::ServerProtocol::Mcp,
        ServerProtocol::A2a => api::ServerProtocol::A2a,
        ServerProtocol::AgUi => api::ServerProtocol::Agui,
    }
}

fn artifact(artifact: &Artifact) -> api::AgentRuntimeArtifact {
    let container = |container_uri: String| {
        api::AgentRuntimeArtifact::ContainerConfiguration(api::ContainerConfiguration { container_uri })
    };
    match artifact {
        Artifact::Host => container("host".to_owned()),
        Artifact::Directory { path } => container(format!("dir:{}", path.display())),
        Artifact::Oci { path, .. } => container(format!("oci:{}", path.display())),
        Artifact::Image { reference, .. } => container(reference.clone()),
        Artifact::Code { location, runtime, entry_point, .. } => {
            let name = serde_json::Value::String(runtime.as_str().to_owned());
            api::AgentRuntimeArtifact::CodeConfiguration(api::CodeConfiguration {
                code: api::Code::S3(api::S3Location {
                    bucket: location.bucket.clone(),
                    prefix: location.key.clone(),
                    version_id: location.version_id.clone(),
                }),
                entry_point: entry_point.clone(),
                runtime: serde_json::from_value(name).unwrap_or(api::AgentManagedRuntimeType::Node22),
            })
        }
    }
}

/// Name under which a runtime is known to identity providers.
pub(super) fn workload_identity(app: &App, runtime: &Runtime) -> api::WorkloadIdentityDetails {
    let mut arn = app.runtime_arn(&runtime.runtime_id).runtime().to_string();
    let tail = format!("workload-identity-directory/default/workload-identity/{}", runtime.runtime_id);
    arn.truncate(arn.rfind(':').map_or(0, |colon| colon + 1));
    api::WorkloadIdentityDetails { workload_identity_arn: format!("{arn}{tail}") }
}

/// An endpoint, whole.
pub(in crate::http) fn endpoint(app: &App, endpoint: &Endpoint) -> api::GetAgentRuntimeEndpointResponse {
    let arn = app.runtime_arn(&endpoint.runtime_id);
    api::GetAgentRuntimeEndpointResponse {
        agent_runtime_arn: arn.to_string(),
        agent_runtime_endpoint_arn: arn.with_endpoint(endpoint.name.as_str()).to_string(),
        created_at: Timestamp::from_ms(endpoint.created_at_ms),
        description: endpoint.description.clone(),
        failure_reason: endpoint.failure_reason.clone(),
        id: endpoint.endpoint_id.clone(),
        last_updated_at: Timestamp::from_ms(endpoint.updated_at_ms),
        live_version: endpoint.has_live_version().then(|| endpoint.version.to_string()),
        name: endpoint.name.to_string(),
        status: endpoint_status(endpoint.status),
        target_version: Some(endpoint.target_version.to_string()),
    }
}

/// An entry of the list of endpoints.
pub(in crate::http) fn endpoint_item(app: &App, of: &Endpoint) -> api::AgentRuntimeEndpoint {
    let whole = endpoint(app, of);
    api::AgentRuntimeEndpoint {
        agent_runtime_arn: whole.agent_runtime_arn,
        agent_runtime_endpoint_arn: whole.agent_runtime_endpoint_arn,
        created_at: whole.created_at,
        description: whole.description,
        id: whole.id,
        last_updated_at: whole.last_updated_at,
        live_version: whole.live_version,
        name: whole.name,
        status: whole.status,
        target_version: whole.target_version,
    }
}

/// Status of a runtime.
pub(super) fn status(status: ResourceStatus) -> api::AgentRuntimeStatus {
    match status {
        ResourceStatus::Creating => api::AgentRuntimeStatus::Creating,
        ResourceStatus::CreateFailed => api::AgentRuntimeStatus::CreateFailed,
        ResourceStatus::Updating => api::AgentRuntimeStatus::Updating,
        ResourceStatus::UpdateFailed => api::AgentRuntimeStatus::UpdateFailed,
        ResourceStatus::Ready => api::AgentRuntimeStatus::Ready,
        ResourceStatus::Deleting => api::AgentRuntimeStatus::Deleting,
        ResourceStatus::DeleteFailed => api::AgentRuntimeStatus::DeleteFailed,
    }
}

/// Status of an endpoint.
fn endpoint_status(status: ResourceStatus) -> api::AgentRuntimeEndpointStatus {
    match status {
        ResourceStatus::Creating => api::AgentRuntimeEndpointStatus::Creating,
        ResourceStatus::CreateFailed => api::AgentRuntimeEndpointStatus::CreateFailed,
        ResourceStatus::Updating => api::AgentRuntimeEndpointStatus::Updating,
        ResourceStatus::UpdateFailed => api::AgentRuntimeEndpointStatus::UpdateFailed,
        ResourceStatus::Ready => api::AgentRuntimeEndpointStatus::Ready,
        ResourceStatus::Deleting => api::AgentRuntimeEndpointStatus::Deleting,
        ResourceStatus::DeleteFailed => api::AgentRuntimeEndpointStatus::DeleteFailed,
    }
}

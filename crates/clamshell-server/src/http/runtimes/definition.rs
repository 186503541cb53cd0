//! What a create or update call says of a runtime, and the version that is made of it (`runtime.md` 4.3, 8.4).

use std::collections::BTreeMap;

use clamshell_domain::{
    Artifact, CodeRuntime, Hosting, LifecycleConfiguration, Limits, NetworkMode, ObjectLocation, Runtime,
    RuntimeId, RuntimeName, ServerProtocol,
};
use clamshell_identity::jwt::{JwtAuthorizer, JwtAuthorizerInput};
use clamshell_wire::{AwsError, generated::control as api};
use serde::{Deserialize, Serialize};

use super::rules;
use crate::{
    config::{self, Config},
    http::ApiError,
};

/// Sum of the lengths of variables and values, by platform version and artifact.
const ENVIRONMENT_BYTES_MAX: usize = 4096;
const ENVIRONMENT_BYTES_MAX_V2_CONTAINER: usize = 2560;
const ENVIRONMENT_BYTES_MAX_V2_CODE: usize = 1536;

const MIB: u64 = 1 << 20;

/// Platform versions that exist. V2 differs from V1 in its cold start only, which is fast here in any case.
const PLATFORMS: [&str; 2] = ["V1", "V2"];

/// Members that both calls have. Stored with the version as they came, filled up with defaults, for Get to answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Definition {
    pub(super) agent_runtime_artifact: api::AgentRuntimeArtifact,
    pub(super) role_arn: String,
    pub(super) network_configuration: Option<api::NetworkConfiguration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) authorizer_configuration: Option<api::AuthorizerConfiguration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) request_header_configuration: Option<api::RequestHeaderConfiguration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) protocol_configuration: Option<api::ProtocolConfiguration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lifecycle_configuration: Option<api::LifecycleConfiguration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hooks_configuration: Option<api::RuntimeHooksConfiguration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) metadata_configuration: Option<api::RuntimeMetadataConfiguration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) filesystem_configurations: Option<Vec<api::FilesystemConfiguration>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) allowed_ports: Option<Vec<api::AllowedPort>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resource_configurations: Option<Vec<api::ResourceConfiguration>>,
    // Refused, or kept in the version itself.
    #[serde(skip)]
    capacity_provider_configuration: Option<api::CapacityProviderConfiguration>,
    #[serde(skip)]
    environment_variables: Option<BTreeMap<String, String>>,
    #[serde(skip)]
    description: Option<String>,
    #[serde(skip)]
    is_creation: bool,
}

impl From<api::CreateAgentRuntimeRequest> for Definition {
    fn from(input: api::CreateAgentRuntimeRequest) -> Self {
        Self {
            agent_runtime_artifact: input.agent_runtime_artifact,
            role_arn: input.role_arn,
            network_configuration: input.network_configuration,
            authorizer_configuration: input.authorizer_configuration,
            request_header_configuration: input.request_header_configuration,
            protocol_configuration: input.protocol_configuration,
            lifecycle_configuration: input.lifecycle_configuration,
            hooks_configuration: input.hooks_configuration,
            metadata_configuration: None,
            filesystem_configurations: input.filesystem_configurations,
            platform_version: input.platform_version,
            allowed_ports: input.allowed_ports,
            resource_configurations: input.resource_configurations,
            capacity_provider_configuration: input.capacity_provider_configuration,
            environment_variables: input.environment_variables,
            description: input.description,
            is_creation: true,
        }
    }
}

impl From<api::UpdateAgentRuntimeRequest> for Definition {
    fn from(input: api::UpdateAgentRuntimeRequest) -> Self {
        Self {
            agent_runtime_artifact: input.agent_runtime_artifact,
            role_arn: input.role_arn,
            network_configuration: input.network_configuration,
            authorizer_configuration: input.authorizer_configuration,
            request_header_configuration: input.request_header_configuration,
            protocol_configuration: input.protocol_configuration,
            lifecycle_configuration: input.lifecycle_configuration,
            hooks_configuration: input.hooks_configuration,
            metadata_configuration: input.metadata_configuration,
            filesystem_configurations: input.filesystem_configurations,
            platform_version: input.platform_version,
            allowed_ports: input.allowed_ports,
            resource_configurations: input.resource_configurations,
            capacity_provider_configuration: input.capacity_provider_configuration,
            environment_variables: input.environment_variables,
            description: input.description,
            is_creation: false,
        }
    }
}

/// What names the version that is made.
pub(super) struct VersionName {
    pub(super) runtime_id: RuntimeId,
    pub(super) name: RuntimeName,
    pub(super) version: u32,
    pub(super) now_ms: u64,
}

impl Definition {
    /// One with nothing but what every runtime has.
    pub(super) fn minimal(
        artifact: api::AgentRuntimeArtifact,
        role_arn: String,
        server_protocol: api::ServerProtocol,
        network: NetworkMode,
    ) -> Self {
        Self {
            agent_runtime_artifact: artifact,
            role_arn,
            // The model knows PUBLIC and VPC; a runtime that promises no network at all has no configuration of one.
            network_configuration: match network {
                NetworkMode::Sandbox => None,
                NetworkMode::Public => Some(api::NetworkConfiguration {
                    network_mode: api::NetworkMode::Public,
                    network_mode_config: None,
                }),
            },
            authorizer_configuration: None,
            request_header_configuration: None,
            protocol_configuration: Some(api::ProtocolConfiguration {
                path: None,
                port: None,
                server_protocol,
            }),
            lifecycle_configuration: None,
            hooks_configuration: None,
            metadata_configuration: Some(api::RuntimeMetadataConfiguration { require_mmdsv2: true }),
            filesystem_configurations: None,
            platform_version: None,
            allowed_ports: None,
            resource_configurations: None,
            capacity_provider_configuration: None,
            environment_variables: None,
            description: None,
            is_creation: false,
        }
    }

    /// What was stored with a version; `None` for one that no call of the API made.
    pub(super) fn of(hosting: &Hosting) -> Option<Self> {
        serde_json::from_str(&hosting.configuration).ok()
    }

    /// Checks the rules that the model cannot say, fills in defaults, and makes the version. `platform` is that of the
    /// version before: what an update that names none keeps. `allow_local`: the caller may name images of this machine.
    pub(super) fn into_runtime(
        mut self,
        name: VersionName,
        config: &Config,
        allow_local: bool,
        platform: Option<String>,
    ) -> Result<Runtime, ApiError> {
        if self.capacity_provider_configuration.is_some() {
            return Err(refuse(
                "capacityProviderConfiguration",
                "Member must be null: this server has no capacity providers",
            ));
        }
        self.network()?;
        let platform = self.platform_version.take().or(platform).unwrap_or_else(|| "V1".to_owned());
        if !PLATFORMS.contains(&platform.as_str()) {
            return Err(refuse("platformVersion", "Member must satisfy enum value set: [V1, V2]"));
        }
        let artifact = self.artifact(config, allow_local)?;
        let environment = self.environment_variables.take().unwrap_or_default();
        check_environment(&environment, &platform, &artifact)?;
        self.platform_version = Some(platform);
        let lifecycle = lifecycle(self.lifecycle_configuration.as_ref())?;
        self.metadata_configuration.get_or_insert(api::RuntimeMetadataConfiguration { require_mmdsv2: true });
        let protocol = self.protocol_configuration.get_or_insert(api::ProtocolConfiguration {
            path: None,
            port: None,
            server_protocol: api::ServerProtocol::Http,
        });
        let server_protocol = match protocol.server_protocol {
            api::ServerProtocol::Http => ServerProtocol::Http,
            api::ServerProtocol::Mcp => ServerProtocol::Mcp,
            api::ServerProtocol::A2a => ServerProtocol::A2a,
            api::ServerProtocol::Agui => ServerProtocol::AgUi,
        };
        let port = match protocol.port {
            None => server_protocol.default_port(),
            Some(port) => rules::port("protocolConfiguration.port", port)?,
        };
        let path = protocol.path.clone().unwrap_or_else(|| server_protocol.default_path().to_owned());
        rules::allowed_ports(self.allowed_ports.as_deref().unwrap_or_default())?;
        rules::hooks(self.hooks_configuration.as_ref())?;
        let authorizer = self.authorizer()?;
        let header_allowlist = match &self.request_header_configuration {
            None => Vec::new(),
            Some(api::RequestHeaderConfiguration::RequestHeaderAllowlist(names)) => {
                rules::header_allowlist(names, authorizer.is_some())?;
                names.clone()
            }
        };
        let is_vpc =
            self.network_configuration.as_ref().is_some_and(|it| it.network_mode == api::NetworkMode::Vpc);
        let file_systems =
            rules::file_systems(self.filesystem_configurations.as_deref().unwrap_or_default(), is_vpc)?;
        let limits = self.limits(config.limits)?;
        let description = self.description.take().unwrap_or_default();
        let configuration =
            serde_json::to_string(&self).map_err(|_| ApiError::Internal("a definition is not JSON"))?;
        Ok(Runtime {
            runtime_id: name.runtime_id,
            name: name.name,
            version: name.version,
            description,
            artifact,
            environment,
            lifecycle,
            limits,
            network: NetworkMode::Public,
            driver: None,
            hosting: Some(Hosting {
                role_arn: self.role_arn,
                protocol: server_protocol,
                port,
                path,
                header_allowlist,
                file_systems,
                authorizer,
                configuration,
            }),
            created_at_ms: name.now_ms,
        })
    }

    fn network(&mut self) -> Result<(), ApiError> {
        let network = self.network_configuration.get_or_insert(api::NetworkConfiguration {
            network_mode: api::NetworkMode::Public,
            network_mode_config: None,
        });
        let vpc = network.network_mode_config.as_ref();
        if self.is_creation && vpc.is_some_and(|vpc| vpc.require_service_s3_endpoint.is_some()) {
            return Err(refuse(
                "networkConfiguration.networkModeConfig.requireServiceS3Endpoint",
                "Member must be null when an agent runtime is created",
            ));
        }
        match (network.network_mode, vpc) {
            (api::NetworkMode::Vpc, None) => Err(refuse(
                "networkConfiguration.networkModeConfig",
                "Member must not be null for network mode VPC",
            )),
            (api::NetworkMode::Public, Some(_)) => Err(refuse(
                "networkConfiguration.networkModeConfig",
                "Member must be null for network mode PUBLIC",
            )),
            _ => Ok(()),
        }
    }

    fn artifact(&self, config: &Config, allow_local: bool) -> Result<Artifact, ApiError> {
        match &self.agent_runtime_artifact {
            api::AgentRuntimeArtifact::ContainerConfiguration(container) => {
                image(&container.container_uri, allow_local)
            }
            api::AgentRuntimeArtifact::CodeConfiguration(code) => {
                let api::Code::S3(location) = &code.code;
                let runtime = CodeRuntime::parse(code.runtime.as_str())
                    .ok_or_else(|| refuse("agentRuntimeArtifact.codeConfiguration.runtime", "unknown"))?;
                Ok(Artifact::Code {
                    location: ObjectLocation {
                        bucket: location.bucket.clone(),
                        key: location.prefix.clone(),
                        version_id: location.version_id.clone(),
                    },
                    runtime,
                    entry_point: code.entry_point.clone(),
                    base: Box::new(config.code_base_image.clone()),
                    digest: None,
                })
            }
        }
    }

    fn authorizer(&self) -> Result<Option<String>, ApiError> {
        let Some(api::AuthorizerConfiguration::CustomJWTAuthorizer(configuration)) =
            &self.authorizer_configuration
        else {
            return Ok(None);
        };
        let internal = |_| ApiError::Internal("an authorizer is not JSON");
        let value = serde_json::to_value(configuration).map_err(internal)?;
        let input: JwtAuthorizerInput = serde_json::from_value(value).map_err(|_| {
            refuse("authorizerConfiguration.customJWTAuthorizer", "Member must be an authorizer")
        })?;
        // It speaks of the calling workload, which a token does not name.
        if input.allowed_workload_configuration.is_some() {
            return Err(refuse(
                "authorizerConfiguration.customJWTAuthorizer.allowedWorkloadConfiguration",
                "Member is not supported",
            ));
        }
        let authorizer = JwtAuthorizer::try_from(input).map_err(|error| {
            let at = if error.field == "customJWTAuthorizer" {
                "authorizerConfiguration.customJWTAuthorizer".to_owned()
            } else {
                format!("authorizerConfiguration.customJWTAuthorizer.{}", error.field)
            };
            ApiError::from(AwsError::invalid_field(&at, &format!("Member {}", error.rule)))
        })?;
        serde_json::to_string(&authorizer).map(Some).map_err(internal)
    }

    fn limits(&self, operator: Limits) -> Result<Limits, ApiError> {
        const FIELD: &str = "resourceConfigurations.1.member.minimumMemoryInMiB";
        let asked = self.resource_configurations.iter().flatten().map(|it| it.minimum_memory_in_mi_b).max();
        let Some(asked) = asked else { return Ok(operator) };
        // What the operator allows is all there is, so who needs more than that cannot be served.
        match u64::try_from(asked) {
            Ok(1..) if u64::from(asked.unsigned_abs()) * MIB <= operator.memory_bytes => Ok(operator),
            Ok(1..) => {
                let most = operator.memory_bytes / MIB;
                let rule = format!("Member must have value less than or equal to {most}");
                Err(refuse(FIELD, &rule))
            }
            Ok(0) | Err(_) => Err(refuse(FIELD, "Member must have value greater than or equal to 1")),
        }
    }
}

fn refuse(field: &str, rule: &str) -> ApiError {
    AwsError::invalid_field(field, rule).into()
}

/// An image as `containerUri` names it.
fn image(uri: &str, allow_local: bool) -> Result<Artifact, ApiError> {
    const FIELD: &str = "agentRuntimeArtifact.containerConfiguration.containerUri";
    match config::artifact(uri) {
        Some(Artifact::Host | Artifact::Directory { .. } | Artifact::Oci { .. }) if !allow_local => {
            Err(refuse(
                FIELD,
                "Member must name an image of a registry: local images are not allowed to this caller (allow_local_images)",
            ))
        }
        Some(artifact) => Ok(artifact),
        None => Err(refuse(FIELD, "Member must be the name of an image")),
    }
}

fn check_environment(
    environment: &BTreeMap<String, String>,
    platform: &str,
    artifact: &Artifact,
) -> Result<(), ApiError> {
    const FIELD: &str = "environmentVariables";
    let is_code = matches!(artifact, Artifact::Code { .. });
    let most = match (platform, is_code) {
        ("V2", true) => ENVIRONMENT_BYTES_MAX_V2_CODE,
        ("V2", false) => ENVIRONMENT_BYTES_MAX_V2_CONTAINER,
        _ => ENVIRONMENT_BYTES_MAX,
    };
    if environment.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > most {
        return Err(refuse(FIELD, &format!("All variables together must have at most {most} bytes")));
    }
    let is_bad = |(name, value): (&String, &String)| name.contains(['=', '\0']) || value.contains('\0');
    if environment.iter().any(is_bad) {
        return Err(refuse(FIELD, "Names must not contain = or NUL, and values no NUL"));
    }
    Ok(())
}

/// Timers: what is not given follows from what is (`runtime.md` 8.4).
fn lifecycle(given: Option<&api::LifecycleConfiguration>) -> Result<LifecycleConfiguration, ApiError> {
    let default = LifecycleConfiguration::default();
    let seconds = |value: Option<i32>| value.and_then(|value| u64::try_from(value).ok());
    let idle = given.and_then(|given| seconds(given.idle_runtime_session_timeout));
    let max = given.and_then(|given| seconds(given.max_lifetime));
    let made = match (idle, max) {
        (None, None) => default,
        (None, Some(max)) => {
            LifecycleConfiguration { idle_timeout_s: default.idle_timeout_s.min(max), max_lifetime_s: max }
        }
        (Some(idle), None) => {
            LifecycleConfiguration { idle_timeout_s: idle, max_lifetime_s: default.max_lifetime_s.max(idle) }
        }
        (Some(idle), Some(max)) => LifecycleConfiguration { idle_timeout_s: idle, max_lifetime_s: max },
    };
    if made.idle_timeout_s > made.max_lifetime_s {
        return Err(refuse(
            "lifecycleConfiguration.idleRuntimeSessionTimeout",
            "Member must have value less than or equal to maxLifetime",
        ));
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_that_are_not_given_follow_from_those_that_are() {
        let check = |idle: Option<i32>, max: Option<i32>, expect: Option<(u64, u64)>| {
            let given = api::LifecycleConfiguration { idle_runtime_session_timeout: idle, max_lifetime: max };
            let seen = lifecycle(Some(&given)).ok().map(|made| (made.idle_timeout_s, made.max_lifetime_s));
            assert_eq!(seen, expect, "{idle:?} {max:?}");
        };
        check(None, None, Some((900, 28_800)));
        check(None, Some(600), Some((600, 600)));
        check(None, Some(900), Some((900, 900)));
        check(None, Some(1_209_600), Some((900, 1_209_600)));
        check(Some(60), None, Some((60, 28_800)));
        check(Some(40_000), None, Some((40_000, 40_000)));
        check(Some(60), Some(60), Some((60, 60)));
        check(Some(61), Some(60), None);
        assert_eq!(lifecycle(None).unwrap(), LifecycleConfiguration::default());
    }

    #[test]
    fn images_are_local_or_of_a_registry() {
        let check = |uri: &str, allow_local: bool, expect: Option<Artifact>| {
            assert_eq!(image(uri, allow_local).ok(), expect, "{uri} {allow_local}");
        };
        let registry = |uri: &str| Some(Artifact::Image { reference: uri.to_owned(), digest: None });
        check("host", true, Some(Artifact::Host));
        check("host", false, None);
        check("dir:/a", true, Some(Artifact::Directory { path: "/a".into() }));
        check("dir:/a", false, None);
        check("dir:a", true, None);
        check(
            "oci:/a.tar#b",
            true,
            Some(Artifact::Oci { path: "/a.tar".into(), reference: Some("b".to_owned()) }),
        );
        check("oci:/a.tar", false, None);
        for uri in ["alpine", "123456789012.dkr.ecr.us-west-2.amazonaws.com/a/b:1", "localhost:5000/a"] {
            check(uri, true, registry(uri));
            check(uri, false, registry(uri));
        }
        for uri in ["", "A B", "a:b:c", "../x", "host:/x/../y z"] {
            check(uri, true, None);
        }
    }

    #[test]
    fn the_environment_has_a_bound_by_platform_and_artifact() {
        let check = |bytes: usize, platform: &str, artifact: &Artifact, expect: bool| {
            let environment = BTreeMap::from([("A".to_owned(), "v".repeat(bytes - 1))]);
            let seen = check_environment(&environment, platform, artifact).is_ok();
            assert_eq!(seen, expect, "{bytes} {platform}");
        };
        let code = Artifact::Code {
            location: ObjectLocation { bucket: "b".into(), key: "k".into(), version_id: None },
            runtime: CodeRuntime::Node22,
            entry_point: vec![],
            base: Box::new(Artifact::Host),
            digest: None,
        };
        for (artifact, v1, v2) in [(&Artifact::Host, 4096, 2560), (&code, 4096, 1536)] {
            check(v1, "V1", artifact, true);
            check(v1 + 1, "V1", artifact, false);
            check(v2, "V2", artifact, true);
            check(v2 + 1, "V2", artifact, false);
        }
        for (name, value) in [("A=B", "x"), ("A\0", "x"), ("A", "\0")] {
            let environment = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            assert!(check_environment(&environment, "V1", &Artifact::Host).is_err());
        }
    }
}

//! How an agent is started: command line, user, folder and variables (`runtime.md` 7.2 and section 12).

use clamshell_domain::{
    AccountId, Artifact, Hosting, ImageConfig, NetworkMode, Region, Runtime, ServerProtocol, SessionKey,
};
use clamshell_protocol::AgentSpec;
use clamshell_wire::{arn::RuntimeArn, percent_encode};

/// Where programs are looked for when an image does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Who runs code zips.
const CODE_USER: &str = "agentcore-runtime-user";

/// Output kept in the sandbox: what an agent may print while no server runs, before the oldest goes.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// What the network mode of a runtime promises and no driver gives yet, in words for its log and the session's description.
pub(crate) fn missing_network(runtime: &Runtime) -> Option<&'static str> {
    match runtime.network {
        NetworkMode::Sandbox => None,
        NetworkMode::Public => Some(
            "network: loopback only; this server gives sandboxes no way out yet, whatever their network mode",
        ),
    }
}

/// What the environment tells the agent about where it runs.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    pub(super) key: &'a SessionKey,
    pub(super) region: &'a Region,
    pub(super) account_id: &'a AccountId,
    /// Base URL of this server, once it is known.
    pub(super) endpoint: Option<&'a str>,
}

/// What the guest is asked to start.
///
/// # Errors
/// In words for the runtime's log, when there is nothing to start.
pub(super) fn spec(
    runtime: &Runtime,
    hosting: &Hosting,
    image: Option<ImageConfig>,
    place: &Place<'_>,
) -> Result<AgentSpec, String> {
    let image = image.unwrap_or_default();
    let argv = image.argv();
    if argv.is_empty() {
        return Err(
            "the image has neither an entry point nor a command, so there is no agent to start".into()
        );
    }
    let user = match runtime.artifact {
        Artifact::Code { .. } => image.user.unwrap_or_else(|| CODE_USER.to_owned()),
        Artifact::Host | Artifact::Directory { .. } | Artifact::Oci { .. } | Artifact::Image { .. } => {
            image.user.unwrap_or_default()
        }
    };
    Ok(AgentSpec {
        argv,
        env: environment(runtime, hosting, image.env, place),
        cwd: image.working_dir.unwrap_or_else(|| "/".to_owned()),
        user,
        log_bytes_max: LOG_BYTES_MAX,
        stop_signal: image.stop_signal.map(i32::from),
    })
}

/// The image's variables, the platform's over them, and the runtime's over both.
fn environment(
    runtime: &Runtime,
    hosting: &Hosting,
    image: Vec<(String, String)>,
    place: &Place<'_>,
) -> Vec<(String, String)> {
    let mut env = image;
    if !env.iter().any(|(name, _)| name == "PATH") {
        env.push(("PATH".to_owned(), PATH.to_owned()));
    }
    let own = platform(runtime, hosting, place).into_iter();
    let given = runtime.environment.iter().map(|(name, value)| (name.clone(), value.clone()));
    for (name, value) in own.chain(given) {
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
    }
    env
}

fn platform(runtime: &Runtime, hosting: &Hosting, place: &Place<'_>) -> Vec<(String, String)> {
    let arn = RuntimeArn {
        partition: "aws".to_owned(),
        region: place.region.to_string(),
        account_id: place.account_id.to_string(),
        runtime_id: runtime.runtime_id.to_string(),
        endpoint: None,
    };
    let (endpoint, id) = (&place.key.endpoint, &runtime.runtime_id);
    // The SDK cuts `cloud.resource_id` at `/runtime-endpoint/` to learn the agent's ARN.
    let resource = format!(
        "service.name={}.{endpoint},aws.service.type=gen_ai_agent,\
         aws.log.group.names=/aws/bedrock-agentcore/runtimes/{id}-{endpoint},\
         cloud.resource_id={arn}/runtime-endpoint/{endpoint}:{endpoint},\
         cloud.provider=aws,cloud.region={}",
        runtime.name, place.region,
    );
    let mut env = vec![
        // Without it servers made with the SDK listen for the sandbox's own programs alone.
        ("DOCKER_CONTAINER".to_owned(), "1".to_owned()),
        ("AWS_REGION".to_owned(), place.region.to_string()),
        ("AWS_DEFAULT_REGION".to_owned(), place.region.to_string()),
        ("OTEL_RESOURCE_ATTRIBUTES".to_owned(), resource),
    ];
    if hosting.protocol == ServerProtocol::A2a
        && let Some(server) = place.endpoint
    {
        let arn = percent_encode(&arn.to_string());
        env.push(("AGENTCORE_RUNTIME_URL".to_owned(), format!("{server}/runtimes/{arn}/invocations/")));
    }
    env
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clamshell_domain::{
        CodeRuntime, EndpointName, LifecycleConfiguration, Limits, ObjectLocation, RuntimeId, RuntimeName,
        SessionId,
    };

    use super::*;

    fn hosting(protocol: ServerProtocol) -> Hosting {
        Hosting {
            role_arn: "arn:aws:iam::123456789012:role/agent".to_owned(),
            protocol,
            port: protocol.default_port(),
            path: protocol.default_path().to_owned(),
            header_allowlist: Vec::new(),
            file_systems: Vec::new(),
            authorizer: None,
            configuration: String::new(),
        }
    }

    fn runtime(artifact: Artifact, environment: &[(&str, &str)]) -> Runtime {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Runtime {
            runtime_id: RuntimeId::parse("weather-0123456789").unwrap(),
            name: RuntimeName::parse("weather").unwrap(),
            version: 1,
            description: String::new(),
            artifact,
            environment: environment.collect::<BTreeMap<_, _>>(),
            lifecycle: LifecycleConfiguration::default(),
            limits: Limits::default(),
            network: NetworkMode::Sandbox,
            driver: None,
            hosting: None,
            created_at_ms: 0,
        }
    }

    fn started(runtime: &Runtime, hosting: &Hosting, image: ImageConfig) -> Result<AgentSpec, String> {
        let key = SessionKey {
            runtime_id: runtime.runtime_id.clone(),
            endpoint: EndpointName::parse("DEFAULT").unwrap(),
            session_id: SessionId::parse("a-session-that-hosts-an-agent-00000001").unwrap(),
        };
        let place = Place {
            key: &key,
            region: &Region::parse("us-west-2").unwrap(),
            account_id: &AccountId::parse("123456789012").unwrap(),
            endpoint: Some("https://agents.example"),
        };
        spec(runtime, hosting, Some(image), &place)
    }

    fn image(env: &[(&str, &str)]) -> ImageConfig {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        ImageConfig {
            env,
            entrypoint: vec!["/agent".into()],
            cmd: vec!["--serve".into()],
            ..Default::default()
        }
    }

    fn get<'a>(spec: &'a AgentSpec, name: &str) -> Vec<&'a str> {
        spec.env.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn the_runtime_wins_over_the_platform_and_that_over_the_image() {
        let runtime = runtime(Artifact::Host, &[("AWS_REGION", "mine"), ("MODEL", "small")]);
        let env =
            [("AWS_DEFAULT_REGION", "image"), ("AWS_REGION", "image"), ("MODEL", "image"), ("LANG", "C")];
        let spec = started(&runtime, &hosting(ServerProtocol::Http), image(&env)).unwrap();
        assert_eq!(get(&spec, "AWS_DEFAULT_REGION"), ["us-west-2"]);
        assert_eq!(get(&spec, "AWS_REGION"), ["mine"]);
        assert_eq!(get(&spec, "MODEL"), ["small"]);
        assert_eq!(get(&spec, "LANG"), ["C"]);
        assert_eq!(get(&spec, "PATH"), [PATH]);
        assert_eq!(get(&spec, "DOCKER_CONTAINER"), ["1"]);
        assert!(get(&spec, "AGENTCORE_RUNTIME_URL").is_empty());
        let resource = get(&spec, "OTEL_RESOURCE_ATTRIBUTES")[0];
        let arn =
            resource.split_once("cloud.resource_id=").unwrap().1.split_once("/runtime-endpoint/").unwrap();
        assert_eq!(arn.0, "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/weather-0123456789");
        assert!(arn.1.starts_with("DEFAULT:DEFAULT,"));
        assert_eq!(
            (spec.argv, spec.cwd, spec.user),
            (vec!["/agent".into(), "--serve".into()], "/".into(), String::new())
        );
    }

    #[test]
    fn a_network_that_is_not_given_is_told() {
        let mut runtime = runtime(Artifact::Host, &[]);
        assert_eq!(missing_network(&runtime), None);
        runtime.network = NetworkMode::Public;
        assert!(missing_network(&runtime).unwrap().starts_with("network: loopback only"));
    }

    #[test]
    fn agents_for_agents_learn_their_url() {
        let spec = started(&runtime(Artifact::Host, &[]), &hosting(ServerProtocol::A2a), image(&[])).unwrap();
        assert_eq!(
            get(&spec, "AGENTCORE_RUNTIME_URL"),
            [
                "https://agents.example/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aus-west-2%3A123456789012%3Aruntime%2Fweather-0123456789/invocations/"
            ]
        );
    }

    #[test]
    fn code_runs_as_the_agents_user() {
        let location = ObjectLocation { bucket: "b".into(), key: "k".into(), version_id: None };
        let code = Artifact::Code {
            location,
            runtime: CodeRuntime::Python311,
            entry_point: vec!["agent.py".into()],
            base: Box::new(Artifact::Host),
            digest: None,
        };
        let spec = started(&runtime(code, &[]), &hosting(ServerProtocol::Http), image(&[])).unwrap();
        assert_eq!(spec.user, CODE_USER);
        let mut named = image(&[]);
        named.user = Some("1001:1001".into());
        named.stop_signal = Some(2);
        let spec = started(&runtime(Artifact::Host, &[]), &hosting(ServerProtocol::Http), named).unwrap();
        assert_eq!((spec.user.as_str(), spec.stop_signal), ("1001:1001", Some(2)));
    }

    #[test]
    fn an_image_without_a_program_hosts_none() {
        let empty = ImageConfig::default();
        let error =
            started(&runtime(Artifact::Host, &[]), &hosting(ServerProtocol::Http), empty).unwrap_err();
        assert!(error.contains("entry point"), "{error}");
    }
}

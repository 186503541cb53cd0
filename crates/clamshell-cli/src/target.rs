//! Which server a command talks to, as whom, and about which runtime. Data in, data out.
//!
//! An endpoint that was named wins. Else the ARN of another account than the local server's is AWS.
//! Else it is the local server.

use std::{fmt, path::PathBuf};

use clamshell_server::local::ServerInfo;
use clamshell_wire::arn::RuntimeArn;

use crate::failure::Failure;

/// Environment variables that name an endpoint, first one wins.
const ENDPOINT_VARIABLES: [&str; 3] =
    ["CLAMSHELL_ENDPOINT_URL", "AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", "AWS_ENDPOINT_URL"];
const REGION_VARIABLES: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
/// With this in the environment, the user has chosen a key. A profile alone is no choice: it is there for AWS.
const KEY_VARIABLE: &str = "AWS_ACCESS_KEY_ID";

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Speaks TLS.
    pub(crate) tls: bool,
    /// Name or address, no brackets.
    pub(crate) host: String,
    /// Port.
    pub(crate) port: u16,
}

impl Endpoint {
    /// Parses `http://host[:port]` or `https://host[:port]`.
    pub(crate) fn parse(url: &str) -> Result<Self, Failure> {
        let bad = |why: &str| {
            Failure::new(format!("cannot use the endpoint `{url}`"))
                .because(why)
                .hint("an endpoint looks like http://127.0.0.1:7878")
        };
        let uri: http::Uri = url.parse().map_err(|_| bad("not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("it must start with http:// or https://")),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(bad("it must not have a path"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(bad("it must not have a user name"));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad("no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        Ok(Self { tls, host, port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }) })
    }

    /// The data-plane host of AWS.
    fn aws(partition: &str, region: &str) -> Self {
        let suffix = if partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
        Self { tls: true, host: format!("bedrock-agentcore.{region}.{suffix}"), port: 443 }
    }

    /// The endpoint of the control plane: AWS has two hosts, everybody else one.
    pub(crate) fn control(&self) -> Self {
        match self.host.strip_prefix("bedrock-agentcore.") {
            Some(rest) => Self { host: format!("bedrock-agentcore-control.{rest}"), ..self.clone() },
            None => self.clone(),
        }
    }

    /// Where S3 is: beside AWS's own planes, else at the same address.
    pub(crate) fn objects(&self) -> Self {
        match self.host.strip_prefix("bedrock-agentcore.") {
            Some(rest) => Self { host: format!("s3.{rest}"), ..self.clone() },
            None => self.clone(),
        }
    }

    /// `Host` header: a default port is left out.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    fn same_place(&self, other: &Self) -> bool {
        let plain = |host: &str| if host == "localhost" { "127.0.0.1".to_owned() } else { host.to_owned() };
        plain(&self.host) == plain(&other.host) && self.port == other.port
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The server of this machine and data directory.
    Local,
    /// An endpoint named by flag or environment.
    Named,
    /// Amazon Bedrock AgentCore.
    Aws,
}

/// What requests are authenticated with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The local server's root key, read from the data directory.
    Root,
    /// The default credential chain of AWS clients.
    Chain,
    /// A bearer token.
    Bearer(String),
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "Root",
            Self::Chain => "Chain",
            Self::Bearer(_) => "Bearer(...)",
        })
    }
}

/// Which runtime was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RuntimeChoice {
    /// None was named.
    Default,
    /// A name or id.
    Name(String),
    /// A full ARN.
    Arn(RuntimeArn),
}

/// What flags say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// `--endpoint-url`
    pub(crate) endpoint_url: Option<String>,
    /// `--region`
    pub(crate) region: Option<String>,
    /// `--runtime`
    pub(crate) runtime: Option<String>,
    /// `--bearer-token`
    pub(crate) bearer_token: Option<String>,
    /// `--data-dir`, with its default filled in
    pub(crate) data_dir: PathBuf,
}

/// The server that a command talks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Where.
    pub(crate) endpoint: Endpoint,
    /// Whose.
    pub(crate) place: Place,
    /// As whom.
    pub(crate) identity: Identity,
    /// Region of signatures.
    pub(crate) region: String,
    /// The runtime.
    pub(crate) runtime: RuntimeChoice,
    /// Default runtime, when the server is known to have one.
    pub(crate) default_runtime_arn: Option<String>,
    /// Further trusted CA certificate.
    pub(crate) ca_path: Option<PathBuf>,
    /// Data directory of the local server.
    pub(crate) data_dir: PathBuf,
}

impl Target {
    /// Whether it is Amazon's, found by the ARN or named by its host.
    pub(crate) fn is_aws(&self) -> bool {
        self.place == Place::Aws || region_in_host(&self.endpoint.host).is_some()
    }
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Talk to this one.
    Ready(Box<Target>),
    /// It is the local server, and that does not run.
    LocalServerNeeded,
}

/// Decides. `local` is what `server.json` says, `alive` whether that server answers.
pub(crate) fn resolve(
    wanted: &Wanted,
    variable: &dyn Fn(&str) -> Option<String>,
    local: Option<&ServerInfo>,
    alive: bool,
) -> Result<Resolution, Failure> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let runtime = parse_runtime(wanted.runtime.clone().or_else(|| variable("CLAMSHELL_RUNTIME")))?;
    let arn = match &runtime {
        RuntimeChoice::Arn(arn) => Some(arn.clone()),
        RuntimeChoice::Default | RuntimeChoice::Name(_) => None,
    };
    if let (Some(region), Some(arn)) = (&wanted.region, &arn)
        && *region != arn.region
    {
        return Err(Failure::new("the regions do not agree")
            .because(format!("--region is {region}, the runtime's ARN says {}", arn.region))
            .hint("leave --region out: the ARN is enough"));
    }
    let bearer = wanted.bearer_token.clone().map(Identity::Bearer);
    let chosen_region =
        || wanted.region.clone().or_else(|| REGION_VARIABLES.iter().find_map(|name| variable(name)));
    let target = |endpoint: Endpoint, place: Place, identity: Identity, region: String| {
        let ours =
            local.filter(|info| Endpoint::parse(&info.endpoint).is_ok_and(|at| at.same_place(&endpoint)));
        Resolution::Ready(Box::new(Target {
            endpoint,
            place,
            identity: bearer.clone().unwrap_or(identity),
            region,
            runtime: runtime.clone(),
            default_runtime_arn: ours.map(|info| info.default_runtime_arn.clone()),
            ca_path: ours.and_then(|info| info.ca_path.clone()),
            data_dir: wanted.data_dir.clone(),
        }))
    };

    let named =
        wanted.endpoint_url.clone().or_else(|| ENDPOINT_VARIABLES.iter().find_map(|name| variable(name)));
    if let Some(url) = named {
        let endpoint = Endpoint::parse(&url)?;
        let ours =
            local.filter(|info| Endpoint::parse(&info.endpoint).is_ok_and(|at| at.same_place(&endpoint)));
        let has_keys = variable(KEY_VARIABLE).is_some();
        let identity = if ours.is_some() && !has_keys { Identity::Root } else { Identity::Chain };
        let region = arn
            .as_ref()
            .map(|arn| arn.region.clone())
            .or_else(|| wanted.region.clone())
            .or_else(|| ours.map(|info| info.region.clone()))
            .or_else(chosen_region)
            .or_else(|| region_in_host(&endpoint.host));
        let region = region.ok_or_else(|| {
            Failure::new("the region is not known")
                .because(format!("{endpoint} does not tell it"))
                .hint("give --region, set AWS_REGION, or name the runtime by its ARN")
        })?;
        let place = if ours.is_some() { Place::Local } else { Place::Named };
        return Ok(target(endpoint, place, identity, region));
    }

    if let Some(arn) = &arn {
        let elsewhere = local.is_none_or(|info| info.account_id != arn.account_id);
        if elsewhere {
            let endpoint = Endpoint::aws(&arn.partition, &arn.region);
            return Ok(target(endpoint, Place::Aws, Identity::Chain, arn.region.clone()));
        }
    }
    let Some(info) = local.filter(|_| alive) else {
        return Ok(Resolution::LocalServerNeeded);
    };
    let asked = wanted.region.as_ref().or(arn.as_ref().map(|arn| &arn.region));
    if let Some(region) = asked
        && *region != info.region
    {
        return Err(Failure::new("the regions do not agree")
            .because(format!("asked for {region}, the local server is in {}", info.region))
            .hint("name another server with --endpoint-url, or a runtime by its ARN"));
    }
    let endpoint = Endpoint::parse(&info.endpoint)?;
    Ok(target(endpoint, Place::Local, Identity::Root, info.region.clone()))
}

fn parse_runtime(text: Option<String>) -> Result<RuntimeChoice, Failure> {
    let Some(text) = text else { return Ok(RuntimeChoice::Default) };
    if text.starts_with("arn:") {
        return match RuntimeArn::parse(&text) {
            Ok(arn) => Ok(RuntimeChoice::Arn(arn)),
            Err(error) => Err(Failure::new(format!("cannot use the runtime `{text}`")).because_of(&error)),
        };
    }
    let ok = text.len() <= 111
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if ok {
        Ok(RuntimeChoice::Name(text))
    } else {
        Err(Failure::new(format!("cannot use the runtime `{text}`"))
            .because("neither a name nor an ARN")
            .hint("a name has letters, digits and _; an ARN starts with arn:aws:bedrock-agentcore:"))
    }
}

fn region_in_host(host: &str) -> Option<String> {
    let rest = host.strip_prefix("bedrock-agentcore.")?;
    let (region, suffix) = rest.split_once('.')?;
    (suffix.contains("amazonaws.com") || suffix == "api.aws").then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL_ARN: &str = "arn:aws:bedrock-agentcore:us-west-2:111122223333:runtime/default-AbCdE12345";
    const AWS_ARN: &str = "arn:aws:bedrock-agentcore:eu-central-1:999988887777:runtime/demo-AbCdE12345";
    const CN_ARN: &str = "arn:aws-cn:bedrock-agentcore:cn-north-1:999988887777:runtime/demo-AbCdE12345";

    fn info() -> ServerInfo {
        ServerInfo {
            pid: 1,
            endpoint: "http://127.0.0.1:7878".to_owned(),
            account_id: "111122223333".to_owned(),
            region: "us-west-2".to_owned(),
            default_runtime_arn: LOCAL_ARN.to_owned(),
            ca_path: Some(PathBuf::from("/data/ca.pem")),
            version: "0".to_owned(),
            build: None,
        }
    }

    /// One word per fact: endpoint, place, identity, region; `start`, or `error: ...`.
    fn check(flags: &[(&str, &str)], variables: &[(&str, &str)], local: Option<bool>, expect: &str) {
        let flag =
            |name: &str| flags.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let wanted = Wanted {
            endpoint_url: flag("endpoint-url"),
            region: flag("region"),
            runtime: flag("runtime"),
            bearer_token: flag("bearer-token"),
            data_dir: PathBuf::from("/data"),
        };
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let info = local.map(|_| info());
        let found = match resolve(&wanted, &variable, info.as_ref(), local == Some(true)) {
            Ok(Resolution::Ready(target)) => {
                format!("{} {:?} {:?} {}", target.endpoint, target.place, target.identity, target.region)
            }
            Ok(Resolution::LocalServerNeeded) => "start".to_owned(),
            Err(failure) => format!("error: {}", failure.message()),
        };
        assert_eq!(found, expect, "{flags:?} {variables:?} {local:?}");
    }

    #[test]
    fn without_a_word_it_is_the_local_server() {
        check(&[], &[], Some(true), "http://127.0.0.1:7878 Local Root us-west-2");
        check(&[("runtime", "other")], &[], Some(true), "http://127.0.0.1:7878 Local Root us-west-2");
        check(&[("runtime", LOCAL_ARN)], &[], Some(true), "http://127.0.0.1:7878 Local Root us-west-2");
        check(&[], &[], Some(false), "start");
        check(&[], &[], None, "start");
        check(&[("runtime", LOCAL_ARN)], &[], Some(false), "start");
    }

    #[test]
    fn the_arn_of_another_account_is_aws() {
        let aws = "https://bedrock-agentcore.eu-central-1.amazonaws.com Aws Chain eu-central-1";
        check(&[("runtime", AWS_ARN)], &[], Some(true), aws);
        check(&[("runtime", AWS_ARN)], &[], None, aws);
        check(&[], &[("CLAMSHELL_RUNTIME", AWS_ARN)], Some(true), aws);
        check(
            &[("runtime", CN_ARN)],
            &[],
            None,
            "https://bedrock-agentcore.cn-north-1.amazonaws.com.cn Aws Chain cn-north-1",
        );
    }

    #[test]
    fn a_named_endpoint_wins() {
        check(
            &[("endpoint-url", "https://example.org"), ("region", "us-east-1")],
            &[("AWS_ENDPOINT_URL", "http://other")],
            Some(true),
            "https://example.org Named Chain us-east-1",
        );
        check(
            &[("runtime", AWS_ARN)],
            &[("AWS_ENDPOINT_URL", "http://other:81")],
            Some(true),
            "http://other:81 Named Chain eu-central-1",
        );
        let first = [("AWS_ENDPOINT_URL", "http://c"), ("CLAMSHELL_ENDPOINT_URL", "http://a")];
        check(&[("region", "us-east-1")], &first, None, "http://a Named Chain us-east-1");
        check(
            &[],
            &[("AWS_ENDPOINT_URL", "http://c"), ("AWS_REGION", "x-1")],
            None,
            "http://c Named Chain x-1",
        );
        check(
            &[("endpoint-url", "https://bedrock-agentcore.us-east-1.amazonaws.com")],
            &[],
            None,
            "https://bedrock-agentcore.us-east-1.amazonaws.com Named Chain us-east-1",
        );
        check(
            &[("endpoint-url", "http://c")],
            &[],
            None,
            "error: the region is not known: http://c does not tell it",
        );
    }

    #[test]
    fn the_local_endpoint_by_name_needs_no_keys() {
        let variables = [("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", "http://localhost:7878")];
        check(&[], &variables, Some(true), "http://localhost:7878 Local Root us-west-2");
        let with_keys = [variables[0], ("AWS_ACCESS_KEY_ID", "AKIA")];
        check(&[], &with_keys, Some(true), "http://localhost:7878 Local Chain us-west-2");
    }

    #[test]
    fn a_bearer_token_replaces_every_key() {
        check(
            &[("bearer-token", "secret")],
            &[],
            Some(true),
            "http://127.0.0.1:7878 Local Bearer(...) us-west-2",
        );
    }

    #[test]
    fn regions_that_differ_are_refused_early() {
        check(
            &[("runtime", AWS_ARN), ("region", "us-east-1")],
            &[],
            None,
            "error: the regions do not agree: --region is us-east-1, the runtime's ARN says eu-central-1",
        );
        check(
            &[("region", "us-east-1")],
            &[],
            Some(true),
            "error: the regions do not agree: asked for us-east-1, the local server is in us-west-2",
        );
    }

    #[test]
    fn names_and_arns_are_told_apart() {
        check(
            &[("runtime", "arn:aws:s3:::x")],
            &[],
            None,
            "error: cannot use the runtime `arn:aws:s3:::x`: the service of the ARN must be bedrock-agentcore",
        );
        check(
            &[("runtime", "a b")],
            &[],
            None,
            "error: cannot use the runtime `a b`: neither a name nor an ARN",
        );
    }

    #[test]
    fn endpoints_are_checked() {
        for bad in ["", "127.0.0.1:7878", "ftp://x", "http://x/path", "http://u:p@x"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Endpoint::parse("http://[::1]:81").unwrap().authority(), "[::1]:81");
        assert_eq!(Endpoint::parse("https://EXAMPLE.org:443/").unwrap().to_string(), "https://example.org");
        let aws = Endpoint::aws("aws", "us-west-2");
        assert_eq!(aws.objects().to_string(), "https://s3.us-west-2.amazonaws.com");
        assert_eq!(aws.control().to_string(), "https://bedrock-agentcore-control.us-west-2.amazonaws.com");
    }
}

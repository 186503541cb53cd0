//! Rules of a runtime's configuration that the model does not say: ports, headers, file systems
//! (`runtime.md` 4.3, 7.4, 9).

use std::collections::BTreeSet;

use clamshell_domain::FileSystem;
use clamshell_wire::{AwsError, generated::control as api};

use crate::http::ApiError;

/// Port that the platform keeps for itself.
const RESERVED_PORT: i32 = 8443;

/// Mounts of all kinds together, and access points of one kind.
const FILE_SYSTEMS_MAX: usize = 5;
const ACCESS_POINTS_MAX: usize = 2;

/// Prefix of headers that agents may always be given when they are listed.
const CUSTOM_PREFIX: &str = "x-amzn-bedrock-agentcore-runtime-custom-";

/// Headers that no agent is given: they are about the connection, or a proxy's word on it.
const REFUSED_HEADERS: &[&str] = &[
    "accept-ranges",
    "cache-control",
    "etag",
    "expires",
    "last-modified",
    "pragma",
    "vary",
    "connection",
    "keep-alive",
    "proxy-connection",
    "upgrade",
    "host",
    "user-agent",
    "referer",
    "from",
    "range",
    "transfer-encoding",
    "te",
    "trailer",
    "server",
    "date",
    "location",
    "retry-after",
    "cookie",
    "set-cookie",
    "proxy-authorization",
    "www-authenticate",
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "x-xss-protection",
    "referrer-policy",
    "permissions-policy",
    "origin",
    "accept-ch",
    "accept-ch-lifetime",
    "dpr",
    "width",
    "viewport-width",
    "downlink",
    "ect",
    "rtt",
    "save-data",
    "clear-site-data",
    "feature-policy",
    "expect-ct",
    "via",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-requested-with",
    "x-csrf-token",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-originating-ip",
    "x-source-ip",
    "x-original-url",
    "x-original-host",
    "x-rewrite-url",
    "cf-ray",
    "cf-connecting-ip",
    "x-cache",
    "x-served-by",
    "link",
    "accept",
    "content-length",
];

/// The same for families of headers.
const REFUSED_PREFIXES: &[&str] =
    &["accept-", "content-", "if-", "cross-origin-", "access-control-", "public-key-pins", "sec-websocket-"];

fn refuse(field: &str, rule: &str) -> ApiError {
    AwsError::invalid_field(field, rule).into()
}

/// A port that agents may listen on.
pub(super) fn port(field: &str, port: i32) -> Result<u16, ApiError> {
    match u16::try_from(port) {
        Ok(number) if port != RESERVED_PORT => Ok(number),
        _ => Err(refuse(field, "Member must not be 8443")),
    }
}

/// `allowedPorts`: no reserved port, no port twice.
pub(super) fn allowed_ports(entries: &[api::AllowedPort]) -> Result<(), ApiError> {
    let mut ranges: Vec<(i32, i32)> = Vec::with_capacity(entries.len());
    for entry in entries {
        let (from, to) = match entry {
            api::AllowedPort::Port(port) => (*port, *port),
            api::AllowedPort::PortRange(range) => (range.from, range.to),
        };
        if from > to {
            return Err(refuse("allowedPorts", "A range must not end before it starts"));
        }
        if (from..=to).contains(&RESERVED_PORT) {
            return Err(refuse("allowedPorts", "Port 8443 must not be allowed"));
        }
        if ranges.iter().any(|(first, last)| from <= *last && *first <= to) {
            return Err(refuse("allowedPorts", "Ports and ranges must not overlap"));
        }
        ranges.push((from, to));
    }
    Ok(())
}

/// `hooksConfiguration`: what it calls must be a port that agents may have.
pub(super) fn hooks(hooks: Option<&api::RuntimeHooksConfiguration>) -> Result<(), ApiError> {
    let build = hooks.and_then(|hooks| hooks.build.as_ref());
    let Some(warmup) = build.and_then(|build| build.warmup.as_ref()) else { return Ok(()) };
    let api::LifecycleHookAction::HttpPost(post) = &warmup.action;
    match post.port {
        None => Ok(()),
        Some(number) => port("hooksConfiguration.build.warmup.action.httpPost.port", number).map(drop),
    }
}

/// `requestHeaderAllowlist`: which names may be passed on to an agent.
pub(super) fn header_allowlist(names: &[String], has_authorizer: bool) -> Result<(), ApiError> {
    const FIELD: &str = "requestHeaderConfiguration.requestHeaderAllowlist";
    let mut seen = BTreeSet::new();
    for name in names {
        let lower = name.to_ascii_lowercase();
        if lower == "authorization" && !has_authorizer {
            return Err(refuse(FIELD, "Authorization is passed on only for a runtime with a JWT authorizer"));
        }
        let is_foreign_amz = lower.starts_with("x-amz-")
            || (lower.starts_with("x-amzn-") && !lower.starts_with(CUSTOM_PREFIX));
        let is_refused = is_foreign_amz
            || REFUSED_HEADERS.contains(&lower.as_str())
            || REFUSED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
        if is_refused {
            return Err(refuse(FIELD, &format!("Header {name} must not be passed on to an agent")));
        }
        if !seen.insert(lower) {
            return Err(refuse(FIELD, "A header must not be named twice"));
        }
    }
    Ok(())
}

/// `filesystemConfigurations`, checked and as the domain has them.
pub(super) fn file_systems(
    entries: &[api::FilesystemConfiguration],
    is_vpc: bool,
) -> Result<Vec<FileSystem>, ApiError> {
    const FIELD: &str = "filesystemConfigurations";
    let mut made: Vec<FileSystem> = Vec::with_capacity(entries.len());
    let [mut storages, mut s3, mut efs] = [0_usize; 3];
    for entry in entries {
        let file_system = match entry {
            api::FilesystemConfiguration::SessionStorage(it) => {
                storages += 1;
                FileSystem::SessionStorage { mount_path: it.mount_path.clone() }
            }
            api::FilesystemConfiguration::S3FilesAccessPoint(it) => {
                s3 += 1;
                FileSystem::AccessPoint {
                    arn: it.access_point_arn.clone(),
                    mount_path: it.mount_path.clone(),
                }
            }
            api::FilesystemConfiguration::EfsAccessPoint(it) => {
                efs += 1;
                FileSystem::AccessPoint {
                    arn: it.access_point_arn.clone(),
                    mount_path: it.mount_path.clone(),
                }
            }
            api::FilesystemConfiguration::CapacityProviderVolume(_) => {
                return Err(refuse(FIELD, "Volumes need a capacity provider, and this server has none"));
            }
        };
        let path = file_system.mount_path();
        if matches!(path, "/mnt/." | "/mnt/.." | "/mnt") {
            return Err(refuse(FIELD, "A mount path must name a folder in /mnt"));
        }
        if made.iter().any(|other| other.mount_path() == path) {
            return Err(refuse(FIELD, "Mount paths must be unique"));
        }
        made.push(file_system);
    }
    if storages > 1 {
        return Err(refuse(FIELD, "At most 1 session storage may be mounted"));
    }
    if s3 > ACCESS_POINTS_MAX || efs > ACCESS_POINTS_MAX {
        return Err(refuse(FIELD, "At most 2 access points of a kind may be mounted"));
    }
    if made.len() > FILE_SYSTEMS_MAX {
        return Err(refuse(FIELD, "At most 5 file systems may be mounted"));
    }
    if s3 + efs > 0 && !is_vpc {
        return Err(refuse(FIELD, "Access points need network mode VPC"));
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_agents_may_have() {
        let check = |names: &[&str], has_authorizer: bool, expect: bool| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(header_allowlist(&names, has_authorizer).is_ok(), expect, "{names:?}");
        };
        check(&["X-Tenant", "X-Amzn-Bedrock-AgentCore-Runtime-Custom-A"], false, true);
        check(&["Authorization"], true, true);
        check(&["Authorization"], false, false);
        check(&["x-tenant", "X-Tenant"], false, false);
        for name in [
            "X-Amz-Date",
            "X-Amzn-Trace-Id",
            "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id",
            "Accept",
            "Accept-Encoding",
            "Content-Type",
            "If-Match",
            "Host",
            "Cookie",
            "Sec-WebSocket-Key",
            "Access-Control-Allow-Origin",
            "X-Forwarded-For",
            "Public-Key-Pins-Report-Only",
            "x-aMz-cf-id",
            "Content-Security-Policy-Report-Only",
            "Origin",
            "Upgrade",
            "TE",
        ] {
            check(&[name], true, false);
        }
    }

    #[test]
    fn ports_that_agents_may_have() {
        use api::AllowedPort::{Port, PortRange};
        let range = |from, to| PortRange(api::PortRange { from, to });
        let check = |entries: &[api::AllowedPort], expect: bool| {
            assert_eq!(allowed_ports(entries).is_ok(), expect, "{entries:?}");
        };
        check(&[], true);
        check(&[Port(8000), range(8001, 8442), range(8444, 12_000)], true);
        check(&[Port(8443)], false);
        check(&[range(8000, 9000)], false);
        check(&[range(9000, 8999)], false);
        check(&[Port(9000), Port(9000)], false);
        check(&[range(9000, 9100), range(9100, 9200)], false);
        check(&[range(9000, 9100), Port(9050)], false);
        assert_eq!(port("p", 8080).unwrap(), 8080);
        for bad in [8443, -1, 70_000] {
            assert!(port("p", bad).is_err());
        }
    }

    #[test]
    fn file_systems_that_may_be_mounted() {
        let storage = |path: &str| {
            api::FilesystemConfiguration::SessionStorage(api::SessionStorageConfiguration {
                mount_path: path.to_owned(),
            })
        };
        let efs = |path: &str| {
            api::FilesystemConfiguration::EfsAccessPoint(api::EfsAccessPointConfiguration {
                access_point_arn: "arn:x".to_owned(),
                mount_path: path.to_owned(),
            })
        };
        let s3 = |path: &str| {
            api::FilesystemConfiguration::S3FilesAccessPoint(api::S3FilesAccessPointConfiguration {
                access_point_arn: "arn:x".to_owned(),
                mount_path: path.to_owned(),
            })
        };
        let check = |entries: &[api::FilesystemConfiguration], is_vpc: bool, expect: bool| {
            assert_eq!(file_systems(entries, is_vpc).is_ok(), expect, "{entries:?}");
        };
        check(&[storage("/mnt/a")], false, true);
        check(&[storage("/mnt/a"), storage("/mnt/b")], false, false);
        check(&[storage("/mnt/..")], false, false);
        check(&[efs("/mnt/a")], false, false);
        let all = [storage("/mnt/a"), efs("/mnt/b"), efs("/mnt/c"), s3("/mnt/d"), s3("/mnt/e")];
        check(&all, true, true);
        check(&[efs("/mnt/a"), s3("/mnt/a/")], true, false);
        check(&[efs("/mnt/a"), efs("/mnt/b"), efs("/mnt/c")], true, false);
        assert_eq!(file_systems(&[storage("/mnt/a/")], false).unwrap()[0].mount_path(), "/mnt/a");
    }
}

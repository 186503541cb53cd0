//! Headers on their way to an agent (`runtime.md` 7.3, 7.4): those that always pass, and those that its runtime allows.

use clamshell_domain::{Hosting, ServerProtocol, SessionId};
use clamshell_wire::{AwsError, headers};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use uuid::Uuid;

use crate::http::ApiError;

/// Longest value of an allowed header.
const VALUE_BYTES_MAX: usize = 4096;

/// Headers that trace a request: passed on, and given back to the caller as they were.
pub(in crate::http) const TRACE: [&str; 4] =
    [headers::TRACE_ID, headers::TRACEPARENT, headers::TRACESTATE, headers::BAGGAGE];

/// Headers of the Model Context Protocol that pass as they are.
const MCP: [&str; 3] = [headers::MCP_PROTOCOL_VERSION, headers::MCP_METHOD, headers::MCP_NAME];

/// Headers of the Agent2Agent protocol that pass as they are: without its version a request counts as one of 0.3, which
/// agents of 1.0 refuse.
const A2A: [&str; 2] = ["a2a-version", "a2a-extensions"];

/// Headers that never pass, allowed or not: they belong to the caller's connection or to its signature, or have been
/// settled here. The control plane refuses such names; an older version of a runtime may have them.
const NEVER: [&str; 16] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    headers::SESSION_ID,
];

/// What an agent is told about a request beside its body.
pub(in crate::http) fn to_agent(
    from: &HeaderMap,
    hosting: &Hosting,
    session_id: &SessionId,
    request_id: Uuid,
) -> Result<HeaderMap, ApiError> {
    let mut out = HeaderMap::new();
    for name in hosting.header_allowlist.iter().map(|name| name.to_ascii_lowercase()) {
        if !may_pass(&name, hosting) {
            continue;
        }
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        if out.contains_key(&name) {
            continue;
        }
        for value in from.get_all(&name) {
            check_length(&name, value.len())?;
            out.append(name.clone(), value.clone());
        }
    }
    let mut copied: Vec<&str> = TRACE.to_vec();
    copied.push(headers::USER_ID);
    match hosting.protocol {
        ServerProtocol::Mcp => copied.extend(MCP),
        ServerProtocol::A2a => copied.extend(A2A),
        ServerProtocol::Http | ServerProtocol::AgUi => {}
    }
    if hosting.protocol != ServerProtocol::Mcp {
        set(&mut out, headers::SESSION_ID, session_id.as_str());
    }
    for name in copied {
        if let Some(value) = from.get(name) {
            out.insert(HeaderName::from_static(name), value.clone());
        }
    }
    set(&mut out, headers::RUNTIME_REQUEST_ID, &request_id.to_string());
    Ok(out)
}

/// Content type, which many agents want to see, and what the caller accepts.
pub(in crate::http) fn add_content(out: &mut HeaderMap, from: &HeaderMap, hosting: &Hosting) {
    let content_type = from.get(header::CONTENT_TYPE).cloned();
    out.insert(header::CONTENT_TYPE, content_type.unwrap_or_else(|| HeaderValue::from_static(headers::JSON)));
    let accept = from.get(header::ACCEPT).cloned().or_else(|| {
        // Servers of this protocol refuse who does not name both.
        let both = HeaderValue::from_static("application/json, text/event-stream");
        (hosting.protocol == ServerProtocol::Mcp).then_some(both)
    });
    if let Some(accept) = accept {
        out.insert(header::ACCEPT, accept);
    }
}

/// Adds headers that a WebSocket's query carried in place of headers, as far as the runtime allows them.
pub(in crate::http) fn add_custom(
    out: &mut HeaderMap,
    hosting: &Hosting,
    custom: &[(String, String)],
) -> Result<(), ApiError> {
    for (name, value) in custom {
        let allowed = hosting.header_allowlist.iter().any(|known| known.eq_ignore_ascii_case(name));
        if !allowed || !may_pass(name, hosting) {
            continue;
        }
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        else {
            continue;
        };
        check_length(&name, value.len())?;
        out.insert(name, value);
    }
    Ok(())
}

/// Whether a bearer token may be shown to the agent.
pub(in crate::http) fn passes_authorization(hosting: &Hosting) -> bool {
    hosting.authorizer.is_some()
        && hosting.header_allowlist.iter().any(|name| name.eq_ignore_ascii_case(headers::AUTHORIZATION))
}

fn may_pass(name: &str, hosting: &Hosting) -> bool {
    let reserved = name.starts_with("x-amz-")
        || (name.starts_with("x-amzn-") && !name.starts_with(headers::CUSTOM_PREFIX))
        || name.starts_with("sec-websocket-");
    let is_token = name != headers::AUTHORIZATION || hosting.authorizer.is_some();
    !reserved && is_token && !NEVER.contains(&name)
}

fn check_length(name: &HeaderName, length: usize) -> Result<(), ApiError> {
    if length <= VALUE_BYTES_MAX {
        return Ok(());
    }
    let rule = format!("Member must have length less than or equal to {VALUE_BYTES_MAX}");
    Err(AwsError::invalid_field(name.as_str(), &rule).into())
}

/// A value that no header can hold is left out: session ids may be any text.
pub(in crate::http) fn set(out: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        out.insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosting(protocol: ServerProtocol, allowed: &[&str], jwt: bool) -> Hosting {
        Hosting {
            role_arn: String::new(),
            protocol,
            port: 8080,
            path: "/invocations".to_owned(),
            header_allowlist: allowed.iter().map(|name| (*name).to_owned()).collect(),
            file_systems: Vec::new(),
            authorizer: jwt.then(|| "{}".to_owned()),
            configuration: String::new(),
        }
    }

    /// Everything a caller may try, by name.
    fn sent() -> HeaderMap {
        let names = [
            "authorization",
            "host",
            "connection",
            "transfer-encoding",
            "content-length",
            "cookie",
            "x-amz-date",
            "x-amz-security-token",
            "x-team",
            "x-other",
            "x-amzn-trace-id",
            "traceparent",
            "tracestate",
            "baggage",
            "mcp-session-id",
            "mcp-protocol-version",
            "mcp-method",
            "mcp-name",
            "a2a-version",
            "a2a-extensions",
            "user-agent",
            "sec-websocket-key",
            headers::USER_ID,
            headers::SESSION_ID,
            "x-amzn-bedrock-agentcore-runtime-custom-a",
            "x-amzn-bedrock-agentcore-runtime-custom-b",
            "x-amzn-other",
        ];
        let mut all = HeaderMap::new();
        for name in names {
            all.append(HeaderName::from_static(name), HeaderValue::from_static("v"));
        }
        all
    }

    fn check(hosting: &Hosting, expect: &str) {
        let session = SessionId::parse("s".repeat(33)).unwrap();
        let passed = to_agent(&sent(), hosting, &session, Uuid::nil()).unwrap();
        let mut names: Vec<_> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names.join(" "), expect);
    }

    #[test]
    fn only_what_may_pass_passes() {
        let always = "baggage traceparent tracestate x-amzn-bedrock-agentcore-runtime-request-id \
            x-amzn-bedrock-agentcore-runtime-session-id x-amzn-bedrock-agentcore-runtime-user-id x-amzn-trace-id";
        check(&hosting(ServerProtocol::Http, &[], false), always);
        check(
            &hosting(ServerProtocol::Mcp, &[], false),
            "baggage mcp-method mcp-name mcp-protocol-version traceparent tracestate \
             x-amzn-bedrock-agentcore-runtime-request-id x-amzn-bedrock-agentcore-runtime-user-id x-amzn-trace-id",
        );
        let allowed = [
            "X-Team",
            "Authorization",
            "Host",
            "X-Amz-Date",
            "X-Amzn-Other",
            "Connection",
            "Sec-WebSocket-Key",
            "X-Amzn-Bedrock-AgentCore-Runtime-Custom-A",
            "not a name",
        ];
        check(
            &hosting(ServerProtocol::A2a, &allowed, false),
            "a2a-extensions a2a-version baggage traceparent tracestate x-amzn-bedrock-agentcore-runtime-custom-a \
             x-amzn-bedrock-agentcore-runtime-request-id x-amzn-bedrock-agentcore-runtime-session-id \
             x-amzn-bedrock-agentcore-runtime-user-id x-amzn-trace-id x-team",
        );
        assert!(may_pass("authorization", &hosting(ServerProtocol::Http, &["Authorization"], true)));
    }

    #[test]
    fn long_values_are_refused() {
        let mut from = HeaderMap::new();
        from.insert("x-team", HeaderValue::from_str(&"x".repeat(4097)).unwrap());
        let session = SessionId::parse("s".repeat(33)).unwrap();
        let allowed = hosting(ServerProtocol::Http, &["x-team"], false);
        assert!(to_agent(&from, &allowed, &session, Uuid::nil()).is_err());
        let not_allowed = hosting(ServerProtocol::Http, &[], false);
        assert!(to_agent(&from, &not_allowed, &session, Uuid::nil()).is_ok());
    }

    #[test]
    fn content_has_a_type() {
        let check = |protocol, from: &[(&'static str, &'static str)], expect: [&str; 2]| {
            let from: HeaderMap = from
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            let mut out = HeaderMap::new();
            add_content(&mut out, &from, &hosting(protocol, &[], false));
            let seen = ["content-type", "accept"].map(|name| {
                out.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
            });
            assert_eq!(seen, expect);
        };
        check(ServerProtocol::Http, &[], ["application/json", ""]);
        check(ServerProtocol::Http, &[("content-type", "a/b"), ("accept", "c/d")], ["a/b", "c/d"]);
        check(ServerProtocol::Mcp, &[], ["application/json", "application/json, text/event-stream"]);
    }
}

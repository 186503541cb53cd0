//! From method and raw path to an operation.
//!
//! Routes on the path as it arrived, because a decoded ARN has slashes of its own: first the control plane's shapes,
//! segment by segment, then the data plane's suffixes from the right. A slash at the end is optional everywhere, and
//! nothing redirects: a redirect would break the signature.

use thiserror::Error;

use crate::error::{AwsError, ErrorCode};
use crate::operation::Operation;
use crate::percent::percent_decode;

/// Longest raw path: an ARN has at most 1011 characters, three times that when escaped, and some room.
pub const PATH_BYTES_MAX: usize = 8192;
/// Longest decoded parameter: the model's bound for an ARN with room for wrong ones to be reported as such.
pub const PARAM_BYTES_MAX: usize = 2048;
/// Where the API that AWS lacks lives.
pub const EXTENSION_PREFIX: &str = "/clamshell/v1";

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route<'a> {
    /// An operation of AWS with its path parameters.
    Operation(Operation, PathParams),
    /// The rest of the raw path behind `/clamshell/v1/`.
    Extension(&'a str),
}

/// Parameters of the path, decoded. Those the operation has not are empty. They are not validated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathParams {
    /// `agentRuntimeId` of the control plane; `agentRuntimeArn` of the data plane, which may be a bare id.
    pub runtime: String,
    /// `endpointName`.
    pub endpoint_name: String,
    /// `resourceArn` of tags and policies.
    pub resource_arn: String,
}

/// Why a request has no route.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RouteError {
    /// No operation has this path.
    #[error("no operation has this path")]
    UnknownOperation,
    /// The path exists, with other methods.
    #[error("the path exists with other methods")]
    MethodNotAllowed {
        /// The methods it exists with.
        allow: Vec<&'static str>,
    },
    /// A parameter is too long or not percent-encoded text.
    #[error("a path parameter is too long or not percent-encoded text")]
    Parameter,
}

impl RouteError {
    /// Value of the `Allow` header, on 405.
    pub fn allow(&self) -> Option<String> {
        match self {
            Self::MethodNotAllowed { allow } => Some(allow.join(", ")),
            Self::UnknownOperation | Self::Parameter => None,
        }
    }

    /// The error as AWS answers it.
    pub fn aws_error(&self) -> AwsError {
        match self {
            Self::UnknownOperation => AwsError::new(
                ErrorCode::UnknownOperation,
                "The requested operation is not recognized by the service.",
            ),
            Self::MethodNotAllowed { allow } => {
                let message = format!("Method Not Allowed. Use {}.", allow.join(", "));
                AwsError::new(ErrorCode::MethodNotAllowed, message)
            }
            Self::Parameter => AwsError::cannot_parse("The path of the request is not valid."),
        }
    }
}

use Operation as Op;

const COLLECTION: &[Op] = &[Op::CreateAgentRuntime, Op::ListAgentRuntimes];
const ITEM: &[Op] = &[Op::GetAgentRuntime, Op::UpdateAgentRuntime, Op::DeleteAgentRuntime];
const VERSIONS: &[Op] = &[Op::ListAgentRuntimeVersions];
const ENDPOINTS: &[Op] = &[Op::CreateAgentRuntimeEndpoint, Op::ListAgentRuntimeEndpoints];
const ENDPOINT: &[Op] =
    &[Op::GetAgentRuntimeEndpoint, Op::UpdateAgentRuntimeEndpoint, Op::DeleteAgentRuntimeEndpoint];
const TAGS: &[Op] = &[Op::ListTagsForResource, Op::TagResource, Op::UntagResource];
const POLICY: &[Op] = &[Op::GetResourcePolicy, Op::PutResourcePolicy, Op::DeleteResourcePolicy];

/// Suffixes of the data plane; none is the end of a longer one that comes after it.
const SUFFIXES: &[(&str, &[Op])] = &[
    ("/invocations/.well-known/agent-card.json", &[Op::GetAgentCard]),
    ("/invocations/.well-known/oauth-protected-resource", &[Op::GetRuntimeProtectedResourceMetadata]),
    ("/invocations", &[Op::InvokeAgentRuntime]),
    ("/commands", &[Op::InvokeAgentRuntimeCommand]),
    ("/stopruntimesession", &[Op::StopRuntimeSession]),
    ("/ws/shells", &[Op::InvokeAgentRuntimeCommandShell]),
    ("/ws", &[Op::InvokeAgentRuntimeWithWebSocketStream]),
];

/// Finds the operation of a request.
///
/// # Errors
/// [`RouteError`]: 404, 405 or 400.
pub fn route<'a>(method: &str, raw_path: &'a str) -> Result<Route<'a>, RouteError> {
    if raw_path.len() > PATH_BYTES_MAX {
        return Err(RouteError::Parameter);
    }
    if let Some(rest) = raw_path.strip_prefix(EXTENSION_PREFIX) {
        if rest.is_empty() {
            return Ok(Route::Extension(rest));
        }
        if let Some(rest) = rest.strip_prefix('/') {
            return Ok(Route::Extension(rest));
        }
    }
    let path = raw_path.strip_prefix('/').ok_or(RouteError::UnknownOperation)?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let (root, rest) = path.split_once('/').map_or((path, None), |(root, rest)| (root, Some(rest)));
    let (operations, params) = match root {
        "runtimes" => runtimes(rest)?,
        "tags" => (TAGS, resource(rest)?),
        "resourcepolicy" => (POLICY, resource(rest)?),
        _ => return Err(RouteError::UnknownOperation),
    };
    match operations.iter().find(|operation| operation.method() == method) {
        Some(operation) => Ok(Route::Operation(*operation, params)),
        None => {
            let allow = operations.iter().map(|operation| operation.method()).collect();
            Err(RouteError::MethodNotAllowed { allow })
        }
    }
}

type Found = (&'static [Operation], PathParams);

fn resource(raw: Option<&str>) -> Result<PathParams, RouteError> {
    let raw = raw.filter(|raw| !raw.is_empty()).ok_or(RouteError::UnknownOperation)?;
    Ok(PathParams { resource_arn: decode(raw)?, ..PathParams::default() })
}

fn runtimes(rest: Option<&str>) -> Result<Found, RouteError> {
    let Some(rest) = rest else { return Ok((COLLECTION, PathParams::default())) };
    // Control first: an endpoint may be named `ws`, whereas no runtime id is `versions` or `runtime-endpoints`.
    let mut segments = rest.split('/');
    let segments = [segments.next(), segments.next(), segments.next(), segments.next()];
    let operations = match segments {
        [Some(_), None, None, None] => Some(ITEM),
        [Some(_), Some("versions"), None, None] => Some(VERSIONS),
        [Some(_), Some("runtime-endpoints"), None, None] => Some(ENDPOINTS),
        [Some(_), Some("runtime-endpoints"), Some(name), None] if !name.is_empty() => Some(ENDPOINT),
        _ => None,
    };
    if let Some(operations) = operations {
        let runtime = segments[0].filter(|id| !id.is_empty()).ok_or(RouteError::UnknownOperation)?;
        let endpoint_name = decode(segments[2].unwrap_or_default())?;
        return Ok((
            operations,
            PathParams { runtime: decode(runtime)?, endpoint_name, ..PathParams::default() },
        ));
    }
    for (suffix, operations) in SUFFIXES {
        let Some(label) = rest.strip_suffix(suffix) else { continue };
        let runtime = decode(label)?;
        // Only an ARN may bring slashes of its own.
        if label.is_empty() || (label.contains('/') && !runtime.starts_with("arn:")) {
            return Err(RouteError::UnknownOperation);
        }
        return Ok((operations, PathParams { runtime, ..PathParams::default() }));
    }
    Err(RouteError::UnknownOperation)
}

fn decode(raw: &str) -> Result<String, RouteError> {
    let text = percent_decode(raw).map_err(|_| RouteError::Parameter)?;
    if text.len() > PARAM_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(RouteError::Parameter);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::percent::percent_encode;

    const ARN: &str = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/demo-AbCdE12345";

    fn params(runtime: &str, endpoint_name: &str, resource_arn: &str) -> PathParams {
        PathParams {
            runtime: runtime.into(),
            endpoint_name: endpoint_name.into(),
            resource_arn: resource_arn.into(),
        }
    }

    #[test]
    fn every_operation_has_its_route() {
        for operation in Operation::ALL {
            let path = operation
                .path_template()
                .replace("{agentRuntimeId}", "demo-AbCdE12345")
                .replace("{endpointName}", "prod")
                .replace("{agentRuntimeArn}", &percent_encode(ARN))
                .replace("{resourceArn}", &percent_encode(ARN));
            let expect = {
                let template = operation.path_template();
                let runtime = match (template.contains("RuntimeId"), template.contains("RuntimeArn")) {
                    (true, _) => "demo-AbCdE12345",
                    (_, true) => ARN,
                    _ => "",
                };
                let endpoint = if template.contains("endpointName") { "prod" } else { "" };
                params(runtime, endpoint, if template.contains("resourceArn") { ARN } else { "" })
            };
            let expect = Ok(Route::Operation(*operation, expect));
            let bare = path.trim_end_matches('/');
            for form in [bare.to_owned(), format!("{bare}/")] {
                assert_eq!(route(operation.method(), &form), expect, "{form}");
            }
            let literal = bare.replace("%3A", ":").replace("%2F", "/");
            assert_eq!(route(operation.method(), &literal), expect, "{literal}");
        }
    }

    #[test]
    fn hard_cases() {
        let ok = |operation, runtime: &str, endpoint: &str| {
            Ok(Route::Operation(operation, params(runtime, endpoint, "")))
        };
        let endpoint_arn = format!("{ARN}/runtime-endpoint/prod");
        let table = [
            (
                "GET",
                "/runtimes/d-AbCdE12345/runtime-endpoints/ws/",
                ok(Op::GetAgentRuntimeEndpoint, "d-AbCdE12345", "ws"),
            ),
            ("POST", "/runtimes/d-AbCdE12345/invocations", ok(Op::InvokeAgentRuntime, "d-AbCdE12345", "")),
            ("GET", "/runtimes/invocations", ok(Op::GetAgentRuntime, "invocations", "")),
            (
                "POST",
                "/runtimes/arn%3aaws%3abedrock-agentcore%3aus-west-2%3a123456789012%3aruntime%2fdemo-AbCdE12345/commands",
                ok(Op::InvokeAgentRuntimeCommand, ARN, ""),
            ),
        ];
        for (method, path, expect) in table {
            assert_eq!(route(method, path), expect, "{path}");
        }
        let path = format!("/runtimes/{endpoint_arn}/ws/shells");
        assert_eq!(route("GET", &path), ok(Op::InvokeAgentRuntimeCommandShell, &endpoint_arn, ""));
    }

    #[test]
    fn unknown_and_refused() {
        for path in [
            "",
            "/",
            "runtimes/",
            "/runtime/",
            "//runtimes/",
            "/gateways/",
            "/runtimes//",
            "/runtimes//invocations",
            "/runtimes/a/b/invocations",
            "/runtimes/a/b",
            "/runtimes/a/runtime-endpoints//",
            "/tags/",
            "/tags",
            "/runtimes/a/versions/1",
            "/clamshell",
            "/clamshell/v10/x",
            "/clamshell/v2/x",
        ] {
            assert_eq!(route("GET", path), Err(RouteError::UnknownOperation), "{path}");
        }
        for path in ["/runtimes/%zz/", "/runtimes/a%00b/", "/tags/%ff"] {
            assert_eq!(route("GET", path), Err(RouteError::Parameter), "{path}");
        }
        let long = format!("/runtimes/{}/", "a".repeat(PARAM_BYTES_MAX + 1));
        assert_eq!(route("GET", &long), Err(RouteError::Parameter));
        let long = format!("/runtimes/{}/", "a".repeat(PATH_BYTES_MAX));
        assert_eq!(route("GET", &long), Err(RouteError::Parameter));
    }

    #[test]
    fn wrong_methods() {
        let error = route("GET", "/runtimes/x/invocations").unwrap_err();
        assert_eq!(error.allow().as_deref(), Some("POST"));
        let aws = error.aws_error();
        assert_eq!((aws.code.status(), aws.message.as_str()), (405, "Method Not Allowed. Use POST."));
        let error = route("PATCH", "/runtimes/x/").unwrap_err();
        assert_eq!(error.allow().as_deref(), Some("GET, PUT, DELETE"));
        let unknown = route("GET", "/x").unwrap_err().aws_error();
        assert_eq!(unknown.code.name(), "UnknownOperationException");
    }

    #[test]
    fn extensions_keep_the_raw_rest() {
        let table = [("/clamshell/v1", ""), ("/clamshell/v1/", ""), ("/clamshell/v1/a%2Fb/c/", "a%2Fb/c/")];
        for (path, rest) in table {
            assert_eq!(route("PATCH", path), Ok(Route::Extension(rest)), "{path}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(path in "/?(runtimes|tags)?/.{0,40}(/ws|/invocations|/)?") {
            let _ = route("GET", &path);
        }
    }
}

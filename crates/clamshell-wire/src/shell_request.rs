//! The upgrade requests: `/ws/shells` and, where they agree, `/ws`.

use crate::command::check_session_id;
use crate::error::{AwsError, ErrorCode, length_rule};
use crate::headers;
use crate::query::{self, find};
use crate::subprotocol::Subprotocols;

/// Endpoint of a request that names none.
pub const QUALIFIER_DEFAULT: &str = "DEFAULT";
/// The `error` member for a shell id that breaks its rule.
pub const ERROR_INVALID_SHELL_ID: &str = "InvalidShellId";
/// Longest qualifier looked at; names of endpoints have at most 48 characters.
const QUALIFIER_CHARS_MAX: usize = 256;
/// Most custom headers that a query may carry to the agent, as many as an allowlist has names.
const CUSTOM_HEADERS_MAX: usize = 20;
/// Longest value of a custom header.
const CUSTOM_VALUE_BYTES_MAX: usize = 4096;

/// What a request for a shell or a `/ws` stream asks for. Ids that are present are valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellRequest {
    /// Name of the endpoint as the caller gave it.
    pub qualifier: Option<String>,
    /// Shell to make or to attach to; without one the server makes an id.
    pub shell_id: Option<String>,
    /// Session; without one every connection is a new session.
    pub session_id: Option<String>,
    /// Bearer token by subprotocol, and whether the answer must name it.
    pub subprotocols: Subprotocols,
}

impl ShellRequest {
    /// Reads query and headers (lower-case names). For the session id the header wins over the query.
    ///
    /// # Errors
    /// A `ValidationException` for a broken query, a session id out of bounds or a foreign subprotocol; a
    /// `RuntimeClientError` with `error` for a shell id that breaks its rule, as the documentation has it.
    pub fn parse(raw_query: &str, headers: &[(&str, &[u8])]) -> Result<Self, AwsError> {
        let params = query::parse(raw_query)
            .map_err(|_| AwsError::cannot_parse("The query string of the request is not valid."))?;
        let given = |name: &str| find(&params, name).filter(|value| !value.is_empty()).map(str::to_owned);
        let qualifier = given("qualifier");
        if let Some(rule) =
            qualifier.as_ref().and_then(|name| length_rule(name.chars().count(), 1, QUALIFIER_CHARS_MAX))
        {
            return Err(AwsError::invalid_field("qualifier", &rule));
        }
        let session_id = match headers.iter().find(|(name, _)| *name == headers::SESSION_ID) {
            Some((_, value)) => {
                let text = std::str::from_utf8(value)
                    .map_err(|_| AwsError::invalid_field("runtimeSessionId", "Member must be UTF-8 text"))?;
                Some(text.to_owned())
            }
            // A header's name has no case, so neither has the parameter's that stands in for it.
            None => params
                .iter()
                .find(|(name, value)| name.eq_ignore_ascii_case(headers::SESSION_ID) && !value.is_empty())
                .map(|(_, value)| value.clone()),
        };
        if let Some(id) = &session_id {
            check_session_id(id)?;
        }
        let shell_id = given("shellId");
        if shell_id.as_ref().is_some_and(|id| !is_shell_id(id)) {
            let message = "The shell id must match [a-zA-Z0-9][a-zA-Z0-9_-]{0,127}.";
            let error = AwsError::new(ErrorCode::RuntimeClientError, message);
            return Err(error.with_error(ERROR_INVALID_SHELL_ID));
        }
        Ok(Self { qualifier, shell_id, session_id, subprotocols: Subprotocols::parse(headers)? })
    }

    /// The endpoint meant: the one given, else `DEFAULT`.
    pub fn qualifier(&self) -> &str {
        self.qualifier.as_deref().unwrap_or(QUALIFIER_DEFAULT)
    }
}

/// Query parameters of `/ws` that become headers for the agent: lower-cased names with the custom prefix. Which of
/// them the runtime allows is the caller's matter.
///
/// # Errors
/// A `ValidationException` for a broken query, too many parameters, or values that no header can hold.
pub fn custom_headers(raw_query: &str) -> Result<Vec<(String, String)>, AwsError> {
    let params = query::parse(raw_query)
        .map_err(|_| AwsError::cannot_parse("The query string of the request is not valid."))?;
    let mut out = Vec::new();
    for (name, value) in params {
        let name = name.to_ascii_lowercase();
        let Some(rest) = name.strip_prefix(headers::CUSTOM_PREFIX) else { continue };
        let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let valid = (1..=256).contains(&name.len())
            && !rest.is_empty()
            && rest.bytes().all(token)
            && value.len() <= CUSTOM_VALUE_BYTES_MAX
            && value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if !valid || out.len() == CUSTOM_HEADERS_MAX {
            return Err(AwsError::new(ErrorCode::Validation, "A custom header of the query is not valid."));
        }
        out.push((name, value));
    }
    Ok(out)
}

fn is_shell_id(text: &str) -> bool {
    let mut bytes = text.bytes();
    text.len() <= 128
        && bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id";

    fn status(query: &str, headers: &[(&str, &[u8])]) -> u16 {
        ShellRequest::parse(query, headers).unwrap_err().code.status()
    }

    #[test]
    fn query_and_headers() {
        let (first, second) = ("a".repeat(36), "b".repeat(36));
        let query = format!("qualifier=prod&shellId=build&{NAME}={first}&X-Amz-Date=x");
        let request = ShellRequest::parse(&query, &[]).unwrap();
        let expect = ShellRequest {
            qualifier: Some("prod".into()),
            shell_id: Some("build".into()),
            session_id: Some(first),
            subprotocols: Subprotocols::default(),
        };
        assert_eq!(request, expect);
        let headers: [(&str, &[u8]); 2] = [
            (headers::SESSION_ID, second.as_bytes()),
            (
                headers::SEC_WEBSOCKET_PROTOCOL,
                b"base64UrlBearerAuthorization.YWE, base64UrlBearerAuthorization",
            ),
        ];
        let request = ShellRequest::parse(&query, &headers).unwrap();
        assert_eq!(request.session_id, Some(second));
        assert_eq!(request.subprotocols.bearer.as_ref().map(|token| token.as_str()), Some("aa"));
        assert!(request.subprotocols.answer);
        let request = ShellRequest::parse("shellId=", &[]).unwrap();
        assert_eq!((request.shell_id.as_deref(), request.qualifier()), (None, "DEFAULT"));
        assert_eq!(request.session_id, None);
    }

    #[test]
    fn refuses() {
        assert_eq!(status(&format!("{NAME}=short"), &[]), 400);
        assert_eq!(status("", &[(headers::SESSION_ID, b"")]), 400);
        assert_eq!(status("", &[(headers::SESSION_ID, b"\xff")]), 400);
        assert_eq!(status("shellId=%zz", &[]), 400);
        assert_eq!(status(&format!("qualifier={}", "q".repeat(257)), &[]), 400);
        assert_eq!(status("", &[(headers::SEC_WEBSOCKET_PROTOCOL, b"chat")]), 400);
        for id in ["-a", "..", "a%2Fb", "a%20b", &"a".repeat(129)] {
            let error = ShellRequest::parse(&format!("shellId={id}"), &[]).unwrap_err();
            assert_eq!(
                (error.code.status(), error.error.as_deref()),
                (424, Some(ERROR_INVALID_SHELL_ID)),
                "{id}"
            );
        }
    }

    #[test]
    fn custom_headers_of_ws() {
        let query = "a=1&X-Amzn-Bedrock-AgentCore-Runtime-Custom-Team=a%20b&qualifier=DEFAULT";
        let expect = vec![("x-amzn-bedrock-agentcore-runtime-custom-team".to_owned(), "a b".to_owned())];
        assert_eq!(custom_headers(query), Ok(expect));
        for bad in ["=x", "T%0d=x", "T=a%0Ab", "T%20=x"] {
            let query = format!("X-Amzn-Bedrock-AgentCore-Runtime-Custom-{bad}");
            assert!(custom_headers(&query).is_err(), "{bad}");
        }
    }
}

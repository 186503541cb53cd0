//! How an error is wrapped for callers of an agent, by the protocol that it speaks (`runtime.md` 6.3).
//!
//! What error it is, is decided in `error.rs`; here it is only put into words that a client of that protocol reads.

use clamshell_domain::ServerProtocol;
use clamshell_wire::{AwsError, ErrorCode, headers};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::response::{self, Body};

/// Content type of server-sent events.
pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// Longest id of a JSON-RPC request that is echoed; those of clients are numbers and UUIDs.
const ID_BYTES_MAX: usize = 1024;

/// The wrapping of an error.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Envelope {
    /// As AWS has it everywhere else.
    Aws,
    /// JSON-RPC of the Model Context Protocol, with the id of the request.
    Mcp(Value),
    /// JSON-RPC of agent to agent, with the id of the request.
    A2a(Value),
    /// One event of an agent for a user interface.
    AgUi,
}

impl Envelope {
    /// The wrapping for a runtime of this protocol; `body` is the request's, if it is at hand.
    pub(super) fn of(protocol: ServerProtocol, body: Option<&[u8]>) -> Self {
        match protocol {
            ServerProtocol::Http => Self::Aws,
            ServerProtocol::Mcp => Self::Mcp(request_id(body)),
            ServerProtocol::A2a => Self::A2a(request_id(body)),
            ServerProtocol::AgUi => Self::AgUi,
        }
    }

    /// The answer.
    pub(super) fn response(&self, error: &AwsError) -> Response<Body> {
        let code = error.code;
        let mut response = match self {
            Self::Aws => return response::aws_error(error),
            Self::Mcp(id) => {
                let (number, status) = mcp(code);
                json_rpc(status, id, number, &error.message)
            }
            Self::A2a(id) => match a2a(code) {
                Some((number, status)) => json_rpc(status, id, number, &error.message),
                None => return response::aws_error(error),
            },
            Self::AgUi => {
                let (name, status) = ag_ui(code);
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                response::bytes(status, EVENT_STREAM, run_error(name, &error.message))
            }
        };
        // Clients that look for it there name their exception by it.
        let kind = HeaderValue::from_static(code.name());
        response.headers_mut().insert(HeaderName::from_static(headers::ERROR_TYPE), kind);
        response
    }

    /// The answer to a client of the Model Context Protocol that does not take both of its content types.
    pub(super) fn not_acceptable(body: Option<&[u8]>) -> Response<Body> {
        let message = "Accept header must include application/json and text/event-stream";
        json_rpc(406, &request_id(body), -32011, message)
    }
}

/// An event that says that a run failed.
pub(super) fn run_error(code: &str, message: &str) -> String {
    format!("data: {}\n\n", json!({ "type": "RUN_ERROR", "code": code, "message": message }))
}

fn json_rpc(status: u16, id: &Value, code: i32, message: &str) -> Response<Body> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } });
    response::json(status, &body)
}

/// The id of a JSON-RPC request; `null` when there is none to be read.
fn request_id(body: Option<&[u8]>) -> Value {
    #[derive(Deserialize)]
    struct Request {
        #[serde(default)]
        id: Value,
    }
    let id = body.and_then(|body| serde_json::from_slice::<Request>(body).ok()).map(|request| request.id);
    match id {
        Some(Value::String(text)) if text.len() <= ID_BYTES_MAX => Value::String(text),
        Some(Value::Number(number)) => Value::Number(number),
        _ => Value::Null,
    }
}

fn mcp(code: ErrorCode) -> (i32, u16) {
    match code {
        ErrorCode::Unauthorized => (-32001, 401),
        ErrorCode::AccessDenied => (-32002, 403),
        ErrorCode::Throttling | ErrorCode::ServiceQuotaExceeded => (-32003, 200),
        ErrorCode::ResourceNotFound => (-32004, 200),
        ErrorCode::Conflict | ErrorCode::RetryableConflict => (-32005, 200),
        ErrorCode::Validation | ErrorCode::Serialization => (-32006, 200),
        ErrorCode::RuntimeClientError => (-32010, 200),
        ErrorCode::UnknownOperation | ErrorCode::MethodNotAllowed | ErrorCode::InternalServer => {
            (-32603, 200)
        }
    }
}

/// `None`: as AWS has it.
fn a2a(code: ErrorCode) -> Option<(i32, u16)> {
    match code {
        ErrorCode::AccessDenied => None,
        ErrorCode::ResourceNotFound => Some((-32051, 404)),
        ErrorCode::Validation | ErrorCode::Serialization => Some((-32052, 400)),
        ErrorCode::Throttling | ErrorCode::ServiceQuotaExceeded => Some((-32053, 429)),
        ErrorCode::Conflict | ErrorCode::RetryableConflict => Some((-32054, 409)),
        ErrorCode::RuntimeClientError => Some((-32055, 424)),
        ErrorCode::Unauthorized => Some((-32001, 401)),
        ErrorCode::UnknownOperation | ErrorCode::MethodNotAllowed | ErrorCode::InternalServer => {
            Some((-32603, code.status()))
        }
    }
}

fn ag_ui(code: ErrorCode) -> (&'static str, u16) {
    match code {
        ErrorCode::Unauthorized => ("UNAUTHORIZED", 401),
        ErrorCode::AccessDenied => ("ACCESS_DENIED", 403),
        ErrorCode::Throttling => ("RATE_LIMIT_EXCEEDED", 429),
        ErrorCode::ServiceQuotaExceeded => ("SERVICE_QUOTA_EXCEEDED", 429),
        ErrorCode::Conflict | ErrorCode::RetryableConflict => ("SESSION_BUSY", 409),
        ErrorCode::RuntimeClientError => ("AGENT_ERROR", 200),
        // The protocol has no word for what is not there; the status says it.
        ErrorCode::Validation
        | ErrorCode::Serialization
        | ErrorCode::ResourceNotFound
        | ErrorCode::UnknownOperation
        | ErrorCode::MethodNotAllowed => ("VALIDATION_ERROR", code.status()),
        ErrorCode::InternalServer => ("INTERNAL_ERROR", 500),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn seen(envelope: &Envelope, code: ErrorCode) -> String {
        let response = envelope.response(&AwsError::new(code, "m"));
        let status = response.status().as_u16();
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        let error = response.headers()[headers::ERROR_TYPE].to_str().unwrap().to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        format!("{error}: {status} {kind} {}", String::from_utf8_lossy(&body).trim_end())
    }

    #[tokio::test]
    async fn each_protocol_has_its_own_words() {
        let request = br#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;
        let of = |protocol| Envelope::of(protocol, Some(request));
        let table = [
            (
                ServerProtocol::Http,
                ErrorCode::RuntimeClientError,
                r#"RuntimeClientError: 424 application/json {"message":"m"}"#,
            ),
            (
                ServerProtocol::Mcp,
                ErrorCode::RuntimeClientError,
                r#"RuntimeClientError: 200 application/json {"error":{"code":-32010,"message":"m"},"id":7,"jsonrpc":"2.0"}"#,
            ),
            (
                ServerProtocol::Mcp,
                ErrorCode::AccessDenied,
                r#"AccessDeniedException: 403 application/json {"error":{"code":-32002,"message":"m"},"id":7,"jsonrpc":"2.0"}"#,
            ),
            (
                ServerProtocol::A2a,
                ErrorCode::RuntimeClientError,
                r#"RuntimeClientError: 424 application/json {"error":{"code":-32055,"message":"m"},"id":7,"jsonrpc":"2.0"}"#,
            ),
            (
                ServerProtocol::A2a,
                ErrorCode::ServiceQuotaExceeded,
                r#"ServiceQuotaExceededException: 429 application/json {"error":{"code":-32053,"message":"m"},"id":7,"jsonrpc":"2.0"}"#,
            ),
            (
                ServerProtocol::A2a,
                ErrorCode::AccessDenied,
                r#"AccessDeniedException: 403 application/json {"message":"m"}"#,
            ),
            (
                ServerProtocol::AgUi,
                ErrorCode::RuntimeClientError,
                r#"RuntimeClientError: 200 text/event-stream data: {"code":"AGENT_ERROR","message":"m","type":"RUN_ERROR"}"#,
            ),
            (
                ServerProtocol::AgUi,
                ErrorCode::RetryableConflict,
                r#"RetryableConflictException: 409 text/event-stream data: {"code":"SESSION_BUSY","message":"m","type":"RUN_ERROR"}"#,
            ),
        ];
        for (protocol, code, expect) in table {
            assert_eq!(seen(&of(protocol), code).await, expect, "{protocol:?} {code:?}");
        }
        for code in ErrorCode::ALL {
            for protocol in [ServerProtocol::Mcp, ServerProtocol::A2a, ServerProtocol::AgUi] {
                assert!(seen(&of(protocol), code).await.starts_with(code.name()));
            }
        }
    }

    #[test]
    fn ids_are_echoed_when_they_are_ids() {
        let check = |body: &[u8], expect: Value| assert_eq!(request_id(Some(body)), expect);
        check(br#"{"id":"a","x":[1,{"id":2}]}"#, json!("a"));
        check(br#"{"id":1}"#, json!(1));
        check(br#"{"method":"notifications/initialized"}"#, Value::Null);
        check(br#"{"id":{"a":1}}"#, Value::Null);
        check(b"[{\"id\":1}]", Value::Null);
        check(b"no json", Value::Null);
        check(format!("{{\"id\":\"{}\"}}", "x".repeat(2000)).as_bytes(), Value::Null);
        assert_eq!(request_id(None), Value::Null);
    }
}

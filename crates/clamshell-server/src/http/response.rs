//! Building answers: bodies, the headers every answer has, AWS errors, CORS.

use bytes::Bytes;
use clamshell_wire::{AwsError, headers};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use serde::Serialize;
use uuid::Uuid;

/// Body of every answer. An error in it cuts the connection, so that nobody takes a part for the whole.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Response headers that a page of another origin may read (`runtime.md` section 5).
const EXPOSED: &str = "x-amzn-RequestId, x-amzn-ErrorType, x-amzn-ErrorMessage, \
    X-Amzn-Bedrock-AgentCore-Runtime-Session-Id, X-Amzn-Bedrock-AgentCore-Shell-Id, Mcp-Session-Id, \
    Mcp-Protocol-Version, WWW-Authenticate, X-Amzn-Trace-Id, traceparent, tracestate, baggage, Date";

/// An answer with this header is for pages of this server alone, and gets no CORS headers.
const SAME_ORIGIN_ONLY: &str = "cross-origin-resource-policy";

/// Seconds a browser may remember a preflight answer.
const PREFLIGHT_MAX_AGE: &str = "172800";

/// An answer with these bytes.
pub(crate) fn bytes(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(whole(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// An answer with this value as JSON.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response<Body> {
    let body = serde_json::to_vec(value).expect("our shapes have string keys");
    bytes(status, headers::JSON, body)
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// An AWS error as HTTP.
pub(crate) fn aws_error(error: &AwsError) -> Response<Body> {
    let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = bytes(status, headers::JSON, error.body());
    response
        .headers_mut()
        .insert(HeaderName::from_static(headers::ERROR_TYPE), HeaderValue::from_static(error.code.name()));
    response
}

/// Puts the request id and the CORS headers on an answer.
pub(crate) fn finish(mut response: Response<Body>, request_id: Uuid) -> Response<Body> {
    let headers = response.headers_mut();
    let mut id = Uuid::encode_buffer();
    let id = request_id.hyphenated().encode_lower(&mut id);
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(HeaderName::from_static(clamshell_wire::headers::REQUEST_ID), value);
    }
    if !headers.contains_key(SAME_ORIGIN_ONLY) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    response
}

/// The answer to a CORS preflight: any origin may ask, because every request is signed.
pub(crate) fn preflight(request: &HeaderMap) -> Response<Body> {
    let mut response = empty(StatusCode::OK);
    let headers = response.headers_mut();
    for (asked, answer) in [
        (header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_ALLOW_METHODS),
        (header::ACCESS_CONTROL_REQUEST_HEADERS, header::ACCESS_CONTROL_ALLOW_HEADERS),
    ] {
        if let Some(value) = request.get(asked) {
            headers.insert(answer, value.clone());
        }
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_MAX_AGE));
    response
}

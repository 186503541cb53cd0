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

/// What a browser may make of an answer that says nothing itself. Agents and callers choose the bytes and types of many, and
/// they come from the origin of the console: opened as a document, none of them runs a script there, whoever made the link.
const NO_DOCUMENT: &str = "default-src 'none'; sandbox; frame-ancestors 'none'";

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

/// Keeps an answer for the page that asked. A browser must not store it: pages on other ports of the same host name share
/// its cache, and would be given what a login or a share link was told.
pub(crate) fn of_own_page(mut response: Response<Body>) -> Response<Body> {
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(SAME_ORIGIN_ONLY, HeaderValue::from_static("same-origin"));
    response
}

/// Puts the request id, the CORS headers and what browsers are to make of it on an answer.
pub(crate) fn finish(mut response: Response<Body>, request_id: Uuid) -> Response<Body> {
    let headers = response.headers_mut();
    let mut id = Uuid::encode_buffer();
    let id = request_id.hyphenated().encode_lower(&mut id);
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(HeaderName::from_static(clamshell_wire::headers::REQUEST_ID), value);
    }
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(NO_DOCUMENT));
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(response: Response<Body>, expect: [(&str, Option<&str>); 4]) {
        let answer = finish(response, Uuid::nil());
        let found = expect
            .map(|(name, _)| (name, answer.headers().get(name).map(|value| value.to_str().expect("text"))));
        assert_eq!(found, expect);
    }

    #[test]
    fn no_answer_becomes_a_document_with_scripts() {
        let html = || bytes(StatusCode::OK, "text/html", "<script>alert(1)</script>");
        check(
            html(),
            [
                ("content-security-policy", Some(NO_DOCUMENT)),
                ("x-content-type-options", Some("nosniff")),
                ("access-control-allow-origin", Some("*")),
                ("cache-control", None),
            ],
        );
        let mut own = html();
        own.headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'self'"));
        let policy = ("content-security-policy", Some("default-src 'self'"));
        check(own, [policy, ("x-frame-options", None), ("age", None), ("vary", None)]);
    }

    #[test]
    fn what_our_page_is_told_no_other_page_reads() {
        let answer = || json(StatusCode::OK, &"secret");
        let cors = ("access-control-allow-origin", None);
        let own = ("cross-origin-resource-policy", Some("same-origin"));
        let cache = |value| ("cache-control", Some(value));
        check(of_own_page(answer()), [cors, own, cache("no-store"), ("access-control-expose-headers", None)]);
        let mut kept = answer();
        kept.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        check(of_own_page(kept), [cors, own, cache("no-cache"), ("access-control-expose-headers", None)]);
    }
}

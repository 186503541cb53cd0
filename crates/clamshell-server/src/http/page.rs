//! Serves the page of the browser console. It holds nothing secret: who may see what is decided call by call.

use clamshell_console::File;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts};

use super::response::{self, Body};

const ABSENT: &str = "This program was built without the page of the console.\n\
    Build it with scripts/build-web, then build the program again.\n";

/// The answer to a request for the page, `None` for all others.
///
/// A browser that opens the server's address is sent to the page; every other client gets there what AWS answers.
pub(super) fn serve(parts: &Parts) -> Option<Response<Body>> {
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return None;
    }
    let path = parts.uri.path();
    if path == "/" && accepts(&parts.headers, header::ACCEPT, "text/html") {
        let mut response = response::empty(StatusCode::FOUND);
        response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(clamshell_console::BASE));
        return Some(response);
    }
    let rest = path.strip_prefix(clamshell_console::BASE)?;
    if !(rest.is_empty() || rest.starts_with('/')) {
        return None;
    }
    let mut response = match clamshell_console::find(path) {
        Some(file) => answer(&file, parts),
        None if clamshell_console::is_present() => text(StatusCode::NOT_FOUND, "Not found\n"),
        None => text(StatusCode::NOT_FOUND, ABSENT),
    };
    for (name, value) in clamshell_console::HEADERS {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    Some(response)
}

fn answer(file: &File, parts: &Parts) -> Response<Body> {
    let packed = accepts(&parts.headers, header::ACCEPT_ENCODING, "gzip");
    let body = match (&parts.method, packed) {
        (&Method::HEAD, _) => bytes::Bytes::new(),
        (_, true) => bytes::Bytes::from_static(file.gzip),
        (_, false) => file.plain().into(),
    };
    let mut response = response::bytes(StatusCode::OK, file.content_type, body);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(file.cache_control));
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    response::bytes(status, "text/plain; charset=utf-8", text)
}

/// Whether a list in a header names `wanted`, and not with a quality of zero.
fn accepts(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(',')).any(
        |item| {
            let mut parts = item.split(';').map(str::trim);
            let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
            named && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, path: &str, header: (&str, &str), expect: Option<u16>) {
        let request = http::Request::builder().method(&method).uri(path).header(header.0, header.1);
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let status = serve(&parts).map(|response| response.status().as_u16());
        assert_eq!(status, expect, "{method} {path} {header:?}");
    }

    #[test]
    fn browsers_are_sent_to_the_page_and_others_are_not() {
        check(Method::GET, "/", ("accept", "text/html,application/xhtml+xml"), Some(302));
        check(Method::GET, "/", ("accept", "*/*"), None);
        check(Method::GET, "/", ("accept", "application/json, text/html;q=0"), None);
        check(Method::POST, "/", ("accept", "text/html"), None);
        check(Method::POST, "/console", ("accept", "text/html"), None);
        check(Method::GET, "/consoles", ("accept", "text/html"), None);
        check(Method::GET, "/console/assets/none.js", ("accept", "*/*"), Some(404));
        let page = if clamshell_console::is_present() { 200 } else { 404 };
        for method in [Method::GET, Method::HEAD] {
            check(method, "/console/sessions", ("accept-encoding", "gzip"), Some(page));
        }
    }

    #[test]
    fn nothing_of_the_page_may_be_framed_or_read_from_elsewhere() {
        let request = http::Request::builder().uri("/console/none").body(()).expect("a request");
        let response = serve(&request.into_parts().0).expect("it is below the page");
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header("x-frame-options"), Some("DENY"));
        let policy = header("content-security-policy").expect("a policy");
        assert!(
            policy.contains("frame-ancestors 'none'")
                && policy.contains("script-src 'self' 'wasm-unsafe-eval';"),
            "{policy}"
        );
        let answer = super::super::response::finish(response, uuid::Uuid::nil());
        assert_eq!(answer.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN), None);
    }
}

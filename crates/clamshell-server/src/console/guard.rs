//! What a browser may be made to do by a page that is not ours: nothing.
//!
//! Browsers send a cookie with whatever a page asks for. `SameSite=Strict` keeps it from pages of other sites; pages of other
//! ports of this machine are the same site, and old browsers know none of this. So each request by cookie must show that our
//! page made it, by what only our page can send: a header of our own, which other pages cannot add without a permission that
//! this server never gives to them with a cookie; `Origin`, which no page can choose; `Sec-Fetch-Site`, the same.

use http::{HeaderName, Method, header, request::Parts};

use super::{ConsoleError, Site, site};
use crate::app::App;

/// The header that our page sends with all it asks for.
pub(crate) const OWN_HEADER: HeaderName = HeaderName::from_static("x-clamshell-console");

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The site that a request is for, if it is one of this server and there is a console.
///
/// # Errors
/// [`ConsoleError::Off`], [`ConsoleError::Host`].
pub(crate) fn for_this_server(app: &App, parts: &Parts) -> Result<Site, ConsoleError> {
    if let Some(reason) = app.config.console_off() {
        return Err(ConsoleError::Off(reason));
    }
    site(app, parts).ok_or(ConsoleError::Host)
}

/// The same, if the console's own page made the request.
///
/// # Errors
/// As [`for_this_server`], and [`ConsoleError::CrossSite`].
pub(crate) fn of_own_page(app: &App, parts: &Parts) -> Result<Site, ConsoleError> {
    let site = for_this_server(app, parts)?;
    match refusal(&site, parts) {
        None => Ok(site),
        Some(why) => Err(ConsoleError::CrossSite(why)),
    }
}

fn refusal(site: &Site, parts: &Parts) -> Option<&'static str> {
    let fetch_site = values(parts, &FETCH_SITE);
    if fetch_site.iter().any(|value| *value != b"same-origin") {
        return Some("Sec-Fetch-Site is not same-origin");
    }
    let origins = values(parts, &header::ORIGIN);
    let is_own = |origin: &&[u8]| std::str::from_utf8(origin).is_ok_and(|origin| site.is_origin(origin));
    if !origins.iter().all(is_own) {
        return Some("Origin is another one");
    }
    let own_header = values(parts, &OWN_HEADER) == [b"1"];
    let reads = [Method::GET, Method::HEAD].contains(&parts.method);
    let upgrades = reads && parts.headers.contains_key(header::UPGRADE);
    if !reads || upgrades {
        if origins.len() != 1 {
            return Some("Origin is missing");
        }
        // Pages cannot add headers to an upgrade.
        return (!own_header && !upgrades).then_some("X-Clamshell-Console is missing");
    }
    (!own_header && fetch_site.is_empty()).then_some("X-Clamshell-Console and Sec-Fetch-Site are missing")
}

fn values<'a>(parts: &'a Parts, name: &HeaderName) -> Vec<&'a [u8]> {
    parts.headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: (&str, &str) = ("x-clamshell-console", "1");
    const ORIGIN: (&str, &str) = ("origin", "http://localhost:7878");
    const SAME: (&str, &str) = ("sec-fetch-site", "same-origin");
    const UPGRADE: (&str, &str) = ("upgrade", "websocket");

    fn check(method: &str, headers: &[(&str, &str)], allowed: bool) {
        let mut request = http::Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let site = Site::of_test("localhost:7878");
        assert_eq!(refusal(&site, &parts).is_none(), allowed, "{method} {headers:?}");
    }

    #[test]
    fn only_our_page_passes() {
        for method in ["GET", "HEAD"] {
            check(method, &[OWN], true);
            check(method, &[SAME], true);
            check(method, &[OWN, SAME, ORIGIN], true);
            check(method, &[], false);
            check(method, &[ORIGIN], false);
            check(method, &[("x-clamshell-console", "0")], false);
        }
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            check(method, &[OWN, ORIGIN], true);
            check(method, &[OWN, ORIGIN, SAME], true);
            check(method, &[OWN], false);
            check(method, &[OWN, SAME], false);
            check(method, &[ORIGIN], false);
            check(method, &[ORIGIN, SAME], false);
            check(method, &[OWN, OWN, ORIGIN], false);
            check(method, &[OWN, ORIGIN, ORIGIN], false);
        }
        check("GET", &[UPGRADE, ORIGIN], true);
        check("GET", &[UPGRADE, ORIGIN, SAME], true);
        check("GET", &[UPGRADE], false);
        check("GET", &[UPGRADE, OWN], false);
        check("GET", &[UPGRADE, SAME], false);
        check("POST", &[UPGRADE, ORIGIN], false);
        for origin in [
            "http://localhost:3000",
            "http://127.0.0.1:7878",
            "null",
            "",
            "http://localhost:7878.evil.example",
        ] {
            for (method, own) in [("GET", OWN), ("POST", OWN), ("GET", UPGRADE)] {
                check(method, &[own, ("origin", origin)], false);
            }
        }
        for fetch_site in ["cross-site", "same-site", "none", ""] {
            let fetch_site = ("sec-fetch-site", fetch_site);
            check("GET", &[OWN, fetch_site], false);
            check("GET", &[OWN, SAME, fetch_site], false);
            check("POST", &[OWN, ORIGIN, fetch_site], false);
            check("GET", &[UPGRADE, ORIGIN, fetch_site], false);
        }
    }
}

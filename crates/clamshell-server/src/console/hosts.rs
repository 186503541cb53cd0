//! For which names this server answers browsers. A page of elsewhere whose name was pointed at this server's address (DNS
//! rebinding) asks under its own name, and is refused by it.

use http::{header, request::Parts};

use crate::{app::App, http::Peer};

/// Names of this machine for itself.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Where a request came in, as its sender sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    /// Host and port, as the request has them.
    pub(crate) authority: String,
    /// Whether the browser speaks HTTPS: with this server, or with a proxy before it.
    pub(crate) https: bool,
    /// Whether browsers take it for safe without TLS.
    loopback: bool,
}

impl Site {
    /// Scheme and authority, without a slash at the end.
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}", if self.https { "https" } else { "http" }, self.authority)
    }

    /// One of plain HTTP on this machine.
    #[cfg(test)]
    pub(super) fn of_test(authority: &str) -> Self {
        Self { authority: authority.to_owned(), https: false, loopback: true }
    }

    /// Whether browsers keep a `Secure` cookie of it.
    pub(crate) fn is_secure(&self) -> bool {
        self.https || self.loopback
    }

    /// Whether an `Origin` header names this site. With HTTPS beside HTTP, because a proxy may have taken TLS off, and what
    /// has a certificate for this name is no stranger.
    pub(crate) fn is_origin(&self, origin: &str) -> bool {
        let rest = origin.strip_prefix("https://");
        let rest = if self.https { rest } else { rest.or_else(|| origin.strip_prefix("http://")) };
        rest == Some(self.authority.as_str())
    }
}

/// The site that a request is for: of loopback, the listener's address, or a configured name, without a port or with the
/// listener's. `None` for other names, none, or two.
pub(crate) fn site(app: &App, parts: &Parts) -> Option<Site> {
    let authority = authority(parts)?;
    let endpoint = app.endpoint.get().map_or("", String::as_str);
    let listener = endpoint.split_once("://").map_or("", |(_, listener)| listener);
    let known = is_known(authority, listener, &app.config.console.hosts);
    if !known {
        return None;
    }
    let secure = parts.extensions.get::<Peer>().is_some_and(|peer| peer.secure);
    let loopback = LOOPBACK.contains(&split(authority).0) || is_loopback(split(authority).0);
    // A name that is not of this machine and without TLS here is that of a proxy with TLS, unless the operator says that there
    // is none. The header can only make things stricter: cookies of HTTPS are not sent without it.
    let forwarded =
        || parts.headers.get("x-forwarded-proto").is_some_and(|scheme| scheme.as_bytes() == b"https");
    let https = secure || forwarded() || (!loopback && !app.config.console.insecure_http);
    Some(Site { authority: authority.to_owned(), https, loopback })
}

/// The one host that a request names.
fn authority(parts: &Parts) -> Option<&str> {
    let mut named = parts.headers.get_all(header::HOST).iter();
    let host = match named.next() {
        Some(host) => Some(host.to_str().ok()?),
        None => None,
    };
    if named.next().is_some() {
        return None;
    }
    match (host, parts.uri.authority().map(http::uri::Authority::as_str)) {
        (Some(host), Some(authority)) => (host == authority).then_some(host),
        (host, authority) => host.or(authority),
    }
}

/// `listener`: address and port of the listener; `hosts`: configured names.
fn is_known(authority: &str, listener: &str, hosts: &[String]) -> bool {
    // Compared as browsers send it: in lower case, without a dot at the end.
    let (host, port) = split(authority);
    let (own, own_port) = split(listener);
    if authority.is_empty() || host.is_empty() || port == Some("") {
        return false;
    }
    if hosts.iter().any(|known| known == authority) {
        return true;
    }
    let port_fits = port.is_none() || port == own_port;
    port_fits && (LOOPBACK.contains(&host) || host == own || hosts.iter().any(|known| known == host))
}

/// Host, and the port behind its colon; addresses of IPv6 are in brackets.
fn split(authority: &str) -> (&str, Option<&str>) {
    match authority.rfind(']') {
        Some(end) => {
            let rest = &authority[end + 1..];
            // What is no port is an empty one, which is refused.
            (&authority[..=end], (!rest.is_empty()).then(|| rest.strip_prefix(':').unwrap_or_default()))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_server_and_no_others() {
        let hosts = ["agents.example.com".to_owned(), "other.example:8443".to_owned()];
        let check = |authority: &str, expect: bool| {
            assert_eq!(is_known(authority, "192.0.2.7:7878", &hosts), expect, "{authority}");
        };
        for known in [
            "localhost",
            "localhost:7878",
            "127.0.0.1:7878",
            "127.0.0.1",
            "[::1]:7878",
            "[::1]",
            "192.0.2.7",
            "192.0.2.7:7878",
            "agents.example.com",
            "agents.example.com:7878",
            "other.example:8443",
        ] {
            check(known, true);
        }
        for unknown in [
            "",
            ":7878",
            "localhost:",
            "localhost:80",
            "localhost.",
            "localhost.:7878",
            "LOCALHOST",
            "127.0.0.2",
            "127.0.0.1.evil.example",
            "evil.example",
            "evil.example:7878",
            "x.agents.example.com",
            "agents.example.com.",
            "agents.example.com:443",
            "agents.example.com@evil.example",
            "other.example",
            "other.example:7878",
            "[::1]x",
            "[::2]",
            "::1",
            "192.0.2.8",
            "0.0.0.0",
        ] {
            check(unknown, false);
        }
        assert!(!is_known("", "", &[]));
    }

    #[test]
    fn origins_of_a_site() {
        let site =
            |authority: &str, https: bool| Site { authority: authority.to_owned(), https, loopback: false };
        let plain = site("localhost:7878", false);
        assert!(plain.is_origin("http://localhost:7878"));
        assert!(plain.is_origin("https://localhost:7878"));
        let tls = site("a.example", true);
        assert!(tls.is_origin("https://a.example"));
        for origin in [
            "http://a.example",
            "null",
            "",
            "https://a.example:8443",
            "https://a.example/",
            "https://b.example",
        ] {
            assert!(!tls.is_origin(origin), "{origin}");
        }
    }
}

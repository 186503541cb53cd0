//! The URLs that are fetched: `http` and `https` with a host, nothing else.

use http::{Uri, uri::Authority};

use super::FetchError;

/// Longest URL taken; signed ones of object storages have about 2 KiB.
const URL_BYTES_MAX: usize = 16 << 10;

/// An absolute URL. No user, no fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    is_https: bool,
    authority: Authority,
    path_and_query: String,
}

impl Url {
    /// Takes `http://...` or `https://...`.
    ///
    /// # Errors
    /// [`FetchError::MalformedUrl`].
    pub fn parse(text: &str) -> Result<Self, FetchError> {
        // What stands behind `#` is for people.
        let text = text.split('#').next().unwrap_or_default();
        if text.len() > URL_BYTES_MAX {
            return Err(FetchError::MalformedUrl);
        }
        let uri: Uri = text.parse().map_err(|_| FetchError::MalformedUrl)?;
        let parts = uri.into_parts();
        let is_https = match parts.scheme.as_ref().map(|scheme| scheme.as_str()) {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(FetchError::MalformedUrl),
        };
        let authority = parts.authority.ok_or(FetchError::MalformedUrl)?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(FetchError::MalformedUrl);
        }
        let path_and_query =
            parts.path_and_query.map_or_else(|| "/".to_owned(), |path| path.as_str().to_owned());
        Ok(Self { is_https, authority, path_and_query })
    }

    /// A URL of a host and a path with its query, already escaped.
    ///
    /// # Errors
    /// [`FetchError::MalformedUrl`].
    pub fn of(is_https: bool, authority: &str, path_and_query: &str) -> Result<Self, FetchError> {
        let scheme = if is_https { "https" } else { "http" };
        Self::parse(&format!("{scheme}://{authority}{path_and_query}"))
    }

    /// What a `Location` header means here.
    ///
    /// # Errors
    /// [`FetchError::MalformedUrl`].
    pub fn join(&self, location: &str) -> Result<Self, FetchError> {
        if location.contains("://") && location.starts_with("http") {
            return Self::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme()));
        }
        if location.starts_with('/') {
            return Self::of(self.is_https, self.authority.as_str(), location);
        }
        // Relative ones are not seen with registries or object storages.
        Err(FetchError::MalformedUrl)
    }

    /// Whether TLS is spoken.
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }

    /// Host as it stands in the URL, IPv6 in brackets.
    pub fn host(&self) -> &str {
        self.authority.host()
    }

    /// Host without brackets.
    pub fn bare_host(&self) -> &str {
        self.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// Port, of the scheme when there is none.
    pub fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.is_https { 443 } else { 80 })
    }

    /// Host and port as they stand in the URL.
    pub fn authority(&self) -> String {
        self.authority.as_str().to_owned()
    }

    /// Path and query.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// Whether scheme, host and port are the same.
    pub fn same_origin(&self, other: &Self) -> bool {
        self.is_https == other.is_https
            && self.port() == other.port()
            && self.host().eq_ignore_ascii_case(other.host())
    }

    /// Whether the host is this machine by its very name.
    pub fn is_loopback(&self) -> bool {
        is_loopback(self.bare_host())
    }
}

/// Whether a host without brackets is this machine by its very name.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed_and_joined() {
        let shown =
            |url: &Url| format!("{} {} {} {}", url.scheme(), url.host(), url.port(), url.path_and_query());
        let check = |text: &str, expect: &str| {
            assert_eq!(Url::parse(text).map(|url| shown(&url)).unwrap_or_default(), expect, "{text}");
        };
        check("https://a.example/v2/?x=1#y", "https a.example 443 /v2/?x=1");
        check("http://[::1]:5000", "http [::1] 5000 /");
        check("ftp://a/", "");
        check("https://user@a/", "");
        check("/v2/", "");
        check(&format!("https://a/{}", "x".repeat(URL_BYTES_MAX)), "");
        let base = Url::parse("https://a.example:8443/v2/x").unwrap();
        let joined = |location: &str| base.join(location).map(|url| shown(&url)).unwrap_or_default();
        assert_eq!(joined("/y?z"), "https a.example 8443 /y?z");
        assert_eq!(joined("//b/y"), "https b 443 /y");
        assert_eq!(joined("http://b/y"), "http b 80 /y");
        assert_eq!(joined("y"), "");
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        let url = |text| Url::parse(text).unwrap();
        assert!(url("https://a/x").same_origin(&url("https://A:443/y")));
        assert!(!url("https://a/x").same_origin(&url("http://a/x")));
        assert!(!url("https://a/x").same_origin(&url("https://a.b/x")));
        assert!(!url("https://a/x").same_origin(&url("https://a:444/x")));
        assert!(url("http://127.0.0.1:5000").is_loopback() && url("http://[::1]").is_loopback());
        assert!(!url("http://127.0.0.1.example").is_loopback());
    }
}

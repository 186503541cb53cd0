//! Puts a signature on a request.

use clamshell_wire::sigv4::{Credentials, PayloadHash, SignedRequest, sign_headers_for};

use http::HeaderName;

use crate::failure::Failure;

/// What a signature covers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsigned<'a> {
    /// Service that it is for.
    pub(crate) service: &'a str,
    /// Method.
    pub(crate) method: &'a str,
    /// Path and query as they go out.
    pub(crate) path_and_query: &'a str,
    /// Headers, `host` among them.
    pub(crate) headers: &'a [(HeaderName, String)],
    /// What the body hashes to.
    pub(crate) payload_hash: PayloadHash<'a>,
}

/// Headers to add.
pub(crate) fn sign(
    unsigned: Unsigned<'_>,
    credentials: &Credentials,
    region: &str,
    now_ms: u64,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let (raw_path, raw_query) =
        unsigned.path_and_query.split_once('?').unwrap_or((unsigned.path_and_query, ""));
    let headers: Vec<(&str, &[u8])> =
        unsigned.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let Unsigned { service, method, payload_hash, .. } = unsigned;
    let request = SignedRequest { method, raw_path, raw_query, headers: &headers, payload_hash };
    sign_headers_for(service, &request, credentials, region, now_ms)
        .map_err(|error| Failure::new("cannot sign the request").because_of(&error))
}

//! Puts a signature on a request.

use clamshell_wire::sigv4::{Credentials, PayloadHash, SignedRequest, sign_headers};

use crate::failure::Failure;

/// What a signature covers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unsigned<'a> {
    /// Method.
    pub(crate) method: &'a str,
    /// Path and query as they go out.
    pub(crate) path_and_query: &'a str,
    /// Headers, `host` among them.
    pub(crate) headers: &'a [(&'static str, String)],
    /// Body.
    pub(crate) body: &'a [u8],
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
        unsigned.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let payload_hash =
        if unsigned.body.is_empty() { PayloadHash::Empty } else { PayloadHash::Body(unsigned.body) };
    let request =
        SignedRequest { method: unsigned.method, raw_path, raw_query, headers: &headers, payload_hash };
    sign_headers(&request, credentials, region, now_ms)
        .map_err(|error| Failure::new("cannot sign the request").because_of(&error))
}

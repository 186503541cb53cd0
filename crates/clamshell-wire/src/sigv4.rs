//! Signatures, version 4: verification for the server, signing for the client, from one canonical form.
//!
//! Rules of this service, which differ from S3's: the path is escaped a second time, the payload is always hashed, a
//! presigned request lives at most 300 seconds. Dot segments and doubled slashes of a path are not normalized: no
//! operation has such a path. One caller's duties: hand over every `host` in the order in which they arrived (for
//! HTTP/2 the authority), and the path and query raw.

mod canonical;
mod error;
mod parse;
mod sign;
#[cfg(test)]
mod tests;
mod time;

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;

pub use error::SigV4Error;
pub use sign::{presign, sign_headers, sign_headers_for};

use crate::headers;
use canonical::{Canonical, canonical_query, host_without_port, payload_hex, signature};

/// Service name in the scope of both planes.
pub const SERVICE: &str = "bedrock-agentcore";
/// Name of the algorithm.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Last part of a scope.
pub const TERMINATOR: &str = "aws4_request";
/// Longest life of a presigned request, in seconds; the SDK refuses to make longer ones.
pub const EXPIRES_S_MAX: u32 = 300;
/// Tolerated difference of clocks, in milliseconds: AWS's five minutes.
pub const SKEW_MS_MAX: u64 = 300_000;
/// Most headers of a request: HTTP servers take about a hundred.
pub const HEADERS_MAX: usize = 128;
/// Most signed headers: the SDKs sign fewer than thirty.
pub const SIGNED_HEADERS_MAX: usize = 64;
/// `Host` headers that a signature is tried with: known clients send two at most, and each try costs a hash.
const HOSTS_MAX: usize = 2;
/// Longest session token; those of AWS have about 1 KiB, chained ones up to 4.
pub const SESSION_TOKEN_BYTES_MAX: usize = 8192;

/// What is signed of a request, as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct SignedRequest<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// Path, still percent-encoded, without the query.
    pub raw_path: &'a str,
    /// Query without the question mark, still percent-encoded.
    pub raw_query: &'a str,
    /// Headers: lower-case names, in order received, duplicates allowed.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// What the body hashes to.
    pub payload_hash: PayloadHash<'a>,
}

/// The payload of a request. Unsigned payloads are refused.
#[derive(Clone, Copy)]
pub enum PayloadHash<'a> {
    /// No body: GET, DELETE, WebSocket upgrades.
    Empty,
    /// The whole body.
    Body(&'a [u8]),
    /// SHA-256 of a body hashed elsewhere, for instance while it streamed in.
    Sha256([u8; 32]),
}

impl fmt::Debug for PayloadHash<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Body(body) => write!(f, "Body({} bytes)", body.len()),
            Self::Sha256(_) => f.write_str("Sha256"),
        }
    }
}

/// Credentials of a client. `Debug` hides the secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: String,
    /// Session token, of temporary credentials.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// The authentication a request claims, parsed and not yet verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature {
    access_key_id: String,
    date: String,
    region: String,
    service: String,
    terminator: String,
    timestamp: String,
    timestamp_ms: u64,
    signed_headers: Vec<String>,
    signature: [u8; 32],
    session_token: Option<String>,
    expires_s: Option<u32>,
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signature")
            .field("access_key_id", &self.access_key_id)
            .field("scope", &(&self.date, &self.region, &self.service))
            .field("signed_headers", &self.signed_headers)
            .field("expires_s", &self.expires_s)
            .finish_non_exhaustive()
    }
}

/// Finds the authentication of a request: `Authorization` header or presigned query. `None` when it has neither, or
/// another scheme such as `Bearer`.
///
/// # Errors
/// [`SigV4Error`] when there is one that cannot be read.
pub fn parse(request: &SignedRequest<'_>) -> Result<Option<Signature>, SigV4Error> {
    parse::parse(request)
}

impl Signature {
    /// Whose secret verifies this.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// Region of the scope.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Service of the scope.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Date of the scope, `YYYYMMDD`.
    pub fn date(&self) -> &str {
        &self.date
    }

    /// Time of signing in milliseconds since the epoch.
    pub fn timestamp_ms(&self) -> u64 {
        self.timestamp_ms
    }

    /// Session token; covered by the signature.
    pub fn session_token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }

    /// Life in seconds, of a presigned request.
    pub fn expires(&self) -> Option<u32> {
        self.expires_s
    }

    /// Whether the authentication came in the query.
    pub fn is_presigned(&self) -> bool {
        self.expires_s.is_some()
    }

    /// Lower-case names of the headers covered, sorted.
    pub fn signed_headers(&self) -> &[String] {
        &self.signed_headers
    }

    /// Checks scope, time and signature. `request` is the one this was parsed from.
    ///
    /// # Errors
    /// [`SigV4Error`]; all of them mean 403.
    pub fn verify(
        &self,
        request: &SignedRequest<'_>,
        secret: &str,
        now_ms: u64,
        region: &str,
    ) -> Result<(), SigV4Error> {
        self.check_scope(region)?;
        self.check_time(now_ms)?;
        let payload = payload_hex(&request.payload_hash);
        self.check_payload_header(request, &payload)?;
        self.check_session_header(request)?;
        let query = canonical_query(request.raw_query, self.is_presigned())?;
        let matches = |host: &[u8]| {
            let canonical =
                Canonical { request, query: &query, signed: &self.signed_headers, host, payload: &payload };
            let digest = canonical.hash()?;
            let expect = signature(secret, &self.timestamp, &self.date, (&self.region, SERVICE), &digest);
            Ok::<bool, SigV4Error>(verify_slices_are_equal(&expect, &self.signature).is_ok())
        };
        let mut hosts = request
            .headers
            .iter()
            .filter(|(name, _)| *name == headers::HOST)
            .map(|(_, value)| *value)
            .peekable();
        if hosts.peek().is_none() {
            return Err(SigV4Error::SignedHeaderMissing { name: headers::HOST.to_owned() });
        }
        // The Python SDK sends its own Host after that of its WebSocket library and signs its own; the two differ when
        // its endpoint names the port 443. Its presigned URLs sign the bare host although the request carries the port.
        for host in hosts.take(HOSTS_MAX) {
            if matches(host)? || host_without_port(host).map_or(Ok(false), &matches)? {
                return Ok(());
            }
        }
        Err(SigV4Error::SignatureDoesNotMatch)
    }

    /// A presigned URL is handed on to whom its maker lets into one session: with a header of their own they would be in
    /// any. Who signs with headers has the key; their SDK leaves this one out of the signature.
    fn check_session_header(&self, request: &SignedRequest<'_>) -> Result<(), SigV4Error> {
        let sent = request.headers.iter().any(|(name, _)| *name == headers::SESSION_ID);
        let signed = || self.signed_headers.iter().any(|name| name == headers::SESSION_ID);
        if self.is_presigned() && sent && !signed() {
            return Err(SigV4Error::HeaderNotSigned { name: headers::SESSION_ID });
        }
        Ok(())
    }

    fn check_scope(&self, region: &str) -> Result<(), SigV4Error> {
        if self.terminator != TERMINATOR {
            return Err(SigV4Error::WrongTerminator);
        }
        if self.service != SERVICE {
            return Err(SigV4Error::WrongService);
        }
        if self.region != region {
            return Err(SigV4Error::WrongRegion { expected: region.to_owned() });
        }
        if self.timestamp.get(..8) != Some(self.date.as_str()) {
            return Err(SigV4Error::ScopeDateMismatch);
        }
        Ok(())
    }

    fn check_time(&self, now_ms: u64) -> Result<(), SigV4Error> {
        let signed_at = || self.timestamp.clone();
        if self.timestamp_ms > now_ms.saturating_add(SKEW_MS_MAX) {
            return Err(SigV4Error::NotYetCurrent { signed_at: signed_at(), now: time::format(now_ms) });
        }
        // A presigned request states its own life; a signed one lives as long as clocks may differ.
        let life_ms = self.expires_s.map_or(SKEW_MS_MAX, |seconds| u64::from(seconds) * 1000);
        if now_ms > self.timestamp_ms.saturating_add(life_ms) {
            return Err(SigV4Error::Expired {
                signed_at: signed_at(),
                earliest: time::format(now_ms.saturating_sub(life_ms)),
                now: time::format(now_ms),
                life_s: life_ms / 1000,
            });
        }
        Ok(())
    }

    fn check_payload_header(&self, request: &SignedRequest<'_>, payload: &str) -> Result<(), SigV4Error> {
        let sent = request.headers.iter().filter(|(name, _)| *name == headers::AMZ_CONTENT_SHA256);
        for (_, value) in sent {
            if value.starts_with(b"UNSIGNED-") || value.starts_with(b"STREAMING-") {
                return Err(SigV4Error::UnsignedPayload);
            }
            if !value.eq_ignore_ascii_case(payload.as_bytes()) {
                return Err(SigV4Error::PayloadHashMismatch);
            }
        }
        Ok(())
    }
}

//! Signing, for our own client.

use super::canonical::{Canonical, canonical_query, hex, payload_hex, signature};
use super::{ALGORITHM, Credentials, EXPIRES_S_MAX, SERVICE, SigV4Error, SignedRequest, TERMINATOR, time};
use crate::headers;
use crate::percent::percent_encode;

/// Headers that proxies change or that are made after signing; the SDKs leave them unsigned too.
const UNSIGNED: [&str; 19] = [
    headers::AUTHORIZATION,
    headers::AMZ_DATE,
    headers::AMZ_SECURITY_TOKEN,
    headers::TRACE_ID,
    headers::TRACEPARENT,
    headers::TRACESTATE,
    headers::BAGGAGE,
    "user-agent",
    "transfer-encoding",
    "connection",
    "upgrade",
    "expect",
    "te",
    "trailer",
    "keep-alive",
    "proxy-authorization",
    "accept-encoding",
    "content-length",
    "date",
];

/// Signs a request in its headers. `request.headers` must hold `host` and all headers that are to be covered; gives
/// the headers to add: `x-amz-date`, `x-amz-security-token` for temporary credentials, `authorization`.
///
/// # Errors
/// [`SigV4Error::HostNotSigned`] without a `host` header; [`SigV4Error::TooLarge`] and [`SigV4Error::MalformedQuery`]
/// as in verification.
pub fn sign_headers(
    request: &SignedRequest<'_>,
    credentials: &Credentials,
    region: &str,
    now_ms: u64,
) -> Result<Vec<(&'static str, String)>, SigV4Error> {
    sign_headers_for(SERVICE, request, credentials, region, now_ms)
}

/// As [`sign_headers`], for another service. For S3, whose rules differ, the path must need no escape and the caller adds
/// `x-amz-content-sha256`.
///
/// # Errors
/// As [`sign_headers`].
pub fn sign_headers_for(
    service: &str,
    request: &SignedRequest<'_>,
    credentials: &Credentials,
    region: &str,
    now_ms: u64,
) -> Result<Vec<(&'static str, String)>, SigV4Error> {
    let timestamp = time::format(now_ms);
    let mut add = vec![(headers::AMZ_DATE, timestamp.clone())];
    add.extend(credentials.session_token.clone().map(|token| (headers::AMZ_SECURITY_TOKEN, token)));
    let kept = request.headers.iter().copied().filter(|(name, _)| {
        !UNSIGNED.contains(name) && !name.starts_with("sec-websocket-") && !name.starts_with("amz-sdk-")
    });
    let all: Vec<(&str, &[u8])> =
        kept.chain(add.iter().map(|(name, value)| (*name, value.as_bytes()))).collect();
    let mut signed: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    signed.sort_unstable();
    signed.dedup();
    let covered = SignedRequest { headers: &all, ..*request };
    let query = canonical_query(request.raw_query, false)?;
    let digits = finish(&covered, &query, &signed, credentials, (region, service), &timestamp)?;
    let authorization = format!(
        "{ALGORITHM} Credential={}, SignedHeaders={}, Signature={digits}",
        credential(credentials, (region, service), &timestamp),
        signed.join(";"),
    );
    add.push((headers::AUTHORIZATION, authorization));
    Ok(add)
}

/// Signs a request in its query, covering the `host` header alone; gives the whole query string to send.
///
/// # Errors
/// [`SigV4Error::InvalidExpires`] outside 1 to 300 seconds, else as [`sign_headers`].
pub fn presign(
    request: &SignedRequest<'_>,
    credentials: &Credentials,
    region: &str,
    now_ms: u64,
    expires_s: u32,
) -> Result<String, SigV4Error> {
    if !(1..=EXPIRES_S_MAX).contains(&expires_s) {
        return Err(SigV4Error::InvalidExpires);
    }
    let timestamp = time::format(now_ms);
    let mut raw = request.raw_query.to_owned();
    let mut push = |name: &str, value: &str| {
        raw.push_str(if raw.is_empty() { "" } else { "&" });
        raw.push_str(name);
        raw.push('=');
        raw.push_str(&percent_encode(value));
    };
    push("X-Amz-Algorithm", ALGORITHM);
    push("X-Amz-Credential", &credential(credentials, (region, SERVICE), &timestamp));
    push("X-Amz-Date", &timestamp);
    push("X-Amz-Expires", &expires_s.to_string());
    push("X-Amz-SignedHeaders", headers::HOST);
    if let Some(token) = &credentials.session_token {
        push("X-Amz-Security-Token", token);
    }
    let query = canonical_query(&raw, true)?;
    let digits = finish(request, &query, &[headers::HOST], credentials, (region, SERVICE), &timestamp)?;
    raw.push_str("&X-Amz-Signature=");
    raw.push_str(&digits);
    Ok(raw)
}

fn credential(credentials: &Credentials, (region, service): (&str, &str), timestamp: &str) -> String {
    let date = timestamp.get(..8).unwrap_or_default();
    format!("{}/{date}/{region}/{service}/{TERMINATOR}", credentials.access_key_id)
}

fn finish(
    request: &SignedRequest<'_>,
    query: &str,
    signed: &[&str],
    credentials: &Credentials,
    scope: (&str, &str),
    timestamp: &str,
) -> Result<String, SigV4Error> {
    let host = request.headers.iter().find(|(name, _)| *name == headers::HOST);
    let (_, host) = host.ok_or(SigV4Error::HostNotSigned)?;
    let payload = payload_hex(&request.payload_hash);
    let hash = Canonical { request, query, signed, host, payload: &payload }.hash()?;
    let date = timestamp.get(..8).unwrap_or_default();
    Ok(hex(&signature(&credentials.secret_access_key, timestamp, date, scope, &hash)))
}

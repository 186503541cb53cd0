//! Reading the authentication out of a request: every field bounded, nothing repeated, nothing trusted.

use super::canonical::query_error;
use super::{
    ALGORITHM, EXPIRES_S_MAX, HEADERS_MAX, SESSION_TOKEN_BYTES_MAX, SIGNED_HEADERS_MAX, SigV4Error,
    Signature, SignedRequest, time,
};
use crate::headers;
use crate::percent::{hex_digit, percent_decode};
use crate::query;

/// Longest `Authorization` value: 64 header names and a credential.
const AUTHORIZATION_BYTES_MAX: usize = 16_384;

pub(super) fn parse(request: &SignedRequest<'_>) -> Result<Option<Signature>, SigV4Error> {
    if request.headers.len() > HEADERS_MAX {
        return Err(SigV4Error::TooLarge { what: "headers" });
    }
    let header = authorization(request)?;
    let presigned = Presigned::find(request.raw_query)?;
    let signature = match (header, presigned) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(SigV4Error::SeveralAuthentications),
        (Some(value), None) => from_header(request, value)?,
        (None, Some(presigned)) => from_query(request, presigned)?,
    };
    Ok(Some(signature))
}

/// The parameters of an `Authorization` header of ours; `None` for other schemes.
fn authorization<'a>(request: &SignedRequest<'a>) -> Result<Option<&'a str>, SigV4Error> {
    let mut found = None;
    for (_, value) in request.headers.iter().filter(|(name, _)| *name == headers::AUTHORIZATION) {
        if !value.starts_with(b"AWS4-") {
            continue;
        }
        if value.len() > AUTHORIZATION_BYTES_MAX {
            return Err(SigV4Error::TooLarge { what: "Authorization header" });
        }
        if found.is_some() {
            return Err(SigV4Error::MalformedAuthorization);
        }
        let text = std::str::from_utf8(value).map_err(|_| SigV4Error::MalformedAuthorization)?;
        let (algorithm, rest) = text.split_once(' ').unwrap_or((text, ""));
        if algorithm != ALGORITHM {
            return Err(SigV4Error::UnsupportedAlgorithm);
        }
        found = Some(rest);
    }
    Ok(found)
}

fn from_header(request: &SignedRequest<'_>, value: &str) -> Result<Signature, SigV4Error> {
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    for part in value.split(',') {
        let (name, value) = part.trim().split_once('=').ok_or(SigV4Error::MalformedAuthorization)?;
        let slot = match name {
            "Credential" => &mut credential,
            "SignedHeaders" => &mut signed_headers,
            "Signature" => &mut signature,
            _ => return Err(SigV4Error::MalformedAuthorization),
        };
        if slot.replace(value).is_some() {
            return Err(SigV4Error::MalformedAuthorization);
        }
    }
    let need = |slot: Option<&'_ str>| slot.map(str::to_owned).ok_or(SigV4Error::MalformedAuthorization);
    let fields = Fields {
        credential: need(credential)?,
        signed_headers: need(signed_headers)?,
        signature: need(signature)?,
    };
    let (timestamp, timestamp_ms) = match header_text(request, headers::AMZ_DATE) {
        Some(text) => {
            let text = text?;
            let ms = time::parse_basic(text).ok_or(SigV4Error::MalformedDate)?;
            (text.to_owned(), ms)
        }
        None => {
            let text = header_text(request, headers::DATE).ok_or(SigV4Error::MissingDate)??;
            time::parse_date_header(text).ok_or(SigV4Error::MalformedDate)?
        }
    };
    fields.build(request, timestamp, timestamp_ms, None, None)
}

fn from_query(request: &SignedRequest<'_>, presigned: Presigned) -> Result<Signature, SigV4Error> {
    let need = |slot: Option<String>| slot.ok_or(SigV4Error::MalformedPresignedQuery);
    if need(presigned.algorithm)? != ALGORITHM {
        return Err(SigV4Error::UnsupportedAlgorithm);
    }
    let timestamp = need(presigned.date)?;
    let timestamp_ms = time::parse_basic(&timestamp).ok_or(SigV4Error::MalformedDate)?;
    let expires = need(presigned.expires)?;
    // Digits only: `parse` alone would take a sign.
    let expires = Some(expires)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse::<u32>().ok())
        .filter(|seconds| (1..=EXPIRES_S_MAX).contains(seconds))
        .ok_or(SigV4Error::InvalidExpires)?;
    let fields = Fields {
        credential: need(presigned.credential)?,
        signed_headers: need(presigned.signed_headers)?,
        signature: need(presigned.signature)?,
    };
    fields.build(request, timestamp, timestamp_ms, Some(expires), presigned.session_token)
}

/// The `X-Amz-*` parameters of a presigned query.
#[derive(Default)]
struct Presigned {
    algorithm: Option<String>,
    credential: Option<String>,
    date: Option<String>,
    expires: Option<String>,
    signed_headers: Option<String>,
    signature: Option<String>,
    session_token: Option<String>,
}

impl Presigned {
    /// `None` when the query has neither algorithm nor signature.
    fn find(raw_query: &str) -> Result<Option<Self>, SigV4Error> {
        let mut out = Self::default();
        for (name, value) in query::split(raw_query).map_err(query_error)? {
            let slot = match name {
                "X-Amz-Algorithm" => &mut out.algorithm,
                "X-Amz-Credential" => &mut out.credential,
                "X-Amz-Date" => &mut out.date,
                "X-Amz-Expires" => &mut out.expires,
                "X-Amz-SignedHeaders" => &mut out.signed_headers,
                "X-Amz-Signature" => &mut out.signature,
                "X-Amz-Security-Token" => &mut out.session_token,
                _ => continue,
            };
            let value = percent_decode(value).map_err(|_| SigV4Error::MalformedQuery)?;
            if slot.replace(value).is_some() {
                return Err(SigV4Error::MalformedPresignedQuery);
            }
        }
        Ok((out.algorithm.is_some() || out.signature.is_some()).then_some(out))
    }
}

/// The three fields that header and query have in common.
struct Fields {
    credential: String,
    signed_headers: String,
    signature: String,
}

impl Fields {
    fn build(
        self,
        request: &SignedRequest<'_>,
        timestamp: String,
        timestamp_ms: u64,
        expires_s: Option<u32>,
        query_token: Option<String>,
    ) -> Result<Signature, SigV4Error> {
        let signed_headers = parse_signed_headers(&self.signed_headers)?;
        let header_token = match header_text(request, headers::AMZ_SECURITY_TOKEN) {
            Some(token) if signed_headers.iter().any(|name| name == headers::AMZ_SECURITY_TOKEN) => {
                Some(token?)
            }
            Some(_) => return Err(SigV4Error::SessionTokenNotSigned),
            None => None,
        };
        // A token in the query is covered, for the signature covers the query.
        let session_token = match (header_token, query_token) {
            (Some(_), Some(_)) => return Err(SigV4Error::SeveralAuthentications),
            (header, query) => header.map(str::to_owned).or(query),
        };
        if session_token.as_ref().is_some_and(|token| token.len() > SESSION_TOKEN_BYTES_MAX) {
            return Err(SigV4Error::TooLarge { what: "session token" });
        }
        let mut parts = self.credential.split('/');
        let mut next = || {
            let part = parts.next().filter(|part| (1..=128).contains(&part.len()));
            part.map(str::to_owned).ok_or(SigV4Error::MalformedCredential)
        };
        let (access_key_id, date, region, service, terminator) =
            (next()?, next()?, next()?, next()?, next()?);
        let word = access_key_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if parts.next().is_some() || !word {
            return Err(SigV4Error::MalformedCredential);
        }
        Ok(Signature {
            access_key_id,
            date,
            region,
            service,
            terminator,
            timestamp,
            timestamp_ms,
            signed_headers,
            signature: parse_signature(&self.signature).ok_or(SigV4Error::MalformedSignature)?,
            session_token,
            expires_s,
        })
    }
}

/// The only value of a header; a second one that differs is ambiguous, hence refused.
fn header_text<'a>(request: &SignedRequest<'a>, name: &str) -> Option<Result<&'a str, SigV4Error>> {
    let mut values = request.headers.iter().filter(|(key, _)| *key == name).map(|(_, value)| *value);
    let first = values.next()?;
    if values.any(|value| value != first) {
        return Some(Err(SigV4Error::MalformedAuthorization));
    }
    Some(std::str::from_utf8(first).map(str::trim).map_err(|_| SigV4Error::MalformedAuthorization))
}

fn parse_signed_headers(text: &str) -> Result<Vec<String>, SigV4Error> {
    if text.bytes().filter(|byte| *byte == b';').count() >= SIGNED_HEADERS_MAX {
        return Err(SigV4Error::TooLarge { what: "signed headers" });
    }
    let names: Vec<String> = text.split(';').map(str::to_owned).collect();
    let token =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let plain = names.iter().all(|name| (1..=256).contains(&name.len()) && name.bytes().all(token));
    if !plain || !names.is_sorted_by(|left, right| left < right) {
        return Err(SigV4Error::MalformedSignedHeaders);
    }
    if names.iter().any(|name| name == headers::HOST) { Ok(names) } else { Err(SigV4Error::HostNotSigned) }
}

fn parse_signature(text: &str) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut out = [0; 32];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_digit(*pair.first()?)? << 4 | hex_digit(*pair.last()?)?;
    }
    Some(out)
}

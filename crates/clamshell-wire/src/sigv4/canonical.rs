//! The canonical request and the signature over it. Verification and signing both end here.

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::hmac;

use super::{ALGORITHM, PayloadHash, SigV4Error, SignedRequest, TERMINATOR};
use crate::headers;
use crate::percent::{canonical, encode_to};
use crate::query::{self, QueryError};

const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// All that goes into the canonical request.
pub(super) struct Canonical<'a, S> {
    pub(super) request: &'a SignedRequest<'a>,
    /// From [`canonical_query`].
    pub(super) query: &'a str,
    /// Lower-case and sorted.
    pub(super) signed: &'a [S],
    /// The value of `host` to use.
    pub(super) host: &'a [u8],
    /// From [`payload_hex`].
    pub(super) payload: &'a str,
}

impl<S: AsRef<str>> Canonical<'_, S> {
    /// SHA-256 of the canonical request.
    pub(super) fn hash(&self) -> Result<[u8; 32], SigV4Error> {
        // Gathered first, because a digest takes many small updates slowly; it is as bounded as the request.
        let mut text = Vec::with_capacity(1024);
        self.write(&mut text)?;
        Ok(to_array(digest::digest(&SHA256, &text).as_ref()))
    }

    /// Writes the canonical request.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), SigV4Error> {
        out.extend_from_slice(self.request.method.as_bytes());
        out.extend_from_slice(b"\n");
        let path = if self.request.raw_path.is_empty() { "/" } else { self.request.raw_path };
        // The path as sent is escaped once already; this service wants it escaped again.
        encode_to(path.as_bytes(), true, |piece| out.extend_from_slice(piece.as_bytes()));
        out.extend_from_slice(b"\n");
        out.extend_from_slice(self.query.as_bytes());
        out.extend_from_slice(b"\n");
        for name in self.signed {
            let name = name.as_ref();
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b":");
            if name == headers::HOST {
                put_collapsed(self.host, out);
            } else {
                self.put_values(name, out)?;
            }
            out.extend_from_slice(b"\n");
        }
        out.extend_from_slice(b"\n");
        for (index, name) in self.signed.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"" } else { b";" });
            out.extend_from_slice(name.as_ref().as_bytes());
        }
        out.extend_from_slice(b"\n");
        out.extend_from_slice(self.payload.as_bytes());
        Ok(())
    }

    fn put_values(&self, name: &str, out: &mut Vec<u8>) -> Result<(), SigV4Error> {
        let mut found = false;
        for (_, value) in self.request.headers.iter().filter(|(key, _)| *key == name) {
            out.extend_from_slice(if found { b"," } else { b"" });
            put_collapsed(value, out);
            found = true;
        }
        if found { Ok(()) } else { Err(SigV4Error::SignedHeaderMissing { name: name.to_owned() }) }
    }
}

/// Drops blanks at both ends and makes runs of them one space.
fn put_collapsed(value: &[u8], out: &mut Vec<u8>) {
    let words = value.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    for (index, word) in words.enumerate() {
        out.extend_from_slice(if index == 0 { b"" } else { b" " });
        out.extend_from_slice(word);
    }
}

/// Sorted and canonically spelled query; without `X-Amz-Signature` when `presigned`.
pub(super) fn canonical_query(raw: &str, presigned: bool) -> Result<String, SigV4Error> {
    let mut params = Vec::new();
    for (name, value) in query::split(raw).map_err(query_error)? {
        if presigned && name == "X-Amz-Signature" {
            continue;
        }
        let spell = |text| canonical(text).map_err(|_| SigV4Error::MalformedQuery);
        params.push((spell(name)?, spell(value)?));
    }
    params.sort_unstable();
    let mut out = String::with_capacity(raw.len() + 16);
    for (index, (name, value)) in params.iter().enumerate() {
        out.push_str(if index == 0 { "" } else { "&" });
        out.push_str(name);
        out.push('=');
        out.push_str(value);
    }
    Ok(out)
}

pub(super) fn query_error(error: QueryError) -> SigV4Error {
    match error {
        QueryError::TooLong | QueryError::TooMany => SigV4Error::TooLarge { what: "query parameters" },
        QueryError::Encoding(_) => SigV4Error::MalformedQuery,
    }
}

/// Lower-case hexadecimal SHA-256 of the payload.
pub(super) fn payload_hex(payload: &PayloadHash<'_>) -> String {
    match payload {
        PayloadHash::Empty => EMPTY_SHA256.to_owned(),
        PayloadHash::Body(body) => hex(digest::digest(&SHA256, body).as_ref()),
        PayloadHash::Sha256(hash) => hex(hash),
    }
}

/// The host of `host:port`; `None` when there is no port. Brackets of IPv6 stay.
pub(super) fn host_without_port(host: &[u8]) -> Option<&[u8]> {
    let colon = host.iter().rposition(|byte| *byte == b':')?;
    let (name, port) = (host.get(..colon)?, host.get(colon + 1..)?);
    let plain = !name.contains(&b':') || name.ends_with(b"]");
    (plain && !port.is_empty() && port.iter().all(u8::is_ascii_digit)).then_some(name)
}

/// The signature over a canonical request's hash, for a region and a service.
pub(super) fn signature(
    secret: &str,
    timestamp: &str,
    date: &str,
    (region, service): (&str, &str),
    hash: &[u8; 32],
) -> [u8; 32] {
    let text = format!("{ALGORITHM}\n{timestamp}\n{date}/{region}/{service}/{TERMINATOR}\n{}", hex(hash));
    let key = mac(format!("AWS4{secret}").as_bytes(), date);
    let key = mac(&key, region);
    let key = mac(&key, service);
    let key = mac(&key, TERMINATOR);
    mac(&key, &text)
}

fn mac(key: &[u8], text: &str) -> [u8; 32] {
    to_array(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref())
}

fn to_array(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().expect("SHA-256 has 32 bytes")
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

//! Signatures, version 4, by the rules of S3: the path is escaped once, bodies may be unsigned or signed piece by piece, a
//! presigned request may live for a week. The rules of the other services are those of `clamshell-wire`.

use std::fmt::Write;

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, hmac};
use http::{HeaderMap, request::Parts};

use super::error::{Code, S3Error};

/// Name of the algorithm.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// Digest of nothing.
pub(crate) const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// Difference of clocks that S3 takes.
const SKEW_MS_MAX: u64 = 900_000;
/// Longest life of a presigned request, seconds.
const EXPIRES_S_MAX: u64 = 604_800;
/// Most signed headers; SDKs sign fewer than thirty.
const SIGNED_HEADERS_MAX: usize = 64;
/// Longest part of a credential.
const TEXT_BYTES_MAX: usize = 4096;

/// A signature that a request claims to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) access_key_id: String,
    pub(crate) session_token: Option<String>,
    date: String,
    region: String,
    service: String,
    timestamp: String,
    signed_headers: Vec<String>,
    signature: String,
    expires_s: Option<u64>,
    /// What stands for the body in the canonical request.
    pub(crate) payload: String,
}

/// Whether the request is signed for S3, going by its credential scope alone, or by version 2, which no other service has.
pub(crate) fn is_for_s3(parts: &Parts) -> bool {
    if is_version_2(parts) {
        return true;
    }
    let is_s3 = |scope: &str| scope.rsplit('/').nth(1) == Some("s3");
    let header = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
    match header.and_then(|header| header.strip_prefix(ALGORITHM)) {
        Some(fields) => field(fields, "Credential").is_some_and(is_s3),
        None => query(parts)
            .is_ok_and(|query| query.iter().any(|(name, value)| name == "X-Amz-Credential" && is_s3(value))),
    }
}

/// Signatures of version 2: clients still make them for presigned URLs of the older regions. They are told that none is taken.
fn is_version_2(parts: &Parts) -> bool {
    let header = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
    if let Some(header) = header {
        return header.starts_with("AWS ");
    }
    let Ok(query) = query(parts) else { return false };
    ["AWSAccessKeyId", "Signature", "Expires"]
        .iter()
        .all(|wanted| query.iter().any(|(name, _)| name == wanted))
}

fn field<'a>(fields: &'a str, name: &str) -> Option<&'a str> {
    let mut parts = fields.split(',').map(str::trim);
    parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

/// The decoded query of a request, in its order.
pub(crate) fn query(parts: &Parts) -> Result<Vec<(String, String)>, S3Error> {
    let raw = parts.uri.query().unwrap_or_default();
    let decoded = |text: &str| {
        let bytes = decode(text).ok_or(Code::InvalidArgument)?;
        String::from_utf8(bytes).map_err(|_| S3Error::from(Code::InvalidArgument))
    };
    let pairs = raw.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name)?, decoded(value)?))
        })
        .collect()
}

/// Finds the signature of a request. `None`: it has none.
pub(crate) fn claim(parts: &Parts) -> Result<Option<Claim>, S3Error> {
    if is_version_2(parts) {
        return Err(Code::InvalidRequest.into());
    }
    let malformed = || S3Error::from(Code::AuthorizationHeaderMalformed);
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .filter(|value| value.len() <= TEXT_BYTES_MAX * 2)
    };
    if let Some(fields) = header("authorization").and_then(|value| value.strip_prefix(ALGORITHM)) {
        let get =
            |name| field(fields, name).filter(|value| value.len() <= TEXT_BYTES_MAX).ok_or_else(malformed);
        let payload = header("x-amz-content-sha256").ok_or(Code::MissingSecurityHeader)?.to_owned();
        let timestamp = header("x-amz-date").ok_or(Code::MissingSecurityHeader)?.to_owned();
        let token = header("x-amz-security-token").map(str::to_owned);
        let signed = get("SignedHeaders")?.to_owned();
        return build(get("Credential")?, token, timestamp, &signed, get("Signature")?, None, payload)
            .map(Some)
            .ok_or_else(malformed);
    }
    let query = query(parts)?;
    let get = |wanted: &str| query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    if get("X-Amz-Algorithm").as_deref() != Some(ALGORITHM) {
        return Ok(None);
    }
    let need = |name| get(name).ok_or_else(malformed);
    let expires_s: u64 = need("X-Amz-Expires")?.parse().map_err(|_| malformed())?;
    if !(1..=EXPIRES_S_MAX).contains(&expires_s) {
        return Err(S3Error::of(
            Code::AuthorizationHeaderMalformed,
            "X-Amz-Expires must be from 1 to 604800",
        ));
    }
    let payload = header("x-amz-content-sha256").unwrap_or("UNSIGNED-PAYLOAD").to_owned();
    build(
        &need("X-Amz-Credential")?,
        get("X-Amz-Security-Token"),
        need("X-Amz-Date")?,
        &need("X-Amz-SignedHeaders")?,
        &need("X-Amz-Signature")?,
        Some(expires_s),
        payload,
    )
    .map(Some)
    .ok_or_else(malformed)
}

fn build(
    credential: &str,
    session_token: Option<String>,
    timestamp: String,
    signed: &str,
    signature: &str,
    expires_s: Option<u64>,
    payload: String,
) -> Option<Claim> {
    let mut scope = credential.rsplitn(5, '/');
    let [terminator, service, region, date, access_key_id] =
        std::array::from_fn(|_| scope.next().unwrap_or_default());
    let signed_headers: Vec<String> = signed.split(';').map(str::to_owned).collect();
    let is_good = terminator == "aws4_request"
        && !access_key_id.is_empty()
        && timestamp.get(..8) == Some(date)
        && signed_headers.len() <= SIGNED_HEADERS_MAX
        && signed_headers.iter().any(|name| name == "host");
    is_good.then(|| Claim {
        access_key_id: access_key_id.to_owned(),
        session_token,
        date: date.to_owned(),
        region: region.to_owned(),
        service: service.to_owned(),
        timestamp,
        signed_headers,
        signature: signature.to_owned(),
        expires_s,
        payload,
    })
}

/// What the pieces of a body are verified with.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    key: hmac::Key,
    timestamp: String,
    scope: String,
    previous: String,
}

impl Claim {
    /// Checks scope, time and signature, and gives what the pieces of the body are verified with.
    pub(crate) fn verify(
        &self,
        parts: &Parts,
        secret: &str,
        now_ms: u64,
        region: &str,
    ) -> Result<Chain, S3Error> {
        if self.service != "s3" || self.region != region {
            let message = format!(
                "the credential is scoped to {}/{}; expecting {region}/s3",
                self.region, self.service
            );
            return Err(S3Error::of(Code::AuthorizationHeaderMalformed, message.escape_debug().to_string()));
        }
        let signed_at = parse_time(&self.timestamp).ok_or(Code::AuthorizationHeaderMalformed)?;
        let life_ms = self.expires_s.map_or(SKEW_MS_MAX, |seconds| seconds * 1000);
        if signed_at > now_ms.saturating_add(SKEW_MS_MAX) || now_ms > signed_at.saturating_add(life_ms) {
            return Err(match self.expires_s {
                Some(_) => S3Error::of(Code::AccessDenied, "Request has expired"),
                None => Code::RequestTimeTooSkewed.into(),
            });
        }
        // Everything that says what the request is about is signed, or somebody else might have added it.
        let is_signed = |name: &str| self.signed_headers.iter().any(|signed| signed == name);
        let unsigned = parts.headers.keys().find(|name| {
            let name = name.as_str();
            name.starts_with("x-amz-") && name != "x-amz-content-sha256" && !is_signed(name)
        });
        if let Some(name) = unsigned {
            let message = format!("There were headers present in the request which were not signed: {name}");
            return Err(S3Error::of(Code::AccessDenied, message));
        }
        let query = canonical_query(parts.uri.query().unwrap_or_default(), self.expires_s.is_some())
            .ok_or(Code::InvalidArgument)?;
        let path = canonical_path(parts.uri.path()).ok_or(Code::InvalidArgument)?;
        let names: Vec<&str> = self.signed_headers.iter().map(String::as_str).collect();
        let host = parts.uri.authority().map(|authority| authority.as_str());
        let headers = canonical_headers(&parts.headers, &names, host).ok_or(Code::SignatureDoesNotMatch)?;
        let canonical =
            format!("{}\n{path}\n{query}\n{headers}\n{}\n{}", parts.method, names.join(";"), self.payload);
        let scope = format!("{}/{}/s3/aws4_request", self.date, self.region);
        let key = signing_key(secret, &self.date, &self.region);
        let text = format!("{ALGORITHM}\n{}\n{scope}\n{}", self.timestamp, sha256_hex(canonical.as_bytes()));
        let expect = mac_hex(&key, &text);
        if verify_slices_are_equal(expect.as_bytes(), self.signature.as_bytes()).is_err() {
            return Err(Code::SignatureDoesNotMatch.into());
        }
        Ok(Chain { key, timestamp: self.timestamp.clone(), scope, previous: expect })
    }
}

impl Chain {
    /// Checks the signature of a piece with this digest, and goes on to the next.
    pub(crate) fn chunk(&mut self, sha256: &str, signature: &str) -> Result<(), S3Error> {
        let text = format!(
            "{ALGORITHM}-PAYLOAD\n{}\n{}\n{}\n{EMPTY_SHA256}\n{sha256}",
            self.timestamp, self.scope, self.previous
        );
        self.check(&text, signature)
    }

    /// Checks the signature of the trailers.
    pub(crate) fn trailer(&mut self, canonical: &str, signature: &str) -> Result<(), S3Error> {
        let text = format!(
            "{ALGORITHM}-TRAILER\n{}\n{}\n{}\n{}",
            self.timestamp,
            self.scope,
            self.previous,
            sha256_hex(canonical.as_bytes())
        );
        self.check(&text, signature)
    }

    fn check(&mut self, text: &str, signature: &str) -> Result<(), S3Error> {
        let expect = mac_hex(&self.key, text);
        if verify_slices_are_equal(expect.as_bytes(), signature.as_bytes()).is_err() {
            return Err(Code::SignatureDoesNotMatch.into());
        }
        self.previous = expect;
        Ok(())
    }
}

/// Who signs our own requests.
#[derive(Clone)]
pub(crate) struct Signer<'a> {
    pub(crate) access_key_id: &'a str,
    pub(crate) secret_access_key: &'a str,
    pub(crate) session_token: Option<&'a str>,
    pub(crate) region: &'a str,
}

impl Signer<'_> {
    /// Headers that sign a GET without a body.
    #[cfg(test)]
    pub(crate) fn get(
        &self,
        host: &str,
        path_and_query: &str,
        now_ms: u64,
    ) -> Option<Vec<(&'static str, String)>> {
        self.request("GET", host, path_and_query, EMPTY_SHA256, &[], now_ms)
    }

    /// Headers that sign a request, with `headers` among them. `sha256` is that of its body, hexadecimal.
    pub(crate) fn request(
        &self,
        method: &str,
        host: &str,
        path_and_query: &str,
        sha256: &str,
        headers: &[(&'static str, String)],
        now_ms: u64,
    ) -> Option<Vec<(&'static str, String)>> {
        let timestamp = format_time(now_ms)?;
        let date = timestamp.get(..8)?.to_owned();
        let (path, raw_query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let mut add = vec![
            ("host", host.to_owned()),
            ("x-amz-content-sha256", sha256.to_owned()),
            ("x-amz-date", timestamp.clone()),
        ];
        add.extend(self.session_token.map(|token| ("x-amz-security-token", token.to_owned())));
        add.extend(headers.iter().cloned());
        add.sort_unstable();
        let mut lines = String::new();
        for (name, value) in &add {
            writeln!(lines, "{name}:{value}").ok()?;
        }
        let names: Vec<&str> = add.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let canonical = format!(
            "{method}\n{}\n{}\n{lines}\n{names}\n{sha256}",
            canonical_path(path)?,
            canonical_query(raw_query, false)?
        );
        let scope = format!("{date}/{}/s3/aws4_request", self.region);
        let text = format!("{ALGORITHM}\n{timestamp}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
        let signature = mac_hex(&signing_key(self.secret_access_key, &date, self.region), &text);
        let id = self.access_key_id;
        let authorization =
            format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
        add.retain(|(name, _)| *name != "host");
        add.push(("authorization", authorization));
        Some(add)
    }
}

fn canonical_headers(headers: &HeaderMap, names: &[&str], authority: Option<&str>) -> Option<String> {
    let mut lines = String::new();
    for name in names {
        let mut values = headers.get_all(*name).iter().peekable();
        lines.push_str(name);
        lines.push(':');
        if values.peek().is_none() {
            // HTTP/2 has it elsewhere.
            lines.push_str(authority.filter(|_| *name == "host")?);
        }
        for (index, value) in values.enumerate() {
            lines.push_str(if index == 0 { "" } else { "," });
            let words: Vec<&str> =
                std::str::from_utf8(value.as_bytes()).ok()?.split_ascii_whitespace().collect();
            lines.push_str(&words.join(" "));
        }
        lines.push('\n');
    }
    Some(lines)
}

fn canonical_path(path: &str) -> Option<String> {
    let path = if path.is_empty() { "/" } else { path };
    Some(encode(&decode(path)?, true))
}

fn canonical_query(raw: &str, is_presigned: bool) -> Option<String> {
    let mut pairs = Vec::new();
    for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if is_presigned && name == "X-Amz-Signature" {
            continue;
        }
        pairs.push((encode(&decode(name)?, false), encode(&decode(value)?, false)));
    }
    pairs.sort_unstable();
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Some(pairs.join("&"))
}

/// Undoes percent encoding; a plus stays a plus.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'%' {
            let hex =
                text.get(at + 1..at + 3).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
            out.push(u8::from_str_radix(hex, 16).ok()?);
            at += 3;
        } else {
            out.push(*byte);
            at += 1;
        }
    }
    Some(out)
}

/// Escapes all but unreserved characters.
pub(crate) fn encode(bytes: &[u8], keep_slash: bool) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~')
            || (keep_slash && *byte == b'/')
        {
            out.push(char::from(*byte));
        } else {
            // Writing to a string never fails.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn signing_key(secret: &str, date: &str, region: &str) -> hmac::Key {
    let mut key = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret}").as_bytes());
    for part in [date, region, "s3", "aws4_request"] {
        key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    key
}

fn mac_hex(key: &hmac::Key, text: &str) -> String {
    hex(hmac::sign(key, text.as_bytes()).as_ref())
}

/// Digest of bytes, hexadecimal.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

const TIME: &str = "%Y%m%dT%H%M%SZ";

fn parse_time(text: &str) -> Option<u64> {
    let time = jiff::civil::DateTime::strptime(TIME, text).ok()?;
    let zoned = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(zoned.timestamp().as_millisecond()).ok()
}

/// `20261121T044200Z`
pub(crate) fn format_time(now_ms: u64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(i64::try_from(now_ms).ok()?).ok()?;
    Some(time.strftime(TIME).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
    /// 2013-05-24 00:00 UTC, the day of S3's examples.
    const DAY_MS: u64 = 1_369_353_600_000;

    fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn signatures_of_version_2_are_told_that_they_are_too_old() {
        let url = "/b/k?AWSAccessKeyId=AKIA&Signature=KLu5%3D&Expires=1795230664";
        for old in [parts("GET", url, &[]), parts("GET", "/b/k", &[("authorization", "AWS AKIA:KLu5=")])] {
            assert!(is_for_s3(&old));
            assert_eq!(claim(&old).unwrap_err().code, Code::InvalidRequest);
        }
        assert!(!is_for_s3(&parts("GET", "/b/k?Signature=KLu5&Expires=1", &[])));
    }

    fn verify(parts: &Parts, now_ms: u64) -> Result<Chain, Code> {
        let claim = claim(parts).map_err(|error| error.code)?.ok_or(Code::AccessDenied)?;
        claim.verify(parts, SECRET, now_ms, "us-east-1").map_err(|error| error.code)
    }

    #[test]
    fn the_examples_of_the_documentation_are_verified() {
        let host = "examplebucket.s3.amazonaws.com";
        let scope = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";
        let get = format!(
            "{ALGORITHM} Credential={scope},SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let headers = [
            ("host", host),
            ("range", "bytes=0-9"),
            ("x-amz-content-sha256", EMPTY_SHA256),
            ("x-amz-date", "20130524T000000Z"),
            ("authorization", get.as_str()),
        ];
        let good = parts("GET", "/test.txt", &headers);
        assert!(is_for_s3(&good));
        verify(&good, DAY_MS).unwrap();
        assert_eq!(verify(&good, DAY_MS + 900_001).unwrap_err(), Code::RequestTimeTooSkewed);
        assert_eq!(
            verify(&parts("GET", "/other", &headers), DAY_MS).unwrap_err(),
            Code::SignatureDoesNotMatch
        );
        let added = [headers.as_slice(), &[("x-amz-copy-source", "/a/b")]].concat();
        assert_eq!(verify(&parts("GET", "/test.txt", &added), DAY_MS).unwrap_err(), Code::AccessDenied);

        let presigned = format!(
            "/test.txt?X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={}&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400\
             &X-Amz-SignedHeaders=host\
             &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
            scope.replace('/', "%2F")
        );
        let presigned = parts("GET", &presigned, &[("host", host)]);
        assert!(is_for_s3(&presigned));
        verify(&presigned, DAY_MS).unwrap();
        assert_eq!(verify(&presigned, DAY_MS + 86_400_001).unwrap_err(), Code::AccessDenied);
        assert!(claim(&parts("GET", "/", &[])).unwrap().is_none());
    }

    #[test]
    fn pieces_are_verified_one_after_the_other() {
        let scope = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";
        let authorization = format!(
            "{ALGORITHM} Credential={scope},SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;\
             x-amz-date;x-amz-decoded-content-length;x-amz-storage-class,\
             Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
        );
        let put = parts(
            "PUT",
            "/examplebucket/chunkObject.txt",
            &[
                ("host", "s3.amazonaws.com"),
                ("content-encoding", "aws-chunked"),
                ("content-length", "66824"),
                ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
                ("x-amz-date", "20130524T000000Z"),
                ("x-amz-decoded-content-length", "66560"),
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
                ("authorization", &authorization),
            ],
        );
        let mut chain = verify(&put, DAY_MS).unwrap();
        let sums = [
            (65536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
            (1024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
            (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
        ];
        assert!(chain.clone().chunk(EMPTY_SHA256, sums[0].1).is_err());
        for (length, signature) in sums {
            chain.chunk(&sha256_hex(&vec![b'a'; length]), signature).unwrap();
        }
    }

    #[test]
    fn what_we_sign_is_what_we_verify() {
        let signer = Signer {
            access_key_id: "AKIA",
            secret_access_key: SECRET,
            session_token: Some("t"),
            region: "us-east-1",
        };
        let path = "/b/a%20b%2Bc?versionId=x%2Fy";
        let headers = signer.get("h:1", path, DAY_MS).unwrap();
        let mut all: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        all.push(("host", "h:1"));
        verify(&parts("GET", path, &all), DAY_MS).unwrap();
    }
}

//! The bytes of a request: plain, or in signed or unsigned pieces (`aws-chunked`), checked against every digest that the
//! client gave.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, request::Parts};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{
    error::{Code, S3Error},
    sign::{Chain, EMPTY_SHA256, hex},
};

/// Between two pieces from the client.
const PIECE_WITHIN: Duration = Duration::from_secs(60);
/// Longest line between pieces, and all trailers together: a signature has 64 characters.
const LINE_BYTES_MAX: usize = 4096;

/// Reads a body and checks it.
pub(crate) struct Body {
    incoming: Incoming,
    framing: Framing,
    expect: Expect,
    sha256: Context,
    crc32: flate2::Crc,
    length: u64,
}

/// Digests that the client gave.
#[derive(Debug, Default)]
struct Expect {
    length: Option<u64>,
    sha256_hex: Option<String>,
    sha256: Option<String>,
    crc32: Option<String>,
}

enum Framing {
    Plain,
    /// Boxed: it is large, and most bodies are plain.
    Chunked(Box<Chunked>),
}

impl Body {
    /// A body of the request with these headers. `payload` is its `x-amz-content-sha256`.
    pub(crate) fn new(
        parts: &Parts,
        payload: &str,
        chain: Chain,
        incoming: Incoming,
    ) -> Result<Self, S3Error> {
        let mut expect = Expect::default();
        expect.take(&parts.headers);
        let number = |name: &str| {
            let text = parts.headers.get(name).and_then(|value| value.to_str().ok());
            text.map(|text| text.parse::<u64>().map_err(|_| S3Error::from(Code::InvalidArgument))).transpose()
        };
        let framing = match payload {
            "UNSIGNED-PAYLOAD" => {
                expect.length = number("content-length")?;
                Framing::Plain
            }
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => Framing::Chunked(Box::new(Chunked::new(None))),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" | "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => {
                Framing::Chunked(Box::new(Chunked::new(Some(chain))))
            }
            digest if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                expect.length = number("content-length")?;
                expect.sha256_hex = Some(digest.to_ascii_lowercase());
                Framing::Plain
            }
            _ => return Err(S3Error::of(Code::InvalidArgument, "x-amz-content-sha256 is of no known kind")),
        };
        if matches!(framing, Framing::Chunked(_)) {
            expect.length = Some(number("x-amz-decoded-content-length")?.ok_or(Code::MissingSecurityHeader)?);
        }
        let crc32 = flate2::Crc::new();
        Ok(Self { incoming, framing, expect, sha256: Context::new(&SHA256), crc32, length: 0 })
    }

    /// Bytes that the client announced.
    pub(crate) fn announced(&self) -> Option<u64> {
        self.expect.length
    }

    /// The next bytes; `None` when all came and all digests are right.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, S3Error> {
        loop {
            if let Framing::Chunked(chunked) = &mut self.framing
                && let Some(bytes) = chunked.next()?
            {
                return self.took(bytes).map(Some);
            }
            let frame = tokio::time::timeout(PIECE_WITHIN, self.incoming.frame()).await;
            match frame.map_err(|_| Code::RequestTimeout)? {
                Some(Err(_)) => return Err(Code::IncompleteBody.into()),
                None => {
                    self.finish()?;
                    return Ok(None);
                }
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    match &mut self.framing {
                        Framing::Plain if data.is_empty() => {}
                        Framing::Plain => return self.took(data).map(Some),
                        Framing::Chunked(chunked) => chunked.push(&data)?,
                    }
                }
            }
        }
    }

    /// The whole body, if it is not longer than `limit`.
    pub(crate) async fn bytes(mut self, limit: usize) -> Result<Vec<u8>, S3Error> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            if all.len() + bytes.len() > limit {
                return Err(Code::EntityTooLarge.into());
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    fn took(&mut self, bytes: Bytes) -> Result<Bytes, S3Error> {
        self.length += bytes.len() as u64;
        if self.expect.length.is_some_and(|expect| self.length > expect) {
            return Err(Code::IncompleteBody.into());
        }
        if self.expect.sha256_hex.is_some() || self.expect.sha256.is_some() {
            self.sha256.update(&bytes);
        }
        self.crc32.update(&bytes);
        Ok(bytes)
    }

    fn finish(&mut self) -> Result<(), S3Error> {
        if let Framing::Chunked(chunked) = &mut self.framing {
            let trailers = chunked.trailers()?;
            // A checksum announced in `x-amz-trailer` comes here.
            self.expect.take(&trailers);
            if self.expect.sha256.is_some() && self.expect.sha256_hex.is_none() && self.length > 0 {
                // It was not known in time that this digest is wanted, and the length and the signature were right.
                self.expect.sha256 = None;
            }
        }
        if self.expect.length.is_some_and(|expect| self.length != expect) {
            return Err(Code::IncompleteBody.into());
        }
        let sha256 = self.sha256.clone().finish();
        if self.expect.sha256_hex.as_ref().is_some_and(|expect| *expect != hex(sha256.as_ref())) {
            return Err(Code::XAmzContentSHA256Mismatch.into());
        }
        let crc32 = BASE64_STANDARD.encode(self.crc32.sum().to_be_bytes());
        let wrong =
            |expect: &Option<String>, found: String| expect.as_ref().is_some_and(|expect| *expect != found);
        if wrong(&self.expect.crc32, crc32) || wrong(&self.expect.sha256, BASE64_STANDARD.encode(sha256)) {
            return Err(Code::BadDigest.into());
        }
        Ok(())
    }
}

impl Expect {
    fn take(&mut self, headers: &HeaderMap) {
        let get = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        self.sha256 = self.sha256.take().or_else(|| get("x-amz-checksum-sha256"));
        self.crc32 = self.crc32.take().or_else(|| get("x-amz-checksum-crc32"));
    }
}

/// Takes pieces apart: `<hex>[;chunk-signature=<hex>]\r\n<bytes>\r\n`, an empty piece, trailers, an empty line.
struct Chunked {
    buffer: BytesMut,
    state: State,
    /// Signatures are checked when there is one.
    chain: Option<Chain>,
    digest: Context,
    signature: String,
    lines: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Data(u64),
    End,
    Trailers,
    Done,
}

impl Chunked {
    fn new(chain: Option<Chain>) -> Self {
        Self {
            buffer: BytesMut::new(),
            state: State::Size,
            chain,
            digest: Context::new(&SHA256),
            signature: String::new(),
            lines: Vec::new(),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), S3Error> {
        if self.state == State::Done {
            return if bytes.is_empty() { Ok(()) } else { Err(Code::IncompleteBody.into()) };
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next bytes of a piece, if they came.
    fn next(&mut self) -> Result<Option<Bytes>, S3Error> {
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = self.line()? else { return Ok(None) };
                    let (size, rest) = line.split_once(';').unwrap_or((&line, ""));
                    let size = u64::from_str_radix(size.trim(), 16).map_err(|_| Code::IncompleteBody)?;
                    self.signature =
                        rest.trim().strip_prefix("chunk-signature=").unwrap_or_default().to_owned();
                    self.digest = Context::new(&SHA256);
                    if size > 0 {
                        self.state = State::Data(size);
                    } else {
                        self.check_piece()?;
                        self.state = State::Trailers;
                    }
                }
                State::Data(left) => {
                    let there = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
                    if there == 0 {
                        return Ok(None);
                    }
                    let bytes = self.buffer.split_to(there).freeze();
                    if self.chain.is_some() {
                        self.digest.update(&bytes);
                    }
                    let left = left - there as u64;
                    self.state = if left == 0 { State::End } else { State::Data(left) };
                    return Ok(Some(bytes));
                }
                State::End => {
                    if self.buffer.len() < 2 {
                        return Ok(None);
                    }
                    if !self.buffer.starts_with(b"\r\n") {
                        return Err(Code::IncompleteBody.into());
                    }
                    self.buffer.advance(2);
                    self.check_piece()?;
                    self.state = State::Size;
                }
                State::Trailers => match self.line()? {
                    None => return Ok(None),
                    Some(line) if line.is_empty() => self.state = State::Done,
                    Some(line) => {
                        let all: usize = self.lines.iter().map(String::len).sum();
                        if all + line.len() > LINE_BYTES_MAX {
                            return Err(Code::IncompleteBody.into());
                        }
                        self.lines.push(line);
                    }
                },
                State::Done => {
                    return if self.buffer.is_empty() { Ok(None) } else { Err(Code::IncompleteBody.into()) };
                }
            }
        }
    }

    fn check_piece(&mut self) -> Result<(), S3Error> {
        let Some(chain) = &mut self.chain else { return Ok(()) };
        let digest = hex(self.digest.clone().finish().as_ref());
        chain.chunk(&digest, &self.signature)
    }

    fn line(&mut self) -> Result<Option<String>, S3Error> {
        let Some(end) = self.buffer.windows(2).take(LINE_BYTES_MAX).position(|two| two == b"\r\n") else {
            return if self.buffer.len() > LINE_BYTES_MAX {
                Err(Code::IncompleteBody.into())
            } else {
                Ok(None)
            };
        };
        let line = self.buffer.split_to(end);
        self.buffer.advance(2);
        String::from_utf8(line.to_vec()).map(Some).map_err(|_| Code::IncompleteBody.into())
    }

    /// What came after the pieces, once the body is over.
    fn trailers(&mut self) -> Result<HeaderMap, S3Error> {
        // Some clients leave out the empty line at the very end.
        if !matches!(self.state, State::Done | State::Trailers) || !self.buffer.is_empty() {
            return Err(Code::IncompleteBody.into());
        }
        let mut trailers = HeaderMap::new();
        let mut canonical = String::new();
        let mut signature = None;
        for line in &self.lines {
            let (name, value) = line.split_once(':').ok_or(Code::IncompleteBody)?;
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
            if name == "x-amz-trailer-signature" {
                signature = Some(value.to_owned());
                continue;
            }
            canonical.push_str(&format!("{name}:{value}\n"));
            let name = http::HeaderName::try_from(name).map_err(|_| Code::IncompleteBody)?;
            trailers.append(name, http::HeaderValue::try_from(value).map_err(|_| Code::IncompleteBody)?);
        }
        if let Some(chain) = &mut self.chain
            && !canonical.is_empty()
        {
            chain.trailer(&canonical, &signature.ok_or(Code::SignatureDoesNotMatch)?)?;
        }
        Ok(trailers)
    }
}

/// Whether the client says that there is nothing in the body.
pub(crate) fn is_empty(payload: &str) -> bool {
    payload == EMPTY_SHA256
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8], step: usize) -> Option<(Vec<u8>, HeaderMap)> {
        let mut chunked = Chunked::new(None);
        let mut out = Vec::new();
        for piece in bytes.chunks(step) {
            chunked.push(piece).ok()?;
            while let Some(bytes) = chunked.next().ok()? {
                out.extend_from_slice(&bytes);
            }
        }
        let trailers = chunked.trailers().ok()?;
        Some((out, trailers))
    }

    #[test]
    fn pieces_are_put_together_however_they_arrive() {
        let body = b"5\r\nhello\r\n3;chunk-signature=x\r\n \r\n\r\n0\r\nx-amz-checksum-crc32: abc\r\n\r\n";
        for step in 1..body.len() {
            let (out, trailers) = decode(body, step).unwrap();
            assert_eq!(out, b"hello \r\n", "{step}");
            assert_eq!(trailers.get("x-amz-checksum-crc32").unwrap(), "abc");
        }
        let bad: [&[u8]; 7] = [
            b"",
            b"5\r\nhel",
            b"5\r\nhelloX\r\n0\r\n\r\n",
            b"zz\r\n",
            b"0\r\nno colon\r\n\r\n",
            b"0\r\n\r\nmore",
            &[b'1'; 5000],
        ];
        for body in bad {
            assert!(decode(body, 3).is_none(), "{}", body.escape_ascii());
        }
    }
}

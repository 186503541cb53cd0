//! Operations on objects: reading with ranges and conditions, writing at once, by copy and in parts.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt, sync::Arc};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::{Call, XML_BYTES_MAX, blocking, document, drain, empty, iso, rfc, says_empty, set};
use crate::objects::{
    Answer, OBJECT_BYTES_MAX,
    body::Body,
    error::{Code, S3Error},
    multipart::{self, PART_MAX, Upload},
    sign::{decode, hex},
    store::{Bucket, Incoming, Meta, Object},
    xml::{self, Writer},
};

/// Headers that are kept with an object, beside `x-amz-meta-*`.
const KEPT: [&str; 6] = [
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
];
/// Bytes of all kept headers.
const KEPT_BYTES_MAX: usize = 16 << 10;
/// Bytes read from disk at a time, and written: large enough for few system calls, small enough for many clients.
const PIECE_BYTES: usize = 256 << 10;

impl Call<'_> {
    pub(super) async fn get_object(&self, with_body: bool) -> Result<Answer, S3Error> {
        let bucket = self.bucket("s3:GetObject").await?;
        let key = self.key.clone();
        let object = blocking(move || bucket.get(&key)).await?;
        let tag = format!("\"{}\"", object.meta.etag);
        self.conditions(&tag, object.meta.modified_ms)?;
        let range = match self.header("range").filter(|_| self.if_range(&tag)) {
            Some(range) => parse_range(range, object.size)?,
            None => None,
        };
        let (from, to) = range.unwrap_or((0, object.size));
        let mut answer =
            if with_body { Response::new(content(object.file, from, to)) } else { empty(StatusCode::OK) };
        if range.is_some() {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            set(
                &mut answer,
                "content-range",
                &format!("bytes {from}-{}/{}", to.saturating_sub(1), object.size),
            );
        }
        set(&mut answer, "content-length", &(to - from).to_string());
        set(&mut answer, "accept-ranges", "bytes");
        set(&mut answer, "etag", &tag);
        set(&mut answer, "last-modified", &rfc(object.meta.modified_ms));
        set(&mut answer, "content-type", "binary/octet-stream");
        for (name, value) in &object.meta.headers {
            let name = http::HeaderName::try_from(name.as_str());
            if let (Ok(name), Ok(value)) = (name, http::HeaderValue::try_from(value.as_str())) {
                answer.headers_mut().insert(name, value);
            }
        }
        // Presigned URLs may say how a browser is to take it.
        for name in KEPT {
            if let Some(value) = self.get(&format!("response-{name}")) {
                set(&mut answer, name, value);
            }
        }
        Ok(answer)
    }

    fn conditions(&self, tag: &str, modified_ms: u64) -> Result<(), S3Error> {
        let names = |list: &str| {
            list.split(',')
                .map(str::trim)
                .any(|name| name == "*" || name == tag || name == tag.trim_matches('"'))
        };
        let since = |name| self.header(name).and_then(parse_rfc);
        let modified_s = modified_ms / 1000;
        match self.header("if-match") {
            Some(list) if !names(list) => return Err(Code::PreconditionFailed.into()),
            None if since("if-unmodified-since").is_some_and(|since| modified_s > since) => {
                return Err(Code::PreconditionFailed.into());
            }
            _ => {}
        }
        match self.header("if-none-match") {
            Some(list) if names(list) => Err(Code::NotModified.into()),
            None if since("if-modified-since").is_some_and(|since| modified_s <= since) => {
                Err(Code::NotModified.into())
            }
            _ => Ok(()),
        }
    }

    fn if_range(&self, tag: &str) -> bool {
        self.header("if-range").is_none_or(|wanted| wanted == tag)
    }

    /// Headers that come back with the object.
    fn kept_headers(&self) -> Result<BTreeMap<String, String>, S3Error> {
        let mut kept = BTreeMap::new();
        let mut bytes = 0;
        for (name, value) in &self.parts.headers {
            let name = name.as_str();
            if !KEPT.contains(&name) && !name.starts_with("x-amz-meta-") {
                continue;
            }
            let value = std::str::from_utf8(value.as_bytes()).map_err(|_| Code::InvalidArgument)?;
            let mut value = value.to_owned();
            if name == "content-encoding" {
                // That of the transfer is over.
                let rest: Vec<_> =
                    value.split(',').map(str::trim).filter(|coding| *coding != "aws-chunked").collect();
                value = rest.join(",");
            }
            bytes += name.len() + value.len();
            if bytes > KEPT_BYTES_MAX {
                return Err(Code::MetadataTooLarge.into());
            }
            if !value.is_empty() {
                kept.insert(name.to_owned(), value);
            }
        }
        Ok(kept)
    }

    fn is_new_wanted(&self) -> Result<bool, S3Error> {
        match self.header("if-none-match") {
            None => Ok(false),
            Some("*") => Ok(true),
            Some(_) => Err(Code::NotImplemented.into()),
        }
    }

    pub(super) async fn put_object(&self, body: Body) -> Result<Answer, S3Error> {
        let bucket = self.bucket("s3:PutObject").await?;
        let path = bucket.path(&self.key)?;
        let (headers, is_new) = (self.kept_headers()?, self.is_new_wanted()?);
        let incoming = self.receive(&bucket, body).await?;
        let etag = hex(&incoming.md5());
        let meta = Meta { etag: etag.clone(), modified_ms: self.now_ms(), headers };
        blocking(move || incoming.finish(&meta, &path, is_new)).await?;
        let mut answer = empty(StatusCode::OK);
        set(&mut answer, "etag", &format!("\"{etag}\""));
        Ok(answer)
    }

    /// Writes a body beside its place.
    async fn receive(&self, bucket: &Bucket, mut body: Body) -> Result<Incoming, S3Error> {
        if body.announced().is_some_and(|announced| announced > OBJECT_BYTES_MAX) {
            return Err(Code::EntityTooLarge.into());
        }
        let md5 = self.header("content-md5").map(str::to_owned);
        let bucket = bucket.clone();
        let mut incoming = blocking(move || bucket.incoming()).await?;
        let mut piece: Vec<u8> = Vec::new();
        loop {
            let next = body.next().await?;
            let is_over = next.is_none();
            piece.extend_from_slice(next.as_deref().unwrap_or_default());
            if incoming.length + piece.len() as u64 > OBJECT_BYTES_MAX {
                return Err(Code::EntityTooLarge.into());
            }
            if piece.len() >= PIECE_BYTES || (is_over && !piece.is_empty()) {
                let bytes = std::mem::take(&mut piece);
                incoming = blocking(move || incoming.add(&bytes).map(|()| incoming)).await?;
            }
            if is_over {
                break;
            }
        }
        if let Some(md5) = md5 {
            use base64::Engine;
            if base64::prelude::BASE64_STANDARD.encode(incoming.md5()) != md5 {
                return Err(Code::BadDigest.into());
            }
        }
        Ok(incoming)
    }

    /// Bucket and key that a copy comes from, opened.
    async fn copy_source(&self) -> Result<Object, S3Error> {
        let source = self.header("x-amz-copy-source").unwrap_or_default().trim_start_matches('/');
        let (source, version) = source.split_once("?versionId=").unwrap_or((source, "null"));
        if version != "null" {
            return Err(Code::NoSuchVersion.into());
        }
        let source =
            decode(source).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(Code::InvalidArgument)?;
        let (name, key) = source.split_once('/').ok_or(Code::InvalidArgument)?;
        self.allow("s3:GetObject", name, Some(key)).await?;
        let bucket = self.open(name).await?;
        let key = key.to_owned();
        let object = blocking(move || bucket.get(&key)).await?;
        let tag = format!("\"{}\"", object.meta.etag);
        let is = |name| self.header(name).map(|wanted| wanted == tag || wanted == object.meta.etag);
        if is("x-amz-copy-source-if-match") == Some(false)
            || is("x-amz-copy-source-if-none-match") == Some(true)
        {
            return Err(Code::PreconditionFailed.into());
        }
        Ok(object)
    }

    pub(super) async fn copy_object(&self) -> Result<Answer, S3Error> {
        let bucket = self.bucket("s3:PutObject").await?;
        let path = bucket.path(&self.key)?;
        let source = self.copy_source().await?;
        let headers = match self.header("x-amz-metadata-directive") {
            Some("REPLACE") => self.kept_headers()?,
            _ => source.meta.headers.clone(),
        };
        let size = source.size;
        let incoming = copy(bucket, source, 0, size).await?;
        let meta = Meta { etag: hex(&incoming.md5()), modified_ms: self.now_ms(), headers };
        let written = meta.clone();
        blocking(move || incoming.finish(&written, &path, false)).await?;
        let mut xml = Writer::new("CopyObjectResult");
        xml.text("LastModified", &iso(meta.modified_ms)).text("ETag", &format!("\"{}\"", meta.etag));
        Ok(document(xml, "CopyObjectResult"))
    }

    fn upload_id(&self) -> String {
        self.get("uploadId").unwrap_or_default().to_owned()
    }

    pub(super) async fn start_upload(&self) -> Result<Answer, S3Error> {
        let bucket = self.bucket("s3:PutObject").await?;
        bucket.path(&self.key)?;
        let upload =
            Upload { key: self.key.clone(), started_ms: self.now_ms(), headers: self.kept_headers()? };
        let id = blocking(move || multipart::start(&bucket, &upload)).await?;
        let mut xml = Writer::new("InitiateMultipartUploadResult");
        xml.text("Bucket", &self.bucket).text("Key", &self.key).text("UploadId", &id);
        Ok(document(xml, "InitiateMultipartUploadResult"))
    }

    pub(super) async fn upload_part(&self, body: Body) -> Result<Answer, S3Error> {
        let bucket = self.bucket("s3:PutObject").await?;
        let number = self.get("partNumber").and_then(|number| number.parse::<u32>().ok());
        let number = number.filter(|number| (1..=PART_MAX).contains(number)).ok_or(Code::InvalidArgument)?;
        let (id, key, opened) = (self.upload_id(), self.key.clone(), bucket.clone());
        blocking(move || multipart::open(&opened, &id, &key)).await?;
        let is_copy = self.header("x-amz-copy-source").is_some();
        let incoming = if is_copy {
            drain(body, says_empty(self.parts)).await?;
            let source = self.copy_source().await?;
            let range = match self.header("x-amz-copy-source-range") {
                Some(range) => parse_range(range, source.size)?.ok_or(Code::InvalidArgument)?,
                None => (0, source.size),
            };
            copy(bucket.clone(), source, range.0, range.1).await?
        } else {
            self.receive(&bucket, body).await?
        };
        let meta = Meta { etag: hex(&incoming.md5()), modified_ms: self.now_ms(), headers: BTreeMap::new() };
        let (id, written) = (self.upload_id(), meta.clone());
        blocking(move || multipart::add_part(&bucket, &id, number, incoming, &written)).await?;
        let tag = format!("\"{}\"", meta.etag);
        if is_copy {
            let mut xml = Writer::new("CopyPartResult");
            xml.text("LastModified", &iso(meta.modified_ms)).text("ETag", &tag);
            return Ok(document(xml, "CopyPartResult"));
        }
        let mut answer = empty(StatusCode::OK);
        set(&mut answer, "etag", &tag);
        Ok(answer)
    }

    pub(super) async fn list_parts(&self) -> Result<Answer, S3Error> {
        let bucket = self.bucket("s3:ListMultipartUploadParts").await?;
        let (id, key) = (self.upload_id(), self.key.clone());
        let found = blocking(move || {
            multipart::open(&bucket, &id, &key)?;
            multipart::parts(&bucket, &id)
        })
        .await?;
        let after = self.get("part-number-marker").and_then(|after| after.parse::<u32>().ok()).unwrap_or(0);
        let mut rest: Vec<_> = found.into_iter().filter(|part| part.number > after).collect();
        let is_truncated = rest.len() > 1000;
        rest.truncate(1000);
        let mut xml = Writer::new("ListPartsResult");
        xml.text("Bucket", &self.bucket).text("Key", &self.key).text("UploadId", &self.upload_id());
        xml.text("IsTruncated", if is_truncated { "true" } else { "false" });
        if let Some(last) = rest.last() {
            xml.text("NextPartNumberMarker", &last.number.to_string());
        }
        for part in rest {
            xml.open("Part")
                .text("PartNumber", &part.number.to_string())
                .text("LastModified", &iso(part.meta.modified_ms))
                .text("ETag", &format!("\"{}\"", part.meta.etag))
                .text("Size", &part.size.to_string())
                .close("Part");
        }
        Ok(document(xml, "ListPartsResult"))
    }

    pub(super) async fn complete_upload(&self, body: Body) -> Result<Answer, S3Error> {
        let bucket = self.bucket("s3:PutObject").await?;
        let is_new = self.is_new_wanted()?;
        let asked = xml::read(&body.bytes(XML_BYTES_MAX).await?)?;
        let mut wanted = Vec::new();
        for part in asked.children.iter().filter(|child| child.name == "Part") {
            let number = part.child_text("PartNumber").and_then(|number| number.parse().ok());
            let etag = part.child_text("ETag").map(str::to_owned);
            wanted.push((number.ok_or(Code::MalformedXML)?, etag.ok_or(Code::MalformedXML)?));
        }
        let (id, key, now_ms) = (self.upload_id(), self.key.clone(), self.now_ms());
        let etag = blocking(move || {
            multipart::complete(&bucket, &id, &key, &wanted, now_ms, OBJECT_BYTES_MAX, is_new)
        })
        .await?;
        let mut xml = Writer::new("CompleteMultipartUploadResult");
        xml.text("Location", &format!("/{}/{}", self.bucket, self.key))
            .text("Bucket", &self.bucket)
            .text("Key", &self.key)
            .text("ETag", &format!("\"{etag}\""));
        Ok(document(xml, "CompleteMultipartUploadResult"))
    }

    pub(super) async fn abort_upload(&self) -> Result<Answer, S3Error> {
        let bucket = self.bucket("s3:AbortMultipartUpload").await?;
        let (id, key) = (self.upload_id(), self.key.clone());
        blocking(move || multipart::abort(&bucket, &id, &key)).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }
}

/// Copies a stretch of an object beside a place in a bucket.
async fn copy(bucket: Bucket, source: Object, from: u64, to: u64) -> Result<Incoming, S3Error> {
    blocking(move || {
        let mut incoming = bucket.incoming()?;
        let mut buffer = vec![0; PIECE_BYTES];
        let mut at = from;
        while at < to {
            let most = usize::try_from(to - at).unwrap_or(usize::MAX).min(buffer.len());
            source.file.read_exact_at(&mut buffer[..most], at)?;
            incoming.add(&buffer[..most])?;
            at += most as u64;
        }
        Ok(incoming)
    })
    .await
}

/// A stretch of a file as a body. When reading fails it ends early, which the client sees by its length.
fn content(
    file: File,
    from: u64,
    to: u64,
) -> http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible> {
    let file = Arc::new(file);
    let pieces = futures_util::stream::unfold(from, move |at| {
        let file = Arc::clone(&file);
        async move {
            if at >= to {
                return None;
            }
            let most = usize::try_from(to - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let read = tokio::task::spawn_blocking(move || {
                let mut bytes = vec![0; most];
                file.read_exact_at(&mut bytes, at)?;
                Ok::<_, io::Error>(Bytes::from(bytes))
            });
            match read.await {
                Ok(Ok(bytes)) => Some((Ok(Frame::data(bytes)), at + most as u64)),
                Ok(Err(error)) => {
                    tracing::error!(%error, "an object cannot be read to its end");
                    None
                }
                Err(_) => None,
            }
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// The stretch that a `Range` header means; `None`: all, because the header is of another kind.
fn parse_range(text: &str, size: u64) -> Result<Option<(u64, u64)>, S3Error> {
    let Some(range) = text.strip_prefix("bytes=").filter(|range| !range.contains(',')) else {
        return Ok(None);
    };
    let Some((first, last)) = range.trim().split_once('-') else { return Ok(None) };
    let number = |text: &str| text.parse::<u64>().ok();
    let (from, to) = match (first, last) {
        ("", last) => match number(last) {
            Some(last) if last > 0 => (size.saturating_sub(last), size),
            Some(_) => return Err(Code::InvalidRange.into()),
            None => return Ok(None),
        },
        (first, "") => match number(first) {
            Some(first) => (first, size),
            None => return Ok(None),
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(size)),
            _ => return Ok(None),
        },
    };
    if from >= size { Err(Code::InvalidRange.into()) } else { Ok(Some((from, to))) }
}

fn parse_rfc(text: &str) -> Option<u64> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    u64::try_from(time.as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_http() {
        let check = |text, expect: Result<Option<(u64, u64)>, Code>| {
            assert_eq!(parse_range(text, 10).map_err(|error| error.code), expect, "{text}");
        };
        check("bytes=0-3", Ok(Some((0, 4))));
        check("bytes=5-", Ok(Some((5, 10))));
        check("bytes=-3", Ok(Some((7, 10))));
        check("bytes=-30", Ok(Some((0, 10))));
        check("bytes=8-99", Ok(Some((8, 10))));
        check("bytes=10-", Err(Code::InvalidRange));
        check("bytes=-0", Err(Code::InvalidRange));
        check("bytes=3-1", Ok(None));
        check("bytes=0-1,3-4", Ok(None));
        check("lines=0-1", Ok(None));
        assert_eq!(parse_rfc("Fri, 24 May 2013 00:00:00 GMT"), Some(1_369_353_600));
    }
}

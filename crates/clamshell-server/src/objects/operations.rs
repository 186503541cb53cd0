//! From a request to an operation, and what each does.

mod objects;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full};

use super::{
    Answer, ObjectService,
    body::{self, Body},
    error::{Code, S3Error},
    list::{self, Entry, PAGE_MAX, Wanted},
    multipart,
    sign::{decode, encode, query},
    store::Bucket,
    xml::{self, Writer},
};

/// Largest XML body: a thousand keys of a thousand bytes, escaped.
const XML_BYTES_MAX: usize = 4 << 20;
/// Most keys of one removal, as of S3.
const REMOVED_MAX: usize = 1000;
/// Parts of buckets and objects that exist in S3 and not here.
const NOT_HERE: [&str; 29] = [
    "accelerate",
    "acl",
    "analytics",
    "attributes",
    "cors",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "logging",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "torrent",
    "versions",
    "website",
    "renameObject",
];

/// One request, authenticated.
pub(crate) struct Call<'a> {
    service: &'a ObjectService,
    parts: &'a Parts,
    principal: String,
    bucket: String,
    key: String,
    query: Vec<(String, String)>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        service: &'a ObjectService,
        parts: &'a Parts,
        principal: String,
    ) -> Result<Self, S3Error> {
        let text = |raw: &str| decode(raw).and_then(|bytes| String::from_utf8(bytes).ok());
        let path = parts.uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let bucket = text(bucket).ok_or(Code::InvalidBucketName)?;
        let key = text(key).ok_or(Code::InvalidArgument)?;
        Ok(Self { service, parts, principal, bucket, key, query: query(parts)? })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    fn now_ms(&self) -> u64 {
        self.service.clock.now_ms()
    }

    async fn allow(&self, action: &str, bucket: &str, key: Option<&str>) -> Result<(), S3Error> {
        let resource = match key {
            Some(key) => format!("arn:aws:s3:::{bucket}/{key}"),
            None => format!("arn:aws:s3:::{bucket}"),
        };
        if self.service.authority.allows(&self.principal, action, &resource).await {
            return Ok(());
        }
        let message = format!("not authorized to perform {action} on resource {resource}");
        Err(S3Error::of(Code::AccessDenied, message))
    }

    /// Checks the right and opens the bucket, making the default one.
    async fn bucket(&self, action: &str) -> Result<Bucket, S3Error> {
        let key = (!self.key.is_empty()).then_some(self.key.as_str());
        self.allow(action, &self.bucket, key).await?;
        self.open(&self.bucket).await
    }

    async fn open(&self, name: &str) -> Result<Bucket, S3Error> {
        let (buckets, name) = (self.service.buckets.clone(), name.to_owned());
        let is_default = name == self.service.default_bucket;
        blocking(move || {
            if is_default {
                buckets.create(&name)?;
            }
            buckets.open(&name)
        })
        .await
    }

    /// Does what the request asks for.
    pub(crate) async fn run(self, body: Body) -> Result<Answer, S3Error> {
        if let Some(name) = NOT_HERE.iter().find(|name| self.has(name)) {
            return Err(S3Error::of(
                Code::NotImplemented,
                format!("`{name}` is not implemented by this server"),
            ));
        }
        if self.get("versionId").is_some_and(|version| version != "null") {
            return Err(Code::NoSuchVersion.into());
        }
        let method = &self.parts.method;
        if self.bucket.is_empty() {
            return if *method == Method::GET {
                self.list_buckets().await
            } else {
                Err(Code::MethodNotAllowed.into())
            };
        }
        if self.key.is_empty() {
            return match *method {
                Method::GET if self.has("location") => self.location().await,
                Method::GET if self.has("versioning") => {
                    self.bucket("s3:GetBucketVersioning").await?;
                    Ok(document(Writer::new("VersioningConfiguration"), "VersioningConfiguration"))
                }
                Method::GET if self.has("uploads") => self.list_uploads().await,
                Method::GET if self.has("tagging") => {
                    Err(S3Error::of(Code::NotImplemented, "buckets have no tags here"))
                }
                Method::GET => self.list().await,
                Method::HEAD => {
                    self.bucket("s3:ListBucket").await?;
                    let mut answer = empty(StatusCode::OK);
                    set(&mut answer, "x-amz-bucket-region", &self.service.region);
                    Ok(answer)
                }
                Method::PUT if self.query.iter().all(|(name, _)| name.starts_with("X-Amz-")) => {
                    self.create_bucket(body).await
                }
                Method::PUT => Err(Code::NotImplemented.into()),
                Method::DELETE => self.delete_bucket().await,
                Method::POST if self.has("delete") => self.delete_objects(body).await,
                Method::POST => Err(Code::NotImplemented.into()),
                _ => Err(Code::MethodNotAllowed.into()),
            };
        }
        match *method {
            Method::GET if self.has("uploadId") => self.list_parts().await,
            Method::GET if self.has("tagging") => {
                let bucket = self.bucket("s3:GetObjectTagging").await?;
                let key = self.key.clone();
                blocking(move || bucket.get(&key)).await?;
                let mut xml = Writer::new("Tagging");
                xml.open("TagSet").close("TagSet");
                Ok(document(xml, "Tagging"))
            }
            _ if self.has("tagging") => Err(S3Error::of(Code::NotImplemented, "objects have no tags here")),
            Method::GET => self.get_object(true).await,
            Method::HEAD => self.get_object(false).await,
            Method::PUT if self.has("uploadId") => self.upload_part(body).await,
            Method::PUT if self.header("x-amz-copy-source").is_some() => self.copy_object().await,
            Method::PUT => self.put_object(body).await,
            Method::DELETE if self.has("uploadId") => self.abort_upload().await,
            Method::DELETE => {
                let bucket = self.bucket("s3:DeleteObject").await?;
                let key = self.key.clone();
                blocking(move || bucket.remove(&key)).await?;
                Ok(empty(StatusCode::NO_CONTENT))
            }
            Method::POST if self.has("uploads") => self.start_upload().await,
            Method::POST if self.has("uploadId") => self.complete_upload(body).await,
            _ => Err(Code::MethodNotAllowed.into()),
        }
    }

    async fn list_buckets(&self) -> Result<Answer, S3Error> {
        let is_allowed =
            self.service.authority.allows(&self.principal, "s3:ListAllMyBuckets", "arn:aws:s3:::*").await;
        if !is_allowed {
            return Err(Code::AccessDenied.into());
        }
        let buckets = self.service.buckets.clone();
        let found = blocking(move || buckets.list()).await?;
        let mut xml = Writer::new("ListAllMyBucketsResult");
        owner(&mut xml, "Owner");
        xml.open("Buckets");
        for (name, created_ms) in found {
            xml.open("Bucket").text("Name", &name).text("CreationDate", &iso(created_ms)).close("Bucket");
        }
        xml.close("Buckets");
        Ok(document(xml, "ListAllMyBucketsResult"))
    }

    async fn location(&self) -> Result<Answer, S3Error> {
        self.bucket("s3:GetBucketLocation").await?;
        // The oldest region has no name here.
        let region = if self.service.region == "us-east-1" { "" } else { self.service.region.as_str() };
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<LocationConstraint xmlns=\"{}\">{region}</LocationConstraint>",
            xml::NAMESPACE
        );
        Ok(xml_answer(text))
    }

    async fn create_bucket(&self, body: Body) -> Result<Answer, S3Error> {
        self.allow("s3:CreateBucket", &self.bucket, None).await?;
        let text = body.bytes(XML_BYTES_MAX).await?;
        if !text.is_empty() {
            let wanted = xml::read(&text)?;
            let region = wanted.child_text("LocationConstraint").unwrap_or_default();
            if !region.is_empty() && region != self.service.region {
                let message = format!("this server's region is {}", self.service.region);
                return Err(S3Error::of(Code::InvalidArgument, message));
            }
        }
        let (buckets, name) = (self.service.buckets.clone(), self.bucket.clone());
        if !blocking(move || buckets.create(&name)).await? {
            return Err(Code::BucketAlreadyOwnedByYou.into());
        }
        let mut answer = empty(StatusCode::OK);
        set(&mut answer, "location", &format!("/{}", self.bucket));
        Ok(answer)
    }

    async fn delete_bucket(&self) -> Result<Answer, S3Error> {
        self.allow("s3:DeleteBucket", &self.bucket, None).await?;
        let (buckets, name) = (self.service.buckets.clone(), self.bucket.clone());
        blocking(move || buckets.remove(&name)).await?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// Both forms of listing.
    async fn list(&self) -> Result<Answer, S3Error> {
        let bucket = self.bucket("s3:ListBucket").await?;
        let is_second = self.get("list-type") == Some("2");
        let max = match self.get("max-keys") {
            None => PAGE_MAX,
            Some(text) => text.parse::<usize>().map_err(|_| Code::InvalidArgument)?.min(PAGE_MAX),
        };
        let text = |name: &str| self.get(name).unwrap_or_default().to_owned();
        let token = match self.get("continuation-token") {
            Some(token) => Some(
                decode(token).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(Code::InvalidArgument)?,
            ),
            None => None,
        };
        let after = if is_second { token.unwrap_or_else(|| text("start-after")) } else { text("marker") };
        let wanted = Wanted { prefix: text("prefix"), delimiter: text("delimiter"), after, max };
        let asked = wanted.clone();
        let page = blocking(move || list::list(&bucket, &asked)).await?;

        let is_encoded = self.get("encoding-type") == Some("url");
        let shown = |text: &str| if is_encoded { encode(text.as_bytes(), true) } else { text.to_owned() };
        let mut xml = Writer::new("ListBucketResult");
        xml.text("Name", &self.bucket)
            .text("Prefix", &shown(&wanted.prefix))
            .text("MaxKeys", &max.to_string());
        if !wanted.delimiter.is_empty() {
            xml.text("Delimiter", &shown(&wanted.delimiter));
        }
        if is_encoded {
            xml.text("EncodingType", "url");
        }
        xml.text("IsTruncated", if page.is_truncated { "true" } else { "false" });
        let last = page.entries.last().map(Entry::name).filter(|_| page.is_truncated);
        if is_second {
            xml.text("KeyCount", &page.entries.len().to_string());
            if let Some(token) = self.get("continuation-token") {
                xml.text("ContinuationToken", token);
            }
            if let Some(start) = self.get("start-after") {
                xml.text("StartAfter", &shown(start));
            }
            if let Some(last) = last {
                xml.text("NextContinuationToken", &encode(last.as_bytes(), false));
            }
        } else {
            xml.text("Marker", &shown(&wanted.after));
            if let Some(last) = last {
                xml.text("NextMarker", &shown(last));
            }
        }
        for entry in &page.entries {
            match entry {
                Entry::Key { key, size, meta } => {
                    xml.open("Contents")
                        .text("Key", &shown(key))
                        .text("LastModified", &iso(meta.modified_ms))
                        .text("ETag", &format!("\"{}\"", meta.etag))
                        .text("Size", &size.to_string())
                        .text("StorageClass", "STANDARD");
                    if !is_second || self.get("fetch-owner") == Some("true") {
                        owner(&mut xml, "Owner");
                    }
                    xml.close("Contents");
                }
                Entry::Prefix(prefix) => {
                    xml.open("CommonPrefixes").text("Prefix", &shown(prefix)).close("CommonPrefixes");
                }
            }
        }
        Ok(document(xml, "ListBucketResult"))
    }

    async fn delete_objects(&self, body: Body) -> Result<Answer, S3Error> {
        let bucket = self.open(&self.bucket).await?;
        let wanted = xml::read(&body.bytes(XML_BYTES_MAX).await?)?;
        let objects: Vec<_> = wanted.children.iter().filter(|child| child.name == "Object").collect();
        if objects.is_empty() || objects.len() > REMOVED_MAX {
            return Err(Code::MalformedXML.into());
        }
        let is_quiet = wanted.child_text("Quiet") == Some("true");
        let mut xml = Writer::new("DeleteResult");
        for object in objects {
            // Not trimmed: a key may end with a space.
            let key =
                object.children.iter().find(|child| child.name == "Key").map(|child| child.text.clone());
            let key = key.ok_or(Code::MalformedXML)?;
            let removed = match self.allow("s3:DeleteObject", &self.bucket, Some(&key)).await {
                Ok(()) => {
                    let (bucket, key) = (bucket.clone(), key.clone());
                    blocking(move || bucket.remove(&key)).await
                }
                Err(error) => Err(error),
            };
            match removed {
                Ok(()) if is_quiet => {}
                Ok(()) => {
                    xml.open("Deleted").text("Key", &key).close("Deleted");
                }
                Err(error) => {
                    xml.open("Error")
                        .text("Key", &key)
                        .text("Code", error.code.name())
                        .text("Message", &error.message)
                        .close("Error");
                }
            }
        }
        Ok(document(xml, "DeleteResult"))
    }

    async fn list_uploads(&self) -> Result<Answer, S3Error> {
        let bucket = self.bucket("s3:ListBucketMultipartUploads").await?;
        let found = blocking(move || multipart::uploads(&bucket)).await?;
        let prefix = self.get("prefix").unwrap_or_default();
        let mut xml = Writer::new("ListMultipartUploadsResult");
        xml.text("Bucket", &self.bucket).text("Prefix", prefix).text("IsTruncated", "false");
        for (id, upload) in found.iter().filter(|(_, upload)| upload.key.starts_with(prefix)) {
            xml.open("Upload").text("Key", &upload.key).text("UploadId", id);
            owner(&mut xml, "Initiator");
            owner(&mut xml, "Owner");
            xml.text("StorageClass", "STANDARD").text("Initiated", &iso(upload.started_ms)).close("Upload");
        }
        Ok(document(xml, "ListMultipartUploadsResult"))
    }
}

/// Work that blocks, in its thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, S3Error> + Send + 'static,
) -> Result<T, S3Error> {
    tokio::task::spawn_blocking(work).await?
}

fn owner(xml: &mut Writer, name: &str) {
    xml.open(name).text("ID", "clamshell").text("DisplayName", "clamshell").close(name);
}

fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::new()).boxed_unsync());
    *answer.status_mut() = status;
    answer
}

fn document(xml: Writer, root: &str) -> Answer {
    xml_answer(xml.finish(root))
}

fn xml_answer(text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

fn set(answer: &mut Answer, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

/// Time in XML.
fn iso(ms: u64) -> String {
    // S3 rounds down to the second; then a file written in the second of its upload looks newer than the object.
    time(ms, "%Y-%m-%dT%H:%M:%S.%3fZ")
}

/// Time in headers.
fn rfc(ms: u64) -> String {
    time(ms, "%a, %d %b %Y %H:%M:%S GMT")
}

fn time(ms: u64, format: &str) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.unwrap_or_default().strftime(format).to_string()
}

/// A body that must be empty or is not looked at, read all the same so that the connection can go on.
async fn drain(mut body: Body, payload_is_empty: bool) -> Result<(), S3Error> {
    if payload_is_empty {
        return Ok(());
    }
    while body.next().await?.is_some() {}
    Ok(())
}

/// Whether the client says that there is no body.
fn says_empty(parts: &Parts) -> bool {
    parts
        .headers
        .get("x-amz-content-sha256")
        .and_then(|value| value.to_str().ok())
        .is_some_and(body::is_empty)
}

//! The object service: as much of S3 as its clients need to put code and files where runtimes find them.
//!
//! Buckets, objects with their headers, ranges, copies, listings and uploads in parts, all by path-style URLs, signed in the
//! header or in the query. No versions (`versionId=null` is taken), no access lists, no life cycles: what is not there answers
//! `NotImplemented`. Everything is on disk when it is answered.

mod body;
mod error;
mod list;
mod multipart;
mod operations;
mod sign;
mod source;
mod store;
#[cfg(test)]
mod tests;
mod xml;

use std::{convert::Infallible, fmt, path::Path, sync::Arc};

use bytes::Bytes;
use clamshell_domain::{BoxFuture, Clock};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use uuid::Uuid;

pub use self::source::{BucketSource, EndpointBucket, Listed, Objects};
use self::{
    error::{Code, S3Error},
    store::Buckets,
};
pub(crate) use self::{
    sign::format_time,
    source::{WRITTEN_BYTES_MAX, has_tag},
};

/// Body of every answer.
type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Largest object, however it comes: S3 takes 5 GiB at once.
const OBJECT_BYTES_MAX: u64 = 5 << 30;

/// Who signs a request.
#[derive(Clone)]
pub struct ObjectCaller {
    /// Secret of the access key.
    pub secret_access_key: String,
    /// Who it is, as [`ObjectAuthority::allows`] knows them.
    pub principal: String,
}

impl fmt::Debug for ObjectCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectCaller").field("principal", &self.principal).finish_non_exhaustive()
    }
}

/// Knows callers, and what they may do.
pub trait ObjectAuthority: Send + Sync {
    /// The caller of an access key; `None` when there is no such key, or it is not active, or the session token is not its own.
    ///
    /// # Errors
    /// A reason for the log when nobody can tell now.
    fn caller<'a>(
        &'a self,
        access_key_id: &'a str,
        session_token: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<ObjectCaller>, String>>;

    /// Whether the principal may do `action` (`s3:GetObject`) to `resource` (`arn:aws:s3:::bucket/key`).
    fn allows<'a>(&'a self, principal: &'a str, action: &'a str, resource: &'a str) -> BoxFuture<'a, bool>;
}

/// Makes a bucket, for tests of those who use it.
#[cfg(test)]
pub(crate) fn store_for_tests(data_dir: &Path, bucket: &str) {
    let made = Buckets::new(data_dir.join("objects")).create(bucket);
    assert!(made.is_ok(), "{made:?}");
}

/// Whether a request is signed for S3, going by its credential scope: the one thing that tells it from those of the planes on
/// the same listener.
pub fn is_for_objects(parts: &Parts) -> bool {
    sign::is_for_s3(parts)
}

/// The bucket that is made when it is first used.
pub fn default_bucket(account_id: &str, region: &str) -> String {
    format!("clamshell-code-{account_id}-{region}")
}

/// The object service of one data folder. Cheap to clone.
#[derive(Clone)]
pub struct ObjectService {
    buckets: Buckets,
    region: String,
    default_bucket: String,
    authority: Arc<dyn ObjectAuthority>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for ObjectService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectService").field("buckets", &self.buckets).finish_non_exhaustive()
    }
}

impl ObjectService {
    /// The service of `data_dir/objects`. Touches nothing yet.
    pub fn new(
        data_dir: &Path,
        account_id: &str,
        region: &str,
        authority: Arc<dyn ObjectAuthority>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            buckets: Buckets::new(data_dir.join("objects")),
            region: region.to_owned(),
            default_bucket: default_bucket(account_id, region),
            authority,
            clock,
        }
    }

    /// Removes what a crash left half written, and uploads that nobody finished in a week. Blocks; to be called before the first
    /// request is answered.
    ///
    /// # Errors
    /// The system's, when a folder cannot be read or changed.
    pub fn clean(&self) -> std::io::Result<()> {
        let cleaned = self.buckets.clean(self.clock.now_ms());
        cleaned.map_err(|error| {
            error.source.unwrap_or_else(|| std::io::Error::other("a bucket cannot be opened"))
        })
    }

    /// Answers one request; never fails.
    pub async fn handle(&self, request: Request<Incoming>) -> Answer {
        let request_id = Uuid::new_v4();
        let path = request.uri().path().to_owned();
        let is_head = request.method() == http::Method::HEAD;
        let mut answer = match self.answer(request).await {
            Ok(answer) => answer,
            Err(error) => {
                if error.code.status() >= 500 && error.code != Code::NotImplemented {
                    tracing::error!(%request_id, error = crate::http::chain(&error), "object request failed");
                } else {
                    tracing::debug!(%request_id, %error, "object request refused");
                }
                refusal(&error, &path, &request_id, is_head)
            }
        };
        let headers = answer.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&request_id.simple().to_string()) {
            headers.insert(HeaderName::from_static("x-amz-request-id"), value);
        }
        headers.insert(http::header::SERVER, HeaderValue::from_static("clamshell"));
        answer
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, S3Error> {
        let (parts, incoming) = request.into_parts();
        let claim = sign::claim(&parts)?.ok_or(Code::AccessDenied)?;
        let known = self.authority.caller(&claim.access_key_id, claim.session_token.as_deref()).await;
        let known = known.map_err(|reason| S3Error {
            source: Some(std::io::Error::other(reason)),
            ..S3Error::from(Code::InternalError)
        })?;
        let caller = known.ok_or(Code::InvalidAccessKeyId)?;
        let chain = claim.verify(&parts, &caller.secret_access_key, self.clock.now_ms(), &self.region)?;
        let body = body::Body::new(&parts, &claim.payload, chain, incoming)?;
        operations::Call::new(self, &parts, caller.principal)?.run(body).await
    }
}

fn refusal(error: &S3Error, path: &str, request_id: &Uuid, is_head: bool) -> Answer {
    let mut document = xml::Writer::new("Error");
    document
        .text("Code", error.code.name())
        .text("Message", &error.message)
        .text("Resource", path)
        .text("RequestId", &request_id.simple().to_string());
    let has_body = !is_head && error.code != Code::NotModified;
    let text = if has_body { document.finish("Error") } else { String::new() };
    let mut answer = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *answer.status_mut() =
        StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if has_body {
        let xml = HeaderValue::from_static("application/xml");
        answer.headers_mut().insert(http::header::CONTENT_TYPE, xml);
    }
    answer
}

//! Where runtimes read their code: buckets of this server, folders of this machine, and other S3 services.

mod list;
mod write;

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use clamshell_domain::{
    BoxFuture, Clock, ObjectBody, ObjectContent, ObjectError, ObjectLocation, ObjectSource,
};
use clamshell_sandbox::fetch::{Client, Policy, Response, TrustedRoots, Url};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use rustix::fs::{Mode, OFlags, ResolveFlags};

pub use list::Listed;
pub(crate) use write::{WRITTEN_BYTES_MAX, has_tag};

use super::{
    error::{Code, S3Error},
    sign::{Signer, encode, sha256_hex},
    store::Buckets,
};

/// Bytes read from disk at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Largest file with a secret.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// A bucket of another S3 service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointBucket {
    /// URL of the service: `https://s3.eu-central-1.amazonaws.com`, `http://minio:9000`.
    pub endpoint: String,
    /// Region of signatures.
    pub region: String,
    /// Name of the bucket there.
    pub bucket: String,
    /// Access key; `None`: requests are not signed.
    pub access_key_id: Option<String>,
    /// File whose first line is the secret. Read at each request, so that it may be renewed.
    pub secret_access_key_file: Option<PathBuf>,
    /// PEM file of certificates to trust beside the operating system's.
    pub ca_file: Option<PathBuf>,
}

/// Where the objects of a bucket are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketSource {
    /// A folder of this machine; keys are names below it.
    Folder {
        /// Absolute path.
        path: PathBuf,
    },
    /// Another service.
    Endpoint(EndpointBucket),
}

/// Reads objects of all buckets: those that the operator names first, then those of this server.
#[derive(Clone)]
pub struct Objects {
    named: BTreeMap<String, BucketSource>,
    own: Buckets,
    fetch: Client,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("named", &self.named).finish_non_exhaustive()
    }
}

impl Objects {
    /// The buckets of `data_dir` and the named ones.
    pub fn new(data_dir: &Path, named: BTreeMap<String, BucketSource>, clock: Arc<dyn Clock>) -> Self {
        Self { named, own: Buckets::new(data_dir.join("objects")), fetch: Client::default(), clock }
    }
}

impl ObjectSource for Objects {
    fn get<'a>(&'a self, location: &'a ObjectLocation) -> BoxFuture<'a, Result<ObjectContent, ObjectError>> {
        Box::pin(async move {
            match self.named.get(&location.bucket) {
                Some(BucketSource::Endpoint(bucket)) => self.get_remote(bucket, location).await,
                Some(BucketSource::Folder { path }) => {
                    only_null(location)?;
                    let (path, location) = (path.clone(), location.clone());
                    blocking(move || from_folder(&path, &location)).await
                }
                None => {
                    only_null(location)?;
                    let (own, location) = (self.own.clone(), location.clone());
                    blocking(move || from_store(&own, &location)).await
                }
            }
        })
    }
}

impl Objects {
    async fn get_remote(
        &self,
        bucket: &EndpointBucket,
        location: &ObjectLocation,
    ) -> Result<ObjectContent, ObjectError> {
        let failed = |reason: String| ObjectError::Failed { reason };
        let mut path = format!("/{}/{}", bucket.bucket, encode(location.key.as_bytes(), true));
        if let Some(version) = &location.version_id {
            path.push_str(&format!("?versionId={}", encode(version.as_bytes(), false)));
        }
        let answer = self.request(bucket, &path).await?;
        match answer.status.as_u16() {
            200 => {}
            403 | 401 => return Err(ObjectError::Denied { bucket: location.bucket.clone() }),
            404 => return Err(missing(location)),
            status => return Err(failed(format!("{} answered {status}", bucket.endpoint))),
        }
        let size = answer.header("content-length").and_then(|length| length.parse().ok());
        Ok(ObjectContent {
            size: size.ok_or_else(|| failed("the answer has no length".to_owned()))?,
            etag: answer.header("etag").map(|tag| tag.trim_matches('"').to_owned()),
            version_id: answer.header("x-amz-version-id").map(str::to_owned),
            body: Box::new(Remote(answer)),
        })
    }

    /// Asks the service of a bucket for a path and query, signed where there are credentials.
    async fn request(&self, bucket: &EndpointBucket, path: &str) -> Result<Response, ObjectError> {
        self.send(bucket, &Method::GET, path, &[], Bytes::new()).await
    }

    async fn send(
        &self,
        bucket: &EndpointBucket,
        method: &Method,
        path: &str,
        extra: &[(&'static str, String)],
        body: Bytes,
    ) -> Result<Response, ObjectError> {
        let failed = |reason: String| ObjectError::Failed { reason };
        let base = Url::parse(&bucket.endpoint).map_err(|error| failed(error.to_string()))?;
        let url = base.join(path).map_err(|error| failed(error.to_string()))?;
        let mut all = extra.to_vec();
        if let (Some(id), Some(file)) = (&bucket.access_key_id, bucket.secret_access_key_file.clone()) {
            let secret = blocking(move || read_secret(&file)).await?;
            let signer = Signer {
                access_key_id: id,
                secret_access_key: &secret,
                session_token: None,
                region: &bucket.region,
            };
            let (sha256, now_ms) = (sha256_hex(&body), self.clock.now_ms());
            let signed = signer.request(method.as_str(), &url.authority(), path, &sha256, extra, now_ms);
            all = signed.ok_or_else(|| failed("the request cannot be signed".to_owned()))?;
        }
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            let value = HeaderValue::try_from(value).map_err(|error| failed(error.to_string()))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        let policy = Policy {
            allow_plain: !base.is_https(),
            // A signature is for one host.
            follow_redirects: false,
            origin: None,
            roots: TrustedRoots { ca_file: bucket.ca_file.clone() },
        };
        let answer = self.fetch.send(method, &url, &headers, body, &policy).await;
        answer.map_err(|error| failed(crate::http::chain(&error)))
    }
}

fn missing(location: &ObjectLocation) -> ObjectError {
    ObjectError::NoSuchObject { bucket: location.bucket.clone(), key: location.key.clone() }
}

/// Here objects have no versions but the one that S3 calls `null`.
fn only_null(location: &ObjectLocation) -> Result<(), ObjectError> {
    if location.version_id.as_deref().is_none_or(|version| version == "null") {
        Ok(())
    } else {
        Err(missing(location))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ObjectError> + Send + 'static,
) -> Result<T, ObjectError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| ObjectError::Failed { reason: error.to_string() })?
}

fn read_secret(path: &Path) -> Result<String, ObjectError> {
    use std::io::Read;
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(SECRET_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| ObjectError::Failed { reason: format!("secret_access_key_file: {error}") })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn from_folder(root: &Path, location: &ObjectLocation) -> Result<ObjectContent, ObjectError> {
    let failed = |error: std::io::Error| ObjectError::Failed { reason: error.to_string() };
    let root = File::open(root).map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    // Neither `..` nor a link leads out of the folder.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = rustix::fs::openat2(&root, location.key.as_str(), flags, Mode::empty(), resolve);
    let file = File::from(opened.map_err(|_| missing(location))?);
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(missing(location));
    }
    // Good enough to see a change: the digest of the bytes is what counts.
    let etag = Some(tag_of(&found));
    Ok(local(file, found.len(), etag))
}

/// What changes when a file does, in all likelihood.
fn tag_of(found: &std::fs::Metadata) -> String {
    format!("{:x}-{:x}-{:x}", found.mtime(), found.mtime_nsec(), found.len())
}

fn from_store(own: &Buckets, location: &ObjectLocation) -> Result<ObjectContent, ObjectError> {
    let refused = |error: S3Error| match error.code {
        Code::NoSuchBucket | Code::InvalidBucketName => {
            ObjectError::NoSuchBucket { bucket: location.bucket.clone() }
        }
        Code::NoSuchKey | Code::KeyTooLongError | Code::InvalidArgument => missing(location),
        _ => ObjectError::Failed { reason: error.to_string() },
    };
    let object = own.open(&location.bucket).and_then(|bucket| bucket.get(&location.key)).map_err(refused)?;
    Ok(local(object.file, object.size, Some(object.meta.etag)))
}

fn local(file: File, size: u64, etag: Option<String>) -> ObjectContent {
    let body = Box::new(Local { file: Arc::new(file), at: 0, size });
    ObjectContent { size, etag, version_id: None, body }
}

struct Local {
    file: Arc<File>,
    at: u64,
    size: u64,
}

impl ObjectBody for Local {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<u8>>, ObjectError>> {
        Box::pin(async move {
            let left = self.size - self.at;
            if left == 0 {
                return Ok(None);
            }
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
            let (file, at) = (Arc::clone(&self.file), self.at);
            let bytes = blocking(move || {
                let mut bytes = vec![0; most];
                let read = file.read_exact_at(&mut bytes, at);
                read.map_err(|error| ObjectError::Failed { reason: error.to_string() })?;
                Ok(bytes)
            })
            .await?;
            self.at += most as u64;
            Ok(Some(bytes))
        })
    }
}

struct Remote(Response);

impl ObjectBody for Remote {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<u8>>, ObjectError>> {
        Box::pin(async move {
            let chunk = self.0.chunk().await;
            let chunk = chunk.map_err(|error| ObjectError::Failed { reason: crate::http::chain(&error) })?;
            Ok(chunk.map(|bytes| bytes.to_vec()))
        })
    }
}

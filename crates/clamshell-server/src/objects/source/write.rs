//! Writes objects: to buckets of this server, and to other S3 services in parts that fit into memory.
//!
//! Buckets that are folders of this machine are not written here: sessions mount such a folder itself.

use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

use bytes::Bytes;
use clamshell_domain::ObjectError;
use clamshell_sandbox::fetch::Response;
use http::Method;
use md5::{Digest, Md5};

use super::{
    BucketSource, EndpointBucket, Objects, PIECE_BYTES, blocking,
    list::{Listed, whole},
};
use crate::objects::{
    error::{Code, S3Error},
    sign::{encode, hex},
    store::{Bucket, Meta, tag_of_parts},
    xml,
};

/// Most that is in memory of an object, and the size of its parts at another service. With 10,000 parts an object may have
/// 80 GiB, so the largest that is written, 5 GiB, always fits.
const PART_BYTES: usize = 8 << 20;

/// Largest object that is written: what this server's own buckets take, too.
pub(crate) const WRITTEN_BYTES_MAX: u64 = crate::objects::OBJECT_BYTES_MAX;

impl Objects {
    /// The tag of an object now; `None` when there is none.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub(crate) async fn tag(&self, bucket: &str, key: &str) -> Result<Option<String>, ObjectError> {
        // The key itself comes first among those that begin with it.
        let found = self.list(bucket, key, 1).await?;
        let is_it = |one: &Listed| one.key == key;
        Ok(found.into_iter().find(is_it).map(|one| one.etag))
    }

    /// Writes `size` bytes of a file as an object; its tag.
    ///
    /// # Errors
    /// [`ObjectError`]; [`ObjectError::Failed`] too when the file is shorter by now.
    pub(crate) async fn put(
        &self,
        bucket: &str,
        key: &str,
        file: &Arc<File>,
        size: u64,
    ) -> Result<String, ObjectError> {
        match self.named.get(bucket) {
            Some(BucketSource::Endpoint(endpoint)) => {
                let path = remote_path(endpoint, key);
                if size <= PART_BYTES as u64 {
                    let bytes = read(file, 0, size).await?;
                    let answer = self.send(endpoint, &Method::PUT, &path, &[], bytes).await?;
                    return tag_of_answer(&accepted(answer, bucket)?);
                }
                let answer = self
                    .send(endpoint, &Method::POST, &format!("{path}?uploads="), &[], Bytes::new())
                    .await?;
                let document = whole(accepted(answer, bucket)?).await?;
                let id = xml::read(&document).ok();
                let id = id.as_ref().and_then(|document| document.child_text("UploadId"));
                let id = encode(id.ok_or_else(|| failed("an upload has no id"))?.as_bytes(), false);
                let path = format!("{path}?uploadId={id}");
                let put = self.put_parts(endpoint, bucket, &path, file, size).await;
                if put.is_err() {
                    // The service counts its bytes until it goes.
                    let _ = self.send(endpoint, &Method::DELETE, &path, &[], Bytes::new()).await;
                }
                put
            }
            Some(BucketSource::Folder { .. }) => Err(failed("a folder is no bucket to write to")),
            None => {
                let bucket = self.own_bucket(bucket).await?;
                let (file, key, modified_ms) = (Arc::clone(file), key.to_owned(), self.clock.now_ms());
                blocking(move || put_own(&bucket, &key, &file, size, modified_ms)).await
            }
        }
    }

    async fn put_parts(
        &self,
        endpoint: &EndpointBucket,
        bucket: &str,
        path: &str,
        file: &Arc<File>,
        size: u64,
    ) -> Result<String, ObjectError> {
        let mut parts = String::from("<CompleteMultipartUpload>");
        let (mut at, mut number) = (0, 1);
        while at < size {
            let length = (size - at).min(PART_BYTES as u64);
            let bytes = read(file, at, length).await?;
            let part = format!("{path}&partNumber={number}");
            let answer = self.send(endpoint, &Method::PUT, &part, &[], bytes).await?;
            let tag = tag_of_answer(&accepted(answer, bucket)?)?;
            if !tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                return Err(failed("a part has no usable tag"));
            }
            parts.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>\"{tag}\"</ETag></Part>"));
            at += length;
            number += 1;
        }
        parts.push_str("</CompleteMultipartUpload>");
        let answer = self.send(endpoint, &Method::POST, path, &[], parts.into()).await?;
        let document = whole(accepted(answer, bucket)?).await?;
        let document = xml::read(&document).map_err(|_| failed("an upload's end is not what S3 answers"))?;
        // S3 says here with status 200 that it failed.
        let tag = document.child_text("ETag").filter(|_| document.name != "Error");
        Ok(tag.ok_or_else(|| failed("an upload was not completed"))?.trim_matches('"').to_owned())
    }

    /// Copies an object within its bucket.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub(crate) async fn copy(&self, bucket: &str, from: &str, to: &str) -> Result<(), ObjectError> {
        match self.named.get(bucket) {
            Some(BucketSource::Endpoint(endpoint)) => {
                let source = [("x-amz-copy-source", remote_path(endpoint, from))];
                let to = remote_path(endpoint, to);
                let answer = self.send(endpoint, &Method::PUT, &to, &source, Bytes::new()).await?;
                let document = whole(accepted(answer, bucket)?).await?;
                let is_made = xml::read(&document).is_ok_and(|document| document.name == "CopyObjectResult");
                if is_made { Ok(()) } else { Err(failed("an object was not copied")) }
            }
            Some(BucketSource::Folder { .. }) => Err(failed("a folder is no bucket to write to")),
            None => {
                let found = self.own_bucket(bucket).await?;
                let (from, to, modified_ms) = (from.to_owned(), to.to_owned(), self.clock.now_ms());
                blocking(move || {
                    let mut object = found.get(&from).map_err(refused)?;
                    let mut incoming = found.incoming().map_err(refused)?;
                    incoming.add_object(&mut object).map_err(refused)?;
                    let meta = Meta { modified_ms, ..object.meta };
                    let path = found.path(&to).map_err(refused)?;
                    incoming.finish(&meta, &path, false).map_err(refused)
                })
                .await
            }
        }
    }

    /// Removes an object; nothing happens when there is none.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub(crate) async fn delete(&self, bucket: &str, key: &str) -> Result<(), ObjectError> {
        match self.named.get(bucket) {
            Some(BucketSource::Endpoint(endpoint)) => {
                let path = remote_path(endpoint, key);
                let answer = self.send(endpoint, &Method::DELETE, &path, &[], Bytes::new()).await?;
                if answer.status.as_u16() == 404 {
                    return Ok(());
                }
                accepted(answer, bucket).map(|_| ())
            }
            Some(BucketSource::Folder { .. }) => Err(failed("a folder is no bucket to write to")),
            None => {
                let found = self.own_bucket(bucket).await?;
                let key = key.to_owned();
                blocking(move || found.remove(&key).map_err(refused)).await
            }
        }
    }

    async fn own_bucket(&self, name: &str) -> Result<Bucket, ObjectError> {
        let (own, name) = (self.own.clone(), name.to_owned());
        blocking(move || own.open(&name).map_err(|_| ObjectError::NoSuchBucket { bucket: name })).await
    }
}

/// Whether a tag is that of these bytes, as far as it can be told: services may make tags as they like, but most take the
/// MD5, or that of the MD5s of parts.
///
/// # Errors
/// The system's, when the file cannot be read or is shorter by now. Blocks.
pub(crate) fn has_tag(file: &File, size: u64, tag: &str) -> std::io::Result<bool> {
    let parts = size.div_ceil(PART_BYTES as u64).max(1);
    let in_parts = tag.ends_with(&format!("-{parts}"));
    if tag.len() < 32 || (tag.contains('-') && !in_parts) {
        return Ok(false);
    }
    let (mut md5, mut digests, mut buffer) = (Md5::new(), Vec::new(), vec![0; PIECE_BYTES]);
    let mut at = 0;
    while at < size {
        let length = usize::try_from(size - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let piece = buffer.get_mut(..length).unwrap_or_default();
        file.read_exact_at(piece, at)?;
        md5.update(&*piece);
        at += length as u64;
        // Parts are whole numbers of pieces.
        if in_parts && (at % PART_BYTES as u64 == 0 || at == size) {
            digests.push(std::mem::take(&mut md5).finalize().into());
        }
    }
    let found = if in_parts { tag_of_parts(&digests) } else { hex(md5.finalize().as_slice()) };
    Ok(found == tag)
}

fn put_own(
    bucket: &Bucket,
    key: &str,
    file: &File,
    size: u64,
    modified_ms: u64,
) -> Result<String, ObjectError> {
    let path = bucket.path(key).map_err(refused)?;
    let mut incoming = bucket.incoming().map_err(refused)?;
    let mut buffer = vec![0; PIECE_BYTES];
    let mut at = 0;
    while at < size {
        let length = usize::try_from(size - at).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let piece = buffer.get_mut(..length).unwrap_or_default();
        file.read_exact_at(piece, at).map_err(|error| failed(&error.to_string()))?;
        incoming.add(piece).map_err(refused)?;
        at += length as u64;
    }
    let etag = hex(&incoming.md5());
    let meta = Meta { etag: etag.clone(), modified_ms, ..Meta::default() };
    incoming.finish(&meta, &path, false).map_err(refused)?;
    Ok(etag)
}

async fn read(file: &Arc<File>, at: u64, length: u64) -> Result<Bytes, ObjectError> {
    let file = Arc::clone(file);
    let length = usize::try_from(length).unwrap_or(PART_BYTES).min(PART_BYTES);
    blocking(move || {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at).map_err(|error| failed(&error.to_string()))?;
        Ok(bytes.into())
    })
    .await
}

fn remote_path(endpoint: &EndpointBucket, key: &str) -> String {
    format!("/{}/{}", endpoint.bucket, encode(key.as_bytes(), true))
}

fn accepted(answer: Response, bucket: &str) -> Result<Response, ObjectError> {
    match answer.status.as_u16() {
        200 | 204 => Ok(answer),
        401 | 403 => Err(ObjectError::Denied { bucket: bucket.to_owned() }),
        404 => Err(ObjectError::NoSuchBucket { bucket: bucket.to_owned() }),
        status => Err(failed(&format!("a write was answered with {status}"))),
    }
}

fn tag_of_answer(answer: &Response) -> Result<String, ObjectError> {
    let tag = answer.header("etag").map(|tag| tag.trim_matches('"').to_owned());
    tag.ok_or_else(|| failed("a write was answered without a tag"))
}

fn failed(reason: &str) -> ObjectError {
    ObjectError::Failed { reason: reason.to_owned() }
}

fn refused(error: S3Error) -> ObjectError {
    match (error.code, error.source) {
        (Code::InternalError, Some(source)) => ObjectError::Failed { reason: source.to_string() },
        (_, _) => ObjectError::Failed { reason: error.message },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn tags_of_bytes_are_known_again() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello").unwrap();
        let check = |size, tag: &str, expect| assert_eq!(has_tag(&file, size, tag).unwrap(), expect, "{tag}");
        check(5, "5d41402abc4b2a76b9719d911017c592", true);
        check(5, "5d41402abc4b2a76b9719d911017c593", false);
        check(0, "d41d8cd98f00b204e9800998ecf8427e", true);
        check(5, "not a digest", false);
        check(5, "5d41402abc4b2a76b9719d911017c592-2", false);
        // The MD5 of the MD5 of its only part.
        let digest: [u8; 16] = Md5::digest(b"hello").into();
        check(5, &tag_of_parts(&[digest]), true);
        assert!(has_tag(&file, 6, "5d41402abc4b2a76b9719d911017c592").is_err());
    }
}

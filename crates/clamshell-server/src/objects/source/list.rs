//! Lists of what a bucket has, wherever it is.

use std::{collections::VecDeque, fs, path::Path};

use bytes::Bytes;
use clamshell_domain::ObjectError;
use clamshell_sandbox::fetch::Response;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{super::list, BucketSource, EndpointBucket, Objects, blocking};
use crate::objects::{error::S3Error, sign::encode, xml};

/// Largest page of a list: a thousand keys of 1024 bytes, each byte escaped, with room.
const PAGE_BYTES_MAX: usize = 8 << 20;

/// An object in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Tag of its content, without quotes.
    pub etag: String,
}

impl Objects {
    /// At most `most` objects whose keys start with `prefix`, in the order of their keys.
    ///
    /// # Errors
    /// [`ObjectError`], [`ObjectError::NoSuchObject`] excepted.
    pub async fn list(&self, bucket: &str, prefix: &str, most: usize) -> Result<Vec<Listed>, ObjectError> {
        match self.named.get(bucket) {
            Some(BucketSource::Endpoint(endpoint)) => self.list_remote(endpoint, bucket, prefix, most).await,
            Some(BucketSource::Folder { path }) => {
                let (path, prefix) = (path.clone(), prefix.to_owned());
                blocking(move || list_folder(&path, &prefix, most)).await
            }
            None => {
                let (own, name, prefix) = (self.own.clone(), bucket.to_owned(), prefix.to_owned());
                blocking(move || {
                    let found = own.open(&name).map_err(|_| ObjectError::NoSuchBucket { bucket: name })?;
                    list_own(&found, prefix, most)
                        .map_err(|error| ObjectError::Failed { reason: error.to_string() })
                })
                .await
            }
        }
    }

    async fn list_remote(
        &self,
        endpoint: &EndpointBucket,
        bucket: &str,
        prefix: &str,
        most: usize,
    ) -> Result<Vec<Listed>, ObjectError> {
        let mut all = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut path = format!("/{}?list-type=2&max-keys=1000", endpoint.bucket);
            path.push_str(&format!("&prefix={}", encode(prefix.as_bytes(), false)));
            if let Some(token) = &token {
                path.push_str(&format!("&continuation-token={}", encode(token.as_bytes(), false)));
            }
            let answer = self.request(endpoint, &path).await?;
            match answer.status.as_u16() {
                200 => {}
                401 | 403 => return Err(ObjectError::Denied { bucket: bucket.to_owned() }),
                404 => return Err(ObjectError::NoSuchBucket { bucket: bucket.to_owned() }),
                status => {
                    return Err(ObjectError::Failed { reason: format!("a list was answered with {status}") });
                }
            }
            let (page, next) = page(&whole(answer).await?)
                .ok_or_else(|| ObjectError::Failed { reason: "a list is not what S3 answers".to_owned() })?;
            // Without an end and without anything new it would go on for ever.
            let is_stuck = page.is_empty() || next == token;
            all.extend(page);
            if all.len() >= most || next.is_none() || is_stuck {
                all.truncate(most);
                return Ok(all);
            }
            token = next;
        }
    }
}

pub(super) async fn whole(mut answer: Response) -> Result<Bytes, ObjectError> {
    let failed = |reason: String| ObjectError::Failed { reason };
    let mut all = Vec::new();
    loop {
        let chunk = answer.chunk().await.map_err(|error| failed(crate::http::chain(&error)))?;
        let Some(chunk) = chunk else { return Ok(all.into()) };
        if all.len() + chunk.len() > PAGE_BYTES_MAX {
            return Err(failed("a list is too long".to_owned()));
        }
        all.extend_from_slice(&chunk);
    }
}

/// Objects of a page, and the token of the next one.
fn page(bytes: &[u8]) -> Option<(Vec<Listed>, Option<String>)> {
    let document = xml::read(bytes).ok()?;
    let mut listed = Vec::new();
    for content in document.children.iter().filter(|child| child.name == "Contents") {
        // Not trimmed: blanks are part of a key.
        let key = content.children.iter().find(|child| child.name == "Key")?.text.clone();
        let size = content.child_text("Size")?.parse().ok()?;
        let etag = content.child_text("ETag").unwrap_or_default().trim_matches('"').to_owned();
        listed.push(Listed { key, size, etag });
    }
    let is_truncated = document.child_text("IsTruncated") == Some("true");
    let next = document.child_text("NextContinuationToken").filter(|_| is_truncated);
    Some((listed, next.map(str::to_owned)))
}

fn list_own(
    bucket: &crate::objects::store::Bucket,
    prefix: String,
    most: usize,
) -> Result<Vec<Listed>, S3Error> {
    let mut all = Vec::new();
    let mut wanted = list::Wanted { prefix, max: list::PAGE_MAX, ..list::Wanted::default() };
    loop {
        let page = list::list(bucket, &wanted)?;
        let Some(last) = page.entries.last() else { return Ok(all) };
        wanted.after = last.name().to_owned();
        all.extend(page.entries.into_iter().filter_map(|entry| match entry {
            list::Entry::Key { key, size, meta } => Some(Listed { key, size, etag: meta.etag }),
            list::Entry::Prefix(_) => None,
        }));
        if all.len() >= most || !page.is_truncated {
            all.truncate(most);
            return Ok(all);
        }
    }
}

/// Files of a folder that stands for a bucket. Links are left out.
fn list_folder(root: &Path, prefix: &str, most: usize) -> Result<Vec<Listed>, ObjectError> {
    let failed = |error: std::io::Error| ObjectError::Failed { reason: error.to_string() };
    let root = fs::File::open(root).map_err(failed)?;
    let mut all = Vec::new();
    let mut pending = VecDeque::from([String::new()]);
    while let Some(folder) = pending.pop_front() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = if folder.is_empty() { "." } else { folder.as_str() };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let opened = rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve);
        let entries = opened.and_then(rustix::fs::Dir::new).map_err(|error| failed(error.into()))?;
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().to_str() else { continue };
            if matches!(name, "." | "..") {
                continue;
            }
            let key = format!("{folder}{name}");
            let below = rustix::fs::openat2(
                &root,
                key.as_str(),
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            );
            let found = below.map_err(std::io::Error::from).and_then(|file| fs::File::from(file).metadata());
            let Ok(found) = found else { continue };
            let next = format!("{key}/");
            if found.is_dir() && (next.starts_with(prefix) || prefix.starts_with(&next)) {
                pending.push_back(next);
            } else if found.is_file() && key.starts_with(prefix) {
                all.push(Listed { key, size: found.len(), etag: super::tag_of(&found) });
                if all.len() >= most {
                    return Ok(all);
                }
            }
        }
    }
    all.sort_by(|one, other| one.key.cmp(&other.key));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let text = r#"<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
            <Name>b</Name><IsTruncated>true</IsTruncated><NextContinuationToken>abc=</NextContinuationToken>
            <Contents><Key>a &amp; b </Key><Size>3</Size><ETag>&quot;t-1&quot;</ETag></Contents></ListBucketResult>"#;
        let one = Listed { key: "a & b ".into(), size: 3, etag: "t-1".into() };
        assert_eq!(page(text.as_bytes()), Some((vec![one], Some("abc=".into()))));
        let end = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        assert_eq!(page(end.as_bytes()), Some((Vec::new(), None)));
        assert_eq!(page(b"<ListBucketResult><Contents></Contents></ListBucketResult>"), None);
        assert_eq!(page(b"<html>"), None);
    }

    #[test]
    fn links_in_a_folder_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/c"), "12").unwrap();
        fs::write(folder.path().join("z"), "1").unwrap();
        std::os::unix::fs::symlink("/etc", folder.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("a/file")).unwrap();
        let check = |prefix: &str, expect: &[&str]| {
            let keys: Vec<_> =
                list_folder(folder.path(), prefix, 10).unwrap().into_iter().map(|one| one.key).collect();
            assert_eq!(keys, expect, "{prefix}");
        };
        check("", &["a/b/c", "z"]);
        check("a/", &["a/b/c"]);
        check("a/b/c", &["a/b/c"]);
        check("x", &[]);
    }
}

//! What the configuration says about access points: folders of this machine, NFS exports and prefixes of buckets that
//! runtimes name by an ARN.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;

use super::ConfigError;
use crate::objects::BucketSource;

/// What stands behind the ARN of an access point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessPoint {
    /// Where its files are.
    pub source: AccessPointSource,
    /// No session may change anything.
    pub read_only: bool,
}

/// Where the files of an access point are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessPointSource {
    /// A folder of this machine, absolute.
    Folder(PathBuf),
    /// An export of an NFS 4 server, `SERVER:/PATH`.
    Nfs {
        /// Name or address of the server.
        server: String,
        /// Path there.
        path: String,
    },
    /// A prefix of a bucket, of which sessions get a copy.
    Prefix {
        /// Bucket: one of `[buckets]` or of this server.
        bucket: String,
        /// Empty, or with a slash at its end.
        prefix: String,
    },
}

/// A prefix of a bucket that sessions may change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WorkingPrefix {
    /// Its bucket.
    pub(crate) bucket: String,
    /// Empty, or with a slash at its end.
    pub(crate) prefix: String,
}

impl AccessPoint {
    /// The prefix, when it is one that sessions may change.
    pub(crate) fn working_prefix(&self) -> Option<WorkingPrefix> {
        match &self.source {
            AccessPointSource::Prefix { bucket, prefix } if !self.read_only => {
                Some(WorkingPrefix { bucket: bucket.clone(), prefix: prefix.clone() })
            }
            _ => None,
        }
    }
}

/// `[access_points."ARN"]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileAccessPoint {
    path: Option<PathBuf>,
    nfs: Option<String>,
    s3: Option<String>,
    read_only: bool,
}

/// Access points by their ARNs.
pub(super) fn access_points(
    tables: BTreeMap<String, FileAccessPoint>,
    data_dir: &Path,
    buckets: &BTreeMap<String, BucketSource>,
) -> Result<BTreeMap<String, AccessPoint>, ConfigError> {
    let points = tables.into_iter().map(|(arn, table)| {
        let point = access_point(&arn, table, data_dir).and_then(|point| apart(point, buckets));
        let point = point.map_err(|reason| ConfigError::Value {
            key: "access_points",
            reason: format!("{arn}: {reason}"),
        })?;
        Ok((arn, point))
    });
    points.collect()
}

fn access_point(arn: &str, table: FileAccessPoint, data_dir: &Path) -> Result<AccessPoint, &'static str> {
    let is_arn = arn.starts_with("arn:aws")
        && [":s3files:", ":elasticfilesystem:"].iter().any(|service| arn.contains(service))
        && arn.contains("access-point/fsap-");
    if !is_arn {
        return Err("is not the ARN of an access point of S3 Files or EFS");
    }
    let read_only = table.read_only;
    let source = match (table.path, table.nfs, table.s3) {
        (Some(path), None, None) => AccessPointSource::Folder(folder(path, data_dir)?),
        (None, Some(export), None) => {
            // An address of version 6 has colons, and its brackets end before the path begins.
            let (server, path) = export.split_once(":/").ok_or("nfs must be SERVER:/PATH")?;
            let server = server.trim_start_matches('[').trim_end_matches(']');
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
            if server.is_empty() || !server.bytes().all(is_name) || export.contains(|c: char| c.is_control())
            {
                return Err("nfs must be SERVER:/PATH");
            }
            AccessPointSource::Nfs { server: server.to_owned(), path: format!("/{path}") }
        }
        (None, None, Some(text)) => {
            let (bucket, prefix) = text.split_once('/').unwrap_or((&text, ""));
            let mut prefix = prefix.trim_end_matches('/').to_owned();
            if bucket.is_empty() || prefix.split('/').any(|part| matches!(part, "." | "..")) {
                return Err("s3 must be BUCKET or BUCKET/PREFIX");
            }
            if !prefix.is_empty() {
                prefix.push('/');
            }
            AccessPointSource::Prefix { bucket: bucket.to_owned(), prefix }
        }
        _ => return Err("needs one of path, nfs and s3"),
    };
    Ok(AccessPoint { source, read_only })
}

/// A bucket that is a folder would be changed without all that holds of folders.
fn apart(point: AccessPoint, buckets: &BTreeMap<String, BucketSource>) -> Result<AccessPoint, &'static str> {
    match point.working_prefix().and_then(|working| buckets.get(&working.bucket)) {
        Some(BucketSource::Folder { .. }) => {
            Err("the bucket is a folder of this machine: set path instead of s3, or read_only = true")
        }
        Some(BucketSource::Endpoint(_)) | None => Ok(point),
    }
}

/// A folder that may be shown: neither this server's own nor one that holds it.
fn folder(path: PathBuf, data_dir: &Path) -> Result<PathBuf, &'static str> {
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err("path must be absolute and without `..`");
    }
    // Links are looked through where there are any yet; the keeper opens what the path leads to.
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (shown, own) = (real(&path), real(data_dir));
    if shown.starts_with(&own) || own.starts_with(&shown) {
        return Err(
            "path must be apart from the data directory, which has every session's files and all secrets",
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:elasticfilesystem:us-west-2:111122223333:access-point/fsap-0123456789abcdef0";

    fn read(arn: &str, text: &str) -> Result<AccessPoint, String> {
        let table: FileAccessPoint = toml::from_str(text).map_err(|error| error.to_string())?;
        let buckets = [("folder".to_owned(), BucketSource::Folder { path: "/srv/bucket".into() })].into();
        let point = access_point(arn, table, Path::new("/var/lib/clamshell"));
        point.and_then(|point| apart(point, &buckets)).map_err(str::to_owned)
    }

    #[test]
    fn an_access_point_is_one_of_three_kinds() {
        let check = |text: &str, source: AccessPointSource, read_only| {
            assert_eq!(read(ARN, text), Ok(AccessPoint { source, read_only }), "{text}");
        };
        check("path = '/srv/data'", AccessPointSource::Folder("/srv/data".into()), false);
        check("path = '/srv'\nread_only = true", AccessPointSource::Folder("/srv".into()), true);
        let nfs =
            |server: &str, path: &str| AccessPointSource::Nfs { server: server.into(), path: path.into() };
        check("nfs = 'nas:/export/a'", nfs("nas", "/export/a"), false);
        check("nfs = '[fd00::1]:/'", nfs("fd00::1", "/"), false);
        let prefix = |bucket: &str, prefix: &str| AccessPointSource::Prefix {
            bucket: bucket.into(),
            prefix: prefix.into(),
        };
        check("s3 = 'data'\nread_only = true", prefix("data", ""), true);
        check("s3 = 'data/a/b'\nread_only = true", prefix("data", "a/b/"), true);
        check("s3 = 'data/a/b/'\nread_only = true", prefix("data", "a/b/"), true);
        check("s3 = 'data/a/b'", prefix("data", "a/b/"), false);
        check("s3 = 'folder/a'\nread_only = true", prefix("folder", "a/"), true);
    }

    #[test]
    fn what_cannot_be_shown_is_refused_with_its_reason() {
        let check = |text: &str, word: &str| {
            let reason = read(ARN, text).unwrap_err();
            assert!(reason.contains(word), "{text}: {reason}");
        };
        check("", "one of");
        check("path = '/a'\nnfs = 'b:/c'", "one of");
        check("path = 'a'", "absolute");
        check("path = '/srv/../etc'", "..");
        check("path = '/'", "apart");
        check("path = '/var/lib'", "apart");
        check("path = '/var/lib/clamshell/sessions'", "apart");
        check("nfs = 'host'", "SERVER:/PATH");
        check("nfs = 'a b:/c'", "SERVER:/PATH");
        check("s3 = 'folder/a'", "path instead");
        check("s3 = 'data/../x'\nread_only = true", "BUCKET");
        check("paths = '/a'", "unknown field");
        assert!(read("arn:aws:s3:::bucket", "path = '/a'").is_err());
    }
}

//! The port to object storage: who reads the zips that runtimes are made from.

use std::fmt;

use thiserror::Error;

use crate::{BoxFuture, ObjectLocation};

/// An object cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ObjectError {
    /// No such bucket is known here.
    #[error("there is no bucket named {bucket}")]
    NoSuchBucket {
        /// The bucket.
        bucket: String,
    },
    /// The bucket has no such object, or not in that version.
    #[error("bucket {bucket} has no object {key}")]
    NoSuchObject {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// Access is denied.
    #[error("access to bucket {bucket} is denied")]
    Denied {
        /// The bucket.
        bucket: String,
    },
    /// The storage failed; trying again may help.
    #[error("object storage failed: {reason}")]
    Failed {
        /// For the log; no paths of the machine.
        reason: String,
    },
}

/// The bytes of an object, piece by piece.
pub trait ObjectBody: Send {
    /// The next piece; `None` at the end. Pieces are at most a few MiB. Not to be called again after an error.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<u8>>, ObjectError>>;
}

/// An object being read.
pub struct ObjectContent {
    /// Bytes that will come.
    pub size: u64,
    /// Tag of this content, without quotes.
    pub etag: Option<String>,
    /// Version read, where the storage has versions.
    pub version_id: Option<String>,
    /// The bytes.
    pub body: Box<dyn ObjectBody>,
}

impl fmt::Debug for ObjectContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectContent")
            .field("size", &self.size)
            .field("etag", &self.etag)
            .field("version_id", &self.version_id)
            .finish_non_exhaustive()
    }
}

/// Reads objects.
pub trait ObjectSource: fmt::Debug + Send + Sync {
    /// Starts to read an object.
    fn get<'a>(&'a self, location: &'a ObjectLocation) -> BoxFuture<'a, Result<ObjectContent, ObjectError>>;
}

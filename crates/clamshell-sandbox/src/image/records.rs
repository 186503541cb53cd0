//! What the store remembers beside its layers: which digest a name had when it was first asked for, and which layers came
//! out of a file that may be gone or changed by now.
//!
//! One small file per name below `names/`, replaced as a whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clamshell_domain::{Artifact, ObjectLocation};
use serde::{Deserialize, Serialize};

use super::{
    ImageError,
    oci::{Store, digest::Sha256},
    registry::Reference,
};

/// Largest record read; a full one has about 20 KiB.
const RECORD_BYTES_MAX: u64 = 1 << 20;
/// Earlier contents of a file that are remembered. A file that changes more often while sessions live on keeps only the
/// latest of them safe.
const USES_MAX: usize = 32;

/// What is known about one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The name, to be read by people.
    pub(super) name: String,
    /// What it named, the newest last.
    pub(super) uses: Vec<Use>,
}

/// What a name meant at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Use {
    /// `sha256:<hex>`.
    pub(super) digest: String,
    /// Names of layer folders, for files on this machine.
    #[serde(default)]
    pub(super) layers: Vec<String>,
}

/// The folder of records.
#[derive(Debug, Clone)]
pub(super) struct Records {
    folder: PathBuf,
    scratch: PathBuf,
}

impl Records {
    pub(super) fn new(images: &Path) -> Self {
        Self { folder: images.join("names"), scratch: images.join("names/.new") }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(Sha256::of(name.as_bytes()).hex())
    }

    /// What is known about a name; nothing if the file is damaged.
    pub(super) fn read(&self, name: &str) -> Option<Record> {
        let record = read(&self.path(name))?;
        (record.name == name).then_some(record)
    }

    /// Digest that a name had last.
    pub(super) fn digest(&self, name: &str) -> Option<String> {
        self.read(name)?.uses.pop().map(|last| last.digest)
    }

    /// Remembers what a name means now. Blocks.
    pub(super) fn add(&self, name: &str, newest: Use) -> Result<(), ImageError> {
        let mut record =
            self.read(name).unwrap_or_else(|| Record { name: name.to_owned(), uses: Vec::new() });
        if record.uses.last() == Some(&newest) {
            return Ok(());
        }
        record.uses.retain(|known| *known != newest);
        record.uses.push(newest);
        let surplus = record.uses.len().saturating_sub(USES_MAX);
        record.uses.drain(..surplus);
        let bytes = serde_json::to_vec(&record).map_err(|_| ImageError::malformed("record"))?;
        fs::create_dir_all(&self.folder).map_err(ImageError::io("writing a record"))?;
        write_durably(&self.scratch, &self.path(name), &bytes)
    }
}

/// A record by its file.
pub(super) fn read(path: &Path) -> Option<Record> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(RECORD_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Name under which an image of a registry is remembered.
pub(super) fn image_name(reference: &Reference) -> String {
    format!("image {reference}")
}

/// Name under which a zip is remembered.
pub(super) fn code_name(location: &ObjectLocation) -> String {
    let version = location.version_id.as_deref().unwrap_or_default();
    format!("code {:?} {:?} {version:?}", location.bucket, location.key)
}

/// Name under which the layers of a file or folder are remembered.
pub(super) fn file_name(path: &Path, reference: Option<&str>) -> String {
    format!("file {path:?} {reference:?}")
}

/// Name of an artifact that has one.
pub(super) fn name_of(artifact: &Artifact) -> Option<String> {
    match artifact {
        Artifact::Host | Artifact::Directory { .. } => None,
        Artifact::Oci { path, reference } => Some(file_name(path, reference.as_deref())),
        Artifact::Image { reference, .. } => Reference::parse(reference).ok().map(|name| image_name(&name)),
        Artifact::Code { location, .. } => Some(code_name(location)),
    }
}

/// Writes a small file as a whole or not at all. `scratch` is on the same file system; one writer at a time by the file's own
/// lock.
pub(super) fn write_durably(scratch: &Path, path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let doing = "writing a description";
    let unique =
        scratch.with_extension(format!("{:?}", std::thread::current().id()).replace(['(', ')'], "-"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(&unique).map_err(ImageError::io(doing))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(ImageError::io(doing))?;
    fs::rename(&unique, path).map_err(ImageError::io(doing))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(ImageError::io(doing))
}

/// Writes a manifest or configuration into the layout of the store. Its digest has been checked.
pub(super) fn write_blob(images: &Path, digest: &Sha256, bytes: &[u8]) -> Result<(), ImageError> {
    // Makes the folders, closed to others.
    Store::open(images)?;
    let blobs = images.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(ImageError::io("writing a description"))?;
    write_durably(&blobs.join("new"), &blobs.join(digest.hex()), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_meaning_of_a_name_counts() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::new(folder.path());
        assert_eq!(records.digest("a"), None);
        let meaning = |digest: &str| Use { digest: digest.to_owned(), layers: vec!["l".to_owned()] };
        for digest in ["1", "2", "2", "1"] {
            records.add("a", meaning(digest)).unwrap();
        }
        assert_eq!(records.digest("a").as_deref(), Some("1"));
        assert_eq!(records.read("a").unwrap().uses, [meaning("2"), meaning("1")]);
        assert_eq!(records.digest("b"), None);
        std::fs::write(records.path("a"), "{").unwrap();
        assert_eq!(records.digest("a"), None);
        for round in 0..USES_MAX + 5 {
            records.add("a", meaning(&round.to_string())).unwrap();
        }
        assert_eq!(records.read("a").unwrap().uses.len(), USES_MAX);
    }
}

//! Buckets and objects on disk.
//!
//! `objects/<bucket>/data/` mirrors the keys: a component `a` of a key is a folder `d-a` or, the last one, a file `f-a`, so
//! `a` and `a/b` may both exist and no component means anything to the file system. An object is one file: its bytes, then what is
//! known about it as JSON, then a mark with the length of that. It is written elsewhere, synced and renamed, so a key has the old object or the new one, whatever happens.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::{
    error::{Code, S3Error},
    sign::hex,
};

/// End of every object's file.
const MARK: &[u8; 4] = b"CSO1";
/// Bytes of mark and length.
const FOOT_BYTES: u64 = 8;
/// Longest description of an object; S3 takes 2 KiB of a user's own headers.
const META_BYTES_MAX: u64 = 64 << 10;
/// Longest key, as of S3.
const KEY_BYTES_MAX: usize = 1024;
/// Longest component of a key: the file system's 255 without our two letters.
const COMPONENT_BYTES_MAX: usize = 253;

/// What is known about an object beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// Without quotes.
    pub(crate) etag: String,
    /// Milliseconds since 1970.
    pub(crate) modified_ms: u64,
    /// Headers that come back with the object.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
}

/// An object, opened.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) file: File,
    pub(crate) size: u64,
    pub(crate) meta: Meta,
}

/// All buckets.
#[derive(Debug, Clone)]
pub(crate) struct Buckets {
    root: PathBuf,
}

/// A bucket that exists.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    root: PathBuf,
}

impl Buckets {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// A bucket by its name.
    pub(crate) fn open(&self, name: &str) -> Result<Bucket, S3Error> {
        check_name(name)?;
        let root = self.root.join(name);
        if !root.join("data").is_dir() {
            return Err(Code::NoSuchBucket.into());
        }
        Ok(Bucket { root })
    }

    /// Makes a bucket; `false` when it was there.
    pub(crate) fn create(&self, name: &str) -> Result<bool, S3Error> {
        check_name(name)?;
        if self.open(name).is_ok() {
            return Ok(false);
        }
        for folder in ["tmp", "uploads", "data"] {
            make_folder(&self.root.join(name).join(folder))?;
        }
        sync(&self.root)?;
        Ok(true)
    }

    /// Removes an empty bucket.
    pub(crate) fn remove(&self, name: &str) -> Result<(), S3Error> {
        let bucket = self.open(name)?;
        if super::list::first(&bucket, "")?.is_some() {
            return Err(Code::BucketNotEmpty.into());
        }
        // Empty folders may be left of keys that are gone; a file that comes meanwhile keeps its folder.
        remove_empty(&bucket.data())?;
        if bucket.data().exists() {
            return Err(Code::BucketNotEmpty.into());
        }
        fs::remove_dir_all(&bucket.root)?;
        sync(&self.root)?;
        Ok(())
    }

    /// Removes what a crash left half written, and uploads that nobody finished. Only while nobody writes.
    pub(crate) fn clean(&self, now_ms: u64) -> Result<(), S3Error> {
        for (name, _) in self.list()? {
            let bucket = self.open(&name)?;
            for entry in fs::read_dir(bucket.root.join("tmp"))? {
                fs::remove_file(entry?.path())?;
            }
            super::multipart::remove_abandoned(&bucket, now_ms)?;
        }
        Ok(())
    }

    /// Names and times of all buckets, by name.
    pub(crate) fn list(&self) -> Result<Vec<(String, u64)>, S3Error> {
        let mut found = Vec::new();
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if let Some(name) = entry.file_name().to_str()
                && self.open(name).is_ok()
            {
                found.push((name.to_owned(), changed_ms(&entry.path().join("uploads"))));
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

impl Bucket {
    pub(crate) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// A file for bytes that come in.
    pub(crate) fn incoming(&self) -> Result<Incoming, S3Error> {
        let path = self.root.join("tmp").join(uuid::Uuid::new_v4().simple().to_string());
        Incoming::create(path)
    }

    /// An object by its key.
    pub(crate) fn get(&self, key: &str) -> Result<Object, S3Error> {
        open_object(&self.path(key)?)?.ok_or_else(|| Code::NoSuchKey.into())
    }

    /// Removes an object; nothing happens when there is none.
    pub(crate) fn remove(&self, key: &str) -> Result<(), S3Error> {
        let path = self.path(key)?;
        match fs::remove_file(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            removed => removed?,
        }
        let data = self.data();
        let mut folder = path.parent();
        while let Some(empty) = folder.filter(|folder| *folder != data) {
            sync(empty)?;
            if fs::remove_dir(empty).is_err() {
                return Ok(());
            }
            folder = empty.parent();
        }
        sync(&data)?;
        Ok(())
    }

    /// Where an object lies.
    pub(crate) fn path(&self, key: &str) -> Result<PathBuf, S3Error> {
        if key.is_empty() || key.contains('\0') {
            return Err(Code::InvalidArgument.into());
        }
        if key.len() > KEY_BYTES_MAX || key.split('/').any(|component| component.len() > COMPONENT_BYTES_MAX)
        {
            return Err(Code::KeyTooLongError.into());
        }
        let (folders, last) =
            key.rsplit_once('/').map_or((None, key), |(folders, last)| (Some(folders), last));
        let mut path = self.data();
        for component in folders.into_iter().flat_map(|folders| folders.split('/')) {
            path.push(format!("d-{component}"));
        }
        path.push(format!("f-{last}"));
        Ok(path)
    }
}

/// Bytes on their way into an object. Dropped, it leaves nothing.
#[derive(Debug)]
pub(crate) struct Incoming {
    path: PathBuf,
    file: File,
    md5: Md5,
    pub(crate) length: u64,
}

impl Incoming {
    pub(crate) fn create(path: PathBuf) -> Result<Self, S3Error> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Self { path, file, md5: Md5::new(), length: 0 })
    }

    /// Appends bytes.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<(), S3Error> {
        self.file.write_all(bytes)?;
        self.md5.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Appends the bytes of a stored object, by the kernel where it can. The digest of them is the caller's business.
    pub(crate) fn add_object(&mut self, object: &mut Object) -> Result<(), S3Error> {
        use std::io::{Read, Seek, SeekFrom};
        object.file.seek(SeekFrom::Start(0))?;
        let copied = io::copy(&mut (&object.file).take(object.size), &mut self.file)?;
        if copied != object.size {
            return Err(Code::InternalError.into());
        }
        self.length += copied;
        Ok(())
    }

    /// MD5 of what was added.
    pub(crate) fn md5(&self) -> [u8; 16] {
        self.md5.clone().finalize().into()
    }

    /// Writes the description and gives the object its name. With `is_new`, only if the name is free.
    pub(crate) fn finish(mut self, meta: &Meta, path: &Path, is_new: bool) -> Result<(), S3Error> {
        let text = serde_json::to_vec(meta).map_err(io::Error::from)?;
        let length = u32::try_from(text.len()).ok().filter(|length| u64::from(*length) <= META_BYTES_MAX);
        let length = length.ok_or(Code::MetadataTooLarge)?;
        self.file.write_all(&text)?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(MARK)?;
        self.file.sync_all()?;
        let parent = path.parent().ok_or(Code::InternalError)?;
        // A folder that was empty may go between its making and the renaming; not five times.
        for attempt in 0..5 {
            let is_made = make_folder(parent)?;
            let renamed = if is_new {
                let cwd = rustix::fs::CWD;
                let flags = rustix::fs::RenameFlags::NOREPLACE;
                rustix::fs::renameat_with(cwd, &self.path, cwd, path, flags).map_err(io::Error::from)
            } else {
                fs::rename(&self.path, path)
            };
            match renamed {
                Ok(()) => {
                    sync(parent)?;
                    let above = parent.ancestors().skip(1).take_while(|folder| !folder.ends_with("objects"));
                    return if is_made {
                        above.into_iter().try_for_each(sync).map_err(S3Error::from)
                    } else {
                        Ok(())
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < 4 => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(Code::PreconditionFailed.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Code::InternalError.into())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // After the renaming it is not there any more.
        let _ = fs::remove_file(&self.path);
    }
}

/// Opens an object's file; `None` when there is none.
pub(crate) fn open_object(path: &Path) -> Result<Option<Object>, S3Error> {
    let mut options = OpenOptions::new();
    let file =
        match options.read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()).open(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            file => file?,
        };
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "an object has no description");
    let length = file.metadata()?.len();
    let foot_at = length.checked_sub(FOOT_BYTES).ok_or_else(damaged)?;
    let mut foot = [0; 8];
    file.read_exact_at(&mut foot, foot_at)?;
    let [a, b, c, d, mark @ ..] = foot;
    let text_length = u64::from(u32::from_le_bytes([a, b, c, d]));
    let size = foot_at.checked_sub(text_length).filter(|_| text_length <= META_BYTES_MAX && mark == *MARK);
    let size = size.ok_or_else(damaged)?;
    let mut text = vec![0; usize::try_from(text_length).unwrap_or(0)];
    file.read_exact_at(&mut text, size)?;
    let meta = serde_json::from_slice(&text).map_err(io::Error::from)?;
    Ok(Some(Object { file, size, meta }))
}

/// The tag of an object made of parts with these digests.
pub(crate) fn tag_of_parts(digests: &[[u8; 16]]) -> String {
    let mut all = Md5::new();
    for digest in digests {
        all.update(digest);
    }
    format!("{}-{}", hex(all.finalize().as_slice()), digests.len())
}

/// Makes a folder and those above it, closed to others. Whether it was not there.
pub(crate) fn make_folder(path: &Path) -> Result<bool, S3Error> {
    if path.is_dir() {
        return Ok(false);
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    Ok(true)
}

pub(crate) fn sync(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        // It went meanwhile, and with it what was to be kept.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        folder => folder?.sync_all(),
    }
}

fn remove_empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_empty(&entry.path())?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => removed,
    }
}

fn changed_ms(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let seconds = fs::metadata(path).map(|found| found.mtime()).unwrap_or(0);
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)
}

/// Rules of S3 for bucket names; they make a name safe as that of a folder.
fn check_name(name: &str) -> Result<(), S3Error> {
    let is_end = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let is_good = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| is_end(*byte) || matches!(byte, b'.' | b'-'))
        && bytes.first().copied().is_some_and(is_end)
        && bytes.last().copied().is_some_and(is_end)
        && !name.contains("..");
    if is_good { Ok(()) } else { Err(Code::InvalidBucketName.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_replaced_as_a_whole_and_leave_no_folders() {
        let folder = tempfile::tempdir().unwrap();
        let buckets = Buckets::new(folder.path().join("objects"));
        assert!(buckets.create("one").unwrap() && !buckets.create("one").unwrap());
        let bucket = buckets.open("one").unwrap();
        let put = |key: &str, bytes: &[u8], is_new| {
            let mut incoming = bucket.incoming().unwrap();
            incoming.add(bytes).unwrap();
            incoming.finish(&Meta { etag: "e".into(), ..Meta::default() }, &bucket.path(key).unwrap(), is_new)
        };
        for key in ["a", "a/b", "a//b", "a/", "../x", ".", "%2F", "ü"] {
            put(key, key.as_bytes(), false).unwrap();
            assert_eq!(put(key, b"", true).unwrap_err().code, Code::PreconditionFailed);
        }
        put("a", b"longer than before", false).unwrap();
        assert_eq!(bucket.get("a").unwrap().size, 18);
        assert_eq!(bucket.get("a/b").unwrap().size, 3);
        assert_eq!(bucket.get("a/c").unwrap_err().code, Code::NoSuchKey);
        assert_eq!(bucket.get("a/b/c").unwrap_err().code, Code::NoSuchKey);
        assert_eq!(buckets.remove("one").unwrap_err().code, Code::BucketNotEmpty);
        for key in ["a", "a/b", "a//b", "a/", "../x", ".", "%2F", "ü", "never"] {
            bucket.remove(key).unwrap();
        }
        drop(bucket.incoming().unwrap());
        assert_eq!(fs::read_dir(bucket.data()).unwrap().count(), 0);
        // As a crash leaves it.
        fs::write(folder.path().join("objects/one/tmp/half"), "x").unwrap();
        buckets.clean(0).unwrap();
        assert_eq!(fs::read_dir(folder.path().join("objects/one/tmp")).unwrap().count(), 0);
        assert_eq!(buckets.list().unwrap().len(), 1);
        buckets.remove("one").unwrap();
        assert_eq!(buckets.open("one").unwrap_err().code, Code::NoSuchBucket);
    }

    #[test]
    fn names_cannot_lead_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let buckets = Buckets::new(folder.path().to_owned());
        for name in ["..", "a/b", "A-b", "ab", "-ab", "ab-", "a..b", "", "a\0b", &"a".repeat(64)] {
            assert_eq!(buckets.create(name).unwrap_err().code, Code::InvalidBucketName, "{name}");
        }
        buckets.create("abc").unwrap();
        let bucket = buckets.open("abc").unwrap();
        let code = |key: &str| bucket.path(key).unwrap_err().code;
        assert_eq!((code(""), code("a\0b")), (Code::InvalidArgument, Code::InvalidArgument));
        assert_eq!(
            (code(&"a".repeat(254)), code(&"a/".repeat(600))),
            (Code::KeyTooLongError, Code::KeyTooLongError)
        );
        fs::write(bucket.path("damaged").unwrap(), "short").unwrap();
        assert_eq!(bucket.get("damaged").unwrap_err().code, Code::InternalError);
    }
}

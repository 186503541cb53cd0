//! Copies of prefixes of buckets, which sessions show read-only.
//!
//! There is one copy per prefix, shared by all sessions that show it, and brought up to date when one of them starts: what
//! is gone is removed, what is new or has another tag is fetched. A file is replaced as a whole, so whoever reads it goes on
//! reading the old one. A copy that takes longer than its session can wait goes on, and the next session finds more of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use aws_lc_rs::digest;
use clamshell_domain::{Clock, ObjectContent, ObjectError, ObjectLocation, ObjectSource};
use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use super::CopyError;
use crate::objects::{Listed, Objects};

/// Files of a prefix; their names and tags then take some ten MiB of memory while they are looked through.
pub(super) const FILES_MAX: usize = 100_000;

/// Bytes of a prefix, as many as a session's scratch space.
pub(super) const BYTES_MAX: u64 = 10 << 30;

/// Objects fetched at once: enough to fill a link, and few enough for any server.
pub(super) const FETCH_AT_ONCE: usize = 8;

/// A copy that is so young is shown as it is: sessions that start together look at a bucket once.
pub(super) const FRESH_MS: u64 = 5_000;

/// Tag and size of each file of a copy, by its key below the prefix.
type Index = BTreeMap<String, Entry>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    etag: String,
    size: u64,
}

/// All copies.
pub(super) struct Copies {
    root: PathBuf,
    objects: Objects,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    /// When each was looked at last, milliseconds since 1970; its lock is held by whoever brings it up to date. There is
    /// one per access point of the configuration.
    looked: std::sync::Mutex<HashMap<PathBuf, Arc<Mutex<u64>>>>,
}

impl Copies {
    pub(super) fn new(root: PathBuf, objects: Objects, clock: Arc<dyn Clock>, tasks: TaskTracker) -> Self {
        Self { root, objects, clock, tasks, looked: std::sync::Mutex::default() }
    }

    /// Brings the copy of a prefix up to date; its folder.
    pub(super) async fn fresh(self: &Arc<Self>, bucket: &str, prefix: &str) -> Result<PathBuf, CopyError> {
        let folder = self.root.join(name(bucket, prefix));
        let looked = {
            let mut all = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(folder.clone()).or_default())
        };
        let (this, bucket, prefix) = (Arc::clone(self), bucket.to_owned(), prefix.to_owned());
        // In a task of its own, so that it goes on when the session gives up.
        let copied = self.tasks.spawn(async move {
            let mut looked = looked.lock().await;
            let now_ms = this.clock.now_ms();
            if now_ms >= looked.saturating_add(FRESH_MS) || now_ms < *looked {
                this.update(&folder, &bucket, &prefix).await?;
                *looked = this.clock.now_ms();
            }
            Ok(folder.join("files"))
        });
        copied.await.unwrap_or(Err(CopyError::Ended))
    }

    /// Removes, in a task of its own, copies of other prefixes than these.
    pub(super) fn keep_only(self: &Arc<Self>, prefixes: &[(&str, &str)]) {
        let kept: BTreeSet<String> = prefixes.iter().map(|(bucket, prefix)| name(bucket, prefix)).collect();
        let root = self.root.clone();
        self.tasks.spawn(async move {
            match blocking(move || remove_others(&root, &kept)).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "copies that no access point shows any more were removed"),
                Err(error) => tracing::warn!(%error, "copies that no access point shows any more stay"),
            }
        });
    }

    async fn update(&self, folder: &Path, bucket: &str, prefix: &str) -> Result<(), CopyError> {
        let listed = self.objects.list(bucket, prefix, FILES_MAX + 1).await?;
        if listed.len() > FILES_MAX {
            return Err(CopyError::TooLarge { most: "100,000 objects" });
        }
        if listed.iter().fold(0_u64, |sum, one| sum.saturating_add(one.size)) > BYTES_MAX {
            return Err(CopyError::TooLarge { most: "10 GiB" });
        }
        let (at, below) = (folder.to_owned(), prefix.to_owned());
        let (index, missing) = blocking(move || prepare(&at, listed, &below)).await?;
        let index = std::sync::Mutex::new(index);
        let number = AtomicU64::new(0);
        let fetched: Result<(), CopyError> = futures_util::stream::iter(missing)
            .map(|(key, entry)| {
                let (index, number) = (&index, &number);
                async move {
                    let new = folder.join(format!("new-{}", number.fetch_add(1, Ordering::Relaxed)));
                    let entry = self.fetch(folder, new, bucket, prefix, &key, entry).await?;
                    if let Some(entry) = entry {
                        index.lock().unwrap_or_else(PoisonError::into_inner).insert(key, entry);
                    }
                    Ok(())
                }
            })
            .buffer_unordered(FETCH_AT_ONCE)
            .try_collect()
            .await;
        // What was fetched before a failure need not be fetched again.
        let index = index.into_inner().unwrap_or_else(PoisonError::into_inner);
        let at = folder.to_owned();
        blocking(move || write_index(&at, &index)).await?;
        fetched
    }

    /// Fetches one object to its place; `None` when it is gone, or has no place.
    async fn fetch(
        &self,
        folder: &Path,
        new: PathBuf,
        bucket: &str,
        prefix: &str,
        key: &str,
        entry: Entry,
    ) -> Result<Option<Entry>, CopyError> {
        let location =
            ObjectLocation { bucket: bucket.to_owned(), key: format!("{prefix}{key}"), version_id: None };
        let mut content = match self.objects.get(&location).await {
            Ok(content) => content,
            Err(ObjectError::NoSuchObject { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o644);
        let path = new.clone();
        let file = blocking(move || options.open(path)).await?;
        receive(&mut content, file, key).await?;
        let target = folder.join("files").join(key);
        let placed = blocking(move || {
            if let Some(parent) = target.parent() {
                open_folder(parent)?;
            }
            fs::rename(&new, &target).inspect_err(|_| {
                let _ = fs::remove_file(&new);
            })
        })
        .await;
        match placed {
            Ok(()) => Ok(Some(Entry { etag: content.etag.unwrap_or(entry.etag), size: content.size })),
            // Keys `a` and `a/b` cannot both be files.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists | io::ErrorKind::IsADirectory
                ) =>
            {
                tracing::warn!(
                    bucket,
                    key = location.key,
                    "object is left out of a copy: another one has its place"
                );
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Name of the folder of a copy.
pub(super) fn name(bucket: &str, prefix: &str) -> String {
    let digest = digest::digest(&digest::SHA256, format!("{bucket}/{prefix}").as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Removes all folders with other names than these; how many.
fn remove_others(root: &Path, kept: &BTreeSet<String>) -> io::Result<usize> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut count = 0;
    for entry in entries {
        let entry = entry?;
        // Working folders may have what is nowhere else.
        if entry.file_name().to_str().is_some_and(|name| kept.contains(name) || name.starts_with("rw-")) {
            continue;
        }
        fs::remove_dir_all(entry.path())?;
        count += 1;
    }
    Ok(count)
}

/// Removes what is not listed any more; what is left, and what is to be fetched.
fn prepare(folder: &Path, listed: Vec<Listed>, prefix: &str) -> io::Result<(Index, Vec<(String, Entry)>)> {
    let files = folder.join("files");
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    open_folder(&files)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("new-") {
            fs::remove_file(entry.path())?;
        }
    }
    let old = read_index(folder);
    let mut wanted = Index::new();
    let mut left_out = 0_usize;
    for Listed { key, size, etag } in listed {
        let Some(below) = key.strip_prefix(prefix).filter(|below| !below.is_empty()) else { continue };
        match below.strip_suffix('/') {
            Some(name) if is_path(name) => open_folder(&files.join(name))?,
            None if is_path(below) => {
                wanted.insert(below.to_owned(), Entry { etag, size });
            }
            _ => left_out += 1,
        }
    }
    if left_out > 0 {
        tracing::warn!(left_out, prefix, "objects whose keys are no paths are left out of a copy");
    }
    let mut kept = Index::new();
    for (key, entry) in old {
        if wanted.get(&key) == Some(&entry)
            && fs::symlink_metadata(files.join(&key)).is_ok_and(|found| found.is_file())
        {
            wanted.remove(&key);
            kept.insert(key, entry);
        } else if !wanted.contains_key(&key) {
            remove(&files, &key)?;
        }
    }
    Ok((kept, wanted.into_iter().collect()))
}

/// Removes a file and the folders that are empty without it.
fn remove(files: &Path, key: &str) -> io::Result<()> {
    let path = files.join(key);
    match fs::remove_file(&path) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Err(error);
        }
        Ok(()) | Err(_) => {}
    }
    let above = path.ancestors().skip(1).take_while(|folder| *folder != files);
    for folder in above {
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(())
}

/// Whether a key can be a path below the copy's folder. Our own files are the only ones in there, so no link leads out.
pub(super) fn is_path(key: &str) -> bool {
    key.len() < 4_000
        && key
            .split('/')
            .all(|part| !matches!(part, "" | "." | "..") && part.len() <= 255 && !part.contains('\0'))
}

/// Makes a folder that everybody may read; the one above all copies is closed.
fn open_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn read_index(folder: &Path) -> Index {
    let text = fs::read(folder.join("index.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn write_index(folder: &Path, index: &Index) -> io::Result<()> {
    let new = folder.join("index.json.new");
    fs::write(&new, serde_json::to_vec(index)?)?;
    fs::rename(new, folder.join("index.json"))
}

/// Writes the whole of an object into a file.
pub(super) async fn receive(
    content: &mut ObjectContent,
    mut file: File,
    key: &str,
) -> Result<File, CopyError> {
    let mut length = 0_u64;
    while let Some(bytes) = content.body.next().await? {
        length = length.saturating_add(bytes.len() as u64);
        // It may have grown since it was listed, and must not grow without end.
        if length > BYTES_MAX {
            return Err(CopyError::TooLarge { most: "10 GiB" });
        }
        file = blocking(move || file.write_all(&bytes).map(|()| file)).await?;
    }
    if length != content.size {
        let reason = format!("{key} ended after {length} bytes of {}", content.size);
        return Err(ObjectError::Failed { reason }.into());
    }
    Ok(file)
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(entries: &[(&str, &str)]) -> Vec<Listed> {
        let one = |(key, etag): &(&str, &str)| Listed { key: (*key).into(), size: 1, etag: (*etag).into() };
        entries.iter().map(one).collect()
    }

    fn entry(etag: &str) -> Entry {
        Entry { etag: etag.into(), size: 1 }
    }

    #[test]
    fn only_what_changed_is_fetched_and_what_is_gone_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let first = listed(&[("p/a", "1"), ("p/b/c", "1"), ("p/d/e", "1"), ("p/", "0"), ("p/empty/", "0")]);
        let (kept, missing) = prepare(at, first, "p/").unwrap();
        assert!(kept.is_empty() && at.join("files/empty").is_dir());
        let mut index = Index::new();
        for (key, entry) in missing {
            let path = at.join("files").join(&key);
            open_folder(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
            index.insert(key, entry);
        }
        assert_eq!(index.keys().collect::<Vec<_>>(), ["a", "b/c", "d/e"]);
        write_index(at, &index).unwrap();
        fs::write(at.join("new-7"), "left over").unwrap();

        let (kept, missing) =
            prepare(at, listed(&[("p/a", "1"), ("p/b/c", "2"), ("p/f", "1")]), "p/").unwrap();
        assert_eq!(kept, Index::from([("a".to_owned(), entry("1"))]));
        assert_eq!(missing, [("b/c".to_owned(), entry("2")), ("f".to_owned(), entry("1"))]);
        assert!(!at.join("files/d").exists() && at.join("files/b/c").exists() && !at.join("new-7").exists());
    }

    #[test]
    fn copies_of_other_prefixes_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path().join("copies");
        let kept = BTreeSet::from([name("bucket", "a/")]);
        assert_eq!(remove_others(&at, &kept).unwrap(), 0, "there is none at all");
        let working = format!("rw-{}", name("other", "a/"));
        for folder in [name("bucket", "a/"), name("bucket", "b/"), name("other", "a/"), working.clone()] {
            open_folder(&at.join(&folder).join("files/deep")).unwrap();
            fs::write(at.join(folder).join("files/deep/file"), "x").unwrap();
        }
        assert_eq!(remove_others(&at, &kept).unwrap(), 2);
        let left: BTreeSet<_> = fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [name("bucket", "a/"), working].map(std::ffi::OsString::from).into());
        assert!(at.join(name("bucket", "a/")).join("files/deep/file").exists());
    }

    #[test]
    fn keys_that_are_no_paths_are_left_out() {
        let check = |key: &str, expect| assert_eq!(is_path(key), expect, "{key}");
        check("a", true);
        check("a/b c/ä", true);
        for key in ["", "/a", "a//b", "a/../b", "..", "./a", "a/.", "a\0b", &"x".repeat(256)] {
            check(key, false);
        }
        let folder = tempfile::tempdir().unwrap();
        let hostile = listed(&[("../../etc/cron.d/x", "1"), ("a/../../b", "1"), ("../", "0"), ("fine", "1")]);
        let (_, missing) = prepare(folder.path(), hostile, "").unwrap();
        assert_eq!(missing, [("fine".to_owned(), entry("1"))]);
    }
}

//! The files of a working folder, which hostile programs change while they are looked at: each is reached from an opened
//! folder, and no link is followed anywhere.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use clamshell_domain::IdRange;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use serde::{Deserialize, Serialize};

use crate::objects::WRITTEN_BYTES_MAX;

/// Longest key of S3, bytes.
const KEY_BYTES_MAX: usize = 1024;
/// Longest part of a key between two slashes that this server's own buckets take.
const COMPONENT_BYTES_MAX: usize = 253;
/// Names that a line of a log may have: enough to see what is wrong.
const NAMES_MAX: usize = 5;
/// The agent's user in a sandbox.
const AGENT: u32 = 1000;

/// What a file was like; another one, or other bytes, is not the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stat {
    pub(super) size: u64,
    pub(super) modified_s: i64,
    pub(super) modified_ns: i64,
    pub(super) inode: u64,
}

impl Stat {
    pub(super) fn of(found: &fs::Metadata) -> Self {
        let (modified_s, modified_ns) = (found.mtime(), found.mtime_nsec());
        Self { size: found.len(), modified_s, modified_ns, inode: found.ino() }
    }
}

/// What is known of an object that the folder has had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Tag of the object when we read or wrote it last.
    pub(super) etag: String,
    /// Its file then; `None` when it changed meanwhile.
    pub(super) stat: Option<Stat>,
}

/// What is known of all of them, by their keys below the prefix.
pub(super) type Manifest = BTreeMap<String, Entry>;

/// What a folder has now.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) files: BTreeMap<String, Stat>,
    /// Names of a few that cannot be objects, and how many there are.
    pub(super) unfit: Vec<String>,
    pub(super) unfit_count: usize,
    pub(super) bytes: u64,
}

/// Opens something below a folder; neither `..` nor a link nor a mount leads out.
pub(super) fn open(root: &File, path: &str, flags: OFlags) -> io::Result<File> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let path = if path.is_empty() { "." } else { path };
    Ok(rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?.into())
}

/// Opens a regular file to read it.
pub(super) fn open_file(root: &File, key: &str) -> io::Result<(File, Stat)> {
    // Without waiting for whoever might write into a pipe.
    let file = open(root, key, OFlags::RDONLY | OFlags::NONBLOCK)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok((file, Stat::of(&found)))
}

/// Looks at all files, `most` at most; `prefix_bytes` stand before each key.
pub(super) fn scan(root: &File, prefix_bytes: usize, most: usize) -> io::Result<Scan> {
    let mut scan = Scan::default();
    let mut pending = vec![String::new()];
    while let Some(folder) = pending.pop() {
        let opened = open(root, folder.trim_end_matches('/'), OFlags::RDONLY | OFlags::DIRECTORY);
        let entries = match opened.and_then(|opened| Ok(rustix::fs::Dir::new(opened)?)) {
            Ok(entries) => entries,
            Err(error) if folder.is_empty() => return Err(error),
            Err(_) => {
                scan.leave(&folder);
                continue;
            }
        };
        for entry in entries {
            let Ok(entry) = entry else { break };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let fit = name.to_str().ok().filter(|name| {
                name.len() <= COMPONENT_BYTES_MAX
                    && prefix_bytes + folder.len() + name.len() < KEY_BYTES_MAX
                    && !name.chars().any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
            });
            let Some(name) = fit else {
                scan.leave(&format!("{folder}{}", name.to_string_lossy()));
                continue;
            };
            let key = format!("{folder}{name}");
            let found = open(root, &key, OFlags::PATH).and_then(|found| found.metadata());
            match found {
                Ok(found) if found.is_dir() => pending.push(format!("{key}/")),
                Ok(found) if found.is_file() && found.len() <= WRITTEN_BYTES_MAX => {
                    scan.bytes = scan.bytes.saturating_add(found.len());
                    scan.files.insert(key, Stat::of(&found));
                    if scan.files.len() >= most {
                        return Ok(scan);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(_) | Err(_) => scan.leave(&key),
            }
            // Folders cost inodes, but not the limit of files.
            if pending.len() > most {
                return Ok(scan);
            }
        }
    }
    Ok(scan)
}

impl Scan {
    fn leave(&mut self, name: &str) {
        self.unfit_count += 1;
        if self.unfit.len() < NAMES_MAX {
            // Quoted, so that it is one line whatever it is.
            self.unfit.push(format!("{:?}", name.chars().take(100).collect::<String>()));
        }
    }
}

/// Whether a key is short enough.
pub(super) fn is_fit(key: &str) -> bool {
    key.len() <= KEY_BYTES_MAX && key.split('/').all(|part| part.len() <= COMPONENT_BYTES_MAX)
}

/// Whether there is nothing of this name, of no kind.
pub(super) fn is_gone(root: &File, key: &str) -> bool {
    let found = open(root, key, OFlags::PATH | OFlags::NOFOLLOW);
    found.is_err_and(|error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory))
}

/// Gives a file of `staging` its place when what is there now is `expected`; whether it did.
pub(super) fn place(
    staging: &File,
    new: &str,
    root: &File,
    key: &str,
    expected: Option<&Stat>,
) -> io::Result<bool> {
    let placed = try_place(staging, new, root, key, expected);
    // Either it was taken back, or it is what was there before.
    let _ = rustix::fs::unlinkat(staging, new, AtFlags::empty());
    settle(placed)
}

fn try_place(staging: &File, new: &str, root: &File, key: &str, expected: Option<&Stat>) -> io::Result<bool> {
    let (folders, name) = key.rsplit_once('/').unwrap_or(("", key));
    let parent = make_folders(root, folders)?;
    let Some(expected) = expected else {
        rustix::fs::renameat_with(staging, new, &parent, name, RenameFlags::NOREPLACE)?;
        return Ok(true);
    };
    rustix::fs::renameat_with(staging, new, &parent, name, RenameFlags::EXCHANGE)?;
    if is_as(staging, new, expected) {
        return Ok(true);
    }
    // Somebody was faster, and theirs is newer.
    if rustix::fs::renameat_with(staging, new, &parent, name, RenameFlags::EXCHANGE).is_err() {
        rustix::fs::renameat_with(staging, new, &parent, name, RenameFlags::NOREPLACE)?;
    }
    Ok(false)
}

/// Removes a file that is `expected`, and the folders that are empty without it; whether it did.
pub(super) fn remove(staging: &File, root: &File, key: &str, expected: &Stat) -> io::Result<bool> {
    settle(try_remove(staging, root, key, expected))
}

fn try_remove(staging: &File, root: &File, key: &str, expected: &Stat) -> io::Result<bool> {
    const OLD: &str = "new-removed";
    let (mut folders, name) = key.rsplit_once('/').unwrap_or(("", key));
    let parent = open(root, folders, OFlags::RDONLY | OFlags::DIRECTORY)?;
    rustix::fs::renameat(&parent, name, staging, OLD)?;
    if !is_as(staging, OLD, expected) {
        rustix::fs::renameat_with(staging, OLD, &parent, name, RenameFlags::NOREPLACE)?;
        return Ok(false);
    }
    rustix::fs::unlinkat(staging, OLD, AtFlags::empty())?;
    while !folders.is_empty() {
        let (above, name) = folders.rsplit_once('/').unwrap_or(("", folders));
        let Ok(parent) = open(root, above, OFlags::RDONLY | OFlags::DIRECTORY) else { break };
        if rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).is_err() {
            break;
        }
        folders = above;
    }
    Ok(true)
}

fn is_as(folder: &File, name: &str, expected: &Stat) -> bool {
    let found = open(folder, name, OFlags::PATH | OFlags::NOFOLLOW).and_then(|found| found.metadata());
    found.is_ok_and(|found| found.is_file() && Stat::of(&found) == *expected)
}

/// What stands in the way is a session's business; the rest is the disk's.
fn settle(done: io::Result<bool>) -> io::Result<bool> {
    match done {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::IsADirectory
                    | io::ErrorKind::AlreadyExists
                    | io::ErrorKind::DirectoryNotEmpty
            ) || [rustix::io::Errno::LOOP, rustix::io::Errno::XDEV]
                .iter()
                .any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) =>
        {
            Ok(false)
        }
        done => done,
    }
}

/// Makes folders below another, and opens the last of them.
pub(super) fn make_folders(root: &File, path: &str) -> io::Result<File> {
    let mut folder = open(root, "", OFlags::RDONLY | OFlags::DIRECTORY)?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let is_made = match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            Err(rustix::io::Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        folder = open(&folder, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
        if is_made {
            give(&folder, 0o755)?;
        }
    }
    Ok(folder)
}

/// Gives a file or folder to the agents of all sessions.
pub(super) fn give(file: &File, mode: u32) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        // No user of the machine has this id, and the sandboxes' mounts map it to their agent.
        let owner = IdRange::SHARED_BASE + AGENT;
        std::os::unix::fs::fchown(file, Some(owner), Some(owner))
    } else {
        // No ids are mapped then; the folder above all copies is closed to others.
        let mode = if mode & 0o111 == 0 { 0o666 } else { 0o777 };
        file.set_permissions(fs::Permissions::from_mode(mode))
    }
}

pub(super) fn read_manifest(folder: &Path) -> Manifest {
    let text = fs::read(folder.join("manifest.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

pub(super) fn write_manifest(folder: &Path, manifest: &Manifest) -> io::Result<()> {
    let new = folder.join("manifest.json.new");
    fs::write(&new, serde_json::to_vec(manifest)?)?;
    File::open(&new)?.sync_all()?;
    fs::rename(new, folder.join("manifest.json"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::{ffi::OsStrExt, fs::symlink};

    use super::*;

    fn keys(scan: &Scan) -> Vec<&str> {
        scan.files.keys().map(String::as_str).collect()
    }

    #[test]
    fn what_cannot_be_an_object_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        fs::create_dir_all(at.join("a/b")).unwrap();
        fs::write(at.join("a/b/c d"), "12").unwrap();
        symlink("/etc/passwd", at.join("link")).unwrap();
        symlink("/etc", at.join("a/folder")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at.join("pipe"), Mode::from_raw_mode(0o600)).unwrap();
        fs::write(at.join(std::ffi::OsStr::from_bytes(b"\xff")), "1").unwrap();
        fs::write(at.join("two\nlines"), "1").unwrap();
        fs::write(at.join("x".repeat(254)), "1").unwrap();
        let root = File::open(at).unwrap();
        let found = scan(&root, 0, 10).unwrap();
        assert_eq!((keys(&found), found.unfit_count, found.bytes), (vec!["a/b/c d"], 6, 2));
        assert!(found.unfit.iter().all(|name| !name.contains('\n')) && found.unfit.len() == NAMES_MAX);
        assert_eq!(scan(&root, KEY_BYTES_MAX - 3, 10).unwrap().files.len(), 0, "the key is too long");
        assert!(open_file(&root, "link").is_err() && open_file(&root, "pipe").is_err());
        assert!(open_file(&root, "a/folder/passwd").is_err() && open_file(&root, "../x").is_err());
        assert!(is_gone(&root, "none") && is_gone(&root, "a/b/c d/e") && !is_gone(&root, "link"));
    }

    #[test]
    fn a_file_that_changed_keeps_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let (staging, at) = (File::open(folder.path()).unwrap(), folder.path().join("files"));
        fs::create_dir(&at).unwrap();
        let root = File::open(&at).unwrap();
        let new = |text: &str| fs::write(folder.path().join("new-1"), text).unwrap();
        let read = |key: &str| fs::read_to_string(at.join(key)).unwrap();
        new("first");
        assert!(place(&staging, "new-1", &root, "a/b", None).unwrap());
        let known = open_file(&root, "a/b").unwrap().1;
        new("unasked");
        assert!(!place(&staging, "new-1", &root, "a/b", None).unwrap());
        assert_eq!(read("a/b"), "first");
        new("second");
        assert!(place(&staging, "new-1", &root, "a/b", Some(&known)).unwrap());
        assert_eq!(read("a/b"), "second");
        new("third");
        assert!(!place(&staging, "new-1", &root, "a/b", Some(&known)).unwrap());
        assert!(!remove(&staging, &root, "a/b", &known).unwrap());
        assert_eq!(read("a/b"), "second");
        symlink("/tmp", at.join("out")).unwrap();
        new("out");
        assert!(!place(&staging, "new-1", &root, "out/x", None).unwrap());
        let known = open_file(&root, "a/b").unwrap().1;
        assert!(remove(&staging, &root, "a/b", &known).unwrap());
        assert!(!at.join("a").exists() && !folder.path().join("new-1").exists());
    }
}

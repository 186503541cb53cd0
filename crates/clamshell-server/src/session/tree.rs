//! How much a tree takes on disk whose owner may be changing it meanwhile, and may mean harm.
//!
//! No link is followed, not even one that takes the place of a folder between two steps. Time and memory are
//! bounded: what is beyond the bounds is left out, and the answer says so. Files that have no name any more but are
//! still open are not found.

use std::{
    collections::HashSet,
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, statat},
    io::Errno,
};

/// Names of folders still to be looked into, bytes; without a bound a deep and wide tree costs gigabytes of memory.
const PENDING_BYTES_MAX: usize = 16 << 20;

/// What was found out about a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tree {
    /// Bytes on disk of what was counted; a file with many names counts once.
    pub(crate) bytes: u64,
    /// There are more entries than the caller's bound, or so many levels that some cannot be reached.
    pub(crate) too_large: bool,
    /// Some folders are closed to this process.
    pub(crate) closed: bool,
}

impl Tree {
    /// Its size, if that is all of it.
    pub(crate) fn whole(self) -> Option<u64> {
        (!self.too_large && !self.closed).then_some(self.bytes)
    }
}

/// Measures a folder; `None` when it is none, or cannot be opened.
pub(crate) fn measure(root: &Path, entries_max: usize) -> Option<Tree> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty()).ok()?;
    let mut walk = Walk { entries_left: entries_max, ..Walk::default() };
    walk.folder(&root, Path::new("."));
    while let Some(folder) = walk.pending.pop() {
        walk.pending_bytes -= folder.as_os_str().len();
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(&root, &folder, flags, Mode::empty(), beneath) {
            Ok(opened) => walk.folder(&opened, &folder),
            Err(Errno::ACCESS | Errno::PERM) => walk.tree.closed = true,
            Err(Errno::NAMETOOLONG) => walk.tree.too_large = true,
            // It went away, or something else took its place.
            Err(_) => {}
        }
        if walk.entries_left == 0 {
            break;
        }
    }
    Some(walk.tree)
}

#[derive(Default)]
struct Walk {
    tree: Tree,
    entries_left: usize,
    pending: Vec<PathBuf>,
    pending_bytes: usize,
    /// Device and number of files with several names.
    seen: HashSet<(u64, u64)>,
}

impl Walk {
    fn folder(&mut self, opened: &OwnedFd, path: &Path) {
        let Ok(entries) = Dir::read_from(opened) else {
            self.tree.closed = true;
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            if self.entries_left == 0 {
                self.tree.too_large = true;
                return;
            }
            self.entries_left -= 1;
            let Ok(stat) = statat(opened, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if !folder && stat.st_nlink > 1 && !self.seen.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
            let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
            self.tree.bytes = self.tree.bytes.saturating_add(blocks.saturating_mul(512));
            if folder {
                let path = path.join(OsStr::from_bytes(name.to_bytes()));
                let bytes = path.as_os_str().len();
                if self.pending_bytes + bytes > PENDING_BYTES_MAX {
                    self.tree.too_large = true;
                    continue;
                }
                self.pending_bytes += bytes;
                self.pending.push(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_not_followed_and_files_count_once() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
        std::fs::create_dir_all(inside.join("deep/er")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(inside.join("deep/er/file"), vec![1; 100_000]).unwrap();
        let before = measure(&inside, 100).unwrap().whole().unwrap();
        assert!(before >= 100_000, "{before}");
        std::fs::write(outside.join("large"), vec![1; 10_000_000]).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("deep/link")).unwrap();
        std::fs::hard_link(inside.join("deep/er/file"), inside.join("again")).unwrap();
        assert!(measure(&inside, 100).unwrap().bytes < before + 50_000);
        std::os::unix::fs::symlink(&outside, folder.path().join("link")).unwrap();
        assert_eq!(measure(&folder.path().join("link"), 100), None);
        assert_eq!(measure(&folder.path().join("nothing"), 100), None);
    }

    #[test]
    fn a_tree_beyond_the_bound_says_so() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c", "d"] {
            std::fs::write(folder.path().join(name), vec![1; 10_000]).unwrap();
        }
        let all = measure(folder.path(), 4).unwrap();
        assert_eq!(all.whole(), Some(all.bytes));
        let part = measure(folder.path(), 3).unwrap();
        assert_eq!((part.too_large, part.whole()), (true, None));
        assert!(part.bytes >= 30_000 && part.bytes < all.bytes, "{part:?} of {all:?}");
    }

    #[test]
    fn what_is_too_deep_to_be_reached_is_not_passed_over_in_silence() {
        let folder = tempfile::tempdir().unwrap();
        let name = "x".repeat(250);
        let mut at = rustix::fs::open(folder.path(), OFlags::PATH, Mode::empty()).unwrap();
        for _ in 0..20 {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, &name, OFlags::PATH, Mode::empty()).unwrap();
        }
        assert!(measure(folder.path(), 100).unwrap().too_large);
        drop(at);
    }
}

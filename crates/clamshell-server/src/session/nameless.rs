//! Files of a session that have no name any more but are still open or mapped: they take space that no walk finds.
//!
//! Best effort, through `/proc`: a file that is on its way through a socket is not found. Nothing is opened.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::Path,
};

use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, statx};

/// Open files and mappings looked at per session; far more than programs have, and a second's work.
const ENTRIES_MAX: usize = 200_000;

/// `f_type` of file systems in memory: tmpfs (which anonymous shared memory is in as well), ramfs, hugetlbfs.
const IN_MEMORY: [i64; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];

/// Who started whom, as it was at one moment.
#[derive(Debug, Default)]
pub(super) struct Processes {
    children: HashMap<u32, Vec<u32>>,
}

impl Processes {
    /// Reads the process table.
    pub(super) fn read() -> Self {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let stat = fs::read(entry.path().join("stat")).unwrap_or_default();
            if let Some(parent) = parent_of(&stat) {
                children.entry(parent).or_default().push(pid);
            }
        }
        Self { children }
    }

    /// A process and all below it.
    fn tree(&self, root: u32) -> Vec<u32> {
        let mut found = vec![root];
        let mut seen = HashSet::from([root]);
        let mut next = 0;
        while let Some(pid) = found.get(next) {
            next += 1;
            let below =
                self.children.get(pid).into_iter().flatten().copied().filter(|child| seen.insert(*child));
            let below: Vec<u32> = below.collect();
            found.extend(below);
        }
        found
    }
}

/// Parent in a `/proc/PID/stat`. The program's name in it is anything that the program likes, parentheses included.
fn parent_of(stat: &[u8]) -> Option<u32> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Bytes on disk that nameless files of a process and all below it take, and whether there was too much to look at.
pub(super) fn measure(processes: &Processes, root: u32) -> (u64, bool) {
    let mut seen = HashSet::new();
    let (mut bytes, mut entries) = (0_u64, 0);
    for pid in processes.tree(root) {
        for list in ["fd", "map_files"] {
            let folder = Path::new("/proc").join(pid.to_string()).join(list);
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                entries += 1;
                if entries > ENTRIES_MAX {
                    return (bytes, true);
                }
                let found = nameless(&entry.path()).filter(|(file, _)| seen.insert(*file));
                bytes = bytes.saturating_add(found.map_or(0, |(_, bytes)| bytes));
            }
        }
    }
    (bytes, false)
}

/// Device and number of a nameless file on disk, and what it takes.
fn nameless(link: &Path) -> Option<((u32, u32, u64), u64)> {
    // Only what the kernel knows by itself: a file system that a program serves is never asked.
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let wanted = StatxFlags::TYPE | StatxFlags::NLINK | StatxFlags::INO | StatxFlags::BLOCKS;
    let stat = statx(CWD, link, flags, wanted).ok()?;
    let file = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile;
    if !file || stat.stx_nlink > 0 || stat.stx_blocks == 0 {
        return None;
    }
    let kind = rustix::fs::statfs(link).ok()?.f_type;
    if IN_MEMORY.iter().any(|known| i128::from(*known) == i128::from(kind)) {
        return None;
    }
    Some(((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino), stat.stx_blocks.saturating_mul(512)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        let check = |stat: &[u8], expected: Option<u32>| {
            assert_eq!(parent_of(stat), expected, "{}", String::from_utf8_lossy(stat));
        };
        check(b"12 (sh) S 7 12 12", Some(7));
        check(b"12 (a) S 9 (\xff) R 7 12 12", Some(7));
        check(b"12 (sh) S", None);
        check(b"12 (sh", None);
        check(b"", None);
    }

    #[test]
    fn a_tree_of_processes_ends() {
        let children = HashMap::from([(1, vec![2, 3]), (3, vec![4, 1]), (9, vec![8])]);
        assert_eq!(Processes { children }.tree(1), [1, 2, 3, 4]);
    }

    #[test]
    fn a_removed_file_counts_while_it_is_open() {
        // Not in the system's temporary folder, which may be in memory.
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = folder.path().join("file");
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(&vec![1; 10_000_000]).unwrap();
        let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        assert_eq!(nameless(Path::new(&link)), None);
        fs::remove_file(&path).unwrap();
        let (_, bytes) = nameless(Path::new(&link)).unwrap();
        assert!(bytes >= 9_000_000, "{bytes}");
        let (all, too_many) = measure(&Processes::default(), std::process::id());
        assert!(all >= bytes && !too_many, "{all}");
    }
}

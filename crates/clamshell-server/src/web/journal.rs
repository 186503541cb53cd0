//! What is known of a shell, in a file beside the store, so that this process may be killed at any instruction: each byte
//! of output is written there before any page is given it, and each frame of input before the upstream is.
//!
//! Written means handed to the kernel, which a killed process does not undo; nothing is synced to the disk. After the
//! machine itself went down, the file could lack what pages have seen, so a file of another boot is not believed.
//!
//! A file is a snapshot and the records behind it; when those get long, a new file takes its place. A record that was cut
//! by the kill is the last one, and told nobody anything.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use clamshell_domain::{SessionId, ShellId};
use serde::{Deserialize, Serialize};

/// First bytes of a file.
const MAGIC: &[u8] = b"clamshell web shell 1\n";

/// Length of a record's kind and length.
const HEAD_BYTES: usize = 5;

/// Records behind a snapshot beyond which a new one is made. Twice what a snapshot keeps of the
/// output, so that no more is written a second time than a first.
const RECORDS_BYTES: u64 = 2 << 20;

/// Output that a snapshot keeps for pages that come back: as much as a writer may be behind.
pub(super) const KEPT_BYTES: usize = 1 << 20;

/// How files end that are written, until they are whole and the one before is gone.
const NEW: &str = "new";

/// More than any file of ours: a picture, what is kept, and records.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Bytes of a writer's input, counted since it was first named.
pub(super) type Counts = Vec<(String, u64)>;

/// What a snapshot begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Base {
    /// Offset of the oldest byte kept.
    pub(super) start: u64,
    /// Offset of the first byte of the program that runs.
    pub(super) run_start: u64,
    /// Offset from which on the output is what the upstream sent, with nothing in between.
    pub(super) heard_start: u64,
    /// The upstream's own offset of that byte, where it has any.
    pub(super) upstream: Option<u64>,
    /// Columns and rows.
    pub(super) size: (u16, u16),
    /// Input that was passed on.
    pub(super) typed: Counts,
    /// Input of which it is not known whether it was passed on.
    pub(super) doubt: Counts,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// A snapshot begins.
    Base(Base),
    /// Paints the screen of the snapshot.
    Picture(&'a [u8]),
    /// Newest output of the snapshot; its screen is painted.
    Kept(&'a [u8]),
    /// Output.
    Output(&'a [u8]),
    /// Columns and rows.
    Resized(u16, u16),
    /// What comes is another program's.
    Anew,
    /// From here on the output is the upstream's, from this offset of its own.
    Heard(Option<u64>),
    /// Input up to these counts is about to be passed on.
    Passing(Counts),
    /// It was.
    Passed,
}

impl<'a> Record<'a> {
    fn encode(&self) -> io::Result<Vec<u8>> {
        let (kind, payload): (u8, &[u8]) = match self {
            Self::Picture(bytes) => (2, bytes),
            Self::Kept(bytes) => (3, bytes),
            Self::Output(bytes) => (4, bytes),
            Self::Base(base) => return encode(1, &serde_json::to_vec(base)?),
            Self::Resized(cols, rows) => return encode(5, &serde_json::to_vec(&(cols, rows))?),
            Self::Anew => (6, &[]),
            Self::Heard(upstream) => return encode(7, &serde_json::to_vec(upstream)?),
            Self::Passing(counts) => return encode(8, &serde_json::to_vec(counts)?),
            Self::Passed => (9, &[]),
        };
        encode(kind, payload)
    }

    /// `None` for what is no record of ours.
    fn decode(kind: u8, payload: &'a [u8]) -> Option<Self> {
        Some(match kind {
            1 => Self::Base(serde_json::from_slice(payload).ok()?),
            2 => Self::Picture(payload),
            3 => Self::Kept(payload),
            4 => Self::Output(payload),
            5 => {
                let (cols, rows) = serde_json::from_slice(payload).ok()?;
                Self::Resized(cols, rows)
            }
            6 => Self::Anew,
            7 => Self::Heard(serde_json::from_slice(payload).ok()?),
            8 => Self::Passing(serde_json::from_slice(payload).ok()?),
            9 => Self::Passed,
            _ => return None,
        })
    }
}

fn encode(kind: u8, payload: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + payload.len());
    bytes.push(kind);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// The records of a file, as far as they are whole; none when it is not of this boot, or no file of ours.
pub(super) fn records<'a>(file: &'a [u8], boot: &str) -> impl Iterator<Item = Record<'a>> {
    let front = [MAGIC, boot.as_bytes(), b"\n"].concat();
    let mut rest = file.strip_prefix(front.as_slice()).unwrap_or_default();
    std::iter::from_fn(move || {
        let (&[kind, a, b, c, d], behind) = rest.split_first_chunk::<HEAD_BYTES>()?;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
        let (payload, behind) = behind.split_at_checked(length)?;
        rest = behind;
        Record::decode(kind, payload)
    })
}

/// The file of one shell.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    boot: String,
    file: File,
    /// Bytes of records behind the snapshot.
    behind: u64,
    behind_max: u64,
}

impl Journal {
    /// Adds a record; once this returns, the next process will know of it.
    pub(super) fn add(&mut self, record: &Record<'_>) -> io::Result<()> {
        let bytes = record.encode()?;
        self.file.write_all(&bytes)?;
        self.behind += bytes.len() as u64;
        Ok(())
    }

    /// Whether it is time for a snapshot.
    pub(super) fn is_long(&self) -> bool {
        self.behind > self.behind_max
    }

    /// Puts a snapshot in the place of all records.
    pub(super) fn renew(&mut self, snapshot: &[Record<'_>]) -> io::Result<()> {
        self.file = write_snapshot(&self.path, &self.boot, snapshot)?;
        self.behind = 0;
        Ok(())
    }

    /// Forgets the shell: what is kept of it would be wrong from now on.
    pub(super) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

fn write_snapshot(path: &Path, boot: &str, snapshot: &[Record<'_>]) -> io::Result<File> {
    let mut bytes = [MAGIC, boot.as_bytes(), b"\n"].concat();
    for record in snapshot {
        bytes.extend(record.encode()?);
    }
    let new = path.with_extension(NEW);
    remove_if_there(&new)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&bytes)?;
    // A file that takes the place of another one is written to the disk at once by some file systems, and whoever renames
    // it waits. So the old one goes first; a process that is killed in between leaves a new one that is whole.
    remove_if_there(path)?;
    std::fs::rename(&new, path)?;
    Ok(file)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The files of all shells.
#[derive(Debug, Clone)]
pub(super) struct Journals {
    dir: PathBuf,
    boot: String,
    behind_max: u64,
}

impl Journals {
    /// The files in a directory, which is made when it is not there. Those that are not of `shells` are removed.
    pub(super) fn open(dir: PathBuf, shells: &[(SessionId, ShellId)]) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let journals = Self { dir, boot: boot.trim().to_owned(), behind_max: RECORDS_BYTES };
        let kept: Vec<PathBuf> =
            shells.iter().map(|(session_id, shell_id)| journals.path(session_id, shell_id)).collect();
        for entry in std::fs::read_dir(&journals.dir)? {
            let path = entry?.path();
            let of = path.with_extension("shell");
            let is_new = path.extension().is_some_and(|extension| extension == NEW);
            if is_new && kept.contains(&of) && !of.exists() {
                std::fs::rename(&path, &of)?;
            } else if !kept.contains(&path) {
                std::fs::remove_file(&path)?;
            }
        }
        Ok(journals)
    }

    /// Which boot of the machine this is.
    pub(super) fn boot(&self) -> &str {
        &self.boot
    }

    /// The file of a shell, whose ids are at most 256 and 128 letters: together more than a file's name may have.
    pub(super) fn path(&self, session_id: &SessionId, shell_id: &ShellId) -> PathBuf {
        let ids = format!("{session_id}\n{shell_id}");
        let digest = digest(&SHA256, ids.as_bytes());
        let name: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        self.dir.join(name).with_extension("shell")
    }

    /// Removes the file of a shell, if it has one.
    pub(super) fn remove(&self, session_id: &SessionId, shell_id: &ShellId) -> io::Result<()> {
        remove_if_there(&self.path(session_id, shell_id))
    }

    /// The same with short files.
    #[cfg(test)]
    pub(super) fn with_behind_max(self, behind_max: u64) -> Self {
        Self { behind_max, ..self }
    }

    /// A file that begins with `snapshot`, in the place of any other one.
    pub(super) fn begin(&self, path: PathBuf, snapshot: &[Record<'_>]) -> io::Result<Journal> {
        let (boot, behind_max) = (self.boot.clone(), self.behind_max);
        let file = write_snapshot(&path, &boot, snapshot)?;
        Ok(Journal { path, boot, file, behind: 0, behind_max })
    }

    /// What an earlier process wrote; empty when there is nothing.
    pub(super) fn read(&self, path: &Path) -> Vec<u8> {
        let length = std::fs::metadata(path).map_or(0, |found| found.len());
        if length == 0 || length > FILE_BYTES_MAX {
            return Vec::new();
        }
        std::fs::read(path).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Base {
        Base {
            start: 7,
            run_start: 7,
            heard_start: 9,
            upstream: Some(3),
            size: (80, 24),
            typed: vec![("w".to_owned(), 5)],
            doubt: Vec::new(),
        }
    }

    fn happened() -> Vec<Record<'static>> {
        vec![
            Record::Base(base()),
            Record::Picture(b"picture"),
            Record::Kept(b"kept"),
            Record::Output(b"output"),
            Record::Resized(100, 30),
            Record::Anew,
            Record::Heard(None),
            Record::Heard(Some(u64::MAX)),
            Record::Passing(vec![("w".to_owned(), 6)]),
            Record::Passed,
        ]
    }

    #[test]
    fn records_survive_and_a_cut_one_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let journals =
            Journals { boot: "boot".to_owned(), ..Journals::open(folder.path().to_owned(), &[]).unwrap() };
        let path = folder.path().join("a.shell");
        let (snapshot, behind) = (&happened()[..3], &happened()[3..]);
        let mut journal = journals.begin(path.clone(), snapshot).unwrap();
        for record in behind {
            journal.add(record).unwrap();
        }
        let file = std::fs::read(&path).unwrap();
        assert_eq!(records(&file, "boot").collect::<Vec<_>>(), happened());
        assert_eq!(records(&file, "another boot").count(), 0);
        let whole = file.len() - HEAD_BYTES;
        for cut in 0..file.len() {
            let found: Vec<_> = records(&file[..cut], "boot").collect();
            assert_eq!(found, happened()[..found.len()], "cut at {cut}");
            assert!(cut < whole || found.len() == happened().len() - 1);
        }
        journal.renew(snapshot).unwrap();
        journal.add(&Record::Passed).unwrap();
        let file = std::fs::read(&path).unwrap();
        assert_eq!(records(&file, "boot").collect::<Vec<_>>(), [snapshot, &[Record::Passed]].concat());
        journal.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn files_of_shells_that_are_no_more_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let key =
            |letter: &str| (SessionId::parse(letter.repeat(33)).unwrap(), ShellId::parse(letter).unwrap());
        let journals = Journals::open(folder.path().join("shells"), &[]).unwrap();
        let paths = ["a", "b"].map(|letter| {
            let (session_id, shell_id) = key(letter);
            let path = journals.path(&session_id, &shell_id);
            drop(journals.begin(path.clone(), &happened()).unwrap());
            path
        });
        // A kill between the end of one file and the beginning of the next.
        std::fs::rename(&paths[1], paths[1].with_extension(NEW)).unwrap();
        let journals = Journals::open(folder.path().join("shells"), &[key("b")]).unwrap();
        assert_eq!(journals.read(&paths[0]), b"");
        assert_eq!(records(&journals.read(&paths[1]), journals.boot()).count(), happened().len());
    }
}

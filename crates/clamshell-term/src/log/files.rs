//! Names and files of a log folder, opened without ever following a link.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{self, Dir, FileType, Mode, OFlags},
    io::Errno,
};

/// Entries of a folder that are looked at. A log of 64 MiB has at most 17 segments and 17 event
/// files; what is far above that was not made by us.
pub(super) const ENTRIES_MAX: usize = 4096;

/// Largest segment a reader believes in.
pub(super) const SEGMENT_BYTES_MAX: u64 = 4 << 20;

const SAFE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// A file of a log folder, known by the number in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) length: u64,
}

pub(super) fn name(number: u64, suffix: &str) -> String {
    format!("{number:020}{suffix}")
}

fn number(name: &[u8], suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix.as_bytes())?;
    if digits.len() != 20 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Regular files of the folder whose name is a number and `suffix`, by number.
pub(super) fn list(dir: BorrowedFd<'_>, suffix: &str) -> Result<Vec<Numbered>, Errno> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)?.take(ENTRIES_MAX) {
        let entry = entry?;
        let Some(number) = number(entry.file_name().to_bytes(), suffix) else { continue };
        let Ok(stat) = fs::statat(dir, entry.file_name(), fs::AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            continue;
        }
        found.push(Numbered { number, length: u64::try_from(stat.st_size).unwrap_or(0) });
    }
    found.sort_unstable();
    Ok(found)
}

/// The newest segments that join without a gap. What lies before a gap, or overlaps, or is too long
/// to be ours, is left out: an offset must never show other bytes than were written there.
pub(super) fn contiguous(mut segments: Vec<Numbered>) -> Vec<Numbered> {
    let mut first = segments.len();
    let mut next_start = None;
    for (index, segment) in segments.iter().enumerate().rev() {
        let Some(end) = segment.number.checked_add(segment.length) else { break };
        if segment.length > SEGMENT_BYTES_MAX || next_start.is_some_and(|start| start != end) {
            break;
        }
        next_start = Some(segment.number);
        first = index;
    }
    segments.drain(..first);
    segments
}

/// Opens the folder `name` below `dir`, making it when `create`.
pub(super) fn open_dir(dir: BorrowedFd<'_>, name: &str, create: bool) -> Result<OwnedFd, Errno> {
    if create {
        match fs::mkdirat(dir, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    fs::openat(
        dir,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Opens a file of the folder, refusing anything but a regular one. `NONBLOCK`, because a FIFO in its
/// place would block the opener before its type could be seen.
pub(super) fn open_file(dir: BorrowedFd<'_>, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let file = fs::openat(dir, name, flags | SAFE, Mode::RUSR | Mode::WUSR)?;
    if FileType::from_raw_mode(fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    Ok(file)
}

/// Reads into the whole of `buffer` unless the file ends before.
pub(super) fn read_at(file: impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(&file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(filled)
}

//! The reading end of a log: the server's, which takes the folder for hostile.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::fs::{self, Mode, OFlags};

use super::{
    AGENT_LOG, Event, LogError, LogMeta,
    event::EVENT_BYTES,
    files::{self, Numbered},
    is_shell_id,
    meta::META_BYTES_MAX,
    writer::{EVENT_FILES_MAX, EVENTS_PER_FILE},
};

/// Folders of a `shells/` folder that are listed: a guest keeps 32 ended ones beside the running.
const SHELLS_MAX: usize = 256;

/// Reads the log of one shell while somebody else may be writing it.
///
/// Nothing is cached but the folder's descriptor: each call sees the files as they are now.
#[derive(Debug)]
pub struct LogReader {
    dir: OwnedFd,
}

impl LogReader {
    /// Opens the log of `shell_id` in the folder `shells`.
    ///
    /// # Errors
    /// [`LogError::ShellId`] and [`LogError::Io`]; a missing log is an I/O error of kind `NotFound`.
    pub fn open(shells: &Path, shell_id: &str) -> Result<Self, LogError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let shells =
            fs::open(shells, flags, Mode::empty()).map_err(LogError::io("open the folder of shells"))?;
        Self::open_at(shells.as_fd(), shell_id)
    }

    /// Opens the log of `shell_id` below the folder `shells`.
    ///
    /// # Errors
    /// As [`LogReader::open`].
    pub fn open_at(shells: BorrowedFd<'_>, shell_id: &str) -> Result<Self, LogError> {
        if !is_shell_id(shell_id) {
            return Err(LogError::ShellId);
        }
        let dir =
            files::open_dir(shells, shell_id, false).map_err(LogError::io("open the shell's folder"))?;
        Ok(Self { dir })
    }

    /// Opens the log of the hosted agent in the folder `shells`.
    ///
    /// # Errors
    /// [`LogError::Io`]; a missing log is an I/O error of kind `NotFound`.
    pub fn open_agent(shells: &Path) -> Result<Self, LogError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let shells =
            fs::open(shells, flags, Mode::empty()).map_err(LogError::io("open the folder of shells"))?;
        let dir = files::open_dir(shells.as_fd(), AGENT_LOG, false)
            .map_err(LogError::io("open the agent's folder"))?;
        Ok(Self { dir })
    }

    /// Ids of the shells that have a folder in `shells`, sorted, at most 256.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn list(shells: &Path) -> Result<Vec<String>, LogError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let shells =
            fs::open(shells, flags, Mode::empty()).map_err(LogError::io("open the folder of shells"))?;
        Self::list_at(shells.as_fd())
    }

    /// As [`LogReader::list`], for an open folder.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn list_at(shells: BorrowedFd<'_>) -> Result<Vec<String>, LogError> {
        let mut ids = Vec::new();
        let entries = fs::Dir::read_from(shells).map_err(LogError::io("list the shells"))?;
        for entry in entries.take(files::ENTRIES_MAX) {
            let entry = entry.map_err(LogError::io("list the shells"))?;
            if let Ok(name) = entry.file_name().to_str()
                && is_shell_id(name)
                && ids.len() < SHELLS_MAX
            {
                ids.push(name.to_owned());
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn segments(&self) -> io::Result<Vec<Numbered>> {
        Ok(files::contiguous(files::list(self.dir.as_fd(), ".log")?))
    }

    /// Oldest offset and the offset after the newest byte.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn extent(&self) -> io::Result<(u64, u64)> {
        let segments = self.segments()?;
        Ok(match (segments.first(), segments.last()) {
            (Some(first), Some(last)) => (first.number, last.number.saturating_add(last.length)),
            _ => (0, 0),
        })
    }

    /// Reads from `offset` on until `buffer` is full or the log ends; returns how many bytes were
    /// there: 0 at the end and for what was trimmed.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        for segment in self.segments()? {
            let at = offset.saturating_add(filled as u64);
            let end = segment.number.saturating_add(segment.length);
            if at < segment.number || filled == buffer.len() {
                break;
            }
            if at >= end {
                continue;
            }
            let room = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len() - filled);
            let file = match files::open_file(
                self.dir.as_fd(),
                &files::name(segment.number, ".log"),
                OFlags::RDONLY,
            ) {
                Ok(file) => file,
                // Trimmed between the listing and now.
                Err(rustix::io::Errno::NOENT) => break,
                Err(errno) => return Err(errno.into()),
            };
            let read = files::read_at(&file, &mut buffer[filled..filled + room], at - segment.number)?;
            filled += read;
            if read < room {
                break;
            }
        }
        Ok(filled)
    }

    /// At most `max` events in the order they were recorded, skipping the first `skip`. Files and records beyond what a
    /// [`super::LogWriter`] keeps are not looked at. Records of
    /// unknown kind are left out (but counted by `skip`).
    ///
    /// # Errors
    /// When the file system fails.
    pub fn events(&self, skip: usize, max: usize) -> io::Result<Vec<Event>> {
        let mut events = Vec::new();
        let mut skip = skip as u64;
        let found = files::list(self.dir.as_fd(), ".events")?;
        let surplus = found.len().saturating_sub(EVENT_FILES_MAX + 1);
        for file in found.into_iter().skip(surplus) {
            // A file with a hole in it says to be longer than any disk, and would be read for days.
            let records = (file.length / EVENT_BYTES as u64).min(EVENTS_PER_FILE + 1);
            if skip >= records {
                skip -= records;
                continue;
            }
            let opened = match files::open_file(
                self.dir.as_fd(),
                &files::name(file.number, ".events"),
                OFlags::RDONLY,
            ) {
                Ok(opened) => opened,
                Err(rustix::io::Errno::NOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let mut block = [0; EVENT_BYTES * 512];
            while skip < records && events.len() < max {
                let read = files::read_at(&opened, &mut block, skip.saturating_mul(EVENT_BYTES as u64))?;
                let (whole, _) = block[..read].as_chunks::<EVENT_BYTES>();
                if whole.is_empty() {
                    break;
                }
                skip += whole.len() as u64;
                events.extend(whole.iter().filter_map(Event::from_bytes).take(max - events.len()));
            }
            if events.len() >= max {
                break;
            }
            skip = 0;
        }
        Ok(events)
    }

    /// What the shell is.
    ///
    /// # Errors
    /// [`LogError::Meta`] and [`LogError::Io`].
    pub fn meta(&self) -> Result<LogMeta, LogError> {
        let file = files::open_file(self.dir.as_fd(), "meta.json", OFlags::RDONLY)
            .map_err(LogError::io("open the shell's metadata"))?;
        let mut json = vec![0; META_BYTES_MAX + 1];
        let read = files::read_at(&file, &mut json, 0)
            .map_err(|source| LogError::Io { action: "read the shell's metadata", source })?;
        if read > META_BYTES_MAX {
            return Err(LogError::Meta);
        }
        serde_json::from_slice(&json[..read]).map_err(|_| LogError::Meta)
    }
}

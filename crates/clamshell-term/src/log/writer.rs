//! The writing end of a log: the guest's.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{self, AtFlags, OFlags},
    io::Errno,
};
use thiserror::Error;

use super::{
    AGENT_LOG, Event, EventKind, LogError, LogMeta,
    event::EVENT_BYTES,
    files::{self, Numbered, SEGMENT_BYTES_MAX},
    is_shell_id,
};

/// Smallest segment: a log this small is for tests, and trimming in pieces of a page is still cheap.
const SEGMENT_BYTES_MIN: u64 = 4096;

/// Smallest log: less would trim what was only just written.
const LOG_BYTES_MIN: u64 = 4 * SEGMENT_BYTES_MIN;

/// Records in one events file: 768 KiB.
pub(super) const EVENTS_PER_FILE: u64 = 32_768;

/// Events files kept: at the highest rate of one record per 10 ms they reach back over an hour.
pub(super) const EVENT_FILES_MAX: usize = 16;

/// Output within this time of the last output record gets none of its own: players cannot show a
/// finer step, and a busy program would otherwise write a record per read.
const OUTPUT_EVENT_EVERY_MS: u64 = 10;

/// Output that could not be stored. What `written` counts is in the log.
#[derive(Debug, Error)]
#[error("cannot append to the shell log")]
pub struct AppendError {
    /// Bytes of this call that were stored.
    pub written: usize,
    /// Why the rest was not.
    #[source]
    pub source: io::Error,
}

/// Appends a shell's output, trims the oldest, and reads back what is still there.
#[derive(Debug)]
pub struct LogWriter {
    dir: OwnedFd,
    bytes_max: u64,
    segment_bytes_max: u64,
    segments: VecDeque<Numbered>,
    current: Option<OwnedFd>,
    end: u64,
    event_files: VecDeque<EventFile>,
    events: Option<OwnedFd>,
    last_output_event_ms: Option<u64>,
    /// Size of the terminal in this run; each events file starts with it.
    size: Option<(u16, u16)>,
    /// The segment opened last for reading: a reader that follows asks for the same one many times.
    reading: Option<(u64, OwnedFd)>,
}

#[derive(Debug)]
struct EventFile {
    number: u64,
    records: u64,
    first_offset: u64,
}

impl LogWriter {
    /// Opens or makes the log of `shell_id` below `shells`. The end offset is recovered from the
    /// names and lengths of the files, so it goes on where the last run stopped.
    ///
    /// # Errors
    /// [`LogError::ShellId`] and [`LogError::Io`].
    pub fn open(shells: BorrowedFd<'_>, shell_id: &str, bytes_max: u64) -> Result<Self, LogError> {
        if !is_shell_id(shell_id) {
            return Err(LogError::ShellId);
        }
        Self::open_folder(shells, shell_id, bytes_max)
    }

    /// As [`LogWriter::open`], for the log of the hosted agent.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn open_agent(shells: BorrowedFd<'_>, bytes_max: u64) -> Result<Self, LogError> {
        Self::open_folder(shells, AGENT_LOG, bytes_max)
    }

    fn open_folder(shells: BorrowedFd<'_>, name: &str, bytes_max: u64) -> Result<Self, LogError> {
        let dir = files::open_dir(shells, name, true).map_err(LogError::io("open the shell's folder"))?;
        let found = files::list(dir.as_fd(), ".log").map_err(LogError::io("list the shell's log"))?;
        let kept = files::contiguous(found.clone());
        // The end must not go back even where the newest segment is not believed.
        let end =
            found.iter().filter_map(|segment| segment.number.checked_add(segment.length)).max().unwrap_or(0);
        let kept =
            if kept.last().is_some_and(|last| last.number + last.length == end) { kept } else { Vec::new() };
        for stale in found.iter().filter(|segment| !kept.contains(segment)) {
            let _ = fs::unlinkat(&dir, files::name(stale.number, ".log"), AtFlags::empty());
        }
        let mut event_files = VecDeque::new();
        for file in files::list(dir.as_fd(), ".events").map_err(LogError::io("list the shell's events"))? {
            let mut first = [0; EVENT_BYTES];
            let first_offset =
                files::open_file(dir.as_fd(), &files::name(file.number, ".events"), OFlags::RDONLY)
                    .ok()
                    .and_then(|opened| files::read_at(&opened, &mut first, 0).ok())
                    .and_then(|_| Event::from_bytes(&first))
                    .map_or(0, |event| event.offset);
            event_files.push_back(EventFile {
                number: file.number,
                records: file.length / EVENT_BYTES as u64,
                first_offset,
            });
        }
        // Ours were bounded when they were written; the smaller limit of a new run takes effect at once.
        let bytes_max = bytes_max.max(LOG_BYTES_MIN);
        let mut writer = Self {
            dir,
            bytes_max,
            segment_bytes_max: (bytes_max / 16).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
            segments: kept.into(),
            current: None,
            end,
            event_files,
            events: None,
            last_output_event_ms: None,
            size: None,
            reading: None,
        };
        writer.trim();
        Ok(writer)
    }

    /// Oldest offset that is still there.
    pub fn start(&self) -> u64 {
        self.segments.front().map_or(self.end, |segment| segment.number)
    }

    /// Offset after the newest byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// What [`LogWriter::start`] becomes when `more` bytes are appended; may lie beyond the end of now.
    pub fn start_after(&self, more: u64) -> u64 {
        let end = self.end.saturating_add(more);
        let mut start = self.start();
        let mut segments = self.segments.iter().peekable();
        while end - start > self.bytes_max {
            // The newest segment is filled first, then come full ones.
            let length = match segments.next() {
                Some(segment) if segments.peek().is_some() => segment.length,
                Some(segment) => segment.length.max(self.segment_bytes_max),
                None => self.segment_bytes_max,
            };
            start += length;
        }
        start
    }

    /// Bytes that may be appended at once such that what is appended is not trimmed by itself, nor
    /// anything that came just before it.
    pub fn append_bytes_max(&self) -> u64 {
        self.bytes_max / 4
    }

    /// Stores output that came at `now_ms`.
    ///
    /// # Errors
    /// [`AppendError`]; what it counts as written stays written, the rest may be tried again.
    pub fn append(&mut self, bytes: &[u8], now_ms: u64) -> Result<(), AppendError> {
        let offset = self.end;
        let mut written = 0;
        while written < bytes.len() {
            let piece = &bytes[written..];
            match self.append_piece(piece) {
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(AppendError { written, source: errno.into() }),
            }
        }
        if self.last_output_event_ms.is_none_or(|last| now_ms.abs_diff(last) >= OUTPUT_EVENT_EVERY_MS)
            && written > 0
        {
            self.last_output_event_ms = Some(now_ms);
            self.event(Event { offset, time_ms: now_ms, kind: EventKind::Output });
        }
        self.trim();
        Ok(())
    }

    fn append_piece(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let full = self.segments.back().is_none_or(|segment| segment.length >= self.segment_bytes_max);
        if full || self.current.is_none() {
            if full {
                let name = files::name(self.end, ".log");
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
                self.current = Some(files::open_file(self.dir.as_fd(), &name, flags)?);
                self.segments.push_back(Numbered { number: self.end, length: 0 });
            } else if let Some(segment) = self.segments.back() {
                let name = files::name(segment.number, ".log");
                self.current = Some(files::open_file(self.dir.as_fd(), &name, OFlags::WRONLY)?);
            }
        }
        let (Some(file), Some(segment)) = (&self.current, self.segments.back_mut()) else {
            return Err(Errno::BADF);
        };
        let room =
            usize::try_from(self.segment_bytes_max.saturating_sub(segment.length)).unwrap_or(usize::MAX);
        // At the known length, not at the file's end: a failed write may have left part of itself.
        let count = rustix::io::pwrite(file, &bytes[..bytes.len().min(room)], segment.length)?;
        if count == 0 {
            return Err(Errno::IO);
        }
        segment.length += count as u64;
        self.end += count as u64;
        Ok(count)
    }

    fn trim(&mut self) {
        while self.end - self.start() > self.bytes_max && self.segments.len() > 1 {
            if let Some(oldest) = self.segments.pop_front() {
                let _ = fs::unlinkat(&self.dir, files::name(oldest.number, ".log"), AtFlags::empty());
                if self.reading.as_ref().is_some_and(|(number, _)| *number == oldest.number) {
                    self.reading = None;
                }
            }
        }
        let start = self.start();
        while self.event_files.len() > 1
            && (self.event_files.len() > EVENT_FILES_MAX
                || self.event_files.get(1).is_some_and(|next| next.first_offset <= start))
        {
            if let Some(oldest) = self.event_files.pop_front() {
                let _ = fs::unlinkat(&self.dir, files::name(oldest.number, ".events"), AtFlags::empty());
            }
        }
    }

    /// Records the start of a run at the end offset.
    pub fn record_start(&mut self, cols: u16, rows: u16, now_ms: u64) {
        self.last_output_event_ms = None;
        self.size = Some((cols, rows));
        self.event(Event { offset: self.end, time_ms: now_ms, kind: EventKind::Start { cols, rows } });
    }

    /// Records a resize at the end offset.
    pub fn record_resize(&mut self, cols: u16, rows: u16, now_ms: u64) {
        self.size = Some((cols, rows));
        self.event(Event { offset: self.end, time_ms: now_ms, kind: EventKind::Resize { cols, rows } });
    }

    /// Records the end of a run.
    pub fn record_end(&mut self, now_ms: u64) {
        self.event(Event { offset: self.end, time_ms: now_ms, kind: EventKind::End });
    }

    /// Events are best effort: a full disk stops output itself (see [`LogWriter::append`]), and
    /// timing is not worth more than that.
    fn event(&mut self, event: Event) {
        let _ = self.try_event(event);
    }

    fn try_event(&mut self, event: Event) -> Result<(), Errno> {
        if self.event_files.back().is_none_or(|file| file.records >= EVENTS_PER_FILE) {
            let number = self.event_files.back().map_or(0, |file| file.number.saturating_add(1));
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
            self.events = Some(files::open_file(self.dir.as_fd(), &files::name(number, ".events"), flags)?);
            self.event_files.push_back(EventFile { number, records: 0, first_offset: event.offset });
            if number > 0
                && let Some((cols, rows)) = self.size
            {
                // Older files go first; the size must not go with them.
                self.write_event(Event { kind: EventKind::Resize { cols, rows }, ..event })?;
            }
        }
        self.write_event(event)
    }

    fn write_event(&mut self, event: Event) -> Result<(), Errno> {
        let Some(file) = self.event_files.back_mut() else { return Err(Errno::BADF) };
        let opened = match self.events.take() {
            Some(opened) => opened,
            None => files::open_file(self.dir.as_fd(), &files::name(file.number, ".events"), OFlags::WRONLY)?,
        };
        let written = rustix::io::pwrite(&opened, &event.to_bytes(), file.records * EVENT_BYTES as u64)?;
        if written == EVENT_BYTES {
            file.records += 1;
        }
        self.events = Some(opened);
        Ok(())
    }

    /// Reads from `offset` on; returns how many bytes were there, at most up to a segment's end.
    /// 0 at the end of the log and for what was trimmed.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let index = self.segments.partition_point(|segment| segment.number <= offset);
        let Some(segment) = index.checked_sub(1).and_then(|index| self.segments.get(index)) else {
            return Ok(0);
        };
        let within = offset - segment.number;
        let length =
            usize::try_from(segment.length.saturating_sub(within)).unwrap_or(usize::MAX).min(buffer.len());
        if length == 0 {
            return Ok(0);
        }
        let number = segment.number;
        let file = match self.reading.take() {
            Some((open, file)) if open == number => file,
            _ => files::open_file(self.dir.as_fd(), &files::name(number, ".log"), OFlags::RDONLY)?,
        };
        let read = files::read_at(&file, &mut buffer[..length], within);
        self.reading = Some((number, file));
        read
    }

    /// Replaces `meta.json`, whole or not at all.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn write_meta(&self, meta: &LogMeta) -> io::Result<()> {
        let json = serde_json::to_vec(meta)?;
        let file = files::open_file(
            self.dir.as_fd(),
            "meta.json.new",
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC,
        )?;
        let mut rest = &json[..];
        while !rest.is_empty() {
            let written = rustix::io::write(&file, rest)?;
            rest = &rest[written..];
        }
        fs::renameat(&self.dir, "meta.json.new", &self.dir, "meta.json")?;
        Ok(())
    }

    /// Brings everything to the disk; for an orderly end.
    pub fn flush(&self) {
        for file in [&self.current, &self.events].into_iter().flatten() {
            let _ = fs::fdatasync(file);
        }
    }

    /// Removes the log of an ended shell from `shells`. Only files that a log has are removed; a
    /// folder with anything else in it stays.
    ///
    /// # Errors
    /// [`LogError::ShellId`] and [`LogError::Io`].
    pub fn remove(shells: BorrowedFd<'_>, shell_id: &str) -> Result<(), LogError> {
        if !is_shell_id(shell_id) {
            return Err(LogError::ShellId);
        }
        let dir =
            files::open_dir(shells, shell_id, false).map_err(LogError::io("open the shell's folder"))?;
        for suffix in [".log", ".events"] {
            for file in files::list(dir.as_fd(), suffix).map_err(LogError::io("list the shell's folder"))? {
                let _ = fs::unlinkat(&dir, files::name(file.number, suffix), AtFlags::empty());
            }
        }
        for name in ["meta.json", "meta.json.new"] {
            let _ = fs::unlinkat(&dir, name, AtFlags::empty());
        }
        fs::unlinkat(shells, shell_id, AtFlags::REMOVEDIR).map_err(LogError::io("remove the shell's folder"))
    }
}

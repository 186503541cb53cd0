//! Appends lines to the files of one session.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use clamshell_domain::{SessionId, StorageId};
use serde::{Deserialize, Serialize};

use super::LINE_BYTES_MAX;
use crate::time::rfc3339;

/// Front of every file's name.
const PREFIX: &str = "[runtime-logs]";

/// End of every file's name.
const SUFFIX: &str = ".jsonl";

/// Bytes at the end of a file in which its last line must lie: six for each of a message, when all are escaped, and room.
const LAST_LINE_BYTES_MAX: u64 = 6 * LINE_BYTES_MAX as u64 + 4096;

/// Who says a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// The agent, on its standard output or error.
    Agent,
    /// The server, about the agent.
    Platform,
}

/// A line to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) source: Source,
    pub(crate) message: String,
    /// Offset in the agent's output behind it; `None` of the platform's.
    pub(crate) end_offset: Option<u64>,
}

/// A line as written.
#[derive(Serialize)]
struct Written<'a> {
    timestamp: &'a str,
    #[serde(rename = "sessionId")]
    session_id: &'a SessionId,
    source: Source,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
}

/// What is read back of a line.
#[derive(Deserialize)]
struct Told {
    offset: Option<u64>,
}

/// See the head of this file. What it writes comes in one call per batch.
pub(super) struct Writer {
    group: PathBuf,
    storage_id: StorageId,
    file_bytes_max: u64,
    is_open: bool,
    file: Option<Current>,
    offset: Option<u64>,
    rotated: bool,
}

struct Current {
    day: String,
    number: u32,
    file: File,
    bytes: u64,
}

impl Writer {
    pub(super) fn new(group: PathBuf, storage_id: &StorageId, file_bytes_max: u64) -> Self {
        let storage_id = storage_id.clone();
        Self { group, storage_id, file_bytes_max, is_open: false, file: None, offset: None, rotated: false }
    }

    /// Takes up the newest file, if there is one: cuts off a line that a killed server left half-written, and reads the
    /// offset of the last one.
    pub(super) fn open(&mut self) -> io::Result<()> {
        if self.is_open {
            return Ok(());
        }
        for (day, number, path) in files_of(&self.group, Some(&self.storage_id)).into_iter().rev() {
            let mut file = open_file(&path)?;
            let (bytes, last) = mend(&mut file)?;
            if self.file.is_none() {
                self.file = Some(Current { day, number, file, bytes });
            }
            self.offset = last;
            if last.is_some() {
                break;
            }
        }
        self.is_open = true;
        Ok(())
    }

    /// Offset of the last line.
    pub(super) fn offset(&self) -> Option<u64> {
        self.offset
    }

    pub(super) fn forget_offset(&mut self) {
        self.offset = None;
    }

    /// The group, when a new file was begun since this was asked last.
    pub(super) fn take_rotated(&mut self) -> Option<PathBuf> {
        std::mem::take(&mut self.rotated).then(|| self.group.clone())
    }

    /// Writes the lines that are not written yet, and gives their bytes.
    pub(super) fn append(&mut self, now_ms: u64, session_id: &SessionId, lines: &[Line]) -> io::Result<u64> {
        self.open()?;
        let timestamp = rfc3339(now_ms);
        let mut offset = self.offset;
        let mut bytes = Vec::new();
        for line in lines {
            if line.end_offset.is_some_and(|end| offset.is_some_and(|known| end <= known)) {
                continue;
            }
            offset = line.end_offset.or(offset);
            let timestamp = timestamp.as_str();
            let (source, message) = (line.source, line.message.as_str());
            let written = Written { timestamp, session_id, source, message, offset };
            serde_json::to_writer(&mut bytes, &written)?;
            bytes.push(b'\n');
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        let count = bytes.len() as u64;
        let current = self.current(&timestamp, count)?;
        let before = current.bytes;
        if let Err(error) = current.file.write_all(&bytes) {
            // A full disk: nothing half-written stays.
            let _ = current.file.set_len(before);
            return Err(error);
        }
        current.bytes += count;
        self.offset = offset;
        Ok(count)
    }

    /// The file for so many bytes more on the day of `timestamp`.
    fn current(&mut self, timestamp: &str, more: u64) -> io::Result<&mut Current> {
        let day = timestamp.get(..10).unwrap_or("1970-01-01").replace('-', "/");
        let number = match &self.file {
            // Whoever makes room may have removed it.
            Some(current) if current.day == day && is_linked(&current.file) => {
                let is_full = current.bytes > 0 && current.bytes + more > self.file_bytes_max;
                if is_full { Some(current.number.saturating_add(1)) } else { None }
            }
            _ => Some(0),
        };
        if let Some(number) = number {
            let folder = self.group.join(&day);
            DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            let file = open_file(&folder.join(file_name(&self.storage_id, number)))?;
            let bytes = file.metadata()?.len();
            self.file = Some(Current { day, number, file, bytes });
            self.rotated = true;
        }
        self.file.as_mut().ok_or_else(|| io::Error::other("no file"))
    }
}

fn is_linked(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
}

fn open_file(path: &Path) -> io::Result<File> {
    File::options().create(true).read(true).append(true).mode(0o600).open(path)
}

fn file_name(storage_id: &StorageId, number: u32) -> String {
    match number {
        0 => format!("{PREFIX}{storage_id}{SUFFIX}"),
        number => format!("{PREFIX}{storage_id}.{number:04}{SUFFIX}"),
    }
}

/// Storage id and number of a file name.
pub(super) fn parse_name(name: &str) -> Option<(&str, u32)> {
    let stem = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    match stem.split_once('.') {
        None => Some((stem, 0)),
        Some((storage_id, number)) => Some((storage_id, number.parse().ok()?)),
    }
}

/// Cuts off a line that has no end; gives the bytes that are left, and the offset of the last line that has one.
fn mend(file: &mut File) -> io::Result<(u64, Option<u64>)> {
    let bytes = file.metadata()?.len();
    let start = bytes.saturating_sub(LAST_LINE_BYTES_MAX);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.take(LAST_LINE_BYTES_MAX).read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let left = start + whole as u64;
    if left < bytes {
        file.set_len(left)?;
    }
    let offset = |line: &[u8]| serde_json::from_slice::<Told>(line).ok()?.offset;
    let last = tail[..whole].rsplit(|byte| *byte == b'\n').find_map(offset);
    Ok((left, last))
}

/// Files of a group, or of one session of it, the oldest first: day, number, path.
pub(super) fn files_of(group: &Path, storage_id: Option<&StorageId>) -> Vec<(String, u32, PathBuf)> {
    let mut found = Vec::new();
    for year in names(group) {
        for month in names(&group.join(&year)) {
            for day in names(&group.join(&year).join(&month)) {
                let folder = group.join(&year).join(&month).join(&day);
                for name in names(&folder) {
                    let Some((id, number)) = parse_name(&name) else { continue };
                    if storage_id.is_none_or(|wanted| wanted.as_str() == id) {
                        found.push((format!("{year}/{month}/{day}"), number, folder.join(&name)));
                    }
                }
            }
        }
    }
    found.sort();
    found
}

/// Entries of a folder; none when it is not there.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;
    /// 2026-01-02T03:04:05Z
    const T0: u64 = 1_767_323_045_000;

    fn line(message: &str, end: u64) -> Line {
        Line { source: Source::Agent, message: message.to_owned(), end_offset: Some(end) }
    }

    fn session_id() -> SessionId {
        SessionId::parse("a-session-that-writes-a-log-000000001").unwrap()
    }

    fn storage_id() -> StorageId {
        StorageId::generate(&clamshell_domain::SystemEntropy)
    }

    fn texts(group: &Path) -> Vec<(String, Vec<serde_json::Value>)> {
        let files = files_of(group, None).into_iter();
        files
            .map(|(day, number, path)| {
                let text = fs::read_to_string(path).unwrap();
                (
                    format!("{day} {number}"),
                    text.lines().map(|it| serde_json::from_str(it).unwrap()).collect(),
                )
            })
            .collect()
    }

    #[test]
    fn a_line_says_when_who_and_where() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path().to_owned(), &storage_id(), 1 << 20);
        writer.append(T0, &session_id(), &[line("hello \u{1b}[2J\"", 6)]).unwrap();
        let platform =
            Line { source: Source::Platform, message: "agent exited".to_owned(), end_offset: None };
        writer.append(T0 + 1, &session_id(), &[platform]).unwrap();
        let expect = |at: &str, source: &str, message: &str| {
            serde_json::json!({
                "timestamp": at, "sessionId": session_id(), "source": source, "message": message, "offset": 6,
            })
        };
        let lines = vec![
            expect("2026-01-02T03:04:05.000Z", "agent", "hello \u{1b}[2J\""),
            expect("2026-01-02T03:04:05.001Z", "platform", "agent exited"),
        ];
        assert_eq!(texts(folder.path()), [("2026/01/02 0".to_owned(), lines)]);
    }

    #[test]
    fn a_killed_writer_is_followed_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let storage_id = storage_id();
        let mut writer = Writer::new(folder.path().to_owned(), &storage_id, 1 << 20);
        writer.append(T0, &session_id(), &[line("one", 4), line("two", 8)]).unwrap();
        let path = files_of(folder.path(), None).pop().unwrap().2;
        // What is left of a write that did not get to its end.
        File::options().append(true).open(&path).unwrap().write_all(b"{\"timestamp\":\"2026").unwrap();
        let mut writer = Writer::new(folder.path().to_owned(), &storage_id, 1 << 20);
        writer.open().unwrap();
        assert_eq!(writer.offset(), Some(8));
        writer.append(T0, &session_id(), &[line("two", 8), line("three", 14)]).unwrap();
        let (_, lines) = texts(folder.path()).pop().unwrap();
        let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(messages, ["one", "two", "three"]);
    }

    #[test]
    fn days_and_sizes_begin_new_files() {
        let folder = tempfile::tempdir().unwrap();
        let storage_id = storage_id();
        let mut writer = Writer::new(folder.path().to_owned(), &storage_id, 300);
        for (at, end) in [(T0, 1), (T0, 2), (T0, 3), (T0 + DAY, 4)] {
            writer.append(at, &session_id(), &[line(&"x".repeat(60), end)]).unwrap();
        }
        let files: Vec<_> =
            texts(folder.path()).into_iter().map(|(name, lines)| (name, lines.len())).collect();
        let expect = [("2026/01/02 0", 1), ("2026/01/02 1", 1), ("2026/01/02 2", 1), ("2026/01/03 0", 1)];
        assert_eq!(files, expect.map(|(name, count)| (name.to_owned(), count)));
        let mut again = Writer::new(folder.path().to_owned(), &storage_id, 300);
        again.open().unwrap();
        assert_eq!(again.offset(), Some(4));
        fs::remove_dir_all(folder.path().join("2026/01/03")).unwrap();
        again.append(T0 + DAY, &session_id(), &[line("y", 5)]).unwrap();
        assert_eq!(texts(folder.path()).last().unwrap().1.len(), 1, "a removed file is made again");
    }

    #[test]
    fn names_of_files() {
        assert_eq!(parse_name("[runtime-logs]abc.jsonl"), Some(("abc", 0)));
        assert_eq!(parse_name("[runtime-logs]abc.0012.jsonl"), Some(("abc", 12)));
        for other in ["abc.jsonl", "[runtime-logs]abc", "[runtime-logs]abc.x.jsonl", "otel-rt-logs"] {
            assert_eq!(parse_name(other), None, "{other}");
        }
    }
}

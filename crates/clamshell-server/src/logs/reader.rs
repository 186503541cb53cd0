//! Reads the lines of a runtime's endpoint in the order of their times, across sessions, and those that come.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use clamshell_domain::{EndpointName, RuntimeId, SessionId};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{LINE_BYTES_MAX, Logs, writer::files_of};
use crate::time::rfc3339;

/// Lines are gathered into pieces of about so many bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Files merged at once; sessions of one day beyond that are told after the others.
const FILES_MAX: usize = 256;

/// Longest line looked at: no writer writes longer ones.
const LINE_MAX: u64 = 6 * LINE_BYTES_MAX as u64 + 4096;

/// Changes are gathered for so long before they are looked at.
const GATHER: Duration = Duration::from_millis(50);

/// Which lines.
#[derive(Debug, Clone)]
pub(crate) struct LogFilter {
    pub(crate) runtime_id: RuntimeId,
    pub(crate) endpoint: EndpointName,
    /// Of this session; `None`: of all.
    pub(crate) session_id: Option<SessionId>,
    /// Not older than this, milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// Goes on with what comes.
    pub(crate) follow: bool,
}

/// See the head of this file.
pub(crate) struct LogReader {
    logs: Arc<Logs>,
    filter: LogFilter,
}

/// What decides about a line.
#[derive(Deserialize)]
struct Told<'a> {
    timestamp: &'a str,
    #[serde(rename = "sessionId")]
    session_id: &'a str,
}

/// Up to where files were read.
type Positions = HashMap<PathBuf, u64>;

impl LogReader {
    pub(super) fn new(logs: Arc<Logs>, filter: LogFilter) -> Self {
        Self { logs, filter }
    }

    /// Sends whole lines until there are no more, the receiver is gone, or `shutdown` when following.
    pub(crate) async fn send_to(self, sender: mpsc::Sender<Bytes>, shutdown: CancellationToken) {
        let mut changed = self.logs.changed.subscribe();
        let group = self.logs.group(&self.filter.runtime_id, &self.filter.endpoint);
        let mut positions = Positions::new();
        loop {
            changed.borrow_and_update();
            let (group, filter, to) = (group.clone(), self.filter.clone(), sender.clone());
            let read = tokio::task::spawn_blocking(move || {
                read_on(&group, &filter, &mut positions, &mut |piece| to.blocking_send(piece).is_ok());
                positions
            });
            positions = match read.await {
                Ok(positions) => positions,
                Err(_) => return,
            };
            if !self.filter.follow {
                return;
            }
            tokio::select! {
                changed = changed.changed() => if changed.is_err() {
                    return;
                },
                () = sender.closed() => return,
                () = shutdown.cancelled() => return,
            }
            tokio::time::sleep(GATHER).await;
        }
    }
}

/// A file, with the next line of it.
struct Next {
    timestamp: String,
    line: Vec<u8>,
    at: usize,
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Next {}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (&self.timestamp, self.at).cmp(&(&other.timestamp, other.at))
    }
}

/// Reads what came behind `positions`. Stops early when `send` takes no more.
fn read_on(group: &Path, filter: &LogFilter, positions: &mut Positions, send: &mut dyn FnMut(Bytes) -> bool) {
    let since = rfc3339(filter.since_ms);
    let first_day = since.get(..10).unwrap_or_default().replace('-', "/");
    let files = files_of(group, None);
    let mut days: Vec<(String, Vec<PathBuf>)> = Vec::new();
    for (day, _, path) in files {
        if day < first_day {
            continue;
        }
        match days.last_mut() {
            Some((last, paths)) if *last == day && paths.len() < FILES_MAX => paths.push(path),
            _ => days.push((day, vec![path])),
        }
    }
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    for (_, paths) in days {
        let mut open: Vec<OpenFile> = paths
            .into_iter()
            .filter_map(|path| {
                let at = positions.get(&path).copied().unwrap_or(0);
                OpenFile::open(path, at).ok().flatten()
            })
            .collect();
        let mut heap = BinaryHeap::new();
        for (at, file) in open.iter_mut().enumerate() {
            heap.extend(file.next(filter, &since, at).map(Reverse));
        }
        while let Some(Reverse(next)) = heap.pop() {
            piece.extend_from_slice(&next.line);
            if let Some(file) = open.get_mut(next.at) {
                heap.extend(file.next(filter, &since, next.at).map(Reverse));
            }
            if piece.len() >= PIECE_BYTES && !send(std::mem::take(&mut piece).into()) {
                return;
            }
        }
        positions.extend(open.into_iter().map(|file| (file.path, file.position)));
    }
    if !piece.is_empty() {
        send(piece.into());
    }
}

struct OpenFile {
    path: PathBuf,
    reader: BufReader<File>,
    position: u64,
}

impl OpenFile {
    /// `None` when there is nothing new in it.
    fn open(path: PathBuf, position: u64) -> io::Result<Option<Self>> {
        let mut file = File::open(&path)?;
        if file.metadata()?.len() <= position {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(position))?;
        Ok(Some(Self { path, reader: BufReader::new(file), position }))
    }

    /// The next whole line that is wanted.
    fn next(&mut self, filter: &LogFilter, since: &str, at: usize) -> Option<Next> {
        loop {
            let mut line = Vec::new();
            let read = (&mut self.reader).take(LINE_MAX).read_until(b'\n', &mut line).ok()?;
            if line.last() != Some(&b'\n') {
                return None;
            }
            self.position += read as u64;
            let Ok(told) = serde_json::from_slice::<Told<'_>>(&line) else { continue };
            let is_of_session = |id: &SessionId| id.as_str() == told.session_id;
            if told.timestamp < since || !filter.session_id.as_ref().is_none_or(is_of_session) {
                continue;
            }
            let timestamp = told.timestamp.to_owned();
            return Some(Next { timestamp, line, at });
        }
    }
}

#[cfg(test)]
mod tests {
    use clamshell_domain::{SessionKey, StorageId, SystemClock, SystemEntropy};
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::logs::{Line, LogPolicy, Source};

    fn key(session: u32) -> SessionKey {
        SessionKey {
            runtime_id: RuntimeId::parse("weather-0123456789").unwrap(),
            endpoint: EndpointName::parse("DEFAULT").unwrap(),
            session_id: SessionId::parse(format!("a-session-that-writes-a-log-{session:09}")).unwrap(),
        }
    }

    fn filter() -> LogFilter {
        let SessionKey { runtime_id, endpoint, .. } = key(0);
        LogFilter { runtime_id, endpoint, session_id: None, since_ms: 0, follow: false }
    }

    fn line(message: &str, end_offset: u64) -> Vec<Line> {
        vec![Line { source: Source::Agent, message: message.to_owned(), end_offset: Some(end_offset) }]
    }

    fn messages(piece: &[u8]) -> Vec<String> {
        let lines = piece.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let message = |line: &[u8]| {
            serde_json::from_slice::<serde_json::Value>(line).unwrap()["message"].as_str().unwrap().to_owned()
        };
        lines.map(message).collect()
    }

    async fn read(logs: &Arc<Logs>, filter: LogFilter) -> Vec<String> {
        let (sender, mut receiver) = mpsc::channel(16);
        logs.read(filter).send_to(sender, CancellationToken::new()).await;
        let mut all = Vec::new();
        while let Some(piece) = receiver.recv().await {
            all.extend(messages(&piece));
        }
        all
    }

    /// A clock that goes on by a second each time.
    struct Ticks(std::sync::atomic::AtomicU64);

    impl clamshell_domain::Clock for Ticks {
        fn now_ms(&self) -> u64 {
            self.0.fetch_add(1000, std::sync::atomic::Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn sessions_are_merged_by_time_and_can_be_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(Ticks(1_767_323_045_000.into()));
        let logs = Logs::new(folder.path(), LogPolicy::default(), clock, TaskTracker::new());
        let one = logs.of_session(&key(1), &StorageId::generate(&SystemEntropy));
        let two = logs.of_session(&key(2), &StorageId::generate(&SystemEntropy));
        one.append(line("a", 1)).await;
        two.append(line("b", 1)).await;
        one.append(line("c", 2)).await;
        assert_eq!(read(&logs, filter()).await, ["a", "b", "c"]);
        let of_two = LogFilter { session_id: Some(key(2).session_id), ..filter() };
        assert_eq!(read(&logs, of_two).await, ["b"]);
        let late = LogFilter { since_ms: 1_767_323_047_000, ..filter() };
        assert_eq!(read(&logs, late).await, ["c"]);
        let other = LogFilter { endpoint: EndpointName::parse("prod").unwrap(), ..filter() };
        assert!(read(&logs, other).await.is_empty());
    }

    #[tokio::test]
    async fn followers_are_told_what_comes() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::new(folder.path(), LogPolicy::default(), Arc::new(SystemClock), TaskTracker::new());
        let one = logs.of_session(&key(1), &StorageId::generate(&SystemEntropy));
        one.append(line("first", 1)).await;
        let (sender, mut receiver) = mpsc::channel(1);
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let reader = logs.read(LogFilter { follow: true, ..filter() });
        tasks.spawn(reader.send_to(sender, shutdown.clone()));
        assert_eq!(messages(&receiver.recv().await.unwrap()), ["first"]);
        let two = logs.of_session(&key(2), &StorageId::generate(&SystemEntropy));
        two.append(line("second", 1)).await;
        assert_eq!(messages(&receiver.recv().await.unwrap()), ["second"]);
        one.append(line("third", 2)).await;
        assert_eq!(messages(&receiver.recv().await.unwrap()), ["third"]);
        shutdown.cancel();
        assert_eq!(receiver.recv().await, None);
    }
}
